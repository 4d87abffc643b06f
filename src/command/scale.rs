//! `jetbench scale`: the same job with 1, 2, 4, 8 … objects, one run each, and what one more object costs.

use crate::cli::{RunArgs, ScaleArgs};
use crate::command::export::{is_svg, write_figure, write_file};
use crate::command::run::{alone, measure};
use crate::dataset::{SynthOptions, synthesise};
use crate::exit::{self, Error, Outcome};
use crate::judge::scale::{ScalePoint, by_cell, growth, points};
use crate::plan::{Plan, config};
use crate::report::closing::banner_of_all;
use crate::report::csv::{CsvTable, columns, maybe, value};
use crate::report::plot;
use crate::results::store;
use crate::text::{clean, plural, say, show};

/// Frames of the clip that is drawn where no data are given, and their size.
const DRAWN: (usize, u32, u32) = (60, 640, 480);

/// Runs the job once per number of objects, and shows the figures side by side.
///
/// # Errors
/// As `run`, and: videos with too few objects, a file that cannot be written. Runs that are finished stay in the results
/// directory.
pub fn scale(args: ScaleArgs, argv: &[String]) -> Result<Outcome, Error> {
    let mut counts: Vec<usize> = args.objects.iter().map(|n| n.get()).collect();
    counts.sort_unstable();
    counts.dedup();
    let most = counts[counts.len() - 1];
    args.plot.as_deref().map(is_svg).transpose()?;
    for (flag, path) in [("--plot", &args.plot), ("--export-csv", &args.export_csv)] {
        let given = path.as_deref().filter(|path| path.as_os_str() != "-");
        given.map_or(Ok(()), |path| {
            store::may_replace(path, &[]).map_err(|why| Error::Usage(format!("{flag} {}: {why}", path.display())))
        })?;
    }
    let mut base = config::with_file(args.run)?;
    let unused = [
        ("--resume", base.resume.is_some()),
        ("--limit-objects", base.limit_objects.is_some()),
        ("--if-changed", base.if_changed.is_some()),
        ("--dry-run", base.dry_run.is_some()),
        ("--keep", base.keep.is_some()),
        ("--status", base.status.is_some()),
        ("--baseline", base.baseline.is_some()),
        ("--fail-on-regression", base.fail_on_regression.is_some()),
        ("--on-inconclusive", base.on_inconclusive.is_some()),
        ("--export-markdown", base.export_markdown.is_some()),
        ("--export-bmf", base.export_bmf.is_some()),
        ("--export-junit", base.export_junit.is_some()),
        ("--export-prometheus", base.export_prometheus.is_some()),
    ];
    if let Some((flag, _)) = unused.iter().find(|(_, given)| *given) {
        return Err(Error::Usage(format!("{flag} does not apply to `scale`, which makes a run per number of objects")));
    }
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
    let with = |objects: usize| RunArgs { limit_objects: std::num::NonZeroUsize::new(objects), ..alone(base.clone()) };
    all_have(&plan, most)?;
    let (mut found, mut records, mut code) = (Vec::new(), Vec::new(), exit::OK);
    for (i, &objects) in counts.iter().enumerate() {
        if !base.quiet.unwrap_or(false) {
            say(&format!("scale: run {} of {}, {}", i + 1, counts.len(), plural(objects, "object", "objects")));
        }
        let (outcome, dir) = measure(with(objects), None, argv.to_vec())?;
        code = code.max(outcome.code);
        if let Some(record) = dir.as_deref().map(store::load).transpose()? {
            found.extend(points(&record, objects));
            records.push(record);
        }
        if outcome.code == exit::INTERRUPTED {
            break;
        }
    }
    let banner = banner_of_all(&records);
    let mut stdout = match base.json.unwrap_or(false) {
        true => format!("{}\n", serde_json::json!({"schema": 1, "points": found})),
        false => text(&found, banner.as_deref()),
    };
    if let Some(path) = &args.export_csv {
        let bytes = scale_columns().file(found.iter());
        match path.as_os_str() == "-" {
            true => stdout = String::from_utf8_lossy(&bytes).into_owned(),
            false => write_file(path, &bytes)?,
        }
    }
    if let Some(path) = &args.plot {
        write_figure(path, &plot::scale::figure(&found, banner.as_deref()))?;
    }
    Ok(Outcome { stdout, code })
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
