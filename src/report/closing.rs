//! What must be read beside the table, in few lines? How many cells may be quoted, why the others may not, and one line per
//! kind of warning with the number of cells that it concerns. What stands behind each line, how the table is to be read and
//! how the runners were set up is there for those who ask: `-v`, the report.

use std::collections::BTreeSet;

use jetbench_runners::types::PromptKind;

use crate::judge::noise::Series;
use crate::judge::outcome::INTERRUPTED;
use crate::plan::scenario::Scenario;
use crate::report::answer;
use crate::report::table::{cell_name, dtype_short, tells};
use crate::results::disturbance::Disturbance;
use crate::results::note::{Note, NoteKind, Severity};
use crate::results::record::{CellRecord, LabelSummary, LatencyRecord, RunRecord, TakenSummary, Verdict};
use crate::text::{clean, plural};

/// What stands where accuracy would.
const UNSCORED: &str = "no J, F or J&F: the prompts are your own and there is no ground truth to score against; speed, memory and \
                        energy are measured, and rules that need ground truth were not applied";

/// The same where nobody gave a prompt either.
const UNTOLD: &str = "no accuracy: there is no ground truth to score against; speed, memory, energy and tracks are measured, and rules \
                      that need ground truth were not applied";
/// What stands beside two kinds of J&F.
const TWO_KINDS: &str = "J&F is of objects that were prompted; J&F unsup is of objects that were found (DAVIS 2017 unsupervised: each \
                         object with the track that suits it best, every frame counts). They are two tasks, and are not compared";

/// What a reader must know of the accuracy columns before the rest.
fn unscored(run: &RunRecord) -> Option<&'static str> {
    let found = run.cells.iter().filter(|cell| cell.detector.is_some()).count();
    match run.data.has_truth() {
        false if run.data.objects == 0 => Some(UNTOLD),
        false => Some(UNSCORED),
        true if found > 0 && found < run.cells.len() => Some(TWO_KINDS),
        true => None,
    }
}

/// The text beside a table, most important first. Nothing is wrapped, nothing is coloured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Closing {
    /// How many cells are valid, and what the others are.
    pub headline: String,
    /// That figures of test models do not describe the models they stand in for.
    pub banner: Option<String>,
    /// Why there is no accuracy.
    pub unscored: Option<String>,
    /// Why cells are not valid, each reason once, with the number that stands in the table.
    pub reasons: Vec<String>,
    /// One per kind, those that weigh most first.
    pub warnings: Vec<Warning>,
    /// Which model is better, where there are several.
    pub answer: Option<String>,
    /// How to read the table.
    pub legend: Vec<String>,
    /// How the runners were set up, and what else is worth knowing.
    pub settings: Vec<String>,
}

/// Everything that is to be said of one kind of warning.
#[derive(Clone, Debug, PartialEq)]
pub struct Warning {
    /// What, in how many cells.
    pub line: String,
    /// What was seen, cell by cell.
    pub seen: Vec<String>,
}

impl Closing {
    /// The closing lines of a run.
    pub fn of(run: &RunRecord) -> Closing {
        Closing {
            headline: headline(run),
            unscored: unscored(run).map(String::from),
            banner: banner(run),
            reasons: reasons(run),
            warnings: warnings(run),
            answer: answered(run),
            legend: legend(run),
            settings: seen(run, &|note| note.severity == Severity::Info),
        }
    }

    /// The lines that everybody gets below the reasons: a line per kind of warning, `most` at most.
    pub fn warned(&self, most: usize) -> Vec<String> {
        let told = self.warnings.iter().take(most).map(|w| format!("warning: {}", w.line));
        let more =
            self.warnings.len().checked_sub(most).filter(|n| *n > 0).map(|n| {
                format!("{}: see -v or the report", plural(n, "more kind of warning", "more kinds of warning"))
            });
        told.chain(more).collect()
    }

    /// What stands behind the lines, for those who ask.
    pub fn details(&self) -> Vec<String> {
        let seen = self.warnings.iter().flat_map(|w| w.seen.iter().cloned());
        seen.chain(self.settings.iter().cloned()).chain(self.legend.iter().cloned()).collect()
    }
}

