//! JUnit's XML: a test per cell. Valid passes, invalid is a failure, failed and interrupted are errors. The output of the suite is
//! the table, which puts figures that may not be quoted in parentheses.
//!
//! It is valid by the schema of Jenkins's xUnit plugin (junit-10.xsd); by that of Ant (JUnit.xsd) too where every test has a time,
//! which a cell that tracked nothing and a comparison have not.

use std::fmt::Write as _;

use chrono::DateTime;

use super::{Compared, cell_name};
use crate::judge::change::{CellChange, Change};
use crate::report::table::{self, Style, dataset_name};
use crate::results::record::{CellRecord, RunRecord, Verdict};
use crate::text::{clean, escape};

/// The whole file; of a run that a regression makes fail, with a further test per cell.
pub fn junit(run: &RunRecord, compared: Option<Compared>) -> String {
    let count = |word: &str| run.cells.iter().filter(|c| c.verdict.as_str() == word).count();
    let changes: Vec<(&CellRecord, &CellChange)> =
        run.cells.iter().filter_map(|cell| Some((cell, compared?.of(cell)?))).collect();
    let undecided = compared.is_some_and(|c| c.undecided);
    let regressed = changes.iter().filter(|(_, change)| change.fails(undecided)).count();
    let (failures, errors) = (count("invalid") + regressed, count("failed"));
    let mut suite = vec![
        ("name", "jetbench".to_string()),
        ("package", "jetbench".into()),
        ("id", "0".into()),
        ("hostname", run.device.name.clone()),
        ("tests", (run.cells.len() + changes.len()).to_string()),
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
    for (cell, change) in changes {
        let own = [("classname", "jetbench.regression".to_string()), ("name", clean(&cell_name(run, cell)))];
        let why = change.fails(undecided).then(|| worse(change, compared.map_or("", |c| c.baseline)));
        element(&mut out, &own, why.map(|why| ("failure", "regressed", why)));
    }
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
    let kind = match &cell.verdict {
        Verdict::Valid => None,
        Verdict::Invalid { .. } => Some("failure"),
        Verdict::Failed { .. } => Some("error"),
    };
    element(out, &own, kind.map(|kind| (kind, cell.verdict_words(), cell.verdict.reasons())));
}

/// What became of a cell that fails against the baseline: its verdict, J&F and latency in words.
fn worse(change: &CellChange, baseline: &str) -> String {
    let quantity = |name: &str, c: &Change| {
        let why = if c.remark.is_empty() { String::new() } else { format!(" ({})", c.remark) };
        format!("{name} {}{why}", c.word.as_str())
    };
    let told = [quantity("J&F", &change.jf), quantity("latency", &change.latency)];
    let verdict = change.verdict.iter().map(|v| format!("verdict {v}"));
    format!("against {baseline}: {}", verdict.chain(told).collect::<Vec<_>>().join("; "))
}

/// A test with these attributes, and why it did not pass: element, type, words.
fn element(out: &mut String, own: &[(&str, String)], why: Option<(&str, &str, String)>) {
    let own = attributes(own);
    let _ = match why {
        None => writeln!(out, "    <testcase{own}/>"),
        Some((kind, word, text)) => {
            let why = attributes(&[("type", word.into()), ("message", clean(&text))]);
            let text = escape(&text);
            writeln!(out, "    <testcase{own}>\n      <{kind}{why}>{text}</{kind}>\n    </testcase>")
        }
    };
}

fn seconds(value: f64) -> String {
    format!("{value:.3}")
}

fn attributes(pairs: &[(&str, String)]) -> String {
    pairs.iter().map(|(name, value)| format!(" {name}=\"{}\"", escape(value))).collect()
}
