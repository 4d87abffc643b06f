//! What did past runs measure? The cells of the finished runs below a results directory, oldest first, read from their records
//! side by side and through the checks of every reader; there is no server and no database.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::disturbance::Disturbance;
use super::record::{CellRecord, RunRecord, RuntimeRecord, SummaryRecord};
use super::store;
use crate::exit::Error;
use crate::plan::identity;
use crate::telemetry::key::MemoryPhase;

/// What must be equal for two runs to be of the same thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Device name and digest.
    pub board: (String, String),
    /// Model tag, precision, device.
    pub cell: [String; 3],
    /// Pack digest, ONNX Runtime, data set, protocol, videos, frames.
    pub thing: [String; 6],
    /// Digest of the list of videos.
    pub list: String,
    /// Settings that decide figures, by name, as JSON.
    pub settings: BTreeMap<String, String>,
}

impl Key {
    /// Do both measure the same job: device, cell, pack, videos and settings? Programs and runtimes may differ, and how much of
    /// it was done.
    pub fn same_job(&self, other: &Key) -> bool {
        let job = |k: &Key| (k.board.clone(), k.cell.clone(), k.thing[0].clone(), k.thing[3].clone(), k.list.clone());
        job(self) == job(other) && self.settings == other.settings
    }

    /// The key of a cell in a record.
    pub fn of(run: &RunRecord, cell: &CellRecord) -> Key {
        let summary = cell.summary.as_ref();
        Key {
            board: (run.device.name.clone(), run.device.digest.clone()),
            cell: [cell.model.clone(), cell.dtype.to_string(), cell.device.clone()],
            thing: [
                cell.pack_digest.clone(),
                cell.runtime.as_ref().map(RuntimeRecord::words).unwrap_or_default(),
                run.data.root.clone(),
                run.data.protocol.clone(),
                summary.map(|s| s.videos.to_string()).unwrap_or_default(),
                summary.map(|s| s.frames.to_string()).unwrap_or_default(),
            ],
            list: run.data.list_sha256.clone(),
            settings: identity::deciding(&run.settings).into_iter().map(|(k, v)| (k, v.to_string())).collect(),
        }
    }
}

/// One cell of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What it is a run of.
    pub key: Key,
    /// The pack and the model that it only stands in for, where it is a test model.
    pub test_model: Option<(String, String)>,
    /// Run id; begins with the time.
    pub run_id: String,
    /// Its directory.
    pub dir: PathBuf,
    /// `valid`, `invalid`, `failed`.
    pub verdict: String,
    /// Videos that were planned.
    pub planned: usize,
    /// What disturbed it.
    pub disturbed: Vec<Disturbance>,
    /// J&F.
    pub jf: Option<f64>,
    /// Frames per second of wall time.
    pub fps_wall: Option<f64>,
    /// Median latency, milliseconds.
    pub p50_ms: Option<f64>,
    /// 95th percentile of latency, milliseconds.
    pub p95_ms: Option<f64>,
    /// Peak of the system's memory, MiB.
    pub peak_system_mib: Option<f64>,
    /// Energy per frame, joules.
    pub energy_per_frame_j: Option<f64>,
}

impl Row {
    /// Seconds since 1970, from the run id; `None` where it does not begin with a time.
    pub fn at(&self) -> Option<i64> {
        let stamp = self.run_id.get(..15)?;
        Some(chrono::NaiveDateTime::parse_from_str(stamp, "%Y%m%dT%H%M%S").ok()?.and_utc().timestamp())
    }

    /// `2026-11-21 09:30`, from the run id.
    pub fn when(&self) -> String {
        let id = &self.run_id;
        let part = |range: std::ops::Range<usize>| id.get(range).unwrap_or("?");
        format!("{}-{}-{} {}:{}", part(0..4), part(4..6), part(6..8), part(9..11), part(11..13))
    }
}

/// Every cell of every finished run below `out`, oldest first, and for each record that cannot be trusted a sentence that names it.
///
/// # Errors
/// The directory cannot be read.
pub fn rows(out: &Path) -> std::io::Result<(Vec<Row>, Vec<String>)> {
    let mut dirs = Vec::new();
    store::find_runs(out, &mut dirs)?;
    dirs.retain(|d| d.join(store::RECORD).is_file());
    let read: Vec<Result<Vec<Row>, Error>> =
        dirs.par_iter().map(|dir| store::load(dir).map(|run| of(dir, &run))).collect();
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    for run in read {
        match run {
            Ok(of_run) => rows.extend(of_run),
            Err(fault) => faults.push(fault.to_string()),
        }
    }
    rows.sort_by(|a, b| a.run_id.cmp(&b.run_id));
    Ok((rows, faults))
}

fn of(dir: &Path, run: &RunRecord) -> Vec<Row> {
    let row = |cell: &CellRecord| {
        // A failure is never a number.
        let summary = cell.summary.as_ref().filter(|_| cell.verdict.as_str() != "failed");
        let latency = summary.and_then(|s| s.latency);
        Row {
            key: Key::of(run, cell),
            test_model: cell.test_model_of.as_ref().map(|model| (cell.pack.clone(), model.clone())),
            run_id: run.run_id.clone(),
            dir: dir.to_path_buf(),
            verdict: cell.verdict.as_str().to_string(),
            planned: run.data.videos,
            disturbed: cell.disturbed.clone(),
            jf: summary.and_then(SummaryRecord::own_jf),
            fps_wall: summary.and_then(|s| s.fps_wall),
            p50_ms: latency.map(|l| l.p50_ms),
            p95_ms: latency.and_then(|l| l.p95()),
            peak_system_mib: cell.memory.get(&MemoryPhase::Peak).and_then(|m| m.system_mib),
            energy_per_frame_j: summary.and_then(|s| s.energy_per_frame_j),
        }
    };
    run.cells.iter().map(row).collect()
}
