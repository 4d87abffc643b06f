//! Flags of the other verbs.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use jetbench_runners::types::{Device, Dtype};
use serde::{Deserialize, Serialize};

use crate::cli::{complete, help, option};
use crate::dataset::Layout;
use crate::judge::transfers::TransferSeverity;

/// Flags of `models`.
#[derive(Args, Debug)]
pub struct ModelsArgs {
    /// Directory of model packs, searched before JETBENCH_PACKS, ./packs and assets/packs (repeatable)
    #[arg(long, value_name = "DIR")]
    pub packs: Vec<PathBuf>,
    /// List the options of the runners instead: what --option takes
    #[arg(long)]
    pub options: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Flags of `doctor`.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Devices that must work: cpu, cuda:N, tensorrt:N, webgpu:0 [default: cpu; on a Jetson its GPU]
    #[arg(long, value_name = "DEVICE,…", value_delimiter = ',', add = complete::devices())]
    pub device: Vec<Device>,
    /// Directory of model packs, searched before JETBENCH_PACKS, ./packs and assets/packs (repeatable)
    #[arg(long, value_name = "DIR")]
    pub packs: Vec<PathBuf>,
    /// Annotated videos [default: assets/demo]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Results directory that must be writable [default: results]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// ONNX Runtime library to load [default: the first one found]
    #[arg(long, value_name = "FILE")]
    pub ort_lib: Option<PathBuf>,
    /// Plugin library of execution providers, whose devices are named `<provider>:<n>` (repeatable)
    #[arg(long, value_name = "FILE")]
    pub ep_library: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Sub-commands of `data`.
#[derive(Args, Debug)]
pub struct DataArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DataCommand,
}

/// What `data` can do.
#[derive(Subcommand, Debug)]
pub enum DataCommand {
    /// Validate a dataset: decode every frame and every mask
    ///
    /// Reports what a run would refuse or score wrongly.
    #[command(after_help = help::CHECK)]
    Check(DataCheckArgs),
    /// Draw a seeded dataset of moving shapes
    ///
    /// In any layout; --predictions adds imperfect predictions.
    #[command(after_help = help::SYNTH)]
    Synth(DataSynthArgs),
}

/// Flags of `data check`.
#[derive(Args, Debug)]
pub struct DataCheckArgs {
    /// The dataset's root
    pub dir: PathBuf,
    /// Layout, if detection would guess wrong: sa-v, davis2016, davis2017, mose, youtube-vos, lvos, vipseg, plain
    #[arg(long, value_name = "NAME", add = complete::layouts())]
    pub layout: Option<Layout>,
    /// Text file with the videos to check
    #[arg(long, value_name = "FILE")]
    pub list: Option<PathBuf>,
    /// Check the first N videos
    #[arg(long, value_name = "N")]
    pub limit_videos: Option<NonZeroUsize>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// No progress
    #[arg(short, long)]
    pub quiet: bool,
}

/// Flags of `data synth`.
#[derive(Args, Debug)]
pub struct DataSynthArgs {
    /// Folder to write into; must be empty or absent
    pub out: PathBuf,
    /// Layout to write: sa-v, davis2016, davis2017, mose, youtube-vos, lvos, vipseg, plain
    #[arg(long, value_name = "NAME", default_value = "sa-v", add = complete::layouts())]
    pub layout: Layout,
    /// Videos
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub videos: usize,
    /// Objects per video (DAVIS 2016 has one)
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub objects: usize,
    /// Frames per video
    #[arg(long, value_name = "N", default_value_t = 25)]
    pub frames: usize,
    /// Frame size in pixels
    #[arg(long, value_name = "WxH", default_value = "320x240")]
    pub size: String,
    /// Seed: the same options give the same files on every machine
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Also write imperfect masks, as a model might predict them, to DIR
    #[arg(long, value_name = "DIR")]
    pub predictions: Option<PathBuf>,
    /// Write masks only: enough to score
    #[arg(long)]
    pub no_frames: bool,
    /// No progress
    #[arg(short, long)]
    pub quiet: bool,
}

/// Flags of `report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// The run: its directory, its id, or `latest`
    #[arg(add = complete::runs())]
    pub run: PathBuf,
    /// Write the result as Markdown to FILE, and nothing else; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub export_markdown: Option<PathBuf>,
    /// Write the figures of valid cells as Bencher Metric Format, and nothing else; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub export_bmf: Option<PathBuf>,
    /// Write a JUnit test per cell, and nothing else; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub export_junit: Option<PathBuf>,
    /// Write metrics for Prometheus's textfile collector, and nothing else; `-` is stdout
    #[arg(long, value_name = "FILE.prom")]
    pub export_prometheus: Option<PathBuf>,
    /// Write a row per valid cell for the table of boards (results/community), and nothing else; `-` is stdout
    #[arg(long, value_name = "FILE.csv", conflicts_with_all = ["export_markdown", "export_bmf", "export_junit", "export_prometheus"])]
    pub export_row: Option<PathBuf>,
    /// Print the record without frames as JSON; write nothing
    #[arg(long, conflicts_with_all = ["export_markdown", "export_bmf", "export_junit", "export_prometheus", "export_row"])]
    pub json: bool,
    /// Show every warning and setting of every cell below the table
    #[arg(short, long, conflicts_with = "quiet")]
    pub verbose: bool,
    /// No table
    #[arg(short, long)]
    pub quiet: bool,
}

