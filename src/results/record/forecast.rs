//! What was said of a run beforehand, and what it took: estimates and measurements, each under its own name.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::text::plural;

/// A figure that was not measured: by the middle, the least and the most of what earlier runs took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// By the run with the least.
    pub low: f64,
    /// By their median.
    pub middle: f64,
    /// By the run with the most.
    pub high: f64,
}

impl Estimate {
    /// So many times as much.
    pub(crate) fn times(self, n: f64) -> Estimate {
        Estimate { low: self.low * n, middle: self.middle * n, high: self.high * n }
    }

    /// Both together.
    pub(crate) fn and(self, other: Estimate) -> Estimate {
        let (low, middle) = (self.low + other.low, self.middle + other.middle);
        Estimate { low, middle, high: self.high + other.high }
    }

    /// `12 min (11 to 14 min)`.
    pub(crate) fn words(self, show: impl Fn(f64) -> String) -> String {
        let [low, middle, high] = [self.low, self.middle, self.high].map(show);
        if low == high { middle } else { format!("{middle} ({low} to {high})") }
    }
}

/// What one cell will take, all its repeats together. What is not known is `None`, and `unknown` says why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CellForecast {
    /// Model tag, precision and device.
    pub cell: String,
    /// Ids of the earlier runs that it is from, newest first.
    pub runs: Vec<String>,
    /// Loading, tracking, scoring and writing, seconds.
    pub seconds: Option<Estimate>,
    /// What stays on disk, MiB.
    pub disk_mib: Option<Estimate>,
    /// Peak memory, MiB: the worker's resident set on a CPU, the system's elsewhere.
    pub memory_mib: Option<Estimate>,
    /// The same computed from the graphs, where no run tells; on a CPU only.
    pub memory_from_graphs_mib: Option<f64>,
    /// What is not known, and why.
    pub unknown: Vec<String>,
}

/// What a job will take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Its cells, in order.
    pub cells: Vec<CellForecast>,
    /// All of them; `None`: of a cell it is not known.
    pub seconds: Option<Estimate>,
    /// All of them; `None`: of a cell it is not known.
    pub disk_mib: Option<Estimate>,
    /// What does not fit this machine, each with a remedy.
    pub misfits: Vec<String>,
}

/// What a run took, measured; what is not known is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Taken {
    /// From begin to end, seconds.
    pub seconds: Option<f64>,
    /// What stays of it on disk, MiB.
    pub disk_mib: Option<f64>,
    /// Peak memory of each cell, MiB, of the kind that was estimated.
    pub memory_mib: Vec<Option<f64>>,
}

/// A forecast that was made before a run, and what the run then took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ForecastRecord {
    /// The estimates.
    pub estimated: Forecast,
    /// The measurements; `None`: it was interrupted, so they are of something else.
    #[serde(default)]
    pub taken: Option<Taken>,
}

impl ForecastRecord {
    /// How wrong it was: a line per figure that was both estimated and measured.
    pub fn errors(&self) -> Vec<String> {
        let Some(taken) = &self.taken else { return Vec::new() };
        let line = |what: &str, estimate: Option<Estimate>, found: Option<f64>, show: fn(f64) -> String| {
            let (estimate, found) = estimate.zip(found).filter(|(estimate, _)| estimate.middle > 0.0)?;
            let off = 100.0 * (found / estimate.middle - 1.0);
            let words = estimate.words(show);
            Some(format!("{what}: {words} estimated, {} measured ({off:+.0} %)", show(found)))
        };
        let all = [
            line("time", self.estimated.seconds, taken.seconds, span),
            line("disk", self.estimated.disk_mib, taken.disk_mib, mib),
        ];
        let memory = self.estimated.cells.iter().zip(&taken.memory_mib).filter_map(|(cell, found)| {
            let graphs = cell.memory_from_graphs_mib.map(|m| Estimate { low: m, middle: m, high: m });
            line(&format!("peak memory of {}", cell.cell), cell.memory_mib.or(graphs), *found, mib)
        });
        all.into_iter().flatten().chain(memory).collect()
    }
}

impl Forecast {
    /// All cells in one line; `None`: of one of them it is not known.
    pub fn total(&self) -> Option<String> {
        let (seconds, disk) = self.seconds.zip(self.disk_mib)?;
        Some(format!("estimated from earlier runs: {}; disk {}", seconds.words(span), disk.words(mib)))
    }

    /// For the screen, a line per cell.
    pub fn words(&self) -> String {
        let mut text = String::from("forecast (estimates from earlier runs, not measured):\n");
        for cell in &self.cells {
            let mut parts: Vec<String> = cell.seconds.iter().map(|e| e.words(span)).collect();
            parts.extend(cell.disk_mib.map(|e| format!("disk {}", e.words(mib))));
            parts.extend(cell.memory_mib.map(|e| format!("peak memory {}", e.words(mib))));
            parts.extend(cell.memory_from_graphs_mib.map(|m| format!("peak memory about {}, from the graphs", mib(m))));
            if let Some(newest) = cell.runs.first() {
                parts.push(format!("from {}, the newest {newest}", plural(cell.runs.len(), "run", "runs")));
            }
            parts.extend(cell.unknown.iter().map(|why| format!("not known: {why}")));
            let _ = writeln!(text, "  {}: {}", cell.cell, parts.join("; "));
        }
        if let Some(total) = self.total().filter(|_| self.cells.len() > 1) {
            let _ = writeln!(text, "  all cells: {total}");
        }
        for misfit in &self.misfits {
            let _ = writeln!(text, "does not fit: {misfit}");
        }
        text
    }
}

/// In words.
pub(crate) fn mib(mib: f64) -> String {
    format!("{mib:.1} MiB")
}

/// `35 s`, `12.5 min`, `3.4 h`.
fn span(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forecast_says_how_wrong_it_was_and_nothing_of_what_it_did_not_say() {
        let seconds = Some(Estimate { low: 8.0, middle: 10.0, high: 13.0 });
        let cell = CellForecast { cell: "m fp32 cpu".into(), memory_from_graphs_mib: Some(50.0), ..Default::default() };
        let estimated = Forecast { cells: vec![cell], seconds, ..Forecast::default() };
        let taken = Taken { seconds: Some(12.0), disk_mib: Some(3.0), memory_mib: vec![Some(45.0)] };
        let mut record = ForecastRecord { estimated, taken: Some(taken) };
        assert_eq!(
            record.errors(),
            [
                "time: 10.0 s (8.0 s to 13.0 s) estimated, 12.0 s measured (+20 %)",
                "peak memory of m fp32 cpu: 50.0 MiB estimated, 45.0 MiB measured (-10 %)"
            ]
        );
        record.taken = None;
        assert_eq!(record.errors(), [""; 0]);
    }
}
