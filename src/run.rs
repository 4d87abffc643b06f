//! How is it done? One fresh worker process per cell and repeat, one after the other; what is finished is on disk before
//! the next begins. A cell that fails is a verdict; the other cells go on.

mod backward;
mod beat;
pub mod cell;
pub(crate) mod energy;
pub mod event;
mod feed;
pub mod lock;
mod memory;
mod null_run;
mod outputs;
mod pictures;
pub mod progress;
pub mod prompt;
pub mod resume;
pub mod spool;
pub mod supervise;
mod trust;
pub mod worker;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use jetbench_runners::files;
use jetbench_runners::runtime;

use crate::exit::Error;
use crate::judge::outcome::INTERRUPTED;
use crate::judge::repeat;
use crate::plan::content::content_sha256;
use crate::plan::settings::Settings;
use crate::plan::{Plan, forecast, identity};
use crate::report::{self, thumb};
use crate::results::note::{Note, NoteKind};
use crate::results::record::{CellRecord, DataRecord, ForecastRecord, Origin, RunRecord, SCHEMA, Taken};
use crate::results::retention;
use crate::results::store::{self, RunDir};
use crate::run::cell::CellRun;
use crate::run::event::FaultClass;
use crate::run::progress::{Progress, Scope};
use crate::run::resume::{Before, Resumed};
use crate::score::agreement;
use crate::telemetry::device;
use crate::telemetry::key::MemoryPhase;
use crate::text::{now, plural, say};

/// How much is said on stderr while a run goes on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verbosity {
    /// Nothing.
    pub quiet: bool,
    /// The plan and the files too.
    pub verbose: bool,
}

impl Verbosity {
    /// A line that stays, before there is a progress bar.
    pub fn tell(&self, text: &str) {
        if !self.quiet {
            say(&format!("note: {text}"));
        }
    }
}

/// A run that has ended.
#[derive(Debug)]
pub struct Done {
    /// Its directory.
    pub dir: PathBuf,
    /// Its settings.
    pub settings: Settings,
    /// Its record, as written.
    pub record: RunRecord,
    /// Whose faults its failures were.
    pub faults: Vec<FaultClass>,
}

/// Makes the directory of a new run, and its record without cells; `forecast`: what it was estimated to take.
///
/// # Errors
/// The directory cannot be made.
pub fn begin(plan: Plan, root: &Path, argv: Vec<String>, forecast: Option<ForecastRecord>) -> Result<Resumed, Error> {
    let probe = plan.ort_lib.as_deref().map(|lib| runtime::probe(Some(lib))).unwrap_or_default();
    let device = device::with_runtime(device::describe(root), probe.version.as_deref(), &probe.providers);
    let devices: Vec<_> = plan.cells.iter().map(|cell| cell.device).collect();
    let device = device::with_vulkan(device, &devices);
    let offered = plan.cells.iter().filter_map(|cell| Some(format!("{}: {}", cell.device, cell.offered.as_ref()?)));
    let device = device::with_plugins(device, offered);
    let mut dir = RunDir::create(&plan.settings.out, &device.name)?;
    let program_sha256 = identity::program_sha256();
    let record = RunRecord {
        schema: SCHEMA,
        run_id: dir.id.clone(),
        started: now(),
        finished: None,
        version: env!("CARGO_PKG_VERSION").to_string(),
        argv: match &plan.settings.live {
            Some(live) => argv.iter().map(|word| live.address.hide_in(word)).collect(),
            None => argv,
        },
        settings: identity::settings(&plan),
        data: DataRecord {
            root: plan.settings.data.display().to_string(),
            layout: plan.dataset.layout.to_string(),
            protocol: plan.dataset.protocol().map_or_else(String::new, |p| p.to_string()),
            videos: plan.dataset.sequences.len(),
            objects: plan.objects(),
            frames: plan.dataset.frame_count(),
            list_sha256: plan.list_sha256.clone(),
            list: plan.list.clone(),
            planned: plan.content.record(&plan.list),
            content_sha256: String::new(),
            prompts_sha256: plan.prompts_sha256.clone(),
        },
        device,
        cells: Vec::new(),
        stopped: None,
        agreement: Vec::new(),
        null_run: None,
        forecast,
        origin: Origin {
            directory: std::env::current_dir().unwrap_or_default().display().to_string(),
            job_sha256: identity::job_sha256(&plan, &program_sha256),
            program_sha256,
            shard: plan.settings.limits.shard,
            ..Origin::default()
        },
    };
    let before = (0..plan.units()).map(|_| Before::Nothing).collect();
    outputs::prove(&plan, &dir.path)?;
    store::write_json(&dir.head(), &record).and_then(|()| dir.appear()).map_err(|e| disk(&dir.path, &e))?;
    Ok(Resumed { dir, plan, record, before })
}

