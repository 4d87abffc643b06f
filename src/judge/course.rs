//! How did latency go over the run? Each frame is compared with its like; from that: whether there is a steady state, and remarks for the
//! reader on slow starts, drift, outliers, changes of level.

use std::collections::BTreeMap;

use crate::judge::levels::{self, BLOCK, Level, Stability};
use crate::judge::summary::frames;
use crate::judge::{disturbed, limits, stats};
use crate::results::note::{Note, NoteKind};
use crate::results::record::{CellRecord, SequenceRecord};
use crate::text::plural;

/// Latency of each frame in run order, divided by the median latency of its like: frames with as many objects in videos of the same size.
/// (Prompted frames skip the memory attention and are a little faster; they are too few for a group of their own.)
pub fn relative_latencies(cell: &CellRecord) -> Vec<f64> {
    let like = |s: &SequenceRecord, objects: u32| (objects, s.width, s.height);
    let each = || cell.sequences.iter().flat_map(|s| s.frames.iter().map(move |f| (like(s, f.objects), f.latency_ms)));
    let mut groups: BTreeMap<_, Vec<f64>> = BTreeMap::new();
    each().for_each(|(group, ms)| groups.entry(group).or_default().push(ms));
    let medians: BTreeMap<_, f64> =
        groups.into_iter().filter_map(|(group, values)| Some((group, stats::median(&values)?))).collect();
    each().map(|(group, ms)| ms / medians[&group]).filter(|r| r.is_finite()).collect()
}

/// Frames after which the memory bank of a video is full: 16 object pointers of earlier frames.
const FILLED: usize = 16;

/// [`relative_latencies`] without what the model itself explains: frames on which the number of objects changed count as 1 where they are
/// slower (a provider may prepare its kernels anew), and the first frames of a video where they are faster (their memory bank is not full).
pub fn unexplained(cell: &CellRecord) -> Vec<f64> {
    let mut ratios = relative_latencies(cell);
    let mut before = None;
    let each = cell.sequences.iter().flat_map(|s| s.frames.iter().enumerate());
    for ((i, frame), ratio) in each.zip(&mut ratios) {
        if before.is_some_and(|objects| objects != frame.objects) && *ratio > 1.0 {
            *ratio = 1.0;
        }
        if i <= FILLED {
            *ratio = ratio.max(1.0);
        }
        before = Some(frame.objects);
    }
    ratios
}

/// How the run went over time, by latencies relative to those of like frames.
pub fn steadiness(cell: &CellRecord) -> Steadiness {
    match steadiness_of(&unexplained(cell)) {
        Steadiness::Never if too_quick(cell) => Steadiness::Restless,
        other => other,
    }
}

/// Levels at which the run stood, relative to like frames; none where it is too short or too quick to tell.
pub fn levels(cell: &CellRecord) -> Vec<Level> {
    let ratios = unexplained(cell);
    if ratios.len() < MIN_COURSE || too_quick(cell) { Vec::new() } else { levels::levels(&ratios) }
}

/// Are frames so quick that what the machine does between two of them weighs as much as they do?
fn too_quick(cell: &CellRecord) -> bool {
    let latencies: Vec<f64> = frames(cell).map(|f| f.latency_ms).collect();
    stats::median(&latencies).is_none_or(|ms| ms < limits::QUICK_MS)
}

/// Share of the frames that lie more than a quarter away from the median of their like; none where there are too few, or they are too quick.
pub fn scattered(cell: &CellRecord) -> Option<f64> {
    let ratios = unexplained(cell);
    let away = ratios.iter().filter(|r| !(1.0 / limits::UNSTEADY..=limits::UNSTEADY).contains(*r)).count();
    (ratios.len() >= limits::SCATTER_FRAMES && !too_quick(cell)).then(|| away as f64 / ratios.len() as f64)
}

/// Levels in words: `1.0 times the median of like frames for 150 frames, then 2.0 times for 90`.
pub fn level_words(levels: &[Level]) -> String {
    const SHOWN: usize = 5;
    let mut words: Vec<String> = levels
        .iter()
        .take(SHOWN)
        .enumerate()
        .map(|(i, level)| match i {
            0 => format!("{:.2} times the median of like frames for {} frames", level.value, level.frames),
            _ => format!("then {:.2} times for {}", level.value, level.frames),
        })
        .collect();
    if levels.len() > SHOWN {
        words.push(format!("and {} more levels", levels.len() - SHOWN));
    }
    words.join(", ")
}

/// How a run went over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steadiness {
    /// Too short to tell.
    TooShort,
    /// Steady from this sample on.
    From(usize),
    /// No part of it is long enough and alike enough: other load, most likely.
    Restless,
    /// It stood at levels too far apart, or went on getting slower, or faster, to its end.
    Never,
}

