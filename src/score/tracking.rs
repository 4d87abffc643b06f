//! Do tracks keep to their objects? HOTA, CLEAR MOT and identity scores of masks, as TrackEval 1.3.0 computes them, sums in its order so
//! that the last bit agrees. Similarity is the IoU of masks. HOTA: Luiten et al., IJCV 2021; CLEAR: Bernardin & Stiefelhagen 2008;
//! identity: Ristani et al. 2016.

mod clear;
mod crossing;
pub(super) mod labels;
mod mots;

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::pairwise_sum;
use super::predicted::Predicted;
use crate::dataset::{DataError, directories, entries, read_list};
use jetbench_runners::assignment::assign;

pub use clear::Clear;
pub(crate) use clear::{Switch, switches};

/// Thresholds of HOTA: 0.05 to 0.95.
pub const ALPHAS: usize = 19;
/// A pair counts from this IoU on, for CLEAR and identity.
const THRESHOLD: f64 = 0.5;

/// Threshold number `i` of HOTA, as numpy's arange gives it.
fn alpha(i: usize) -> f64 {
    let step = (0.05 + 0.05) - 0.05;
    0.05 + i as f64 * step
}

/// Who is there on one frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scene {
    /// Objects of the truth, as indices, ascending.
    pub truth: Vec<usize>,
    /// Tracks, as indices, ascending.
    pub tracks: Vec<usize>,
    /// IoU of every object with every track, a row per object.
    pub iou: Vec<f64>,
}

impl Scene {
    fn at(&self, object: usize, track: usize) -> f64 {
        self.iou[object * self.tracks.len() + track]
    }

    /// Pairs of places (not indices) at the largest sum of `score`.
    fn matched(&self, score: impl Fn(usize, usize) -> f64) -> Vec<(usize, usize)> {
        let (rows, columns) = (self.truth.len(), self.tracks.len());
        let cost = (0..rows * columns).map(|i| -score(i / columns, i % columns)).collect();
        assign(rows, columns, &cost)
    }
}

/// One video.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrackedVideo {
    /// Name.
    pub name: String,
    /// Objects that ever occur.
    pub objects: usize,
    /// Tracks that ever occur.
    pub tracks: usize,
    /// Frames in order.
    pub frames: Vec<Scene>,
}

impl TrackedVideo {
    fn detections(&self) -> (usize, usize) {
        (self.frames.iter().map(|f| f.truth.len()).sum(), self.frames.iter().map(|f| f.tracks.len()).sum())
    }

    /// Frames on which each object, and each track, is there.
    fn presence(&self) -> (Vec<f64>, Vec<f64>) {
        let (mut objects, mut tracks) = (vec![0.0; self.objects], vec![0.0; self.tracks]);
        for frame in &self.frames {
            frame.truth.iter().for_each(|o| objects[*o] += 1.0);
            frame.tracks.iter().for_each(|t| tracks[*t] += 1.0);
        }
        (objects, tracks)
    }
}

/// Scores of one video or of all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrackingScore {
    /// HOTA and its parts.
    pub hota: Hota,
    /// CLEAR MOT.
    pub clear: Clear,
    /// Identity scores.
    pub identity: Identity,
    /// Frames, objects, tracks, and on how many frames they are there in all.
    pub count: Count,
}

/// What there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Frames.
    pub frames: usize,
    /// Objects of the truth.
    pub objects: usize,
    /// Tracks.
    pub tracks: usize,
    /// Masks of the truth.
    pub truth_masks: usize,
    /// Predicted masks.
    pub track_masks: usize,
}

