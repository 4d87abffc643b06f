//! Which runs stay? Those that an unattended job may remove are marked; a job that was done already is found.

use std::path::{Path, PathBuf};

use serde::Deserialize;

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

/// Removes the oldest marked runs beside `current` until `keep` are left, itself included. Baselines, runs without the
/// mark, and runs that a process works on stay. Returns what was removed.
pub fn retain(out: &Path, current: &Path, keep: usize) -> Vec<PathBuf> {
    let Some(device) = current.parent() else { return Vec::new() };
    let real = |p: &Path| p.canonicalize().unwrap_or_else(|_| p.to_path_buf());
    let saved: Vec<PathBuf> = baseline::all(out).iter().map(|p| real(p)).collect();
    let mut runs = Vec::new();
    if store::find_runs(device, &mut runs).is_err() {
        return Vec::new();
    }
    runs.retain(|run| run.join(RETENTION).is_file() && !saved.contains(&real(run)));
    let surplus = runs.len().saturating_sub(keep.max(1));
    let mut gone = Vec::new();
    for run in runs.into_iter().take(surplus).filter(|run| real(run) != real(current)) {
        let free = claim::claim(&run).is_ok();
        if free && std::fs::remove_dir_all(&run).is_ok() {
            gone.push(run);
        }
    }
    gone
}