/// Flags of `compare`.
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// Runs: directories, run ids or `latest`; the first is the base, unless --baseline names one
    #[arg(required_unless_present = "models", value_name = "RUN", add = complete::runs())]
    pub runs: Vec<PathBuf>,
    /// Compare models and precisions within one run: --models A B RUN
    #[arg(long, value_name = "TAG", num_args = 1.., value_delimiter = ',', conflicts_with_all = ["baseline", "save_baseline"], add = complete::models())]
    pub models: Vec<String>,
    /// Compare with the run saved under this name
    #[arg(long, value_name = "NAME")]
    pub baseline: Option<String>,
    /// Save the given run under this name; compare nothing
    #[arg(long, value_name = "NAME", conflicts_with = "baseline")]
    pub save_baseline: Option<String>,
    /// Exit with 1 if something regressed or could not be compared
    #[arg(long)]
    pub fail_on_regression: bool,
    /// With --fail-on-regression: whether an inconclusive change passes
    #[arg(long, value_name = "pass|fail", value_enum, default_value_t = OnInconclusive::Pass, requires = "fail_on_regression")]
    pub on_inconclusive: OnInconclusive,
    /// Treat latency changes up to this many percent as noise [default: learnt from past runs]
    #[arg(long, value_name = "PERCENT")]
    pub noise_floor: Option<f64>,
    /// Results directory: history and baselines are in it [env: JETBENCH_RESULTS] [default: results]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Write the comparison as a page
    #[arg(long, value_name = "FILE", conflicts_with = "save_baseline")]
    pub html: Option<PathBuf>,
    /// Also show digests of what differs
    #[arg(short, long)]
    pub verbose: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What an inconclusive change does to the exit code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnInconclusive {
    /// Nothing
    #[default]
    Pass,
    /// Exit with 1
    Fail,
}

/// Flags of `history`.
#[derive(Args, Debug)]
pub struct HistoryArgs {
    /// Results directory [env: JETBENCH_RESULTS] [default: results]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Only these model tags
    #[arg(long, value_name = "TAG,…", value_delimiter = ',', add = complete::models())]
    pub models: Vec<String>,
    /// Write all runs as one CSV table; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub export_csv: Option<PathBuf>,
    /// Show what each run takes on disk, and whether `prune` may remove it
    #[arg(long, conflicts_with_all = ["models", "export_csv", "html", "plot"])]
    pub sizes: bool,
    /// Write trends and runs as a page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Draw the trends, as .svg or .png
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Flags of `merge`.
#[derive(Args, Debug)]
pub struct MergeArgs {
    /// Runs, or directories that hold runs
    #[arg(required = true, value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
    /// The joined result goes to DIR/<device>/<run-id>/ [env: JETBENCH_RESULTS] [default: results]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Join even if videos are missing; the result is marked as partial
    #[arg(long)]
    pub partial: bool,
    /// Price of a kilowatt hour: adds the energy cost of 1,000 frames where energy was measured
    #[arg(long, value_name = "PRICE")]
    pub energy_price: Option<f64>,
    /// Its currency
    #[arg(long, value_name = "NAME", default_value = "EUR")]
    pub currency: String,
    /// Print a last line of JSON: directory and verdicts
    #[arg(long)]
    pub json: bool,
    /// No notes or table
    #[arg(short, long)]
    pub quiet: bool,
}

/// Flags of `verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// Pack directory, e.g. assets/packs/sam2_mini
    pub pack: PathBuf,
    /// Precision of the graphs to check; the reference itself is fp32
    #[arg(long, value_name = "TYPE", default_value = "fp32", add = complete::dtypes())]
    pub dtype: Dtype,
    /// Device to check on: cpu, cuda:N, tensorrt:N, webgpu:0
    #[arg(long, value_name = "DEVICE", default_value = "cpu", add = complete::devices())]
    pub device: Device,
    /// ONNX Runtime library to load [default: the first one found]
    #[arg(long, value_name = "FILE")]
    pub ort_lib: Option<PathBuf>,
    /// Plugin library of the execution provider that offers the device
    #[arg(long, value_name = "FILE")]
    pub ep_library: Option<PathBuf>,
    /// Threads per operator on the CPU
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Option for the runner, as for `run` (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = option::OptionParser, hide_possible_values = true)]
    pub option: Vec<String>,
    /// Compare only the first N frames of each clip [default: all]
    #[arg(long, value_name = "N")]
    pub frames: Option<NonZeroUsize>,
    /// Compare with the same pack run differently, instead of its reference
    ///
    /// Keys: device, dtype, threads, ort-lib, ep-library, and the runner options that `jetbench models --options` lists
    #[arg(long, value_name = "KEY=VALUE,…")]
    pub against: Option<String>,
    /// With --against: largest absolute difference of logits, scores and pointers on any frame [default: the limits of
    /// `verify` for the coarser dtype]
    #[arg(long, value_name = "X")]
    pub max_abs: Option<f64>,
    /// With --against: largest relative root mean square of logits and pointers on any frame [default: as above]
    #[arg(long, value_name = "X")]
    pub max_rel_rms: Option<f64>,
    /// With --against: largest share of a frame's mask pixels that may differ [default: as above, of a track's pixels]
    #[arg(long, value_name = "X")]
    pub max_mask_share: Option<f64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Flags of `audit`.
