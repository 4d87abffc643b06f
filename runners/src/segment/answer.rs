//! Which queries are objects on a frame, and which tracks come of them? Repeats `post_process_instance_segmentation` of transformers'
//! `VideomtVideoProcessor`, or where asked for its `post_process_panoptic_segmentation`; tracks have the best class of the mean logits of all
//! frames, as the model's own evaluation has it.

use std::collections::BTreeMap;

use super::contract::Sizes;
use super::panoptic::Panoptic;
use crate::frame::{Candidate, Confidence, Thresholder, Way, logit};
use crate::types::{FoundTrack, FoundTracks, Frame, FrameMasks, Mask, ObjectMask};

/// What the queries have said since the first frame of a sequence.
pub struct Answers {
    sizes: Sizes,
    /// Score from which a query is an object.
    threshold: f64,
    /// Does a pixel belong to one object at most?
    exclusive: bool,
    /// Where objects share a frame's pixels among them.
    panoptic: Option<Panoptic>,
    /// Sums of the class logits over the frames, per query.
    sums: Vec<f64>,
    /// First and last frame on which a query was an object, and on how many it was.
    lives: Vec<Option<Life>>,
    frames: u32,
    thresholder: Thresholder,
    confidence: Confidence,
    /// Masks whose memory is used again.
    spare: Vec<Mask>,
}

#[derive(Clone, Copy)]
struct Life {
    first: u32,
    last: u32,
    frames: u32,
}

/// The best class and its probability; `logits`: of the classes, "no object" last, which is none.
fn best(logits: impl Iterator<Item = f64> + Clone) -> (usize, f64) {
    let highest = logits.clone().fold(f64::NEG_INFINITY, f64::max);
    let exponents = logits.map(|logit| (logit - highest).exp());
    let classes = exponents.clone().count().saturating_sub(1);
    let sum: f64 = exponents.clone().sum();
    let first = |best: (usize, f64), (class, value): (usize, f64)| if value > best.1 { (class, value) } else { best };
    let (class, value) = exponents.take(classes).enumerate().fold((0, f64::NEG_INFINITY), first);
    (class, value / sum)
}

impl Answers {
    pub fn new(sizes: Sizes, threshold: f64, exclusive: bool, panoptic: Option<Panoptic>) -> Answers {
        Answers {
            sizes,
            threshold,
            exclusive,
            panoptic,
            sums: vec![0.0; sizes.queries * (sizes.classes + 1)],
            lives: vec![None; sizes.queries],
            frames: 0,
            thresholder: Thresholder::default(),
            confidence: Confidence::default(),
            spare: Vec::new(),
        }
    }

    pub fn reset(&mut self) {
        self.sums.fill(0.0);
        self.lives.fill(None);
        self.frames = 0;
    }

    pub fn recycle(&mut self, masks: FrameMasks) {
        self.spare.extend(masks.objects.into_iter().map(|object| object.mask));
        self.spare.truncate(self.sizes.queries);
    }

    /// Takes a frame's class logits `[Q, C + 1]` and mask logits `[Q, s, s]`: a mask for every query that is an object now or was one
    /// before, by number; an empty one where it is none now. Objects count from 1. With a list the others are passed over. All logits of
    /// classes are finite.
    pub fn frame(&mut self, logits: &[f32], masks: &[f32], frame: Frame<'_>, of: Option<&[u32]>) -> FrameMasks {
        let (width, side) = (self.sizes.classes + 1, self.sizes.side);
        for (sum, logit) in self.sums.iter_mut().zip(logits) {
            *sum += f64::from(*logit);
        }
        let mut segments = self.segments(logits, masks, frame);
        let mut objects = Vec::new();
        for (query, (logits, masks)) in logits.chunks_exact(width).zip(masks.chunks_exact(side * side)).enumerate() {
            if of.is_some_and(|of| !of.contains(&(query as u32 + 1))) {
                continue;
            }
            let (_, probability) = best(logits.iter().map(|logit| f64::from(*logit)));
            // A mask's own probability is 1 at most.
            let (mut score, mut finite) = (probability, true);
            let segment = segments.as_mut().and_then(|segments| segments.remove(&(query as u32)));
            let shared = segment.is_some();
            let mut mask = segment.or_else(|| self.spare.pop()).unwrap_or_default();
            let mut lives = false;
            if segments.is_some() {
                if shared {
                    finite = masks.iter().all(|logit| logit.is_finite());
                    lives = !mask.is_empty() || !finite;
                }
            } else if probability >= self.threshold {
                // Most queries do not come here, and cost nothing of the frame's size.
                self.thresholder.fill(masks, side, frame.width, frame.height, &mut mask);
                score *= self.confidence.mean(masks, side, &mask);
                finite = masks.iter().all(|logit| logit.is_finite());
                lives = score >= self.threshold && !mask.is_empty() || !finite;
            }
            if lives {
                let now = Life { first: self.frames, last: self.frames, frames: 1 };
                let grown = |life: Life| Life { last: self.frames, frames: life.frames + 1, ..life };
                self.lives[query] = Some(self.lives[query].map_or(now, grown));
            } else if self.lives[query].is_none() {
                self.spare.push(mask);
                continue;
            } else {
                mask.reset(frame.width, frame.height);
            }
            objects.push(ObjectMask {
                object: query as u32 + 1,
                claimed: !mask.is_empty(),
                mask,
                object_score: logit(score),
                predicted_iou: f32::NAN,
                finite,
            });
        }
        self.frames += 1;
        if self.exclusive {
            paint(&mut objects);
        }
        FrameMasks { objects }
    }

    /// The segments of the queries that share the frame among them, by query; `None`: they do not.
    fn segments(&mut self, logits: &[f32], masks: &[f32], frame: Frame<'_>) -> Option<BTreeMap<u32, Mask>> {
        let panoptic = self.panoptic.as_mut()?;
        let (width, side, size) = (self.sizes.classes + 1, self.sizes.side, [frame.width, frame.height]);
        let mut candidates = Vec::new();
        for (query, (logits, masks)) in (0..).zip(logits.chunks_exact(width).zip(masks.chunks_exact(side * side))) {
            let logits = || logits.iter().map(|logit| f64::from(*logit));
            let (_, score) = best(logits());
            if panoptic.takes(logits(), score) {
                candidates.push((query, Candidate { score: score as f32, logits: masks }));
            }
        }
        let way = Way { logits: [side; 2], input: size, taken: size, frame: size };
        Some(panoptic.segments(way, candidates.into_iter(), &mut self.spare))
    }

    /// The tracks: every query that was an object on any frame.
    pub fn tracks(&self) -> FoundTracks {
        let width = self.sizes.classes + 1;
        let mut found = FoundTracks::default();
        found.counts.detector_frames = self.frames;
        for (query, (life, sums)) in self.lives.iter().zip(self.sums.chunks_exact(width)).enumerate() {
            let Some(life) = life else { continue };
            let (label, score) = best(sums.iter().map(|sum| sum / f64::from(self.frames)));
            found.counts.detections += life.frames;
            found.tracks.push(FoundTrack {
                id: query as u32 + 1,
                birth: life.first,
                end: life.last + 1,
                confirmed: true,
                hits: life.frames,
                score,
                label: label as u32,
            });
        }
        found
    }
}

/// A pixel that several masks claim is the last query's: in this order they are painted.
fn paint(objects: &mut [ObjectMask]) {
    for at in 1..objects.len() {
        let (before, rest) = objects.split_at_mut(at);
        before.iter_mut().for_each(|object| object.mask.subtract(&rest[0].mask));
    }
}
