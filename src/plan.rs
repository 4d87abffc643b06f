//! From what was typed to what will be done: flags, config file and environment become a list of cells (model tag x
//! precision x device) over a list of sequences. Packs are checked and the data is opened here, so that every mistake
//! that can be found without a device is found before one is touched.

pub mod budget;
pub mod config;
pub mod scenario;
pub mod shard;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jetbench_runners::REGISTRY;
use jetbench_runners::contract::{OVERLAPS, PIPELINE};
use jetbench_runners::manifest;
use jetbench_runners::packs::{self, PackInfo};
use jetbench_runners::runtime;
use jetbench_runners::types::{Admitted, Device, DroppedOption, Options, Precision, PromptKind};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cli::RunArgs;
use crate::dataset::{self, DataError, Dataset, MaskSource, OpenOptions, Sequence};
use crate::exit::{Stop, by_nearness, nearest};
use crate::plan::scenario::Scenario;
use crate::plan::shard::Shard;
use crate::run::event::{Job, Limits, PROTOCOL};
use crate::run::lock::{self, Waiting};

/// What something that should not be does to a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// It is recorded.
    Report,
    /// The cell is invalid.
    Strict,
}

/// Every setting in effect, defaults included; written to `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Model tags, in the order asked for.
    pub models: Vec<String>,
    /// Precisions, in the order asked for.
    pub dtype: Vec<Precision>,
    /// Devices, in the order asked for.
    pub device: Vec<Device>,
    /// Dataset root.
    pub data: PathBuf,
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
    /// Clicks per object.
    pub clicks: usize,
    /// Options for the runners.
    pub options: Options,
    /// Precision policy.
    pub precision_policy: Policy,
    /// Write predicted masks.
    pub save_masks: bool,
    /// Draw overlays.
    pub overlays: bool,
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
    /// Most memory that a cell may be estimated to need, bytes.
    #[serde(default)]
    pub memory_budget: Option<u64>,
}

/// One model tag x precision x device, ready to be handed to a worker.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Model tag as asked for.
    pub model: String,
    /// The pack it resolved to, as it is on this device.
    pub pack: PackInfo,
    /// Prompt kind.
    pub prompt: PromptKind,
    /// Precision asked for.
    pub dtype: Precision,
    /// Device asked for.
    pub device: Device,
    /// What became of the options.
    pub admitted: Admitted,
}

impl Cell {
    /// `sam2_points bf16 cpu`: how a cell is named in messages.
    pub fn label(&self) -> String {
        format!("{} {} {}", self.model, self.dtype, self.device)
    }

    /// The same as a directory name.
    pub fn slug(&self) -> String {
        self.label().replace([' ', ':', '/'], "-")
    }
}

/// What will be done.
#[derive(Debug)]
pub struct Plan {
    /// Every setting in effect.
    pub settings: Settings,
    /// The sequences, limits applied; of a part of the dataset, those of the part.
    pub dataset: Dataset,
    /// Names of the sequences of all parts.
    pub list: Vec<String>,
    /// SHA-256 over the list of all parts: see [`crate::results::record::DataRecord::list_sha256`].
    pub list_sha256: String,
    /// The cells, in order: model, then precision, then device.
    pub cells: Vec<Cell>,
    /// What the user should know before it starts: aliases, dropped options.
    pub notes: Vec<String>,
    /// The ONNX Runtime that every cell loads; `None` when only test packs are run.
    pub ort_lib: Option<PathBuf>,
}

impl Plan {
    /// Builds the plan from flags that already have the config file behind them, and checks everything that can be
    /// checked without a device.
    ///
    /// # Errors
    /// The first thing that is wrong: unknown tag, precision or device, a broken pack, unusable data.
    pub fn new(args: &RunArgs) -> Result<Plan, Stop> {
        let (settings, shard_said) = settings(args)?;
        let notes =
            settings.limits.shard.zip(shard_said).map(|(shard, said)| format!("part {shard} of the videos ({said})"));
        Plan::of(settings, notes.into_iter().collect())
    }

