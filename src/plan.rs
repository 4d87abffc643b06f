//! From what was typed to what will be done: flags, config file and environment become a list of cells (model tag x
//! precision x device) over a list of sequences. Packs are checked and the data is opened here, so that every mistake
//! that can be found without a device is found before one is touched.

pub mod budget;
pub mod config;
pub mod content;
pub mod data;
pub mod forecast;
pub mod identity;
pub mod live;
pub mod mask_files;
pub mod options;
pub mod overlays;
pub(crate) mod plugins;
pub mod policy;
mod prompted;
pub mod resolve;
pub mod scenario;
pub mod settings;
pub mod shard;
pub mod shipped;
mod sound;
mod switch;
pub(crate) mod unnamed;
mod unprompted;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use jetbench_runners::packs;
use jetbench_runners::types::Dtype;

use crate::cli::RunArgs;
use crate::dataset::content::folder_stamp;
use crate::dataset::{Dataset, UserPrompts};
use crate::exit::Error;
use crate::plan::resolve::Cell;
use crate::plan::settings::Settings;
use crate::telemetry::allowance::Allowance;
use crate::text::plural;

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
    /// SHA-256 over the prompts that the user gave, of all parts; empty where they are made from ground truth.
    pub prompts_sha256: String,
    /// What the files of all parts hold, as far as it is known before they are decoded.
    pub content: content::Content,
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
    pub fn new(args: &RunArgs) -> Result<Plan, Error> {
        let mut args = args.clone();
        let mut notes = Vec::new();
        if args.device.is_empty() {
            let (device, said) = unnamed::here(args.ort_lib.as_deref())?;
            args.device = vec![device];
            notes.extend(said);
        }
        let (settings, shard_said) = settings::settings(&args)?;
        let part = settings.limits.shard.zip(shard_said);
        notes.extend(part.map(|(shard, said)| format!("part {shard} of the videos ({said})")));
        Plan::of(settings, notes)
    }

    /// Builds the plan from settings that are already complete, as those of a recorded run are.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn of(mut settings: Settings, mut notes: Vec<String>) -> Result<Plan, Error> {
        let (overlays, said) = settings.overlays.decide()?;
        settings.overlays = overlays;
        notes.extend(said);
        let mut cells = cells(&settings, &mut notes)?;
        for cell in &cells {
            for dropped in &cell.admitted.dropped {
                let note =
                    format!("{}: option {}={} dropped: {}", cell.model, dropped.name, dropped.value, dropped.reason);
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
        unprompted::check(&settings, &cells)?;
        if unprompted::is_footage(&settings, &cells) {
            settings.prompts = Some(UserPrompts::default());
        }
        settings.limits.stuff = cells.iter().all(Cell::finds);
        let mut dataset = data::open_whole(&settings.source(), settings.limits)?;
        let list = dataset.sequences.iter().map(|s| s.name.clone()).collect();
        let list_sha256 = identity::list_sha256(&dataset);
        let prompts_sha256 = match dataset.protocol() {
            Some(_) => String::new(),
            None => identity::prompts_sha256(&dataset.sequences),
        };
        let content = content::Content::survey(&dataset);
        data::keep_part(&mut dataset, settings.limits.shard)?;
        sound::dataset_is_sound(&dataset, &cells)?;
        notes.extend(prompted::check(&dataset, &cells)?);
        notes.extend(unprompted::notes(&dataset, &cells, &settings));
        notes.extend(data::remarks(&dataset));
        let exclusive = dataset.exclusive();
        for cell in cells.iter_mut().filter(|cell| exclusive || cell.finds()) {
            options::exclude(cell, &settings);
        }
        if let Some(asked) = settings.memory_budget {
            let most = Allowance::read(Path::new("/")).within_limit(asked);
            if most < asked {
                notes.push(format!(
                    "a cgroup allows {} of memory, less than --memory-budget: that is the budget",
                    budget::mib(most)
                ));
            }
            notes.extend(within_budget(&settings, &cells, &dataset, most)?);
        }
        let ort_lib = resolve::find_runtime(&settings, &mut cells, &mut notes)?;
        if let Some(ort_lib) = &ort_lib {
            identity::libraries(&mut cells, ort_lib)?;
        }
        Ok(Plan { settings, dataset, list, list_sha256, prompts_sha256, content, cells, notes, ort_lib })
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
            "data: {} ({}), {}, {}, {}",
            data.root.display(),
            data.layout,
            plural(data.sequences.len(), "video", "videos"),
            plural(self.objects(), "object", "objects"),
            match self.settings.live {
                Some(_) => "frames as they come".to_string(),
                None => plural(self.frames(), "frame", "frames"),
            }
        );
        for (n, cell) in self.cells.iter().enumerate() {
            let options: Vec<_> = cell.admitted.passed.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let _ = writeln!(
                text,
                "cell {}/{}: {}  pack {}{}{}{}",
                n + 1,
                self.cells.len(),
                cell.label(),
                cell.pack.dir.display(),
                cell.detector.as_ref().map_or_else(String::new, |pack| format!("  detector {}", pack.dir.display())),
                cell.labels.as_ref().map_or_else(String::new, |pack| format!("  labels {}", pack.dir.display())),
                if options.is_empty() { String::new() } else { format!("  options {}", options.join(" ")) }
            );
        }
        if let Some(library) = &self.ort_lib {
            let _ = writeln!(text, "ONNX Runtime: {}", library.display());
        }
        for cell in &self.cells {
            if let Some(offered) = &cell.offered {
                let line = format!("provider of {}: {offered}\n", cell.device);
                if !text.contains(&line) {
                    text.push_str(&line);
                }
            }
        }
        let _ = writeln!(text, "results: {}", self.settings.out.display());
        text
    }
}

