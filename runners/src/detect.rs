//! What is on this frame? Detectors: single frames in, boxes with classes and scores out.

/// What a detector sees at one place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// `[x0, y0, x1, y1]` in source pixels, edges of pixels, neither clipped nor rounded.
    pub bbox: [f64; 4],
    /// 0..1.
    pub score: f64,
    /// Number of the class.
    pub label: u32,
}
