//! Which track is in which slot, and what becomes of it? Numbers, entries and sums of the tracks of a sequence, and the queries that the
//! branch for what is gone asks for.

use super::contract::Sizes;
use crate::assignment::assign;
use crate::segment::panoptic::Panoptic;
use crate::types::{FoundTrack, FoundTracks};

/// A live track on a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 1 by birth.
    pub id: u32,
    /// Is it an object on this frame? Else it is only waited for.
    pub seen: bool,
}

/// A track of the sequence.
struct Life {
    birth: u32,
    entries: u32,
    seen: u32,
    /// Frames on which it had a segment, where objects share the pixels of a frame among them.
    segments: u32,
    /// Sums of its class logits over all its frames, those on which it was only waited for too.
    sums: Vec<f64>,
}

/// What the step says of a frame, on the host.
pub struct Told<'a> {
    /// Class logits `[slots, C + 1]`.
    pub logits: &'a [f32],
    /// Where each slot's track comes from, `[slots]`.
    pub source: &'a [f32],
    /// 1 for an object, `[slots]`.
    pub seen: &'a [f32],
    /// Tracks that there would be, were there slots for all.
    pub total: f32,
}

/// The tracks of a sequence.
pub struct Lives {
    sizes: Sizes,
    all: Vec<Life>,
    /// Those in the slots, in order.
    live: Vec<Entry>,
    frames: u32,
    /// Births for which there was no slot.
    dropped: u32,
}

/// Probabilities of the classes, "no object" left out; `logits`: with it, last.
fn probabilities(logits: impl Iterator<Item = f64> + Clone) -> Vec<f64> {
    let highest = logits.clone().fold(f64::NEG_INFINITY, f64::max);
    let mut shares: Vec<f64> = logits.map(|logit| (logit - highest).exp()).collect();
    let sum: f64 = shares.iter().sum();
    shares.pop();
    shares.iter_mut().for_each(|share| *share /= sum);
    shares
}

/// The first of the largest values, and the value.
fn best(values: &[f64]) -> (usize, f64) {
    let larger = |best: (usize, f64), (at, value): (usize, &f64)| if *value > best.1 { (at, *value) } else { best };
    values.iter().enumerate().fold((0, f64::NEG_INFINITY), larger)
}

impl Life {
    /// Mean class logits of its frames, "no object" last.
    fn mean(&self) -> impl Iterator<Item = f64> + Clone {
        self.sums.iter().map(|sum| sum / f64::from(self.entries))
    }

    /// The probability of the best class of these, where panoptic segments are of such objects.
    fn takes_part(&self, panoptic: &Panoptic) -> Option<f64> {
        let (_, score) = best(&probabilities(self.mean()));
        panoptic.takes(self.mean(), score).then_some(score)
    }
}

/// The probability of the best class of class logits with "no object" last.
pub fn sureness(logits: &[f32]) -> f64 {
    best(&probabilities(logits.iter().map(|logit| f64::from(*logit)))).1
}

impl Lives {
    pub fn new(sizes: Sizes) -> Lives {
        Lives { sizes, all: Vec::new(), live: Vec::new(), frames: 0, dropped: 0 }
    }

    /// The next frame is the first of a sequence.
    pub fn reset(&mut self) {
        self.all.clear();
        self.live.clear();
        (self.frames, self.dropped) = (0, 0);
    }

    /// Frames since then.
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// Births for which there was no slot.
    pub fn dropped(&self) -> u32 {
        self.dropped
    }

    /// The live tracks, in the order of their slots.
    pub fn live(&self) -> &[Entry] {
        &self.live
    }

    /// The score so far of a track that takes part in sharing a frame's pixels; `None`: it does not.
    pub fn share_of(&self, id: u32, panoptic: &Panoptic) -> Option<f64> {
        self.all[id as usize - 1].takes_part(panoptic)
    }

    /// On the last frame, a track had a segment.
    pub fn has_segment(&mut self, id: u32) {
        self.all[id as usize - 1].segments += 1;
    }

