//! Bencher Metric Format: `{"benchmark": {"measure": {"value", "lower_value", "upper_value"}}}`.
//! <https://bencher.dev/docs/reference/bencher-metric-format>

use serde_json::{Map, Value, json};

use super::figures::FIGURES;
use super::series_name;
use crate::results::record::{CellRecord, RunRecord};

/// One benchmark per valid cell, with the figures that it has; bounds are the ends of 95 % intervals. The format has no word for
/// a cell that is not valid, so that such a cell is not in it.
pub fn bmf(run: &RunRecord) -> String {
    let cells = run.cells.iter().map(|cell| (series_name(run, cell), measures(cell)));
    let benchmarks: Map<String, Value> =
        cells.filter(|(_, measures)| !measures.is_empty()).map(|(name, measures)| (name, measures.into())).collect();
    let mut text = serde_json::to_string_pretty(&benchmarks).unwrap_or_else(|e| unreachable!("plain data: {e}"));
    text.push('\n');
    text
}

fn measures(cell: &CellRecord) -> Map<String, Value> {
    let measure = |value: f64, interval: Option<crate::results::record::Interval>| match interval {
        Some(i) => json!({"value": value, "lower_value": i.low, "upper_value": i.high}),
        None => json!({ "value": value }),
    };
    let told = FIGURES.iter().filter_map(|figure| Some((figure.slug, figure.of(cell)?)));
    told.map(|(slug, (value, interval))| (slug.to_string(), measure(value, interval))).collect()
}
