//! How good? J and F kernels and the protocols that turn them into scores, bit for bit as the reference evaluators do.

pub mod agreement;
mod boundary_iou;
pub mod directory;
pub mod export;
mod failure;
pub mod grade;
mod kernel;
mod label_pair;
mod mosev2;
pub mod panoptic;
mod predicted;
mod protocol;
mod rules;
pub mod segment;
mod set_order;
pub mod tracking;
pub mod tubes;
pub mod unprompted;

pub use boundary_iou::boundary_iou;
pub(crate) use directory::unsupervised::MOST_OBJECTS;
pub use directory::{
    DavisScore, FrameRow, GroupScore, ObjectScore, ScoreOptions, ScoreReport, VideoScore, on_threads, score,
};
pub use failure::{FOUND_FROM, Failure, LOST_BELOW, failures};
pub use kernel::{BOUNDARY_THRESHOLD, FrameCounts, FrameScorer, tolerance_radius};
pub use mosev2::{MoseFrame, MoseScore, Stretches};
pub use protocol::{DavisStatistics, Protocol, TrackScore, UnknownProtocol, davis_statistics, mean, pairwise_sum};

pub use rules::{Rules, UnknownRules};

/// J and F of one object on one frame, 0..1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameScore {
    /// Region similarity (Jaccard index).
    pub j: f64,
    /// Boundary F-measure.
    pub f: f64,
    /// The predicted mask has no foreground.
    pub pred_empty: bool,
    /// The true mask has no foreground.
    pub truth_empty: bool,
}
