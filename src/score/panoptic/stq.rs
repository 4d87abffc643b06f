//! Segmentation and tracking quality: `STQ = sqrt(AQ x SQ)`. SQ is the mean over categories of the IoU of all their pixels; AQ weighs how
//! well each thing of the truth is covered by tubes of one identity:
//!
//! `AQ = mean over tubes g of 1/|g| x sum over predicted tubes p of TPA x TPA / (|g| + |p| - TPA)`, TPA = pixels of both.
//!
//! As the evaluator has it: a tube is an id with one category, so that an id whose category changes is two; segments are numbered by
//! video in the order of the file, and the number 0 means a crowd, so that a thing which is the truth's first segment does not
//! count for AQ, while `iscrowd` is not read; labelled pixels without a predicted segment are a category of their own, with an IoU of 0.

use std::collections::HashMap;

use serde::Serialize;

use super::counts::VideoCounts;
use super::frame::PanopticFrame;
use crate::dataset::panoptic_truth::{PanopticCategory, Segment, VOID};
use crate::score::pairwise_sum;

/// Categories that the evaluator has room for; more need larger ids.
const CLASSES: usize = 124;
/// Bits of a label below its category.
const SHIFT: u32 = 16;

/// STQ of a dataset, 0..1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stq {
    /// sqrt(AQ x SQ).
    pub stq: Option<f64>,
    /// Association quality; `None`: no tube of the truth counts.
    pub aq: Option<f64>,
    /// Segmentation quality, which the evaluator calls IoU; `None`: no pixel of the truth is labelled.
    pub sq: Option<f64>,
    /// By video.
    pub videos: Vec<VideoStq>,
    /// Videos whose first segment is a thing.
    #[serde(skip)]
    pub(super) first_is_thing: Vec<String>,
}

/// STQ of a video, 0..1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VideoStq {
    /// Video.
    pub video: String,
    /// Frames.
    pub frames: usize,
    /// sqrt(AQ x SQ).
    pub stq: Option<f64>,
    /// Association quality.
    pub aq: Option<f64>,
    /// Segmentation quality.
    pub sq: Option<f64>,
}

/// Sizes of tubes by label, in the order in which they first show.
#[derive(Default)]
struct Tubes {
    all: Vec<(u32, u64)>,
    place: HashMap<u32, usize>,
}

impl Tubes {
    fn add(&mut self, label: u32, pixels: u64) {
        let at = *self.place.entry(label).or_insert(self.all.len());
        match self.all.get_mut(at) {
            Some((_, size)) => *size += pixels,
            None => self.all.push((label, pixels)),
        }
    }

    /// Adds a frame's tubes, ascending by label as the evaluator finds them.
    fn add_frame(&mut self, mut frame: Vec<(u32, u64)>) {
        frame.sort_unstable();
        frame.into_iter().for_each(|(label, pixels)| self.add(label, pixels));
    }
}

/// Pixels by category's id, the last place being no category.
#[derive(Clone)]
pub(super) struct Confusion {
    pub(super) both: Vec<u64>,
    pub(super) truth: Vec<u64>,
    pub(super) pred: Vec<u64>,
}

impl Confusion {
    fn new(classes: usize) -> Confusion {
        let none = vec![0; classes + 1];
        Confusion { both: none.clone(), truth: none.clone(), pred: none }
    }

    fn add(&mut self, video: &VideoCounts) {
        for counts in video.categories.values() {
            let [both, truth, pred] = counts.pixels;
            let at = counts.id as usize;
            self.both[at] += both;
            self.truth[at] += truth;
            self.pred[at] += pred;
        }
        *self.pred.last_mut().expect("a place for no category") += video.unpredicted;
    }

    fn iou(&self) -> Option<f64> {
        let unions: Vec<u64> = (0..self.both.len()).map(|c| self.truth[c] + self.pred[c] - self.both[c]).collect();
        let iou = |(both, union): (&u64, &u64)| if *union == 0 { 0.0 } else { *both as f64 / *union as f64 };
        let ious: Vec<f64> = self.both.iter().zip(&unions).map(iou).collect();
        let occur = unions.iter().filter(|u| **u > 0).count();
        (occur > 0).then(|| pairwise_sum(&ious) / occur as f64)
    }
}

/// What is counted of one video.
pub(super) struct Video {
    pub(super) confusion: Confusion,
    /// Sum over the truth's tubes, and their number.
    pub(super) aq: f64,
    pub(super) tubes: usize,
    pub(super) first_is_thing: bool,
}

/// Numbers of a video's segments in the order in which they are first listed.
fn numbers(frames: &[PanopticFrame], side: fn(&PanopticFrame) -> &Vec<Segment>) -> HashMap<u32, u32> {
    let mut numbers = HashMap::new();
    for segment in frames.iter().flat_map(side) {
        let next = numbers.len() as u32;
        numbers.entry(segment.id).or_insert(next);
    }
    numbers
}

