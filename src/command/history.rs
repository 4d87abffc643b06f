//! `jetbench history`: the runs of a results directory in the order of time, as a table, a CSV file and a plot, and what
//! they teach: how much the same thing differs from itself on this machine. It reads the small `summary.csv` of each run,
//! so that hundreds of runs are read in a moment; there is no server and no database.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cli::HistoryArgs;
use crate::command::compare::Floor;
use crate::exit::{Outcome, Stop};
use crate::judge::stats;
use crate::plan::settings;
use crate::report::plot;
use crate::results::record::{CellRecord, RunRecord};
use crate::results::store;
use crate::text::{clean, figure, plural};

/// Changes of latency up to this share are noise while the history is too short to tell.
pub const DEFAULT_FLOOR: f64 = 0.02;
/// However steady a machine has been, changes up to this share are noise.
const SMALLEST_FLOOR: f64 = 0.01;
/// Steps between successive runs from which the noise is learnt.
const STEPS: usize = 4;
/// The floor in standard deviations of the steps.
const SIGMAS: f64 = 2.5;

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

/// How much the median latency of one thing differs from run to run: 2.5 standard deviations of the steps between
/// successive valid runs, the deviation taken from their median so that one real change does not count as noise.
pub fn noise(rows: &[Row], key: &Key) -> Floor {
    let series: Vec<f64> = rows
        .iter()
        .filter(|r| r.key == *key && r.verdict == "valid")
        .filter_map(|r| r.p50_ms)
        .filter(|v| *v > 0.0)
        .collect();
    let steps: Vec<f64> = series.windows(2).map(|w| (w[1] / w[0]).ln().abs()).collect();
    match stats::median(&steps).filter(|_| steps.len() >= STEPS) {
        Some(middle) => Floor {
            share: (SIGMAS * 1.4826 * middle).max(SMALLEST_FLOOR),
            from: format!("learnt from {} runs", series.len()),
        },
        None => Floor {
            share: DEFAULT_FLOOR,
            from: format!("by default: {} of it so far", plural(series.len(), "run", "runs")),
        },
    }
}

/// Runs of one cell on one board, oldest first, whatever pack or runtime they used.
pub struct Series<'a> {
    /// Board and cell, in words.
    pub name: String,
    /// Its runs.
    pub rows: Vec<&'a Row>,
    /// How far the latency of the newest thing differs from run to run.
    pub floor: Floor,
}

/// Series in order of their names.
pub fn series(rows: &[Row]) -> Vec<Series<'_>> {
    let mut groups: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        let (board, digest) = &row.key.board;
        let name =
            clean(&format!("{} on {board} {}", row.key.cell.join(" "), digest.chars().take(6).collect::<String>()));
        groups.entry(name).or_default().push(row);
    }
    groups
        .into_iter()
        .filter_map(|(name, of)| {
            let floor = noise(rows, &of.last()?.key);
            Some(Series { name, rows: of, floor })
        })
        .collect()
}

/// Shows the history.
///
/// # Errors
/// The results directory cannot be read, a file not be written.
pub fn history(args: &HistoryArgs) -> Result<Outcome, Stop> {
    let out = settings::default_out(args.out.clone());
    let mut rows =
        rows(&out).map_err(|e| Stop::Usage(format!("{}: {e}; name the results with --out DIR", out.display())))?;
    let wanted = |row: &Row| args.models.is_empty() || args.models.contains(&row.key.cell[0]);
    rows.retain(wanted);
    if rows.is_empty() {
        return Err(Stop::Usage(format!(
            "{}: no finished runs{}",
            out.display(),
            if args.models.is_empty() { "" } else { " of these models" }
        )));
    }
    let series = series(&rows);
    let mut stdout = match args.json {
        true => json(&series),
        false => text(&series),
    };
    if let Some(path) = &args.export_csv {
        let bytes = table(&rows);
        match path.as_os_str() == "-" {
            true => stdout = String::from_utf8_lossy(&bytes).into_owned(),
            false => write(path, &bytes)?,
        }
    }
    if let Some(path) = &args.plot {
        let figure = plot::history::figure(&series);
        let bytes = match path.extension().and_then(|e| e.to_str()) {
            Some("svg") => figure.svg().into_bytes(),
            Some("png") => figure.png().map_err(|e| Stop::Environment(format!("{}: {e}", path.display())))?,
            _ => return Err(Stop::Usage(format!("--plot {}: the name must end in .svg or .png", path.display()))),
        };
        write(path, &bytes)?;
    }
    Ok(Outcome::ok(stdout))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Stop> {
    store::write_atomic(path, bytes).map_err(|e| Stop::Environment(format!("cannot write {}: {e}", path.display())))
}

fn show(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_string(), figure)
}

