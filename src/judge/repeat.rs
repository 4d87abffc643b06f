//! Several runs of one cell, each in a fresh process, as one record: medians over them with intervals, every run's own
//! figures and frames beside it. Within one process everything that scatters between processes (placement of memory,
//! clocks, heat) stands still, so frames of one run say nothing about the next run.

use crate::judge::{stats, summary};
use crate::results::disturbance;
use crate::results::note::{Note, NoteKind, Reason};
use crate::results::record::{
    CellRecord, Interval, LatencyRecord, RepeatRecord, RepeatsRecord, SequenceRecord, SpreadRecord, SummaryRecord,
    Verdict,
};
use crate::telemetry::key::MemoryPhase;

/// Joins the runs of a cell, in order. One run is the record itself.
pub fn join(runs: Vec<CellRecord>) -> Option<CellRecord> {
    let count = runs.len();
    let mut runs = runs.into_iter();
    let mut cell = runs.next()?;
    if count == 1 {
        return Some(cell);
    }
    let mut others: Vec<CellRecord> = runs.collect();
    let mut failed = std::iter::once(&cell).chain(&others).filter(|r| matches!(r.verdict, Verdict::Failed { .. }));
    let failed_first = failed.next().map(|r| r.interrupted);
    let verdicts: Vec<Verdict> = std::iter::once(&cell).chain(&others).map(|r| r.verdict.clone()).collect();
    let spread = repeats(std::iter::once(&cell).chain(&others));
    let fps_wall_interval = fps_wall_interval(std::iter::once(&cell).chain(&others));
    cell.repeats.push(record(1, &cell, false));
    for (i, other) in others.iter_mut().enumerate() {
        cell.repeats.push(record(i as u32 + 2, other, true));
        disturbance::join(&mut cell.disturbed, &other.disturbed);
        if let Some(peak) = other.memory.get(&MemoryPhase::Peak) {
            cell.memory.entry(MemoryPhase::Peak).or_default().raise_to(peak);
        }
        for note in std::mem::take(&mut other.notes) {
            // What every repeat says is said once.
            if !cell.notes.iter().any(|n| n.text == note.text) {
                cell.notes.push(Note { repeat: Some(i as u32 + 2), ..note });
            }
        }
    }
    cell.notes.extend(different_scores(&cell).map(|text| Note::new(NoteKind::Scores, text)));
    cell.verdict = verdict(&verdicts);
    // The first failure is the one that is told.
    cell.interrupted = failed_first.unwrap_or(false);
    if let Some(summary) = &mut cell.summary {
        headline(summary, &cell.repeats);
        summary.fps_wall_interval = fps_wall_interval;
        summary.repeats = Some(spread);
    }
    Some(cell)
}

fn record(repeat: u32, run: &CellRecord, with_frames: bool) -> RepeatRecord {
    RepeatRecord {
        repeat,
        verdict: run.verdict.clone(),
        disturbed: run.disturbed.clone(),
        load_ms: run.load_ms,
        first_mask_ms: run.warmup.as_ref().and_then(|w| w.first_mask_ms),
        summary: run.summary.clone(),
        energy_j: run.energy_j.clone(),
        energy_above_idle_j: run.energy_above_idle_j.clone(),
        idle_power_w: run.idle_power_w.clone(),
        sequences: if with_frames { run.sequences.clone() } else { Vec::new() },
    }
}

/// The worst of them: a cell is as good as its worst repeat.
fn verdict(all: &[Verdict]) -> Verdict {
    let n = all.len();
    let mut reasons = Vec::new();
    for (i, verdict) in all.iter().enumerate() {
        match verdict {
            Verdict::Valid => {}
            Verdict::Invalid { reasons: r } => {
                reasons.extend(r.iter().map(|r| Reason::new(r.kind, format!("repeat {} of {n}: {r}", i + 1))))
            }
            Verdict::Failed { error, phase } => {
                return Verdict::Failed { error: format!("repeat {} of {n}: {error}", i + 1), phase: phase.clone() };
            }
        }
    }
    if reasons.is_empty() { Verdict::Valid } else { Verdict::Invalid { reasons } }
}

/// Values of a figure over the repeats that have it.
fn over(summaries: &[&SummaryRecord], pick: impl Fn(&SummaryRecord) -> Option<f64>) -> Vec<f64> {
    summaries.iter().filter_map(|s| pick(s)).collect()
}

