//! The types written to `run.json`, with their schema number: everything a reader needs to judge a measurement. A
//! quantity that was not measured is `None` (an empty CSV field), never 0.

mod agreement;
mod figures;
mod forecast;
mod found;
mod labels;
mod prompt;
mod runtime;
mod sequence;
mod taken;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use jetbench_runners::types::{Admitted, Dtype, Effective, PromptKind, StagePrecision};

use crate::dataset::LIVE;
pub use crate::plan::scenario::Scenario;
use crate::plan::shard::Shard;
use crate::results::disturbance::Disturbance;
use crate::results::note::{Note, Reason, ReasonKind};
use crate::telemetry::key::{Channel, MemoryPhase};
pub use agreement::AgreementRecord;
pub use figures::*;
pub(crate) use forecast::mib;
pub use forecast::{CellForecast, Estimate, Forecast, ForecastRecord, Taken};
pub use found::{DetectorRecord, FoundRecord, FoundSummary, FoundTrackRecord};
pub use labels::{LabelPackRecord, LabelSummary, LabelsRecord, ObjectLabelRecord, shown as shown_label};
pub use prompt::PromptRecord;
pub use runtime::RuntimeRecord;
pub use sequence::*;
pub use taken::{TakenRecord, TakenSummary};

/// Schema number of `run.json`; raised on every incompatible change. `results/upgrade.rs` reads older ones.
pub const SCHEMA: u32 = 2;

/// One run: what was asked, where it ran, what came out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Directory name of the run, unique per device: `20261121T093000Z-048213`.
    pub run_id: String,
    /// RFC 3339, UTC.
    pub started: String,
    /// RFC 3339, UTC; `None` while unfinished.
    pub finished: Option<String>,
    /// jetbench's version.
    pub version: String,
    /// Command line as typed.
    pub argv: Vec<String>,
    /// Every setting in effect, defaults included, by name.
    pub settings: BTreeMap<String, serde_json::Value>,
    /// Dataset under test.
    pub data: DataRecord,
    /// Device under test.
    pub device: DeviceRecord,
    /// One entry per cell, in plan order.
    pub cells: Vec<CellRecord>,
    /// Why the run stopped early (`interrupted`), if it did.
    pub stopped: Option<String>,
    /// Where there is no ground truth: how alike the masks of its valid cells are, two by two.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agreement: Vec<AgreementRecord>,
    /// What the harness itself costs per frame, measured in this run.
    #[serde(default)]
    pub null_run: Option<NullRunRecord>,
    /// What it was estimated to take, and what it took; `None` where no earlier run told anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<ForecastRecord>,
    /// What else tells where these figures come from.
    #[serde(default)]
    pub origin: Origin,
}

impl RunRecord {
    /// How results were scored, in words: objects that a detector found have protocols of their own.
    pub fn scoring(&self) -> String {
        let segments = self.cells.iter().filter_map(|cell| cell.summary.as_ref()).any(|s| s.panoptic().is_some());
        let of_found = match segments {
            true => "davis2017-unsup, ytvis, hota and vipseg",
            false => "davis2017-unsup, ytvis and hota",
        };
        let found = self.cells.iter().filter(|cell| cell.detector.is_some()).count();
        match (self.data.has_truth(), found) {
            (true, n) if n > 0 && n == self.cells.len() => format!("scored as {of_found}"),
            (true, n) if n > 0 => format!("{}, without prompts as {of_found}", self.data.scoring()),
            _ => self.data.scoring(),
        }
    }
}

/// Where a run's figures come from, beyond its settings: what is needed to take it up again, to join it with others and
/// to see that nothing has changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// Working directory, in which relative paths of the settings hold.
    pub directory: String,
    /// SHA-256 of the program file.
    pub program_sha256: String,
    /// SHA-256 over everything that decides the figures but the machine: program, packs, data, settings. Equal digests:
    /// the same measurement.
    pub job_sha256: String,
    /// The part of the dataset that this run did; `None`: all of it.
    pub shard: Option<Shard>,
    /// Every time it was taken up again after an interruption.
    pub resumed: Vec<ResumeRecord>,
    /// The runs that it was joined from.
    pub parts: Vec<PartRecord>,
}

