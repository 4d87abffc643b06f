//! What does detection cost at each of its intervals, and what is lost between? Runs that differ in `detect_every` alone, side by side.

use jetbench_runners::types::Stage;

use crate::judge::stats::median;
use crate::results::record::{CellRecord, FrameRecord, RunRecord, Verdict};
use crate::telemetry::key::MemoryPhase;

/// A cell with some interval of its detector.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct IntervalPoint {
    /// Its name: model, precision, device.
    pub cell: String,
    /// The detector looks at every frame that is a multiple of this.
    pub detect_every: u32,
    /// `valid`, `invalid` or `failed`.
    pub verdict: &'static str,
    /// Why it is not valid; empty where it is.
    pub reasons: String,
    /// Tracked frames, of all repeats.
    pub frames: usize,
    /// Those at which the detector looked; `None`: the runner told no stages.
    pub detector_frames: Option<usize>,
    /// Frames per second without decoding: 1,000 over the mean latency; `None` where frames overlap.
    pub fps_model: Option<f64>,
    /// Mean latency, milliseconds.
    pub mean_ms: Option<f64>,
    /// Median latency, milliseconds.
    pub p50_ms: Option<f64>,
    /// Stages `detector` and `association` per frame, spread over all frames, milliseconds.
    pub detection_ms: Option<f64>,
    /// Mean latency of the frames at which the detector looked, births included, milliseconds.
    pub looked_ms: Option<f64>,
    /// Mean latency of the others, milliseconds.
    pub other_ms: Option<f64>,
    /// HOTA, 0 to 100; this and what follows `None` where there is no ground truth.
    pub hota: Option<f64>,
    /// J&F of the unsupervised task, 0 to 100.
    pub jf_unsup: Option<f64>,
    /// Class-agnostic AP, 0 to 100.
    pub ap: Option<f64>,
    /// Times an object's track changed.
    pub id_switches: Option<usize>,
    /// Confirmed tracks.
    pub tracks: Option<usize>,
    /// Those that cover no object.
    pub unmatched: Option<usize>,
    /// Peak of the worker's resident set, MiB.
    pub peak_rss_mib: Option<f64>,
    /// The run it is from.
    pub run_id: String,
    /// What `ap` is of: `whole` masks, or masks in which each pixel belongs to `one` track.
    pub ap_masks: Option<&'static str>,
}

/// The cells of a run whose detector looked at every `detect_every`-th frame.
pub fn points(run: &RunRecord, detect_every: u32) -> Vec<IntervalPoint> {
    run.cells.iter().map(|cell| point(run, cell, detect_every)).collect()
}

fn point(run: &RunRecord, cell: &CellRecord, detect_every: u32) -> IntervalPoint {
    // A cell that failed has no figures.
    let whole = !matches!(cell.verdict, Verdict::Failed { .. });
    let summary = cell.summary.as_ref().filter(|_| whole);
    let frames: Vec<&FrameRecord> = cell.frames().filter(|_| whole).collect();
    let latencies = |of: &[&FrameRecord]| of.iter().map(|frame| frame.latency_ms).collect::<Vec<_>>();
    let mean = |values: &[f64]| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    let detection = |frame: &FrameRecord| -> f64 {
        [Stage::Detector, Stage::Association].iter().filter_map(|stage| frame.stages_ms.get(stage.as_str())).sum()
    };
    let told = frames.iter().any(|frame| !frame.stages_ms.is_empty());
    let (looked, others): (Vec<&FrameRecord>, Vec<&FrameRecord>) =
        frames.iter().partition(|frame| frame.stages_ms.contains_key(Stage::Detector.as_str()));
    let all = latencies(&frames);
    let found = summary.and_then(|summary| summary.found.as_ref());
    let scores = found.and_then(|found| found.scores.as_ref());
    IntervalPoint {
        cell: cell.label(),
        detect_every,
        verdict: cell.verdict.as_str(),
        reasons: cell.verdict.reasons(),
        frames: frames.len(),
        detector_frames: told.then_some(looked.len()),
        fps_model: summary.and_then(|summary| summary.fps_model),
        mean_ms: mean(&all),
        p50_ms: median(&all),
        detection_ms: mean(&frames.iter().map(|frame| detection(frame)).collect::<Vec<_>>()).filter(|_| told),
        looked_ms: mean(&latencies(&looked)),
        other_ms: mean(&latencies(&others)).filter(|_| told),
        hota: scores.and_then(|s| s.hota),
        jf_unsup: scores.and_then(|s| s.jf),
        ap: scores.and_then(|s| s.ap),
        id_switches: scores.and_then(|s| s.id_switches),
        tracks: found.map(|found| found.confirmed),
        unmatched: found.and_then(|found| found.unmatched),
        peak_rss_mib: cell.memory.get(&MemoryPhase::Peak).filter(|_| whole).and_then(|peak| peak.rss_mib),
        run_id: run.run_id.clone(),
        ap_masks: scores.and_then(|s| s.ap_masks()),
    }
}

