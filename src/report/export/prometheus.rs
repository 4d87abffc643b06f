//! Prometheus's text format, for the textfile collector of node_exporter: how the last run of each cell ended, its figures and when
//! it was. <https://prometheus.io/docs/instrumenting/exposition_formats/>
//!
//! The collector refuses two series with the same labels, also from two files; so the labels name everything that tells two jobs on
//! one machine apart, and nothing that a run of the same job may change.

use std::fmt::Write as _;

use chrono::DateTime;
use jetbench_runners::digest::hex;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::figures::FIGURES;
use super::{Compared, model};
use crate::judge::outcome::INTERRUPTED;
use crate::plan::identity;
use crate::report::table::{dataset_name, dtype_short};
use crate::results::record::{CellRecord, RunRecord};
use crate::text::clean;

/// Words of a verdict that a cell has exactly one of.
const VERDICTS: [&str; 4] = ["valid", "invalid", "failed", INTERRUPTED];

/// The whole file. A figure that was not measured, or may not be quoted, has no series.
pub fn prometheus(run: &RunRecord, compared: Option<Compared>) -> String {
    let cells: Vec<(&CellRecord, String)> = run.cells.iter().map(|cell| (cell, labels(run, cell))).collect();
    let mut out = String::new();
    let mut metric = |name: &str, help: &str, value: &dyn Fn(&CellRecord) -> Vec<(String, f64)>| {
        let series: Vec<(String, f64)> = cells
            .iter()
            .flat_map(|(cell, own)| value(cell).into_iter().map(move |(more, v)| (format!("{own}{more}"), v)))
            .collect();
        if !series.is_empty() {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
            series.iter().for_each(|(labels, value)| _ = writeln!(out, "{name}{{{labels}}} {value}"));
        }
    };
    let one = |value: f64| vec![(String::new(), value)];
    metric("jetbench_verdict", "1 for the verdict that the cell got, 0 for the others.", &|cell| {
        // An interrupted cell is none that failed.
        let word = if cell.interrupted { INTERRUPTED } else { cell.verdict.as_str() };
        VERDICTS.map(|v| (label("verdict", v), f64::from(v == word))).to_vec()
    });
    metric("jetbench_disturbed", "1 where other programs, outliers, drift or the like disturbed the cell.", &|cell| {
        one(f64::from(!cell.disturbed.is_empty()))
    });
    for figure in &FIGURES {
        metric(figure.metric, figure.help, &|cell| {
            figure.of(cell).map_or_else(Vec::new, |(value, _)| one(value / figure.per_base))
        });
    }
    metric("jetbench_regressed", "1 where the cell is worse than the baseline, or could not be compared.", &|cell| {
        let change = compared.and_then(|c| Some((c.of(cell)?.fails(c.undecided), c.baseline)));
        change.map_or_else(Vec::new, |(fails, baseline)| vec![(label("baseline", baseline), f64::from(fails))])
    });
    let finished = run.finished.as_deref().and_then(|t| DateTime::parse_from_rfc3339(t).ok());
    metric("jetbench_finished_timestamp_seconds", "When the run ended, in seconds since 1970.", &|_| {
        finished.map_or_else(Vec::new, |t| one(t.timestamp() as f64))
    });
    metric("jetbench_run_info", "Which run these are of; always 1.", &|_| {
        let more = [("run_id", &run.run_id), ("version", &run.version), ("board", &run.device.name)];
        let more = more.map(|(name, value)| label(name, value)).concat();
        vec![(format!("{more}{}", label("board_digest", &run.device.digest)), 1.0)]
    });
    out
}

/// The labels of every series of a cell.
fn labels(run: &RunRecord, cell: &CellRecord) -> String {
    let of = [
        ("dtype", dtype_short(cell)),
        ("device", cell.device.clone()),
        ("dataset", dataset_name(run)),
        ("scenario", cell.scenario.to_string()),
        ("settings", settings(run)),
    ];
    let first = label("model", &model(run, cell));
    first.trim_start_matches(',').to_string() + &of.map(|(name, value)| label(name, &value)).concat()
}

/// A short digest of the videos, of how they are scored and of the settings that decide figures.
fn settings(run: &RunRecord) -> String {
    let of = json!([run.data.list_sha256, run.data.protocol, identity::deciding(&run.settings)]);
    hex(&Sha256::digest(of.to_string()))[..8].to_string()
}

/// A label behind others.
fn label(name: &str, value: &str) -> String {
    format!(",{name}=\"{}\"", clean(value).replace('\\', r"\\").replace('"', "\\\""))
}
