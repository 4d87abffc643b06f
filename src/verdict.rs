//! May the figures of a cell be used? The rules, each with a sentence that says what was seen. A cell that breaks one is
//! `Invalid`: its figures stay in the record, marked as unfit. What cannot be sensed here is not judged.

use std::collections::BTreeMap;

use crate::plan::PrecisionPolicy;
use crate::record::{CellRecord, Verdict};

/// What the machine said before and after the worker ran.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    /// Largest `VmSwap` of the worker, MiB.
    pub worker_swap_mib: Option<f64>,
    /// Power mode before and after, where there is one.
    pub power_mode: Option<(String, String)>,
    /// Rise of the over-current counters.
    pub over_current: BTreeMap<String, u64>,
}

/// What the rules need beside the record.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Fewer timed frames make a cell invalid.
    pub min_frames: usize,
    /// What another precision than the requested one does.
    pub precision: PrecisionPolicy,
}

/// Verdict on a cell whose worker went through.
pub fn judge(cell: &CellRecord, conditions: &Conditions, non_finite: &[String], rules: Rules) -> Verdict {
    let mut reasons = Vec::new();
    if let Some(warmup) = &cell.warmup {
        reasons.extend(warmup.faults.iter().map(|fault| format!("warm-up: {fault}")));
    }
    if let Some(first) = non_finite.first() {
        let more = non_finite.len() - 1;
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        reasons.push(format!("non-finite output: {first}{rest}"));
    }
    if rules.precision == PrecisionPolicy::Strict {
        for stage in cell.precision.iter().filter(|s| s.effective != s.requested.as_str()) {
            reasons.push(format!(
                "precision: {} was asked to compute in {} and computed in {}",
                stage.graph, stage.requested, stage.effective
            ));
        }
    }
    let frames: usize = cell.sequences.iter().map(|s| s.frames.len()).sum();
    let stopped_in_warm_up = frames == 0 && !reasons.is_empty();
    if frames < rules.min_frames && !stopped_in_warm_up {
        reasons.push(format!("too few frames: {frames} were timed, {} are needed (--min-frames)", rules.min_frames));
    }
    if let Some(swapped) = conditions.worker_swap_mib.filter(|mib| *mib > 0.0) {
        reasons.push(format!("memory: up to {swapped:.1} MiB of the worker were swapped out"));
    }
    if let Some((before, after)) = conditions.power_mode.as_ref().filter(|(before, after)| before != after) {
        reasons.push(format!("power mode changed during the run: {before} before, {after} after"));
    }
    // The third counter (instantaneous) climbs on healthy boards; the first two mean that clocks were cut.
    for (counter, what) in [("oc1", "under-voltage"), ("oc2", "average over-current")] {
        if let Some(count) = conditions.over_current.get(counter).filter(|n| **n > 0) {
            reasons.push(format!("throttled: {count} {what} events ({counter}) during the run"));
        }
    }
    if reasons.is_empty() { Verdict::Valid } else { Verdict::Invalid { reasons } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jetbench_runners::types::{Precision, PromptKind, StagePrecision};

    use crate::record::{FrameRecord, SequenceRecord, WarmupRecord};

    fn cell(frames: u32) -> CellRecord {
        let frame = |frame| FrameRecord { frame, objects: 1, decode_ms: 1.0, latency_ms: 2.0, ..Default::default() };
        CellRecord {
            model: "a_mask".into(),
            pack: "a".into(),
            prompt: PromptKind::Mask,
            device: "cpu".into(),
            verdict: Verdict::Valid,
            precision: vec![StagePrecision {
                graph: "image_encoder".into(),
                requested: Precision::Bf16,
                effective: "fp32".into(),
                evidence: Vec::new(),
            }],
            warmup: Some(WarmupRecord { frame_ok: true, ..Default::default() }),
            sequences: vec![SequenceRecord {
                video: "v".into(),
                width: 8,
                height: 8,
                wall_ms: 1.0,
                frames: (0..frames).map(frame).collect(),
                ..Default::default()
            }],
            ..CellRecord::default()
        }
    }

    const RULES: Rules = Rules { min_frames: 20, precision: PrecisionPolicy::Report };

    fn reasons(cell: &CellRecord, conditions: &Conditions, non_finite: &[String], rules: Rules) -> String {
        judge(cell, conditions, non_finite, rules).reasons()
    }

    #[test]
    fn a_sound_cell_is_valid() {
        let same_mode = Conditions { power_mode: Some(("25W (1)".into(), "25W (1)".into())), ..Default::default() };
        assert_eq!(judge(&cell(20), &same_mode, &[], RULES), Verdict::Valid);
        let no_swap = Conditions { worker_swap_mib: Some(0.0), ..Default::default() };
        assert_eq!(judge(&cell(20), &no_swap, &[], RULES), Verdict::Valid);
        // Instantaneous events climb on healthy boards.
        let oc3 = Conditions { over_current: BTreeMap::from([("oc3".into(), 9)]), ..Default::default() };
        assert_eq!(judge(&cell(20), &oc3, &[], RULES), Verdict::Valid);
    }

    #[test]
    fn each_rule_has_its_sentence() {
        let fine = Conditions::default();
        let mut said = vec![reasons(&cell(19), &fine, &[], RULES)];
        let strict = Rules { precision: PrecisionPolicy::Strict, ..RULES };
        said.push(reasons(&cell(20), &fine, &[], strict));
        said.push(reasons(&cell(20), &fine, &["video v, frame 3, object 0".into()], RULES));
        let mut faulty = cell(0);
        faulty.sequences.clear();
        faulty.warmup.as_mut().unwrap().faults = vec!["empty mask for object 0 (prompted frame)".into()];
        said.push(reasons(&faulty, &fine, &[], RULES));
        let bad = Conditions {
            worker_swap_mib: Some(12.5),
            power_mode: Some(("25W (1)".into(), "15W (0)".into())),
            over_current: BTreeMap::from([("oc1".into(), 2), ("oc2".into(), 0)]),
        };
        said.push(reasons(&cell(20), &bad, &[], RULES));
        insta::assert_snapshot!(said.join("\n"), @r"
        too few frames: 19 were timed, 20 are needed (--min-frames)
        precision: image_encoder was asked to compute in bf16 and computed in fp32
        non-finite output: video v, frame 3, object 0
        warm-up: empty mask for object 0 (prompted frame)
        memory: up to 12.5 MiB of the worker were swapped out; power mode changed during the run: 25W (1) before, 15W (0) after; throttled: 2 under-voltage events (oc1) during the run
        ");
    }
}
