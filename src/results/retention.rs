//! Which runs stay? Those that an unattended job may remove are marked; a job that was done already is found.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::results::record::{DeviceRecord, Origin, Verdict};
use crate::results::{baseline, claim, store};

/// File that marks a run as one that retention may remove.
const RETENTION: &str = "retention.txt";

/// The newest complete run of the same job on the same device, if there is one.
pub fn unchanged(out: &Path, device: &DeviceRecord, job_sha256: &str) -> Option<PathBuf> {
    // Only what decides is read; the frames of a run are many.
    #[derive(Deserialize)]
    struct Head {
        device: DeviceRecord,
        cells: Vec<FinishedCell>,
        stopped: Option<String>,
        #[serde(default)]
        origin: Origin,
    }
    #[derive(Deserialize)]
    struct FinishedCell {
        verdict: Verdict,
    }
    let mut runs = Vec::new();
    store::find_runs(&out.join(&device.name), &mut runs).ok()?;
    runs.into_iter().rev().find(|run| {
        let head = std::fs::read(run.join(store::RECORD)).ok().and_then(|b| serde_json::from_slice::<Head>(&b).ok());
        head.is_some_and(|head| {
            head.origin.job_sha256 == job_sha256
                && head.device.digest == device.digest
                && head.stopped.is_none()
                && head.cells.iter().all(|c| c.verdict.is_final())
        })
    })
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
