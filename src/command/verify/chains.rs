//! `jetbench verify` of a video segmenter whose tracks come and go: tracks, logits and masks, frame by frame.

use std::path::Path;

use jetbench_runners::chains::{self, ChainReport};
use jetbench_runners::golden::shown;
use jetbench_runners::types::OpenRequest;
use serde_json::{Value, json};

use super::{heading, most, verdict};
use crate::cli::VerifyArgs;
use crate::exit::{Error, NOT_VALID, OK, Outcome};
use crate::report::screen::{Mark, stdout_colours};

pub(super) fn against_reference(args: &VerifyArgs, request: &OpenRequest) -> Result<Outcome, Error> {
    let report = chains::verify_first(request, most(args))?;
    Ok(outcome(args, &report, &json!({"reference": "golden outputs of the pack"})))
}

/// What is printed of a comparison; `there`: the other side.
pub(super) fn outcome(args: &VerifyArgs, report: &ChainReport, there: &Value) -> Outcome {
    let code = if report.passes() { OK } else { NOT_VALID };
    if !args.json {
        return Outcome { stdout: text(report, &args.pack, there), code };
    }
    let line = json!({"schema": 1, "pass": report.passes(), "verdict": report.verdict, "frames": report.frames,
        "entries": report.entries, "events": report.events, "kept": report.kept, "missing": report.missing,
        "a": {"pack": report.pack, "dtype": report.precision, "device": report.device, "onnxruntime": report.runtime},
        "b": there, "tolerance": report.tolerance, "failures": report.failures});
    Outcome { stdout: format!("{line}\n"), code }
}

/// Numbers in rising order, those that follow each other as a span.
fn spans(tracks: &[u32]) -> String {
    let spans = tracks.chunk_by(|a, b| b.checked_sub(*a) == Some(1)).map(|span| match span {
        [one] => one.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    });
    let spans: Vec<String> = spans.collect();
    if spans.is_empty() { "none".to_string() } else { spans.join(" ") }
}

fn text(report: &ChainReport, pack: &Path, there: &Value) -> String {
    let colours = stdout_colours();
    let mut text = heading(&report.pack, pack, report.precision, &report.device, &report.runtime);
    if there.get("reference").is_none() {
        text.push_str(&format!("against: {there}\n"));
    }
    for frame in &report.frames {
        let [ours, theirs] = &frame.tracks;
        // Rows of other tracks say nothing of each other.
        let value = |value| if ours == theirs { shown(value) } else { "not compared".to_string() };
        text.push_str(&format!(
            "{}  {}  logits {}  masks {}  tracks {}; {} flags differ, IoU {}, {} pixels differ\n",
            Mark::of(frame.pass).word(colours),
            frame.file,
            value(frame.logits[0]),
            value(frame.masks[0]),
            if ours == theirs { spans(ours) } else { format!("{} here, {} there", spans(ours), spans(theirs)) },
            frame.flags,
            frame.iou.map_or("-".to_string(), |iou| format!("{iou:.5}")),
            frame.pixels
        ));
    }
    let ([entries, apart], [births, deaths], [kept, wrong]) = (report.entries, report.events, report.kept);
    text.push_str(&format!(
        "compared: {} frames, {entries} entries of tracks ({apart} apart), {births} births after the first frame, {deaths} deaths, {kept} \
         tracks kept at the end ({wrong} apart)\n",
        report.frames.len()
    ));
    text.push_str(&format!("allowed: {}\n", report.tolerance.words()));
    text + &verdict(report.verdict, &report.failures, &report.missing)
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_in_a_row_are_a_span() {
        let spans = [&[][..], &[7], &[0, 1, 3, 5, 6, 7]].map(super::spans);
        assert_eq!(spans, ["none", "7", "0-1 3 5-7"]);
    }
}
