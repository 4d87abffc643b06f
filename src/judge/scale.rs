//! What does one more object cost? Runs that differ in the number of objects alone, side by side.

use crate::judge::stats::median;
use crate::results::record::{CellRecord, RunRecord};
use crate::telemetry::key::MemoryPhase;

/// A cell with some number of objects.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ScalePoint {
    /// Its name: model, precision, device.
    pub cell: String,
    /// Objects tracked at once.
    pub objects: usize,
    /// `valid`, `invalid` or `failed`.
    pub verdict: &'static str,
    /// Why it is not valid; empty where it is.
    pub reasons: String,
    /// Frames on which so many were tracked; the figures of time are theirs.
    pub frames: usize,
    /// Frames per second without decoding: 1,000 over the mean latency.
    pub fps_model: Option<f64>,
    /// Median latency, milliseconds.
    pub p50_ms: Option<f64>,
    /// Peak of what the system's available memory fell by, MiB.
    pub peak_system_mib: Option<f64>,
    /// Peak of the worker's resident set, MiB.
    pub peak_rss_mib: Option<f64>,
    /// The run it is from.
    pub run_id: String,
}

/// The cells of a run that tracked `objects` per video.
pub fn points(run: &RunRecord, objects: usize) -> Vec<ScalePoint> {
    run.cells.iter().map(|cell| point(run, cell, objects)).collect()
}

fn point(run: &RunRecord, cell: &CellRecord, objects: usize) -> ScalePoint {
    let with_all = cell.frames().filter(|frame| frame.objects as usize == objects);
    let latencies: Vec<f64> = with_all.map(|frame| frame.latency_ms).collect();
    let peak = cell.memory.get(&MemoryPhase::Peak);
    ScalePoint {
        cell: cell.label(),
        objects,
        verdict: cell.verdict.as_str(),
        reasons: cell.verdict.reasons(),
        frames: latencies.len(),
        fps_model: (!latencies.is_empty()).then(|| 1000.0 * latencies.len() as f64 / latencies.iter().sum::<f64>()),
        p50_ms: median(&latencies),
        peak_system_mib: peak.and_then(|p| p.system_mib),
        peak_rss_mib: peak.and_then(|p| p.rss_mib),
        run_id: run.run_id.clone(),
    }
}

/// The points by cell, in the order of the cells, each in the order of its objects.
pub fn by_cell(points: &[ScalePoint]) -> Vec<Vec<&ScalePoint>> {
    let mut cells: Vec<Vec<&ScalePoint>> = Vec::new();
    for point in points {
        match cells.iter_mut().find(|of| of[0].cell == point.cell) {
            Some(of) => of.push(point),
            None => cells.push(vec![point]),
        }
    }
    cells.iter_mut().for_each(|of| of.sort_by_key(|p| p.objects));
    cells
}

/// How many times the latency and the memory of the fewest objects the most take; `None` unless both were measured and are
/// valid.
pub fn growth(cell: &[&ScalePoint]) -> Option<(f64, Option<f64>)> {
    let (few, many) = (cell.first()?, cell.last().filter(|_| cell.len() > 1)?);
    if few.verdict != "valid" || many.verdict != "valid" {
        return None;
    }
    let times = |a: Option<f64>, b: Option<f64>| a.zip(b).filter(|(a, _)| *a > 0.0).map(|(a, b)| b / a);
    Some((times(few.p50_ms, many.p50_ms)?, times(few.peak_rss_mib, many.peak_rss_mib)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(objects: usize, verdict: &'static str, p50: f64, rss: f64) -> ScalePoint {
        ScalePoint {
            cell: "m fp32 cpu".into(),
            objects,
            verdict,
            reasons: String::new(),
            frames: 60,
            fps_model: Some(1000.0 / p50),
            p50_ms: Some(p50),
            peak_system_mib: None,
            peak_rss_mib: Some(rss),
            run_id: "r".into(),
        }
    }

    #[test]
    fn growth_is_from_the_fewest_to_the_most_and_of_valid_points_only() {
        let points = [at(8, "valid", 40.0, 150.0), at(1, "valid", 10.0, 100.0), at(2, "invalid", 13.0, 110.0)];
        let cells = by_cell(&points);
        assert_eq!(cells[0].iter().map(|p| p.objects).collect::<Vec<_>>(), [1, 2, 8]);
        assert_eq!(growth(&cells[0]), Some((4.0, Some(1.5))));
        assert_eq!(growth(&cells[0][..2]), None, "two objects are not valid");
        assert_eq!(growth(&cells[0][..1]), None, "one point does not grow");
    }
}