/// One `--resume`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResumeRecord {
    /// RFC 3339, UTC.
    pub at: String,
    /// Finished sequences over all cells that were kept.
    pub kept: usize,
}

/// One run that a joined record was made from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartRecord {
    /// Its id.
    pub run_id: String,
    /// Its part of the dataset.
    pub shard: Option<Shard>,
    /// Its device.
    pub device: String,
    /// Digest of its device.
    pub device_digest: String,
}

/// The harness without a model: the scripted runner with zero latency on frames that are already decoded, through the
/// same loop as every cell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NullRunRecord {
    /// Frames.
    pub frames: usize,
    /// Objects on each.
    pub objects: usize,
    /// Frame width in pixels.
    pub width: u32,
    /// Frame height in pixels.
    pub height: u32,
    /// Median time from one frame's start to the next, microseconds.
    pub median_us: f64,
    /// 95th percentile of the same.
    pub p95_us: f64,
}

/// Dataset as planned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataRecord {
    /// Root directory as given.
    pub root: String,
    /// Layout detected: `sa-v`, `davis2017`, …
    pub layout: String,
    /// Scoring protocol: `sav`, `vos`, …; empty where there is no ground truth.
    pub protocol: String,
    /// Sequences in the plan.
    pub videos: usize,
    /// Objects in the plan.
    pub objects: usize,
    /// Frames in the plan; 0 for a live source, of which it is not known before they have come.
    pub frames: usize,
    /// SHA-256 over the names, sizes, frames and annotated objects of all videos, those of other parts included. It says
    /// that the lists are the same, not that every pixel is.
    #[serde(default)]
    pub list_sha256: String,
    /// Names of all videos, in order, those of other parts included.
    #[serde(default)]
    pub list: Vec<String>,
    /// What their files held when the run was planned, in the order of `list`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub planned: Vec<PlannedContent>,
    /// SHA-256 over every frame and annotation that was read, of this part: what the figures are of. Empty while that is not known.
    #[serde(default)]
    pub content_sha256: String,
    /// SHA-256 over the prompts that the user gave; empty where they were made from ground truth.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prompts_sha256: String,
}

impl DataRecord {
    /// Is there ground truth, so that accuracy can be measured?
    pub fn has_truth(&self) -> bool {
        self.prompts_sha256.is_empty()
    }

    /// Did the frames come from a live source, so that they cannot be had again?
    pub fn is_live(&self) -> bool {
        self.layout == LIVE
    }

    /// How results were scored, in words.
    pub fn scoring(&self) -> String {
        match self.has_truth() {
            true => format!("scored as {}", self.protocol),
            false if self.objects == 0 => "no ground truth, not scored".to_string(),
            false => "own prompts, not scored".to_string(),
        }
    }
}

/// What the files of one video held when a run was planned; what is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlannedContent {
    /// SHA-256 over a sample of each frame file: its size, and its bytes at four places (of files up to 16 KiB all). The same on every machine.
    pub frames_sample: String,
    /// SHA-256 over paths, sizes, times and inodes of the frame files: while it is the same, `frames_sha256` of the sequences is too. Empty
    /// where a file had just been written.
    pub frames_stamp: String,
    /// SHA-256 over all annotation files in use.
    pub truth_sha256: String,
}

/// Device under test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// Directory name under `results/`: board or host model, lower case, no spaces.
    pub name: String,
    /// Short digest over the fields that make latencies comparable.
    pub digest: String,
    /// Facts by name: `cpu`, `cores`, `memory_mib`, `kernel`, `l4t`, `power_mode`, `onnxruntime`, …
    pub facts: BTreeMap<String, String>,
}

/// May the figures of a cell be used?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Verdict {
    /// Yes.
    Valid,
    /// They were measured, but these reasons forbid their use.
    Invalid {
        /// Every rule that was broken.
        reasons: Vec<Reason>,
    },
    /// There are none, or not all.
    Failed {
        /// What went wrong.
        error: String,
        /// Phase reached: `spawn`, `load`, `warmup`, `track`, `score`.
        phase: String,
    },
}

