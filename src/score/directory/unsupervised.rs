//! DAVIS 2017 unsupervised: proposals that nobody prompted, matched with the objects of the first frame so that the sum of J and F is
//! largest. Every frame counts; proposals without a partner cost nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jetbench_runners::types::Mask;
use rayon::prelude::*;

use super::beside::Pairing;
use super::find::{Faults, Unit, Video, shorten};
use super::options::ScoreOptions;
use super::report::{ObjectScore, ScoreReport, davis_object, report};
use crate::dataset::{DataError, directories, entries, read_list};
use crate::score::label_pair;
use crate::score::predicted::Predicted;
use crate::score::protocol::{Protocol, mean};
use crate::score::{FrameScore, FrameScorer};
use jetbench_runners::assignment::assign;

/// Proposals at most, as in the reference.
pub(crate) const MOST_PROPOSALS: u32 = 20;
/// Objects at most: ids of its label maps, which have 8 bits.
pub(crate) const MOST_OBJECTS: usize = 255;
const PROTOCOL: Protocol = Protocol::Davis2017Unsup;

/// Scores the label maps below `options.pred` against those below `options.truth`.
///
/// # Errors
/// Everything that is missing or does not fit.
pub(super) fn score(
    options: &ScoreOptions,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<ScoreReport, DataError> {
    let (root, images, list) = annotations(&options.truth)?;
    let list = options.list.clone().or(list);
    let names = match &list {
        Some(list) => read_list(list)?,
        None => directories(&root)?,
    };
    let (mut faults, mut notes) = (Faults::default(), Vec::new());
    let mut videos = Vec::new();
    for name in names {
        match find(&name, &root, images.as_deref(), options) {
            Ok(unit) => videos.push(Video { name, units: vec![unit], predicted: true }),
            Err(what) => faults.0.extend(what),
        }
    }
    if videos.is_empty() && faults.0.is_empty() {
        return Err(DataError(format!("{}: no video folder in it; give the dataset's root", root.display())));
    }
    if !faults.0.is_empty() {
        return Err(faults.into_error(options));
    }
    let all = videos.iter().map(|v| v.units[0].files.len()).sum();
    let (mut done, mut objects) = (0, Vec::new());
    for video in &videos {
        progress(done, all);
        match score_video(video, options) {
            Ok(rows) if rows.is_empty() => {
                notes.push(format!("video {}: no object in the first annotation, so it has no score", video.name))
            }
            Ok(rows) => objects.extend(rows),
            Err(fault) => faults.0.push(fault.0),
        }
        done += video.units[0].files.len();
    }
    progress(all, all);
    if faults.0.is_empty() && objects.is_empty() {
        faults.0.push("no first annotation shows an object: there is nothing to score".into());
    }
    if !faults.0.is_empty() {
        return Err(faults.into_error(options));
    }
    Ok(report(options, PROTOCOL, None, &videos, objects, None, notes))
}

/// The folder of annotations; that of the images and the list of videos, where the dataset's root was given.
fn annotations(given: &Path) -> Result<(PathBuf, Option<PathBuf>, Option<PathBuf>), DataError> {
    if !given.is_dir() {
        return Err(DataError(format!("{}: no such directory (ground truth)", given.display())));
    }
    for resolution in ["480p", "Full-Resolution"] {
        let root = given.join("Annotations_unsupervised").join(resolution);
        if root.is_dir() {
            let images = given.join("JPEGImages").join(resolution);
            let list = given.join("ImageSets/2017/val.txt");
            return Ok((root, Some(images).filter(|p| p.is_dir()), Some(list).filter(|p| p.is_file())));
        }
    }
    if given.join("Annotations").is_dir() {
        return Err(DataError(format!(
            "{}: there is no Annotations_unsupervised in it; DAVIS's unsupervised task has annotations of its own",
            given.display()
        )));
    }
    Ok((given.to_path_buf(), None, None))
}

/// Files of one video, or what is wrong with them.
fn find(name: &str, root: &Path, images: Option<&Path>, options: &ScoreOptions) -> Result<Unit, Vec<String>> {
    let truth = root.join(name);
    let pred = Predicted::of_video(&options.pred, name).map_err(|e| vec![e.0])?;
    let pngs = |dir: &Path| label_pair::pngs(dir).map_err(|e| vec![e.0]);
    let files = pngs(&truth)?;
    if files.is_empty() {
        return Err(vec![format!("{}: the video has no annotation", truth.display())]);
    }
    if let Some(dir) = images.map(|images| images.join(name)) {
        let count = entries(&dir).map_err(|e| vec![e.0])?.iter().filter(|n| n.ends_with(".jpg")).count();
        if count == 0 || count > files.len() {
            return Err(vec![format!(
                "{}: {count} images, but {} annotations; DAVIS's unsupervised task has one for each image",
                dir.display(),
                files.len()
            )]);
        }
    }
    let there: BTreeSet<String> = match pred.is_there() {
        true => label_pair::only_pngs(pred.files().map_err(|e| vec![e.0])?).into_iter().collect(),
        false => return Err(vec![format!("no predictions for video {name}: {pred} is missing")]),
    };
    let missing: Vec<&str> = files.iter().filter(|f| !there.contains(*f)).map(String::as_str).collect();
    if !missing.is_empty() {
        let (n, of) = (missing.len(), files.len());
        return Err(vec![format!("{pred}: {n} of {of} frames missing: {}", shorten(&missing))]);
    }
    Ok(Unit { object: None, truth, pred, evaluated: 0..files.len(), files })
}

/// Both label maps of one frame, without the pixels that are void.
pub(crate) struct Frame {
    pub(crate) size: (u32, u32),
    pub(crate) truth: Vec<(u16, Mask)>,
    pub(crate) pred: Vec<(u16, Mask)>,
}

/// The largest id, which counts the objects or proposals of a frame.
pub(crate) fn highest(masks: &[(u16, Mask)]) -> usize {
    masks.iter().map(|(id, _)| usize::from(*id)).max().unwrap_or(0)
}

/// Scores of every proposal with every object on every frame.
pub(crate) struct Grid<'a> {
    /// Per frame a row per proposal, as [`pairs`] gives them.
    pub(crate) frames: &'a [Vec<FrameScore>],
    pub(crate) objects: usize,
}

