//! `jetbench score GT PRED --protocol vipseg`: VPQ and STQ of panoptic segments.

use super::Exports;
use super::unprompted::{maybe_number, one};
use crate::cli::ScoreArgs;
use crate::exit::{Error, Outcome};
use crate::report::csv::{CsvTable, columns, value};
use crate::score::on_threads;
use crate::score::panoptic::{self, ClassPq, PanopticOptions, PanopticReport, PartPq, Parts, WindowPq};
use crate::text::plural;

/// A row of the CSV file: of a window's length, a mean or a category.
pub type PanopticRow<'a> = (usize, Row<'a>);

/// What a row is of.
pub enum Row<'a> {
    /// A mean over categories.
    Part(&'static str, &'a PartPq),
    /// A category.
    Class(&'a ClassPq),
}

/// VPQ and STQ.
pub(super) fn segments(args: &ScoreArgs) -> Result<Outcome, Error> {
    let pred = one(args, "vipseg")?.to_path_buf();
    for (flag, given) in [("--list", args.list.is_some()), ("--remove-void", args.remove_void)] {
        if given {
            return Err(Error::Usage(format!("{flag} does not apply to --protocol vipseg")));
        }
    }
    let options = PanopticOptions { truth: args.gt.clone(), pred };
    let report = on_threads(args.threads.map(Into::into), || panoptic::score(&options))??;
    let csv = || String::from_utf8_lossy(&panoptic_columns().file(report.windows.iter().flat_map(rows))).into_owned();
    Exports::of(args).written(args, &report, csv, || text(&report))
}

fn rows(window: &WindowPq) -> impl Iterator<Item = PanopticRow<'_>> {
    let parts = [("all", &window.all), ("things", &window.things), ("stuff", &window.stuff)];
    let parts = parts.into_iter().filter_map(|(name, part)| Some(Row::Part(name, part.as_ref()?)));
    parts.chain(window.classes.iter().map(Row::Class)).map(|row| (window.frames, row))
}

fn text(report: &PanopticReport) -> String {
    let number = |v: Option<f64>| v.map_or("-".to_string(), |v| format!("{:.2}", v * 100.0));
    let parts = |p: &Parts| format!("{}  things {}  stuff {}", number(p.all), number(p.things), number(p.stuff));
    let windows: Vec<String> = report.windows.iter().map(|w| number(w.all.map(|p| p.pq))).collect();
    let lengths: Vec<String> = report.windows.iter().map(|w| w.frames.to_string()).collect();
    let stq = &report.stq;
    let mut text = format!(
        "vipseg protocol, {} in {} (of 100)\n\
         VPQ {}  (mean over windows of 1, 2, 4 and 6 frames)\n\
         VPQ {}  (of 8, too, as the evaluator's own mean has it)\n\
         VPQ at {} frames: {}\n\
         STQ {}  AQ {}  SQ {}\n",
        plural(report.frames, "frame", "frames"),
        plural(report.videos, "video", "videos"),
        parts(&report.vpq),
        parts(&report.vpq_final),
        lengths.join(", "),
        windows.join(", "),
        number(stq.stq),
        number(stq.aq),
        number(stq.sq),
    );
    report.notes.iter().for_each(|note| text.push_str(&format!("note: {note}\n")));
    text
}

impl Row<'_> {
    fn class(&self) -> Option<&ClassPq> {
        match self {
            Row::Part(..) => None,
            Row::Class(class) => Some(class),
        }
    }

    fn qualities(&self) -> [Option<f64>; 3] {
        match self {
            Row::Part(_, p) => [Some(p.pq), Some(p.sq), Some(p.rq)],
            Row::Class(c) => [c.pq, c.sq, c.rq],
        }
    }
}

/// Columns of `score --protocol vipseg --export-csv`.
pub fn panoptic_columns<'a>() -> CsvTable<PanopticRow<'a>> {
    const MEAN: &str = "the row is a mean";
    const ABSENT: &str = "the category does not occur";
    fn class<V: std::fmt::Display>(row: &PanopticRow, get: impl Fn(&ClassPq) -> V) -> String {
        row.1.class().map_or_else(String::new, |c| value(get(c)))
    }
    let columns = columns! {
        PanopticRow<'a>;
        "window", "frames", "length of the windows" => |r| value(r.0);
        "part", "", "`all`, `things`, `stuff`: the mean over these categories, missing where none occurs; `class`: one category" => |r| value(match r.1 {
            Row::Part(name, _) => name,
            Row::Class(_) => "class",
        });
        "category", "", "id of the category", MEAN => |r| class(r, |c| c.id);
        "name", "", "its name", MEAN => |r| class(r, |c| c.name.clone());
        "thing", "", "`true`: a thing; `false`: stuff", MEAN => |r| class(r, |c| c.thing);
        "pq", "0 to 1", "panoptic quality", ABSENT => |r| maybe_number(r.1.qualities()[0]);
        "sq", "0 to 1", "segmentation quality: mean IoU of the pairs", ABSENT => |r| maybe_number(r.1.qualities()[1]);
        "rq", "0 to 1", "recognition quality: F1 of the pairs", ABSENT => |r| maybe_number(r.1.qualities()[2]);
        "tp", "", "pairs", MEAN => |r| class(r, |c| c.tp);
        "fp", "", "predicted tubes without a partner", MEAN => |r| class(r, |c| c.fp);
        "fn", "", "tubes of the truth without a partner", MEAN => |r| class(r, |c| c.fn_);
    };
    CsvTable {
        file: "jetbench score --protocol vipseg --export-csv",
        row: "Three rows of means and one per category, for each length of windows.",
        columns,
    }
}