/// Fewest samples from which the course of a run is judged.
pub const MIN_COURSE: usize = 100;
/// How far the median of a block may lie from that of the second half, for the run to have settled.
const SETTLED: f64 = 0.10;
/// How much the medians of eighths of a run must move in one direction, over all and over the second half, to say that it
/// never settled.
const NEVER: (f64, f64) = (0.25, 0.12);

/// Where the steady part of a run begins: at the first block of ten samples whose median, like that of the next block,
/// lies within a tenth of the median of the run's second half. A run at several levels ([`levels`]), or whose eighths go on moving in one
/// direction (by a quarter over all, by an eighth in the second half), never has one; another that gets there only in its second half is
/// restless.
fn steadiness_of(samples: &[f64]) -> Steadiness {
    if samples.len() < MIN_COURSE {
        return Steadiness::TooShort;
    }
    let Some(settled) = stats::median(&samples[samples.len() / 2..]).filter(|m| *m > 0.0) else {
        return Steadiness::TooShort;
    };
    let near = |block: &[f64]| stats::median(block).is_some_and(|m| (m / settled - 1.0).abs() <= SETTLED);
    let blocks: Vec<&[f64]> = samples.chunks_exact(BLOCK).collect();
    let eighths: Vec<f64> = samples.chunks(samples.len().div_ceil(8)).filter_map(stats::median).collect();
    let one_way = eighths.windows(2).all(|w| w[1] > w[0]) || eighths.windows(2).all(|w| w[1] < w[0]);
    let moved = |from: usize| (eighths[eighths.len() - 1] / eighths[from] - 1.0).abs();
    if levels::stability(&levels::levels(samples)) == Stability::Unsteady {
        return Steadiness::Never;
    }
    if one_way && moved(0) > NEVER.0 && moved(eighths.len() / 2) > NEVER.1 {
        return Steadiness::Never;
    }
    match blocks.windows(2).position(|pair| near(pair[0]) && near(pair[1])) {
        Some(begin) if begin * BLOCK <= samples.len() / 2 => Steadiness::From(begin * BLOCK),
        _ => Steadiness::Restless,
    }
}

/// What a reader should know about the steadiness of the timings, in whole sentences; empty when there is nothing to
/// say. Frames are compared with frames of equal work only: the same number of objects.
pub fn remarks(cell: &CellRecord) -> Vec<Note> {
    use NoteKind::{Drift, ObjectChange, Outliers, Scattered, Shifted, SlowStart, Stalled};
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
        ).about(slow as f64));
    }
    if let Some(drift) = disturbed::drift(&ratios) {
        remarks.push(Note::new(Drift, format!(
            "latency {} by {:.0} % from the first to the last quarter of the run: look for heat, clocks or other load",
            if drift > 0.0 { "rose" } else { "fell" },
            drift.abs() * 100.0
        )).about(drift.abs() * 100.0));
    }
    let unexplained = unexplained(cell);
    if disturbed::too_many_outliers(&unexplained) {
        let outliers = stats::outliers(&unexplained);
        remarks.push(Note::new(Outliers, format!(
            "{outliers} of {} frames are outliers (modified z-score above 3.5, over 1.25 times the median of like frames): look for \
             other load; none was removed",
            unexplained.len()
        )).about(outliers as f64 * 100.0 / unexplained.len() as f64));
    }
    let levels = levels(cell);
    if levels::stability(&levels) != Stability::Level {
        remarks.push(Note::new(Shifted, format!("latency changed its level: {}", level_words(&levels))));
    }
    if let Some(share) = scattered(cell).filter(|share| *share > limits::SCATTER_SHARE) {
        remarks.push(Note::new(Scattered, format!(
            "{:.0} % of the frames lie more than a quarter away from the median of like frames: a mean or a percentile describes few of them",
            share * 100.0
        )));
    }
    remarks.extend(stalls(cell).map(|text| Note::new(Stalled, text)));
    remarks.extend(object_changes(cell, &ratios).map(|text| Note::new(ObjectChange, text)));
    remarks
}

