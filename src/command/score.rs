//! `jetbench score GT PRED`: flags in, scores out. The scoring itself is in [`crate::score`]; here are progress, the
//! files that were asked for, and the few lines for a reader.

mod compare;
mod panoptic;
mod unprompted;

use std::path::{Path, PathBuf};

use crate::cli::{ReferenceTool, ScoreArgs};
use crate::dataset::vipseg;
use crate::exit::{Error, Outcome};
use crate::results::store;
use crate::run::progress;
use crate::score::{self as scoring, ScoreOptions, ScoreReport};
use crate::score::{Protocol, Rules};
use crate::text::plural;

pub use self::panoptic::panoptic_columns;
pub use self::unprompted::{tracking_columns, tube_columns};

/// Scores predictions against ground truth; several folders of them are compared with each other.
///
/// # Errors
/// Anything that is missing or does not fit, each named (exit 2); a file that cannot be written.
pub fn score(args: &ScoreArgs) -> Result<Outcome, Error> {
    let tables = args.export_markdown.is_some() || args.export_latex.is_some();
    // VIPSeg's own protocol, as of other layouts.
    let protocol = match args.protocol {
        None => vipseg::description(&args.gt, false)?.map(|_| Rules::Panoptic),
        told => told,
    };
    if let Some(Rules::Tracks | Rules::Tubes(_) | Rules::Panoptic) = protocol
        && tables
    {
        return Err(Error::Usage(
            "--export-markdown and --export-latex: this protocol does not score object by object; use --export-csv"
                .into(),
        ));
    }
    match protocol {
        Some(Rules::Tracks) => return unprompted::tracks(args),
        Some(Rules::Tubes(protocol)) => return unprompted::instances(args, protocol),
        Some(Rules::Panoptic) => return panoptic::segments(args),
        _ if args.remove_void => return Err(Error::Usage("--remove-void applies to --protocol hota".into())),
        _ => {}
    }
    match args.pred.as_slice() {
        [pred] => one(args, pred, &scored(args, pred)?),
        several => compare::score(args, several),
    }
}

/// The scores of one folder.
fn scored(args: &ScoreArgs, pred: &Path) -> Result<ScoreReport, Error> {
    let mut options = ScoreOptions::new(&args.gt, pred);
    options.protocol = masks(args);
    options.strict = !args.lenient;
    options.keep_first_last = args.keep_first_last;
    options.boundary_threshold = args.boundary_threshold.unwrap_or(options.boundary_threshold);
    options.list = args.list.clone();
    options.unseen = args.unseen.clone();
    options.per_frame = args.per_frame;
    options.boundary_iou = args.boundary_iou;
    options.threads = args.threads.map(Into::into);

    let bar = progress::counter(args.quiet, "scoring", "frames");
    let report = scoring::score(&options, &bar.tell());
    drop(bar);
    Ok(report?)
}

/// The protocol, where it scores masks object by object.
fn masks(args: &ScoreArgs) -> Option<Protocol> {
    match args.protocol {
        Some(Rules::Masks(protocol)) => Some(protocol),
        _ => None,
    }
}

/// What was asked for as files or on stdout.
#[derive(Default)]
struct Exports {
    stdout: String,
    printed: bool,
    /// What is scored.
    inputs: Vec<PathBuf>,
}

impl Exports {
    fn of(args: &ScoreArgs) -> Self {
        let inputs = args.pred.iter().chain([&args.gt]).cloned().collect();
        Exports { inputs, ..Exports::default() }
    }

    /// Writes to a file, or to stdout for `-`.
    fn write(&mut self, path: &Path, content: &str) -> Result<(), Error> {
        if path.as_os_str() == "-" {
            self.printed = true;
            self.stdout.push_str(content);
            return Ok(());
        }
        let inputs: Vec<&Path> = self.inputs.iter().map(PathBuf::as_path).collect();
        store::export(path, content.as_bytes(), &inputs)
            .map_err(|e| Error::Usage(format!("cannot write {}: {e}", path.display())))
    }

