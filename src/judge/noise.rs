//! How much does the same thing differ from itself on one machine? Learnt from its past runs.

use std::collections::BTreeMap;

use super::stats;
use crate::results::rows::{Key, Row};
use crate::text::{clean, plural};

/// Changes of latency up to this share are noise while the history is too short to tell.
pub const DEFAULT_FLOOR: f64 = 0.02;
/// However steady a machine has been, changes up to this share are noise.
const SMALLEST_FLOOR: f64 = 0.01;
/// Steps between successive runs from which the noise is learnt.
const STEPS: usize = 4;
/// The floor in standard deviations of the steps.
const SIGMAS: f64 = 2.5;

/// How far the latency of the same thing differs from run to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Floor {
    /// Share of the latency.
    pub share: f64,
    /// Where it comes from.
    pub from: String,
}

/// How much the median latency of one thing differs from run to run: 2.5 standard deviations of the steps between
/// successive valid runs, the deviation taken from their median so that one real change does not count as noise.
pub fn noise(rows: &[Row], key: &Key) -> Floor {
    let series: Vec<f64> = rows
        .iter()
        .filter(|r| r.key == *key && r.verdict == "valid")
        .filter_map(|r| r.p50_ms)
        .filter(|v| *v > 0.0)
        .collect();
    let steps: Vec<f64> = series.windows(2).map(|w| (w[1] / w[0]).ln().abs()).collect();
    match stats::median(&steps).filter(|_| steps.len() >= STEPS) {
        Some(middle) => Floor {
            share: (SIGMAS * 1.4826 * middle).max(SMALLEST_FLOOR),
            from: format!("learnt from {} runs", series.len()),
        },
        None => Floor {
            share: DEFAULT_FLOOR,
            from: format!("by default: {} of it so far", plural(series.len(), "run", "runs")),
        },
    }
}

/// Runs of one cell on one board, oldest first, whatever pack or runtime they used.
pub struct Series<'a> {
    /// Board and cell, in words.
    pub name: String,
    /// Its runs.
    pub rows: Vec<&'a Row>,
    /// How far the latency of the newest thing differs from run to run.
    pub floor: Floor,
}

/// Series in order of their names.
pub fn series(rows: &[Row]) -> Vec<Series<'_>> {
    let mut groups: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        let (board, digest) = &row.key.board;
        let name =
            clean(&format!("{} on {board} {}", row.key.cell.join(" "), digest.chars().take(6).collect::<String>()));
        groups.entry(name).or_default().push(row);
    }
    groups
        .into_iter()
        .filter_map(|(name, of)| {
            let floor = noise(rows, &of.last()?.key);
            Some(Series { name, rows: of, floor })
        })
        .collect()
}
