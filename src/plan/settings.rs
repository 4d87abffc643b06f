//! What was typed, as typed settings: flags and config file with the defaults filled in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jetbench_runners::types::{Device, Dtype, Options};
use serde::{Deserialize, Serialize};

use crate::cli::RunArgs;
use crate::dataset::{Layout, Live, UserPrompts};
use crate::exit::Error;
use crate::plan::data::Source;
use crate::plan::live;
use crate::plan::mask_files::MaskFiles;
use crate::plan::overlays::Overlays;
use crate::plan::policy::Policy;
use crate::plan::scenario::Scenario;
use crate::plan::shard::{self, Shard};
use crate::plan::shipped;

/// The part of a dataset that is used: the first so many of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Videos.
    pub videos: Option<usize>,
    /// Objects per video.
    pub objects: Option<usize>,
    /// Frames per video.
    pub frames: Option<usize>,
    /// Of the videos that are left, those of this part.
    #[serde(default)]
    pub shard: Option<Shard>,
    /// Keep videos that show stuff alone? Only models that find their objects themselves can use them.
    #[serde(default)]
    pub stuff: bool,
}

/// What to wait for, and how long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// The hottest zone must be at or below this, degrees Celsius.
    pub cool_to_celsius: Option<f64>,
    /// The processors must be busy at or below this, percent of all.
    pub idle_percent: Option<f64>,
    /// Longest wait for each: lock, temperature, idleness; seconds.
    pub max_wait_s: f64,
    /// Least free space where results go, MiB.
    pub min_free_mib: u64,
}

/// Every setting in effect, defaults included; written to `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Model tags, in the order asked for.
    pub models: Vec<String>,
    /// Precisions, in the order asked for.
    pub dtype: Vec<Dtype>,
    /// Devices, in the order asked for.
    pub device: Vec<Device>,
    /// Dataset root.
    pub data: PathBuf,
    /// Where it is a live source: what is known of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Live>,
    /// Its layout, where the user says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    /// Part of the dataset that is used.
    pub limits: Limits,
    /// Results root.
    pub out: PathBuf,
    /// Pack path, in search order.
    pub packs: Vec<PathBuf>,
    /// Model names bound to packs by the user.
    pub alias: BTreeMap<String, String>,
    /// ONNX Runtime library asked for.
    pub ort_lib: Option<PathBuf>,
    /// Plugin libraries of execution providers asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ep_library: Vec<PathBuf>,
    /// Clicks per object, where they are placed on a mask.
    pub clicks: usize,
    /// Prompts of the user's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<UserPrompts>,
    /// Options for the runners.
    pub options: Options,
    /// Precision policy.
    pub precision_policy: Policy,
    /// Write predicted masks, in which files.
    pub save_masks: MaskFiles,
    /// Draw overlays, in which files.
    #[serde(deserialize_with = "Overlays::recorded")]
    pub overlays: Overlays,
    /// When all is measured, track backward in time, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backward: bool,
    /// Track on after a faulty warm-up mask.
    pub keep_going: bool,
    /// Samples of the sensors per second.
    pub sample_hz: f64,
    /// How frames are offered.
    pub scenario: Scenario,
    /// Frames per second of the clock and of the deadline; `None`: the clip's own.
    pub fps: Option<f64>,
    /// Fresh processes per cell.
    pub repeat: usize,
    /// What other processes do to a cell.
    pub rival_policy: Policy,
    /// Less time in frames makes a cell invalid, seconds.
    pub min_seconds: f64,
    /// Fewer timed frames make a cell invalid.
    pub min_frames: usize,
    /// Watchdog while tracking, seconds.
    pub event_timeout_s: f64,
    /// Watchdog while loading and warming up, seconds.
    pub load_timeout_s: f64,
    /// Loop clips to this many frames.
    pub loop_frames: Option<usize>,
    /// What to wait for before measuring.
    pub waiting: Waiting,
    /// Retention: newest runs of this device that stay.
    pub keep: Option<usize>,
    /// The pack that names the tracks, by its name or place.
    #[serde(default)]
    pub labels: Option<String>,
    /// Most memory that a cell may be estimated to need, bytes.
    #[serde(default)]
    pub memory_budget: Option<u64>,
}

