//! The vocabulary shared by the program that measures and the runners that are measured: frames, prompts, masks,
//! precisions, devices, options. Plain data, no ONNX Runtime: the root crate, the mock runner and the scorer can use
//! it without a runtime being present.

mod mask;
mod precision;
mod provider;
mod tracks;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use mask::Mask;
pub use precision::{Dtype, Effective, StagePrecision, UnknownDtype};
pub use provider::ProviderName;
pub use tracks::{
    AssociationCounts, ClassProbability, FoundTrack, FoundTracks, TakenTrack, TakenTracks, TrackLabel, TrackLabels,
};

/// Execution device: the provider and, for GPUs, its index. Written `cpu`, `cuda:0`, `tensorrt:0`,
/// `webgpu:0`, and `<name>:<n>` for the n-th device of another provider that a plugin library offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// ONNX Runtime's CPU execution provider.
    Cpu,
    /// CUDA execution provider on the GPU with this index.
    Cuda(u32),
    /// TensorRT execution provider on the GPU with this index.
    TensorRt(u32),
    /// WebGPU execution provider. There is one: which GPU it takes is decided below ONNX Runtime, see `host::webgpu`.
    WebGpu(u32),
    /// A device of a provider that only a plugin library offers, see `host::plugin`.
    Plugin(ProviderName, u32),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.pad("cpu"),
            Device::Cuda(i) => f.pad(&format!("cuda:{i}")),
            Device::TensorRt(i) => f.pad(&format!("tensorrt:{i}")),
            Device::WebGpu(i) => f.pad(&format!("webgpu:{i}")),
            Device::Plugin(name, i) => f.pad(&format!("{name}:{i}")),
        }
    }
}

/// A word that is no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown device `{0}`; known: cpu, cuda:N, tensorrt:N, webgpu:0 (N = GPU index, 0 if left out), and NAME:N of a library given with --ep-library"
)]
pub struct UnknownDevice(pub String);

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownDevice(word.to_string());
        let lower = word.trim().to_ascii_lowercase();
        let (name, index) = match lower.split_once(':') {
            Some((name, index)) => (name, Some(index.parse::<u32>().map_err(|_| unknown())?)),
            None => (lower.as_str(), None),
        };
        match (name, index) {
            ("cpu", None) => Ok(Device::Cpu),
            ("cuda", i) => Ok(Device::Cuda(i.unwrap_or(0))),
            ("tensorrt" | "trt", i) => Ok(Device::TensorRt(i.unwrap_or(0))),
            ("webgpu", i) => Ok(Device::WebGpu(i.unwrap_or(0))),
            ("cpu", Some(_)) => Err(unknown()),
            (name, Some(i)) => ProviderName::new(name).map(|name| Device::Plugin(name, i)).ok_or_else(unknown),
            _ => Err(unknown()),
        }
    }
}

/// As text in every record, so that a reader needs no table.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
serde_as_text!(Device);

/// One decoded frame: interleaved 8-bit RGB, rows from top to bottom, no padding.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `width * height * 3` bytes.
    pub rgb: &'a [u8],
}

/// What kind of prompt starts a track; the last part of a model tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum PromptKind {
    /// Positive clicks.
    Points,
    /// A tight bounding box.
    Bbox,
    /// A full mask.
    Mask,
    #[cfg_attr(test, schemars(skip))]
    /// A detector's boxes, found while tracking: nobody gives a prompt. No pack takes it by itself; see `packs::compose`.
    Detector,
}

impl PromptKind {
    /// Every kind that a user or the truth can give, in the order in which help texts list them.
    pub const ALL: [PromptKind; 3] = [PromptKind::Points, PromptKind::Bbox, PromptKind::Mask];

    /// Name used in records, and in model tags for those that can be given: `points`, `bbox`, `mask`, `detector`.
    pub const fn as_str(self) -> &'static str {
        match self {
            PromptKind::Points => "points",
            PromptKind::Bbox => "bbox",
            PromptKind::Mask => "mask",
            PromptKind::Detector => "detector",
        }
    }
}