impl Grid<'_> {
    pub(crate) fn series(&self, proposal: usize, object: usize) -> Vec<FrameScore> {
        self.frames.iter().map(|scores| scores[proposal * self.objects + object]).collect()
    }

    /// Pairs of these proposals (as places in the list) and objects at the largest sum of J and F.
    pub(crate) fn assigned(&self, proposals: &[usize]) -> Vec<(usize, usize)> {
        let over = |series: &[FrameScore], value: fn(&FrameScore) -> f64| {
            mean(&series.iter().map(value).collect::<Vec<_>>()).expect("frames")
        };
        let mut cost = Vec::with_capacity(proposals.len() * self.objects);
        for p in proposals {
            cost.extend((0..self.objects).map(|k| {
                let series = self.series(*p, k);
                -((over(&series, |s| s.j) + over(&series, |s| s.f)) / 2.0)
            }));
        }
        assign(proposals.len(), self.objects, &cost)
    }
}

fn read(unit: &Unit, file: &str) -> Result<Frame, DataError> {
    let (mut truth, mut pred) = label_pair::read(&unit.truth, &unit.pred, file)?;
    if let Some((id, _)) = pred.masks.iter().find(|(id, _)| u32::from(*id) > MOST_PROPOSALS) {
        return Err(DataError(format!(
            "{}: id {id}; DAVIS takes ids 1 to {MOST_PROPOSALS}, so keep the {MOST_PROPOSALS} best tracks and number them from 1",
            unit.pred.place(file)
        )));
    }
    if let Some(void) = label_pair::take_void(&mut truth.masks) {
        truth.masks.iter_mut().chain(&mut pred.masks).for_each(|(_, mask)| mask.subtract(&void));
    }
    Ok(Frame { size: (truth.width, truth.height), truth: truth.masks, pred: pred.masks })
}