/// Fills in defaults and reads every word of the flags.
pub(crate) fn settings(args: &RunArgs) -> Result<(Settings, Option<String>), Error> {
    let shard = shard::find(args.shard, |name| std::env::var(name).ok())?;
    let mut models = split(&args.models);
    if let Some(detector) = &args.detector {
        models.iter_mut().for_each(|model| *model = format!("{model}_{detector}"));
    }
    if models.is_empty() {
        return Err(Error::Usage(
            "no models given: say --models TAG,… (`jetbench models` lists the tags), or `models = [\"…\"]` in a config \
             file"
            .into(),
        ));
    }
    let options = options(args)?;
    let live = live::find(args, shard.is_some())?;
    let data = match &live {
        Some(live) => PathBuf::from(live.address.shown()),
        None => data(args.data.as_deref())?,
    };
    let (count, prompts) = prompts(args, &data)?;
    let is_live = live.is_some();
    let settings = Settings {
        models,
        dtype: distinct(&args.dtype, Dtype::Bf16),
        device: distinct(&args.device, Device::Cpu),
        data,
        live,
        layout: args.layout,
        limits: Limits {
            videos: args.limit_videos.map(Into::into),
            objects: args.limit_objects.map(Into::into),
            frames: args.limit_frames.map(Into::into),
            shard: shard.as_ref().map(|(shard, _)| *shard),
            // Known once the models are.
            stuff: false,
        },
        out: default_out(args.out.clone()),
        packs: pack_path(&args.packs),
        alias: pairs(&args.alias, "--alias", "NAME=PACK")?.into_iter().collect(),
        ort_lib: args.ort_lib.clone(),
        ep_library: args.ep_library.clone(),
        clicks: count.unwrap_or(1),
        prompts: Some(prompts).filter(|prompts| !prompts.is_empty()),
        options,
        precision_policy: args.precision_policy.unwrap_or(Policy::Report),
        save_masks: args.save_masks.unwrap_or_default(),
        overlays: args.overlays.unwrap_or_default(),
        backward: args.backward.unwrap_or(false),
        keep_going: args.keep_going.unwrap_or(false),
        sample_hz: crate::telemetry::rate(args.sample_hz)?,
        scenario: args.scenario.unwrap_or(if is_live { Scenario::Realtime } else { Scenario::default() }),
        fps: args.fps,
        repeat: args.repeat.map_or(1, Into::into),
        labels: args.labels.clone(),
        rival_policy: args.rival_policy.unwrap_or(Policy::Report),
        min_seconds: args.min_seconds.unwrap_or(0.0),
        min_frames: args.min_frames.unwrap_or(20),
        event_timeout_s: args.event_timeout.unwrap_or(120.0),
        load_timeout_s: args.load_timeout.unwrap_or(1800.0),
        loop_frames: args.loop_frames.map(Into::into),
        waiting: Waiting {
            cool_to_celsius: args.cool_to,
            idle_percent: args.idle,
            max_wait_s: args.max_wait.map_or(1800.0, |span| span.0.as_secs_f64()),
            min_free_mib: args.min_free_mib.unwrap_or(256),
        },
        keep: args.keep.map(Into::into),
        memory_budget: args.memory_budget.map(|size| size.0),
    };
    settings.check()?;
    Ok((settings, shard.map(|(_, said)| said)))
}

/// How many clicks are placed on a mask, and the prompts that the user gives. `--clicks` says either.
///
/// # Errors
/// A word that is neither; a prompt that cannot be read.
fn prompts(args: &RunArgs, data: &Path) -> Result<(Option<usize>, UserPrompts), Error> {
    let (counts, clicks): (Vec<_>, Vec<_>) = args.clicks.iter().cloned().partition(|word| word.parse::<i128>().is_ok());
    let count = match counts.as_slice() {
        [] => None,
        [one] => Some(one.parse::<usize>().ok().filter(|n| *n > 0).ok_or_else(|| {
            Error::Usage(format!("--clicks {one}: a number of clicks from 1 on, or \"obj=NAME x,y\""))
        })?),
        _ => return Err(Error::Usage(format!("--clicks {}: said twice", counts.join(" and ")))),
    };
    Ok((count, UserPrompts::read(&clicks, &args.corners, args.prompts.as_deref(), data)?))
}