    /// Builds the plan from settings that are already complete, as those of a recorded run are.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn of(settings: Settings, mut notes: Vec<String>) -> Result<Plan, Stop> {
        let mut cells = Vec::new();
        let mut checked = Vec::new();
        for model in &settings.models {
            for &dtype in &settings.dtype {
                for &device in &settings.device {
                    let (pack, prompt) = resolve(model, &settings, device, &mut notes)?;
                    if !pack.capabilities.precisions.contains(&dtype) {
                        let known: Vec<_> = pack.capabilities.precisions.iter().map(ToString::to_string).collect();
                        return Err(Stop::Usage(format!(
                            "pack {} has no {dtype} graphs; it has: {}",
                            pack.dir.display(),
                            known.join(", ")
                        )));
                    }
                    if !checked.contains(&(pack.dir.clone(), dtype)) {
                        packs::check(&pack.dir, dtype)?;
                        checked.push((pack.dir.clone(), dtype));
                    }
                    let mut admitted = admit(&pack, &settings, prompt);
                    admit_pipeline(&mut admitted, &pack, settings.scenario);
                    cells.push(Cell { model: model.clone(), pack, prompt, dtype, device, admitted });
                }
            }
        }
        for cell in &cells {
            for dropped in &cell.admitted.dropped {
                let note =
                    format!("{}: option {}={} dropped: {}", cell.model, dropped.name, dropped.value, dropped.reason);
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
        let mut dataset = open_whole(&settings.data, settings.limits)?;
        let list = dataset.sequences.iter().map(|s| s.name.clone()).collect();
        let list_sha256 = list_sha256(&dataset);
        keep_part(&mut dataset, settings.limits.shard)?;
        dataset_is_sound(&dataset, &cells)?;
        if dataset.exclusive() {
            // Such data is scored on label maps: who gets a pixel that two objects claim is the model's to say.
            for cell in cells.iter_mut().filter(|c| c.pack.capabilities.options.iter().any(|o| o == OVERLAPS)) {
                if !settings.options.extra.contains_key(OVERLAPS) {
                    cell.admitted.passed.push((OVERLAPS.to_string(), "exclusive".to_string()));
                }
            }
        }
        if let Some(most) = settings.memory_budget {
            notes.extend(within_budget(&settings, &cells, &dataset, most)?);
        }
        let ort_lib = find_runtime(&settings, &cells)?;
        Ok(Plan { settings, dataset, list, list_sha256, cells, notes, ort_lib })
    }

    /// Frames that one cell tracks.
    pub fn frames(&self) -> usize {
        self.dataset.sequences.iter().map(|s| self.settings.loop_frames.unwrap_or(s.frames.len())).sum()
    }

    /// Fresh processes: every cell as often as it is repeated, the cells in turn.
    pub fn units(&self) -> usize {
        self.cells.len() * self.settings.repeat
    }

    /// Objects that one cell tracks.
    pub fn objects(&self) -> usize {
        self.dataset.sequences.iter().map(|s| s.objects.len()).sum()
    }

    /// The job for a worker; `skip` names the sequences that an earlier worker finished.
    pub fn job(&self, cell: &Cell, spool: PathBuf, skip: Vec<usize>) -> Job {
        Job {
            protocol: PROTOCOL,
            pack: cell.pack.dir.clone(),
            prompt: cell.prompt,
            clicks: clicks(&cell.pack, &self.settings),
            dtype: cell.dtype,
            device: cell.device,
            options: options(&self.settings, cell),
            ort_lib: self.ort_lib.clone(),
            data: self.settings.data.clone(),
            limits: self.settings.limits,
            skip,
            keep_going: self.settings.keep_going,
            loop_frames: self.settings.loop_frames,
            scenario: self.settings.scenario,
            fps: self.settings.fps,
            null_run: false,
            spool,
        }
    }

    /// The plan in words, for `--dry-run`.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let data = &self.dataset;
        let _ = writeln!(
            text,
            "data: {} ({}), {} videos, {} objects, {} frames",
            data.root.display(),
            data.layout,
            data.sequences.len(),
            self.objects(),
            self.frames()
        );
        for (n, cell) in self.cells.iter().enumerate() {
            let options: Vec<_> = cell.admitted.passed.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let _ = writeln!(
                text,
                "cell {}/{}: {}  pack {}{}",
                n + 1,
                self.cells.len(),
                cell.label(),
                cell.pack.dir.display(),
                if options.is_empty() { String::new() } else { format!("  options {}", options.join(" ")) }
            );
        }
        if let Some(library) = &self.ort_lib {
            let _ = writeln!(text, "ONNX Runtime: {}", library.display());
        }
        let _ = writeln!(text, "results: {}", self.settings.out.display());
        text
    }
}

