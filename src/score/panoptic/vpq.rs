//! Video panoptic quality. Within a window of consecutive frames, the pixels of one id are one tube; a tube of the truth and one of the
//! prediction of the same category match when their IoU is above one half. Over all windows of all videos, per category:
//!
//! `PQ = sum of matched IoU / (TP + FP/2 + FN/2)`, and the mean over categories that have any of the three.
//!
//! As the evaluator has it: a tube has the category of the window's first frame on which it shows; pixels that are void in the truth do not
//! count in an IoU's union; a predicted tube is no FP when more than half of it lies on void or on a crowd of its category (the
//! last one listed, where there are several); a crowd is never matched nor missed; a video shorter than the window has none.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::WINDOWS;
use super::counts::VideoCounts;
use super::frame::{PanopticFrame, Pixels};
use crate::dataset::panoptic_truth::{PanopticCategory, Segment, VOID};

/// Scores at one length of windows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WindowPq {
    /// Frames per window.
    pub frames: usize,
    /// Mean over all categories; `None`: none of them occurs.
    pub all: Option<PartPq>,
    /// Over things.
    pub things: Option<PartPq>,
    /// Over stuff.
    pub stuff: Option<PartPq>,
    /// By category, in the order of the truth's file.
    pub classes: Vec<ClassPq>,
}

/// Means over categories, 0..1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PartPq {
    /// Panoptic quality.
    pub pq: f64,
    /// Segmentation quality: mean IoU of the pairs.
    pub sq: f64,
    /// Recognition quality: their F1.
    pub rq: f64,
    /// Categories that occur.
    pub classes: usize,
}

/// One category; qualities are `None` where it does not occur.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassPq {
    /// Id in the truth's file.
    pub id: u32,
    /// Name.
    pub name: String,
    /// Is it a thing?
    pub thing: bool,
    /// Panoptic quality, 0..1.
    pub pq: Option<f64>,
    /// Segmentation quality, 0..1.
    pub sq: Option<f64>,
    /// Recognition quality, 0..1.
    pub rq: Option<f64>,
    /// Sum of the pairs' IoU.
    pub iou: f64,
    /// Pairs.
    pub tp: u64,
    /// Predicted tubes without a partner.
    pub fp: u64,
    /// Tubes of the truth without a partner.
    #[serde(rename = "fn")]
    pub fn_: u64,
}

/// Counts of one category.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Sum of the pairs' IoU.
    pub iou: f64,
    /// Pairs.
    pub tp: u64,
    /// Predicted tubes without a partner.
    pub fp: u64,
    /// Tubes of the truth without a partner.
    #[serde(rename = "fn")]
    pub fn_: u64,
}

/// Counts of a video at windows of `length` frames, by place of the category, of which there are `categories`.
pub(super) fn of_video(frames: &[PanopticFrame], categories: usize, length: usize) -> Vec<Tally> {
    let mut tally = vec![Tally::default(); categories];
    frames.windows(length).for_each(|frames| add_window(&mut tally, frames));
    tally
}

/// Scores at the windows whose length is `WINDOWS[n]`. Categories are given with their places.
pub(super) fn window(categories: &[(usize, PanopticCategory)], videos: &[&VideoCounts], n: usize) -> WindowPq {
    // Summed by video first, as the evaluator's processes do.
    let total = |place: usize| {
        let own = videos.iter().filter_map(|video| video.categories.get(&place)).map(|counts| counts.windows[n]);
        own.fold(Tally::default(), |sum, own| Tally {
            iou: sum.iou + own.iou,
            tp: sum.tp + own.tp,
            fp: sum.fp + own.fp,
            fn_: sum.fn_ + own.fn_,
        })
    };
    let classes: Vec<ClassPq> =
        categories.iter().map(|(place, category)| ClassPq::of(category, &total(*place))).collect();
    let part = |wanted: fn(&ClassPq) -> bool| PartPq::of(classes.iter().filter(|c| wanted(c)));
    let (all, things, stuff) = (part(|_| true), part(|c| c.thing), part(|c| !c.thing));
    WindowPq { frames: WINDOWS[n], all, things, stuff, classes }
}

