//! What an unfinished run leaves on disk, and how it is taken up again. A run can end at any moment (power, kill, a
//! worker's crash); every sequence whose end was heard is on disk before the next one starts, and nothing else counts
//! as finished. Taking up again needs the same program version, device, packs and data, because figures of different
//! ones may not stand in one table.
//!
//! `partial/run.json` is the record without cells, `partial/cell-<i>.progress.json` a cell under way (its finished
//! sequences lie in `spool/`), `partial/cell-<i>.json` a whole one. `run.json` replaces them all; cells in it that failed
//! can be taken up too (with `--repeat`, their single repeats stay in `partial/` for that).

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cli::RunArgs;
use crate::exit::Error;
use crate::judge::complete::Planned;
use crate::plan::settings::Settings;
use crate::plan::{Plan, content, identity};
use crate::results::note::{Note, NoteKind};
use crate::results::record::{CellRecord, ResumeRecord, RunRecord};
use crate::results::store::{self, RECORD, RunDir};
use crate::run::spool::Reader;
use crate::run::trust;
use crate::score::grade::Finished;
use crate::text::{now, plural};
use jetbench_runners::files;

/// A cell under way: what is known of it, and the sequences that lie in its spool directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CellProgress {
    /// The record so far, without those sequences.
    pub record: CellRecord,
    /// Sequences tracked and not yet scored.
    pub finished: Vec<Finished>,
}

/// What is left of a cell from before.
#[derive(Clone, Debug)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// Some sequences: scored ones in the record, unscored ones in the spool.
    Part(Box<CellProgress>),
    /// Everything: it is not run again.
    Whole(Box<CellRecord>),
}

impl Before {
    /// Finished sequences in it.
    fn kept(&self) -> usize {
        match self {
            Before::Nothing => 0,
            Before::Part(progress) => progress.record.sequences.len() + progress.finished.len(),
            Before::Whole(record) => record.sequences.len(),
        }
    }
}

/// A run taken up again.
#[derive(Debug)]
pub struct Resumed {
    /// Its directory.
    pub dir: RunDir,
    /// Its plan, made anew from its settings.
    pub plan: Plan,
    /// Its record, without cells.
    pub record: RunRecord,
    /// What is left of each cell of the plan.
    pub before: Vec<Before>,
}

/// Takes up the run in the directory `args.resume`. `None`: it is complete, and there is nothing to do.
///
/// # Errors
/// It is no run, it is still going on, or program, device, packs or data are not those of its beginning.
pub fn take_up(args: &RunArgs, path: &Path, device_digest: &str) -> Result<Option<Resumed>, Error> {
    only_output_flags(args)?;
    let path = path.canonicalize().map_err(|e| Error::Usage(format!("--resume {}: {e}", path.display())))?;
    let fault = |text: String| Error::Usage(format!("--resume {}: {text}", path.display()));
    let head = store::head_of(&path);
    let complete = path.join(RECORD).is_file();
    if !complete && !head.is_file() {
        return Err(fault(format!("it holds neither {RECORD} nor partial/{RECORD}, so it is no run")));
    }
    let dir = RunDir::open(&path)?;
    let mut record = match complete {
        true => store::load(&path)?,
        false => read(&head)?.ok_or_else(|| fault("it has just gone".to_string()))?,
    };
    if !record.origin.parts.is_empty() {
        return Err(fault("it was joined from other runs; resume those".to_string()));
    }
    let planned = Planned::of_record(&record);
    let mut cells = std::mem::take(&mut record.cells);
    cells.iter_mut().for_each(|cell| cell.verdict = planned.judged(cell));
    if complete && cells.iter().all(CellRecord::is_final) && record.stopped.is_none() {
        dir.clean().map_err(|e| fault(e.to_string()))?;
        return Ok(None);
    }
    let started = [
        ("jetbench version", record.version.as_str(), env!("CARGO_PKG_VERSION")),
        ("device digest", record.device.digest.as_str(), device_digest),
    ];
    for (what, then, now) in started {
        if then != now {
            return Err(differs(&path, what, then, now));
        }
    }
    let settings: Settings = serde_json::to_value(&record.settings)
        .and_then(serde_json::from_value)
        .map_err(|e| fault(format!("its settings cannot be read: {e}")))?;
    let settings = trust::settings_of_record(settings, args, &path, Path::new(&record.origin.directory))?;
    // Relative paths in the settings hold where the run was started.
    std::env::set_current_dir(&record.origin.directory)
        .map_err(|e| fault(format!("cannot go to {}, where it was started: {e}", record.origin.directory)))?;
    let plan = Plan::of(settings, Vec::new())?;
    if plan.list_sha256 != record.data.list_sha256 {
        return Err(differs(&path, "list of videos, frames and objects", &record.data.list_sha256, &plan.list_sha256));
    }
    let program = identity::program_sha256();
    let job = identity::job_sha256(&plan, &program);
    if job != record.origin.job_sha256 {
        let what = "digest over program, packs, runtime and settings";
        return Err(differs(&path, what, &record.origin.job_sha256, &job));
    }
    if complete && plan.settings.repeat > 1 && !(0..plan.units()).all(|i| dir.partial(i).is_file()) {
        return Err(fault(
            "its repeats have been joined, and what each was by itself is no longer in partial/; start a new run"
                .to_string(),
        ));
    }
    same_content(&plan, &record, &cells, &dir).map_err(|e| fault(e.to_string()))?;
    // The files may have been touched, or lie elsewhere.
    record.data.planned = plan.content.record(&plan.list);
    record.stopped = None;
    record.finished = None;
    if complete {
        dir.reopen(&record, &cells).map_err(|e| Error::Environment(format!("{}: {e}", path.display())))?;
    }
    let before = (0..plan.units()).map(|i| from_disk(&plan, &dir, i)).collect::<Result<Vec<_>, _>>()?;
    if record.data.is_live() && !before.iter().all(|cell| matches!(cell, Before::Whole(_))) {
        return Err(fault(
            "its frames came from a live source, once, so what is missing cannot be tracked; start a new run"
                .to_string(),
        ));
    }
    let kept = before.iter().map(Before::kept).sum();
    record.origin.resumed.push(ResumeRecord { at: now(), kept });
    Ok(Some(Resumed { dir, plan, record, before }))
}

