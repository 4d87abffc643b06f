//! `jetbench compare`: did it get better, worse, or is that noise? Runs are joined by cell, video, object and frame, so that
//! only like is compared with like; a change counts when its interval leaves out zero and it is larger than what the same
//! thing differs from itself on this machine. An interval wider than that is inconclusive. What cannot be compared is said with
//! what differs, never guessed.
//!
//! The test follows criterion.rs in its words and its noise threshold; its units are whole videos, because frames of one video
//! are not independent.

mod models;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::cli::{CompareArgs, OnInconclusive};
use crate::exit::{self, Error, Outcome};
use crate::judge::change::{Change, ChangeWord, Comparison, pair};
use crate::judge::noise::{Floor, noise};
use crate::plan::settings;
use crate::report::answer;
use crate::report::closing::{banner_of, test_models};
use crate::report::html::changes;
use crate::results::record::{CellRecord, RunRecord};
use crate::results::rows::{self, Key, Row};
use crate::results::{baseline, store};
use crate::text::{clean, figure, plural, say};

impl Comparison {
    /// Is anything of it worse, or could nothing of it be compared?
    pub(super) fn fails(&self, on_inconclusive: OnInconclusive) -> bool {
        self.cells.is_empty() || self.cells.iter().any(|c| c.fails(on_inconclusive == OnInconclusive::Fail))
    }
}

/// Compares a run with a base; each is a directory and its record. `past` and `said` are what latencies of one thing differ by.
pub(super) fn between(
    base: (&Path, &RunRecord),
    other: (&Path, &RunRecord),
    past: &[Row],
    said: Option<f64>,
) -> Comparison {
    let floor = |cell: &CellRecord| latency_floor(past, base.1, cell, said);
    let (cells, unmatched) = pair(base.1, other.1, &floor);
    Comparison { base: base.0.display().to_string(), other: other.0.display().to_string(), cells, unmatched }
}

/// The rows of past runs below `out`; those that cannot be read are named.
pub(super) fn past(out: &Path) -> Vec<Row> {
    let (past, faults) = rows::rows(out).unwrap_or_default();
    faults.iter().for_each(|fault| say(&format!("note: not used for the noise floor: {fault}")));
    past
}

/// Compares the runs that `args` name.
///
/// # Errors
/// A run that cannot be read; fewer than two; a baseline that is not there.
pub fn compare(args: &CompareArgs) -> Result<Outcome, Error> {
    let out = settings::default_out(args.out.clone());
    if let Some(name) = &args.save_baseline {
        let [run] = args.runs.as_slice() else {
            return Err(Error::Usage("--save-baseline NAME takes one run".into()));
        };
        let saved = baseline::save(&out, name, &store::which(run, &out)?)?;
        if let Some(why) = saved.unnoted {
            say(&format!(
                "note: the run is in another results directory and cannot be marked there ({why}), so `prune` and --keep may remove it"
            ));
        }
        return Ok(Outcome::ok(format!("baseline {name} is {}\n", saved.run.display())));
    }
    if !args.models.is_empty() {
        // `--models A B RUN`: a list ends where the next flag begins, so the run is its last word.
        let (models, run) = match (args.models.split_last(), args.runs.as_slice()) {
            (Some((run, models)), []) if !models.is_empty() => (models, PathBuf::from(run)),
            (_, [run]) => (args.models.as_slice(), run.clone()),
            _ => return Err(Error::Usage("one run is needed: jetbench compare --models A B RUN".into())),
        };
        let dir = store::which(&run, &out)?;
        return models::compare(&store::load(&dir)?, &dir, models, args);
    }
    let mut dirs = Vec::new();
    if let Some(name) = &args.baseline {
        dirs.push(baseline::find(&out, name)?);
    }
    for run in &args.runs {
        dirs.push(store::which(run, &out)?);
    }
    if dirs.len() < 2 {
        return Err(Error::Usage("two runs are needed: jetbench compare BASE RUN…, or --baseline NAME RUN…".into()));
    }
    let records = dirs.iter().map(|dir| store::load(dir)).collect::<Result<Vec<RunRecord>, _>>()?;
    let (past, base) = (past(&out), (dirs[0].as_path(), &records[0]));
    let others = records[1..].iter().zip(&dirs[1..]);
    let comparisons: Vec<Comparison> =
        others.map(|(record, dir)| between(base, (dir, record), &past, args.noise_floor)).collect();
    let banner = banner_of(&records.iter().flat_map(test_models).collect::<Vec<_>>());
    if let Some(file) = &args.html {
        write_page(file, &changes::comparisons(&comparisons, banner.as_deref(), env!("CARGO_PKG_VERSION")))?;
    }
    let bad = comparisons.iter().any(|c| c.fails(args.on_inconclusive));
    let code = if args.fail_on_regression && bad { exit::NOT_VALID } else { exit::OK };
    let stdout = match args.json {
        true => format!("{}\n", serde_json::json!({"schema": 1, "comparisons": comparisons})),
        false => {
            let banner = banner.map(|banner| format!("{banner}\n"));
            let told = comparisons.iter().map(|c| text(c, args.verbose));
            banner.into_iter().chain(told).collect::<Vec<_>>().join("\n")
        }
    };
    Ok(Outcome { stdout, code })
}