impl Verdict {
    /// `valid`, `invalid`, `failed`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Verdict::Valid => "valid",
            Verdict::Invalid { .. } => "invalid",
            Verdict::Failed { .. } => "failed",
        }
    }

    /// Has it come to an end? A cell that failed or did not do all can be taken up again.
    pub fn is_final(&self) -> bool {
        match self {
            Verdict::Valid => true,
            Verdict::Invalid { reasons } => !reasons.iter().any(|r| r.kind == ReasonKind::Incomplete),
            Verdict::Failed { .. } => false,
        }
    }

    /// Reasons or error as one line; empty for `Valid`.
    pub fn reasons(&self) -> String {
        match self {
            Verdict::Valid => String::new(),
            Verdict::Invalid { reasons } => reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            Verdict::Failed { error, phase } => format!("{phase}: {error}"),
        }
    }
}

/// One model tag x precision x device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellRecord {
    /// Model tag as asked for: `sam2_points`.
    pub model: String,
    /// Pack id that the tag resolved to: `sam2_mini`.
    pub pack: String,
    /// SHA-256 over the pack's manifest; with a detector or a label pack those of all, `+` between.
    pub pack_digest: String,
    /// The detector that founds the tracks, or the pack itself where it finds and tracks; `None` where objects are prompted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detector: Option<DetectorRecord>,
    /// The label pack that names its objects; `None`: nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<LabelPackRecord>,
    /// The model that the pack only stands in for (`SAM 2`), where it is a test model; `None` in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_model_of: Option<String>,
    /// Licence of the pack; empty in older records, and where its manifest has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub licence: String,
    /// Prompt kind.
    pub prompt: PromptKind,
    /// Precision asked for.
    pub dtype: Dtype,
    /// Precision in effect, in words; `None` when the cell never loaded. One phrase when all graphs agree.
    pub effective_dtype: Option<String>,
    /// Device asked for (and used: there is no fallback).
    pub device: String,
    /// Verdict.
    pub verdict: Verdict,
    /// What disturbed the measurement, each kind once; the notes of the same kinds say what was seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disturbed: Vec<Disturbance>,
    /// Was it, or one of its repeats, broken off from outside before it had done all? Its verdict is then `failed`, through no
    /// fault of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// Precision per graph, with evidence.
    pub precision: Vec<StagePrecision>,
    /// Options passed and dropped.
    pub options: Admitted,
    /// ONNX Runtime version and library.
    pub runtime: Option<RuntimeRecord>,
    /// Load time per graph, milliseconds; the first one's overlaps with the others' where it is loaded beside them (a note says so).
    pub graph_load_ms: Vec<(String, f64)>,
    /// Engine build time per graph, milliseconds, not part of its load time; `None` when no engine was built.
    #[serde(default)]
    pub graph_build_ms: Option<Vec<(String, f64)>>,
    /// Whole load, milliseconds.
    pub load_ms: Option<f64>,
    /// Warm-up result.
    pub warmup: Option<WarmupRecord>,
    /// Memory by phase and source, MiB.
    pub memory: BTreeMap<MemoryPhase, MemoryRecord>,
    /// Energy over the tracked sequences by rail, joules, each rail under the board's own name; never added up.
    #[serde(default)]
    pub energy_j: BTreeMap<String, f64>,
    /// The same less the idle power of each rail times the same spans.
    #[serde(default)]
    pub energy_above_idle_j: BTreeMap<String, f64>,
    /// Mean power by rail before the worker was started, watts.
    #[serde(default)]
    pub idle_power_w: BTreeMap<String, f64>,
    /// Which sensors were read, which were not and why, and what could therefore not be judged.
    #[serde(default)]
    pub sensors: SensorsRecord,
    /// How frames were offered.
    #[serde(default)]
    pub scenario: Scenario,
    /// Graphs that ran elsewhere than asked, in words.
    #[serde(default)]
    pub fallbacks: Vec<String>,
    /// Every repeat of this cell, the first included, in fresh processes; empty when there was one only.
    #[serde(default)]
    pub repeats: Vec<RepeatRecord>,
    /// Resident set size of the worker while tracking: video, frames done, MiB.
    #[serde(default)]
    pub memory_curve: Vec<MemoryPoint>,
    /// Worker wall time over the tracked sequences, decode included, seconds.
    pub track_wall_s: Option<f64>,
    /// Finished sequences.
    pub sequences: Vec<SequenceRecord>,
    /// Aggregates over `sequences`; `None` when nothing was finished.
    pub summary: Option<SummaryRecord>,
    /// Remarks for the reader, each with a remedy where there is one.
    pub notes: Vec<Note>,
}

