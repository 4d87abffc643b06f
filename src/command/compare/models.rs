//! `jetbench compare --models A B RUN`: which model, precision or device of one run is better? Cells that differ in one of the
//! three are compared, video by video; see [`crate::judge::paired`] for the method.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use crate::cli::CompareArgs;
use crate::exit::{self, Error, Outcome};
use crate::judge::contest::{self, Contest};
use crate::judge::paired::ALPHA;
use crate::report::answer;
use crate::report::closing;
use crate::report::html::changes;
use crate::report::table::{cell_name, model_name};
use crate::results::record::{CellRecord, RunRecord};
use crate::text::{figure, plural};

/// Compares the cells of `run` whose model is among `models`.
///
/// # Errors
/// A model that the run does not have; fewer than two valid cells.
pub(super) fn compare(run: &RunRecord, dir: &Path, models: &[String], args: &CompareArgs) -> Result<Outcome, Error> {
    let is = |cell: &CellRecord, name: &String| cell.model == *name || model_name(cell) == *name;
    if let Some(unknown) = models.iter().find(|m| !run.cells.iter().any(|c| is(c, m))) {
        let mut known: Vec<&str> = run.cells.iter().map(|c| c.model.as_str()).collect();
        known.dedup();
        return Err(Error::Usage(format!("{}: no model {unknown}; it has: {}", dir.display(), known.join(", "))));
    }
    let chosen: Vec<usize> = (0..run.cells.len()).filter(|i| models.iter().any(|m| is(&run.cells[*i], m))).collect();
    let valid: Vec<usize> = contest::fit(run).into_iter().filter(|i| chosen.contains(i)).collect();
    let pairs: Vec<(usize, usize)> = contest::pairs(&valid).into_iter().filter(|p| differ_in_one(run, *p)).collect();
    if pairs.is_empty() {
        let left = plural(valid.len(), "valid cell", "valid cells");
        return Err(Error::Usage(format!(
            "{}: {left} of these models, and no two that differ in model, precision or device only: nothing to compare",
            dir.display()
        )));
    }
    let contests = contest::contests(run, &pairs);
    let unfit = chosen.len() - valid.len();
    if let Some(file) = &args.html {
        super::write_page(file, &changes::contests(run, &contests, unfit))?;
    }
    let stdout = match args.json {
        true => format!("{}\n", json(run, dir, &contests)),
        false => text(run, &contests, unfit),
    };
    Ok(Outcome { stdout, code: exit::OK })
}

/// Is it clear what a difference between these two comes from?
fn differ_in_one(run: &RunRecord, (a, b): (usize, usize)) -> bool {
    let (a, b) = (&run.cells[a], &run.cells[b]);
    let other_model = (&a.model, &a.pack) != (&b.model, &b.pack);
    [other_model, a.dtype != b.dtype, a.device != b.device].iter().filter(|differs| **differs).count() == 1
}

fn text(run: &RunRecord, contests: &[Contest], unfit: usize) -> String {
    let mut out = String::new();
    if let Some(banner) = closing::banner(run) {
        let _ = writeln!(out, "{banner}\n");
    }
    for contest in contests {
        let [a, b] = [contest.first, contest.second].map(|i| &run.cells[i]);
        let _ = writeln!(out, "{} → {}", cell_name(run, a), cell_name(run, b));
        if let Some(jf) = &contest.jf {
            let clear = if jf.clear() { "" } else { ": no clear difference" };
            let evidence = answer::evidence(jf, contests.len(), false);
            let _ = writeln!(out, "  J&F  {:.1} → {:.1}  {:+.1} ({evidence}){clear}", jf.first, jf.second, jf.points);
        }
        let fps = |c: &CellRecord| c.summary.as_ref().and_then(|s| s.fps_wall);
        if let (Some(from), Some(to), Some(ratio)) = (fps(a), fps(b), contest.speed) {
            let clear = if contest.speed_clear { "" } else { ": no clear difference" };
            let doubt = answer::doubt(contest).map(|why| format!(" ({why})")).unwrap_or_default();
            let _ = writeln!(out, "  FPS  {} → {}  {ratio:.2} x{doubt}{clear}", figure(from), figure(to));
        }
        out.push('\n');
    }
    if let [one] = contests {
        let _ = writeln!(out, "{}\n", answer::sentence(run, one, 1));
    }
    if unfit > 0 {
        let _ = writeln!(out, "{} not valid and left out.\n", plural(unfit, "cell is", "cells are"));
    }
    let _ = writeln!(
        out,
        "J&F: paired by video, Student's t{}; a difference is clear when p is below {ALPHA}.",
        if contests.len() > 1 { ", p-values corrected by Holm's method" } else { "" }
    );
    out
}

fn json(run: &RunRecord, dir: &Path, contests: &[Contest]) -> serde_json::Value {
    let named = |i: usize| {
        let cell = &run.cells[i];
        json!({"model": cell.model, "pack": cell.pack, "dtype": cell.dtype, "device": cell.device})
    };
    let contests: Vec<_> = contests
        .iter()
        .map(|c| {
            json!({"first": named(c.first), "second": named(c.second), "jf": c.jf,
                "clear": c.jf.as_ref().is_some_and(|d| d.clear()), "speed": c.speed, "speed_clear": c.speed_clear,
                "disturbed": c.disturbed, "emulated": c.emulated, "sentence": answer::sentence(run, c, contests.len())})
        })
        .collect();
    json!({"schema": 1, "run": dir.display().to_string(), "models": contests})
}