fn repeats<'a>(runs: impl Iterator<Item = &'a CellRecord>) -> RepeatsRecord {
    let summaries: Vec<&SummaryRecord> = runs.filter_map(|r| r.summary.as_ref()).collect();
    let spread =
        |pick: fn(&SummaryRecord) -> Option<f64>| -> Option<SpreadRecord> { stats::spread(&over(&summaries, pick)) };
    RepeatsRecord {
        count: summaries.len(),
        fps_wall: spread(|s| s.fps_wall),
        fps_model: spread(|s| s.fps_model),
        latency_p50_ms: spread(|s| s.latency.map(|l| l.p50_ms)),
        latency_p95_ms: spread(|s| s.latency.and_then(|l| l.p95())),
    }
}

/// 95 % interval of the median over repeats of frames per second, by resampling whole videos: of every repeat the same ones.
fn fps_wall_interval<'a>(runs: impl Iterator<Item = &'a CellRecord>) -> Option<Interval> {
    let runs: Vec<&[SequenceRecord]> = runs.map(|r| r.sequences.as_slice()).filter(|s| !s.is_empty()).collect();
    let videos: Vec<usize> = (0..runs.iter().map(|s| s.len()).min()?).collect();
    stats::bootstrap(&videos, |sample| {
        let of = |run: &&[SequenceRecord]| summary::fps_of(&sample.iter().map(|i| &run[**i]).collect::<Vec<_>>());
        stats::median(&runs.iter().filter_map(of).collect::<Vec<_>>())
    })
}

/// Speed figures of the cell become the medians over its repeats, the largest latency that of all; each repeat keeps its own.
fn headline(summary: &mut SummaryRecord, repeats: &[RepeatRecord]) {
    let all: Vec<&SummaryRecord> = repeats.iter().filter_map(|r| r.summary.as_ref()).collect();
    let median = |pick: &dyn Fn(&SummaryRecord) -> Option<f64>| stats::median(&over(&all, pick));
    // A count stays one that was counted: of two in the middle the larger.
    let count = |pick: fn(&SummaryRecord) -> Option<usize>| {
        let mut counts: Vec<usize> = all.iter().filter_map(|s| pick(s)).collect();
        counts.sort_unstable();
        counts.get(counts.len() / 2).copied()
    };
    summary.fps_wall = median(&|s| s.fps_wall);
    summary.fps_model = median(&|s| s.fps_model);
    summary.jitter_ms = median(&|s| s.jitter_ms);
    summary.overhead_share = median(&|s| s.overhead_share);
    summary.energy_per_frame_j = median(&|s| s.energy_per_frame_j);
    summary.energy_above_idle_per_frame_j = median(&|s| s.energy_above_idle_per_frame_j);
    summary.deadline_misses = count(|s| s.deadline_misses);
    summary.dropped = count(|s| s.dropped);
    summary.latency = latency(&all.iter().filter_map(|s| s.latency).collect::<Vec<_>>());
    summary.response = latency(&all.iter().filter_map(|s| s.response).collect::<Vec<_>>());
}

/// Medians over repeats, and the largest latency of any; `None` of nothing.
fn latency(all: &[LatencyRecord]) -> Option<LatencyRecord> {
    let middle = |pick: fn(&LatencyRecord) -> f64| stats::median(&all.iter().map(pick).collect::<Vec<_>>());
    Some(LatencyRecord {
        samples: all.iter().map(|l| l.samples).min()?,
        mean_ms: middle(|l| l.mean_ms)?,
        p50_ms: middle(|l| l.p50_ms)?,
        p90_ms: middle(|l| l.p90_ms)?,
        p95_ms: middle(|l| l.p95_ms)?,
        p99_ms: middle(|l| l.p99_ms)?,
        max_ms: all.iter().map(|l| l.max_ms).max_by(f64::total_cmp)?,
    })
}

