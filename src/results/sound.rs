//! Does a record agree with itself? Figures outside of what they can be, and summaries that are not those of their own sequences,
//! come from a damaged file or a foreign hand; nothing is quoted from such a record.

mod found;

use crate::results::record::{CellRecord, LatencyRecord, RunRecord, SequenceRecord, SummaryRecord, TakenSummary};

/// More frames per second than any tracker gives.
const MOST_FPS: f64 = 1e6;
/// More milliseconds than any span of a run (a month).
const MOST_MS: f64 = 2.7e9;
/// Means may be added up in another order.
const ROUNDING: f64 = 1e-6;

/// What is wrong with a record, by field; `None`: nothing that can be seen in it alone.
pub fn fault(record: &RunRecord) -> Option<String> {
    if let Some(shard) = record.origin.shard.filter(|s| s.index == 0 || s.index > s.count) {
        return Some(format!("origin.shard is {shard}, no part of a whole"));
    }
    // Frames of parts that ran on several devices are left out of the joined record.
    let joined = !record.origin.parts.is_empty();
    record.cells.iter().enumerate().find_map(|(i, cell)| Some(format!("cells[{i}]: {}", of_cell(cell, joined)?)))
}

fn of_cell(cell: &CellRecord, joined: bool) -> Option<String> {
    let sequences = cell.sequences.iter().chain(cell.repeats.iter().flat_map(|r| &r.sequences));
    if let Some(fault) = sequences
        .into_iter()
        .find_map(|s| of_sequence(s).or_else(|| found::of_sequence(s).map(|fault| of_video(s, &fault))))
    {
        return Some(fault);
    }
    let runs = || std::iter::once(&cell.sequences).chain(cell.repeats.iter().map(|r| &r.sequences));
    if let Some(fault) = runs().find_map(|sequences| found::of_kind(cell, sequences)) {
        return Some(fault);
    }
    let summaries = cell.summary.iter().chain(cell.repeats.iter().filter_map(|r| r.summary.as_ref()));
    if let Some(fault) = summaries.into_iter().find_map(of_summary) {
        return Some(fault);
    }
    cell.summary.as_ref().and_then(|summary| against_sequences(summary, cell, joined))
}

fn of_sequence(sequence: &SequenceRecord) -> Option<String> {
    let scores = sequence.objects.iter().find_map(|o| {
        let frames = o.per_frame.iter().find_map(|f| score("j", Some(f.j)).or_else(|| score("f", Some(f.f))));
        frames.or_else(|| score("j", o.j)).or_else(|| score("f", o.f)).or_else(|| score("jf", o.jf))
    });
    let times =
        || sequence.frames.iter().find_map(|f| time("latency_ms", f.latency_ms).or(time("decode_ms", f.decode_ms)));
    let fault = scores.or_else(times).or_else(|| time("wall_ms", sequence.wall_ms))?;
    Some(of_video(sequence, &fault))
}

fn of_video(sequence: &SequenceRecord, fault: &str) -> String {
    format!("video {:?}: {fault}", sequence.video)
}

fn of_summary(summary: &SummaryRecord) -> Option<String> {
    let rate = |name: &str, fps: Option<f64>| {
        let fps = fps.filter(|fps| !(*fps > 0.0 && *fps <= MOST_FPS))?;
        Some(format!("{name} is {fps}, which is no number of frames per second"))
    };
    let fault = score("j", summary.j)
        .or_else(|| score("f", summary.f))
        .or_else(|| score("jf", summary.jf))
        .or_else(|| rate("fps_wall", summary.fps_wall))
        .or_else(|| rate("fps_model", summary.fps_model))
        .or_else(|| summary.latency.as_ref().and_then(of_latency))
        .or_else(|| summary.found.as_ref().and_then(found::of_summary))?;
    Some(format!("summary: {fault}"))
}

fn of_latency(latency: &LatencyRecord) -> Option<String> {
    let ranks = [latency.p50_ms, latency.p90_ms, latency.p95_ms, latency.p99_ms, latency.max_ms];
    ranks.iter().chain([&latency.mean_ms]).find_map(|ms| time("latency", *ms)).or_else(|| {
        let rising = ranks.windows(2).all(|pair| pair[0] <= pair[1] * (1.0 + ROUNDING));
        (!rising).then(|| format!("latency percentiles {ranks:?} do not rise"))
    })
}

/// Counts and means of the summary against the sequences that they are of.
fn against_sequences(summary: &SummaryRecord, cell: &CellRecord, joined: bool) -> Option<String> {
    let differs = |name: &str, said: String, is: String| {
        (said != is).then(|| format!("summary: {name} is {said}, its sequences give {is}"))
    };
    let frames: usize = cell.sequences.iter().map(|s| s.frames.len()).sum();
    let scored: Vec<_> = cell.sequences.iter().flat_map(|s| &s.objects).filter(|o| o.j.is_some()).collect();
    let mean = |pick: fn(&crate::results::record::ObjectRecord) -> Option<f64>| {
        let values: Vec<f64> = scored.iter().filter_map(|o| pick(o)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let close = |name: &str, said: Option<f64>, is: Option<f64>| match (said, is) {
        (Some(a), Some(b)) if (a - b).abs() <= ROUNDING => None,
        (None, None) => None,
        _ => Some(format!("summary: {name} is {said:?}, its sequences give {is:?}")),
    };
    let (j, f) = (mean(|o| o.j), mean(|o| o.f));
    differs("videos", summary.videos.to_string(), cell.sequences.len().to_string())
        .or_else(|| differs("objects", summary.objects.to_string(), scored.len().to_string()))
        .or_else(|| {
            (!joined || frames > 0).then(|| differs("frames", summary.frames.to_string(), frames.to_string())).flatten()
        })
        .or_else(|| close("j", summary.j, j))
        .or_else(|| close("f", summary.f, f))
        .or_else(|| close("jf", summary.jf, j.zip(f).map(|(j, f)| (j + f) / 2.0)))
        .or_else(|| found::against(summary.found.as_ref(), &cell.sequences))
        .or_else(|| {
            differs("taken", format!("{:?}", summary.taken), format!("{:?}", TakenSummary::of(&cell.sequences)))
        })
}

/// A score that is none.
fn score(name: &str, value: Option<f64>) -> Option<String> {
    let value = value.filter(|v| !(0.0..=100.0 + ROUNDING).contains(v))?;
    Some(format!("{name} is {value}, scores are 0 to 100"))
}

/// A span of time that is none.
fn time(name: &str, ms: f64) -> Option<String> {
    (!(0.0..=MOST_MS).contains(&ms)).then(|| format!("{name} is {ms} ms, which is no span of time"))
}