#[derive(Args, Debug)]
pub struct AuditArgs {
    /// Model tags, as for `run`
    #[arg(long, value_name = "TAG,…", value_delimiter = ',', required = true, add = complete::models())]
    pub models: Vec<String>,
    /// Precisions [default: bf16]
    #[arg(long, value_name = "TYPE,…", value_delimiter = ',', add = complete::dtypes())]
    pub dtype: Vec<Dtype>,
    /// Devices: cpu, cuda:N, tensorrt:N, webgpu:0 [default: cpu]
    #[arg(long, value_name = "DEVICE,…", value_delimiter = ',', add = complete::devices())]
    pub device: Vec<Device>,
    /// Annotated videos, of which the first is used [default: assets/demo]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Frames to track
    #[arg(long, value_name = "N", default_value = "16")]
    pub frames: NonZeroUsize,
    /// Directory of model packs, searched before JETBENCH_PACKS, ./packs and assets/packs (repeatable)
    #[arg(long, value_name = "DIR")]
    pub packs: Vec<PathBuf>,
    /// Name for a pack, e.g. sam2=sam2.1_tiny (repeatable)
    #[arg(long, value_name = "NAME=PACK")]
    pub alias: Vec<String>,
    /// ONNX Runtime library to load [default: the first one found]
    #[arg(long, value_name = "FILE")]
    pub ort_lib: Option<PathBuf>,
    /// Plugin library of execution providers, whose devices are named `<provider>:<n>` (repeatable)
    #[arg(long, value_name = "FILE")]
    pub ep_library: Vec<PathBuf>,
    /// Threads per operator on the CPU
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Option for the runner, as for `run` (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = option::OptionParser, hide_possible_values = true)]
    pub option: Vec<String>,
    /// Exit with 1 when there is a copy of this severity or worse: critical, medium or minor
    #[arg(long, value_enum, value_name = "SEVERITY")]
    pub fail_on: Option<TransferSeverity>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Where `telemetry` reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SensorSource {
    /// The kernel's own files (and NVML on a PC)
    Sysfs,
    /// The lines of the board's `tegrastats`
    Tegrastats,
}

/// How `telemetry` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TelemetryFormat {
    /// One quantity per row: t_s,quantity,value
    Csv,
    /// One sample per line: {"t_s":…,"values":{…}}
    Jsonl,
}

/// Flags of `telemetry`.
#[derive(Args, Debug)]
pub struct TelemetryArgs {
    /// Source of the readings: sysfs, the kernel's own files (and NVML on a PC), or tegrastats, the board's program
    #[arg(long, value_enum, default_value = "sysfs")]
    pub source: SensorSource,
    /// csv, one quantity per row (t_s,quantity,value), or jsonl, one sample per line ({"t_s":…,"values":{…}})
    #[arg(long, value_enum, default_value = "csv")]
    pub format: TelemetryFormat,
    /// Stop after S seconds [default: at Ctrl-C]
    #[arg(long, value_name = "S")]
    pub duration: Option<f64>,
    /// Write to a file; `-` is stdout
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub out: PathBuf,
    /// Samples per second [default: 10]
    #[arg(long, value_name = "HZ")]
    pub sample_hz: Option<f64>,
    /// Add memory and CPU time of this process
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// With --source tegrastats: read its output from a file instead of starting it; `-` is stdin
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Root of the file tree to read, e.g. one captured on a board
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Do not list sensors that cannot be read
    #[arg(short, long)]
    pub quiet: bool,
}