    /// Writes the segmenter's query that each slot asks for into `matched`. `similarity`: cosines `[slots + background, queries]` after the
    /// last frame. Every row has its nearest query, the first of equals; an assignment at the least sum of distances takes precedence.
    /// Slots without a track have query 0.
    pub fn choose(&self, similarity: &[f32], matched: &mut [i32]) {
        let (slots, queries) = (self.sizes.slots(), self.sizes.queries);
        matched.fill(0);
        if self.frames == 0 {
            return;
        }
        let rows: Vec<usize> = (0..self.live.len()).chain(slots..self.sizes.rows()).collect();
        let distances = |row: usize| similarity[row * queries..][..queries].iter().map(|cosine| 1.0 - cosine);
        for row in &rows {
            let nearer =
                |best: (usize, f32), (at, value): (usize, f32)| if value < best.1 { (at, value) } else { best };
            matched[*row] = distances(*row).enumerate().fold((0, f32::INFINITY), nearer).0 as i32;
        }
        // The solver wants numbers; what is none is as far as can be.
        let cost: Vec<f64> = rows
            .iter()
            .flat_map(|row| distances(*row))
            .map(|distance| if distance.is_finite() { f64::from(distance) } else { 4.0 })
            .collect();
        for (row, query) in assign(rows.len(), queries, &cost) {
            matched[rows[row]] = query as i32;
        }
    }

    /// Takes what the step says of a frame; `false` where it cannot be: a slot that comes from nowhere or from where another one came, rows
    /// that do not ascend, or a number that is none or not whole.
    #[must_use]
    pub fn frame(&mut self, told: &Told<'_>) -> bool {
        let (slots, width) = (self.sizes.slots(), self.sizes.classes + 1);
        let most = (slots + self.sizes.queries) as f32;
        if !(0.0..=most).contains(&told.total) || told.total.fract() != 0.0 {
            return false;
        }
        let count = (told.total as usize).min(slots);
        let mut live = Vec::with_capacity(count);
        for slot in 0..count {
            let (source, seen) = (told.source[slot], told.seen[slot] > 0.5);
            if source.fract() != 0.0 || !told.seen[slot].is_finite() || slot > 0 && source <= told.source[slot - 1] {
                return false;
            }
            let logits = &told.logits[slot * width..][..width];
            if !(0.0..most).contains(&source) || !logits.iter().all(|logit| logit.is_finite()) {
                return false;
            }
            let id = match source as usize {
                new if new >= slots => {
                    self.all.push(Life {
                        birth: self.frames,
                        entries: 0,
                        seen: 0,
                        segments: 0,
                        sums: vec![0.0; width],
                    });
                    self.all.len() as u32
                }
                old => match self.live.get(old) {
                    Some(entry) => entry.id,
                    None => return false,
                },
            };
            let life = &mut self.all[id as usize - 1];
            life.entries += 1;
            life.seen += u32::from(seen);
            life.sums.iter_mut().zip(logits).for_each(|(sum, logit)| *sum += f64::from(*logit));
            live.push(Entry { id, seen });
        }
        self.live = live;
        self.frames += 1;
        self.dropped += (told.total as usize - count) as u32;
        true
    }

    /// The tracks by number. Part of the result are those that are no noise and have one of the `most` likeliest pairs of track and class;
    /// class and score are of the mean of the class logits over all frames of the track. Of panoptic segments, those are part of the result that
    /// had one, are no noise and take part by that score; frames with a segment then count as detections.
    pub fn tracks(&self, panoptic: Option<&Panoptic>) -> FoundTracks {
        let rules = &self.sizes.rules;
        let mut found = FoundTracks::default();
        found.counts.detector_frames = self.frames;
        found.counts.dropped = self.dropped;
        let mut pairs = Vec::new();
        for (track, life) in self.all.iter().enumerate() {
            let shares = probabilities(life.mean());
            let (label, score) = best(&shares);
            let end = life.birth + life.entries;
            let lasts = life.entries >= rules.noise_frames || end == self.frames;
            if lasts && panoptic.is_none() {
                pairs.extend(shares.into_iter().map(|share| (share, track)));
            }
            let hits = if panoptic.is_some() { life.segments } else { life.seen };
            found.counts.detections += hits;
            found.tracks.push(FoundTrack {
                id: track as u32 + 1,
                birth: life.birth,
                end,
                confirmed: lasts
                    && life.segments > 0
                    && panoptic.is_some_and(|panoptic| life.takes_part(panoptic).is_some()),
                hits,
                score,
                label: label as u32,
            });
        }
        pairs.sort_by(|one, other| other.0.total_cmp(&one.0));
        for (_, track) in pairs.into_iter().take(rules.most as usize) {
            found.tracks[track].confirmed = true;
        }
        found
    }
}
