//! From what was typed to what will be done: flags, config file and environment become a list of cells (model tag x
//! precision x device) over a list of sequences. Packs are checked and the data is opened here, so that every mistake
//! that can be found without a device is found before one is touched.

pub mod budget;
pub mod config;
pub mod data;
pub mod identity;
pub mod resolve;
pub mod scenario;
pub mod settings;
pub mod shard;
mod sound;

use std::fmt::Write as _;
use std::path::PathBuf;

use jetbench_runners::contract::{OVERLAPS, PIPELINE};
use jetbench_runners::packs::{self, PackInfo};
use jetbench_runners::types::{Admitted, DroppedOption, Options, PromptKind};

use crate::cli::RunArgs;
use crate::dataset::Dataset;
use crate::exit::Stop;
use crate::plan::resolve::Cell;
use crate::plan::scenario::Scenario;
use crate::plan::settings::Settings;

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
        let (settings, shard_said) = settings::settings(args)?;
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
                    let (pack, prompt) = resolve::resolve(model, &settings, device, &mut notes)?;
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
        let mut dataset = data::open_whole(&settings.data, settings.limits)?;
        let list = dataset.sequences.iter().map(|s| s.name.clone()).collect();
        let list_sha256 = identity::list_sha256(&dataset);
        data::keep_part(&mut dataset, settings.limits.shard)?;
        sound::dataset_is_sound(&dataset, &cells)?;
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
        let ort_lib = resolve::find_runtime(&settings, &cells)?;
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
pub(crate) fn options(settings: &Settings, cell: &Cell) -> Options {
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