/// Do the files still hold what was planned, and what was read for the sequences that are kept?
fn same_content(plan: &Plan, record: &RunRecord, cells: &[CellRecord], dir: &RunDir) -> Result<(), Error> {
    let mut kept = cells.to_vec();
    let mut spooled = Vec::new();
    for index in 0..plan.units() {
        kept.extend(read::<CellRecord>(&dir.partial(index))?);
        if let Some(progress) = read::<CellProgress>(&dir.progress(index))? {
            kept.push(progress.record);
            spooled.extend(progress.finished);
        }
    }
    let spooled = spooled.iter().map(|f| (f.video.as_str(), f.frames_sha256.as_str()));
    let finished: Vec<_> = kept.iter().flat_map(content::finished).chain(spooled).collect();
    Ok(content::same_as(plan, record, &finished)?)
}

fn differs(path: &Path, what: &str, then: &str, now: &str) -> Error {
    Error::Usage(format!(
        "--resume {}: the {what} is not that of the run's beginning ({then} then, {now} now), so the rest would not belong \
         to it; start a new run, or restore what changed",
        path.display()
    ))
}

/// A resumed run takes its settings from its record; only flags about the screen make sense beside it, and those that
/// name a library again.
fn only_output_flags(args: &RunArgs) -> Result<(), Error> {
    let rest = RunArgs {
        resume: None,
        json: None,
        quiet: None,
        verbose: None,
        export_markdown: None,
        export_bmf: None,
        export_junit: None,
        export_prometheus: None,
        baseline: None,
        fail_on_regression: None,
        on_inconclusive: None,
        config: None,
        status: None,
        ..trust::named_again(args)
    };
    let said = serde_json::to_value(&rest).unwrap_or_default();
    let names: Vec<String> = said.as_object().into_iter().flatten().map(|(name, _)| format!("--{name}")).collect();
    match names.is_empty() && args.config.is_none() {
        true => Ok(()),
        false => Err(Error::Usage(format!(
            "--resume takes its settings from the run; leave out {}",
            if names.is_empty() { "--config".to_string() } else { names.join(", ") }
        ))),
    }
}

/// Reads a JSON file; `None` when it is not there.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match files::read(path, files::LARGE) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::Environment(format!("{}: {e}", path.display()))),
    };
    let fault = |e| Error::Usage(format!("{}: {e}; written by another version, or damaged", path.display()));
    serde_json::from_slice(&bytes).map(Some).map_err(fault)
}

/// A cell out of `partial/` and `spool/`.
fn from_disk(plan: &Plan, dir: &RunDir, index: usize) -> Result<Before, Error> {
    let planned = Planned::of_dataset(&plan.dataset, plan.settings.loop_frames);
    let record =
        read::<CellRecord>(&dir.partial(index))?.map(|cell| CellRecord { verdict: planned.judged(&cell), ..cell });
    // What is under way holds more than what has failed.
    let mut progress = match (record, read::<CellProgress>(&dir.progress(index))?) {
        (Some(record), _) if record.is_final() => return Ok(Before::Whole(Box::new(record))),
        (_, Some(progress)) => progress,
        (Some(record), None) => CellProgress { record, finished: Vec::new() },
        (None, None) => return Ok(Before::Nothing),
    };
    let before = progress.finished.len() + progress.record.sequences.len();
    progress.record.sequences.retain(|sequence| planned.is_whole(sequence));
    if before > progress.finished.len() + progress.record.sequences.len() {
        // It was measured over more than what is kept.
        progress.record.energy_j.clear();
        progress.record.energy_above_idle_j.clear();
    }
    progress.finished.retain_mut(|finished| {
        // The run may have been moved.
        finished.spool = dir.spool_file(index, finished.index);
        let named = plan.dataset.sequences.get(finished.index).is_some_and(|s| s.name == finished.video);
        named && planned.frames(&finished.video) == Some(finished.frames) && is_whole(&finished.spool, finished.frames)
    });
    let lost = before - progress.finished.len() - progress.record.sequences.len();
    if lost > 0 {
        progress.record.notes.push(Note::new(
            NoteKind::Joined,
            format!(
                "finished before an interruption, could not be read back, tracked again: {}",
                plural(lost, "sequence", "sequences")
            ),
        ));
    }
    let nothing = progress.record.sequences.is_empty() && progress.finished.is_empty();
    Ok(if nothing { Before::Nothing } else { Before::Part(Box::new(progress)) })
}

/// Does the file hold this many frames and its end mark?
fn is_whole(path: &Path, frames: usize) -> bool {
    Reader::open(path).is_ok_and(|reader| reader.into_iter().try_fold(0, |n, f| f.map(|_| n + 1)).ok() == Some(frames))
}
