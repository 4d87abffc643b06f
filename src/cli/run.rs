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

use crate::cli::option;
use crate::cli::quantity::{ByteCount, TimeSpan};
use crate::plan::policy::Policy;
use crate::plan::scenario::Scenario;
use crate::plan::shard::Shard;

/// Flags of `run`, and keys of its config file. Empty and `None` mean "not said"; defaults are filled in by the plan.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RunArgs {
    /// Model tags `<pack>_<prompt>`, e.g. sam2_points,edgetam_bbox (prompts: points, bbox, mask)
    #[arg(long, value_name = "TAG,…", value_delimiter = ',')]
    #[serde(deserialize_with = "words", skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Precisions: fp32, fp16, bf16 [default: bf16]
    #[arg(long, value_name = "TYPE,…", value_delimiter = ',')]
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub dtype: Vec<Dtype>,
    /// Devices: cpu, cuda:N, tensorrt:N, webgpu:0; another device is never used instead [default: cpu]
    #[arg(long, value_name = "DEVICE,…", value_delimiter = ',')]
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub device: Vec<Device>,
    /// Annotated videos [default: assets/demo]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// Use the first N videos
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_videos: Option<NonZeroUsize>,
    /// Use the first N objects of each video
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_objects: Option<NonZeroUsize>,
    /// Use the first N frames of each video
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_frames: Option<NonZeroUsize>,
    /// Results go to `DIR/<device>/<run-id>/` [env: JETBENCH_RESULTS] [default: results]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<PathBuf>,
    /// TOML file that says any of these flags under the same names; flags win over it [env: JETBENCH_CONFIG]
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Do part i of n of the videos; `jetbench merge` joins the parts. Slurm arrays and indexed Kubernetes jobs
    /// (with JETBENCH_SHARDS) are recognised by themselves; 1/1 does everything
    #[arg(long, value_name = "I/N")]
    #[serde(deserialize_with = "word", serialize_with = "as_word", skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// Continue an unfinished run: keeps finished sequences, tries failed cells again; its settings are taken from RUN
    #[arg(long, value_name = "RUN")]
    #[serde(skip)]
    pub resume: Option<PathBuf>,
    /// Check everything and print the plan; run nothing
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// Directory of model packs, searched before JETBENCH_PACKS, ./packs and assets/packs (repeatable)
    #[arg(long, value_name = "DIR")]
    #[serde(deserialize_with = "paths", skip_serializing_if = "Vec::is_empty")]
    pub packs: Vec<PathBuf>,
    /// Binds a model name to a pack, e.g. sam2=sam2.1_tiny (repeatable)
    #[arg(long, value_name = "NAME=PACK")]
    #[serde(deserialize_with = "words", skip_serializing_if = "Vec::is_empty")]
    pub alias: Vec<String>,
    /// ONNX Runtime library to load; searched for when left out (`jetbench doctor` shows where)
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ort_lib: Option<PathBuf>,
    /// Threads inside one operator on the CPU [default: all physical cores]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<NonZeroUsize>,
    /// Clicks per object for points prompts [default: 1]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clicks: Option<NonZeroUsize>,
    /// Options for the runner, by name
    #[arg(long, value_name = "KEY=VALUE", value_parser = option::OptionParser, hide_possible_values = true, help = option::help())]
    #[serde(deserialize_with = "words", skip_serializing_if = "Vec::is_empty")]
    pub option: Vec<String>,
    /// What a precision other than the requested one does: `report` records it, `strict` makes the cell invalid
    /// [default: report]
    #[arg(long, value_name = "POLICY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision_policy: Option<Policy>,
    /// Write the predicted masks in the dataset's own layout to masks/
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save_masks: Option<bool>,
    /// Draw masks, contours, prompts and J over the frames, to overlays/
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlays: Option<bool>,
    /// Track on although the warm-up frame gave an empty, full or non-finite mask (the cell stays invalid)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_going: Option<bool>,
    /// Samples of memory, clocks, rails and temperatures per second [default: 10]
    #[arg(long, value_name = "HZ")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_hz: Option<f64>,
    /// How frames are offered: single-stream, offline (throughput), realtime (on the clock, late ones are dropped)
    /// [default: single-stream]
    #[arg(long, value_name = "NAME")]
    #[serde(deserialize_with = "word", serialize_with = "as_word", skip_serializing_if = "Option::is_none")]
    pub scenario: Option<Scenario>,
    /// Frames per second of the clock and of the deadline [default: the clip's own]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fps: Option<f64>,
    /// Run every cell N times in fresh processes, the cells in turn; intervals over the repeats [default: 1]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<NonZeroUsize>,
    /// What other processes that use the CPU while frames are timed do: `report` notes them, `strict` makes the cell
    /// invalid [default: report]
    #[arg(long, value_name = "POLICY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rival_policy: Option<Policy>,
    /// Less time spent in frames than this makes a cell invalid [default: 0]
    #[arg(long, value_name = "SECS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_seconds: Option<f64>,
    /// Fewer timed frames than this make a cell invalid [default: 20]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_frames: Option<usize>,
    /// Longest time between two signs of life of a worker that tracks, before it is killed [default: 120]
    #[arg(long, value_name = "SECS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_timeout: Option<f64>,
    /// The same while it loads and warms up: engine builds happen there [default: 1800]
    #[arg(long, value_name = "SECS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_timeout: Option<f64>,
    /// Print one last line of JSON: run directory and verdicts
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<bool>,
    /// Write the headline table as Markdown to FILE too; `-` is stdout
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export_markdown: Option<PathBuf>,
    /// Say more on stderr: every cell's plan, options and files
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verbose: Option<bool>,
    /// No progress, notes or table
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet: Option<bool>,
    /// Before each cell, wait until the hottest zone is at or below CELSIUS
    #[arg(long, value_name = "CELSIUS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cool_to: Option<f64>,
    /// Before each cell, wait until the processors are busy at or below PERCENT
    #[arg(long, value_name = "PERCENT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<f64>,
    /// Longest wait for the device (another run may hold it), for --cool-to and for --idle [default: 30m]
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_wait: Option<TimeSpan>,
    /// Least free disk space where results go, looked at before each cell [default: 256]
    #[arg(long, value_name = "MIB")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_free_mib: Option<u64>,
    /// Refuse, before anything is loaded, what is estimated to need more memory than SIZE (e.g. 1.5GiB), and say what
    /// would fit; the runtime's own needs are not in the estimate
    #[arg(long, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_budget: Option<ByteCount>,
    /// Do nothing when program, packs, data and settings are those of a finished run on this device
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_changed: Option<bool>,
    /// Afterwards keep the newest N runs of this device that were made with --keep, and remove older ones of them;
    /// baselines stay
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<NonZeroUsize>,
    /// Write how the run stands, and how it ended, to FILE as JSON
    #[arg(long, value_name = "FILE")]
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
