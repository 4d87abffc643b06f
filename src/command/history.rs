//! `jetbench history`: the runs of a results directory in the order of time, as a table, a CSV file and a plot, and what
//! they teach: how much the same thing differs from itself on this machine.

mod sizes;

use crate::cli::HistoryArgs;
use crate::command::export::{write_figure, write_file};
use crate::exit::{Error, Outcome};
use crate::judge::noise::{Series, series};
use crate::plan::settings;
use crate::report::closing::banner_of_history;
use crate::report::csv::{CsvTable, columns, maybe, value};
use crate::report::{html, plot};
use crate::results::disturbance;
use crate::results::rows::{Row, rows};
use crate::text::{clean, plural, say, show};

/// Shows the history.
///
/// # Errors
/// The results directory cannot be read, a file not be written.
pub fn history(args: &HistoryArgs) -> Result<Outcome, Error> {
    let out = settings::default_out(args.out.clone());
    if args.sizes {
        return sizes::sizes(&out, args.json);
    }
    let (mut rows, faults) =
        rows(&out).map_err(|e| Error::Usage(format!("{}: {e}; name the results with --out DIR", out.display())))?;
    faults.iter().for_each(|fault| say(&format!("note: left out: {}", fault)));
    let wanted = |row: &Row| args.models.is_empty() || args.models.contains(&row.key.cell[0]);
    rows.retain(wanted);
    if rows.is_empty() {
        return Err(Error::Usage(format!(
            "{}: no finished runs{}",
            out.display(),
            if args.models.is_empty() { "" } else { " of these models" }
        )));
    }
    let series = series(&rows);
    if let Some(path) = &args.html {
        write_file(path, html::history::history(&series, &out, env!("CARGO_PKG_VERSION")).as_bytes())?;
    }
    // A file that was asked for is the answer; the table then only says again what is in it.
    let mut stdout = match (args.json, args.plot.as_ref().or(args.html.as_ref())) {
        (true, _) => json(&series),
        (false, None) => text(&series),
        (false, Some(path)) => format!("{}\n", path.display()),
    };
    if let Some(path) = &args.export_csv {
        let bytes = columns().file(&rows);
        match path.as_os_str() == "-" {
            true => stdout = String::from_utf8_lossy(&bytes).into_owned(),
            false => write_file(path, &bytes)?,
        }
    }
    if let Some(path) = &args.plot {
        write_figure(path, &plot::history::figure(&series))?;
    }
    Ok(Outcome::ok(stdout))
}

fn text(series: &[Series]) -> String {
    let mut out = banner_of_history(series).map(|banner| format!("{banner}\n\n")).unwrap_or_default();
    for series in series {
        let noise = format!("{:.1} % ({})", series.floor.share * 100.0, series.floor.from);
        out.push_str(&format!(
            "{}\n  {}, noise of latency {noise}\n",
            series.name,
            plural(series.rows.len(), "run", "runs")
        ));
        let wide = series.rows.iter().map(|r| clean(&r.run_id).chars().count()).max().unwrap_or(0);
        out.push_str(&format!("  {:wide$}  verdict              J&F    FPS   p50 ms   p95 ms\n", "run (UTC)"));
        for row in &series.rows {
            let disturbed = if row.disturbed.is_empty() || row.verdict != "valid" { "" } else { ", disturbed" };
            out.push_str(&format!(
                "  {:wide$}  {:16}  {:>6} {:>6}  {:>7}  {:>7}\n",
                clean(&row.run_id),
                format!("{}{disturbed}", row.verdict),
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
                    serde_json::json!({"run_id": r.run_id, "dir": r.dir, "verdict": r.verdict, "disturbed": r.disturbed, "jf": r.jf,
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

/// Columns of `history --export-csv`: a row as far as summary.csv gives it, oldest run first.
pub fn columns<'a>() -> CsvTable<&'a Row> {
    let columns = columns! {
        &'a Row;
        "run_id", "", "run, named after its start in UTC" => |r| value(&r.run_id);
        "device_name", "", "board or machine" => |r| value(&r.key.board.0);
        "device_digest", "", "digest of all that makes latencies comparable on it" => |r| value(&r.key.board.1);
        "model", "", "model tag" => |r| value(&r.key.cell[0]);
        "dtype", "", "requested precision" => |r| value(&r.key.cell[1]);
        "device", "", "requested device, which is the one used" => |r| value(&r.key.cell[2]);
        "verdict", "", "`valid`, `invalid` or `failed`" => |r| value(&r.verdict);
        "jf", "0 to 100", "J&F", AS_THERE => |r| maybe(r.jf);
        "fps_wall", "frames/s", "frames over wall time, decoding included", AS_THERE => |r| maybe(r.fps_wall);
        "latency_p50_ms", "ms", "median latency", AS_THERE => |r| maybe(r.p50_ms);
        "latency_p95_ms", "ms", "95th percentile of latency", AS_THERE => |r| maybe(r.p95_ms);
        "peak_system_mib", "MiB", "largest fall of the system's available memory", AS_THERE
            => |r| maybe(r.peak_system_mib);
        "energy_per_frame_j", "J", "energy of the whole module per tracked frame", AS_THERE
            => |r| maybe(r.energy_per_frame_j);
        "pack_digest", "", "SHA-256 of the pack's manifest; with a detector or a label pack, the digests of all joined by `+`" => |r| value(&r.key.thing[0]);
        "onnxruntime", "", "version of ONNX Runtime", AS_THERE => |r| value(&r.key.thing[1]);
        "dataset", "", "root directory of the videos, as given" => |r| value(&r.key.thing[2]);
        "disturbed", "", "what disturbed the measurement, names with semicolons between", NOT_DISTURBED
            => |r| disturbance::list(&r.disturbed);
    };
    let row = "One row per cell of every finished run, oldest first.";
    CsvTable { file: "jetbench history --export-csv", row, columns }
}

const NOT_DISTURBED: &str = "nothing disturbed it, or it failed";
const AS_THERE: &str = "it is in `summary.csv`";
