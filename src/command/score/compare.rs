//! `jetbench score GT PRED_A PRED_B`: which predictions are better? The same objects in all of them, video by video; see
//! [`crate::judge::paired`] for the method.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Exports, scored};
use crate::cli::ScoreArgs;
use crate::exit::{Error, Outcome};
use crate::judge::contest;
use crate::judge::paired::{self, ALPHA, Difference, Scores};
use crate::report::answer;
use crate::score::ScoreReport;
use crate::score::export::Table;
use crate::score::export::tables::folder_table;
use crate::text::clean;

/// Two folders, by index, and what lies between them in points of 100.
type Pair = (usize, usize, Option<Difference>);

pub(super) fn score(args: &ScoreArgs, preds: &[PathBuf]) -> Result<Outcome, Error> {
    if args.export_csv.is_some() || args.compat.is_some() {
        return Err(Error::Usage(
            "--export-csv and --compat take one folder of predictions; score each by itself".into(),
        ));
    }
    let reports = preds.iter().map(|pred| scored(args, pred)).collect::<Result<Vec<ScoreReport>, _>>()?;
    let scores: Vec<Scores> = reports.iter().map(of).collect();
    let all: Vec<usize> = (0..scores.len()).collect();
    let mut pairs: Vec<Pair> =
        contest::pairs(&all).into_iter().map(|(a, b)| (a, b, paired::difference(&scores[a], &scores[b]))).collect();
    paired::holm(pairs.iter_mut().filter_map(|p| p.2.as_mut()));
    let mut exports = Exports::of(args);
    let as_json = || format!("{}\n", json(&reports, &pairs));
    if let Some(path) = args.export_json.as_deref().filter(|path| path.as_os_str() != "-") {
        exports.write(path, &as_json())?;
    }
    let table = folder_table(&reports);
    let latex = |table: &Table| format!("% needs \\usepackage{{booktabs}}\n{}", table.latex());
    let sentences =
        || format!("{}\n{}", table.as_ref().map_or_else(String::new, Table::markdown), sentences(&reports, &pairs));
    let asked =
        [(&args.export_markdown, sentences()), (&args.export_latex, table.as_ref().map_or_else(String::new, latex))];
    for (path, text) in asked.into_iter().filter_map(|(path, text)| Some((path.as_ref()?, text))) {
        exports.write(path, &text)?;
    }
    if exports.printed {
        return Ok(Outcome::ok(exports.stdout));
    }
    let to_stdout = args.json || args.export_json.as_deref() == Some(Path::new("-"));
    Ok(Outcome::ok(if to_stdout { as_json() } else { text(&reports, &pairs) }))
}

/// J&F of every object, 0 to 100 whatever the protocol's scale.
fn of(report: &ScoreReport) -> Scores {
    let mut scores = Scores::new();
    for o in &report.objects {
        scores.entry(o.video.clone()).or_default().insert(o.object.clone(), o.jf * 100.0 / report.scale);
    }
    scores
}

fn text(reports: &[ScoreReport], pairs: &[Pair]) -> String {
    let mut out = String::new();
    for report in reports {
        let _ = writeln!(out, "{}", clean(&report.pred));
        out.push_str(&super::summary(report));
    }
    format!("{out}\n{}", sentences(reports, pairs))
}

/// What lies between the folders, pair by pair.
fn sentences(reports: &[ScoreReport], pairs: &[Pair]) -> String {
    let mut out = String::new();
    for (a, b, difference) in pairs {
        let names = [*a, *b].map(|i| clean(&reports[i].pred));
        let _ = match difference {
            Some(jf) => writeln!(out, "{}", answer::of_scores((&names[0], &names[1]), jf, pairs.len())),
            None => writeln!(out, "{} and {} have no object in common.", names[0], names[1]),
        };
    }
    let _ = writeln!(
        out,
        "Points of 100 over objects that all of a pair have; paired by video, Student's t{}; clear when p is below {ALPHA}.",
        if pairs.len() > 1 { ", corrected by Holm's method" } else { "" }
    );
    out
}

fn json(reports: &[ScoreReport], pairs: &[Pair]) -> serde_json::Value {
    let compared: Vec<_> = pairs
        .iter()
        .map(|(a, b, jf)| {
            json!({"first": reports[*a].pred, "second": reports[*b].pred, "jf": jf,
                "clear": jf.as_ref().is_some_and(Difference::clear)})
        })
        .collect();
    json!({"schema": 1, "reports": reports, "compared": compared})
}