/// HOTA at every threshold. Shares are 0..1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hota {
    /// sqrt(DetA x AssA).
    pub hota: Vec<f64>,
    /// Detection accuracy: TP / (TP + FN + FP).
    pub det_a: Vec<f64>,
    /// Association accuracy.
    pub ass_a: Vec<f64>,
    /// Detection recall.
    pub det_re: Vec<f64>,
    /// Detection precision.
    pub det_pr: Vec<f64>,
    /// Association recall.
    pub ass_re: Vec<f64>,
    /// Association precision.
    pub ass_pr: Vec<f64>,
    /// Mean IoU of the pairs.
    pub loc_a: Vec<f64>,
    /// sqrt(DetRe x AssA).
    pub owta: Vec<f64>,
    /// Pairs.
    pub tp: Vec<f64>,
    /// Masks of the truth without a partner.
    pub fn_: Vec<f64>,
    /// Predicted masks without a partner.
    pub fp: Vec<f64>,
}

/// Identity scores at an IoU of 0.5: objects and tracks are paired once for the whole video.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// F1 of identities.
    pub idf1: f64,
    /// Recall.
    pub idr: f64,
    /// Precision.
    pub idp: f64,
    /// Frames on which pairs agree.
    pub idtp: f64,
    /// Frames of objects that do not.
    pub idfn: f64,
    /// Frames of tracks that do not.
    pub idfp: f64,
}

/// What is compared by `--protocol hota`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackingOptions {
    /// Folder with a folder of label maps, or with a MOTS file, per video; or a dataset's root.
    pub truth: PathBuf,
    /// The same of the tracks.
    pub pred: PathBuf,
    /// Text file with the videos to score.
    pub list: Option<PathBuf>,
    /// Take void pixels out of the tracks, which TrackEval does not.
    pub remove_void: bool,
}

/// Scores of a dataset.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrackingReport {
    /// Schema number of the JSON form.
    pub schema: u32,
    /// Always `hota`.
    pub protocol: &'static str,
    /// Truth as given.
    pub truth: String,
    /// Tracks as given.
    pub pred: String,
    /// All videos together.
    pub combined: TrackingScore,
    /// Per video, in order.
    pub videos: Vec<VideoTracking>,
    /// What the reader should know.
    pub notes: Vec<String>,
}

/// Scores of one video.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VideoTracking {
    /// Video.
    pub video: String,
    /// Its scores.
    #[serde(flatten)]
    pub score: TrackingScore,
}

/// What became of a video.
struct Read {
    score: TrackingScore,
    /// Its truth has void pixels.
    void: bool,
    /// Its name, and what its files hold instead, where there is no object or no track.
    no_object: Option<String>,
    no_track: Option<String>,
}

