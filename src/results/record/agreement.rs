//! How alike were two cells, where nobody knows the truth?

use serde::{Deserialize, Serialize};

/// Agreement of two valid cells of a run on one object, or of a cell with itself backward in time. It is no accuracy: both can be wrong alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgreementRecord {
    /// One cell: model tag, precision, device.
    pub first: String,
    /// The other; backward in time it is the first one's name and says so.
    pub second: String,
    /// Video name.
    pub video: String,
    /// Object name.
    pub object: String,
    /// Frames of the first pass on which both tracked it.
    pub frames: u32,
    /// Mean over these frames of intersection over union of the two masks, 0 to 1; two empty masks agree.
    pub mean_iou: f64,
    /// Share of these frames on which it is below 0.5, 0 to 1.
    pub below_half: f64,
}
