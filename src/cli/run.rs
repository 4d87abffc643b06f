//! Flags of `run`, and at the same time the keys of a config file.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use jetbench_runners::types::{Device, Dtype};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::cli::quantity::{ByteCount, TimeSpan};
use crate::cli::{OnInconclusive, complete, option};
use crate::dataset::Layout;
use crate::plan::live::RawFrames;
use crate::plan::mask_files::MaskFiles;
use crate::plan::overlays::Overlays;
use crate::plan::policy::Policy;
use crate::plan::scenario::Scenario;
use crate::plan::shard::Shard;

// The groups of `--help`, in its order.
const WHAT: &str = "What to measure";
pub(super) const HOW: &str = "How to run it";
const LIMITS: &str = "Limits";
const OUTPUT: &str = "Output";
const WAITING: &str = "Waiting";

/// Flags of `run`, and keys of its config file. Empty and `None` mean "not said"; defaults are filled in by the plan.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RunArgs {
    /// Models with their prompt: sam2_points, edgetam_bbox
    #[arg(long, value_name = "TAG,…", value_delimiter = ',', help_heading = WHAT, add = complete::models())]
    #[serde(deserialize_with = "words", skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Pack of a detector, for models that are named without one
    ///
    /// `--models sam2,edgetam --detector dfine` is short for `--models sam2_dfine,edgetam_dfine`: the detector founds the tracks, and
    /// nobody gives a prompt
    #[arg(long, value_name = "PACK", help_heading = WHAT, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detector: Option<String>,
    /// Label pack that names the tracks
    ///
    /// A pack of family clip_labels, by its name or place: its classes and their probabilities stand in labels.csv, in the report and on
    /// overlays (docs/labels.md)
    #[arg(long, value_name = "PACK", help_heading = WHAT, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
    /// Precisions: fp32, fp16, bf16, int8 [default: bf16]
    #[arg(long, value_name = "TYPE,…", value_delimiter = ',', help_heading = WHAT, add = complete::dtypes())]
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub dtype: Vec<Dtype>,
    /// cpu (default), cuda:N, tensorrt:N, webgpu:0
    ///
    /// On a Jetson the default is its GPU. Another device never takes over in silence: a node that runs elsewhere makes the cell invalid
    #[arg(long, value_name = "DEVICE,…", value_delimiter = ',', help_heading = WHAT, add = complete::devices())]
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub device: Vec<Device>,
    /// Videos, or a live source [default: assets/demo]
    ///
    /// A dataset's folder, or a video file with `masks/` beside it; with prompts of your own also a video file or a folder of frames
    /// without masks, or rtsp://…, udp://…, /dev/videoN, - (frames on a pipe)
    #[arg(long, value_name = "DIR", help_heading = WHAT)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// End a live source after N seconds of tracking
    ///
    /// It needs prompts of your own and implies --scenario realtime; docs/footage.md describes it. A pipe may end by itself
    #[arg(long, value_name = "N", help_heading = WHAT, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// With --data -: the pipe has raw frames, as rgb24:640x360
    ///
    /// Interleaved RGB, 8 bits each. Without it, the pipe has PPM images, which say their size
    #[arg(long, value_name = "rgb24:WxH", help_heading = WHAT, hide_short_help = true)]
    #[serde(deserialize_with = "word", serialize_with = "as_word", skip_serializing_if = "Option::is_none")]
    pub raw: Option<RawFrames>,
    /// Layout of the data, if detection would guess wrong
    ///
    /// sa-v, davis2016 (all pixels above 0 are one object), davis2017, mose, youtube-vos, lvos, vipseg, plain
    #[arg(long, value_name = "NAME", help_heading = WHAT, hide_short_help = true, add = complete::layouts())]
    #[serde(deserialize_with = "word", serialize_with = "as_word", skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    /// Use the first N videos
    #[arg(long, value_name = "N", help_heading = WHAT, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_videos: Option<NonZeroUsize>,
    /// Use the first N objects of each video
    #[arg(long, value_name = "N", help_heading = WHAT, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_objects: Option<NonZeroUsize>,
    /// Use the first N frames of each video
    #[arg(long, value_name = "N", help_heading = WHAT, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_frames: Option<NonZeroUsize>,
    /// TOML file with any of these flags; flags win over it
    ///
    /// Its keys are the flags' names without the leading dashes [env: JETBENCH_CONFIG]. `--flag=false` switches off what
    /// the file switches on
    #[arg(long, value_name = "FILE", help_heading = HOW)]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Run part I of N of the videos
    ///
    /// `jetbench merge` joins the parts. Tasks of a Slurm array (from 1) and pods of an indexed Kubernetes job find I by
    /// themselves if JETBENCH_SHARDS is set to N; 1/1 runs everything
    #[arg(long, value_name = "I/N", help_heading = WHAT, hide_short_help = true)]
    #[serde(deserialize_with = "word", serialize_with = "as_word", skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// Continue an unfinished run
    ///
    /// Finished sequences are kept, failed cells are tried again; the settings come from RUN: a directory, a run id or
    /// `latest`
    #[arg(long, value_name = "RUN", help_heading = HOW, add = complete::runs())]
    #[serde(skip)]
    pub resume: Option<PathBuf>,
    /// Check everything and print the plan; run nothing
    ///
    /// With estimates of time, disk and memory, where earlier runs tell them. The same as `jetbench plan`
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = HOW, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// Directory of model packs (repeatable)
    ///
    /// Searched before JETBENCH_PACKS, ./packs and assets/packs
    #[arg(long, value_name = "DIR", help_heading = HOW)]
    #[serde(deserialize_with = "paths", skip_serializing_if = "Vec::is_empty")]
    pub packs: Vec<PathBuf>,
    /// Name for a pack, e.g. sam2=sam2.1_tiny (repeatable)
    #[arg(long, value_name = "NAME=PACK", help_heading = HOW, hide_short_help = true)]
    #[serde(deserialize_with = "words", skip_serializing_if = "Vec::is_empty")]
    pub alias: Vec<String>,
    /// ONNX Runtime library to load
    ///
    /// Without it, jetbench searches; `jetbench doctor` shows where
    #[arg(long, value_name = "FILE", help_heading = HOW, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ort_lib: Option<PathBuf>,
    /// Plugin library of execution providers (repeatable)
    ///
    /// Its devices are named `<provider>:<n>`; `jetbench doctor --ep-library FILE` lists them
    #[arg(long, value_name = "FILE", help_heading = HOW, hide_short_help = true)]
    #[serde(deserialize_with = "paths", skip_serializing_if = "Vec::is_empty")]
    pub ep_library: Vec<PathBuf>,
    /// Threads per operator on the CPU
    ///
    /// [default: all physical cores]
    #[arg(long, value_name = "N", help_heading = HOW, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<NonZeroUsize>,
    /// Your own clicks: "obj=1 320,180 40,60,-" (repeatable)
    ///
    /// For footage without masks: obj=NAME [frame=N] [video=NAME] x,y[,+|-] …, in source pixels, frames from 0; `-` is a click outside
    /// the object. A number alone (`--clicks 3`) is for datasets with masks: how many clicks a `points` prompt places on the mask [default: 1]
    #[arg(long, value_name = "CLICKS", help_heading = WHAT)]
    #[serde(deserialize_with = "count_or_words", skip_serializing_if = "Vec::is_empty")]
    pub clicks: Vec<String>,
    /// Your own box: "obj=1 100,80,260,300" (repeatable)
    ///
    /// obj=NAME [frame=N] [video=NAME] x0,y0,x1,y1
    #[arg(long = "box", value_name = "BOX", help_heading = WHAT, hide_short_help = true)]
    #[serde(rename = "box", deserialize_with = "words", skip_serializing_if = "Vec::is_empty")]
    pub corners: Vec<String>,
    /// Your own prompts from a file
    ///
    /// docs/footage.md describes it
    #[arg(long, value_name = "FILE", help_heading = WHAT, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompts: Option<PathBuf>,
    /// Options for the runner, by name
    #[arg(long, value_name = "KEY=VALUE", value_parser = option::OptionParser, hide_possible_values = true, help = "Runner options; see `jetbench models --options`", long_help = option::help(), help_heading = HOW, hide_short_help = true)]
    #[serde(deserialize_with = "words", skip_serializing_if = "Vec::is_empty")]
    pub option: Vec<String>,
    /// When a precision differs from the requested one: report (default) or strict
    ///
    /// `report` records the precision in effect, `strict` makes the cell invalid
    #[arg(long, value_name = "POLICY", help_heading = LIMITS, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision_policy: Option<Policy>,
    /// Results directory [default: results]
    ///
    /// Results go to DIR/<device>/<run-id>/ [env: JETBENCH_RESULTS]
    #[arg(long, value_name = "DIR", help_heading = OUTPUT)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<PathBuf>,
    /// Write the predicted masks to masks/
    ///
    /// As PNG files in the layout of the dataset; `rle` writes one file of run lengths per video. Where a detector founds the
    /// tracks also `mots` (text, one file per video), `ytvis` (YouTube-VIS result JSON) and `vipseg` (panoptic segments). After
    /// tracking
    #[arg(long, value_name = "FILES", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = OUTPUT, add = complete::mask_files())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save_masks: Option<MaskFiles>,
    /// Draw masks, prompts and J over the frames
    ///
    /// After tracking. As one MP4 file per video where ffmpeg is installed, else as a PNG file per frame; `mp4` and `png` insist
    #[arg(long, value_name = "FILES", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = OUTPUT, add = complete::overlays())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlays: Option<Overlays>,
    /// Track backward in time, too, and compare
    ///
    /// When everything is measured, each valid cell tracks from the last frame to the first, prompted with its own last masks. How
    /// alike the two ways are is agreement, not accuracy: see agreement.csv
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = OUTPUT, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backward: Option<bool>,
    /// Keep tracking after an unusable warm-up mask
    ///
    /// That is one that is empty, full or not finite. The cell stays invalid
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = HOW, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_going: Option<bool>,
    /// Sensor samples per second [default: 10]
    ///
    /// Memory, clocks, power rails and temperatures
    #[arg(long, value_name = "HZ", help_heading = HOW, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_hz: Option<f64>,
    /// single-stream (default), offline or realtime
    ///
    /// How frames are offered: one after another, as many as possible (throughput), or on the clock, where late ones
    /// are dropped
    #[arg(long, value_name = "NAME", help_heading = WHAT, add = complete::scenarios())]
    #[serde(deserialize_with = "word", serialize_with = "as_word", skip_serializing_if = "Option::is_none")]
    pub scenario: Option<Scenario>,
    /// Frames per second of clock and deadline [default: the clip's]
    #[arg(long, value_name = "N", help_heading = WHAT, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fps: Option<f64>,
    /// Repeat every cell N times [default: 1]
    ///
    /// Each repeat is a fresh process, and the cells take turns. Intervals are computed over the repeats
    #[arg(long, value_name = "N", help_heading = WHAT)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<NonZeroUsize>,
    /// When other programs use the CPU: report (default) or strict
    ///
    /// `report` notes them, `strict` makes the cell invalid
    #[arg(long, value_name = "POLICY", help_heading = LIMITS, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rival_policy: Option<Policy>,
    /// Minimum seconds spent in frames for a valid cell [default: 0]
    #[arg(long, value_name = "SECS", help_heading = LIMITS, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_seconds: Option<f64>,
    /// Minimum number of timed frames for a valid cell [default: 20]
    #[arg(long, value_name = "N", help_heading = LIMITS, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_frames: Option<usize>,
    /// Kill a tracking worker after SECS without a heartbeat [default: 120]
    #[arg(long, value_name = "SECS", help_heading = LIMITS, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_timeout: Option<f64>,
    /// Kill a loading worker after SECS [default: 1800]
    ///
    /// Loading includes engine builds and the warm-up
    #[arg(long, value_name = "SECS", help_heading = LIMITS, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_timeout: Option<f64>,
    /// Compare the finished run with the run saved under NAME
    ///
    /// As `jetbench compare` does, which also saves it: `jetbench compare RUN --save-baseline NAME`
    #[arg(long, value_name = "NAME", help_heading = LIMITS, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// With --baseline: exit with 1 when something has regressed
    ///
    /// Or could not be compared
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = LIMITS, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_on_regression: Option<bool>,
    /// With --fail-on-regression: does an inconclusive change pass (default) or fail?
    #[arg(long, value_name = "pass|fail", value_enum, help_heading = LIMITS, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_inconclusive: Option<OnInconclusive>,
    /// Print a last line of JSON: run directory and verdicts
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = OUTPUT, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<bool>,
    /// Write the result as Markdown to FILE; `-` is stdout
    #[arg(long, value_name = "FILE", help_heading = OUTPUT, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export_markdown: Option<PathBuf>,
    /// Write the figures of valid cells as Bencher Metric Format; `-` is stdout
    #[arg(long, value_name = "FILE", help_heading = OUTPUT, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export_bmf: Option<PathBuf>,
    /// Write a JUnit test per cell; `-` is stdout
    #[arg(long, value_name = "FILE", help_heading = OUTPUT, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export_junit: Option<PathBuf>,
    /// Write metrics for Prometheus's textfile collector; `-` is stdout
    #[arg(long, value_name = "FILE.prom", help_heading = OUTPUT, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export_prometheus: Option<PathBuf>,
    /// Show more: the plan, options and files of every cell
    ///
    /// After the run, every warning and setting
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = OUTPUT)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verbose: Option<bool>,
    /// No progress, notes or table
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = OUTPUT, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet: Option<bool>,
    /// Start each cell only at or below this temperature
    ///
    /// That of the hottest thermal zone
    #[arg(long, value_name = "CELSIUS", help_heading = WAITING, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cool_to: Option<f64>,
    /// Start each cell only when the CPUs are mostly idle
    ///
    /// Busy for at most PERCENT of the time
    #[arg(long, value_name = "PERCENT", help_heading = WAITING, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<f64>,
    /// Wait at most TIME for device, heat and idle [default: 30m]
    ///
    /// Another run may hold the device
    #[arg(long, value_name = "TIME", help_heading = WAITING, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_wait: Option<TimeSpan>,
    /// Minimum free disk space before each cell [default: 256]
    #[arg(long, value_name = "MIB", help_heading = LIMITS, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_free_mib: Option<u64>,
    /// Refuse cells estimated to need more memory
    ///
    /// E.g. 1.5GiB. Decided before anything is loaded; the refusal says what would fit. On a GPU the estimate
    /// leaves out what driver and runtime take
    #[arg(long, value_name = "SIZE", help_heading = LIMITS, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_budget: Option<ByteCount>,
    /// Skip the run if nothing has changed since a finished one
    ///
    /// Program, packs, the bytes of the data, settings and device are compared, and the exit code is that of the finished
    /// run. If that was invalid for a reason that may pass (heat, other programs, swapping), jetbench measures again
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = HOW, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_changed: Option<bool>,
    /// Keep the newest N runs, remove older ones
    ///
    /// Only runs on this device that used --keep; baselines stay
    #[arg(long, value_name = "N", help_heading = OUTPUT, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<NonZeroUsize>,
    /// Write the state of the run to FILE as JSON
    ///
    /// Written when the run begins, and again with how it ended
    #[arg(long, value_name = "FILE", help_heading = OUTPUT, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<PathBuf>,
    /// Loop each clip to N frames, to watch memory over long videos; only the first pass is scored
    #[arg(long, value_name = "N", hide = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loop_frames: Option<NonZeroUsize>,
}

