//! J and F kernels and the protocols that turn them into scores, bit for bit as the reference evaluators do.

use jetbench_runners::types::Mask;

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

/// Scores one pair of masks of equal size; tolerance radius from the size.
pub fn frame_score(_pred: &Mask, _truth: &Mask) -> FrameScore {
    unimplemented!("scoring helper writes this")
}