impl ClassPq {
    fn of(category: &PanopticCategory, tally: &Tally) -> ClassPq {
        let Tally { iou, tp, fp, fn_ } = *tally;
        let occurs = tp + fp + fn_ > 0;
        let weight = tp as f64 + 0.5 * fp as f64 + 0.5 * fn_ as f64;
        ClassPq {
            id: category.id,
            name: category.name.clone(),
            thing: category.thing,
            pq: occurs.then(|| iou / weight),
            sq: occurs.then(|| if tp > 0 { iou / tp as f64 } else { 0.0 }),
            rq: occurs.then(|| tp as f64 / weight),
            iou,
            tp,
            fp,
            fn_,
        }
    }
}

impl PartPq {
    fn of<'a>(classes: impl Iterator<Item = &'a ClassPq>) -> Option<PartPq> {
        let mut sum = PartPq { pq: 0.0, sq: 0.0, rq: 0.0, classes: 0 };
        for class in classes {
            let (Some(pq), Some(sq), Some(rq)) = (class.pq, class.sq, class.rq) else { continue };
            sum = PartPq { pq: sum.pq + pq, sq: sum.sq + sq, rq: sum.rq + rq, classes: sum.classes + 1 };
        }
        let n = sum.classes as f64;
        (sum.classes > 0).then(|| PartPq { pq: sum.pq / n, sq: sum.sq / n, rq: sum.rq / n, ..sum })
    }
}

/// Tubes of one side within a window, in the order in which they first show.
struct Tubes {
    all: Vec<Segment>,
    place: HashMap<u32, usize>,
}

impl Tubes {
    fn of(frames: &[PanopticFrame], side: fn(&PanopticFrame) -> &Vec<Segment>) -> Tubes {
        let mut tubes = Tubes { all: Vec::new(), place: HashMap::new() };
        for segment in frames.iter().flat_map(side) {
            match tubes.place.get(&segment.id) {
                Some(at) => tubes.all[*at].area += segment.area,
                None => {
                    tubes.place.insert(segment.id, tubes.all.len());
                    tubes.all.push(*segment);
                }
            }
        }
        tubes
    }

    fn get(&self, id: u32) -> Option<&Segment> {
        self.place.get(&id).map(|at| &self.all[*at])
    }
}

/// Pixels of each pair of ids in a window, ascending.
fn pairs(frames: &[PanopticFrame]) -> Vec<Pixels> {
    let mut all: Vec<Pixels> = frames.iter().flat_map(|f| f.pairs.iter().copied()).collect();
    all.sort_unstable();
    all.dedup_by(|next, kept| {
        let same = (next.truth, next.pred) == (kept.truth, kept.pred);
        kept.count += if same { next.count } else { 0 };
        same
    });
    all
}

fn add_window(tally: &mut [Tally], frames: &[PanopticFrame]) {
    let (truth, pred) = (Tubes::of(frames, |f| &f.truth), Tubes::of(frames, |f| &f.pred));
    let pairs = pairs(frames);
    let shared = |truth: u32, pred: u32| {
        let found = pairs.binary_search_by_key(&(truth, pred), |p| (p.truth, p.pred));
        found.map_or(0, |at| pairs[at].count)
    };
    let (mut matched_truth, mut matched_pred) = (HashSet::new(), HashSet::new());
    for pair in &pairs {
        let (Some(t), Some(p)) = (truth.get(pair.truth), pred.get(pair.pred)) else { continue };
        if t.crowd || t.category != p.category {
            continue;
        }
        let union = p.area + t.area - pair.count - shared(VOID, p.id);
        let iou = pair.count as f64 / union as f64;
        if iou > 0.5 {
            tally[t.category].tp += 1;
            tally[t.category].iou += iou;
            matched_truth.insert(t.id);
            matched_pred.insert(p.id);
        }
    }
    let mut crowds: HashMap<usize, u32> = HashMap::new();
    for t in truth.all.iter().filter(|t| !matched_truth.contains(&t.id)) {
        if t.crowd {
            crowds.insert(t.category, t.id);
        } else {
            tally[t.category].fn_ += 1;
        }
    }
    for p in pred.all.iter().filter(|p| !matched_pred.contains(&p.id)) {
        let excused = shared(VOID, p.id) + crowds.get(&p.category).map_or(0, |crowd| shared(*crowd, p.id));
        if excused as f64 / p.area as f64 <= 0.5 {
            tally[p.category].fp += 1;
        }
    }
}
