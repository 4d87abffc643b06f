//! GitHub-flavoured Markdown: the result in a heading, the table with all columns, reasons and warnings, and how to read it, folded.
//! Several of them can stand in one step summary.

use std::fmt::Write as _;

use super::Compared;
use crate::report::closing::Closing;
use crate::report::table::{Sheet, heading, strip_marks};
use crate::results::record::RunRecord;
use crate::text::clean;

/// The whole text.
pub fn markdown(run: &RunRecord) -> String {
    let sheet = Sheet::new(run);
    let closing = Closing::of(run);
    let mut out = format!("### jetbench: {}\n\n", escape(&closing.headline));
    let _ = write!(out, "{} · run {}\n\n", escape(&heading(run)), escape(&clean(&run.run_id)));
    if let Some(banner) = &closing.banner {
        let _ = write!(out, "**{}**\n\n", escape(banner));
    }
    let mut line = |cells: Vec<String>| _ = writeln!(out, "| {} |", cells.join(" | "));
    line(sheet.columns.iter().map(|c| escape(&c.title.replace('\n', " "))).collect());
    line(sheet.columns.iter().map(|c| if c.number { "---:" } else { "---" }.to_string()).collect());
    for row in 0..sheet.rows {
        line(sheet.columns.iter().map(|c| escape(&c.values[row])).collect());
    }
    for line in
        closing.unscored.iter().chain(&closing.reasons).chain(&closing.warned(usize::MAX)).chain(&closing.answer)
    {
        let _ = write!(out, "\n{}\n", escape(line));
    }
    if !closing.legend.is_empty() {
        out.push_str("\n<details><summary>How to read the table</summary>\n");
        closing.legend.iter().for_each(|line| _ = write!(out, "\n{}\n", escape(line)));
        out.push_str("\n</details>\n");
    }
    out
}

/// What came of a comparison, as it stands on a terminal.
pub(super) fn compared(compared: Compared) -> String {
    let lines: String = compared.text.lines().map(|line| format!("    {line}").trim_end().to_string() + "\n").collect();
    format!("\nAgainst the baseline {}:\n\n{lines}", escape(&clean(compared.baseline)))
}

fn escape(text: &str) -> String {
    strip_marks(text).replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;")
}
