//! The page of `compare`: what got better or worse between runs, what is noise, and what cannot be told; or how the models of one
//! run compare. The same figures as on the screen.

use maud::{Markup, PreEscaped, html};

use super::shell::{breakable, folded, page, pairs};
use crate::judge::change::{CellChange, Change, ChangeWord, Comparison};
use crate::judge::contest::Contest;
use crate::judge::paired::ALPHA;
use crate::report::answer;
use crate::report::closing::{banner, list};
use crate::report::plot::{self, paper};
use crate::report::table::{cell_name, heading};
use crate::results::record::{CellRecord, RunRecord};
use crate::text::{clean, figure, plural};

/// Base against one run or several; `banner`: what is to be said of test models among them.
pub fn comparisons(all: &[Comparison], banner: Option<&str>, version: &str) -> String {
    let base = all.first().map_or("", |c| c.base.as_str());
    let body = html! {
        p.under { "base: " (clean(base)) }
        @if let Some(banner) = banner { p.verdict.invalid { strong { (banner) "." } } }
        @for comparison in all { (section(comparison)) }
        (words())
    };
    page("jetbench: runs compared", version, &body)
}

fn section(comparison: &Comparison) -> Markup {
    let count = |word: ChangeWord| {
        let both = |c: &&CellChange| [&c.jf, &c.latency].into_iter().filter(|change| change.word == word).count();
        comparison.cells.iter().map(|c| both(&c)).sum::<usize>()
    };
    let worse = comparison.cells.iter().filter(|c| c.regressed()).count();
    let of = plural(comparison.cells.len(), "cell", "cells");
    let rest = [
        ChangeWord::Improved,
        ChangeWord::WithinNoise,
        ChangeWord::Inconclusive,
        ChangeWord::NotComparable,
        ChangeWord::NotScored,
    ];
    let rest: Vec<String> = rest
        .into_iter()
        .filter(|word| count(*word) > 0)
        .map(|word| format!("{} {}", plural(count(word), "figure", "figures"), word.as_str()))
        .collect();
    let unsure = count(ChangeWord::Inconclusive) + count(ChangeWord::NotComparable);
    let class = match (worse > 0 || comparison.cells.is_empty(), unsure > 0) {
        (true, _) => "failed",
        (false, true) => "invalid",
        (false, false) => "valid",
    };
    html! {
        h2 { "Run: " (clean(&comparison.other)) }
        p.verdict.(class) {
            strong { (worse) " of " (of) " regressed." }
            @if !rest.is_empty() { " " (list(&rest, "and")) "." }
        }
        @if !comparison.cells.is_empty() {
            .wide {
                table {
                    caption { "One row per cell and figure, base → run" }
                    thead {
                        tr {
                            th scope="col" { "cell" }
                            th scope="col" { "figure" }
                            th scope="col" { "what became of it" }
                            th scope="col" class="number" { "base → run" }
                            th scope="col" class="number" { "change" }
                        }
                    }
                    tbody {
                        @for cell in &comparison.cells {
                            (row(cell, "J&F", &cell.jf))
                            (row(cell, "latency", &cell.latency))
                        }
                    }
                }
            }
        }
        @if let Some(drawn) = plot::changes::figure(comparison) { figure { (PreEscaped(paper::themed(drawn.svg()))) } }
        @for cell in &comparison.cells { (folded(&format!("{}: what supports it", name(cell)), &behind(cell))) }
        @for unmatched in &comparison.unmatched { p { (clean(unmatched)) "." } }
    }
}

fn name(cell: &CellChange) -> String {
    clean(&format!("{} {} {}", cell.model, cell.dtype, cell.device))
}

/// A value of a figure with its unit, and a change of it.
type Shown = (fn(f64) -> String, fn(f64) -> String);

fn shown(figure_name: &str) -> Shown {
    match figure_name {
        "J&F" => (|v| format!("{v:.2}"), |v| format!("{v:+.2}")),
        _ => (|v| format!("{} ms", figure(v)), |v| format!("{:+.1} %", v * 100.0)),
    }
}

fn row(cell: &CellChange, what: &str, change: &Change) -> Markup {
    let (value, step) = shown(what);
    let values = change.base.zip(change.other);
    let class = match change.word {
        ChangeWord::Improved => "valid",
        ChangeWord::Regressed => "failed",
        ChangeWord::WithinNoise | ChangeWord::NotScored => "same",
        ChangeWord::Inconclusive | ChangeWord::NotComparable => "invalid",
    };
    html! {
        tr {
            th scope="row" { (breakable(&name(cell))) }
            td { (what) }
            td { span.word.(class) { (change.word.as_str()) } }
            td.number { (values.map_or_else(|| "–".to_string(), |(a, b)| format!("{} → {}", value(a), value(b)))) }
            td.number { (change.change.map_or_else(|| "–".to_string(), step)) }
        }
    }
}

