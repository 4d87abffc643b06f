//! The same job with more and more objects.

use std::num::NonZeroUsize;

use crate::cli::{RunArgs, ScaleArgs};
use crate::command::run::alone;
use crate::command::scale::{Told, banner, finish, series};
use crate::dataset::{SynthOptions, synthesise};
use crate::exit::{Error, Outcome};
use crate::judge::scale::{ScalePoint, by_cell, growth, points};
use crate::plan::Plan;
use crate::report::csv::{CsvTable, columns, maybe, value};
use crate::report::plot;
use crate::text::{clean, plural, show};

/// Frames of the clip that is drawn where no data are given, and their size.
const DRAWN: (usize, u32, u32) = (60, 640, 480);

/// One run per number of objects.
pub(super) fn scale(args: &ScaleArgs, mut base: RunArgs, argv: &[String]) -> Result<Outcome, Error> {
    let mut counts: Vec<usize> = args.objects.iter().map(|n| n.get()).collect();
    counts.sort_unstable();
    counts.dedup();
    let most = counts[counts.len() - 1];
    let _drawn = match &base.data {
        Some(_) => None,
        None => {
            let clip = draw(most)?;
            base.data = Some(clip.path().join("clip"));
            Some(clip)
        }
    };
    let plan = Plan::new(&alone(base.clone()))?;
    if let Some(cell) = plan.cells.iter().find(|cell| cell.finds()) {
        let instead = match cell.detector {
            Some(_) => format!("name a model with its prompt, such as {}_points", cell.pack.id),
            None => "name a model that takes prompts".to_string(),
        };
        return Err(Error::Usage(format!(
            "model `{}` finds as many objects as there are, so their number cannot be set; {instead}",
            cell.model
        )));
    }
    all_have(&plan, most)?;
    let with = |objects: usize| RunArgs { limit_objects: NonZeroUsize::new(objects), ..alone(base.clone()) };
    let said = |objects: usize| plural(objects, "object", "objects");
    let (runs, code) = series(&counts, base.quiet.unwrap_or(false), argv, (said, with))?;
    let found: Vec<ScalePoint> = runs.iter().flat_map(|(objects, record)| points(record, *objects)).collect();
    let banner = banner(&runs);
    let told = Told {
        points: serde_json::json!(found),
        text: text(&found, banner.as_deref()),
        csv: scale_columns().file(found.iter()),
        figure: plot::scale::figure(&found, banner.as_deref()),
    };
    finish(args, &base, &told, code)
}

/// A clip whose objects are all there on its first frame, in a folder of its own.
fn draw(objects: usize) -> Result<tempfile::TempDir, Error> {
    let unwritten =
        |e: std::io::Error| Error::Environment(format!("no clip can be drawn for `scale`: {e}; give one with --data"));
    let folder = tempfile::Builder::new().prefix("jetbench-scale-").tempdir().map_err(unwritten)?;
    let (frames, width, height) = DRAWN;
    let options = SynthOptions {
        out: folder.path().join("clip"),
        videos: 1,
        objects,
        frames,
        width,
        height,
        ..SynthOptions::default()
    };
    synthesise(&options, &|_, _| {}).map_err(|e| Error::Usage(format!("--objects {objects}: {e}")))?;
    Ok(folder)
}

/// Has every video of the plan so many objects?
fn all_have(plan: &Plan, objects: usize) -> Result<(), Error> {
    match plan.dataset.sequences.iter().find(|s| s.objects.len() < objects) {
        None => Ok(()),
        Some(few) => Err(Error::Usage(format!(
            "video {} has {}, and --objects asks for {objects}: every video needs as many; leave videos out (--limit-videos), \
             or leave --data out, so that a clip is drawn",
            few.name,
            plural(few.objects.len(), "object", "objects")
        ))),
    }
}

fn text(points: &[ScalePoint], banner: Option<&str>) -> String {
    let mut out = banner.map(|banner| format!("{banner}\n\n")).unwrap_or_default();
    for cell in by_cell(points) {
        out.push_str(&format!("{}\n  objects  verdict    FPS model   p50 ms  peak MiB\n", clean(&cell[0].cell)));
        for p in &cell {
            out.push_str(&format!(
                "  {:>7}  {:9}  {:>9}  {:>7}  {:>8}\n",
                p.objects,
                p.verdict,
                show(p.fps_model),
                show(p.p50_ms),
                show(p.peak_rss_mib)
            ));
        }
        for p in cell.iter().filter(|p| !p.reasons.is_empty()) {
            out.push_str(&format!("  {}: {}\n", plural(p.objects, "object", "objects"), clean(&p.reasons)));
        }
        if let Some((time, memory)) = growth(&cell) {
            let memory = memory.map(|m| format!(", {m:.1} x the memory")).unwrap_or_default();
            let (few, many) = (cell[0].objects, cell[cell.len() - 1].objects);
            out.push_str(&format!(
                "  {} take {time:.1} x the time of {few}{memory}\n",
                plural(many, "object", "objects")
            ));
        }
        out.push('\n');
    }
    out
}

const NO_FRAME: &str = "no frame tracks so many, or the cell failed";
const UNREAD: &str = "it could not be read, or the cell failed";

/// Columns of `scale --export-csv`.
pub fn scale_columns<'a>() -> CsvTable<&'a ScalePoint> {
    let columns = columns! {
        &'a ScalePoint;
        "cell", "", "model tag, requested precision and device" => |p| value(&p.cell);
        "objects", "", "objects per video" => |p| value(p.objects);
        "verdict", "", "`valid`, `invalid` or `failed`" => |p| value(p.verdict);
        "frames", "", "frames on which all of them are tracked; the figures of time are theirs" => |p| value(p.frames);
        "fps_model", "frames/s", "1,000 over the mean latency, without decoding", NO_FRAME => |p| maybe(p.fps_model);
        "latency_p50_ms", "ms", "median latency", NO_FRAME => |p| maybe(p.p50_ms);
        "peak_system_mib", "MiB", "largest fall of the system's available memory", UNREAD => |p| maybe(p.peak_system_mib);
        "peak_rss_mib", "MiB", "peak resident set of the worker", UNREAD => |p| maybe(p.peak_rss_mib);
        "run_id", "", "the run" => |p| value(&p.run_id);
        "reasons", "", "why it is not valid", "it is valid" => |p| value(&p.reasons);
    };
    CsvTable { file: "jetbench scale --export-csv", row: "One row per cell and number of objects.", columns }
}
