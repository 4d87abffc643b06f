//! JUnit's XML: a test per cell. Valid passes, invalid is a failure, failed and interrupted are errors. The output of the suite is
//! the table, which puts figures that may not be quoted in parentheses.
//!
//! It is valid by the schema of Jenkins's xUnit plugin (junit-10.xsd); by that of Ant (JUnit.xsd) too where every cell has tracked
//! something, because Ant's demands a time.

use std::fmt::Write as _;

use chrono::DateTime;

use super::cell_name;
use crate::report::table::{self, Style, dataset_name};
use crate::results::record::{CellRecord, RunRecord, Verdict};
use crate::text::{clean, escape};

/// The whole file.
pub fn junit(run: &RunRecord) -> String {
    let count = |word: &str| run.cells.iter().filter(|c| c.verdict.as_str() == word).count();
    let (failures, errors) = (count("invalid"), count("failed"));
    let mut suite = vec![
        ("name", "jetbench".to_string()),
        ("package", "jetbench".into()),
        ("id", "0".into()),
        ("hostname", run.device.name.clone()),
        ("tests", run.cells.len().to_string()),
        ("failures", failures.to_string()),
        ("errors", errors.to_string()),
    ];
    let at = |text: &str| DateTime::parse_from_rfc3339(text).ok();
    let (began, ended) = (at(&run.started), run.finished.as_deref().and_then(at));
    // Both schemas want UTC without its letter.
    suite.extend(began.map(|t| ("timestamp", t.naive_utc().format("%Y-%m-%dT%H:%M:%S").to_string())));
    suite.extend(began.zip(ended).map(|(from, to)| ("time", seconds((to - from).num_milliseconds() as f64 / 1e3))));
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    let _ = writeln!(out, "  <testsuite{}>\n    <properties>", attributes(&suite));
    for (name, value) in properties(run) {
        let _ = writeln!(out, "      <property{}/>", attributes(&[("name", name.into()), ("value", value)]));
    }
    out.push_str("    </properties>\n");
    run.cells.iter().for_each(|cell| test(&mut out, run, cell));
    let table = table::text(run, Style { width: Some(160), ..Style::default() });
    let _ = writeln!(out, "    <system-out>{}</system-out>\n    <system-err></system-err>", escape(&table));
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

fn properties(run: &RunRecord) -> Vec<(&'static str, String)> {
    vec![
        ("run", run.run_id.clone()),
        ("jetbench", run.version.clone()),
        ("device", run.device.name.clone()),
        ("device digest", run.device.digest.clone()),
        ("dataset", dataset_name(run)),
        ("protocol", run.data.protocol.clone()),
    ]
}

/// One cell. Its time is that of loading and tracking, once; what failed before has none.
fn test(out: &mut String, run: &RunRecord, cell: &CellRecord) {
    let mut own = vec![("classname", format!("jetbench.{}", run.device.name)), ("name", clean(&cell_name(run, cell)))];
    let time = cell.track_wall_s.zip(cell.load_ms).map(|(track, load)| track + load / 1e3);
    own.extend(time.map(|s| ("time", seconds(s))));
    let element = match &cell.verdict {
        Verdict::Valid => {
            let _ = writeln!(out, "    <testcase{}/>", attributes(&own));
            return;
        }
        Verdict::Invalid { .. } => "failure",
        Verdict::Failed { .. } => "error",
    };
    let reasons = cell.verdict.reasons();
    let why = attributes(&[("type", cell.verdict_words().into()), ("message", clean(&reasons))]);
    let _ = writeln!(
        out,
        "    <testcase{}>\n      <{element}{why}>{}</{element}>\n    </testcase>",
        attributes(&own),
        escape(&reasons)
    );
}

fn seconds(value: f64) -> String {
    format!("{value:.3}")
}

fn attributes(pairs: &[(&str, String)]) -> String {
    pairs.iter().map(|(name, value)| format!(" {name}=\"{}\"", escape(value))).collect()
}
