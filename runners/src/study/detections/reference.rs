//! What did PyTorch's detector give? The files of a detector's reference: lossless frames, and the logits and boxes of every query on each.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::detect::boxes::Rows;
use crate::detect::contract::Signature;
use crate::files;
use crate::pack::Pack;
use crate::runner::RunnerError;
use crate::study::reference::{SCHEMA, TensorFile, inflate, read_png, relative, unshuffle};

/// What no reference may allow: above, a comparison proves nothing. It moves a score by 0.0005 and an edge by two pixels of 1024.
pub const CEILING: f64 = 2e-3;
/// More frames than any reference has.
const MOST_FRAMES: usize = 10_000;

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
        let golden = pack.manifest.golden.as_ref().ok_or_else(|| {
            RunnerError::Pack(format!("{}: no [golden] section, nothing to verify against", pack.dir.display()))
        })?;
        let path = pack.dir.join(&golden.index);
        let dir = path.parent().unwrap_or(&pack.dir).to_path_buf();
        let wrong = |text: String| RunnerError::Pack(format!("{}: {text}", path.display()));
        let text = files::read_text(&path, files::SMALL).map_err(|e| wrong(e.to_string()))?;
        let index: Index = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        if index.schema != SCHEMA {
            return Err(wrong(format!("schema {}, this program reads {SCHEMA}", index.schema)));
        }
        if !(1..=MOST_FRAMES).contains(&index.frames.len()) {
            return Err(wrong(format!("{} frames: 1 to {MOST_FRAMES} expected", index.frames.len())));
        }
        if !(0.0..=CEILING).contains(&index.tolerance) {
            return Err(wrong(format!(
                "tolerance = {:e}: from 0 to {CEILING:e} expected; above, a comparison proves nothing",
                index.tolerance
            )));
        }
        // The manifest's tolerance is a promise of the pack, which the reference cannot widen.
        let tolerance = index.tolerance.min(golden.tolerance);
        let (queries, classes) = (signature.queries, signature.classes);
        Ok(Reference { tolerance, frames: index.frames, dir, queries, classes })
    }

    /// What PyTorch gave for a frame.
    ///
    /// # Errors
    /// [`RunnerError::Pack`] naming the file, what was expected and what was found.
    pub fn answer(&self, frame: &FrameFiles) -> Result<Answer, RunnerError> {
        Ok(Answer {
            logits: floats(&self.dir, &frame.logits, [self.queries, self.classes])?,
            boxes: floats(&self.dir, &frame.boxes, [self.queries, 4])?,
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

fn floats(dir: &Path, tensor: &TensorFile, shape: [usize; 2]) -> Result<Vec<f32>, RunnerError> {
    let wrong = |text: String| RunnerError::Pack(format!("{}: {text}", dir.join(&tensor.file).display()));
    if tensor.shape != shape {
        return Err(wrong(format!("shape {shape:?} expected (queries, values), found {:?}", tensor.shape)));
    }
    let bytes = 4 * shape.iter().product::<usize>();
    let found = inflate(&relative(dir, &tensor.file)?, bytes)?;
    if found.len() != bytes {
        return Err(wrong(format!("{} bytes, {bytes} expected", found.len())));
    }
    let values: Vec<f32> = unshuffle(&found).into_iter().map(f32::from_bits).collect();
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(wrong(format!("value {at} is no number"))),
        None => Ok(values),
    }
}