/// A cell for each model, precision and device of the settings, in that order.
fn cells(settings: &Settings, notes: &mut Vec<String>) -> Result<Vec<Cell>, Error> {
    let mut cells = Vec::new();
    let mut checked = Vec::new();
    for model in &settings.models {
        for &dtype in &settings.dtype {
            for &device in &settings.device {
                let resolve::Meaning { pack, detector, prompt } = resolve::resolve(model, settings, device, notes)?;
                if !pack.capabilities.dtypes.contains(&dtype) {
                    let known: Vec<_> = pack.capabilities.dtypes.iter().map(ToString::to_string).collect();
                    return Err(Error::Usage(format!(
                        "pack {} has no {dtype} graphs; {}: {}",
                        pack.dir.display(),
                        match &detector {
                            Some(detector) => format!("it and {} both have", detector.dir.display()),
                            None => "it has".to_string(),
                        },
                        known.join(", ")
                    )));
                }
                let admitted = options::admit(&pack, settings, prompt);
                let model = model.clone();
                let pack_stamps = Vec::new();
                let labels = resolve::labels(settings, dtype, device)?;
                let mut cell = Cell {
                    model,
                    pack,
                    detector,
                    labels,
                    prompt,
                    dtype,
                    device,
                    admitted,
                    pack_stamps,
                    offered: None,
                    libraries: Vec::new(),
                };
                cell.pack_stamps = checked_packs(&cell, &mut checked)?;
                options::check(settings, &cell)?;
                cells.push(cell);
            }
        }
    }
    Ok(cells)
}

/// Compares the packs of a cell with their manifests, those that were not yet; what the file system says of them before.
fn checked_packs(cell: &Cell, checked: &mut Vec<(PathBuf, Dtype)>) -> Result<Vec<String>, Error> {
    let mut stamps = Vec::new();
    for pack in cell.packs() {
        stamps.push(folder_stamp(&pack.dir));
        let known = (pack.dir.clone(), cell.dtype);
        if !checked.contains(&known) {
            packs::check(&pack.dir, cell.dtype)?;
            checked.push(known);
        }
    }
    Ok(stamps)
}

/// Holds every cell against `--memory-budget`; the estimates, for the screen.
fn within_budget(settings: &Settings, cells: &[Cell], dataset: &Dataset, most: u64) -> Result<Vec<String>, Error> {
    let objects = dataset.sequences.iter().map(|s| s.objects.len()).max().unwrap_or(1);
    let mut notes = Vec::new();
    for cell in cells {
        let longest = dataset.sequences.iter().map(|s| s.width.max(s.height)).max().unwrap_or(0);
        let load = budget::Load {
            pack: &cell.pack.dir,
            detector: cell.detector.as_ref().map(|pack| pack.dir.as_path()),
            labels: unprompted::labelled(cell, objects, longest),
            dtype: cell.dtype,
            device: cell.device,
            objects: unprompted::objects(settings, cell).unwrap_or(objects),
            finds: cell.finds() || cell.segments(),
            options: options::given(settings, cell),
        };
        let others = || {
            let found = packs::list(&settings.packs, cell.device).into_iter().filter_map(|(_, info)| info.ok());
            let found = found.filter(|p| !p.hidden && p.capabilities.prompts.contains(&cell.prompt));
            let tag = |id: String| if cell.finds() { id } else { format!("{id}_{}", cell.prompt) };
            found.map(|p| (tag(p.id), p.dir)).collect()
        };
        let need = budget::check(&cell.label(), &load, most, others)?;
        let note = format!(
            "{}: about {} of memory {}, an estimate from the graphs; the budget is {}",
            cell.label(),
            budget::mib(need),
            budget::own(cell.device),
            budget::mib(most)
        );
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    Ok(notes)
}
