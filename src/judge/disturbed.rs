//! What disturbed a measurement? Its figures may be used, but another run on a quiet machine may give others. The limits are in
//! [`limits`]; the notes of the same kinds say what was seen.

use crate::judge::course::{self, Steadiness};
use crate::judge::levels::{self, Stability};
use crate::judge::verdict::Conditions;
use crate::judge::{limits, stats, verdict};
use crate::results::disturbance::Disturbance;
use crate::results::note::NoteKind;
use crate::results::record::CellRecord;

/// Everything that disturbed a cell whose worker went through, each kind once, in order. `cell` has its notes.
pub fn disturbances(cell: &CellRecord, conditions: &Conditions) -> Vec<Disturbance> {
    let ratios = course::relative_latencies(cell);
    let shifted = levels::stability(&course::levels(cell)) != Stability::Level
        || course::steadiness(cell) == Steadiness::Restless;
    let seen = [
        (Disturbance::Rivals, verdict::rivals(conditions).is_some()),
        (Disturbance::Stalled, cell.sequences.iter().any(|s| !s.stalls.is_empty())),
        (Disturbance::Outliers, too_many_outliers(&course::unexplained(cell))),
        (Disturbance::Drift, drift(&ratios).is_some()),
        (Disturbance::Shifted, shifted),
        (Disturbance::Scattered, course::scattered(cell).is_some_and(|share| share > limits::SCATTER_SHARE)),
        (Disturbance::SlowStart, slow_start_share(&ratios) > limits::SLOW_START_SHARE),
        (Disturbance::LateFrames, cell.notes.iter().any(|n| n.kind == NoteKind::LateFrames)),
    ];
    seen.into_iter().filter(|(_, is)| *is).map(|(kind, _)| kind).collect()
}

/// Are more frames outliers than a scheduler explains, or do they take more time beyond their like than a mean bears?
pub fn too_many_outliers(ratios: &[f64]) -> bool {
    let Some(fence) = stats::outlier_fence(ratios) else { return false };
    let outliers = || ratios.iter().filter(|r| **r > fence);
    let beyond: f64 = outliers().map(|r| r - 1.0).sum();
    outliers().count() as f64 > limits::OUTLIER_SHARE * ratios.len() as f64
        || beyond > limits::OUTLIER_TIME * ratios.iter().sum::<f64>()
}

/// Change of the median from the first to the last quarter, where it is worth a word.
pub fn drift(ratios: &[f64]) -> Option<f64> {
    stats::drift(ratios).filter(|change| change.abs() > limits::DRIFT)
}

/// What the leading slow frames took beyond their like, as a share of the whole run's time.
fn slow_start_share(ratios: &[f64]) -> f64 {
    let beyond: f64 = ratios[..stats::slow_start(ratios)].iter().map(|ratio| ratio - 1.0).sum();
    beyond / ratios.iter().sum::<f64>().max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::note::Note;
    use crate::results::record::{FrameRecord, SequenceRecord, StallRecord};

    fn cell(latencies: impl IntoIterator<Item = f64>) -> CellRecord {
        let frames = latencies.into_iter().map(|latency_ms| FrameRecord { latency_ms, ..Default::default() });
        let sequences = vec![SequenceRecord { frames: frames.collect(), ..Default::default() }];
        CellRecord { sequences, ..CellRecord::default() }
    }

    fn of(cell: &CellRecord) -> Vec<Disturbance> {
        disturbances(cell, &Conditions::default())
    }

    #[test]
    fn each_rule_speaks_above_its_limit_and_is_silent_below() {
        use Disturbance::{Drift, LateFrames, Outliers, Rivals, SlowStart, Stalled};
        let quiet = |i: u32| 10.0 + f64::from(i % 7) / 50.0;
        let steady = cell((0..100).map(quiet));
        assert_eq!(of(&steady), []);
        let with_rivals = |cores| Conditions { rival_cores: Some(cores), ..Conditions::default() };
        assert_eq!(disturbances(&steady, &with_rivals(limits::RIVAL_CORES)), []);
        assert_eq!(disturbances(&steady, &with_rivals(0.3)), [Rivals]);
        let slow_frames =
            |n: u32| cell((0..100).map(move |i| quiet(i) * if i % 20 == 9 && i / 20 < n { 2.0 } else { 1.0 }));
        assert_eq!(of(&slow_frames(3)), []);
        assert_eq!(of(&slow_frames(4)), [Outliers]);
        let rising = |by: f64| cell((0..100).map(move |i| quiet(i) * (1.0 + by * f64::from(i) / 100.0)));
        assert_eq!(of(&rising(0.04)), []);
        assert_eq!(of(&rising(0.12)), [Drift]);
        let cold = |ratio: f64| cell((0..100).map(move |i| quiet(i) * if i == 0 { ratio } else { 1.0 }));
        assert_eq!(of(&cold(1.5)), [], "half a frame of a hundred");
        assert_eq!(of(&cold(3.0)), [SlowStart]);
        let mut stalled = steady.clone();
        stalled.sequences[0].stalls = vec![StallRecord { at_ms: 10.0, ms: 2000.0, waited_ms: 0.0 }];
        assert_eq!(of(&stalled), [Stalled]);
        let late = CellRecord { notes: vec![Note::new(NoteKind::LateFrames, "late")], ..steady };
        assert_eq!(of(&late), [LateFrames]);
    }
}
