//! The command line as clap sees it: structs and help texts, nothing else. [`RunArgs`] is at the same time the schema
//! of a config file, so that a file can say everything the flags say, under the same names.

mod option;
pub mod quantity;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use serde::{Deserialize, Deserializer, Serialize};

use crate::cli::quantity::{ByteCount, TimeSpan};
use crate::exit;

/// Accuracy, speed, memory and energy of video segmentation models on the device under test.
#[derive(Parser, Debug)]
#[command(version, args_conflicts_with_subcommands = true, arg_required_else_help = true, after_help = exit::HELP)]
pub struct Cli {
    /// What to do; `run` when left out.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Flags of `run`.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Sub-commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Track, score, measure, judge and report (the default: `jetbench --models …` is `jetbench run --models …`)
    #[command(after_help = exit::HELP)]
    Run(Box<RunArgs>),
    /// List the model tags that can be run here, and where their packs are
    Models(ModelsArgs),
    /// Check this machine: runtime, packs, data, results directory, governor, swap; each failure with its remedy
    #[command(after_help = exit::HELP)]
    Doctor(DoctorArgs),
    /// Score predicted masks against ground truth
    Score(ScoreArgs),
    /// Look at a dataset before a night is spent on it, or draw a small one
    Data(DataArgs),
    /// Compare a pack's outputs on this machine with its golden reference, or with itself on another device, precision,
    /// thread count or ONNX Runtime
    Verify(VerifyArgs),
    /// Where every node runs and what is copied between host and device per frame, by severity, with remedies
    #[command(after_help = exit::HELP)]
    Audit(AuditArgs),
    /// Print or record this machine's sensors by themselves: clocks, loads, power rails, temperatures, memory
    #[command(after_help = exit::HELP)]
    Telemetry(TelemetryArgs),
    /// Look into model packs
    Packs(PacksArgs),
    /// Compare runs: improved, regressed, within noise, or not comparable
    #[command(after_help = "\
Examples:
  jetbench compare OLD NEW
  jetbench compare NEW --save-baseline main
  jetbench compare NEW --baseline main --fail-on-regression")]
    Compare(CompareArgs),
    /// Trends over the runs of a results directory
    #[command(after_help = "\
Examples:
  jetbench history --plot trend.svg
  jetbench history --models sam2_points --export-csv -")]
    History(HistoryArgs),
    #[command(after_help = "\
Examples:
  jetbench schedule install --on-calendar '*-*-* 02:00' --config configs/demo.toml --cool-to 45 --keep 30
  jetbench schedule list
  jetbench schedule remove demo")]
    /// Measure again and again: a systemd service and timer, or a line for cron
    Schedule(ScheduleArgs),
    #[command(after_help = "\
Examples:
  jetbench merge results/part-1 results/part-2
  jetbench merge boards/ --energy-price 0.30 --currency EUR")]
    /// Join the parts of one job, or set boards that did the same job beside each other
    Merge(MergeArgs),
    /// Write the report of a run anew from its record, or print it as Markdown or JSON
    #[command(after_help = "\
Examples:
  jetbench report results/board/20261121T093000Z-048213
  jetbench report RUN --export-markdown - >> notes.md")]
    Report(ReportArgs),
    /// Print the completions of a shell: bash, elvish, fish, powershell, zsh
    #[command(after_help = "\
Examples:
  jetbench completions bash > ~/.local/share/bash-completion/completions/jetbench
  jetbench completions zsh > ~/.zfunc/_jetbench")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the man page
    #[command(after_help = "\
Examples:
  jetbench man > ~/.local/share/man/man1/jetbench.1")]
    Man,
    /// One cell, driven by the parent process (JSON on stdin and stdout)
    #[command(hide = true)]
    Worker,
    /// The other side of `verify --against`
    #[command(hide = true)]
    VerifySide,
}

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
    #[serde(deserialize_with = "words", skip_serializing_if = "Vec::is_empty")]
    pub dtype: Vec<String>,
    /// Devices: cpu, cuda:N, tensorrt:N; another device is never used instead [default: cpu]
    #[arg(long, value_name = "DEVICE,…", value_delimiter = ',')]
    #[serde(deserialize_with = "words", skip_serializing_if = "Vec::is_empty")]
    pub device: Vec<String>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
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
    pub precision_policy: Option<String>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scenario: Option<String>,
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
    pub rival_policy: Option<String>,
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
    /// Devices that must work: cpu, cuda:N, tensorrt:N
    #[arg(long, value_name = "DEVICE,…", value_delimiter = ',', default_value = "cpu")]
    pub device: Vec<String>,
    /// Directory of model packs, searched before JETBENCH_PACKS, ./packs and assets/packs (repeatable)
    #[arg(long, value_name = "DIR")]
    pub packs: Vec<PathBuf>,
    /// Annotated videos [default: assets/demo]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Results directory that must be writable [default: results]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// ONNX Runtime library to load; searched for when left out
    #[arg(long, value_name = "FILE")]
    pub ort_lib: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Flags of `score`.