/// Runs what is left of a run, cell by cell, and writes its results.
///
/// # Errors
/// The results cannot be written. What goes wrong in a cell is its verdict.
pub fn measure(resumed: Resumed, root: &Path, interrupt: &AtomicBool, verbosity: &Verbosity) -> Result<Done, Error> {
    let began = Instant::now();
    let Resumed { dir, plan, mut record, before } = resumed;
    let fault = |e: std::io::Error| disk(&dir.path, &e);
    store::write_json(&dir.head(), &record).map_err(fault)?;
    if let Some(keep) = plan.settings.keep {
        retention::mark(&dir.path, keep).map_err(fault)?;
    }
    let cells = plan.cells.iter().map(|cell| cell.label()).collect();
    let scope = Scope { cells, repeats: plan.settings.repeat, frames: plan.frames() as u64 };
    let progress = Progress::new(verbosity.quiet, scope);
    introduce(&plan, &dir, &record, &progress, verbosity);
    if record.null_run.is_none() {
        match null_run::measure(&plan, &dir, interrupt) {
            Ok(null) => record.null_run = Some(null),
            Err(why) => progress.note(&format!("the harness's own cost could not be measured: {why}")),
        }
        store::write_json(&dir.head(), &record).map_err(fault)?;
    }
    let mut faults = Vec::new();
    // Repeats take turns, so that a slow hour of the machine does not fall on one cell.
    let mut runs: Vec<Vec<CellRecord>> = plan.cells.iter().map(|_| Vec::new()).collect();
    let mut first = true;
    let units = (0..plan.settings.repeat).flat_map(|repeat| plan.cells.iter().enumerate().map(move |c| (repeat, c)));
    for ((index, (repeat, (n, cell))), before) in units.enumerate().zip(before) {
        progress.cell(index);
        let part = match before {
            Before::Whole(cell) => {
                runs[n].push(*cell);
                continue;
            }
            Before::Part(part) => Some(*part),
            Before::Nothing => None,
        };
        if !std::mem::take(&mut first) && record.stopped.is_none() {
            let fit =
                lock::until_fit(root, &plan.settings.out, &plan.settings.waiting, interrupt, &|t| progress.note(t));
            record.stopped = fit.err().filter(|_| !interrupt.load(Ordering::SeqCst)).map(|e| e.to_string());
        }
        // A machine that is not fit gets no more cells; what they have from before is kept.
        let halted = AtomicBool::new(true);
        let stop = if record.stopped.is_some() { &halted } else { interrupt };
        let run = CellRun { plan: &plan, cell, index, repeat, dir: &dir, root, interrupt: stop, progress: &progress };
        let (cell_record, class) = run.run(part);
        faults.extend(class);
        store::write_json(&dir.partial(index), &cell_record)
            .and_then(|()| store::remove(&dir.progress(index)))
            .map_err(fault)?;
        runs[n].push(cell_record);
    }
    record.cells = runs.into_iter().filter_map(repeat::join).collect();
    let before = std::mem::take(&mut record.agreement);
    let back = match plan.settings.backward {
        true => backward::measure(&plan, &dir, &mut record.cells, &before, &progress, interrupt),
        false => Vec::new(),
    };
    if !record.data.has_truth() {
        let spool = |cell: usize, sequence: usize| dir.spool_file(cell, sequence);
        record.agreement = agreement::of_cells(&mut record.cells, before, &plan.dataset.sequences, &spool);
    }
    record.agreement.extend(back);
    record.data.content_sha256 = content_sha256(&record.cells);
    if interrupt.load(Ordering::SeqCst) {
        record.stopped = Some(INTERRUPTED.into());
    }
    record.finished = Some(now());
    take_stock(&mut record, began.elapsed().as_secs_f64());
    progress.doing("writing the report");
    write_all(&dir, &mut record).map_err(|e| unfinished(&dir.path, &e))?;
    drop(progress); // only now: it waits for the terminal
    if record.cells.iter().flat_map(|cell| &cell.notes).any(|note| note.kind == NoteKind::Output) {
        faults.push(FaultClass::Environment);
    }
    Ok(Done { dir: dir.path.clone(), settings: plan.settings, record, faults })
}