    /// CSV and JSON as the flags say; the text for a reader, where nothing else went to stdout.
    fn written(
        mut self,
        args: &ScoreArgs,
        report: &impl serde::Serialize,
        csv: impl Fn() -> String,
        text: impl Fn() -> String,
    ) -> Result<Outcome, Error> {
        let json = || {
            let json = serde_json::to_string_pretty(report).unwrap_or_else(|e| unreachable!("plain data: {e}"));
            json + "\n"
        };
        if let Some(path) = &args.export_csv {
            self.write(path, &csv())?;
        }
        if let Some(path) = &args.export_json {
            self.write(path, &json())?;
        }
        if args.json {
            self.write(Path::new("-"), &json())?;
        }
        Ok(Outcome::ok(if self.printed { self.stdout } else { text() }))
    }
}

/// Files and lines for one folder.
fn one(args: &ScoreArgs, pred: &Path, report: &ScoreReport) -> Result<Outcome, Error> {
    let mut exports = Exports::of(args);
    if let Some(path) = &args.export_markdown {
        exports.write(path, &markdown(report))?;
    }
    if let Some(path) = &args.export_latex {
        exports.write(path, &latex(report))?;
    }
    let other = |tool: &str| {
        Error::Usage(format!(
            "--compat {tool}: the {} protocol has other result files; see --protocol",
            report.protocol
        ))
    };
    match args.compat {
        Some(ReferenceTool::Davis2017) => {
            let (global, sequences) = report.to_davis_results().ok_or_else(|| other("davis2017"))?;
            exports.write(&pred.join("global_results-val.csv"), &global)?;
            exports.write(&pred.join("per-sequence_results-val.csv"), &sequences)?;
        }
        Some(ReferenceTool::Vost) => {
            let (global, sequences) = report.to_vost_results().ok_or_else(|| other("vost"))?;
            exports.write(&pred.join("global_results-val.csv"), &global)?;
            exports.write(&pred.join("per-sequence_results-val.csv"), &sequences)?;
        }
        Some(ReferenceTool::Sav) => {
            exports.write(&pred.join("results.csv"), &report.to_sav_results().ok_or_else(|| other("sav"))?)?;
        }
        Some(ReferenceTool::Mosev2) => {
            exports.write(&pred.join("scores.txt"), &report.to_mosev2_results().ok_or_else(|| other("mosev2"))?)?;
        }
        None => {}
    }
    exports.written(args, report, || report.to_csv(), || text(report))
}

/// Videos and objects that a terminal is shown.
const SHOWN: usize = 10;

/// All that a reader sees of one folder.
fn text(report: &ScoreReport) -> String {
    let mut text = summary(report);
    if report.videos.len() > 1 {
        text.push_str(&format!("\n{}", report.video_table(SHOWN, false).text()));
    }
    text.push_str(&format!("\n{}", report.object_table(SHOWN).text()));
    text
}

/// The lines above the tables.
fn summary(report: &ScoreReport) -> String {
    let mut text = format!(
        "{} protocol, {} in {}\n{}{}",
        report.protocol,
        plural(report.global.objects, "object", "objects"),
        plural(report.videos.len(), "video", "videos"),
        report.headline(),
        report.parts()
    );
    for note in &report.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text
}

/// All videos and the worst objects, for a wiki or an issue.
fn markdown(report: &ScoreReport) -> String {
    let lines =
        |text: String| text.lines().map(|line| format!("{}\n\n", line.replace('<', "&lt;"))).collect::<String>();
    let tables = [report.video_table(usize::MAX, true), report.object_table(SHOWN)].map(|t| t.markdown()).join("\n");
    format!("{}{tables}", lines(summary(report)))
}

/// The same tables for a paper.
fn latex(report: &ScoreReport) -> String {
    let tables = [report.video_table(usize::MAX, true), report.object_table(SHOWN)].map(|t| t.latex()).join("\n");
    format!("% {} protocol, of {}; needs \\usepackage{{booktabs}}\n{tables}", report.protocol, report.scale)
}
