//! What parent and worker say to each other: one [`Job`] as JSON on the worker's stdin, then one [`Event`] per line on
//! its stdout. Nothing else may appear there; the parent takes any other line as a failed worker.

use std::path::PathBuf;

use jetbench_runners::RunnerError;
use jetbench_runners::types::{
    Device, Dtype, FoundTracks, OpenReport, OpenRequest, Options, PromptKind, StagePrecision, TakenTracks, TrackLabels,
};
use serde::{Deserialize, Serialize};

use crate::dataset::live::Secret;
use crate::dataset::{Layout, Live, UserPrompts};
use crate::plan::content::ReadContent;
use crate::plan::resolve::Cell;
use crate::plan::scenario::Scenario;
use crate::plan::settings::Limits;
use crate::plan::{self, Plan};
use crate::results::record::{LiveRecord, NullRunRecord, StallRecord, WarmupRecord};
use crate::run::prompt::GivenPrompt;
use crate::telemetry::key::MemoryPhase;
use crate::telemetry::process::ProcessMemory;

/// Raised on every change of these types; parent and worker are the same program, so a difference is a mistake.
pub const PROTOCOL: u32 = 13;

/// Everything a worker needs to know about its cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Pack directory.
    pub pack: PathBuf,
    /// Directory of the detector's pack.
    pub detector: Option<PathBuf>,
    /// Directory of the label pack.
    pub labels: Option<PathBuf>,
    /// Digests of the packs that were planned, in the order of these three; others are refused.
    pub pack_digests: Vec<String>,
    /// The libraries that it loads, with the SHA-256 of the planned ones; others are refused.
    pub libraries: Vec<(PathBuf, String)>,
    /// How objects are prompted.
    pub prompt: PromptKind,
    /// Clicks per object, for points.
    pub clicks: usize,
    /// Precision asked for.
    pub dtype: Dtype,
    /// Device asked for.
    pub device: Device,
    /// Options that the runner's capabilities admitted.
    pub options: Options,
    /// `--ort-lib`.
    pub ort_lib: Option<PathBuf>,
    /// The plugin library that offers the device.
    pub ep_library: Option<PathBuf>,
    /// Dataset root.
    pub data: PathBuf,
    /// Its layout, where the user says it.
    pub layout: Option<Layout>,
    /// Prompts of the user's own.
    pub prompts: Option<UserPrompts>,
    /// Where `data` is a live source: what is known of it.
    pub live: Option<Live>,
    /// Its address, which [`Live`] does not pass on.
    pub address: Secret,
    /// Descriptor of the pipe of frames that this process was given.
    pub pipe: Option<i32>,
    /// Longest silence: while the source begins, and of a running one; seconds.
    pub patience_s: (f64, f64),
    /// Which part of it.
    pub limits: Limits,
    /// Indices of sequences that an earlier worker finished.
    pub skip: Vec<usize>,
    /// Track on after a faulty warm-up mask.
    pub keep_going: bool,
    /// Loop each clip to this many frames.
    pub loop_frames: Option<usize>,
    /// How frames are offered.
    pub scenario: Scenario,
    /// Frames per second of the clock; the clip's own when left out.
    pub fps: Option<f64>,
    /// Measure the harness itself and nothing else: no pack is opened.
    pub null_run: bool,
    /// Existing directory for the spool files, one per sequence: `<index>.spool`.
    pub spool: PathBuf,
}

impl Job {
    /// The job of `cell`; `skip` names the sequences that an earlier worker finished.
    pub fn new(plan: &Plan, cell: &Cell, spool: PathBuf, skip: Vec<usize>) -> Job {
        let settings = &plan.settings;
        Job {
            protocol: PROTOCOL,
            pack: cell.pack.dir.clone(),
            detector: cell.detector.as_ref().map(|pack| pack.dir.clone()),
            labels: cell.labels.as_ref().map(|pack| pack.dir.clone()),
            pack_digests: cell.packs().map(|pack| pack.digest.clone()).collect(),
            libraries: cell.libraries.clone(),
            prompt: cell.prompt,
            clicks: plan::options::clicks(&cell.pack, settings),
            dtype: cell.dtype,
            device: cell.device,
            options: plan::options::given(settings, cell),
            ort_lib: plan.ort_lib.clone(),
            ep_library: cell.offered.as_ref().map(|offered| offered.library.clone()),
            data: settings.data.clone(),
            layout: settings.layout,
            prompts: settings.prompts.clone(),
            live: settings.live.clone(),
            address: settings.live.as_ref().map(|live| live.address.clone()).unwrap_or_default(),
            pipe: None,
            patience_s: plan::live::patience_s(settings),
            limits: settings.limits,
            skip,
            keep_going: settings.keep_going,
            loop_frames: settings.loop_frames,
            scenario: settings.scenario,
            fps: settings.fps,
            null_run: false,
            spool,
        }
    }