/// What an id means on one frame.
#[derive(Clone, Copy)]
struct Meaning {
    /// Category's id, or the number of classes for none.
    class: usize,
    label: u32,
    thing: bool,
}

fn meanings(
    segments: &[Segment],
    categories: &[PanopticCategory],
    numbers: &HashMap<u32, u32>,
) -> HashMap<u32, Meaning> {
    let each = segments.iter().map(|s| {
        let category = &categories[s.category];
        let label = (category.id << SHIFT) + numbers[&s.id];
        (s.id, Meaning { class: category.id as usize, label, thing: category.thing })
    });
    each.collect()
}

impl Video {
    /// # Errors
    /// There are too many segments.
    pub(super) fn of(frames: &[PanopticFrame], categories: &[PanopticCategory]) -> Result<Video, String> {
        let classes = categories.iter().map(|c| c.id as usize + 1).max().unwrap_or(0).max(CLASSES);
        let of_truth = numbers(frames, |f| &f.truth);
        let of_pred = numbers(frames, |f| &f.pred);
        let most = 1usize << SHIFT;
        if of_truth.len().max(of_pred.len()) > most {
            return Err(format!("more than {most} segments, which STQ cannot tell apart"));
        }
        let mut confusion = Confusion::new(classes);
        let (mut truth, mut pred) = (Tubes::default(), Tubes::default());
        let mut shared: HashMap<(u32, u32), u64> = HashMap::new();
        let nothing = Meaning { class: classes, label: VOID, thing: false };
        for frame in frames {
            let in_truth = meanings(&frame.truth, categories, &of_truth);
            let in_pred = meanings(&frame.pred, categories, &of_pred);
            let (mut truth_here, mut pred_here) = (HashMap::new(), HashMap::new());
            for pair in &frame.pairs {
                let t = in_truth.get(&pair.truth).copied().unwrap_or(nothing);
                let p = in_pred.get(&pair.pred).copied().unwrap_or(nothing);
                if t.class < classes {
                    confusion.truth[t.class] += pair.count;
                    confusion.pred[p.class] += pair.count;
                    confusion.both[t.class] += if t.class == p.class { pair.count } else { 0 };
                }
                let crowd = t.thing && t.label & ((1 << SHIFT) - 1) == 0;
                let (counts_truth, counts_pred) = (t.thing && !crowd, p.thing && !crowd);
                if counts_truth {
                    *truth_here.entry(t.label).or_default() += pair.count;
                }
                if counts_pred {
                    *pred_here.entry(p.label).or_default() += pair.count;
                }
                if counts_truth && counts_pred {
                    *shared.entry((t.label, p.label)).or_default() += pair.count;
                }
            }
            truth.add_frame(truth_here.into_iter().collect());
            pred.add_frame(pred_here.into_iter().collect());
        }
        let mut aq = 0.0;
        for (label, size) in &truth.all {
            let mut inner = 0.0;
            for (other, other_size) in &pred.all {
                if let Some(tpa) = shared.get(&(*label, *other)) {
                    let union = size + other_size - tpa;
                    inner += *tpa as f64 * (*tpa as f64 / union as f64);
                }
            }
            aq += 1.0 / *size as f64 * inner;
        }
        let first = frames.iter().find_map(|f| f.truth.first());
        let first_is_thing = first.is_some_and(|s| categories[s.category].thing);
        Ok(Video { confusion, aq, tubes: truth.all.len(), first_is_thing })
    }
}

fn quotient(sum: f64, tubes: u64) -> Option<f64> {
    (tubes > 0).then(|| sum / tubes as f64)
}

fn root(aq: Option<f64>, sq: Option<f64>) -> Option<f64> {
    Some((aq? * sq?).sqrt())
}

/// STQ of videos with frames, in their order.
pub(super) fn quality(videos: &[(&str, &VideoCounts)]) -> Stq {
    let classes = videos.iter().map(|(_, video)| video.classes).max().unwrap_or(CLASSES);
    let mut total = Confusion::new(classes);
    let of = |(name, video): &(&str, &VideoCounts)| {
        total.add(video);
        let mut own = Confusion::new(video.classes);
        own.add(video);
        let (aq, sq) = (quotient(video.aq, video.tubes), own.iou());
        VideoStq { video: name.to_string(), frames: video.frames, stq: root(aq, sq), aq, sq }
    };
    let by_video = videos.iter().map(of).collect();
    let sums: Vec<f64> = videos.iter().map(|(_, video)| video.aq).collect();
    let tubes = videos.iter().map(|(_, video)| video.tubes).sum();
    let first = videos.iter().filter(|(_, video)| video.first_is_thing);
    let (aq, sq) = (quotient(pairwise_sum(&sums), tubes), total.iou());
    let first_is_thing = first.map(|(name, _)| name.to_string()).collect();
    Stq { stq: root(aq, sq), aq, sq, videos: by_video, first_is_thing }
}
