//! What is to be scored, and how.

use std::path::PathBuf;

use crate::score::BOUNDARY_THRESHOLD;
use crate::score::protocol::Protocol;

/// What `jetbench score` was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreOptions {
    /// Dataset root, or the folder with the videos' annotations.
    pub truth: PathBuf,
    /// Folder with one folder of predictions per video, laid out as the annotations are.
    pub pred: PathBuf,
    /// Rules; `None`: those of the layout (`sav` for object folders, `vos` for bare label maps).
    pub protocol: Option<Protocol>,
    /// Refuse a video without predictions (else: leave it out, with a note), and what the protocol has no score for.
    pub strict: bool,
    /// Score the first and last frame too.
    pub keep_first_last: bool,
    /// Boundary tolerance as a share of the diagonal, or pixels from 1 on.
    pub boundary_threshold: f64,
    /// Text file with the videos to score.
    pub list: Option<PathBuf>,
    /// Text file with the unseen part: one `video` or `video object` per line; splits the means.
    pub unseen: Option<PathBuf>,
    /// Keep per-frame values in the report.
    pub per_frame: bool,
    /// Compute boundary IoU too (about doubles the scoring time).
    pub boundary_iou: bool,
    /// Threads; `None`: all cores.
    pub threads: Option<usize>,
}

impl ScoreOptions {
    /// Defaults for two folders: strict, the layout's protocol, the references' tolerance.
    pub fn new(truth: impl Into<PathBuf>, pred: impl Into<PathBuf>) -> Self {
        ScoreOptions {
            truth: truth.into(),
            pred: pred.into(),
            protocol: None,
            strict: true,
            keep_first_last: false,
            boundary_threshold: BOUNDARY_THRESHOLD,
            list: None,
            unseen: None,
            per_frame: false,
            boundary_iou: false,
            threads: None,
        }
    }
}
