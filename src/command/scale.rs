//! `jetbench scale`: the same job with one thing changed from run to run, and what that costs: with 1, 2, 4, 8 … objects, or with a
//! detector that looks at every 1, 2, 5, 10 … frames.

mod intervals;
mod objects;

pub use self::intervals::interval_columns;
pub use self::objects::scale_columns;

use serde_json::Value;

use crate::cli::{RunArgs, ScaleArgs};
use crate::command::export::{is_svg, write_figure, write_file};
use crate::command::run::measure;
use crate::exit::{self, Error, Outcome};
use crate::plan::config;
use crate::report::closing::banner_of_all;
use crate::report::plot::Figure;
use crate::results::record::RunRecord;
use crate::results::store;
use crate::text::say;

/// Runs the job once per number of objects or per interval, and shows the figures side by side.
///
/// # Errors
/// As `run`, and: videos with too few objects, a model without a detector, a file that cannot be written. Runs that are finished stay
/// in the results directory.
pub fn scale(args: ScaleArgs, argv: &[String]) -> Result<Outcome, Error> {
    args.plot.as_deref().map(is_svg).transpose()?;
    for (flag, path) in [("--plot", &args.plot), ("--export-csv", &args.export_csv)] {
        let given = path.as_deref().filter(|path| path.as_os_str() != "-");
        given.map_or(Ok(()), |path| {
            store::may_replace(path, &[]).map_err(|why| Error::Usage(format!("{flag} {}: {why}", path.display())))
        })?;
    }
    let base = config::with_file(args.run.clone())?;
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
        let of = if args.detect_every.is_empty() { "number of objects" } else { "interval" };
        return Err(Error::Usage(format!("{flag} does not apply to `scale`, which makes a run per {of}")));
    }
    match args.detect_every.is_empty() {
        true => objects::scale(&args, base, argv),
        false => intervals::scale(&args, &base, argv),
    }
}

/// The runs, one after another, each with what was changed in it, until one is interrupted; and the highest of their exit codes.
fn series<T: Copy>(
    values: &[T],
    quiet: bool,
    argv: &[String],
    (said, with): (impl Fn(T) -> String, impl Fn(T) -> RunArgs),
) -> Result<(Vec<(T, RunRecord)>, u8), Error> {
    let (mut runs, mut code) = (Vec::new(), exit::OK);
    for (i, &value) in values.iter().enumerate() {
        if !quiet {
            say(&format!("scale: run {} of {}, {}", i + 1, values.len(), said(value)));
        }
        let (outcome, dir) = measure(with(value), None, argv.to_vec())?;
        code = code.max(outcome.code);
        runs.extend(dir.as_deref().map(store::load).transpose()?.map(|record| (value, record)));
        if outcome.code == exit::INTERRUPTED {
            break;
        }
    }
    Ok((runs, code))
}

/// What the runs are no description of, where their packs only stand in for a model.
fn banner<T>(runs: &[(T, RunRecord)]) -> Option<String> {
    banner_of_all(&runs.iter().map(|(_, record)| record.clone()).collect::<Vec<_>>())
}

/// What came of it, in every form.
struct Told {
    points: Value,
    text: String,
    csv: Vec<u8>,
    figure: Figure,
}

/// Writes the files that were asked for; what is left is for stdout.
fn finish(args: &ScaleArgs, base: &RunArgs, told: &Told, code: u8) -> Result<Outcome, Error> {
    let mut stdout = match base.json.unwrap_or(false) {
        true => format!("{}\n", serde_json::json!({"schema": 1, "points": told.points})),
        false => told.text.clone(),
    };
    if let Some(path) = &args.export_csv {
        match path.as_os_str() == "-" {
            true => stdout = String::from_utf8_lossy(&told.csv).into_owned(),
            false => write_file(path, &told.csv)?,
        }
    }
    if let Some(path) = &args.plot {
        write_figure(path, &told.figure)?;
    }
    Ok(Outcome { stdout, code })
}
