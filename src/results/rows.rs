//! What did past runs measure? The cells of the finished runs below a results directory, oldest first, read from the small
//! `summary.csv` of each, so that hundreds of runs are read in a moment; there is no server and no database.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::record::{CellRecord, RunRecord};
use super::store;

/// What must be equal for two runs to be of the same thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Device name and digest.
    pub board: (String, String),
    /// Model tag, precision, device.
    pub cell: [String; 3],
    /// Pack digest, ONNX Runtime, data set, protocol, videos, frames.
    pub thing: [String; 6],
}

impl Key {
    /// The key of a cell in a record.
    pub fn of(run: &RunRecord, cell: &CellRecord) -> Key {
        let summary = cell.summary.as_ref();
        Key {
            board: (run.device.name.clone(), run.device.digest.clone()),
            cell: [cell.model.clone(), cell.dtype.to_string(), cell.device.clone()],
            thing: [
                cell.pack_digest.clone(),
                cell.runtime.as_ref().map(|r| r.version.clone()).unwrap_or_default(),
                run.data.root.clone(),
                run.data.protocol.clone(),
                summary.map(|s| s.videos.to_string()).unwrap_or_default(),
                summary.map(|s| s.frames.to_string()).unwrap_or_default(),
            ],
        }
    }
}

/// One cell of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What it is a run of.
    pub key: Key,
    /// Run id; begins with the time.
    pub run_id: String,
    /// Its directory.
    pub dir: PathBuf,
    /// `valid`, `invalid`, `failed`.
    pub verdict: String,
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
    /// `2026-11-21 09:30`, from the run id.
    pub fn when(&self) -> String {
        let id = &self.run_id;
        let part = |range: std::ops::Range<usize>| id.get(range).unwrap_or("?");
        format!("{}-{}-{} {}:{}", part(0..4), part(4..6), part(6..8), part(9..11), part(11..13))
    }
}

/// Every cell of every finished run below `out`, oldest first. Runs whose table cannot be read are left out.
///
/// # Errors
/// The directory cannot be read.
pub fn rows(out: &Path) -> std::io::Result<Vec<Row>> {
    let mut dirs = Vec::new();
    store::find_runs(out, &mut dirs)?;
    let mut rows: Vec<Row> = dirs.iter().filter(|d| d.join(store::RECORD).is_file()).flat_map(|d| read(d)).collect();
    rows.sort_by(|a, b| a.run_id.cmp(&b.run_id));
    Ok(rows)
}

fn read(dir: &Path) -> Vec<Row> {
    let Ok(mut reader) = csv::Reader::from_path(dir.join("summary.csv")) else { return Vec::new() };
    let Ok(header) = reader.headers().cloned() else { return Vec::new() };
    let place: BTreeMap<&str, usize> = header.iter().enumerate().map(|(i, name)| (name, i)).collect();
    let mut rows = Vec::new();
    for record in reader.records().flatten() {
        let text = |name: &str| place.get(name).and_then(|&i| record.get(i)).unwrap_or_default().to_string();
        let number = |name: &str| text(name).parse::<f64>().ok().filter(|v| v.is_finite());
        rows.push(Row {
            key: Key {
                board: (text("device_name"), text("device_digest")),
                cell: ["model", "dtype", "device"].map(text),
                thing: ["pack_digest", "onnxruntime", "dataset", "protocol", "videos", "frames"].map(text),
            },
            run_id: text("run_id"),
            dir: dir.to_path_buf(),
            verdict: text("verdict"),
            jf: number("jf"),
            fps_wall: number("fps_wall"),
            p50_ms: number("latency_p50_ms"),
            p95_ms: number("latency_p95_ms"),
            peak_system_mib: number("peak_system_mib"),
            energy_per_frame_j: number("energy_per_frame_j"),
        });
    }
    rows
}