/// Writes the page of a comparison.
fn write_page(file: &Path, page: &str) -> Result<(), Error> {
    let fault = |e| Error::Environment(format!("--html: cannot write {}: {e}", file.display()));
    store::export(file, page.as_bytes(), &[]).map_err(fault)
}

/// What latencies of this cell differ by from run to run: what the user says, else what the results directory shows, else
/// a default.
fn latency_floor(past: &[Row], base: &RunRecord, cell: &CellRecord, said: Option<f64>) -> Floor {
    match said {
        Some(percent) => Floor { share: percent / 100.0, from: "as asked".into() },
        None => noise(past, &Key::of(base, cell)),
    }
}

/// A comparison for readers.
pub(super) fn text(comparison: &Comparison, verbose: bool) -> String {
    let mut out = format!("base  {}\nrun   {}\n", comparison.base, comparison.other);
    for cell in &comparison.cells {
        let _ = writeln!(
            out,
            "\n{}, {}",
            clean(&format!("{} {} {}", cell.model, cell.dtype, cell.device)),
            plural(cell.videos, "video", "videos")
        );
        if let Some(verdict) = &cell.verdict {
            let _ = writeln!(out, "  verdict  {verdict}");
        }
        line(&mut out, "J&F", &cell.jf, |v| format!("{v:.2}"), |v| format!("{v:+.2}"));
        if let Some(returned) = &cell.returned {
            let _ = writeln!(out, "  return   not judged      {}", answer::returned(returned));
        }
        for (name, base, other) in &cell.found {
            let _ = writeln!(out, "  {name:7}  not judged      {base:.2} → {other:.2}  ({:+.2})", other - base);
        }
        line(&mut out, "latency", &cell.latency, |v| format!("{} ms", figure(v)), |v| format!("{:+.1} %", v * 100.0));
        if let Some((base, other)) = cell.p99_ms {
            let _ = writeln!(out, "  p99      not judged      {} ms → {} ms", figure(base), figure(other));
        }
        if !cell.disturbed.is_empty() {
            let _ = writeln!(out, "  disturbed  {}", cell.disturbed.join("; "));
        }
        if !cell.changed.is_empty() {
            let _ = writeln!(out, "  changed  {}", cell.changed.join(", "));
        }
        for (name, base, other) in cell.digests.iter().filter(|_| verbose) {
            let _ = writeln!(out, "  digest of {name}  {base} → {other}");
        }
        let quiet = [ChangeWord::WithinNoise, ChangeWord::NotComparable, ChangeWord::NotScored].contains(&cell.jf.word);
        if !quiet && !cell.moved.is_empty() {
            let moved: Vec<String> = cell.moved.iter().map(|(v, d)| format!("{} {d:+.2}", clean(v))).collect();
            let _ = writeln!(out, "  moved    {}", moved.join(", "));
        }
    }
    for name in &comparison.unmatched {
        let _ = writeln!(out, "\n{}", clean(name));
    }
    out
}

fn line(out: &mut String, name: &str, c: &Change, value: impl Fn(f64) -> String, step: impl Fn(f64) -> String) {
    let _ = write!(out, "  {name:7}  {:14}", c.word.as_str());
    if let (Some(base), Some(other)) = (c.base, c.other) {
        let _ = write!(out, "  {} → {}", value(base), value(other));
    }
    if let (Some(change), Some(i)) = (c.change, c.interval) {
        let floor = step(c.floor);
        let floor = floor.trim_start_matches('+');
        let _ = write!(
            out,
            "  ({}, 95 % interval {} to {}; noise up to {floor}, {})",
            step(change),
            step(i.low),
            step(i.high),
            c.floor_from
        );
    }
    if !c.remark.is_empty() {
        let _ = write!(out, "  {}", c.remark);
    }
    out.push('\n');
}