/// A list in a config file: one word, a list of words, or a table (`[option]`, `[alias]`) read as `key=value` words.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a text, a list of texts, or a table of settings")]
    enum Words {
        One(String),
        Many(Vec<String>),
        Pairs(BTreeMap<String, Scalar>),
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Scalar {
        Text(String),
        Bool(bool),
        Int(i64),
        Float(f64),
    }
    Ok(match Words::deserialize(deserializer)? {
        Words::One(word) => vec![word],
        Words::Many(words) => words,
        Words::Pairs(pairs) => pairs
            .into_iter()
            .map(|(key, value)| match value {
                Scalar::Text(v) => format!("{key}={v}"),
                Scalar::Bool(v) => format!("{key}={v}"),
                Scalar::Int(v) => format!("{key}={v}"),
                Scalar::Float(v) => format!("{key}={v}"),
            })
            .collect(),
    })
}

/// As [`words`]; a number is a word, too.
fn count_or_words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a number, a text or a list of texts")]
    enum Words {
        Count(i64),
        One(String),
        Many(Vec<String>),
    }
    Ok(match Words::deserialize(deserializer)? {
        Words::Count(count) => vec![count.to_string()],
        Words::One(word) => vec![word],
        Words::Many(words) => words,
    })
}

/// A list of values, each read from its word; a word may be a comma list itself.
fn list<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let words = words(deserializer)?;
    let words = words.iter().flat_map(|w| w.split(',')).map(str::trim).filter(|w| !w.is_empty());
    words.map(|word| word.parse().map_err(D::Error::custom)).collect()
}

/// A value read from its word.
fn word<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(deserializer: D) -> Result<Option<T>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(D::Error::custom)
}

/// The word that [`word`] reads.
fn as_word<S: Serializer, T: Display>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

/// One path or a list of paths.
fn paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    Ok(words(deserializer)?.into_iter().map(PathBuf::from).collect())
}