/// What the runner of a cell is given: the options that were asked for and admitted, and those the plan settles.
fn options(settings: &Settings, cell: &Cell) -> Options {
    let dropped = |name: &str| cell.admitted.dropped.iter().any(|d| d.name == name);
    let mut options = settings.options.clone();
    options.extra.retain(|name, _| !dropped(name));
    let settled = cell.admitted.passed.iter().filter(|(name, _)| [OVERLAPS, PIPELINE].contains(&name.as_str()));
    options.extra.extend(settled.cloned());
    options.threads = options.threads.filter(|_| !dropped("threads"));
    options.spinning = options.spinning.filter(|_| !dropped("spinning"));
    options
}

/// The options that the runner gets and those it does not; clicks are an option of points prompts.
fn admit(pack: &PackInfo, settings: &Settings, prompt: PromptKind) -> Admitted {
    let mut admitted = pack.capabilities.admit(&settings.options);
    if prompt == PromptKind::Points && settings.clicks > 1 {
        let given = clicks(pack, settings);
        if given > 1 {
            admitted.passed.push(("clicks".into(), given.to_string()));
        }
        if given < settings.clicks {
            admitted.dropped.push(DroppedOption {
                name: "clicks".into(),
                value: settings.clicks.to_string(),
                reason: format!("this pack takes at most {given} clicks per object; {given} are given"),
            });
        }
    }
    admitted
}

/// Where throughput counts, a runner that gains by encoding the next frame beside this one does so unless told otherwise; where
/// frames come one at a time there is no next one.
fn admit_pipeline(admitted: &mut Admitted, pack: &PackInfo, scenario: Scenario) {
    if !pack.capabilities.options.iter().any(|o| o == PIPELINE) {
        return;
    }
    let given = admitted.passed.iter().position(|(name, _)| name == PIPELINE);
    match (scenario, given) {
        (Scenario::Offline, None) => {
            let ahead = if pack.capabilities.works_ahead { "on" } else { "off" };
            admitted.passed.push((PIPELINE.to_string(), ahead.to_string()));
        }
        (Scenario::SingleStream | Scenario::Realtime, Some(at)) => {
            let (name, value) = admitted.passed.remove(at);
            let reason = format!("only in the scenario offline; in {scenario} no frame is there before its turn");
            admitted.dropped.push(DroppedOption { name, value, reason });
        }
        _ => {}
    }
}

/// Clicks per object that this pack is given.
pub fn clicks(pack: &PackInfo, settings: &Settings) -> usize {
    settings.clicks.min(pack.capabilities.max_points.max(1) as usize)
}

