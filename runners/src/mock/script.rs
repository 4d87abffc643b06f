//! What does a mock pack pretend? Its `pack.toml` as types, and the faults that a script can call up.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use crate::host::options::STAGE_TIMES;
use crate::manifest;
use crate::pack::read_text;
use crate::runner::RunnerError;
use crate::types::{AssociationCounts, Dtype, PromptKind};

/// A mock pack's `pack.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Script {
    pub(super) schema: u32,
    pub(super) id: String,
    #[serde(rename = "family")]
    pub(super) _family: String,
    #[serde(default, rename = "description")]
    pub(super) _description: String,
    #[serde(default, rename = "licence")]
    pub(super) _licence: String,
    #[serde(default)]
    pub(super) mock: Behaviour,
    #[serde(default, rename = "detector")]
    pub(super) _detector: Option<toml::Table>,
    #[serde(default, rename = "segmenter")]
    pub(super) _segmenter: Option<toml::Table>,
}

/// What the runner pretends to be.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Behaviour {
    pub(super) prompts: Vec<PromptKind>,
    pub(super) precisions: Vec<Dtype>,
    /// Option names it knows; others are dropped by the caller.
    pub(super) options: Vec<String>,
    pub(super) max_objects: Option<u32>,
    pub(super) max_points: u32,
    /// Sleep while opening, milliseconds.
    pub(super) load_ms: f64,
    /// Sleep per frame, milliseconds, used in turn.
    pub(super) frame_ms: Vec<f64>,
    /// Sleep per frame at which a detector looks (option `detect_every`), milliseconds.
    pub(super) detector_ms: f64,
    /// How unsteady those times are: relative standard deviation from frame to frame, and from process to process.
    pub(super) jitter: [f64; 2],
    /// Object scores per frame, used in turn.
    pub(super) object_scores: Vec<f32>,
    /// Movement of the prompted shape per frame, pixels.
    pub(super) motion: [f32; 2],
    /// Effective precision to claim; the requested one when absent.
    pub(super) effective: Option<String>,
    /// Bytes kept per frame and never given back, to test the flatness check.
    pub(super) leak_bytes: usize,
    /// Graph that it claims to run on another provider, in words.
    pub(super) fallback: Option<String>,
    pub(super) fault: Vec<ScriptedFault>,
    /// What is tracked beside a detector; ids are their places, from 1.
    pub(super) track: Vec<ScriptedTrack>,
    /// What the association is said to have counted.
    pub(super) counts: AssociationCounts,
}

impl Default for Behaviour {
    fn default() -> Self {
        Behaviour {
            prompts: PromptKind::ALL.to_vec(),
            precisions: Dtype::ALL.to_vec(),
            options: vec!["threads".to_string(), STAGE_TIMES.to_string()],
            max_objects: None,
            max_points: 4,
            load_ms: 0.0,
            frame_ms: vec![0.0],
            detector_ms: 0.0,
            jitter: [0.0, 0.0],
            object_scores: vec![5.0],
            motion: [0.0, 0.0],
            effective: None,
            leak_bytes: 0,
            fallback: None,
            fault: Vec::new(),
            track: Vec::new(),
            counts: AssociationCounts { detector_frames: 1, detections: 1, ..AssociationCounts::default() },
        }
    }
}

/// A track that a detector founds.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScriptedTrack {
    pub(super) birth: u32,
    /// The first frame that is no longer its own.
    pub(super) end: Option<u32>,
    /// First and last column and row on the frame of birth, inclusive.
    pub(super) r#box: [f32; 4],
    /// A mask is given for so many frames after its end, too; the caller must leave those out.
    #[serde(default)]
    pub(super) beyond: u32,
    /// Of one that is not, masks are given until `end` all the same.
    #[serde(default = "yes")]
    pub(super) confirmed: bool,
    /// Pixels per frame; those of the pack where it says none.
    pub(super) motion: Option<[f32; 2]>,
    #[serde(default = "full")]
    pub(super) score: f64,
    #[serde(default)]
    pub(super) label: u32,
}

