//! The same job with a detector that looks less and less often.

use crate::cli::{RunArgs, ScaleArgs};
use crate::command::run::alone;
use crate::command::scale::{Told, banner, finish, series};
use crate::exit::{Error, Outcome};
use crate::judge::interval::{IntervalPoint, by_cell, gain, points};
use crate::plan::Plan;
use crate::report::csv::{CsvTable, columns, maybe, value};
use crate::report::plot;
use crate::text::{clean, show};

/// The option of the runner that is changed.
const OPTION: &str = "detect_every";

/// One run per interval.
pub(super) fn scale(args: &ScaleArgs, base: &RunArgs, argv: &[String]) -> Result<Outcome, Error> {
    let mut intervals: Vec<u32> = args.detect_every.iter().map(|n| n.get()).collect();
    intervals.sort_unstable();
    intervals.dedup();
    if base.option.iter().any(|option| option.trim().strip_prefix(OPTION).is_some_and(|rest| rest.starts_with('='))) {
        return Err(Error::Usage(format!("--option {OPTION}: --detect-every sets it from run to run; leave it out")));
    }
    let with = |every: u32| {
        let mut run = alone(base.clone());
        run.option.push(format!("{OPTION}={every}"));
        run
    };
    // Every interval is checked before the first run.
    for &every in &intervals {
        let plan = Plan::new(&with(every))?;
        for cell in &plan.cells {
            let model = &cell.model;
            if !cell.finds() {
                return Err(Error::Usage(format!(
                    "model `{model}` is prompted: it has no detector whose interval could be set; name a tracker with a detector, such \
                     as sam2_dfine, or give --objects"
                )));
            }
            if let Some(dropped) = cell.admitted.dropped.iter().find(|dropped| dropped.name == OPTION) {
                return Err(Error::Usage(format!("model `{model}` has no interval: {OPTION}: {}", dropped.reason)));
            }
        }
    }
    let said = |every: u32| match every {
        1 => "the detector looks at every frame".to_string(),
        n => format!("the detector looks at every {n} frames"),
    };
    let (runs, code) = series(&intervals, base.quiet.unwrap_or(false), argv, (said, with))?;
    let found: Vec<IntervalPoint> = runs.iter().flat_map(|(every, record)| points(record, *every)).collect();
    let banner = banner(&runs);
    let told = Told {
        points: serde_json::json!(found),
        text: text(&found, banner.as_deref()),
        csv: interval_columns().file(found.iter()),
        figure: plot::interval::figure(&found, banner.as_deref()),
    };
    finish(args, base, &told, code)
}

/// `detection` is the part of a frame's time that the stages `detector` and `association` take, spread over all frames.
const HEADER: &str = "  every  verdict    FPS model  ms/frame  detection   HOTA  J&F unsup     AP  switches\n";

fn text(points: &[IntervalPoint], banner: Option<&str>) -> String {
    let mut out = banner.map(|banner| format!("{banner}\n\n")).unwrap_or_default();
    let count = |n: Option<usize>| n.map_or_else(|| "–".to_string(), |n| n.to_string());
    for cell in by_cell(points) {
        out.push_str(&format!("{}\n{HEADER}", clean(&cell[0].cell)));
        for p in &cell {
            out.push_str(&format!(
                "  {:>5}  {:9}  {:>9}  {:>8}  {:>9}  {:>5}  {:>9}  {:>5}  {:>8}\n",
                p.detect_every,
                p.verdict,
                show(p.fps_model),
                show(p.mean_ms),
                show(p.detection_ms),
                show(p.hota),
                show(p.jf_unsup),
                show(p.ap),
                count(p.id_switches),
            ));
        }
        for p in cell.iter().filter(|p| !p.reasons.is_empty()) {
            out.push_str(&format!("  every {}: {}\n", p.detect_every, clean(&p.reasons)));
        }
        // One option for all intervals.
        if cell.iter().any(|p| p.ap_masks == Some("whole")) {
            out.push_str("  AP is of whole masks.\n");
        }
        if let Some((speed, hota)) = gain(&cell) {
            let hota = hota.map(|points| format!(", HOTA {points:+.2}")).unwrap_or_default();
            let (often, seldom) = (cell[0].detect_every, cell[cell.len() - 1].detect_every);
            out.push_str(&format!(
                "  every {seldom} instead of every {often}: {speed:.2} x the frames per second{hota}\n"
            ));
        }
        out.push('\n');
    }
    out
}

const NOTHING: &str = "the cell failed";
const NO_STAGES: &str = "the runner told no stages, or the cell failed";
const NO_TRUTH: &str = "there is no ground truth, or the cell failed";

/// Columns of `scale --detect-every --export-csv`.
pub fn interval_columns<'a>() -> CsvTable<&'a IntervalPoint> {
    let columns = columns! {
        &'a IntervalPoint;
        "cell", "", "model tag, requested precision and device" => |p| value(&p.cell);
        "detect_every", "frames", "interval of the detector" => |p| value(p.detect_every);
        "verdict", "", "`valid`, `invalid` or `failed`" => |p| value(p.verdict);
        "frames", "", "tracked frames of all repeats; the figures of time are theirs" => |p| value(p.frames);
        "detector_frames", "", "those at which the detector looked", NO_STAGES => |p| maybe(p.detector_frames);
        "fps_model", "frames/s", "1,000 over the mean latency, without decoding", "frames overlap (`pipeline=on`), or the cell failed"
            => |p| maybe(p.fps_model);
        "latency_mean_ms", "ms", "mean latency", NOTHING => |p| maybe(p.mean_ms);
        "latency_p50_ms", "ms", "median latency", NOTHING => |p| maybe(p.p50_ms);
        "detection_ms", "ms", "stages `detector` and `association`, spread over all frames", NO_STAGES => |p| maybe(p.detection_ms);
        "latency_looked_ms", "ms", "mean latency of the frames at which the detector looked, births included", NO_STAGES
            => |p| maybe(p.looked_ms);
        "latency_other_ms", "ms", "mean latency of the other frames", "there is none, the runner told no stages, or the cell failed"
            => |p| maybe(p.other_ms);
        "hota", "0 to 100", "HOTA", NO_TRUTH => |p| maybe(p.hota);
        "jf_unsup", "0 to 100", "J&F of DAVIS 2017 unsupervised", NO_TRUTH => |p| maybe(p.jf_unsup);
        "ap", "0 to 100", "class-agnostic AP", NO_TRUTH => |p| maybe(p.ap);
        "id_switches", "", "times an object's track changed", NO_TRUTH => |p| maybe(p.id_switches);
        "tracks", "", "confirmed tracks", NOTHING => |p| maybe(p.tracks);
        "unmatched", "", "those that cover no object", NO_TRUTH => |p| maybe(p.unmatched);
        "peak_rss_mib", "MiB", "peak resident set of the worker", "it could not be read, or the cell failed" => |p| maybe(p.peak_rss_mib);
        "run_id", "", "the run" => |p| value(&p.run_id);
        "reasons", "", "why it is not valid", "it is valid" => |p| value(&p.reasons);
        "ap_masks", "", "as in summary.csv", NO_TRUTH => |p| maybe(p.ap_masks);
    };
    CsvTable {
        file: "jetbench scale --detect-every --export-csv",
        row: "One row per cell and interval of its detector.",
        columns,
    }
}
