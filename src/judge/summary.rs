//! From a cell's finished sequences to the figures that are quoted: means over objects, frames per second, latency
//! percentiles. Pure arithmetic on the record; the same sequences give the same
//! summary after a resume or a merge.

use jetbench_runners::options::PIPELINE;

use crate::judge::course::{self, Steadiness};
use crate::judge::stats;
use crate::plan::scenario::Scenario;
use crate::results::record::{
    CellRecord, FoundSummary, FrameRecord, SequenceRecord, SteadyRecord, SummaryRecord, TakenSummary,
};
use crate::score::{self, MoseScore};

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
    let mosev2: Vec<&MoseScore> =
        cell.sequences.iter().flat_map(|s| &s.objects).filter_map(|o| o.mosev2.as_ref()).collect();
    let mosev2_mean = MoseScore::over(mosev2.iter().copied());
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
        jf_dot: mosev2_mean.map(|m| m.jf_dot() * 100.0),
        jf_disappear: mosev2_mean.and_then(|m| m.jf_disappear()).map(|s| s * 100.0),
        jf_reappear: mosev2_mean.and_then(|m| m.jf_reappear()).map(|s| s * 100.0),
        objects_disappear: mosev2_mean.map(|_| mosev2.iter().filter(|m| m.disappear.is_some()).count()),
        objects_reappear: mosev2_mean.map(|_| mosev2.iter().filter(|m| m.reappear.is_some()).count()),
        fps_wall: fps_of(&videos),
        fps_wall_interval: stats::bootstrap(&videos, |sample| fps_of(&sample.iter().map(|s| **s).collect::<Vec<_>>())),
        fps_model: fps_of_latency(cell, latencies.len(), total_ms),
        latency: stats::latency(&latencies),
        overhead_share: (total_ms > 0.0 && frames(cell).any(|f| !f.stages_ms.is_empty()))
            .then(|| score::pairwise_sum(&outside) / total_ms),
        energy_per_frame_j: None,
        found: FoundSummary::of(&cell.sequences),
        taken: TakenSummary::of(&cell.sequences),
        ..SummaryRecord::default()
    })
}

/// Frames that took longer than the time to the clip's next one; `None` where no clip says how fast it is.
fn deadline_misses(cell: &CellRecord) -> Option<usize> {
    let known: Vec<(f64, &SequenceRecord)> =
        cell.sequences.iter().filter_map(|s| Some((1000.0 / s.fps.filter(|f| *f > 0.0)?, s))).collect();
    let missed = |(even, s): &(f64, &SequenceRecord)| {
        let limit = |frame: u32| match s.deadlines_ms.as_slice() {
            [] => *even,
            uneven => uneven[frame as usize % uneven.len()],
        };
        s.frames.iter().filter(|f| f.latency_ms > limit(f.frame)).count()
    };
    (!known.is_empty()).then(|| known.iter().map(missed).sum())
}

/// Frames over their summed latency; none where one frame is begun before the last is done, for then latencies overlap.
fn fps_of_latency(cell: &CellRecord, frames: usize, total_ms: f64) -> Option<f64> {
    let overlap = cell.options.value(PIPELINE) == Some("on");
    (total_ms > 0.0 && !overlap).then(|| frames as f64 * 1000.0 / total_ms)
}

/// The figures of the steady part.
fn steady(cell: &CellRecord) -> Option<SteadyRecord> {
    let Steadiness::From(begin) = course::steadiness(cell) else { return None };
    let latencies: Vec<f64> = frames(cell).skip(begin).map(|f| f.latency_ms).collect();
    let total = score::pairwise_sum(&latencies);
    Some(SteadyRecord {
        begins_after: begin,
        frames: latencies.len(),
        latency: stats::latency(&latencies)?,
        fps_model: fps_of_latency(cell, latencies.len(), total),
    })
}

/// Every tracked frame, in run order.
pub(super) fn frames(cell: &CellRecord) -> impl Iterator<Item = &FrameRecord> {
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
pub(super) fn fps_of(videos: &[&SequenceRecord]) -> Option<f64> {
    let wall_ms = score::pairwise_sum(&videos.iter().map(|s| s.wall_ms).collect::<Vec<_>>());
    let frames: usize = videos.iter().map(|s| s.frames.len()).sum();
    (wall_ms > 0.0 && frames > 0).then(|| frames as f64 * 1000.0 / wall_ms)
}