/// Fills in defaults and reads every word of the flags.
fn settings(args: &RunArgs) -> Result<(Settings, Option<String>), Stop> {
    let shard = shard::find(args.shard.as_deref(), |name| std::env::var(name).ok())?;
    let models = split(&args.models);
    if models.is_empty() {
        return Err(Stop::Usage(
            "no models given: say --models TAG,… (`jetbench models` lists the tags), or `models = [\"…\"]` in a config \
             file"
            .into(),
        ));
    }
    let default = |words: &[String], word: &str| if words.is_empty() { vec![word.to_string()] } else { split(words) };
    let mut options = Options { threads: args.threads.map(Into::into), ..Options::default() };
    for (key, value) in pairs(&args.option, "--option", "KEY=VALUE")? {
        let bad = |what: &str| Stop::Usage(format!("--option {key}={value}: `{value}` is not {what}"));
        match key.as_str() {
            "threads" => options.threads = Some(value.parse().map_err(|_| bad("a number"))?),
            "spinning" => options.spinning = Some(value.parse().map_err(|_| bad("true or false"))?),
            _ => {
                options.extra.insert(key, value);
            }
        }
    }
    let precision_policy = policy(args.precision_policy.as_deref(), "precision")?;
    let seconds = |value: Option<f64>, default: f64, name: &str| match value.unwrap_or(default) {
        s if s.is_finite() && s > 0.0 && s < 1e9 => Ok(s),
        s => Err(Stop::Usage(format!("--{name} {s}: a positive number of seconds is needed"))),
    };
    let finite = |value: Option<f64>, name: &str| match value {
        Some(v) if !v.is_finite() => Err(Stop::Usage(format!("--{name} {v}: a number is needed"))),
        other => Ok(other),
    };
    let settings = Settings {
        models,
        dtype: parsed(&default(&args.dtype, "bf16"))?,
        device: parsed(&default(&args.device, "cpu"))?,
        data: args.data.clone().unwrap_or_else(default_data),
        limits: Limits {
            videos: args.limit_videos.map(Into::into),
            objects: args.limit_objects.map(Into::into),
            frames: args.limit_frames.map(Into::into),
            shard: shard.as_ref().map(|(shard, _)| *shard),
        },
        out: default_out(args.out.clone()),
        packs: pack_path(&args.packs),
        alias: pairs(&args.alias, "--alias", "NAME=PACK")?.into_iter().collect(),
        ort_lib: args.ort_lib.clone(),
        clicks: args.clicks.map_or(1, Into::into),
        options,
        precision_policy,
        save_masks: args.save_masks.unwrap_or(false),
        overlays: args.overlays.unwrap_or(false),
        keep_going: args.keep_going.unwrap_or(false),
        sample_hz: crate::command::telemetry::rate(args.sample_hz)?,
        scenario: args.scenario.as_deref().map_or(Ok(Scenario::default()), |s| s.parse().map_err(Stop::Usage))?,
        fps: match args.fps {
            Some(fps) if !(0.01..=100_000.0).contains(&fps) => {
                return Err(Stop::Usage(format!("--fps {fps}: a number of frames per second is needed")));
            }
            fps => fps,
        },
        repeat: args.repeat.map_or(1, Into::into),
        rival_policy: policy(args.rival_policy.as_deref(), "rival")?,
        min_seconds: match args.min_seconds.unwrap_or(0.0) {
            s if (0.0..1e9).contains(&s) => s,
            s => return Err(Stop::Usage(format!("--min-seconds {s}: a number of seconds is needed"))),
        },
        min_frames: args.min_frames.unwrap_or(20),
        event_timeout_s: seconds(args.event_timeout, 120.0, "event-timeout")?,
        load_timeout_s: seconds(args.load_timeout, 1800.0, "load-timeout")?,
        loop_frames: args.loop_frames.map(Into::into),
        waiting: Waiting {
            cool_to_celsius: finite(args.cool_to, "cool-to")?,
            idle_percent: finite(args.idle, "idle")?,
            max_wait_s: lock::seconds(args.max_wait.as_deref().unwrap_or("30m"))
                .map_err(|e| Stop::Usage(format!("--max-wait: {e}")))?,
            min_free_mib: args.min_free_mib.unwrap_or(256),
        },
        keep: args.keep.map(Into::into),
        memory_budget: (args.memory_budget.as_deref().map(budget::parse).transpose())
            .map_err(|e| Stop::Usage(format!("--memory-budget: {e}")))?,
    };
    Ok((settings, shard.map(|(_, said)| said)))
}

/// `report` (the default) or `strict`.
fn policy(word: Option<&str>, what: &str) -> Result<Policy, Stop> {
    match word {
        None | Some("report") => Ok(Policy::Report),
        Some("strict") => Ok(Policy::Strict),
        Some(other) => Err(Stop::Usage(format!("unknown {what} policy `{other}`; known: report, strict"))),
    }
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

/// Precisions or devices, without repetitions.
pub fn parsed<T: FromStr + PartialEq>(words: &[String]) -> Result<Vec<T>, Stop>
where
    T::Err: std::fmt::Display,
{
    let mut out = Vec::new();
    for word in words {
        let value = word.parse().map_err(|e: T::Err| Stop::Usage(e.to_string()))?;
        if !out.contains(&value) {
            out.push(value);
        }
    }
    Ok(out)
}

fn pairs(words: &[String], flag: &str, form: &str) -> Result<Vec<(String, String)>, Stop> {
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_string(), value.trim().to_string())),
            _ => Err(Stop::Usage(format!("{flag} {word}: expected {form}"))),
        })
        .collect()
}

