//! What is on this frame? Detectors: single frames in, boxes with classes and scores out. They found tracks for a tracker that
//! carries them; alone they track nothing.

pub mod boxes;
pub mod contract;
mod detector;
mod kept;

pub use detector::Detector;
pub use kept::{KEPT, Keep};

/// What a detector sees at one place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// `[x0, y0, x1, y1]` in source pixels, edges of pixels, neither clipped nor rounded.
    pub bbox: [f64; 4],
    /// 0..1. NaN where the detector gave a number that is none, among its logits or its box: such a detection counts for
    /// nothing, and whoever leaves it out counts it.
    pub score: f64,
    /// Number of the class.
    pub label: u32,
}

#[cfg(test)]
pub(crate) mod tests;
