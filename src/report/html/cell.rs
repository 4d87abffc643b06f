//! What lies behind a cell's figures? Intervals, stages, repeats, memory, sensors, options: all that the headline table
//! has no room for. A failed cell shows its reason, never a figure.

use jetbench_runners::types::StagePrecision;
use maud::{Markup, html};

use super::shell::{folded, grid, notes, pairs};
use super::{found, labels, objects};
use crate::report::closing::taken_words;
use crate::report::csv::engine_build_ms;
use crate::report::plot::stages;
use crate::report::table::{cell_name, dtype_short};
use crate::results::note::Severity;
use crate::results::record::{CellRecord, Interval, RunRecord, SummaryRecord, Verdict, WarmupRecord};
use crate::telemetry::key::MemoryPhase;
use crate::text::{clean, figure, show};

/// Names and values, in the order in which they are shown.
type Facts = Vec<(&'static str, String)>;

pub(super) fn behind(cell: &CellRecord) -> Markup {
    let quotable = !matches!(cell.verdict, Verdict::Failed { .. });
    let summary = cell.summary.as_ref().filter(|_| quotable);
    let mut facts = origin(cell);
    if let Some(s) = summary {
        facts.extend(s.found.iter().flat_map(found::facts));
        facts.extend(s.taken.iter().map(|taken| ("tracks", taken_words(taken))));
        facts.extend(labels::fact(cell));
        facts.extend(accuracy_and_speed(s));
    }
    for (rail, joules) in &cell.energy_j {
        let above = cell.energy_above_idle_j.get(rail).zip(cell.idle_power_w.get(rail));
        let above = above
            .map_or_else(String::new, |(j, w)| format!("; {} J above an idle power of {} W", figure(*j), figure(*w)));
        let what = format!("{} J on rail {rail}, over the tracked videos{above}", figure(*joules));
        facts.push(("energy", format!("{}{what}", of_the_first(cell))));
    }
    facts.push(("scenario", cell.scenario.to_string()));
    if let Some(ms) = cell.warmup.as_ref().and_then(|w| w.first_mask_ms) {
        let of = of_the_first(cell);
        facts.push(("time to first mask", format!("{of}{} ms from the start of loading", figure(ms))));
    }
    if let Some(ms) = engine_build_ms(cell) {
        facts.push(("engine build", format!("{}{} ms", of_the_first(cell), figure(ms))));
    }
    if let Some(s) = summary {
        facts.extend(timing(cell, s));
    }
    if !cell.sensors.unjudged.is_empty() {
        facts.push(("could not be judged here", cell.sensors.unjudged.join("; ")));
    }
    html! {
        (pairs(facts))
        @if quotable {
            (stage_times(cell))
            @if !cell.repeats.is_empty() { (repeats(cell)) }
            (objects::tables(cell))
            (found::tracks(cell))
            (labels::objects(cell))
        }
        @if !cell.memory.is_empty() { (memory(cell)) }
        @if !cell.sensors.missing.is_empty() {
            h3 { "Sensors not read" }
            p { (cell.sensors.read.len()) " quantities were read. These were not:" }
            (pairs(cell.sensors.missing.iter().map(|m| (m.sensor.as_str(), m.reason.clone()))))
        }
    }
}

/// Before a figure of the first repeat only, where there were several.
fn of_the_first(cell: &CellRecord) -> &'static str {
    if cell.repeats.is_empty() { "" } else { "repeat 1: " }
}

/// What ran, and how it started.
fn origin(cell: &CellRecord) -> Facts {
    let effective = cell.effective_dtype.as_deref().unwrap_or("unknown");
    let mut facts = vec![
        ("verdict", format!("{} {}", cell.verdict_words(), cell.verdict.reasons())),
        ("pack", format!("{}, manifest digest {}", cell.pack, cell.pack_digest)),
        ("precision", format!("requested {}, actual {effective}", cell.dtype)),
    ];
    if let Some(detector) = &cell.detector {
        facts.push(("detector", format!("{}, of classes: {}", detector.pack, detector.classes.join(", "))));
    }
    if let Some(runtime) = &cell.runtime {
        facts.push(("ONNX Runtime", format!("{} ({})", runtime.version, runtime.path)));
        facts.extend(runtime.plugin.as_ref().map(|plugin| {
            let version = plugin.version.as_deref().unwrap_or("of no stated version");
            let (path, sha256, hardware) = (plugin.path.display(), &plugin.sha256, &plugin.hardware);
            let words = format!("{} {version}, {path}, SHA-256 {sha256}; offered to it: {hardware}", plugin.provider);
            ("plugin library", words)
        }));
    }
    if let Some(ms) = cell.load_ms {
        facts.push(("load", format!("{}{} ms", of_the_first(cell), figure(ms))));
    }
    if let Some(warmup) = &cell.warmup {
        facts.push(("warm-up frame", format!("{}{}", of_the_first(cell), warm_up(warmup))));
        if let Some(ok) = warmup.load_only_ok {
            let error = warmup.load_only_error.as_deref().map_or_else(String::new, |e| format!(": {e}"));
            facts.push(("load alone", format!("{}{error}", if ok { "worked" } else { "failed" })));
        }
    }
    facts
}

