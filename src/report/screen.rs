//! What the user reads on stdout when a command is done: the table, where the results are, and a last line of JSON.

use std::io::IsTerminal;
use std::path::Path;

use serde::Serialize;

use crate::report::table::{self, Style};
use crate::results::disturbance::Disturbance;
use crate::results::record::{RunRecord, Verdict};
use crate::text::{clean, shell_word};

/// Schema number of the lines of JSON that `run` prints; it is not that of `run.json`.
pub const LINE_SCHEMA: u32 = 1;

/// The last line of `run --json`.
#[derive(Serialize)]
struct LastLine<'a> {
    schema: u32,
    run: String,
    cells: Vec<LastCell<'a>>,
    /// Against the baseline, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<serde_json::Value>,
}

/// One cell in it.
#[derive(Serialize)]
struct LastCell<'a> {
    model: &'a str,
    dtype: &'a str,
    device: &'a str,
    verdict: &'a str,
    disturbed: &'a [Disturbance],
    reasons: Vec<String>,
}

/// What of it the user wants.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// No table.
    pub quiet: bool,
    /// What stands behind the closing lines too.
    pub verbose: bool,
    /// The line of JSON.
    pub json: bool,
}

/// What the user sees on stdout at the end.
pub fn screen(record: &RunRecord, dir: &Path, wanted: Wanted) -> String {
    let mut text = String::new();
    if !wanted.quiet {
        text.push_str(&table::text(record, style(wanted.verbose)));
        text.push_str(&format!("results: {}\n", dir.display()));
        text.push_str(&format!("report:  {}\n", dir.join("report.html").display()));
        for line in record.forecast.iter().flat_map(|forecast| forecast.errors()) {
            text.push_str(&format!("forecast: {}\n", clean(&line)));
        }
        if record.cells.iter().any(|c| c.interrupted) && !record.data.is_live() {
            let dir = shell_word(&dir.display().to_string());
            text.push_str(&format!("to continue: jetbench --resume {dir}\n"));
        }
    }
    if wanted.json {
        text.push_str(&last_line(record, dir, None));
    }
    text
}

/// The last line of `run --json`; `comparison` is that with the baseline.
pub fn last_line(record: &RunRecord, dir: &Path, comparison: Option<serde_json::Value>) -> String {
    let line = LastLine {
        schema: LINE_SCHEMA,
        run: dir.display().to_string(),
        cells: record
            .cells
            .iter()
            .map(|c| LastCell {
                model: &c.model,
                dtype: c.dtype.as_str(),
                device: &c.device,
                verdict: c.verdict.as_str(),
                disturbed: &c.disturbed,
                reasons: match &c.verdict {
                    Verdict::Valid => Vec::new(),
                    Verdict::Invalid { reasons } => reasons.iter().map(ToString::to_string).collect(),
                    Verdict::Failed { .. } => vec![c.verdict.reasons()],
                },
            })
            .collect(),
        comparison,
    };
    format!("{}\n", serde_json::to_string(&line).unwrap_or_default())
}

/// How stdout wants its table: as wide as the terminal, coloured where that is welcome.
fn style(verbose: bool) -> Style {
    let terminal = std::io::stdout().is_terminal();
    Style { width: terminal.then(width), color: colours(terminal), verbose }
}

/// Are colours welcome, here where the stream is a terminal or not?
pub fn colours(terminal: bool) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
    set("CLICOLOR_FORCE") || (terminal && !set("NO_COLOR") && !dumb)
}

/// Are colours welcome on stdout?
pub fn stdout_colours() -> bool {
    colours(std::io::stdout().is_terminal())
}

/// Columns of stdout, where it is a terminal: there, lines are broken between words.
pub fn stdout_columns() -> Option<usize> {
    std::io::stdout().is_terminal().then(width)
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// All is well.
    Ok,
    /// Usable.
    Warn,
    /// Not usable.
    Fail,
}

impl Mark {
    /// Of something that holds or does not.
    pub fn of(pass: bool) -> Mark {
        if pass { Mark::Ok } else { Mark::Fail }
    }

    /// `word` in the colour of this result, where colours are welcome, filled up to four columns.
    pub fn on(self, word: &str, colours: bool) -> String {
        let fill = " ".repeat(4_usize.saturating_sub(word.len()));
        let colour = match self {
            Mark::Ok => 32,
            Mark::Warn => 33,
            Mark::Fail => 31,
        };
        if colours { format!("\x1b[{colour}m{word}\x1b[0m{fill}") } else { format!("{word}{fill}") }
    }

    /// `ok`, `warn` or `FAIL`, as [`Mark::on`].
    pub fn word(self, colours: bool) -> String {
        let word = match self {
            Mark::Ok => "ok",
            Mark::Warn => "warn",
            Mark::Fail => "FAIL",
        };
        self.on(word, colours)
    }
}

/// Columns of the terminal; 80 where it does not say.
fn width() -> usize {
    terminal_size::terminal_size_of(std::io::stdout()).map_or(80, |(width, _)| usize::from(width.0))
}