/// How often and how long the worker stood still, in words.
fn stalls(cell: &CellRecord) -> Option<String> {
    let stalls = || cell.sequences.iter().flat_map(|s| s.stalls.iter().map(move |stall| (s, stall)));
    let (video, longest) = stalls().max_by(|a, b| a.1.ms.total_cmp(&b.1.ms))?;
    let (ms, waited): (f64, f64) = stalls().fold((0.0, 0.0), |sum, (_, s)| (sum.0 + s.ms, sum.1 + s.waited_ms));
    let why =
        if waited >= ms / 2.0 { "no processor was free for it" } else { "it was stopped, or the machine stood still" };
    Some(format!(
        "the worker stood still {}, {:.1} s in all, the longest for {:.1} s in video {}: {why}; the time is in the latencies",
        plural(stalls().count(), "time", "times"),
        ms / 1e3,
        longest.ms / 1e3,
        video.video
    ))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::record::FrameRecord;

    #[test]
    fn the_steady_part_is_found_and_its_absence_said() {
        let noise: Vec<f64> = crate::judge::stats::tests::generated(300).iter().map(|v| 50.0 + v / 50.0).collect();
        assert_eq!(steadiness_of(&noise), Steadiness::From(0));
        assert_eq!(steadiness_of(&noise[..99]), Steadiness::TooShort);
        let mut warming = noise.clone();
        warming[..37].iter_mut().for_each(|v| *v *= 1.5);
        assert_eq!(steadiness_of(&warming), Steadiness::From(40), "whole blocks only");
        let mut burst = noise.clone();
        burst[200..215].iter_mut().for_each(|v| *v *= 3.0);
        assert_eq!(steadiness_of(&burst), Steadiness::From(0), "other load for a moment is no lack of steadiness");
        let late: Vec<f64> = noise.iter().enumerate().map(|(i, v)| v * if i < 170 { 1.0 } else { 1.15 }).collect();
        assert_eq!(steadiness_of(&late), Steadiness::Restless, "a small step after the middle");
        let cut: Vec<f64> = noise.iter().enumerate().map(|(i, v)| v * if i < 190 { 1.0 } else { 2.0 }).collect();
        assert_eq!(steadiness_of(&cut), Steadiness::Never, "clocks cut in the run");
        let heating: Vec<f64> = noise.iter().enumerate().map(|(i, v)| v * (1.0 + i as f64 / 300.0)).collect();
        assert_eq!(steadiness_of(&heating), Steadiness::Never);
        let slightly: Vec<f64> = noise.iter().enumerate().map(|(i, v)| v * (1.0 + i as f64 / 3000.0)).collect();
        assert_eq!(steadiness_of(&slightly), Steadiness::From(0));
    }

    /// A cell of videos with these latencies per object, `objects` in each.
    fn cell(videos: &[(u32, u32, &[f64])]) -> CellRecord {
        let sequences = videos.iter().map(|(objects, width, latencies)| {
            let frame = |ms: &f64| FrameRecord {
                objects: *objects,
                latency_ms: ms * f64::from(*objects),
                ..Default::default()
            };
            SequenceRecord { width: *width, frames: latencies.iter().map(frame).collect(), ..Default::default() }
        });
        CellRecord { sequences: sequences.collect(), ..CellRecord::default() }
    }

    #[test]
    fn what_the_model_explains_is_no_change_of_level() {
        let even: Vec<f64> = (0..120).map(|i| 20.0 + f64::from(i % 5) / 10.0).collect();
        let larger: Vec<f64> = even.iter().map(|ms| ms * 1.4).collect();
        let other = cell(&[(1, 640, &even), (3, 640, &even), (1, 1920, &larger)]);
        assert_eq!((steadiness(&other), scattered(&other)), (Steadiness::From(0), Some(0.0)));
        let filling: Vec<f64> = even.iter().enumerate().map(|(i, ms)| if i < 16 { 0.6 * ms } else { *ms }).collect();
        assert_eq!(levels(&cell(&[(1, 640, &filling)])).len(), 1);
        let cut: Vec<f64> = even.iter().enumerate().map(|(i, ms)| if i < 70 { *ms } else { 2.0 * ms }).collect();
        assert_eq!(steadiness(&cell(&[(1, 640, &cut)])), Steadiness::Never);
        let quick: Vec<f64> = cut.iter().map(|ms| ms / 100.0).collect();
        assert_eq!(steadiness(&cell(&[(1, 640, &quick)])), Steadiness::Restless, "0.2 ms: the machine's own noise");
        assert_eq!(
            level_words(&levels(&cell(&[(1, 640, &cut)]))),
            "0.99 times the median of like frames for 70 frames, then 1.98 times for 50"
        );
    }

    #[test]
    fn frames_that_take_turns_are_scattered() {
        let turns: Vec<f64> = (0..240).map(|i| if i % 2 == 0 { 5.0 } else { 12.0 }).collect();
        let said: Vec<NoteKind> = remarks(&cell(&[(1, 640, &turns)])).iter().map(|n| n.kind).collect();
        assert_eq!(said, [NoteKind::Scattered]);
    }
}