#[derive(Args, Debug)]
pub struct ScoreArgs {
    /// Ground truth: a dataset, or its annotation directory
    pub gt: PathBuf,
    /// Predicted masks, in the layout of the ground truth
    pub pred: PathBuf,
    /// Rules: sav, vos, davis2017-semi, davis2016 [default: those of the layout]
    #[arg(long, value_name = "NAME")]
    pub protocol: Option<String>,
    /// Leave out videos without predictions, with a note, instead of refusing
    #[arg(long)]
    pub lenient: bool,
    /// Score the first and last annotated frame too
    #[arg(long)]
    pub keep_first_last: bool,
    /// Boundary tolerance: share of the diagonal, or pixels from 1 on [default: 0.008]
    #[arg(long, value_name = "X")]
    pub boundary_threshold: Option<f64>,
    /// Text file with the videos to score
    #[arg(long, value_name = "FILE")]
    pub list: Option<PathBuf>,
    /// Text file with the unseen part (`video` or `video object` per line): splits the means
    #[arg(long, value_name = "FILE")]
    pub unseen: Option<PathBuf>,
    /// Keep per-frame values in the exports
    #[arg(long)]
    pub per_frame: bool,
    /// Compute boundary IoU too
    #[arg(long)]
    pub boundary_iou: bool,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Write a CSV row per object; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub export_csv: Option<PathBuf>,
    /// Write everything as JSON; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub export_json: Option<PathBuf>,
    /// Write the reference's own result files to PRED, byte for byte: `sav` (results.csv), `davis2017`
    /// (global_results-val.csv and per-sequence_results-val.csv)
    #[arg(long, value_name = "TOOL", value_parser = ["sav", "davis2017"])]
    pub compat: Option<String>,
    /// Print JSON (short for --export-json -)
    #[arg(long)]
    pub json: bool,
    /// No progress
    #[arg(short, long)]
    pub quiet: bool,
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
    /// Read every frame's header and every mask; report what would fail, or be scored wrongly (exit 1)
    #[command(after_help = exit::HELP)]
    Check(DataCheckArgs),
    /// Draw a seeded dataset of moving shapes in any layout, with imperfect predictions if asked for
    Synth(DataSynthArgs),
}

/// Flags of `data check`.
#[derive(Args, Debug)]
pub struct DataCheckArgs {
    /// The dataset's root
    pub dir: PathBuf,
    /// Layout, where detection would guess another one: sa-v, davis2016, davis2017, mose, youtube-vos, lvos, plain
    #[arg(long, value_name = "NAME")]
    pub layout: Option<String>,
    /// Text file with the videos to look at
    #[arg(long, value_name = "FILE")]
    pub list: Option<PathBuf>,
    /// Look at the first N videos
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
    /// Layout to write: sa-v, davis2016, davis2017, mose, youtube-vos, lvos, plain
    #[arg(long, value_name = "NAME", default_value = "sa-v")]
    pub layout: String,
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
    /// Directory of the run
    pub run: PathBuf,
    /// Write the headline table as Markdown to FILE, and nothing else; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub export_markdown: Option<PathBuf>,
    /// Print the record without frames as JSON, and write nothing
    #[arg(long, conflicts_with = "export_markdown")]
    pub json: bool,
    /// No table
    #[arg(short, long)]
    pub quiet: bool,
}

/// Flags of `compare`.
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// Runs; the first is the base that the others are compared with, unless --baseline names one
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Compare with the run that was saved under this name
    #[arg(long, value_name = "NAME")]
    pub baseline: Option<String>,
    /// Save the one run given under this name, and compare nothing
    #[arg(long, value_name = "NAME", conflicts_with = "baseline")]
    pub save_baseline: Option<String>,
    /// Exit with 1 when something has regressed, or could not be compared
    #[arg(long)]
    pub fail_on_regression: bool,
    /// Changes of latency up to this many percent are noise [default: learnt from the results directory]
    #[arg(long, value_name = "PERCENT")]
    pub noise_floor: Option<f64>,
    /// Results directory: history and baselines are in it [env: JETBENCH_RESULTS] [default: results]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Flags of `history`.