/// What the run took, beside what it was estimated to take. Of one that was interrupted these are other things.
fn take_stock(record: &mut RunRecord, seconds: f64) {
    if record.stopped.is_some() || !record.origin.resumed.is_empty() {
        return;
    }
    let peak =
        |cell: &CellRecord| cell.memory.get(&MemoryPhase::Peak).and_then(|m| forecast::memory_mib(m, &cell.device));
    let memory_mib = record.cells.iter().map(peak).collect();
    if let Some(forecast) = &mut record.forecast {
        forecast.taken = Some(Taken { seconds: Some(seconds), disk_mib: None, memory_mib });
    }
}

/// What will stay on disk, all files but `run.json` written.
fn weigh(dir: &RunDir, record: &mut RunRecord) {
    if record.forecast.as_ref().is_none_or(|forecast| forecast.taken.is_none()) {
        return;
    }
    let length = serde_json::to_vec(record).map_or(0, |bytes| bytes.len() as u64);
    let passing: u64 = ["partial", "spool"].iter().map(|name| retention::size(&dir.path.join(name))).sum();
    let bytes = retention::size(&dir.path).saturating_sub(passing) + length;
    if let Some(taken) = record.forecast.as_mut().and_then(|forecast| forecast.taken.as_mut()) {
        taken.disk_mib = Some(bytes as f64 / 1_048_576.0);
    }
}

/// What the user should know before the first cell.
fn introduce(plan: &Plan, dir: &RunDir, record: &RunRecord, progress: &Progress, verbosity: &Verbosity) {
    for note in plan.notes.iter().chain(&outputs::remarks(plan)) {
        progress.note(note);
    }
    if verbosity.verbose {
        plan.describe().lines().for_each(|line| progress.note(line));
        progress.note(&format!("writing to {}, workers speak to {}", dir.path.display(), dir.log().display()));
    }
    if let Some(resumed) = record.origin.resumed.last() {
        let kept = plural(resumed.kept, "sequence", "sequences");
        progress.note(&format!("{}: {kept} kept", dir.path.display()));
    }
}

fn disk(path: &Path, error: &std::io::Error) -> Error {
    Error::Environment(format!("cannot write results to {}: {error}{}", path.display(), store::remedy(error)))
}

/// The measurements are there and their last file is not.
fn unfinished(path: &Path, error: &std::io::Error) -> Error {
    Error::Environment(format!(
        "cannot write results to {0}: {error}{1}; what was measured is in {0}/partial, and `jetbench --resume {0}` does the rest",
        path.display(),
        store::remedy(error)
    ))
}

/// Every file of the results, `run.json` last. One for readers that cannot be written is named in the record: it can be made anew.
fn write_all(dir: &RunDir, record: &mut RunRecord) -> std::io::Result<()> {
    // Somebody may have removed it; what was measured is kept all the same.
    std::fs::create_dir_all(&dir.path)?;
    let units = record.cells.iter().map(|c| c.repeats.len().max(1)).sum();
    dir.join_telemetry(units, &report::csv::samples_table().header())?;
    let sensed = files::read(&dir.path.join("telemetry.csv"), files::LARGE)?;
    let thumbs = thumb::read(&dir.path, record.cells.len());
    let mut missing = Vec::new();
    for (name, bytes) in report::files_with(record, &sensed, &thumbs).map_err(std::io::Error::other)? {
        if let Err(e) = store::write_atomic(&dir.path.join(&name), &bytes) {
            missing.push(format!("{name} ({e}{})", store::remedy(&e)));
        }
    }
    if !missing.is_empty() {
        let text =
            format!("not written: {}; `jetbench report {}` makes it anew", missing.join(", "), dir.path.display());
        record.cells.iter_mut().for_each(|cell| cell.notes.push(Note::new(NoteKind::Output, text.clone())));
    }
    weigh(dir, record);
    dir.finish(record)
}
