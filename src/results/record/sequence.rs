//! One video of a cell: its frames, its objects, their scores.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dataset::live::CaptureClock;
use crate::score::MoseScore;
use crate::text::plural;

use super::found::FoundRecord;
use super::labels::LabelsRecord;
use super::prompt::PromptRecord;
use super::taken::TakenRecord;

/// One tracked and scored video.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SequenceRecord {
    /// Video name.
    pub video: String,
    /// Source size in pixels.
    pub width: u32,
    /// Source size in pixels.
    pub height: u32,
    /// Wall time of the sequence in the worker, decode included, milliseconds.
    pub wall_ms: f64,
    /// Energy over it by rail, joules.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub energy_j: BTreeMap<String, f64>,
    /// The same less idle power times the same span.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub energy_above_idle_j: BTreeMap<String, f64>,
    /// SHA-256 over the frame files, taken from the bytes that were decoded; of a video file, of the file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub frames_sha256: String,
    /// SHA-256 over the annotation files; what was scored against is what was planned.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub truth_sha256: String,
    /// Frames per second of the clip: its deadline, and in real time its clock.
    #[serde(default)]
    pub fps: Option<f64>,
    /// Time from each frame to the next, milliseconds, where a video file's time stamps are uneven; a looped clip begins anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deadlines_ms: Vec<f64>,
    /// Frames that were dropped because they came while another was being worked on; they keep the masks before them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<u32>,
    /// Where its frames came from a live source: what is known of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<LiveRecord>,
    /// One entry per tracked frame.
    pub frames: Vec<FrameRecord>,
    /// One entry per object.
    pub objects: Vec<ObjectRecord>,
    /// What a detector founded; `None` where objects are prompted. Then `objects` are those of the truth, without scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<FoundRecord>,
    /// Births for which the model had no slot, where prompted objects take the tracks that it finds itself; `None` elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped_births: Option<u32>,
    /// What its objects are called; `None` without a label pack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<LabelsRecord>,
    /// When the worker's process stood still.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stalls: Vec<StallRecord>,
    /// Where outputs were not finite, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub non_finite: Vec<String>,
}

/// How the frames of a live source came.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LiveRecord {
    /// Which clock `response_ms` counts from.
    pub clock: CaptureClock,
    /// Frames that came before tracking began, while the model was loaded; they were not offered to it.
    pub before: u64,
    /// Longest time between two offered frames, milliseconds; `None` with fewer than two.
    pub longest_gap_ms: Option<f64>,
    /// Why it ended before its time; `None`: it did not.
    pub cut: Option<String>,
}

impl LiveRecord {
    /// In words.
    pub fn words(&self) -> String {
        let before = match self.before {
            0 => String::new(),
            n => format!("; before tracking began, {} came and went", plural(n as usize, "frame", "frames")),
        };
        let gap =
            self.longest_gap_ms.map_or_else(String::new, |ms| format!("; longest time between two frames {ms:.0} ms"));
        format!("live source: ages of frames count from {}{before}{gap}", self.clock.words())
    }
}

/// A time in which the worker's process stood still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StallRecord {
    /// Since the begin of the video, milliseconds.
    pub at_ms: f64,
    /// How long, milliseconds.
    pub ms: f64,
    /// How much of it the kernel let it wait for a processor, milliseconds; otherwise it was stopped, or the machine was.
    pub waited_ms: f64,
}

/// Timing of one frame, milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FrameRecord {
    /// Index in the video, from 0.
    pub frame: u32,
    /// Live objects.
    pub objects: u32,
    /// Decode on the read-ahead thread; not part of `latency_ms`.
    pub decode_ms: f64,
    /// By stage name (`preprocess`, `image_encoder`, …); a stage that did not run is absent.
    pub stages_ms: BTreeMap<String, f64>,
    /// RGB bytes in host memory to binary masks at source resolution in host memory.
    pub latency_ms: f64,
    /// In real time: from the frame's arrival to its masks, waiting included; of a live source from its capture (see [`LiveRecord`]):
    /// the age of the frame when its masks are there. `None` also where the source did not say when the frame was captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_ms: Option<f64>,
}

/// One object: how it was prompted, and its scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectRecord {
    /// Object name in the dataset (folder name or id).
    pub object: String,
    /// Frame index of the prompt.
    pub prompt_frame: u32,
    /// The prompt as the model was given it on that frame. `None`: the loop (`--loop-frames`) ended before that frame, or
    /// the record was written before prompts were recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PromptRecord>,
    /// Frames that count under the protocol.
    pub frames_scored: u32,
    /// Mean J, 0..100; `None` when the protocol counts no frame of it.
    pub j: Option<f64>,
    /// Mean F, 0..100.
    pub f: Option<f64>,
    /// (J + F) / 2.
    pub jf: Option<f64>,
    /// MOSEv2's scores over the annotated frames without the first and last, as shares (0..1); `None` without ground truth, and in
    /// records from before they were computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mosev2: Option<MoseScore>,
    /// Per annotated frame.
    pub per_frame: Vec<FrameScoreRecord>,
    /// Where there is no ground truth: what the model said on each tracked frame of the first pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub track: Vec<TrackRecord>,
    /// The track that it took, where the model finds its tracks itself; `None` elsewhere, and of an object that was never prompted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<TakenRecord>,
}

/// What the model said of one object on one frame.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrackRecord {
    /// Index in the video, from 0.
    pub frame: u32,
    /// Object-score logit of the model; `None` when it was no finite number.
    pub object_score: Option<f32>,
    /// Pixels of its mask.
    pub area: u64,
}

/// Scores of one object on one annotated frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrameScoreRecord {
    /// Index in the video, from 0.
    pub frame: u32,
    /// J, 0..100.
    pub j: f64,
    /// F, 0..100.
    pub f: f64,
    /// Does the protocol count this frame?
    pub counted: bool,
    /// Is the object visible in the ground truth?
    pub visible: bool,
    /// Object-score logit of the model; `None` before its prompt, or when it was no finite number.
    pub object_score: Option<f32>,
}