#[derive(Args, Debug)]
pub struct HistoryArgs {
    /// Results directory [env: JETBENCH_RESULTS] [default: results]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Only these model tags
    #[arg(long, value_name = "TAG,…", value_delimiter = ',')]
    pub models: Vec<String>,
    /// Write all runs as one CSV table; `-` is stdout
    #[arg(long, value_name = "FILE")]
    pub export_csv: Option<PathBuf>,
    /// Draw the trends, as .svg or .png
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Flags of `schedule`.
#[derive(Args, Debug)]
pub struct ScheduleArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ScheduleCommand,
}

/// Sub-commands of `schedule`.
#[derive(Subcommand, Debug)]
pub enum ScheduleCommand {
    /// Install a service and its timer
    Install(Box<ScheduleInstall>),
    /// Show schedules, and how their last runs ended
    List {
        /// Where to look.
        #[command(flatten)]
        place: SchedulePlace,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a schedule; its results stay
    Remove {
        /// Its name
        name: String,
        /// Where to look.
        #[command(flatten)]
        place: SchedulePlace,
    },
}

/// Where units are.
#[derive(Args, Debug)]
pub struct SchedulePlace {
    /// Units of this user (the default)
    #[arg(long, conflicts_with = "system")]
    pub user: bool,
    /// Units of the system: hardened further, needs root to install, does not run as root
    #[arg(long)]
    pub system: bool,
    /// Write units to DIR, or look there, and leave systemd alone
    #[arg(long, value_name = "DIR")]
    pub unit_dir: Option<PathBuf>,
}

/// Flags of `schedule install`.
#[derive(Args, Debug)]
pub struct ScheduleInstall {
    /// When, as systemd writes it: "*-*-* 02:00", "Mon..Fri 22:00", daily
    #[arg(long, value_name = "WHEN")]
    pub on_calendar: String,
    /// The job: a config file of `jetbench run`
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Name of the schedule [default: that of the config file]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where units go.
    #[command(flatten)]
    pub place: SchedulePlace,
    /// Print units and cron line; install nothing
    #[arg(long)]
    pub print: bool,
    /// As of `run`
    #[arg(long, value_name = "CELSIUS")]
    pub cool_to: Option<f64>,
    /// As of `run`
    #[arg(long, value_name = "PERCENT")]
    pub idle: Option<f64>,
    /// As of `run`
    #[arg(long, value_name = "TIME")]
    pub max_wait: Option<TimeSpan>,
    /// As of `run`
    #[arg(long, value_name = "N")]
    pub keep: Option<NonZeroUsize>,
    /// As of `run`
    #[arg(long, value_name = "MIB")]
    pub min_free_mib: Option<u64>,
    /// As of `run`
    #[arg(long)]
    pub if_changed: bool,
}

/// Flags of `merge`.
#[derive(Args, Debug)]
pub struct MergeArgs {
    /// Runs, or directories with runs below them
    #[arg(required = true, value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
    /// The joined result goes to DIR/<device>/<run-id>/ [env: JETBENCH_RESULTS] [default: results]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Join what there is although videos are missing; the result says that it is partial
    #[arg(long)]
    pub partial: bool,
    /// Price of a kilowatt hour: adds the cost of the energy per 1,000 frames where energy was measured
    #[arg(long, value_name = "PRICE")]
    pub energy_price: Option<f64>,
    /// Its currency
    #[arg(long, value_name = "NAME", default_value = "EUR")]
    pub currency: String,
    /// Print one last line of JSON: directory and verdicts
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
    /// Precision of the graphs to check; the reference and its tolerance are fp32
    #[arg(long, value_name = "TYPE", default_value = "fp32")]
    pub dtype: String,
    /// Device to check on: cpu, cuda:N, tensorrt:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
    /// ONNX Runtime library to load; searched for when left out
    #[arg(long, value_name = "FILE")]
    pub ort_lib: Option<PathBuf>,
    /// Threads inside one operator on the CPU
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Compare with the same pack run otherwise, instead of with its reference: keys device, dtype, threads,
    /// ort-lib, form
    #[arg(long, value_name = "KEY=VALUE,…")]
    pub against: Option<String>,
    /// With --against: largest absolute difference of logits, scores and pointers [default: the pack's tolerance for the same
    /// dtype, none for another]
    #[arg(long, value_name = "X")]
    pub max_abs: Option<f64>,
    /// With --against: largest relative root mean square of logits and pointers [default: 0.1 for another dtype]
    #[arg(long, value_name = "X")]
    pub max_rel_rms: Option<f64>,
    /// With --against: largest share of a frame's mask pixels that may differ [default: 0.001, 0.02 for another dtype]
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
    #[arg(long, value_name = "TAG,…", value_delimiter = ',', required = true)]
    pub models: Vec<String>,
    /// Precisions [default: bf16]
    #[arg(long, value_name = "TYPE,…", value_delimiter = ',')]
    pub dtype: Vec<String>,
    /// Devices: cpu, cuda:N, tensorrt:N [default: cpu]
    #[arg(long, value_name = "DEVICE,…", value_delimiter = ',')]
    pub device: Vec<String>,
    /// Annotated videos, of which the first is used [default: assets/demo]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Frames to track
    #[arg(long, value_name = "N", default_value = "16")]
    pub frames: NonZeroUsize,
    /// Directory of model packs, searched before JETBENCH_PACKS, ./packs and assets/packs (repeatable)
    #[arg(long, value_name = "DIR")]
    pub packs: Vec<PathBuf>,
    /// Binds a model name to a pack (repeatable)
    #[arg(long, value_name = "NAME=PACK")]
    pub alias: Vec<String>,
    /// ONNX Runtime library to load; searched for when left out
    #[arg(long, value_name = "FILE")]
    pub ort_lib: Option<PathBuf>,
    /// Threads inside one operator on the CPU
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Exit with 1 when there is a copy of this severity or worse
    #[arg(long, value_enum, value_name = "SEVERITY")]
    pub fail_on: Option<crate::command::audit::Severity>,
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
    /// Where to read
    #[arg(long, value_enum, default_value = "sysfs")]
    pub source: SensorSource,
    /// How to write
    #[arg(long, value_enum, default_value = "csv")]
    pub format: TelemetryFormat,
    /// Stop after so many seconds [default: at Ctrl-C]
    #[arg(long, value_name = "S")]
    pub duration: Option<f64>,
    /// Write to a file; `-` is stdout
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub out: PathBuf,
    /// Samples per second [default: 10]
    #[arg(long, value_name = "HZ")]
    pub sample_hz: Option<f64>,
    /// Memory and processor time of this process too
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// With --source tegrastats: read lines that it wrote from a file instead of starting it; `-` is stdin
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Root of the file tree that is read, e.g. one captured on a board
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Do not say what cannot be read
    #[arg(short, long)]
    pub quiet: bool,
}

/// Flags of `packs`.
#[derive(Args, Debug)]
pub struct PacksArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: PacksCommand,
}