/// `assets/demo` below the current directory, else below the tree that the executable lies in.
pub fn default_data() -> PathBuf {
    below_tree("assets/demo").unwrap_or_else(|| PathBuf::from("assets/demo"))
}

/// `--out`, else `JETBENCH_RESULTS`, else `results`.
pub fn default_out(out: Option<PathBuf>) -> PathBuf {
    out.or_else(|| std::env::var_os("JETBENCH_RESULTS").map(Into::into)).unwrap_or_else(|| PathBuf::from("results"))
}

/// `relative` below the current directory, else below `JETBENCH_HOME` if that is set, else below any directory above the
/// executable, if it is there.
fn below_tree(relative: &str) -> Option<PathBuf> {
    let here = PathBuf::from(relative);
    if here.exists() {
        return Some(here);
    }
    if let Some(home) = std::env::var_os("JETBENCH_HOME").filter(|h| !h.is_empty()) {
        return Some(PathBuf::from(home).join(relative)).filter(|p| p.exists());
    }
    let exe = std::env::current_exe().ok()?;
    exe.ancestors().skip(1).map(|dir| dir.join(relative)).find(|p| p.exists())
}

/// Where packs are looked for: `--packs`, `JETBENCH_PACKS` (colon list), `./packs`, `assets/packs`; only places that
/// exist, except those that were asked for.
pub fn pack_path(flags: &[PathBuf]) -> Vec<PathBuf> {
    let mut path = flags.to_vec();
    if let Some(list) = std::env::var_os("JETBENCH_PACKS") {
        path.extend(std::env::split_paths(&list).filter(|p| !p.as_os_str().is_empty()));
    }
    path.extend(Some(PathBuf::from("packs")).filter(|p| p.is_dir()));
    path.extend(below_tree("assets/packs"));
    let mut seen = Vec::new();
    path.retain(|p| {
        let real = p.canonicalize().unwrap_or_else(|_| p.clone());
        let new = !seen.contains(&real);
        seen.push(real);
        new
    });
    path
}

/// Default bindings of model names to packs, from the registry.
pub fn registry_aliases<'a>() -> impl Iterator<Item = (&'a str, &'a str)> {
    REGISTRY.iter().flat_map(|e| e.aliases.iter().copied())
}