/// Scores tracks against truth, both as label maps or as MOTS text.
///
/// # Errors
/// What is missing or does not fit: names the file and its line.
pub fn track(options: &TrackingOptions) -> Result<TrackingReport, DataError> {
    let fail = |path: &Path, what: &str| Err(DataError(format!("{}: {what}", path.display())));
    for (path, what) in [(&options.truth, "ground truth"), (&options.pred, "tracks")] {
        if !path.is_dir() {
            return fail(path, &format!("no such directory ({what})"));
        }
    }
    let inside = ["Annotations_unsupervised/480p", "Annotations/480p", "Annotations"].map(|p| options.truth.join(p));
    let truth = inside.into_iter().find(|p| p.is_dir()).unwrap_or_else(|| options.truth.clone());
    let data = options.pred.join("data");
    let pred = if data.is_dir() { data } else { options.pred.clone() };
    let text = |name: &str| {
        [truth.join(name).join("gt/gt.txt"), truth.join(format!("{name}.txt"))].into_iter().find(|p| p.is_file())
    };
    let names = match &options.list {
        Some(list) => read_list(list)?,
        None => {
            let mut names = directories(&truth)?;
            names.extend(entries(&truth)?.iter().filter_map(|n| n.strip_suffix(".txt").map(str::to_string)));
            names.sort_unstable();
            if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
                return fail(&truth, &format!("both {0}/ and {0}.txt are there: which is the truth?", twice[0]));
            }
            names
        }
    };
    if names.is_empty() {
        return fail(&truth, "no video in it: neither folders of label maps nor MOTS text files");
    }
    let read = |name: &String| -> Result<Read, DataError> {
        let (video, others, void) = match text(name) {
            Some(file) => {
                let length = mots::length(&truth.join(name))?;
                let (video, others) = mots::read(name, &file, &pred.join(format!("{name}.txt")), length)?;
                (video, others, false)
            }
            None => {
                let tracks = Predicted::of_video(&pred, name)?;
                let (video, void) = labels::read(name, &truth.join(name), &tracks, options.remove_void)?;
                (video, Default::default(), void)
            }
        };
        let [in_truth, in_tracks] = others.map(|others| format!("{name}{others}"));
        Ok(Read {
            no_object: (video.objects == 0).then_some(in_truth),
            no_track: (video.tracks == 0).then_some(in_tracks),
            void,
            score: TrackingScore::of(&video),
        })
    };
    let read: Vec<Result<Read, DataError>> = names.par_iter().map(read).collect();
    let (mut videos, mut notes, mut void) = (Vec::new(), Vec::new(), Vec::new());
    let (mut no_object, mut no_track) = (Vec::new(), Vec::new());
    for (name, read) in names.into_iter().zip(read) {
        let read = read?;
        void.extend(read.void.then(|| name.clone()));
        no_object.extend(read.no_object);
        no_track.extend(read.no_track);
        videos.push(VideoTracking { video: name, score: read.score });
    }
    if !void.is_empty() && !options.remove_void {
        notes.push(format!(
            "void pixels (255) are in the truth of {}; tracks keep theirs there, as in TrackEval, which costs IoU; --remove-void takes them out",
            void.join(", ")
        ));
    }
    // A right score of 0 does not tell that there was nothing to score.
    if !no_object.is_empty() {
        notes.push(format!("no object in the truth of {}: every track there counts as wrong", no_object.join(", ")));
    }
    if !no_track.is_empty() {
        notes.push(format!(
            "no track in the predictions of {}: every object there counts as missed",
            no_track.join(", ")
        ));
    }
    let combined = TrackingScore::over(&videos.iter().map(|v| &v.score).collect::<Vec<_>>());
    let shown = |path: &Path| path.display().to_string();
    Ok(TrackingReport {
        schema: 1,
        protocol: "hota",
        truth: shown(&options.truth),
        pred: shown(&options.pred),
        combined,
        videos,
        notes,
    })
}

impl TrackingScore {
    /// Scores of one video.
    pub fn of(video: &TrackedVideo) -> TrackingScore {
        let (truth_masks, track_masks) = video.detections();
        TrackingScore {
            hota: Hota::of(video),
            clear: Clear::of(video),
            identity: Identity::of(video),
            count: Count {
                frames: video.frames.len(),
                objects: video.objects,
                tracks: video.tracks,
                truth_masks,
                track_masks,
            },
        }
    }

    /// Scores of all videos together: counts are added up and shares made from them.
    pub fn over(videos: &[&TrackingScore]) -> TrackingScore {
        let sum = |get: fn(&Count) -> usize| videos.iter().map(|v| get(&v.count)).sum();
        TrackingScore {
            hota: Hota::over(&videos.iter().map(|v| &v.hota).collect::<Vec<_>>()),
            clear: Clear::over(&videos.iter().map(|v| &v.clear).collect::<Vec<_>>()),
            identity: Identity::over(&videos.iter().map(|v| &v.identity).collect::<Vec<_>>()),
            count: Count {
                frames: sum(|c| c.frames),
                objects: sum(|c| c.objects),
                tracks: sum(|c| c.tracks),
                truth_masks: sum(|c| c.truth_masks),
                track_masks: sum(|c| c.track_masks),
            },
        }
    }
}

impl Hota {
    /// Mean over the thresholds: the figure that is quoted.
    pub fn mean(values: &[f64]) -> f64 {
        pairwise_sum(values) / values.len() as f64
    }