/// The same model on the same frames should give the same scores in every process.
fn different_scores(cell: &CellRecord) -> Option<String> {
    let scores: Vec<f64> = cell.repeats.iter().filter_map(|r| r.summary.as_ref()?.own_jf()).collect();
    let low = scores.iter().copied().min_by(f64::total_cmp)?;
    let high = scores.iter().copied().max_by(f64::total_cmp)?;
    (high > low).then(|| {
        format!("J&F differs between repeats, from {low:.3} to {high:.3}: the model is not deterministic here")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::note::ReasonKind;
    use crate::results::record::{FrameRecord, MemoryRecord};

    fn run(p50: f64, jf: f64) -> CellRecord {
        let latency = LatencyRecord { p50_ms: p50, ..Default::default() };
        CellRecord {
            verdict: Verdict::Valid,
            summary: Some(SummaryRecord {
                latency: Some(latency),
                fps_wall: Some(1000.0 / p50),
                jf: Some(jf),
                ..Default::default()
            }),
            notes: vec![Note::new(NoteKind::Setup, "said by all")],
            ..CellRecord::default()
        }
    }

    #[test]
    fn the_headline_is_the_median_and_every_run_is_kept() {
        let cell = join([12.0, 10.0, 11.0, 14.0, 13.0].map(|ms| run(ms, 80.0)).to_vec()).unwrap();
        let summary = cell.summary.as_ref().unwrap();
        assert_eq!((summary.latency.unwrap().p50_ms, summary.fps_wall), (12.0, Some(1000.0 / 12.0)));
        let spread = summary.repeats.unwrap();
        let p50 = spread.latency_p50_ms.unwrap();
        assert_eq!((spread.count, p50.median, p50.interval.map(|i| (i.low, i.high))), (5, 12.0, Some((10.0, 14.0))));
        assert!(p50.next_run.unwrap().low < 10.0 && p50.next_run.unwrap().high > 14.0);
        let own: Vec<f64> = cell.repeats.iter().map(|r| r.summary.as_ref().unwrap().latency.unwrap().p50_ms).collect();
        assert_eq!(own, [12.0, 10.0, 11.0, 14.0, 13.0]);
        assert_eq!((cell.verdict, cell.notes), (Verdict::Valid, vec![Note::new(NoteKind::Setup, "said by all")]));
    }

    #[test]
    fn the_figures_of_a_cell_are_of_all_its_repeats() {
        let with = |ms: f64, misses: usize, peak: f64| {
            let frame = FrameRecord { latency_ms: ms, ..Default::default() };
            let sequences = (0..6).map(|i| SequenceRecord {
                video: format!("v{i}"),
                wall_ms: ms * (1.0 + 0.02 * f64::from(i)),
                frames: vec![frame.clone()],
                ..Default::default()
            });
            let mut cell = run(ms, 80.0);
            cell.sequences = sequences.collect();
            cell.memory = [(MemoryPhase::Peak, MemoryRecord { pss_mib: Some(peak), ..Default::default() })].into();
            let own = cell.summary.as_mut().unwrap();
            let latency = LatencyRecord { p50_ms: ms, max_ms: 3.0 * ms, ..Default::default() };
            (own.latency, own.response) = (Some(latency), Some(latency));
            own.fps_wall = summary::fps_of(&cell.sequences.iter().collect::<Vec<_>>());
            (own.deadline_misses, own.overhead_share) = (Some(misses), Some(ms / 100.0));
            cell
        };
        let cell = join(vec![with(10.0, 1, 80.0), with(30.0, 9, 95.0), with(20.0, 4, 90.0)]).unwrap();
        let s = cell.summary.as_ref().unwrap();
        let (latency, response) = (s.latency.unwrap(), s.response.unwrap());
        assert_eq!((latency.p50_ms, latency.max_ms, response.p50_ms, response.max_ms), (20.0, 90.0, 20.0, 90.0));
        assert_eq!((s.deadline_misses, s.overhead_share), (Some(4), Some(0.2)));
        let interval = s.fps_wall_interval.unwrap();
        assert!(interval.low <= s.fps_wall.unwrap() && s.fps_wall.unwrap() <= interval.high, "{interval:?} {s:?}");
        assert_eq!(cell.memory[&MemoryPhase::Peak].pss_mib, Some(95.0));
        assert_eq!(cell.frames().map(|f| f.latency_ms).sum::<f64>(), 360.0);
    }

    #[test]
    fn a_cell_is_as_good_as_its_worst_repeat() {
        let mut bad = run(10.0, 80.0);
        bad.verdict = Verdict::Invalid { reasons: vec![Reason::new(ReasonKind::TooFewFrames, "too few frames")] };
        let cell = join(vec![run(10.0, 80.0), bad.clone(), run(10.0, 80.5)]).unwrap();
        assert_eq!(cell.verdict.reasons(), "repeat 2 of 3: too few frames");
        assert!(cell.notes[1].text.contains("from 80.000 to 80.500"), "{:?}", cell.notes);
        bad.verdict = Verdict::Failed { error: "killed".into(), phase: "track".into() };
        assert_eq!(join(vec![run(10.0, 80.0), bad]).unwrap().verdict.reasons(), "track: repeat 2 of 2: killed");
        let one = run(10.0, 80.0);
        assert_eq!(join(vec![one.clone()]), Some(one));
        assert_eq!(join(Vec::new()), None);
    }
}