/// Test models of a run by name, and the models that they only stand in for.
pub fn banner(run: &RunRecord) -> Option<String> {
    banner_of(&test_models(run))
}

/// Packs of a run that are test models, each with the model that it stands in for.
pub fn test_models(run: &RunRecord) -> Vec<(&str, &str)> {
    let mut models = Vec::new();
    for cell in &run.cells {
        models.extend(cell.test_model_of.as_deref().map(|model| (cell.pack.as_str(), model)));
        let detector = cell.detector.as_ref();
        models.extend(detector.and_then(|d| Some((d.pack.as_str(), d.test_model_of.as_deref()?))));
        let labels = cell.labels.as_ref();
        models.extend(labels.and_then(|l| Some((l.pack.as_str(), l.test_model_of.as_deref()?))));
    }
    models
}

/// As [`banner`], for several runs.
pub fn banner_of_all(runs: &[RunRecord]) -> Option<String> {
    banner_of(&runs.iter().flat_map(test_models).collect::<Vec<_>>())
}

/// As [`banner`], for the runs of a history.
pub fn banner_of_history(series: &[Series<'_>]) -> Option<String> {
    let test = series.iter().flat_map(|s| &s.rows).filter_map(|r| r.test_model.as_ref());
    banner_of(&test.map(|(pack, model)| (pack.as_str(), model.as_str())).collect::<Vec<_>>())
}

/// As [`banner`], for these test models and the models that they stand in for.
pub fn banner_of(test: &[(&str, &str)]) -> Option<String> {
    let once = |pick: fn(&(&str, &str)) -> String| {
        test.iter().map(pick).fold(Vec::new(), |mut names, name| {
            if !names.contains(&name) {
                names.push(name);
            }
            names
        })
    };
    let (packs, models) = (once(|t| t.0.to_string()), once(|t| t.1.to_string()));
    let are = if packs.len() == 1 { "is a test model" } else { "are test models" };
    (!test.is_empty()).then(|| {
        clean(&format!("{} {are}; these figures do not describe {}", list(&packs, "and"), list(&models, "or")))
    })
}

/// `a, b and c`.
pub(super) fn list(names: &[String], last: &str) -> String {
    match names {
        [all @ .., end] if !all.is_empty() => format!("{} {last} {end}", all.join(", ")),
        _ => names.concat(),
    }
}

/// The number under which the reason of a cell that is not valid stands below the table; cells that share it share the number.
pub(super) fn reason_number(run: &RunRecord, cell: &CellRecord) -> Option<usize> {
    distinct_reasons(run).iter().position(|(verdict, _)| **verdict == cell.verdict).map(|at| at + 1)
}

/// Every verdict that is not `valid` once, with its cells.
fn distinct_reasons(run: &RunRecord) -> Vec<(&Verdict, Vec<&CellRecord>)> {
    let mut distinct: Vec<(&Verdict, Vec<&CellRecord>)> = Vec::new();
    // An interrupted cell has no fault of its own to tell.
    for cell in run.cells.iter().filter(|c| c.verdict != Verdict::Valid && !c.interrupted) {
        match distinct.iter_mut().find(|(verdict, _)| **verdict == cell.verdict) {
            Some((_, cells)) => cells.push(cell),
            None => distinct.push((&cell.verdict, vec![cell])),
        }
    }
    distinct
}

fn headline(run: &RunRecord) -> String {
    let count = |word: &str| run.cells.iter().filter(|c| c.verdict_words() == word).count();
    let valid = run.cells.iter().filter(|c| c.verdict == Verdict::Valid).count();
    let mut text = format!("{valid} of {} valid", run.cells.len());
    let disturbed = run.cells.iter().filter(|c| c.verdict == Verdict::Valid && !c.disturbed.is_empty());
    let by: BTreeSet<Disturbance> = disturbed.clone().flat_map(|c| c.disturbed.iter().copied()).collect();
    if !by.is_empty() {
        let by: Vec<&str> = by.into_iter().map(Disturbance::words).collect();
        text.push_str(&format!(", {} disturbed by {}", disturbed.count(), by.join(", ")));
    }
    for word in ["invalid", "failed", INTERRUPTED] {
        let number = count(word);
        if number > 0 {
            text.push_str(&format!(", {number} {word}"));
        }
    }
    let parentheses = |word: &str| run.cells.iter().any(|c| c.verdict_words() == word && c.summary.is_some());
    if parentheses("invalid") {
        text.push_str("; figures in parentheses must not be quoted");
    } else if parentheses(INTERRUPTED) {
        text.push_str("; figures in parentheses are of the finished videos only");
    }
    if let Some(why) = run.stopped.as_deref().filter(|why| *why != INTERRUPTED) {
        text.push_str(&format!("; the run stopped early: {}", clean(why)));
    }
    text
}

/// What answers the run's question: which model is better, which objects found no track of it, and how they were named.
fn answered(run: &RunRecord) -> Option<String> {
    let named = run.cells.iter().filter_map(|cell| {
        let pack = &cell.labels.as_ref()?.pack;
        let words = label_words(&LabelSummary::of(&cell.sequences)?);
        Some(format!("Labels of {} by {pack}: {words}.", cell_name(run, cell)))
    });
    let taken = run.cells.iter().filter_map(|cell| {
        let taken = cell.summary.as_ref()?.taken.filter(|taken| taken.without + taken.ended > 0)?;
        Some(format!("{}: {}.", cell_name(run, cell), taken_words(&taken)))
    });
    let told: Vec<String> = answer::of_run(run).into_iter().chain(taken).chain(named).collect();
    (!told.is_empty()).then(|| told.join(" "))
}

/// What became of prompted objects whose model finds its tracks itself, in words.
pub(super) fn taken_words(of: &TakenSummary) -> String {
    let ended = if of.ended == 1 { "the track of 1".to_string() } else { format!("the tracks of {}", of.ended) };
    let parts = [
        (of.without > 0).then(|| format!("{} took none of the tracks that the model found", of.without)),
        (of.ended > 0).then(|| format!("{ended} ended before the video")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let what =
        if parts.is_empty() { "every one took a track that lived to the end".to_string() } else { parts.join("; ") };
    format!("of {}, {what}", plural(of.objects, "prompted object", "prompted objects"))
}

/// How objects were named, in words.
pub(super) fn label_words(of: &LabelSummary) -> String {
    let cut = of.frame_ms.map_or_else(String::new, |ms| format!("; crops took {ms:.2} ms per frame"));
    let left_out = match of.left_out {
        0 => String::new(),
        n => format!("; {n} more objects were not labelled (at most 256 per video)"),
    };
    format!(
        "named {} of {} (probability from 0.5 on){cut}, the image tower {:.0} ms for {} after the last frames{left_out}",
        of.named,
        plural(of.objects, "object", "objects"),
        of.time_ms,
        plural(of.crops as usize, "crop", "crops")
    )
}

fn reasons(run: &RunRecord) -> Vec<String> {
    let line = |(i, (verdict, cells)): (usize, (&Verdict, Vec<&CellRecord>))| {
        let who = who(run, &cells);
        clean(&format!("[{}] {who} {}: {}", i + 1, verdict.as_str(), verdict.reasons()))
    };
    distinct_reasons(run).into_iter().enumerate().map(line).collect()
}

/// Cells by name, or their number where there are many.
fn who(run: &RunRecord, cells: &[&CellRecord]) -> String {
    match cells.len() {
        n if n > 3 && n == run.cells.len() => "all cells".to_string(),
        n if n > 3 => format!("{n} cells"),
        _ => cells.iter().map(|c| cell_name(run, c)).collect::<Vec<_>>().join(", "),
    }
}

fn warnings(run: &RunRecord) -> Vec<Warning> {
    use NoteKind::*;
    let weightiest_first = [
        Stopped,
        Worker,
        Output,
        Scores,
        Agreement,
        Budget,
        Swap,
        Stalled,
        Rivals,
        Shifted,
        Drift,
        Scattered,
        Outliers,
        SlowStart,
        ObjectChange,
        LateFrames,
        MemoryUnknown,
    ];
    let kinds: BTreeSet<NoteKind> =
        run.cells.iter().flat_map(|c| &c.notes).filter(|n| n.severity == Severity::Warning).map(|n| n.kind).collect();
    let place = |kind: &NoteKind| weightiest_first.iter().position(|k| k == kind);
    let mut kinds: Vec<NoteKind> = kinds.into_iter().collect();
    kinds.sort_by_key(|kind| place(kind).unwrap_or(weightiest_first.len()));
    let of_kind = |kind: NoteKind| Warning {
        line: line(run, kind),
        seen: seen(run, &|note| note.severity == Severity::Warning && note.kind == kind),
    };
    kinds.into_iter().map(of_kind).collect()
}

/// One kind of warning in one line: what, how much where the notes know, and in how many cells.
fn line(run: &RunRecord, kind: NoteKind) -> String {
    let notes = |cell: &CellRecord| cell.notes.iter().filter(|n| n.kind == kind).cloned().collect::<Vec<_>>();
    let all: Vec<Note> = run.cells.iter().flat_map(notes).collect();
    let cells = run.cells.iter().filter(|c| !notes(c).is_empty()).count();
    let place = match run.cells.len() {
        1 => String::new(),
        all => format!(" in {cells} of {all} cells"),
    };
    // A range over some of the notes would be no range.
    let amounts: Option<Vec<f64>> = all.iter().map(|n| n.amount).collect();
    let range = |digits: usize, unit: &str| {
        let values = amounts.as_deref().unwrap_or_default();
        let low = values.iter().copied().min_by(f64::total_cmp)?;
        let high = values.iter().copied().max_by(f64::total_cmp)?;
        let [low, high] = [low, high].map(|v| format!("{v:.digits$}"));
        Some(if low == high { format!("{low} {unit}") } else { format!("{low} to {high} {unit}") })
    };
    let or = |range: Option<String>, with: fn(String) -> String, without: &str| {
        range.map_or_else(|| without.to_string(), with)
    };
    let what = match kind {
        NoteKind::Rivals => {
            or(range(1, "cores"), |r| format!("other programs used {r}"), "other programs used the processor")
        }
        NoteKind::Drift => or(range(0, "%"), |r| format!("latency drifted by {r}"), "latency drifted"),
        NoteKind::Stalled => "a worker that stood still".into(),
        NoteKind::Shifted => "latency changed its level".into(),
        NoteKind::Scattered => "scattered latency".into(),
        NoteKind::Outliers => or(range(0, "% of the frames"), |r| format!("outliers ({r})"), "outliers"),
        NoteKind::SlowStart => or(range(0, "frames"), |r| format!("a slow start ({r})"), "a slow start"),
        NoteKind::ObjectChange => "slow frames where the number of objects changes".into(),
        NoteKind::LateFrames => "frames decoded late".into(),
        NoteKind::MemoryUnknown => "system memory that could not be told".into(),
        NoteKind::Swap => "memory of this machine swapped out".into(),
        NoteKind::Budget => "more memory than --memory-budget".into(),
        NoteKind::Scores => "J&F that differs between repeats".into(),
        NoteKind::Agreement => "masks that could not be compared for agreement".into(),
        // Which one is missing cannot wait for -v.
        NoteKind::Output => match all.as_slice() {
            [] => "a file that could not be written".into(),
            [one] => clean(&one.text),
            [first, others @ ..] => format!("{}, and {} more", clean(&first.text), others.len()),
        },
        NoteKind::Worker => "a worker that did not end as it should".into(),
        NoteKind::Stopped => "stopped after the warm-up".into(),
        _ => "another warning".into(),
    };
    format!("{what}{place}")
}

/// The notes that `wanted` picks, each sentence once with the cells that it is about.
fn seen(run: &RunRecord, wanted: &dyn Fn(&Note) -> bool) -> Vec<String> {
    let notes =
        |cell: &CellRecord| cell.notes.iter().filter(|n| wanted(n)).map(ToString::to_string).collect::<Vec<_>>();
    let said = run.cells.iter().flat_map(|c| notes(c).into_iter().map(|note| (note, cell_name(run, c))));
    let by_cells = grouped(said).into_iter().map(|(remark, cells)| {
        (if cells.len() == run.cells.len() { "all cells".to_string() } else { cells.join(", ") }, remark)
    });
    grouped(by_cells).into_iter().map(|(who, said)| clean(&format!("{who}: {}", said.join("; ")))).collect()
}

/// Values by key, keys in the order in which they first come.
fn grouped(pairs: impl Iterator<Item = (String, String)>) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for (key, value) in pairs {
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value),
            None => groups.push((key, vec![value])),
        }
    }
    groups
}