impl fmt::Display for PromptKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A click in source pixels: the centre of pixel (column `x`, row `y`) is written `(x, y)`, as the references do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Click {
    /// Column in source pixels.
    pub x: f32,
    /// Row in source pixels.
    pub y: f32,
    /// Foreground click (label 1) or background click (label 0).
    pub positive: bool,
}

/// Where an object is, on the frame on which its track starts. Coordinates are source pixels.
#[derive(Clone, Debug, PartialEq)]
pub enum PromptShape {
    /// One or more clicks.
    Points(Vec<Click>),
    /// `[x_min, y_min, x_max, y_max]`: indices of the first and last foreground column and row, both inclusive.
    Bbox([f32; 4]),
    /// Foreground mask of the frame's size.
    Mask(Mask),
}

impl PromptShape {
    /// The kind of this prompt.
    pub fn kind(&self) -> PromptKind {
        match self {
            PromptShape::Points(_) => PromptKind::Points,
            PromptShape::Bbox(_) => PromptKind::Bbox,
            PromptShape::Mask(_) => PromptKind::Mask,
        }
    }

    /// Places in model pixels (of an input of `size` x `size`) and SAM's labels: 1 and 0 of positive and negative clicks, 2
    /// and 3 of a box's corners. A mask has none.
    pub fn points(&self, frame: Frame<'_>, size: u32) -> Vec<([f32; 2], i32)> {
        let scale = |at: f32, source: u32| (f64::from(at) * f64::from(size) / f64::from(source)) as f32;
        let point = |x: f32, y: f32, label: i32| ([scale(x, frame.width), scale(y, frame.height)], label);
        match self {
            PromptShape::Points(clicks) => clicks.iter().map(|c| point(c.x, c.y, i32::from(c.positive))).collect(),
            PromptShape::Bbox([x0, y0, x1, y1]) => vec![point(*x0, *y0, 2), point(*x1, *y1, 3)],
            PromptShape::Mask(_) => Vec::new(),
        }
    }
}

/// Starts the track of one object on the frame it is handed over with.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// Caller's number of the object; unique within a sequence.
    pub object: u32,
    /// Where it is.
    pub shape: PromptShape,
}

/// One object's result on one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectMask {
    /// Caller's number of the object.
    pub object: u32,
    /// Binary mask at source resolution.
    pub mask: Mask,
    /// Had the mask any pixel before pixels claimed by several objects were given to one of them?
    pub claimed: bool,
    /// Object-score logit: above 0 the model believes that the object is visible.
    pub object_score: f32,
    /// Predicted IoU of the chosen mask, 0..1; NaN where the prompt bypasses the decoder.
    pub predicted_iou: f32,
    /// Were all low-resolution logits, the score and the pointer finite?
    pub finite: bool,
}

/// Results of all live objects on one frame, in order of their first prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameMasks {
    /// One entry per live object.
    pub objects: Vec<ObjectMask>,
}

/// The stages of one frame; names are those of `frames.csv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Resize, normalise, upload.
    Preprocess,
    /// Image encoder session.
    ImageEncoder,
    /// Memory attention sessions, all objects.
    MemoryAttention,
    /// Mask decoder (and mask prompt) sessions, all objects.
    MaskDecoder,
    /// Memory encoder sessions, all objects.
    MemoryEncoder,
    /// Download, upscale, threshold, bookkeeping.
    Postprocess,
    /// Detector session with its resizing and its boxes, on the frames on which it looks.
    Detector,
    /// Which detection is which track: on the same frames, and what ends tracks on the others. Or which track is which prompted object.
    Association,
    /// Crops of tracks, for the names that they get after the sequence.
    Labels,
}

impl Stage {
    /// Every stage: those of a prompted run in pipeline order, then those of a detector, then that of labels.
    pub const ALL: [Stage; 9] = [
        Stage::Preprocess,
        Stage::ImageEncoder,
        Stage::MemoryAttention,
        Stage::MaskDecoder,
        Stage::MemoryEncoder,
        Stage::Postprocess,
        Stage::Detector,
        Stage::Association,
        Stage::Labels,
    ];

