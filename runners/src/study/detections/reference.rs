//! What did PyTorch's detector give? The files of a detector's reference: lossless frames, and the logits and boxes of every query on each.

use std::path::PathBuf;

use serde::Deserialize;

use crate::detect::boxes::Rows;
use crate::detect::contract::Signature;
use crate::pack::Pack;
use crate::runner::RunnerError;
use crate::study::reference::{FramesIndex, FramesReference, SCHEMA, TensorFile, floats, read_png, relative};

/// What no reference may allow: above, a comparison proves nothing. It moves a score by 0.0005 and an edge by two pixels of 1024.
pub const CEILING: f64 = 2e-3;
/// What the shapes of its tensors mean.
const AXES: &str = " (queries, values)";

#[derive(Deserialize)]
struct Index {
    #[serde(default = "schema")]
    schema: u32,
    tolerance: f64,
    frames: Vec<FrameFiles>,
}

fn schema() -> u32 {
    SCHEMA
}

impl FramesIndex for Index {
    const CEILING: f64 = CEILING;

    fn header(&self) -> (u32, f64, usize) {
        (self.schema, self.tolerance, self.frames.len())
    }
}

/// A frame of the reference.
#[derive(Deserialize)]
pub struct FrameFiles {
    /// PNG file, relative to the index.
    pub image: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// SHA-256 of the frame in the size of the model's input, 8-bit RGB; `None`: the logits tell.
    #[serde(default)]
    pub resized_sha256: Option<String>,
    logits: TensorFile,
    boxes: TensorFile,
}

/// A reference.
pub struct Reference {
    /// Largest absolute difference of logits and of boxes (shares of the image) in fp32, over all rows of all frames.
    pub tolerance: f64,
    /// Its frames.
    pub frames: Vec<FrameFiles>,
    dir: PathBuf,
    queries: usize,
    classes: usize,
}

/// What PyTorch gave for a frame.
pub struct Answer {
    logits: Vec<f32>,
    boxes: Vec<f32>,
    classes: usize,
}

impl Answer {
    /// Its rows.
    pub fn rows(&self) -> Rows<'_> {
        Rows { logits: &self.logits, boxes: &self.boxes, classes: self.classes }
    }
}

impl Reference {
    /// Reads the index of the reference of a pack.
    ///
    /// # Errors
    /// [`RunnerError::Pack`] naming the file, the field, what was expected and what was found.
    pub fn read(pack: &Pack, signature: &Signature) -> Result<Reference, RunnerError> {
        let FramesReference { index: Index { frames, .. }, dir, tolerance } = FramesReference::read(pack)?;
        let (queries, classes) = (signature.queries, signature.classes);
        Ok(Reference { tolerance, frames, dir, queries, classes })
    }

    /// What PyTorch gave for a frame.
    ///
    /// # Errors
    /// [`RunnerError::Pack`] naming the file, what was expected and what was found.
    pub fn answer(&self, frame: &FrameFiles) -> Result<Answer, RunnerError> {
        Ok(Answer {
            logits: floats(&self.dir, &frame.logits, &[self.queries, self.classes], AXES)?,
            boxes: floats(&self.dir, &frame.boxes, &[self.queries, 4], AXES)?,
            classes: self.classes,
        })
    }

    /// The pixels of a frame, 8-bit RGB.
    ///
    /// # Errors
    /// [`RunnerError::Pack`] naming the file.
    pub fn pixels(&self, frame: &FrameFiles) -> Result<Vec<u8>, RunnerError> {
        read_png(&relative(&self.dir, &frame.image)?, frame.width, frame.height)
    }
}