fn behind(cell: &CellChange) -> Markup {
    let mut facts = vec![("videos in both", cell.videos.to_string())];
    facts.extend(cell.verdict.iter().map(|v| ("verdict", v.clone())));
    for (what, change) in [("J&F", &cell.jf), ("latency", &cell.latency)] {
        let step = shown(what).1;
        let mut said = Vec::new();
        if let Some(i) = change.interval {
            let floor = step(change.floor);
            let (low, high) = (step(i.low), step(i.high));
            let floor = floor.trim_start_matches('+');
            said.push(format!("95 % interval {low} to {high}; noise up to {floor}, {}", change.floor_from));
        }
        said.extend((!change.remark.is_empty()).then(|| change.remark.clone()));
        facts.extend((!said.is_empty()).then(|| (what, said.join("; "))));
    }
    if let Some(found) = &cell.returned {
        facts.push(("J&Ḟ after return, not judged", answer::returned(found)));
    }
    if !cell.found.is_empty() {
        let each = cell.found.iter().map(|(name, a, b)| format!("{name} {a:.2} → {b:.2} ({:+.2})", b - a));
        facts.push(("whole dataset, not judged", each.collect::<Vec<_>>().join("; ")));
    }
    if let Some((base, other)) = cell.p99_ms {
        facts.push(("p99, not judged", format!("{} ms → {} ms", figure(base), figure(other))));
    }
    facts.extend((!cell.disturbed.is_empty()).then(|| ("disturbed", cell.disturbed.join("; "))));
    facts.extend((!cell.changed.is_empty()).then(|| ("changed", cell.changed.join(", "))));
    let moved: Vec<String> = cell.moved.iter().map(|(video, points)| format!("{video} {points:+.2}")).collect();
    facts.extend((!moved.is_empty()).then(|| ("videos whose J&F moved most", moved.join(", "))));
    let digests = cell.digests.iter().map(|(name, a, b)| (format!("digest of {name}"), format!("{a} → {b}")));
    html! { (pairs(facts)) (pairs(digests)) }
}

/// What the words of a change mean.
fn words() -> Markup {
    html! {
        h2 { "Understanding this comparison" }
        dl {
            dt { "improved, regressed" }
            dd { "The 95 % interval of the change leaves out zero, and the change is larger than the noise." }
            dt { "within noise" }
            dd { "No such change, and none could have hidden: half the interval is no wider than the noise." }
            dt { "inconclusive" }
            dd { "The interval is wider than the noise, or a disturbance may explain or hide the change: neither a change nor its absence is shown." }
            dt { "not comparable" }
            dd { "Something differs that must not (videos, board, settings), or a side is not valid." }
            dt { "after return" }
            dd { "Over the frames after an object (re)appears, which J&F averages away; MOSEv2's J&Ḟ. Too few objects for a verdict." }
            dt { "latency" }
            dd { "Mean over videos of each video's median, over all repeats; both values, the change and its interval are of this one statistic." }
            dt { "noise" }
            dd { "What the same thing differs by from run to run on this machine, learnt from its past runs; 2 % until there are five." }
        }
        p.under { "More, in the documents of jetbench: " code { "docs/usage.md" } " (Comparing runs)." }
    }
}

/// Cells of one run against each other; `unfit`: how many of them are not valid and left out.
pub fn contests(run: &RunRecord, contests: &[Contest], unfit: usize) -> String {
    let corrected = if contests.len() > 1 { ", p-values corrected by Holm's method" } else { "" };
    let body = html! {
        p.under { (heading(run)) }
        @if let Some(banner) = banner(run) { p.verdict.invalid { strong { (banner) "." } } }
        @if let [one] = contests { p { strong { (answer::sentence(run, one, 1)) } } }
        .wide {
            table {
                caption { "One row per pair, first → second" }
                thead {
                    tr {
                        th scope="col" { "pair" }
                        th scope="col" class="number from-620" { "J&F" }
                        th scope="col" class="number" { "J&F, difference" }
                        th scope="col" class="number from-620" { "FPS wall" }
                        th scope="col" class="number" { "FPS, ratio" }
                        th scope="col" { "evidence" }
                    }
                }
                tbody { @for contest in contests { (pair(run, contest, contests.len())) } }
            }
        }
        @if unfit > 0 { p { (plural(unfit, "cell is", "cells are")) " not valid and left out." } }
        p.under {
            "J&F: paired by video, Student's t" (corrected) "; a difference is clear when p is below " (ALPHA) ". A pair without "
            "a clear difference is in grey."
        }
    };
    page("jetbench: models compared", &run.version, &body)
}

fn pair(run: &RunRecord, contest: &Contest, family: usize) -> Markup {
    let [a, b] = [contest.first, contest.second].map(|i| &run.cells[i]);
    let fps = |c: &CellRecord| c.summary.as_ref().and_then(|s| s.fps_wall);
    let jf = contest.jf.as_ref();
    let (scores, points) = jf.map_or(("–".into(), "–".into()), |jf| {
        (format!("{:.1} → {:.1}", jf.first, jf.second), format!("{:+.1}", jf.points))
    });
    let speeds = fps(a).zip(fps(b)).zip(contest.speed);
    let (speeds, ratio) = speeds.map_or(("–".into(), "–".into()), |((a, b), ratio)| {
        (format!("{} → {}", figure(a), figure(b)), format!("{ratio:.2} x"))
    });
    let doubt = answer::doubt(contest).filter(|_| contest.speed.is_some()).map(|why| format!("speed: {why}"));
    let evidence: Vec<String> = jf.map(|jf| answer::evidence(jf, family, false)).into_iter().chain(doubt).collect();
    let grey = |clear: bool| if clear { "number" } else { "number unclear" };
    html! {
        tr {
            th scope="row" { (breakable(&cell_name(run, a))) " → " (breakable(&cell_name(run, b))) }
            td.number.from-620 { (scores) }
            td class=(grey(jf.is_some_and(|jf| jf.clear()))) { (points) }
            td.number.from-620 { (speeds) }
            td class=(grey(contest.speed_clear)) { (ratio) }
            td { (evidence.join("; ")) }
        }
    }
}