    /// Name used in column headings, without unit.
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Preprocess => "preprocess",
            Stage::ImageEncoder => "image_encoder",
            Stage::MemoryAttention => "memory_attention",
            Stage::MaskDecoder => "mask_decoder",
            Stage::MemoryEncoder => "memory_encoder",
            Stage::Postprocess => "postprocess",
            Stage::Detector => "detector",
            Stage::Association => "association",
            Stage::Labels => "labels",
        }
    }
}

/// Time spent per stage on one frame (all objects added up). Of fixed size, so that a frame allocates nothing for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageTimes([Duration; Stage::ALL.len()]);

impl StageTimes {
    /// Adds to what a stage has taken.
    pub fn add(&mut self, stage: Stage, time: Duration) {
        self.0[stage as usize] += time;
    }

    /// Did no stage take any time?
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// The stages that took any time, in the order of [`Stage::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Stage, Duration)> {
        Stage::ALL.into_iter().zip(self.0).filter(|(_, time)| !time.is_zero())
    }
}

impl FromIterator<(Stage, Duration)> for StageTimes {
    fn from_iter<I: IntoIterator<Item = (Stage, Duration)>>(times: I) -> Self {
        let mut all = StageTimes::default();
        times.into_iter().for_each(|(stage, time)| all.add(stage, time));
        all
    }
}

/// Splits a frame's time into stages without gaps: every lap ends where the next begins. Where no stage times are wanted
/// it never looks at the time.
pub struct StageClock(Option<std::time::Instant>);

impl StageClock {
    /// Starts now, or not at all.
    pub fn start(wanted: bool) -> Self {
        StageClock(wanted.then(std::time::Instant::now))
    }

    /// Adds the time since the last lap to a stage.
    pub fn lap(&mut self, times: &mut StageTimes, stage: Stage) {
        if let Some(since) = &mut self.0 {
            let now = std::time::Instant::now();
            times.add(stage, now - *since);
            *since = now;
        }
    }
}

/// Settings a caller may ask a runner for. `None` means "not asked for": the runner's default holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Threads inside one operator (CPU provider); `None`: all physical cores.
    pub threads: Option<usize>,
    /// Let idle ONNX Runtime threads spin (off by default: it steals CPU from everything else).
    pub spinning: Option<bool>,
    /// Options by name beyond the common ones (`key=value`), for one runner or provider. A runner that does not know a
    /// name drops it and says so; nothing is dropped silently.
    pub extra: std::collections::BTreeMap<String, String>,
}

/// What became of the options: both halves are recorded and shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    /// `name = value` pairs the runner was given.
    pub passed: Vec<(String, String)>,
    /// `name = value` pairs it was not given, each with the reason.
    pub dropped: Vec<DroppedOption>,
}

impl Admitted {
    /// The value that the runner was given for option `name`.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.passed.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

/// An option that was asked for and not passed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedOption {
    /// Option name.
    pub name: String,
    /// The value asked for.
    pub value: String,
    /// Why it was dropped.
    pub reason: String,
}

/// What a runner can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Prompt kinds it accepts.
    pub prompts: Vec<PromptKind>,
    /// Precisions it has graphs for.
    #[serde(rename = "precisions")]
    pub dtypes: Vec<Dtype>,
    /// Names of the options it knows.
    pub options: Vec<String>,
    /// Most objects tracked at once; `None`: no limit of its own.
    pub max_objects: Option<u32>,
    /// Most clicks per prompt.
    pub max_points: u32,
    /// Does it gain throughput by beginning with the next frame beside this one, as far as was measured?
    #[serde(default)]
    pub works_ahead: bool,
    /// Options that exist and are not passed on, with the reason.
    #[serde(default)]
    pub refused: std::collections::BTreeMap<String, String>,
}