fn warm_up(warmup: &WarmupRecord) -> String {
    let time = warmup.warmup_ms.map_or_else(String::new, |ms| format!(", {} ms", figure(ms)));
    let frame = match (&warmup.frame_error, warmup.frame_ok) {
        (Some(error), _) => format!("failed: {error}"),
        (None, true) => "passed".to_string(),
        (None, false) => "failed".to_string(),
    };
    let faults = if warmup.faults.is_empty() { String::new() } else { format!("; {}", warmup.faults.join(", ")) };
    format!("{frame}{time}{faults}")
}

fn accuracy_and_speed(s: &SummaryRecord) -> Facts {
    let mut facts = Facts::new();
    if let (Some(jf), Some(i)) = (s.jf, s.jf_interval) {
        facts.push(("J&F", format!("{jf:.2}, 95 % interval {:.2} to {:.2} over videos", i.low, i.high)));
    }
    if let (Some(fps), Some(i)) = (s.fps_wall, s.fps_wall_interval) {
        let [fps, low, high] = [fps, i.low, i.high].map(figure);
        facts.push(("frames per second", format!("{fps}, 95 % interval {low} to {high} over videos")));
    }
    if let Some(share) = s.overhead_share {
        facts.push(("outside the sessions", format!("{:.1} % of the latency", share * 100.0)));
    }
    facts
}

fn timing(cell: &CellRecord, s: &SummaryRecord) -> Facts {
    let mut facts = Facts::new();
    if let Some(ms) = s.jitter_ms {
        facts.push(("jitter", format!("{} ms between neighbouring frames, on average", figure(ms))));
    }
    if let Some(missed) = s.deadline_misses {
        let of = s.frames;
        facts.push((
            "deadlines missed",
            format!("{missed} of {of} frames took longer than the time to the clip's next"),
        ));
    }
    if let Some(dropped) = s.dropped {
        let response = s.response.map_or_else(String::new, |r| {
            let from = if cell.sequences.iter().any(|s| s.live.is_some()) { "capture" } else { "arrival" };
            format!("; from {from} to masks p50 {} ms, p95 {} ms", figure(r.p50_ms), show(r.p95()))
        });
        facts.push(("real time", format!("{dropped} frames dropped, {} worked on{response}", s.frames)));
    }
    // Of the frames among which it was looked for: those of the first repeat.
    let all = cell.repeats.first().map_or(s.latency, |r| r.summary.as_ref()?.latency);
    let steady = match &s.steady {
        Some(steady) => format!(
            "{}begins after {} frames; p50 {} ms and p95 {} ms in it, {} ms and {} ms over all",
            of_the_first(cell),
            steady.begins_after,
            figure(steady.latency.p50_ms),
            show(steady.latency.p95()),
            show(all.map(|l| l.p50_ms)),
            show(all.and_then(|l| l.p95()))
        ),
        None => "not found: too few frames to tell, too restless, or it never came (then the verdict says so)".into(),
    };
    facts.push(("steady state", steady));
    if let (Some(jf), Some(i)) = (s.jf, s.jf_objects_interval) {
        facts.push(("J&F over objects", format!("{jf:.2}, 95 % interval {:.2} to {:.2}", i.low, i.high)));
    }
    facts
}

