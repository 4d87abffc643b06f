//! Records of earlier schemas, brought to today's before they are read as types.

use serde_json::{Value, json};

/// Schema 1 to 2: notes and reasons were sentences without a kind, and a repeat had the word of its verdict with the reasons
/// beside it.
pub fn from_schema_1(record: &mut Value) {
    for cell in record["cells"].as_array_mut().into_iter().flatten() {
        verdict(&mut cell["verdict"]);
        for note in cell["notes"].as_array_mut().into_iter().flatten() {
            *note = json!({"kind": "unknown", "severity": "info", "text": note.take()});
        }
        for repeat in cell.get_mut("repeats").and_then(Value::as_array_mut).into_iter().flatten() {
            let reasons = repeat["reasons"].take();
            let verdict = &mut repeat["verdict"];
            *verdict = match verdict.as_str() {
                Some("valid") => json!({"kind": "valid"}),
                Some("invalid") => json!({"kind": "invalid", "reasons": [reason(reasons)]}),
                Some("failed") => {
                    let said = reasons.as_str().unwrap_or_default();
                    let (phase, error) = said.split_once(": ").unwrap_or(("unknown", said));
                    json!({"kind": "failed", "error": error, "phase": phase})
                }
                _ => verdict.take(),
            };
        }
    }
}

fn verdict(verdict: &mut Value) {
    for one in verdict.get_mut("reasons").and_then(Value::as_array_mut).into_iter().flatten() {
        *one = reason(one.take());
    }
}

fn reason(text: Value) -> Value {
    json!({"kind": "unknown", "text": text})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::record::{CellRecord, RepeatRecord, Verdict};

    #[test]
    fn what_schema_1_said_is_kept() {
        let repeats = [("valid", ""), ("invalid", "throttled: oc1; too short"), ("failed", "load: no memory")];
        let repeats = repeats.map(|(verdict, reasons)| json!({"repeat": 1, "verdict": verdict, "reasons": reasons}));
        let mut record = json!({"cells": [{
            "verdict": {"kind": "invalid", "reasons": ["throttled: oc1"]},
            "notes": ["hottest sensor: 61.0 °C"],
            "repeats": repeats,
        }]});
        from_schema_1(&mut record);
        let cell = &record["cells"][0];
        let verdict: Verdict = serde_json::from_value(cell["verdict"].clone()).unwrap();
        assert_eq!((verdict.as_str(), verdict.reasons().as_str()), ("invalid", "throttled: oc1"));
        let repeats: Vec<RepeatRecord> = serde_json::from_value(cell["repeats"].clone()).unwrap();
        let said: Vec<_> = repeats.iter().map(|r| (r.verdict.as_str(), r.verdict.reasons())).collect();
        assert_eq!(
            said,
            [
                ("valid", String::new()),
                ("invalid", "throttled: oc1; too short".into()),
                ("failed", "load: no memory".into())
            ]
        );
        let blank = serde_json::to_value(CellRecord::default()).unwrap();
        let notes = blank.as_object().unwrap().keys().any(|key| key == "notes");
        assert!(notes && cell["notes"][0]["text"] == "hottest sensor: 61.0 °C");
    }
}
