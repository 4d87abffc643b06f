//! Flags of `score`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::complete;
use crate::score::Rules;

/// A reference evaluator whose own result files can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReferenceTool {
    /// SA-V's: `results.csv`
    Sav,
    /// DAVIS 2017's: `global_results-val.csv` and `per-sequence_results-val.csv`
    Davis2017,
    /// MOSEv2's: `scores.txt`
    Mosev2,
    /// VOST's: two files of the same names
    Vost,
}

/// Flags of `score`.
#[derive(Args, Debug)]
pub struct ScoreArgs {
    /// Ground truth: a dataset, its annotation directory, or (ytvis, ovis, vipseg) its annotation file
    pub gt: PathBuf,
    /// Predicted masks, in the layout of the ground truth; several folders are compared with each other
    #[arg(required = true)]
    pub pred: Vec<PathBuf>,
    /// Protocol: sav, vos, davis2017-semi, davis2016, davis2017-unsup, mosev2, hota, ytvis, ovis, vipseg [default: those of the layout]
    #[arg(long, value_name = "NAME", add = complete::protocols())]
    pub protocol: Option<Rules>,
    /// Skip videos without predictions, with a note, instead of refusing
    #[arg(long)]
    pub lenient: bool,
    /// Score the first and last annotated frame too
    #[arg(long)]
    pub keep_first_last: bool,
    /// Boundary tolerance: below 1 a share of the diagonal, else pixels [default: 0.008]
    #[arg(long, value_name = "X")]
    pub boundary_threshold: Option<f64>,
    /// Text file with the videos to score
    #[arg(long, value_name = "FILE")]
    pub list: Option<PathBuf>,
    /// hota: take void pixels (255 in the truth) out of the tracks, which TrackEval does not
    #[arg(long)]
    pub remove_void: bool,
    /// Text file with the unseen part (`video` or `video object` per line); adds means of seen and unseen
    #[arg(long, value_name = "FILE")]
    pub unseen: Option<PathBuf>,
    /// Keep per-frame values in the exports
    #[arg(long)]
    pub per_frame: bool,
    /// Compute boundary IoU as well
    #[arg(long)]
    pub boundary_iou: bool,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Write a CSV row per object; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub export_csv: Option<PathBuf>,
    /// Write the tables as Markdown, with all videos; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub export_markdown: Option<PathBuf>,
    /// Write the same tables for LaTeX's booktabs; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub export_latex: Option<PathBuf>,
    /// Write everything as JSON; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub export_json: Option<PathBuf>,
    /// Write the reference's own result files to PRED, byte for byte: `sav` (results.csv), `davis2017` and
    /// `vost` (global_results-val.csv and per-sequence_results-val.csv), `mosev2` (scores.txt)
    #[arg(long, value_name = "TOOL", value_enum)]
    pub compat: Option<ReferenceTool>,
    /// Print JSON (short for --export-json -)
    #[arg(long)]
    pub json: bool,
    /// No progress
    #[arg(short, long)]
    pub quiet: bool,
}
