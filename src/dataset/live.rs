//! What is a live source, and what does a run look at in it? A stream or a camera that ffmpeg reads, or a pipe of frames. Its frames come
//! by themselves, once; how many is known when they have come. An address may hold a password: what is shown and recorded does not.

mod address;
mod source;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::footage::objects_of;
use super::layout::Layout;
use super::prompts::{FrameName, UserPrompts};
use super::{Categories, DataError, Dataset, FrameFile, Guide, Sequence};

pub use address::{Address, Secret};
pub use source::{LiveFrame, Piped, Source, Stop, piped, probe};

/// Layout name of a live source, and the name of its only video.
pub const LIVE: &str = "live";
/// Most frames with a prompt: each waits in memory until it is tracked.
const MOST_PROMPTED: usize = 8;
/// Highest number of a frame with a prompt: over a day at 60 frames a second.
const LAST_PROMPTED: usize = 5_000_000;

/// What kind of source it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LiveKind {
    /// Frames on standard input.
    Pipe,
    /// A network stream that ffmpeg reads.
    Stream,
    /// A V4L2 camera that ffmpeg reads.
    Camera,
}

/// Which clock says when a frame was captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaptureClock {
    /// The source carries none: the moment at which the whole frame had been read from the pipe.
    #[default]
    Arrival,
    /// The source carries none that this machine shares: the moment at which ffmpeg read the frame's data, before it was decoded.
    Received,
    /// The kernel's stamp of the camera's buffer.
    Kernel,
}

impl CaptureClock {
    /// In words, as the end of "ages of frames count from …".
    pub fn words(self) -> &'static str {
        match self {
            CaptureClock::Arrival => "the moment the whole frame was read from the pipe (it carries no time stamp)",
            CaptureClock::Received => "the moment ffmpeg received the frame's data on this machine, before decoding",
            CaptureClock::Kernel => "the kernel's time stamp of the camera's buffer",
        }
    }
}

/// How frames lie on a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PipeFormat {
    /// PPM images, which say their size.
    Ppm,
    /// Raw interleaved RGB, 8 bits per channel.
    Rgb24,
}

/// A live source as it is recorded; the address is not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// What it is.
    pub kind: LiveKind,
    /// How its frames come to jetbench.
    pub format: PipeFormat,
    /// Width of its frames, pixels.
    pub width: u32,
    /// Height of its frames, pixels.
    pub height: u32,
    /// When tracking ends, seconds after its begin; `None`: with the pipe.
    pub seconds: Option<f64>,
    /// Where the frames come from; empty in what was read from a record.
    #[serde(skip)]
    pub address: Secret,
}

impl Live {
    /// Which clock its frames' ages count from.
    pub fn clock(&self) -> CaptureClock {
        match self.kind {
            LiveKind::Pipe => CaptureClock::Arrival,
            LiveKind::Stream => CaptureClock::Received,
            LiveKind::Camera => CaptureClock::Kernel,
        }
    }

    /// The only sequence of it, without frames: they are not there yet. `fps`: the deadline, where the user says one.
    ///
    /// # Errors
    /// A prompt names a video or frame that cannot be there, or a place outside the frame.
    pub(crate) fn dataset(&self, root: PathBuf, prompts: &UserPrompts, fps: Option<f64>) -> Result<Dataset, DataError> {
        let fail = |what: String| DataError(format!("{}: {what}", root.display()));
        let mut by_video = prompts.by_video(&[LIVE]).map_err(fail)?;
        let frame = |name: &FrameName| match name {
            FrameName::Index(index) if *index <= LAST_PROMPTED => Ok(*index),
            FrameName::Named(name) if !name.contains(|c: char| c.is_ascii_digit()) => Ok(0),
            _ => Err(format!("a live source has no such frame; say its number, 0 to {LAST_PROMPTED}")),
        };
        let prompts = by_video.remove(LIVE).unwrap_or_default();
        let (objects, shapes) = objects_of(LIVE, prompts, (self.width, self.height), frame)?;
        let mut prompted: Vec<usize> = objects.iter().map(|o| o.prompt_frame).collect();
        prompted.sort_unstable();
        prompted.dedup();
        if prompted.len() > MOST_PROMPTED {
            return Err(fail(format!(
                "prompts on {} frames of a live source; such frames wait in memory, so at most {MOST_PROMPTED} may have one",
                prompted.len()
            )));
        }
        let sequence = Sequence {
            name: LIVE.to_string(),
            frames: Vec::new(),
            objects,
            fps: fps.unwrap_or(0.0),
            times: None,
            width: self.width,
            height: self.height,
            guide: Guide::Prompts(Arc::from(shapes)),
            video: None,
            witness: None,
            findings: Vec::new(),
        };
        Ok(Dataset {
            root,
            layout: LIVE,
            kind: Layout::Plain,
            sequences: vec![sequence],
            categories: Categories::default(),
            findings: Vec::new(),
        })
    }
}

/// Names of the frames of a live source, once it is known how many came; there are no files.
pub(crate) fn frames(count: usize) -> Vec<FrameFile> {
    (0..count).map(|i| FrameFile { name: format!("{i:05}"), path: PathBuf::new() }).collect()
}

/// For whoever needs files.
///
/// # Errors
/// The path is the address of a live source, which is shown without its credentials.
pub(crate) fn refuse(root: &Path) -> Result<(), DataError> {
    match Address::of(root) {
        None => Ok(()),
        Some(Err(what)) => Err(DataError(what)),
        Some(Ok(address)) => Err(DataError(format!(
            "{}: a live source, and files are needed here: only a run (`jetbench --data`) with prompts of your own reads one",
            address.shown()
        ))),
    }
}