impl Capabilities {
    /// Splits the options into those this runner is given and those it is not.
    pub fn admit(&self, options: &Options) -> Admitted {
        let mut admitted = Admitted::default();
        for (name, value) in options.entries() {
            if self.options.contains(&name) {
                admitted.passed.push((name, value));
            } else {
                let reason = match self.refused.get(&name) {
                    Some(reason) => reason.clone(),
                    None => format!("not supported by this runner; it knows: {}", self.options.join(", ")),
                };
                admitted.dropped.push(DroppedOption { name, value, reason });
            }
        }
        admitted
    }
}

impl Options {
    /// The options that were asked for, as `(name, value)` text.
    pub fn entries(&self) -> Vec<(String, String)> {
        let mut entries = Vec::new();
        if let Some(n) = self.threads {
            entries.push(("threads".to_string(), n.to_string()));
        }
        if let Some(on) = self.spinning {
            entries.push(("spinning".to_string(), on.to_string()));
        }
        entries.extend(self.extra.iter().map(|(k, v)| (k.clone(), v.clone())));
        entries
    }
}

/// Everything needed to open a runner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpenRequest {
    /// Pack directory.
    pub pack: PathBuf,
    /// Directory of the detector's pack, where a detector founds the tracks.
    #[serde(default)]
    pub detector: Option<PathBuf>,
    /// Are objects prompted, where the pack finds its objects itself? Trackers are prompted anyway.
    #[serde(default)]
    pub prompted: bool,
    /// Precision asked for.
    pub dtype: Dtype,
    /// Device asked for. Another device is never used instead.
    pub device: Device,
    /// Options admitted by the runner's capabilities.
    pub options: Options,
    /// `--ort-lib`: the ONNX Runtime library to load; `None`: search (see `runtime`).
    pub ort_lib: Option<PathBuf>,
    /// `--ep-library`: the plugin library that offers the device; `None`: a provider compiled into ONNX Runtime does.
    #[serde(default)]
    pub ep_library: Option<PathBuf>,
}

impl OpenRequest {
    /// A pack alone, with every option at its default, and the libraries that a search finds.
    pub fn new(pack: impl Into<PathBuf>, dtype: Dtype, device: Device) -> OpenRequest {
        let (detector, prompted, options, ort_lib, ep_library) = Default::default();
        OpenRequest { pack: pack.into(), detector, prompted, dtype, device, options, ort_lib, ep_library }
    }
}

/// The plugin library whose provider runs the graphs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PluginReport {
    /// Library file that was loaded.
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub sha256: String,
    /// The provider's name in ONNX Runtime, e.g. `WebGpuExecutionProvider`.
    pub provider: String,
    /// Version that it gives itself; `None`: it gives none.
    pub version: Option<String>,
    /// The hardware that ONNX Runtime offered to it for this device, in words. The provider may compute elsewhere: WebGPU's chooses its adapter
    /// itself.
    pub hardware: String,
}

/// What opening a runner showed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OpenReport {
    /// ONNX Runtime version, empty for the mock runner.
    pub runtime_version: String,
    /// Library file that was loaded.
    pub runtime_path: PathBuf,
    /// The plugin library whose provider runs the graphs; `None`: one of ONNX Runtime's own does.
    #[serde(default)]
    pub plugin: Option<PluginReport>,
    /// Time to load and optimise each graph, in milliseconds; those of graphs that are loaded beside each other overlap.
    pub graph_load_ms: Vec<(String, f64)>,
    /// Time to build each engine, apart from loading it, in milliseconds; `None` when none was built.
    #[serde(default)]
    pub graph_build_ms: Option<Vec<(String, f64)>>,
    /// Options that the linked runtime refused to know, although the runner had admitted them.
    #[serde(default)]
    pub dropped: Vec<DroppedOption>,
    /// Remarks for the record, e.g. dropped provider options.
    pub notes: Vec<String>,
    /// Graphs that run on another provider than asked, in words. There is no way to ask for that; a cell with one is
    /// invalid.
    pub fallbacks: Vec<String>,
}
