//! Which runs stay? Those that an unattended job may remove are marked; a job that was done already is found.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::exit::Error;
use crate::results::record::{CellRecord, DeviceRecord, Origin, RunRecord};
use crate::results::{baseline, claim, store};
use jetbench_runners::files;

/// File that marks a run as one that retention may remove.
const RETENTION: &str = "retention.txt";

/// The newest complete run of the same job on the same device with its record, if there is one and if it stands: another run could not get a
/// better verdict, and `stands` finds no other fault.
pub fn unchanged(
    out: &Path,
    device: &DeviceRecord,
    job_sha256: &str,
    stands: impl Fn(&RunRecord) -> bool,
) -> Option<(PathBuf, RunRecord)> {
    // Most runs are told apart by little; the frames of a run are many.
    #[derive(Deserialize)]
    struct Head {
        device: DeviceRecord,
        #[serde(default)]
        origin: Origin,
    }
    let mut runs = Vec::new();
    store::find_runs(&out.join(&device.name), &mut runs).ok()?;
    let (run, record) = runs.into_iter().rev().find_map(|run| {
        let head = files::read(&run.join(store::RECORD), files::LARGE)
            .ok()
            .and_then(|b| serde_json::from_slice::<Head>(&b).ok())?;
        if head.origin.job_sha256 != job_sha256 || head.device.digest != device.digest {
            return None;
        }
        // One that contradicts itself is none.
        let record = store::load(&run).ok()?;
        let whole = record.stopped.is_none() && record.cells.iter().all(CellRecord::is_final);
        whole.then_some((run, record))
    })?;
    (!record.cells.iter().any(CellRecord::passes) && stands(&record)).then_some((run, record))
}

/// Marks a run as one that retention may remove.
///
/// # Errors
/// The file system's.
pub fn mark(run: &Path, keep: usize) -> std::io::Result<()> {
    let text =
        format!("Made with --keep {keep}: when {keep} newer ones of this device are there, this run is removed.\n");
    store::write_atomic(&run.join(RETENTION), text.as_bytes())
}

/// Why a run may not be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// A baseline names it.
    Baseline,
    /// A process works on it.
    UnderWay,
    /// Its directory is not named like a run, or its record is of another one: somebody put it there.
    NotOurs,
}

impl Hold {
    /// As it stands beside the run.
    pub fn as_str(self) -> &'static str {
        match self {
            Hold::Baseline => "baseline",
            Hold::UnderWay => "under way",
            Hold::NotOurs => "not made here",
        }
    }
}

/// A run in a results directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its directory.
    pub dir: PathBuf,
    /// Directory of its device.
    pub device: String,
    /// Its name.
    pub id: String,
    /// What it takes on disk.
    pub bytes: u64,
    /// Why it has to stay; `None`: it may go.
    pub hold: Option<Hold>,
}

/// Every run below `out`, oldest first.
///
/// # Errors
/// The directory, or a baseline, cannot be read.
pub fn stored(out: &Path) -> Result<Vec<Stored>, Error> {
    let mut found = Vec::new();
    store::find_runs(out, &mut found).map_err(|e| Error::Usage(format!("{}: {e}", out.display())))?;
    // Of every results directory that they lie in (`<results>/<device>/<run>`), which may be above `out`, or below it.
    let above = |run: &PathBuf| Some(real(run).parent()?.parent()?.to_path_buf());
    let roots: BTreeSet<PathBuf> = found.iter().filter_map(above).chain([real(out)]).collect();
    let saved = roots.iter().map(|root| baseline::all(root)).collect::<Result<Vec<_>, _>>()?.concat();
    let mut runs: Vec<Stored> = found.into_iter().map(|dir| of(dir, &saved)).collect();
    runs.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(runs)
}

fn of(dir: PathBuf, saved: &[PathBuf]) -> Stored {
    let name = |path: Option<&Path>| {
        path.and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let id = name(Some(&dir));
    let hold = match () {
        () if is_baseline(&dir, saved) => Some(Hold::Baseline),
        () if !is_ours(&dir, &id) => Some(Hold::NotOurs),
        () if claim::is_claimed(&dir) => Some(Hold::UnderWay),
        () => None,
    };
    Stored { device: name(dir.parent()), bytes: size(&dir), id, hold, dir }
}

/// Does one of these baselines name the run, or one in another results directory?
fn is_baseline(dir: &Path, saved: &[PathBuf]) -> bool {
    saved.iter().any(|base| baseline::names_it(base, dir)) || baseline::is_elsewhere(dir)
}

/// Is this a run that jetbench made, under its own name?
fn is_ours(dir: &Path, id: &str) -> bool {
    #[derive(Deserialize)]
    struct Head {
        run_id: String,
    }
    let head = [dir.join(store::RECORD), store::head_of(dir)].into_iter().find(|file| file.is_file());
    let head = head.and_then(|file| files::read(&file, files::LARGE).ok());
    let head = head.and_then(|bytes| serde_json::from_slice::<Head>(&bytes).ok());
    store::began(id).is_some() && head.is_some_and(|head| head.run_id == id)
}

/// The path without links, or as it was given where it cannot be told.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

/// Bytes that a directory or file takes on disk; links are not followed.
pub fn size(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    if let Ok(file) = dir.symlink_metadata().map(|meta| meta.blocks() * 512)
        && dir.is_file()
    {
        return file;
    }
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.path().symlink_metadata() {
        Ok(meta) if meta.is_dir() => meta.blocks() * 512 + size(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(of).sum()
}

/// Removes a run, unless a process works on it. While it is being removed, nobody can take it up, and no command sees it.
///
/// # Errors
/// The file system's, or that the run is claimed.
pub fn discard(run: &Path) -> Result<(), Error> {
    let _claim = claim::claim(run)?;
    let fault = |e: std::io::Error| Error::Environment(format!("cannot remove {}: {e}", run.display()));
    let name = run.file_name().unwrap_or_default().to_string_lossy();
    // What is left of it when the process is killed here, the next run sweeps away.
    let hidden = run.with_file_name(format!("{}{name}", store::WRITING));
    std::fs::rename(run, &hidden).map_err(fault)?;
    std::fs::remove_dir_all(&hidden).map_err(fault)
}

/// Removes the oldest marked runs beside `current` until `keep` are left, itself included. Baselines, runs without the
/// mark, and runs that a process works on stay. Returns what was removed.
///
/// # Errors
/// A baseline cannot be read: nothing is removed.
pub fn retain(out: &Path, current: &Path, keep: usize) -> Result<Vec<PathBuf>, Error> {
    let Some(device) = current.parent() else { return Ok(Vec::new()) };
    let saved = baseline::all(out)?;
    let mut runs = Vec::new();
    if store::find_runs(device, &mut runs).is_err() {
        return Ok(Vec::new());
    }
    let is_current = |run: &Path| real(run) == real(current);
    runs.retain(|run| run.join(RETENTION).is_file() && !is_baseline(run, &saved));
    // Another run under way may end with nothing to keep.
    runs.retain(|run| is_current(run) || !claim::is_claimed(run));
    let surplus = runs.len().saturating_sub(keep.max(1));
    runs.truncate(surplus);
    runs.retain(|run| !is_current(run) && discard(run).is_ok());
    Ok(runs)
}