/// What a cell computed in and how its runner was set up: a line, and what supports it.
pub(super) fn precision(run: &RunRecord, cell: &CellRecord) -> Markup {
    let graphs = alike(cell);
    let rows = graphs.iter().map(|(graphs, p)| {
        vec![graphs.join(", ").replace('_', " "), p.requested.to_string(), p.effective.clone(), p.evidence.join("; ")]
    });
    let mut options: Vec<(String, String)> =
        cell.options.passed.iter().map(|(name, value)| (format!("option {name}"), value.to_string())).collect();
    for dropped in &cell.options.dropped {
        options.push((
            format!("option {}", dropped.name),
            format!("{}: not passed on, {}", dropped.value, dropped.reason),
        ));
    }
    let remarks = cell.notes.iter().filter(|n| n.severity == Severity::Info);
    let remarks: Vec<String> = remarks.map(|n| clean(&n.to_string())).collect();
    let actual = match cell.precision.is_empty() {
        true => "never loaded".to_string(),
        false => dtype_short(cell),
    };
    let line = format!("{}: requested {}, actual {actual}", cell_name(run, cell), cell.dtype);
    folded(
        &line,
        &html! {
            @if !graphs.is_empty() { (grid("", &["graphs", "requested", "actual", "evidence"], 4, rows)) }
            @if !options.is_empty() { (pairs(options)) }
            @if !remarks.is_empty() { (notes(&remarks)) }
        },
    )
}

/// Graphs of a cell by what is known of their precision.
fn alike(cell: &CellRecord) -> Vec<(Vec<&str>, &StagePrecision)> {
    let mut rows: Vec<(Vec<&str>, &StagePrecision)> = Vec::new();
    for p in &cell.precision {
        let known = (p.requested, &p.effective, p.kind, &p.evidence);
        match rows.iter_mut().find(|(_, o)| (o.requested, &o.effective, o.kind, &o.evidence) == known) {
            Some((graphs, _)) => graphs.push(&p.graph),
            None => rows.push((vec![&p.graph], p)),
        }
    }
    rows
}

/// Mean time per stage.
fn stage_times(cell: &CellRecord) -> Markup {
    let Some(means) = stages::means(cell) else { return Markup::default() };
    let total: f64 = means.iter().map(|m| m.1).sum();
    let row = |(name, ms): &(String, f64)| vec![name.clone(), figure(*ms), format!("{:.1} %", ms / total * 100.0)];
    let rows = means.iter().map(row).chain([vec!["whole frame".to_string(), figure(total), "100 %".to_string()]]);
    html! { h3 { "Time per frame, by stage" } (grid("", &["stage", "mean, ms", "share"], 1, rows)) }
}

/// Every repeat, and the intervals over them.
fn repeats(cell: &CellRecord) -> Markup {
    let range = |i: Option<Interval>| {
        i.map_or_else(|| "too few repeats".to_string(), |i| format!("{} to {} ms", figure(i.low), figure(i.high)))
    };
    let titles = ["repeat", "verdict", "FPS wall", "p50, ms", "p95, ms", "max, ms", "load, ms"];
    let rows = cell.repeats.iter().map(|r| {
        let latency = r.summary.as_ref().and_then(|s| s.latency);
        let verdict = format!("{} {}", r.verdict.as_str(), r.verdict.reasons());
        let fps = r.summary.as_ref().and_then(|s| s.fps_wall);
        let (p50, p95, max) = (latency.map(|l| l.p50_ms), latency.and_then(|l| l.p95()), latency.map(|l| l.max_ms));
        [r.repeat.to_string(), verdict].into_iter().chain([fps, p50, p95, max, r.load_ms].map(show)).collect()
    });
    html! {
        h3 { "Repeats in fresh processes" }
        (grid("", &titles, 2, rows))
        @if let Some(spread) = cell.summary.as_ref().and_then(|s| s.repeats?.latency_p50_ms) {
            p {
                "Median latency: " (figure(spread.median)) " ms; 95 % interval of that median " (range(spread.interval))
                "; one more run is expected within " (range(spread.next_run)) "."
            }
        }
    }
}

/// Memory by phase; sources stand beside each other and are never added.
fn memory(cell: &CellRecord) -> Markup {
    let phases = MemoryPhase::IN_LIFE_ORDER.iter().filter_map(|phase| Some((phase, cell.memory.get(phase)?)));
    let titles = ["phase", "system, fall of MemAvailable", "Pss of the worker", "resident set", "of it in huge pages"];
    let mib = |value: Option<f64>| value.map_or_else(|| "–".to_string(), |v| format!("{v:.1}"));
    let rows = phases.map(|(phase, m)| {
        let figures = [m.system_mib, m.pss_mib, m.rss_mib, m.huge_mib].map(mib);
        [phase.as_str().to_string()].into_iter().chain(figures).collect()
    });
    html! {
        h3 { "Memory, MiB" }
        @if !cell.repeats.is_empty() { p { "Peak: the largest of all repeats. Other phases: repeat 1." } }
        (grid("", &titles, 1, rows))
    }
}