    fn of(video: &TrackedVideo) -> Hota {
        let (truths, tracks) = video.detections();
        let same = |v: f64| vec![v; ALPHAS];
        let mut at = Hota { tp: same(0.0), fn_: same(0.0), fp: same(0.0), loc_a: same(0.0), ..Hota::default() };
        if truths == 0 || tracks == 0 {
            at = Hota { fn_: same(truths as f64), fp: same(tracks as f64), loc_a: same(1.0), ..at };
            (at.ass_a, at.ass_re, at.ass_pr) = (same(0.0), same(0.0), same(0.0));
            return at.finished();
        }
        let (objects, n) = (video.objects, video.tracks);
        let (truth_count, track_count) = video.presence();
        let alignment = alignment(video, &truth_count, &track_count);
        let mut matches = vec![vec![0.0; objects * n]; ALPHAS];
        for frame in &video.frames {
            let (there, tracked) = (frame.truth.len(), frame.tracks.len());
            let pairs = match there.min(tracked) {
                0 => Vec::new(),
                _ => frame.matched(|o, t| alignment[frame.truth[o] * n + frame.tracks[t]] * frame.at(o, t)),
            };
            for (a, matches) in matches.iter_mut().enumerate() {
                let counted = pairs.iter().filter(|(o, t)| frame.at(*o, *t) >= alpha(a) - f64::EPSILON);
                let (mut found, mut sum) = (0, 0.0);
                for &(o, t) in counted {
                    found += 1;
                    sum += frame.at(o, t);
                    matches[frame.truth[o] * n + frame.tracks[t]] += 1.0;
                }
                at.tp[a] += f64::from(found);
                at.fn_[a] += there as f64 - f64::from(found);
                at.fp[a] += tracked as f64 - f64::from(found);
                at.loc_a[a] += sum;
            }
        }
        for (a, matches) in matches.iter().enumerate() {
            let share = |of: &dyn Fn(usize, f64) -> f64| {
                let weighted: Vec<f64> =
                    matches.iter().enumerate().map(|(i, m)| m * (m / of(i, *m).max(1.0))).collect();
                pairwise_sum(&weighted) / at.tp[a].max(1.0)
            };
            at.ass_a.push(share(&|i, m| truth_count[i / n] + track_count[i % n] - m));
            at.ass_re.push(share(&|i, _| truth_count[i / n]));
            at.ass_pr.push(share(&|i, _| track_count[i % n]));
            at.loc_a[a] = at.loc_a[a].max(1e-10) / at.tp[a].max(1e-10);
        }
        at.finished()
    }

    fn over(videos: &[&Hota]) -> Hota {
        let sum = |get: fn(&Hota) -> &Vec<f64>| -> Vec<f64> {
            (0..ALPHAS).map(|a| videos.iter().fold(0.0, |sum, v| sum + get(v)[a])).collect()
        };
        let mut all = Hota { tp: sum(|h| &h.tp), fn_: sum(|h| &h.fn_), fp: sum(|h| &h.fp), ..Hota::default() };
        let weighted = |get: fn(&Hota) -> &Vec<f64>| -> Vec<f64> {
            (0..ALPHAS).map(|a| videos.iter().fold(0.0, |sum, v| sum + get(v)[a] * v.tp[a])).collect()
        };
        let per_pair = |sums: Vec<f64>| sums.iter().zip(&all.tp).map(|(s, tp)| s / tp.max(1.0)).collect();
        let (ass_re, ass_pr, ass_a) =
            (per_pair(weighted(|h| &h.ass_re)), per_pair(weighted(|h| &h.ass_pr)), per_pair(weighted(|h| &h.ass_a)));
        let loc_a = weighted(|h| &h.loc_a).iter().zip(&all.tp).map(|(s, tp)| s.max(1e-10) / tp.max(1e-10)).collect();
        (all.ass_re, all.ass_pr, all.ass_a, all.loc_a) = (ass_re, ass_pr, ass_a, loc_a);
        all.finished()
    }

    /// What follows from counts and association.
    fn finished(mut self) -> Hota {
        for a in 0..ALPHAS {
            let (tp, fn_, fp) = (self.tp[a], self.fn_[a], self.fp[a]);
            self.det_re.push(tp / (tp + fn_).max(1.0));
            self.det_pr.push(tp / (tp + fp).max(1.0));
            self.det_a.push(tp / (tp + fn_ + fp).max(1.0));
            self.hota.push((self.det_a[a] * self.ass_a[a]).sqrt());
            self.owta.push((self.det_re[a] * self.ass_a[a]).sqrt());
        }
        self
    }
}

