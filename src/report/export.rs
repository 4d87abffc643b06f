//! What do other programs read of a finished run? One file per format, each a function of the record. A figure that may not be
//! quoted is left out everywhere: no format but a table for readers has a way to say "measured, but not to be used".

pub mod bmf;
mod figures;
pub mod junit;
pub mod markdown;
pub mod prometheus;

use crate::judge::change::CellChange;
use crate::report::table::{dataset_name, dtype_short, model_name};
use crate::results::record::{CellRecord, RunRecord, Scenario};

/// What came of comparing the run with a baseline.
#[derive(Clone, Copy, Debug)]
pub struct Compared<'a> {
    /// Name of the baseline.
    pub baseline: &'a str,
    /// Cells in both.
    pub cells: &'a [CellChange],
    /// Do changes that are inconclusive count as regressed?
    pub undecided: bool,
    /// Does a regression fail the run?
    pub fail: bool,
    /// All of it, for readers.
    pub text: &'a str,
}

impl<'a> Compared<'a> {
    /// The change of a cell.
    fn of(&self, cell: &CellRecord) -> Option<&'a CellChange> {
        let name = (&cell.model, cell.dtype.as_str(), &cell.device);
        self.cells.iter().find(|change| (&change.model, change.dtype.as_str(), &change.device) == name)
    }
}

/// A format in which a run is handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For a step summary, an issue or a wiki.
    Markdown,
    /// For Bencher.
    Bmf,
    /// For a CI server.
    Junit,
    /// For node_exporter's textfile collector.
    Prometheus,
}

impl Format {
    /// The flag that asks for it, without the dashes.
    pub fn flag(self) -> &'static str {
        match self {
            Format::Markdown => "export-markdown",
            Format::Bmf => "export-bmf",
            Format::Junit => "export-junit",
            Format::Prometheus => "export-prometheus",
        }
    }

    /// The file; of a run that was compared with a baseline, with what came of it where the format has a word for that.
    pub fn text(self, run: &RunRecord, compared: Option<Compared>) -> String {
        match self {
            Format::Markdown => markdown::markdown(run) + &compared.map_or_else(String::new, markdown::compared),
            Format::Bmf => bmf::bmf(run),
            Format::Junit => junit::junit(run, compared.filter(|c| c.fail)),
            Format::Prometheus => prometheus::prometheus(run, compared),
        }
    }
}

/// The model that ran, by its pack; with the tag that was asked for where another cell would have the same name.
fn model(run: &RunRecord, cell: &CellRecord) -> String {
    let name = |c: &CellRecord| (model_name(c), dtype_short(c), c.device.clone());
    match run.cells.iter().filter(|other| name(other) == name(cell)).count() {
        1 => model_name(cell),
        _ => format!("{} ({})", model_name(cell), cell.model),
    }
}

/// What names a cell in every run of its job: pack and prompt, precision in effect, device, and how frames were offered where
/// that is not one after another. Another precision in effect is another series, never a step in this one.
fn cell_name(run: &RunRecord, cell: &CellRecord) -> String {
    let scenario = match cell.scenario {
        Scenario::SingleStream => String::new(),
        other => format!(" {other}"),
    };
    format!("{} {} {}{scenario}", model(run, cell), dtype_short(cell), cell.device)
}

/// The same with the videos that it is of.
fn series_name(run: &RunRecord, cell: &CellRecord) -> String {
    format!("{} on {}", cell_name(run, cell), dataset_name(run))
}