    /// As [`Cell::finds`].
    pub fn finds(&self) -> bool {
        self.prompt == PromptKind::Detector
    }

    /// How its runner is opened.
    pub fn request(&self) -> OpenRequest {
        OpenRequest {
            pack: self.pack.clone(),
            detector: self.detector.clone(),
            prompted: !self.finds(),
            dtype: self.dtype,
            device: self.device,
            options: self.options.clone(),
            ort_lib: self.ort_lib.clone(),
            ep_library: self.ep_library.clone(),
        }
    }
}

/// How far a worker has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Being started.
    Spawn,
    /// Running, nothing opened: the memory of an idle worker.
    Idle,
    /// Opening the runner.
    Load,
    /// Runner open, no frame run.
    Loaded,
    /// Running the warm-up frame.
    Warmup,
    /// Warm-up frame done.
    Warmed,
    /// Tracking.
    Track,
    /// All sequences done.
    Last,
    /// In the parent: scoring.
    Score,
}

impl Phase {
    /// Name in records and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Spawn => "spawn",
            Phase::Idle => "idle",
            Phase::Load => "load",
            Phase::Loaded => "loaded",
            Phase::Warmup => "warmup",
            Phase::Warmed => "warmed",
            Phase::Track => "track",
            Phase::Last => "last",
            Phase::Score => "score",
        }
    }

    /// The moment at which the worker's memory is read when it enters this phase; most phases have none.
    pub fn memory(self) -> Option<MemoryPhase> {
        match self {
            Phase::Idle => Some(MemoryPhase::Idle),
            Phase::Loaded => Some(MemoryPhase::Loaded),
            Phase::Warmed => Some(MemoryPhase::Warmed),
            Phase::Last => Some(MemoryPhase::Last),
            _ => None,
        }
    }
}

/// Whose fault an error is; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultClass {
    /// Frames, annotations or pack files: exit 2.
    Input,
    /// Device, driver, runtime, file system: exit 3.
    Environment,
    /// The model while running, or the worker itself: exit 1.
    Inference,
}

impl From<&RunnerError> for FaultClass {
    fn from(error: &RunnerError) -> Self {
        match error {
            RunnerError::Pack(_) | RunnerError::Usage(_) => FaultClass::Input,
            RunnerError::Environment(_) => FaultClass::Environment,
            RunnerError::Inference(_) => FaultClass::Inference,
        }
    }
}

/// One line of a worker's stdout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// First line.
    Hello {
        /// [`PROTOCOL`].
        protocol: u32,
    },
    /// A phase is entered; memory is read by the worker itself at that moment, outside every timed span.
    Phase {
        /// Which.
        phase: Phase,
        /// Its memory.
        memory: ProcessMemory,
    },
    /// The runner is open.
    Loaded {
        /// Wall time of opening, milliseconds.
        load_ms: f64,
        /// What opening showed.
        report: OpenReport,
        /// Precision per graph.
        precision: Vec<StagePrecision>,
    },
    /// The warm-up frame was run, or not.
    Warmup {
        /// Result.
        record: WarmupRecord,
    },
    /// A sequence starts.
    SequenceStarted {
        /// Index in the plan.
        index: usize,
        /// Every prompt that is given in it.
        prompts: Vec<GivenPrompt>,
    },
    /// Sign of life between frames, a few times per second.
    Tick {
        /// Frames of this sequence done.
        frames: usize,
        /// Resident set size, MiB.
        rss_mib: Option<f64>,
    },
    /// The harness was measured.
    NullRun {
        /// Result.
        record: NullRunRecord,
    },
    /// A sequence is done, and its spool file is on disk.
    SequenceDone {
        /// Index in the plan.
        index: usize,
        /// Video name, as a cross-check.
        video: String,
        /// Source width in pixels.
        width: u32,
        /// Source height in pixels.
        height: u32,
        /// Frames tracked.
        frames: usize,
        /// Wall time, decode included, milliseconds.
        wall_ms: f64,
        /// Begin and end of that time on the monotonic clock, nanoseconds.
        span: (u64, u64),
        /// In real time: frames that the decoder brought late, and by how much at most, milliseconds.
        late: Option<(usize, f64)>,
        /// What was read of it.
        read: ReadContent,
        /// When this process stood still.
        stalls: Vec<StallRecord>,
        /// Of a live source.
        live: Option<LiveRecord>,
        /// The tracks that a detector founded, their frames those of the video.
        found: Option<FoundTracks>,
        /// The tracks that prompted objects took, their frames those of the video.
        taken: Option<TakenTracks>,
        /// What the objects are called.
        labels: Option<TrackLabels>,
    },
    /// The worker gives up; it exits after this line.
    Failed {
        /// Phase reached.
        phase: Phase,
        /// Whose fault.
        class: FaultClass,
        /// What went wrong.
        error: String,
    },
    /// All is done; the worker exits after this line.
    Finished,
}
