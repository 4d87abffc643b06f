//! `jetbench score TRUTH PRED`: finds what has to be scored, decodes every file once, scores frames on all cores while
//! others decode, and puts the numbers together in the references' order. Everything that is missing or does not fit is
//! collected first and named; nothing is left out of a mean in silence.

mod beside;
mod find;
mod options;
mod report;
pub(super) mod unsupervised;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};

use jetbench_runners::types::Mask;
use rayon::prelude::*;

pub use self::beside::{DavisScore, LateScore, MoseColumns, Pairing};
pub use self::options::ScoreOptions;
pub use self::report::{FrameRow, GroupScore, ObjectScore, ScoreReport, VideoScore};

use self::find::{Faults, Video, annotation_root, find_videos, read_unseen, shift, shorten};
use self::report::{Scored, assemble, report, unpredicted};
use crate::dataset::{DataError, LabelMasks};
use crate::score::boundary_iou::boundary_iou;
use crate::score::failure::taken_for;
use crate::score::label_pair;
use crate::score::protocol::Protocol;
use crate::score::{BOUNDARY_THRESHOLD, FrameScore, FrameScorer};

/// Scores `options.pred` against `options.truth`. `progress` is told (frames done, frames in all), from any thread.
///
/// # Errors
/// Everything that is missing or does not fit, one line each, with what to do.
pub fn score(options: &ScoreOptions, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<ScoreReport, DataError> {
    on_threads(options.threads, || score_here(options, progress))?
}

/// Does work on so many threads, or on as many as there are cores.
///
/// # Errors
/// They cannot be started.
pub fn on_threads<T: Send>(threads: Option<usize>, work: impl FnOnce() -> T + Send) -> Result<T, DataError> {
    let Some(n) = threads else { return Ok(work()) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(n.max(1)).build();
    Ok(pool.map_err(|e| DataError(format!("cannot start {n} threads: {e}")))?.install(work))
}

/// One frame of one video: `(unit, index into the unit's files)` of everything that is evaluated on it.
struct FrameJob {
    video: usize,
    parts: Vec<(usize, usize)>,
}

/// Is the boundary threshold one that the protocol takes?
fn check_threshold(options: &ScoreOptions) -> Result<(), DataError> {
    let valid = options.boundary_threshold > 0.0 && options.boundary_threshold.is_finite();
    if !valid || (options.boundary_threshold >= 1.0 && options.boundary_threshold.fract() != 0.0) {
        return Err(DataError(format!(
            "boundary threshold {}: give a share of the diagonal below 1 (0.008 is the references'), or whole pixels",
            options.boundary_threshold
        )));
    }
    if options.protocol == Some(Protocol::MoseV2) && options.boundary_threshold != BOUNDARY_THRESHOLD {
        return Err(DataError(
            "the mosev2 protocol sets its own boundary tolerances: leave out --boundary-threshold".into(),
        ));
    }
    Ok(())
}

fn score_here(options: &ScoreOptions, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<ScoreReport, DataError> {
    check_threshold(options)?;
    if options.protocol == Some(Protocol::Davis2017Unsup) {
        return unsupervised::score(options, progress);
    }
    let unseen = options.unseen.as_deref().map(read_unseen).transpose()?;
    let (truth_root, layout, default_list) = annotation_root(&options.truth)?;
    let mut notes = Vec::new();
    let mut faults = Faults::default();
    let list = options.list.clone().or_else(|| {
        let list = default_list?;
        notes.push(format!("videos: those listed in {}", list.display()));
        Some(list)
    });
    let (videos, protocol) = find_videos(options, &truth_root, layout, list.as_deref(), &mut faults, &mut notes)?;
    if !faults.0.is_empty() {
        return Err(faults.into_error(options));
    }

    let frames = score_frames(&videos, protocol, options, progress, &mut faults);
    if !faults.0.is_empty() {
        return Err(faults.into_error(options));
    }

    let mut objects = Vec::new();
    for (video, frames) in videos.iter().zip(frames) {
        if !video.predicted {
            match unpredicted(video) {
                Ok(missing) => objects.extend(missing),
                Err(fault) => faults.0.push(fault.0),
            }
            continue;
        }
        if protocol != Protocol::Davis2016 && video.units[0].object.is_none() {
            notes.extend(ids_apart(&video.name, &frames[0]));
        }
        for (unit, frames) in video.units.iter().zip(frames) {
            assemble(video, unit, &frames, protocol, options, &mut objects, &mut faults, &mut notes);
        }
    }
    if !faults.0.is_empty() {
        return Err(faults.into_error(options));
    }
    if objects.is_empty() {
        faults.0.push("no object is visible on an evaluated frame of the truth: there is nothing to score".into());
        return Err(faults.into_error(options));
    }
    Ok(report(options, protocol, layout, &videos, objects, unseen.as_ref(), notes))
}

/// Frames of one unit of a video, each with what it scored.
type OfUnit = Vec<(usize, Scored)>;

/// Scores all frames in parallel: by video and unit, in frame order. What cannot be read goes into `faults`.
fn score_frames(
    videos: &[Video],
    protocol: Protocol,
    options: &ScoreOptions,
    progress: &(dyn Fn(usize, usize) + Sync),
    faults: &mut Faults,
) -> Vec<Vec<OfUnit>> {
    let jobs = jobs(videos);
    let done = AtomicUsize::new(0);
    progress(0, jobs.len());
    let results: Vec<Result<Vec<Scored>, String>> = jobs
        .par_iter()
        .map_init(
            || None,
            |scorer, job| {
                let result = run_job(job, &videos[job.video], protocol, options, scorer);
                progress(done.fetch_add(1, Ordering::Relaxed) + 1, jobs.len());
                result
            },
        )
        .collect();
    // By video and unit, in frame order: jobs are in that order.
    let mut frames: Vec<Vec<OfUnit>> = videos.iter().map(|v| v.units.iter().map(|_| Vec::new()).collect()).collect();
    for (job, result) in jobs.iter().zip(results) {
        match result {
            Err(fault) => faults.0.push(fault),
            Ok(scored) => {
                let folders = videos[job.video].units[0].object.is_some();
                for s in scored {
                    let unit = if folders { s.key as usize } else { 0 };
                    let at = job.parts.iter().find(|(u, _)| *u == unit).map_or(0, |(_, at)| *at);
                    frames[job.video][unit].push((at, s));
                }
            }
        }
    }
    frames
}

/// What a reader should know when the ids of the predicted label maps are not those of the truth.
fn ids_apart(video: &str, frames: &[(usize, Scored)]) -> Option<String> {
    let ids = |seen: fn(&Scored) -> bool| -> BTreeSet<u64> {
        frames.iter().filter(|(_, s)| seen(s)).map(|(_, s)| u64::from(s.key)).collect()
    };
    let (truth, pred) = (ids(|s| !s.score.truth_empty), ids(|s| !s.score.pred_empty));
    let list = |ids: &BTreeSet<u64>| {
        let names: Vec<String> = ids.iter().map(u64::to_string).collect();
        shorten(&names.iter().map(String::as_str).collect::<Vec<_>>())
    };
    if truth.is_empty() {
        return None;
    }
    if pred.is_empty() {
        return Some(format!("{video}: no pixel is predicted on the evaluated frames"));
    }
    match shift(&truth, &pred) {
        Some(0) => None,
        Some(by) => Some(format!(
            "{video}: the predicted ids {} are the truth's {} shifted by {by}; objects are compared by id, so number them alike",
            list(&pred),
            list(&truth)
        )),
        None if truth.is_disjoint(&pred) => Some(format!(
            "{video}: no predicted id ({}) occurs in the truth ({}); objects are compared by id, so every score is 0",
            list(&pred),
            list(&truth)
        )),
        None => None,
    }
}

/// One job per video and frame name, in order; object folders that share a frame are scored together, so that a
/// prediction can be recognised as another object.
fn jobs(videos: &[Video]) -> Vec<FrameJob> {
    let mut jobs = Vec::new();
    for (v, video) in videos.iter().enumerate().filter(|(_, video)| video.predicted) {
        let mut by_frame: BTreeMap<&str, Vec<(usize, usize)>> = BTreeMap::new();
        for (u, unit) in video.units.iter().enumerate() {
            for at in unit.evaluated.clone() {
                by_frame.entry(&unit.files[at]).or_default().push((u, at));
            }
        }
        jobs.extend(by_frame.into_values().map(|parts| FrameJob { video: v, parts }));
    }
    jobs
}

type Masks = Vec<(u32, Mask)>;

fn run_job(
    job: &FrameJob,
    video: &Video,
    protocol: Protocol,
    options: &ScoreOptions,
    scorer: &mut Option<FrameScorer>,
) -> Result<Vec<Scored>, String> {
    let (mut truth, mut pred): (Masks, Masks) = (Vec::new(), Vec::new());
    for &(u, at) in &job.parts {
        let unit = &video.units[u];
        let file = &unit.files[at];
        let (t, p) = label_pair::read(&unit.truth, &unit.pred, file).map_err(|e| e.0)?;
        let truth_place = unit.truth.join(file);
        let (truth_place, pred_place) = (truth_place.display(), unit.pred.place(file));
        let binary = |image: LabelMasks, place: &dyn Display| {
            let (mask, values) = image.into_foreground();
            if values > 2 && unit.object.is_some() {
                return Err(format!(
                    "{place}: {values} different values; a file in an object's folder holds one object (0 and one other value)"
                ));
            }
            Ok(mask)
        };
        if unit.object.is_some() {
            truth.push((u as u32, binary(t, &truth_place)?));
            pred.push((u as u32, binary(p, &pred_place)?));
        } else if protocol == Protocol::Davis2016 {
            truth.push((1, binary(t, &truth_place)?));
            pred.push((1, binary(p, &pred_place)?));
        } else {
            let all = |image: LabelMasks| image.masks.into_iter().map(|(id, m)| (u32::from(id), m));
            let void = |id: u32| protocol.has_void() && id == u32::from(label_pair::VOID);
            truth.extend(all(t).filter(|(id, _)| !void(*id)));
            pred.extend(all(p));
        }
    }
    let keys: BTreeSet<u32> = truth.iter().chain(&pred).map(|(key, _)| *key).collect();
    let mut scored = Vec::with_capacity(keys.len());
    for key in keys {
        let find = |masks: &Masks| masks.iter().position(|(k, _)| *k == key);
        let (t, p) = (find(&truth), find(&pred));
        let Some(either) = t.map(|i| &truth[i].1).or(p.map(|i| &pred[i].1)) else { continue };
        let empty = Mask::empty(either.width(), either.height());
        let truth_mask = t.map_or(&empty, |i| &truth[i].1);
        let pred_mask = p.map_or(&empty, |i| &pred[i].1);
        // Object folders of one frame may differ in size; the references do not mind.
        if !scorer.as_ref().is_some_and(|s| s.fits(either.width(), either.height())) {
            *scorer = Some(FrameScorer::new(either.width(), either.height(), options.boundary_threshold));
        }
        let Some(scorer) = scorer else { continue };
        let (score, mosev2) = match protocol {
            Protocol::MoseV2 => {
                let (counts, frame) = scorer.mosev2(pred_mask, truth_mask);
                (FrameScore { j: frame.j, f: frame.f, ..counts.score() }, Some(frame))
            }
            _ => (scorer.score(pred_mask, truth_mask), None),
        };
        let taken_for = taken_for(&score, pred_mask, key, &truth);
        let boundary_iou = options.boundary_iou.then(|| boundary_iou(pred_mask, truth_mask));
        scored.push(Scored { key, score, mosev2, boundary_iou, taken_for });
    }
    Ok(scored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_has_as_many_threads_as_were_asked_for() {
        for threads in [1, 3] {
            assert_eq!(on_threads(Some(threads), rayon::current_num_threads), Ok(threads));
        }
        assert_eq!(on_threads(None, rayon::current_num_threads), Ok(rayon::current_num_threads()));
    }
}