/// How well each object and each track go together over the whole video: a soft count of shared frames over all their frames.
fn alignment(video: &TrackedVideo, truth_count: &[f64], track_count: &[f64]) -> Vec<f64> {
    let n = video.tracks;
    let mut shared = vec![0.0; video.objects * n];
    for frame in &video.frames {
        let tracked = frame.tracks.len();
        // pycocotools gives columns one after the other: numpy sums over objects pairwise and over tracks in order.
        let over_objects: Vec<f64> = (0..tracked)
            .map(|t| pairwise_sum(&(0..frame.truth.len()).map(|o| frame.at(o, t)).collect::<Vec<_>>()))
            .collect();
        for (o, object) in frame.truth.iter().enumerate() {
            let over_tracks = (0..tracked).fold(0.0, |sum, t| sum + frame.at(o, t));
            for (t, track) in frame.tracks.iter().enumerate() {
                let iou = frame.at(o, t);
                let either = over_objects[t] + over_tracks - iou;
                if either > f64::EPSILON {
                    shared[object * n + track] += iou / either;
                }
            }
        }
    }
    let of = |(i, shared): (usize, &f64)| shared / (truth_count[i / n] + track_count[i % n] - shared);
    shared.iter().enumerate().map(of).collect()
}

impl Identity {
    fn of(video: &TrackedVideo) -> Identity {
        let (truths, tracks) = video.detections();
        if truths == 0 || tracks == 0 {
            return Identity { idfn: truths as f64, idfp: tracks as f64, ..Identity::default() }.finished();
        }
        let (m, n) = (video.objects, video.tracks);
        let (truth_count, track_count) = video.presence();
        let mut shared = vec![0.0; m * n];
        for frame in &video.frames {
            for (o, object) in frame.truth.iter().enumerate() {
                for (t, track) in frame.tracks.iter().enumerate() {
                    shared[object * n + track] += f64::from(u8::from(frame.at(o, t) >= THRESHOLD));
                }
            }
        }
        // Every object may stay without a track, and every track without an object.
        const NEVER: f64 = 1e10;
        let missed = |row: usize, column: usize| match (row < m, column < n) {
            (true, true) => truth_count[row] - shared[row * n + column],
            (true, false) if column - n == row => truth_count[row],
            (true, false) => NEVER,
            (false, _) => 0.0,
        };
        let wrong = |row: usize, column: usize| match (row < m, column < n) {
            (true, true) => track_count[column] - shared[row * n + column],
            (false, true) if row - m == column => track_count[column],
            (false, true) => NEVER,
            (_, false) => 0.0,
        };
        let side = m + n;
        let cost = (0..side * side).map(|i| missed(i / side, i % side) + wrong(i / side, i % side)).collect();
        let pairs = assign(side, side, &cost);
        let idfn: f64 = pairs.iter().map(|(r, c)| missed(*r, *c)).sum();
        let idfp = pairs.iter().map(|(r, c)| wrong(*r, *c)).sum();
        Identity { idfn, idfp, idtp: truth_count.iter().sum::<f64>() - idfn, ..Identity::default() }.finished()
    }

    fn over(videos: &[&Identity]) -> Identity {
        let sum = |get: fn(&Identity) -> f64| videos.iter().fold(0.0, |sum, v| sum + get(v));
        let (idtp, idfn, idfp) = (sum(|i| i.idtp), sum(|i| i.idfn), sum(|i| i.idfp));
        Identity { idtp, idfn, idfp, ..Identity::default() }.finished()
    }

    fn finished(self) -> Identity {
        Identity {
            idr: self.idtp / (self.idtp + self.idfn).max(1.0),
            idp: self.idtp / (self.idtp + self.idfp).max(1.0),
            idf1: self.idtp / (self.idtp + 0.5 * self.idfp + 0.5 * self.idfn).max(1.0),
            ..self
        }
    }
}