/// Holds every cell against `--memory-budget`; the estimates, for the screen.
fn within_budget(settings: &Settings, cells: &[Cell], dataset: &Dataset, most: u64) -> Result<Vec<String>, Stop> {
    let objects = dataset.sequences.iter().map(|s| s.objects.len()).max().unwrap_or(1);
    let mut notes = Vec::new();
    for cell in cells {
        let load = budget::Load {
            pack: &cell.pack.dir,
            precision: cell.dtype,
            device: cell.device,
            objects,
            options: options(settings, cell),
        };
        let others = || {
            let found = packs::list(&settings.packs, cell.device).into_iter().filter_map(|(_, info)| info.ok());
            let found = found.filter(|p| !p.hidden && p.capabilities.prompts.contains(&cell.prompt));
            found.map(|p| (format!("{}_{}", p.id, cell.prompt), p.dir)).collect()
        };
        let need = budget::check(&cell.label(), &load, most, others)?;
        let note = format!(
            "{}: about {} of memory without the runtime's own, an estimate from the graphs; the budget is {}",
            cell.label(),
            budget::mib(need),
            budget::mib(most)
        );
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    Ok(notes)
}

/// Finds the pack and the prompt kind that a model tag means. Order: the user's aliases, a pack of that name, the
/// registry's aliases.
fn resolve(
    tag: &str,
    settings: &Settings,
    device: Device,
    notes: &mut Vec<String>,
) -> Result<(PackInfo, PromptKind), Stop> {
    let found = packs::list(&settings.packs, device);
    let available: Vec<&PackInfo> = found.iter().filter_map(|(_, info)| info.as_ref().ok()).collect();
    let unknown = || unknown_tag(tag, settings, &available);
    let (name, prompt) = tag.rsplit_once('_').ok_or_else(unknown)?;
    let prompt = *PromptKind::ALL.iter().find(|k| k.as_str() == prompt).ok_or_else(unknown)?;
    // The first pack of a name counts, also when it is broken: another one further down the path is never taken in its
    // place.
    let named = |name: &str| {
        found.iter().find(|(dir, info)| match info {
            Ok(info) => info.id == name,
            Err(_) => broken_id(dir).is_some_and(|id| id == name),
        })
    };
    let registered = || registry_aliases().find(|(alias, _)| *alias == name).map(|(_, pack)| pack);
    let bound = settings.alias.get(name).map(String::as_str).or_else(|| named(name).is_none().then(registered)?);
    let wanted = bound.unwrap_or(name);
    let pack = match named(wanted) {
        Some((_, Ok(pack))) => pack,
        Some((_, Err(fault))) => return Err(Stop::Usage(fault.to_string())),
        None => {
            return Err(match bound {
                Some(bound) => Stop::Usage(format!(
                    "model `{tag}` means pack `{bound}`, which is not on the pack path ({}); give its place with --packs \
                     DIR, or bind the name to another pack with --alias {name}=PACK",
                    places(&settings.packs)
                )),
                None => unknown(),
            });
        }
    };
    if let Some(bound) = bound {
        let note = format!("model name {name} means pack {bound} ({})", pack.dir.display());
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    if !pack.capabilities.prompts.contains(&prompt) {
        let known: Vec<_> = pack.capabilities.prompts.iter().map(|k| format!("{name}_{k}")).collect();
        return Err(Stop::Usage(format!(
            "pack {} takes no {prompt} prompts; it can be run as: {}",
            pack.dir.display(),
            known.join(", ")
        )));
    }
    Ok((pack.clone(), prompt))
}

/// Id of a pack that cannot be used, as far as its manifest can be read; else the name of its directory.
fn broken_id(dir: &Path) -> Option<String> {
    let text = std::fs::read_to_string(dir.join(manifest::FILE_NAME)).unwrap_or_default();
    let table: Option<toml::Table> = toml::from_str(&text).ok();
    let id = table.and_then(|t| t.get("id")?.as_str().map(String::from));
    id.or_else(|| Some(dir.file_name()?.to_string_lossy().into_owned()))
}

fn places(path: &[PathBuf]) -> String {
    if path.is_empty() {
        return "empty: neither --packs nor JETBENCH_PACKS is set, and there is no ./packs or assets/packs".into();
    }
    path.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn unknown_tag(tag: &str, settings: &Settings, available: &[&PackInfo]) -> Stop {
    let known = known_tags(&settings.alias, available);
    let listing = if known.is_empty() {
        format!("no packs were found on the pack path ({}); give one with --packs DIR", places(&settings.packs))
    } else {
        format!("known models: {}", by_nearness(tag, known.clone()).join(", "))
    };
    let hint = nearest(tag, known.iter().map(String::as_str)).map(|n| format!("; did you mean `{n}`?"));
    Stop::Usage(format!("unknown model `{tag}`{}\n{listing}", hint.unwrap_or_default()))
}

/// Every model tag that can be run with these packs, aliases first.
pub fn known_tags(aliases: &BTreeMap<String, String>, available: &[&PackInfo]) -> Vec<String> {
    let mut tags = Vec::new();
    for pack in available {
        let bound = aliases.iter().map(|(a, p)| (a.as_str(), p.as_str()));
        let also = bound.chain(registry_aliases()).filter(|(_, p)| *p == pack.id).map(|(a, _)| a);
        for name in also.chain([pack.id.as_str()]) {
            tags.extend(pack.capabilities.prompts.iter().map(|kind| format!("{name}_{kind}")));
        }
    }
    tags
}

/// Looks for ONNX Runtime once for all cells, and for the providers of their devices in it; nothing is loaded to stay.
///
/// # Errors
/// No usable library, or one that was built without a provider that a cell asks for: exit 3.
fn find_runtime(settings: &Settings, cells: &[Cell]) -> Result<Option<PathBuf>, Stop> {
    let real: Vec<&Cell> = cells.iter().filter(|c| !c.pack.hidden).collect();
    if real.is_empty() {
        return Ok(None);
    }
    let probe = runtime::probe(settings.ort_lib.as_deref());
    if let Some(problem) = probe.problem {
        return Err(Stop::Environment(problem));
    }
    for cell in real {
        if let Some(missing) = missing_provider(cell.device, &probe.providers) {
            let library = probe.chosen.as_deref().unwrap_or(Path::new("?"));
            return Err(Stop::Environment(format!(
                "device {}: {} has no {missing}; it has: {}. Name a build that has it with --ort-lib FILE, or use --device \
                 cpu",
                cell.device,
                library.display(),
                probe.providers.join(", ")
            )));
        }
    }
    Ok(probe.chosen)
}

/// The execution provider that `device` needs, when it is not among `providers`.
pub fn missing_provider(device: Device, providers: &[String]) -> Option<&'static str> {
    let needed = match device {
        Device::Cpu => "CPUExecutionProvider",
        Device::Cuda(_) => "CUDAExecutionProvider",
        Device::TensorRt(_) => "TensorrtExecutionProvider",
    };
    (!providers.iter().any(|p| p == needed)).then_some(needed)
}

/// Opens the part of a dataset that is used.
///
/// # Errors
/// It cannot be read, or nothing is left within the limits.
pub fn open_data(root: &Path, limits: Limits) -> Result<Dataset, DataError> {
    let mut dataset = open_whole(root, limits)?;
    keep_part(&mut dataset, limits.shard)?;
    Ok(dataset)
}

/// The same with the videos of all parts.
fn open_whole(root: &Path, limits: Limits) -> Result<Dataset, DataError> {
    let options = OpenOptions { videos: limits.videos, ..OpenOptions::default() };
    let mut dataset = Dataset::open_with(root, &options)?;
    dataset.limit(limits.videos, limits.objects, limits.frames)?;
    Ok(dataset)
}

/// Keeps the videos of one part.
fn keep_part(dataset: &mut Dataset, shard: Option<Shard>) -> Result<(), DataError> {
    let Some(shard) = shard else { return Ok(()) };
    let videos = dataset.sequences.len();
    let mut position = 0;
    dataset.sequences.retain(|_| {
        position += 1;
        shard.holds(position - 1)
    });
    if dataset.sequences.is_empty() {
        return Err(DataError(format!(
            "{}: part {shard} of {videos} videos is empty; use at most {videos} parts",
            dataset.root.display()
        )));
    }
    Ok(())
}

/// Digest of what is to be tracked: names, sizes, frames and annotated objects of all videos.
fn list_sha256(dataset: &Dataset) -> String {
    let mut digest = Sha256::new();
    digest.update(format!("{}\n", dataset.layout));
    for sequence in &dataset.sequences {
        digest.update(format!("{:?} {}x{}\n", sequence.name, sequence.width, sequence.height));
        for frame in &sequence.frames {
            digest.update(format!("{:?}\n", frame.name));
        }
        for object in &sequence.objects {
            digest.update(format!("{:?} {} {:?}\n", object.name, object.prompt_frame, object.annotated));
        }
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What would stop a run half-way is looked for beforehand: too many objects for a pack, frames that are cut off,
/// annotations of another size than the frames. File ends and headers are enough for that; nothing is decoded.
fn dataset_is_sound(dataset: &Dataset, cells: &[Cell]) -> Result<(), Stop> {
    for cell in cells {
        let Some(most) = cell.pack.capabilities.max_objects else { continue };
        if let Some(sequence) = dataset.sequences.iter().find(|s| s.objects.len() > most as usize) {
            return Err(Stop::Usage(format!(
                "video {} has {} objects, pack {} tracks at most {most} at once; use --limit-objects {most}",
                sequence.name,
                sequence.objects.len(),
                cell.pack.id
            )));
        }
    }
    dataset.sequences.par_iter().try_for_each(|sequence| {
        for frame in &sequence.frames {
            is_whole(&frame.path)?;
        }
        sequence_masks(sequence).iter().try_for_each(|path| mask_fits(path, sequence))
    })
}

/// A frame file must end the way its format ends; a copy that was cut off does not.
fn is_whole(path: &Path) -> Result<(), Stop> {
    let fault = |what: &str| Stop::Usage(format!("{}: {what}; copy or extract it again", path.display()));
    let mut file = File::open(path).map_err(|e| fault(&e.to_string()))?;
    let length = file.metadata().map_err(|e| fault(&e.to_string()))?.len();
    let mut start = Vec::new();
    let mut end = Vec::new();
    // Some cameras pad JPEG files, so the end mark may come a little earlier.
    file.by_ref()
        .take(4)
        .read_to_end(&mut start)
        .and_then(|_| file.seek(SeekFrom::Start(length.saturating_sub(1024))))
        .and_then(|_| file.read_to_end(&mut end))
        .map_err(|e| fault(&e.to_string()))?;
    let ends_with = |mark: &[u8]| end.windows(mark.len()).any(|w| w == mark);
    match start.as_slice() {
        [0xff, 0xd8, ..] if !ends_with(&[0xff, 0xd9]) => Err(fault("truncated JPEG: its end mark is missing")),
        [0x89, b'P', b'N', b'G'] if !ends_with(b"IEND") => Err(fault("truncated PNG: its end mark is missing")),
        [] => Err(fault("empty file")),
        _ => Ok(()),
    }
}

/// Annotation files of the frames and objects in use.
fn sequence_masks(sequence: &Sequence) -> BTreeSet<PathBuf> {
    let file = |dir: &Path, frame: usize| dir.join(format!("{}.png", sequence.frames[frame].name));
    sequence
        .objects
        .iter()
        .flat_map(|object| object.annotated.iter().map(move |&frame| (object, frame)))
        .filter_map(|(object, frame)| match &sequence.masks {
            MaskSource::ObjectFolders(dir) => Some(file(&dir.join(&object.name), frame)),
            MaskSource::LabelMaps(dir) => Some(file(dir, frame)),
            // Read and checked when the dataset was opened.
            MaskSource::Masklets(_) => None,
        })
        .collect()
}

fn mask_fits(path: &Path, sequence: &Sequence) -> Result<(), Stop> {
    let (width, height) = dataset::frame_size(path)?;
    if (width, height) != (sequence.width, sequence.height) {
        return Err(Stop::Usage(format!(
            "{}: annotation of {width}x{height} pixels, the frames of video {} have {}x{}; make them the same size",
            path.display(),
            sequence.name,
            sequence.width,
            sequence.height
        )));
    }
    is_whole(path)
}

#[cfg(test)]
mod tests {
    use jetbench_runners::types::Capabilities;

    use super::*;

    #[test]
    fn frames_are_encoded_ahead_where_that_pays_or_was_asked_for() {
        let pack = |works_ahead: bool, known: bool| PackInfo {
            dir: "p".into(),
            id: "p".into(),
            family: "mock".into(),
            description: String::new(),
            licence: String::new(),
            digest: String::new(),
            capabilities: Capabilities {
                prompts: Vec::new(),
                precisions: Vec::new(),
                options: known.then(|| PIPELINE.to_string()).into_iter().collect(),
                max_objects: None,
                max_points: 1,
                works_ahead,
                refused: Default::default(),
            },
            hidden: false,
        };
        let passed = |pack: PackInfo, scenario: Scenario, given: Option<&str>| {
            let passed = given.map(|value| (PIPELINE.to_string(), value.to_string()));
            let mut admitted = Admitted { passed: passed.into_iter().collect(), ..Admitted::default() };
            admit_pipeline(&mut admitted, &pack, scenario);
            (admitted.passed.first().map(|(_, value)| value.clone()), admitted.dropped.len())
        };
        let said = |value: &str| Some(value.to_string());
        assert_eq!(passed(pack(true, true), Scenario::Offline, None), (said("on"), 0));
        assert_eq!(passed(pack(false, true), Scenario::Offline, None), (said("off"), 0));
        assert_eq!(passed(pack(false, true), Scenario::Offline, Some("on")), (said("on"), 0));
        assert_eq!(passed(pack(true, true), Scenario::Offline, Some("off")), (said("off"), 0));
        assert_eq!(passed(pack(true, false), Scenario::Offline, None), (None, 0));
        assert_eq!(passed(pack(true, true), Scenario::SingleStream, Some("on")), (None, 1));
        assert_eq!(passed(pack(true, true), Scenario::SingleStream, None), (None, 0));
    }
}
