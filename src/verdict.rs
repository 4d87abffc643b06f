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