/// The points by cell, in the order of the cells, each in the order of its intervals.
pub fn by_cell(points: &[IntervalPoint]) -> Vec<Vec<&IntervalPoint>> {
    let mut cells: Vec<Vec<&IntervalPoint>> = Vec::new();
    for point in points {
        match cells.iter_mut().find(|of| of[0].cell == point.cell) {
            Some(of) => of.push(point),
            None => cells.push(vec![point]),
        }
    }
    cells.iter_mut().for_each(|of| of.sort_by_key(|p| p.detect_every));
    cells
}

/// What the longest interval of a cell gains in speed (a factor) and in HOTA (points) over the shortest; `None` unless both are
/// valid and their time was measured.
pub fn gain(cell: &[&IntervalPoint]) -> Option<(f64, Option<f64>)> {
    let (often, seldom) = (cell.first()?, cell.last().filter(|_| cell.len() > 1)?);
    if often.verdict != "valid" || seldom.verdict != "valid" {
        return None;
    }
    let speed = seldom.fps_model? / often.fps_model.filter(|fps| *fps > 0.0)?;
    Some((speed, often.hota.zip(seldom.hota).map(|(often, seldom)| seldom - often)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::summary::summarise;
    use crate::results::record::SequenceRecord;

    fn run(stages: &[&[(&str, f64)]]) -> RunRecord {
        let frame = |(i, stages): (usize, &&[(&str, f64)])| FrameRecord {
            frame: i as u32,
            latency_ms: if stages.iter().any(|s| s.0 == "detector") { 30.0 } else { 10.0 },
            stages_ms: stages.iter().map(|(name, ms)| (name.to_string(), *ms)).collect(),
            ..FrameRecord::default()
        };
        let frames = stages.iter().enumerate().map(frame).collect();
        let sequence = SequenceRecord { video: "v".into(), frames, ..SequenceRecord::default() };
        let mut cell = CellRecord { verdict: Verdict::Valid, sequences: vec![sequence], ..CellRecord::default() };
        cell.summary = summarise(&cell);
        RunRecord { cells: vec![cell], ..serde_json::from_value(minimal()).unwrap() }
    }

    fn minimal() -> serde_json::Value {
        serde_json::json!({"schema": 1, "run_id": "r", "started": "", "finished": null, "version": "", "argv": [], "settings": {},
            "data": {"root": "", "layout": "", "protocol": "", "videos": 1, "objects": 0, "frames": 4},
            "device": {"name": "", "digest": "", "facts": {}}, "cells": [], "stopped": null})
    }

    #[test]
    fn detection_is_spread_over_all_frames_and_frames_with_it_stand_apart() {
        let looks: &[(&str, f64)] = &[("image_encoder", 8.0), ("detector", 15.0), ("association", 1.0)];
        let tracks: &[(&str, f64)] = &[("image_encoder", 8.0)];
        let point = &points(&run(&[looks, tracks, tracks, tracks]), 4)[0];
        assert_eq!((point.detect_every, point.frames, point.detector_frames), (4, 4, Some(1)));
        assert_eq!((point.mean_ms, point.fps_model, point.p50_ms), (Some(15.0), Some(1000.0 / 15.0), Some(10.0)));
        assert_eq!((point.detection_ms, point.looked_ms, point.other_ms), (Some(4.0), Some(30.0), Some(10.0)));
        // Without stages nobody knows at which frames it looked.
        let point = &points(&run(&[&[], &[]]), 1)[0];
        assert_eq!(
            (point.detector_frames, point.detection_ms, point.looked_ms, point.other_ms),
            (None, None, None, None)
        );
        let every = &points(&run(&[looks, looks]), 1)[0];
        assert_eq!((every.looked_ms, every.other_ms), (Some(30.0), None));
        let mut failed = run(&[looks, looks]);
        failed.cells[0].verdict = Verdict::Failed { error: "killed".into(), phase: "track".into() };
        let point = &points(&failed, 1)[0];
        assert_eq!((point.frames, point.fps_model, point.mean_ms, point.detection_ms), (0, None, None, None));
        assert_eq!(point.reasons, "track: killed");
    }

    #[test]
    fn the_gain_is_from_the_shortest_to_the_longest_and_of_valid_points_only() {
        let base = points(&run(&[&[]]), 1).remove(0);
        let at = |detect_every, verdict, fps: f64, hota| IntervalPoint {
            detect_every,
            verdict,
            fps_model: Some(fps),
            hota,
            ..base.clone()
        };
        let points =
            [at(10, "valid", 30.0, Some(50.0)), at(1, "valid", 10.0, Some(62.0)), at(5, "invalid", 20.0, None)];
        let cells = by_cell(&points);
        assert_eq!(cells[0].iter().map(|p| p.detect_every).collect::<Vec<_>>(), [1, 5, 10]);
        assert_eq!(gain(&cells[0]), Some((3.0, Some(-12.0))));
        assert_eq!(gain(&cells[0][..2]), None, "the second is not valid");
        assert_eq!(gain(&cells[0][..1]), None);
    }
}
