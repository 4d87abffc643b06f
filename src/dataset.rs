//! Annotated videos on disk: layouts in, sequences out, frames and masks on demand.

use std::path::{Path, PathBuf};

use jetbench_runners::types::Mask;

/// A dataset read in place.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Root as given.
    pub root: PathBuf,
    /// Layout name: `sa-v`, `davis2017`, …
    pub layout: &'static str,
    /// Videos in name order.
    pub sequences: Vec<Sequence>,
}

/// One video with its objects.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// Video name.
    pub name: String,
    /// Frames in order.
    pub frames: Vec<FrameFile>,
    /// Objects in name order.
    pub objects: Vec<Object>,
    /// Frames per second of `frames`.
    pub fps: f64,
}

/// One frame file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameFile {
    /// File stem, e.g. `00012`.
    pub name: String,
    /// File.
    pub path: PathBuf,
}

/// One annotated object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Number within the sequence, from 0: the runner's object id.
    pub id: u32,
    /// Name in the dataset (folder name or palette index).
    pub name: String,
    /// Indices into `Sequence::frames` that have an annotation of this object.
    pub annotated: Vec<usize>,
    /// First annotated frame on which the object is not empty: where its prompt is given.
    pub prompt_frame: usize,
}

/// What is wrong with a dataset: file, cause, remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DataError(pub String);

/// A decoded frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbFrame {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Interleaved RGB.
    pub rgb: Vec<u8>,
}

impl Dataset {
    /// Opens `root`, detecting its layout.
    ///
    /// # Errors
    /// Names the place and what was expected there.
    pub fn open(_root: &Path) -> Result<Dataset, DataError> {
        unimplemented!("dataset helper writes this")
    }
}

impl Sequence {
    /// Ground-truth mask of `object` on frame `frame` (an element of `object.annotated`).
    ///
    /// # Errors
    /// Names the file when it is missing, unreadable or of another size.
    pub fn truth(&self, _object: &Object, _frame: usize) -> Result<Mask, DataError> {
        unimplemented!("dataset helper writes this")
    }
}

/// Reads a JPEG or PNG frame.
///
/// # Errors
/// Names the file and the fault.
pub fn read_frame(_path: &Path) -> Result<RgbFrame, DataError> {
    unimplemented!("dataset helper writes this")
}