/// Sub-commands of `packs`.
#[derive(Subcommand, Debug)]
pub enum PacksCommand {
    /// Graphs, shapes, parameters, operations and bytes per frame, precision, memory, and what the manifest lacks; counted
    /// from the files, nothing is run
    Inspect(InspectArgs),
}

/// Flags of `packs inspect`.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// Pack directory, e.g. assets/packs/sam2_mini
    pub pack: PathBuf,
    /// Precision whose graphs are counted [default: the first that every graph has]
    #[arg(long, value_name = "TYPE")]
    pub dtype: Option<String>,
    /// Form of the graphs that have two: plain, for all providers [default], or cpu, for ONNX Runtime's CPU provider
    #[arg(long, value_name = "FORM", value_parser = ["plain", "cpu"])]
    pub form: Option<String>,
    /// Number of objects that are tracked
    #[arg(long, value_name = "N", default_value = "1")]
    pub objects: NonZeroUsize,
    /// The least time per graph on a device: cpu (measured now), or a Jetson module such as orin-nano-8gb,
    /// agx-orin-64gb@612/3200 (GPU and memory clock of a power mode, MHz)
    #[arg(long, value_name = "DEVICE")]
    pub roofline: Option<String>,
    /// Threads of the CPU measurement [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// ONNX Runtime library for the CPU measurement; searched for when left out
    #[arg(long, value_name = "FILE")]
    pub ort_lib: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
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

/// One path or a list of paths.
fn paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    Ok(words(deserializer)?.into_iter().map(PathBuf::from).collect())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
