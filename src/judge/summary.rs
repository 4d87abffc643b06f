//! From a cell's finished sequences to the figures that are quoted: means over objects, frames per second, latency
//! percentiles, and remarks on how steady the run was. Pure arithmetic on the record; the same sequences give the same
//! summary after a resume or a merge.

use std::collections::BTreeMap;

use jetbench_runners::options::PIPELINE;

use crate::judge::stats::Steadiness;
use crate::judge::{disturbed, stats};
use crate::plan::scenario::Scenario;
use crate::results::note::{Note, NoteKind};
use crate::results::record::{CellRecord, FrameRecord, SequenceRecord, SteadyRecord, SummaryRecord};
use crate::score;

/// Aggregates over the finished sequences of a cell; `None` when there are none.
///
/// Objects weigh equally, whatever their video. Frames per second are frames of finished sequences over the wall time
/// of the same sequences. `energy_per_frame_j` stays `None`: whoever integrates the rails fills it in.
pub fn summarise(cell: &CellRecord) -> Option<SummaryRecord> {
    if cell.sequences.is_empty() {
        return None;
    }
    let latencies: Vec<f64> = frames(cell).map(|f| f.latency_ms).collect();
    let total_ms = score::pairwise_sum(&latencies);
    let scores = |pick: fn(&crate::results::record::ObjectRecord) -> Option<f64>| -> Vec<f64> {
        cell.sequences.iter().flat_map(|s| &s.objects).filter_map(pick).collect()
    };
    let (j, f) = (score::mean(&scores(|o| o.j)), score::mean(&scores(|o| o.f)));
    let videos: Vec<&SequenceRecord> = cell.sequences.iter().collect();
    let scored: Vec<&SequenceRecord> =
        videos.iter().copied().filter(|s| s.objects.iter().any(|o| o.j.is_some())).collect();
    let outside: Vec<f64> = frames(cell).map(outside_sessions_ms).collect();
    let objects: Vec<&crate::results::record::ObjectRecord> =
        cell.sequences.iter().flat_map(|s| &s.objects).filter(|o| o.jf.is_some()).collect();
    let jitters = cell.sequences.iter().flat_map(|s| {
        let latencies: Vec<f64> = s.frames.iter().map(|f| f.latency_ms).collect();
        latencies.windows(2).map(|w| (w[1] - w[0]).abs()).collect::<Vec<_>>()
    });
    let realtime = cell.scenario == Scenario::Realtime;
    let responses: Vec<f64> = frames(cell).filter_map(|f| f.response_ms).collect();
    Some(SummaryRecord {
        jf_objects_interval: stats::bootstrap(&objects, |sample| {
            score::mean(&sample.iter().filter_map(|o| o.jf).collect::<Vec<_>>())
        }),
        jitter_ms: score::mean(&jitters.collect::<Vec<_>>()),
        deadline_misses: deadline_misses(cell),
        dropped: realtime.then(|| cell.sequences.iter().map(|s| s.dropped.len()).sum()),
        response: stats::latency(&responses),
        steady: steady(cell),
        videos: cell.sequences.len(),
        objects: scores(|o| o.j).len(),
        frames: latencies.len(),
        j,
        f,
        jf: j.zip(f).map(|(j, f)| (j + f) / 2.0),
        jf_interval: stats::bootstrap(&scored, jf_of),
        fps_wall: fps_of(&videos.iter().collect::<Vec<_>>()),
        fps_wall_interval: stats::bootstrap(&videos, fps_of),
        fps_model: fps_of_latency(cell, latencies.len(), total_ms),
        latency: stats::latency(&latencies),
        overhead_share: (total_ms > 0.0 && frames(cell).any(|f| !f.stages_ms.is_empty()))
            .then(|| score::pairwise_sum(&outside) / total_ms),
        energy_per_frame_j: None,
        ..SummaryRecord::default()
    })
}

/// Frames that took longer than the time to the clip's next one; `None` where no clip says how fast it is.
fn deadline_misses(cell: &CellRecord) -> Option<usize> {
    let known: Vec<(f64, &SequenceRecord)> =
        cell.sequences.iter().filter_map(|s| Some((1000.0 / s.fps.filter(|f| *f > 0.0)?, s))).collect();
    (!known.is_empty())
        .then(|| known.iter().map(|(limit, s)| s.frames.iter().filter(|f| f.latency_ms > *limit).count()).sum())
}

/// How the run went over time, by latencies relative to those of like frames.
pub fn steadiness(cell: &CellRecord) -> Steadiness {
    stats::steadiness(&relative_latencies(cell))
}

/// Frames over their summed latency; none where one frame is begun before the last is done, for then latencies overlap.
fn fps_of_latency(cell: &CellRecord, frames: usize, total_ms: f64) -> Option<f64> {
    let overlap = cell.options.passed.iter().any(|(name, value)| name == PIPELINE && value == "on");
    (total_ms > 0.0 && !overlap).then(|| frames as f64 * 1000.0 / total_ms)
}

/// The figures of the steady part.
fn steady(cell: &CellRecord) -> Option<SteadyRecord> {
    let Steadiness::From(begin) = steadiness(cell) else { return None };
    let latencies: Vec<f64> = frames(cell).skip(begin).map(|f| f.latency_ms).collect();
    let total = score::pairwise_sum(&latencies);
    Some(SteadyRecord {
        begins_after: begin,
        frames: latencies.len(),
        latency: stats::latency(&latencies)?,
        fps_model: fps_of_latency(cell, latencies.len(), total),
    })
}