/// How the columns and words of the table are to be read.
fn legend(run: &RunRecord) -> Vec<String> {
    let mut lines = Vec::new();
    let meanings = run.cells.iter().filter_map(|c| {
        let short = dtype_short(c);
        let long = c.effective_dtype.as_deref().filter(|_| short != c.dtype.as_str())?;
        Some(format!("{short} means: {long}"))
    });
    let meanings: BTreeSet<String> = meanings.collect();
    if !meanings.is_empty() {
        lines.push(clean(&(meanings.into_iter().collect::<Vec<_>>().join("; ") + ".")));
    }
    let packs: BTreeSet<String> = run
        .cells
        .iter()
        .filter(|c| !c.pack.is_empty() && tag_name(&c.model, c.prompt) != c.pack)
        .map(|c| format!("{} stands for pack {}", tag_name(&c.model, c.prompt), c.pack))
        .collect();
    if !packs.is_empty() {
        lines.push(clean(&(packs.into_iter().collect::<Vec<_>>().join("; ") + ".")));
    }
    if run.cells.iter().any(|c| c.summary.is_some()) {
        lines.push(
            "FPS wall includes decoding; FPS model and the percentiles are per frame, all objects, without it.".into(),
        );
    }
    if run.cells.iter().any(|c| c.summary.is_some()) && !tells(run, LatencyRecord::p99) {
        lines.push(
            "A percentile is shown from as many frames on as tell it: p90 from 100, p95 from 200, p99 from 1,000."
                .into(),
        );
    }
    for (scenario, meaning) in [
        (
            Scenario::Offline,
            "Offline: frames are decoded far ahead and masks written beside; throughput counts, not latency.",
        ),
        (
            Scenario::Realtime,
            "Real time: frames come on the clock; one that comes while another is worked on is dropped and keeps the masks \
             before it, and J&F is scored with them. Frames with a prompt are never dropped.",
        ),
    ] {
        if run.cells.iter().any(|c| c.scenario == scenario) {
            lines.push(meaning.to_string());
        }
    }
    if let Some(live) = run.cells.iter().flat_map(|c| &c.sequences).find_map(|s| s.live.as_ref()) {
        lines.push(format!(
            "Live source: response is the age of a frame when its masks are there, counted from {}.",
            live.clock.words()
        ));
    }
    if let Some(n) = run.cells.iter().filter_map(|c| Some(c.summary.as_ref()?.repeats?.count)).max() {
        lines.push(format!(
            "Speed figures are medians over {n} repeats in fresh processes, maxima and peak memory the largest of all; \
             repeats.csv has each."
        ));
    }
    if let Some(null) = &run.null_run {
        lines.push(format!(
            "The harness itself cost {:.0} µs per frame in this run (median of {} frames without a model, {}x{}, {}).",
            null.median_us,
            null.frames,
            null.width,
            null.height,
            plural(null.objects, "object", "objects")
        ));
    }
    lines
}

/// What stands before the prompt in a model tag.
fn tag_name(model: &str, prompt: PromptKind) -> &str {
    model.strip_suffix(&format!("_{prompt}")).unwrap_or(model)
}