impl Settings {
    /// The videos, and what says where their objects are.
    pub(crate) fn source(&self) -> Source<'_> {
        Source {
            root: &self.data,
            layout: self.layout,
            prompts: self.prompts.as_ref(),
            live: self.live.as_ref(),
            fps: self.fps,
        }
    }

    /// Has every figure a value that its flag could have? Flags are typed in part only, and what a record holds is not.
    ///
    /// # Errors
    /// Names the flag and the value.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let need = |flag: &str, value: f64, holds: bool, needed: &str| match holds {
            true => Ok(()),
            false => Err(Error::Usage(format!("--{flag} {value}: {needed} is needed"))),
        };
        for (flag, s) in [("event-timeout", self.event_timeout_s), ("load-timeout", self.load_timeout_s)] {
            need(flag, s, s > 0.0 && s < 1e9, "a positive number of seconds")?;
        }
        for (flag, s) in [("min-seconds", self.min_seconds), ("max-wait", self.waiting.max_wait_s)] {
            need(flag, s, (0.0..1e9).contains(&s), "a number of seconds")?;
        }
        for (flag, v) in [("cool-to", self.waiting.cool_to_celsius), ("idle", self.waiting.idle_percent)] {
            need(flag, v.unwrap_or(0.0), v.is_none_or(f64::is_finite), "a number")?;
        }
        if let Some(fps) = self.fps {
            need("fps", fps, (0.01..=100_000.0).contains(&fps), "a number of frames per second")?;
        }
        self.live.as_ref().map_or(Ok(()), live::check)?;
        crate::telemetry::rate(Some(self.sample_hz))?;
        let counts = [
            ("repeat", Some(self.repeat)),
            ("clicks", Some(self.clicks)),
            ("loop-frames", self.loop_frames),
            ("keep", self.keep),
            ("limit-videos", self.limits.videos),
            ("limit-objects", self.limits.objects),
            ("limit-frames", self.limits.frames),
        ];
        for (flag, count) in counts {
            need(flag, 0.0, count != Some(0), "a number from 1 on")?;
        }
        if let Some(shard) = self.limits.shard.filter(|s| s.index == 0 || s.index > s.count) {
            return Err(Error::Usage(format!("--shard {shard}: no part of a whole")));
        }
        for (name, value) in &self.options.extra {
            Options::default().set(name, value).map_err(|e| Error::Usage(e.to_string()))?;
        }
        Ok(())
    }
}

/// The options that the flags and the config file ask for.
///
/// # Errors
/// A word that is no pair, a value that an option cannot have.
pub(crate) fn options(args: &RunArgs) -> Result<Options, Error> {
    let mut options = Options::default();
    let threads = args.threads.map(|n| ("threads".to_string(), n.to_string()));
    for (name, value) in threads.into_iter().chain(pairs(&args.option, "--option", "KEY=VALUE")?) {
        options.set(&name, &value).map_err(|e| Error::Usage(e.to_string()))?;
    }
    Ok(options)
}

/// Words of a list, each possibly a comma list itself (config files), without repetitions.
fn split(words: &[String]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for word in words.iter().flat_map(|w| w.split(',')).map(str::trim).filter(|w| !w.is_empty()) {
        if !out.iter().any(|known| known == word) {
            out.push(word.to_string());
        }
    }
    out
}

/// Precisions or devices without repetitions, or the default.
fn distinct<T: Copy + PartialEq>(values: &[T], default: T) -> Vec<T> {
    let mut distinct = Vec::new();
    for &value in values {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    if distinct.is_empty() { vec![default] } else { distinct }
}

fn pairs(words: &[String], flag: &str, form: &str) -> Result<Vec<(String, String)>, Error> {
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_string(), value.trim().to_string())),
            _ => Err(Error::Usage(format!("{flag} {word}: expected {form}"))),
        })
        .collect()
}

/// The annotated videos: those that are named, else the demo clips.
///
/// # Errors
/// The demo clips are nowhere: exit 2.
pub fn data(named: Option<&Path>) -> Result<PathBuf, Error> {
    const DEMO: &str = "assets/demo";
    match named {
        Some(path) => Ok(shipped::named(path)),
        None => {
            shipped::find(DEMO).ok_or_else(|| Error::Usage(format!("no --data given, and {}", shipped::missing(DEMO))))
        }
    }
}

/// `--out`, else `JETBENCH_RESULTS`, else `results`.
pub fn default_out(out: Option<PathBuf>) -> PathBuf {
    out.or_else(|| std::env::var_os("JETBENCH_RESULTS").map(Into::into)).unwrap_or_else(|| PathBuf::from("results"))
}

/// Where packs are looked for: `--packs`, `JETBENCH_PACKS` (colon list), `./packs`, `assets/packs`; only places that
/// exist, except those that were asked for.
pub fn pack_path(flags: &[PathBuf]) -> Vec<PathBuf> {
    let mut path: Vec<PathBuf> = flags.iter().map(|flag| shipped::named(flag)).collect();
    if let Some(list) = std::env::var_os("JETBENCH_PACKS") {
        path.extend(std::env::split_paths(&list).filter(|p| !p.as_os_str().is_empty()));
    }
    path.extend(Some(PathBuf::from("packs")).filter(|p| p.is_dir()));
    path.extend(shipped::find("assets/packs"));
    let mut seen = Vec::new();
    path.retain(|p| {
        let real = p.canonicalize().unwrap_or_else(|_| p.clone());
        let new = !seen.contains(&real);
        seen.push(real);
        new
    });
    path
}