/// What a reader should know about the steadiness of the timings, in whole sentences; empty when there is nothing to
/// say. Frames are compared with frames of equal work only: the same number of objects.
pub fn remarks(cell: &CellRecord) -> Vec<Note> {
    use NoteKind::{Drift, ObjectChange, Outliers, SlowStart};
    let ratios = relative_latencies(cell);
    let mut remarks = Vec::new();
    let slow = stats::slow_start(&ratios);
    if slow > 0 {
        remarks.push(Note::new(
            SlowStart,
            format!(
                "the first {slow} frame{} took up to {:.1} times the median of like frames: warm up with more frames",
                if slow == 1 { "" } else { "s" },
                ratios[..slow].iter().copied().fold(0.0, f64::max)
            ),
        ));
    }
    if let Some(drift) = disturbed::drift(&ratios) {
        remarks.push(Note::new(Drift, format!(
            "latency {} by {:.0} % from the first to the last quarter of the run: look for heat, clocks or other load",
            if drift > 0.0 { "rose" } else { "fell" },
            drift.abs() * 100.0
        )));
    }
    if disturbed::too_many_outliers(&ratios) {
        let outliers = stats::outliers(&ratios);
        remarks.push(Note::new(Outliers, format!(
            "{outliers} of {} frames are outliers (modified z-score above 3.5, over 1.25 times the median of like frames): look for \
             other load; none was removed",
            ratios.len()
        )));
    }
    remarks.extend(object_changes(cell, &ratios).map(|text| Note::new(ObjectChange, text)));
    remarks
}

/// Least times the median of like frames that frames on which the number of objects changed must take, in the middle, to be
/// worth a note: their prompts alone cost less.
const SLOW_CHANGE: f64 = 3.0;

/// What frames cost on which the number of objects changed, where that is much: a provider may prepare its kernels anew for
/// another batch. Latency without them is what a steady number of objects has.
fn object_changes(cell: &CellRecord, ratios: &[f64]) -> Option<String> {
    let counts: Vec<u32> = frames(cell).map(|f| f.objects).collect();
    if ratios.len() != counts.len() {
        return None;
    }
    let changed: Vec<f64> = counts
        .windows(2)
        .zip(ratios.iter().skip(1))
        .filter(|(pair, _)| pair[0] != pair[1])
        .map(|(_, ratio)| *ratio)
        .collect();
    let (low, high) = changed.iter().fold((f64::INFINITY, 0.0f64), |(low, high), r| (low.min(*r), high.max(*r)));
    (stats::median(&changed)? >= SLOW_CHANGE).then(|| {
        let all = ratios.len();
        let (which, took) = match changed.len() {
            1 => (format!("1 of {all} frames is one on which"), format!("it took {high:.1} times")),
            n => (format!("{n} of {all} frames are those on which"), format!("they took {low:.1} to {high:.1} times")),
        };
        format!(
            "{which} the number of objects changed; {took} the median of like frames, because the provider prepares its kernels \
             for another batch; none was removed; `objects=loop` keeps one batch"
        )
    })
}

/// Latency of each frame in run order, divided by the median latency of the frames with as many objects. (Prompted
/// frames skip the memory attention and are a little faster; they are too few for a group of their own.)
pub fn relative_latencies(cell: &CellRecord) -> Vec<f64> {
    let mut groups: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for frame in frames(cell) {
        groups.entry(frame.objects).or_default().push(frame.latency_ms);
    }
    let medians: BTreeMap<u32, f64> =
        groups.into_iter().filter_map(|(objects, values)| Some((objects, stats::median(&values)?))).collect();
    frames(cell).map(|f| f.latency_ms / medians[&f.objects]).filter(|r| r.is_finite()).collect()
}

/// Every tracked frame, in run order.
fn frames(cell: &CellRecord) -> impl Iterator<Item = &FrameRecord> {
    cell.sequences.iter().flat_map(|s| &s.frames)
}

/// Share of a frame spent outside the sessions, milliseconds.
fn outside_sessions_ms(frame: &FrameRecord) -> f64 {
    ["preprocess", "postprocess"].iter().filter_map(|s| frame.stages_ms.get(*s)).sum()
}

/// J&F over the objects of some videos.
fn jf_of(videos: &[&&SequenceRecord]) -> Option<f64> {
    let of = |pick: fn(&crate::results::record::ObjectRecord) -> Option<f64>| {
        score::mean(&videos.iter().flat_map(|s| &s.objects).filter_map(pick).collect::<Vec<_>>())
    };
    Some((of(|o| o.j)? + of(|o| o.f)?) / 2.0)
}

/// Frames per second of wall time over some videos.
fn fps_of(videos: &[&&SequenceRecord]) -> Option<f64> {
    let wall_ms = score::pairwise_sum(&videos.iter().map(|s| s.wall_ms).collect::<Vec<_>>());
    let frames: usize = videos.iter().map(|s| s.frames.len()).sum();
    (wall_ms > 0.0).then(|| frames as f64 * 1000.0 / wall_ms)
}