fn yes() -> bool {
    true
}

fn full() -> f64 {
    1.0
}

/// Something that goes wrong. Without `step` and `frame` it happens while opening.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScriptedFault {
    /// Frames since opening: 0 is the warm-up frame.
    pub(super) step: Option<u64>,
    /// Frames since the last reset, in every sequence.
    pub(super) frame: Option<u64>,
    /// Only for this object; all when absent.
    pub(super) object: Option<u32>,
    pub(super) kind: FaultKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FaultKind {
    /// No foreground pixel.
    Empty,
    /// Nothing but foreground.
    Full,
    /// `finite` is false and the score is NaN.
    NonFinite,
    /// An [`RunnerError::Inference`] (opening: [`RunnerError::Environment`]).
    Error,
    /// A Rust panic.
    Panic,
    /// The process ends at once, as on a native crash.
    Abort,
    /// The process is killed from outside, as by the kernel when memory runs out.
    Kill,
    /// Asks for more memory than there is.
    OutOfMemory,
    /// The process is stopped from outside for a quarter of a second.
    Stop,
    /// Goes on when a file `go` lies in the current directory: a test says when.
    Wait,
    /// Never returns.
    Hang,
}

pub(super) fn read(dir: &Path) -> Result<Script, RunnerError> {
    let at = dir.join(manifest::FILE_NAME);
    let wrong = |e: String| RunnerError::Pack(format!("{}: {e}", at.display()));
    let script: Script = toml::from_str(&read_text(dir)?).map_err(|e| wrong(e.to_string()))?;
    if script.schema != manifest::SCHEMA {
        return Err(wrong(format!("schema = {}, this program reads schema {}", script.schema, manifest::SCHEMA)));
    }
    manifest::check_id(&script.id).map_err(wrong)?;
    if script.mock.frame_ms.is_empty() || script.mock.object_scores.is_empty() {
        return Err(wrong("mock.frame_ms and mock.object_scores need at least one entry".to_string()));
    }
    if script.mock.frame_ms.iter().chain([&script.mock.load_ms]).any(|ms| !(0.0..=3_600_000.0).contains(ms)) {
        return Err(wrong("mock: times from 0 to 3600000 ms expected".to_string()));
    }
    if script.mock.jitter.iter().any(|sigma| !(0.0..=1.0).contains(sigma)) {
        return Err(wrong("mock.jitter: two shares from 0 to 1 expected".to_string()));
    }
    Ok(script)
}

impl FaultKind {
    /// The faults that do not return a mask; `Err` carries the text of the error kind.
    pub(super) fn happen(self, when: &str) -> Result<(), String> {
        match self {
            FaultKind::Error => Err(format!("mock fault: error at {when}")),
            FaultKind::Panic => panic!("mock fault: panic at {when}"),
            FaultKind::Abort => std::process::abort(),
            FaultKind::Kill => {
                let me = std::process::id().to_string();
                let _ = std::process::Command::new("kill").args(["-KILL", &me]).status();
                Err("mock fault: could not kill itself".to_string())
            }
            FaultKind::OutOfMemory => {
                let hoard: Vec<u8> = Vec::with_capacity(isize::MAX as usize);
                Err(format!("mock fault: {} bytes were there", std::hint::black_box(hoard).capacity()))
            }
            FaultKind::Stop => {
                let id = std::process::id();
                let script = format!("kill -STOP {id}; sleep 0.25; kill -CONT {id}");
                let done = std::process::Command::new("/bin/sh").arg("-c").arg(script).status();
                done.map(drop).map_err(|e| format!("mock fault: no shell to stop the process: {e}"))
            }
            FaultKind::Wait => {
                while !Path::new("go").exists() {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Ok(())
            }
            FaultKind::Hang => loop {
                std::thread::sleep(Duration::from_secs(3600));
            },
            FaultKind::Empty | FaultKind::Full | FaultKind::NonFinite => Ok(()),
        }
    }
}