impl CellRecord {
    /// `sam2_points bf16 cpu`: how a cell is named in messages.
    pub fn label(&self) -> String {
        format!("{} {} {}", self.model, self.dtype, self.device)
    }

    /// [`Verdict::is_final`].
    pub fn is_final(&self) -> bool {
        self.verdict.is_final()
    }

    /// The verdict in words: `valid, disturbed` where figures may be used and something disturbed them, `interrupted` where a
    /// failure is none of the cell's own.
    pub fn verdict_words(&self) -> &'static str {
        match self.verdict {
            Verdict::Failed { .. } if self.interrupted => "interrupted",
            Verdict::Valid if !self.disturbed.is_empty() => "valid, disturbed",
            _ => self.verdict.as_str(),
        }
    }

    /// Is its verdict one that another run of the same job may not get: invalid or disturbed by what passes?
    pub fn passes(&self) -> bool {
        let reasons = match &self.verdict {
            Verdict::Invalid { reasons } => reasons.as_slice(),
            _ => &[],
        };
        reasons.iter().any(|r| r.kind.passes()) || self.disturbed.iter().any(|d| d.passes())
    }

    /// Finished sequences of every repeat, with its number from 1; of the one run where there was one only.
    pub fn runs(&self) -> impl Iterator<Item = (u32, &[SequenceRecord])> {
        let others = self.repeats.iter().filter(|r| !r.sequences.is_empty());
        std::iter::once((1, self.sequences.as_slice())).chain(others.map(|r| (r.repeat, r.sequences.as_slice())))
    }

    /// Every tracked frame of every repeat.
    pub fn frames(&self) -> impl Iterator<Item = &FrameRecord> {
        self.runs().flat_map(|(_, sequences)| sequences).flat_map(|s| &s.frames)
    }

    /// Was any graph computed in an emulated precision?
    pub fn emulated(&self) -> bool {
        self.precision.iter().any(|stage| stage.kind == Effective::Emulated)
    }
}

impl Default for CellRecord {
    /// A cell to which nothing has happened yet.
    fn default() -> Self {
        CellRecord {
            model: String::new(),
            pack: String::new(),
            pack_digest: String::new(),
            detector: None,
            labels: None,
            test_model_of: None,
            licence: String::new(),
            prompt: PromptKind::Points,
            dtype: Dtype::Bf16,
            effective_dtype: None,
            device: String::new(),
            verdict: Verdict::Failed { error: "interrupted before it started".into(), phase: "spawn".into() },
            disturbed: Vec::new(),
            interrupted: false,
            precision: Vec::new(),
            options: Admitted::default(),
            runtime: None,
            graph_load_ms: Vec::new(),
            graph_build_ms: None,
            load_ms: None,
            warmup: None,
            memory: BTreeMap::new(),
            energy_j: BTreeMap::new(),
            energy_above_idle_j: BTreeMap::new(),
            idle_power_w: BTreeMap::new(),
            sensors: SensorsRecord::default(),
            scenario: Scenario::default(),
            fallbacks: Vec::new(),
            repeats: Vec::new(),
            memory_curve: Vec::new(),
            track_wall_s: None,
            sequences: Vec::new(),
            summary: None,
            notes: Vec::new(),
        }
    }
}

/// A sensor that gave nothing, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingRecord {
    /// Its name.
    pub sensor: String,
    /// The reason.
    pub reason: String,
}

/// What the sensors could tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SensorsRecord {
    /// Quantities that were read.
    pub read: Vec<Channel>,
    /// Sources and quantities that were not, or not always.
    pub missing: Vec<MissingRecord>,
    /// What could not be judged for lack of sensors; it is not known to be clean.
    pub unjudged: Vec<String>,
}