/// Rows of one video in the reference's order; none when its first annotation shows no object.
fn score_video(video: &Video, options: &ScoreOptions) -> Result<Vec<ObjectScore>, DataError> {
    let unit = &video.units[0];
    let frames: Vec<Frame> = unit.files.par_iter().map(|file| read(unit, file)).collect::<Result<_, _>>()?;
    let objects = highest(&frames[0].truth);
    if objects == 0 {
        return Ok(Vec::new());
    }
    if objects > MOST_OBJECTS {
        let file = unit.truth.join(&unit.files[0]);
        return Err(DataError(format!(
            "{}: id {objects}; DAVIS's label maps have ids 1 to {MOST_OBJECTS}, and every one up to the highest counts as an object",
            file.display()
        )));
    }
    // The reference pads with empty proposals up to the number of objects.
    let proposals = frames.iter().map(|f| highest(&f.pred)).max().unwrap_or(0).max(objects);
    let scores: Vec<Vec<FrameScore>> = frames
        .par_iter()
        .map_init(|| None, |scorer, frame| pairs(frame, proposals, objects, options.boundary_threshold, scorer))
        .collect();
    let grid = Grid { frames: &scores, objects };
    let names: Vec<&str> = unit.files.iter().map(|f| f.strip_suffix(".png").unwrap_or(f)).collect();
    let pairs = grid.assigned(&(0..proposals).collect::<Vec<_>>());
    Ok(pairs
        .into_iter()
        .enumerate()
        .map(|(rank, (p, k))| {
            let pairing = Pairing { proposal: p as u32 + 1, truth_object: k as u32 + 1 };
            davis_object(
                &video.name,
                (rank + 1).to_string(),
                &grid.series(p, k),
                &names,
                Some(pairing),
                options.per_frame,
            )
        })
        .collect())
}

/// J and F of every proposal with every object on one frame, a row per proposal.
pub(crate) fn pairs(
    frame: &Frame,
    proposals: usize,
    objects: usize,
    threshold: f64,
    scorer: &mut Option<FrameScorer>,
) -> Vec<FrameScore> {
    let (width, height) = frame.size;
    if !scorer.as_ref().is_some_and(|s| s.fits(width, height)) {
        *scorer = Some(FrameScorer::new(width, height, threshold));
    }
    let scorer = scorer.as_mut().expect("just made");
    let empty = Mask::empty(width, height);
    let find = |masks: &'_ [(u16, Mask)], id: usize| masks.iter().position(|(i, _)| usize::from(*i) == id);
    let mut scores = Vec::with_capacity(proposals * objects);
    // What an absent partner makes of a mask is the same for all absent ones.
    let alone = |scorer: &mut FrameScorer, masks: &[(u16, Mask)], pred: bool| -> Vec<FrameScore> {
        let score = |(_, mask): &(u16, Mask)| match pred {
            true => scorer.score(mask, &empty),
            false => scorer.score(&empty, mask),
        };
        masks.iter().map(score).collect()
    };
    let (pred_alone, truth_alone) = (alone(scorer, &frame.pred, true), alone(scorer, &frame.truth, false));
    for p in 1..=proposals {
        let p = find(&frame.pred, p);
        scores.extend((1..=objects).map(|k| match (p, find(&frame.truth, k)) {
            (Some(p), Some(k)) => scorer.score(&frame.pred[p].1, &frame.truth[k].1),
            (Some(p), None) => pred_alone[p],
            (None, Some(k)) => truth_alone[k],
            (None, None) => FrameScore { j: 1.0, f: 1.0, pred_empty: true, truth_empty: true },
        }));
    }
    scores
}