fn text(series: &[Series]) -> String {
    let mut out = String::new();
    for series in series {
        let noise = format!("{:.1} % ({})", series.floor.share * 100.0, series.floor.from);
        out.push_str(&format!(
            "{}: {}, noise of latency {noise}\n",
            series.name,
            plural(series.rows.len(), "run", "runs")
        ));
        out.push_str("  when (UTC)        verdict     J&F    FPS    p50 ms  p95 ms\n");
        for row in &series.rows {
            out.push_str(&format!(
                "  {:16}  {:8}  {:>6} {:>6}  {:>7} {:>7}\n",
                row.when(),
                row.verdict,
                show(row.jf),
                show(row.fps_wall),
                show(row.p50_ms),
                show(row.p95_ms)
            ));
        }
        out.push('\n');
    }
    out
}

fn json(series: &[Series]) -> String {
    let series: Vec<_> = series
        .iter()
        .map(|s| {
            let runs: Vec<_> = s
                .rows
                .iter()
                .map(|r| {
                    serde_json::json!({"run_id": r.run_id, "dir": r.dir, "verdict": r.verdict, "jf": r.jf,
                        "fps_wall": r.fps_wall, "latency_p50_ms": r.p50_ms, "latency_p95_ms": r.p95_ms,
                        "peak_system_mib": r.peak_system_mib, "energy_per_frame_j": r.energy_per_frame_j,
                        "pack_digest": r.key.thing[0], "onnxruntime": r.key.thing[1]})
                })
                .collect();
            serde_json::json!({"name": s.name, "noise_floor": s.floor.share, "noise_from": s.floor.from, "runs": runs})
        })
        .collect();
    format!("{}\n", serde_json::json!({"schema": 1, "series": series}))
}

/// All runs as one CSV table, oldest first.
fn table(rows: &[Row]) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = [
        "run_id",
        "device_name",
        "device_digest",
        "model",
        "dtype",
        "device",
        "verdict",
        "jf",
        "fps_wall",
        "latency_p50_ms",
        "latency_p95_ms",
        "peak_system_mib",
        "energy_per_frame_j",
        "pack_digest",
        "onnxruntime",
        "dataset",
    ];
    writer.write_record(header).expect("writing to memory");
    let maybe = |v: Option<f64>| v.map_or_else(String::new, |v| v.to_string());
    for r in rows {
        let key = &r.key;
        let fields: [String; 16] = [
            r.run_id.clone(),
            key.board.0.clone(),
            key.board.1.clone(),
            key.cell[0].clone(),
            key.cell[1].clone(),
            key.cell[2].clone(),
            r.verdict.clone(),
            maybe(r.jf),
            maybe(r.fps_wall),
            maybe(r.p50_ms),
            maybe(r.p95_ms),
            maybe(r.peak_system_mib),
            maybe(r.energy_per_frame_j),
            key.thing[0].clone(),
            key.thing[1].clone(),
            key.thing[2].clone(),
        ];
        writer.write_record(fields).expect("writing to memory, as many fields as the header has");
    }
    writer.into_inner().expect("writing to memory")
}