/// One repeat of a cell in a process of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RepeatRecord {
    /// Number, from 1.
    pub repeat: u32,
    /// Its verdict.
    pub verdict: Verdict,
    /// What disturbed it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disturbed: Vec<Disturbance>,
    /// Whole load, milliseconds.
    pub load_ms: Option<f64>,
    /// From the start of loading to the first masks, milliseconds.
    pub first_mask_ms: Option<f64>,
    /// Its own aggregates.
    pub summary: Option<SummaryRecord>,
    /// Its energy over the tracked sequences per rail, joules.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub energy_j: BTreeMap<String, f64>,
    /// The same without what the machine drew when idle before it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub energy_above_idle_j: BTreeMap<String, f64>,
    /// Idle power per rail before it, watts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub idle_power_w: BTreeMap<String, f64>,
    /// Its sequences with every frame; empty for the first repeat, whose sequences are the cell's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sequences: Vec<SequenceRecord>,
}

/// Single-frame warm-up with the admitted options.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WarmupRecord {
    /// Did one whole frame run?
    pub frame_ok: bool,
    /// Why not.
    pub frame_error: Option<String>,
    /// When the frame failed: did opening alone work?
    pub load_only_ok: Option<bool>,
    /// Why not.
    pub load_only_error: Option<String>,
    /// Wall time of the warm-up frames, milliseconds.
    pub warmup_ms: Option<f64>,
    /// From the start of loading to the masks of the first frame, milliseconds: what a user of a fresh process waits.
    #[serde(default)]
    pub first_mask_ms: Option<f64>,
    /// Mask faults: `empty`, `full`, `non-finite`, each with its object.
    pub faults: Vec<String>,
}

/// Named memory figures in MiB; never add two of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryRecord {
    /// Fall of the system's MemAvailable since before the worker was spawned: the headline on unified memory. Empty where
    /// it is less than the worker's own anonymous memory: then other memory was freed meanwhile, and it says nothing.
    pub system_mib: Option<f64>,
    /// Proportional set size of the worker (`smaps_rollup`).
    pub pss_mib: Option<f64>,
    /// The part of it that no file backs, where the kernel tells.
    #[serde(default)]
    pub pss_anon_mib: Option<f64>,
    /// What of the worker lies in huge pages (`AnonHugePages`).
    #[serde(default)]
    pub huge_mib: Option<f64>,
    /// Resident set size of the worker (`VmRSS`; in phase `peak`: `VmHWM`).
    pub rss_mib: Option<f64>,
    /// All buffers of Tegra's memory manager (`NvMapMemUsed`), where the kernel reports them.
    #[serde(default)]
    pub nvmap_mib: Option<f64>,
    /// The worker's own buffers in it, where root may read them.
    #[serde(default)]
    pub nvmap_worker_mib: Option<f64>,
    /// The worker's memory on NVIDIA GPUs that have memory of their own, by NVML's list of processes; in phase `peak` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_mib: Option<f64>,
}

impl MemoryRecord {
    /// Raises every figure to the other's where that is larger, or the only one.
    pub fn raise_to(&mut self, other: &MemoryRecord) {
        let larger = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).max_by(f64::total_cmp);
        *self = MemoryRecord {
            system_mib: larger(self.system_mib, other.system_mib),
            pss_mib: larger(self.pss_mib, other.pss_mib),
            pss_anon_mib: larger(self.pss_anon_mib, other.pss_anon_mib),
            huge_mib: larger(self.huge_mib, other.huge_mib),
            rss_mib: larger(self.rss_mib, other.rss_mib),
            nvmap_mib: larger(self.nvmap_mib, other.nvmap_mib),
            nvmap_worker_mib: larger(self.nvmap_worker_mib, other.nvmap_worker_mib),
            gpu_mib: larger(self.gpu_mib, other.gpu_mib),
        };
    }
}

/// Resident set size of the worker after so many frames of a video.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryPoint {
    /// Video name.
    pub video: String,
    /// Frames of it tracked so far.
    pub frames: u32,
    /// Resident set size, MiB.
    pub rss_mib: f64,
}
