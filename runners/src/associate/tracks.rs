//! What becomes of the tracks on a frame? They are followed, paired with detections, confirmed, ended, and founded.

use super::boxes::iou;
use super::rules::Rules;
use super::select::select;
use crate::assignment::assign;
use crate::detect::Detection;
use crate::types::{AssociationCounts, FoundTrack, FoundTracks, Mask};

/// What carries the tracks from frame to frame: a tracker, on a frame on which it has followed all of them.
pub trait Carrier {
    /// Why it could not go on.
    type Error;
    /// The mask of a live track on this frame, before pixels that several claim are given to one.
    fn mask(&self, id: u32) -> &Mask;
    /// The smallest box around that mask's pixels: first column and row, last column + 1 and last row + 1. `None` where it is empty.
    fn bbox(&self, id: u32) -> Option<[f64; 4]>;
    /// Starts a track on this frame, from a box in pixel edges inside the frame; it has a mask then. [`Carrier::keep`] or
    /// [`Carrier::refuse`] comes next.
    ///
    /// # Errors
    /// The model failed.
    fn found(&mut self, id: u32, bbox: [f64; 4]) -> Result<(), Self::Error>;
    /// The track that was just founded lives.
    ///
    /// # Errors
    /// The model failed.
    fn keep(&mut self, id: u32) -> Result<(), Self::Error>;
    /// It never was; its number is given again.
    fn refuse(&mut self, id: u32);
    /// The track is followed no further; its mask on this frame is its last, or was never its own.
    fn end(&mut self, id: u32, taken_back: bool);
}

/// A track that is followed.
struct Live {
    found: FoundTrack,
    /// Frames with a mask since a detection last supported it.
    unsupported: u32,
    /// Frames in a row with an empty mask.
    absent: u32,
    /// Its box on this frame.
    bbox: Option<[f64; 4]>,
}

/// Why a track ends after a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Absent,
    Unsupported,
    /// With it, all its frames are taken back.
    Unconfirmed,
}

/// The tracks of a sequence, frame by frame.
pub struct Association {
    rules: Rules,
    /// Frames since the beginning: the number of the next one.
    frame: u32,
    /// By id.
    live: Vec<Live>,
    past: Vec<FoundTrack>,
    next_id: u32,
    counts: AssociationCounts,
    /// Costs of the pairs, by track.
    costs: Vec<f64>,
    /// Detections of this frame that no track may be founded by: they lie on one.
    taken: Vec<bool>,
}

impl Association {
    /// Before the first frame.
    pub fn new(rules: Rules) -> Association {
        Association {
            rules,
            frame: 0,
            live: Vec::new(),
            past: Vec::new(),
            next_id: 1,
            counts: AssociationCounts::default(),
            costs: Vec::new(),
            taken: Vec::new(),
        }
    }

    /// Forgets everything: the next frame is the first.
    pub fn reset(&mut self) {
        self.live.clear();
        self.past.clear();
        (self.frame, self.next_id) = (0, 1);
        self.counts = AssociationCounts::default();
    }

    /// Does the detector look at the next frame?
    pub fn looks(&self) -> bool {
        self.rules.looks_at(self.frame)
    }

    /// The next frame, of this width and height: all live tracks were followed on it. `detections` are the detector's, and
    /// those that count on return; on frames at which it does not look they play no part.
    ///
    /// # Errors
    /// The carrier's, when a track cannot be founded. The sequence is lost.
    pub fn step<C: Carrier + ?Sized>(
        &mut self,
        carrier: &mut C,
        detections: &mut Vec<Detection>,
        size: (u32, u32),
    ) -> Result<(), C::Error> {
        let max_absent = self.rules.max_absent;
        for track in &mut self.live {
            track.bbox = carrier.bbox(track.found.id);
            let visible = track.bbox.is_some();
            track.absent = if visible { 0 } else { track.absent + 1 };
            track.unsupported += u32::from(visible);
        }
        self.end(carrier, |track| (track.absent >= max_absent).then_some(End::Absent));
        if self.looks() {
            self.counts.detector_frames += 1;
            select(detections, size, &self.rules, &mut self.counts);
            self.pair(detections);
            let (t, rules) = (self.frame, self.rules);
            self.end(carrier, |track| match track.found.confirmed {
                true => (track.unsupported >= rules.keep_alive).then_some(End::Unsupported),
                false => (t - track.found.birth >= rules.probation).then_some(End::Unconfirmed),
            });
            self.found(carrier, detections)?;
        }
        self.frame = self.frame.saturating_add(1);
        Ok(())
    }

    /// Ends tracks after this frame.
    fn end<C: Carrier + ?Sized>(&mut self, carrier: &mut C, why: impl Fn(&Live) -> Option<End>) {
        let Association { live, past, counts, frame, .. } = self;
        live.retain_mut(|track| {
            let Some(end) = why(track) else { return true };
            carrier.end(track.found.id, end == End::Unconfirmed);
            *match end {
                End::Absent => &mut counts.ended_absent,
                End::Unsupported => &mut counts.ended_unsupported,
                End::Unconfirmed => &mut counts.unconfirmed,
            } += 1;
            track.found.end = if end == End::Unconfirmed { track.found.birth } else { *frame + 1 };
            past.push(track.found.clone());
            false
        });
    }

    /// Gives detections to tracks: the total of box IoUs is as large as can be, and no pair has less than `match_iou`. A pair
    /// below that costs as much as none.
    fn pair(&mut self, detections: &[Detection]) {
        let least = self.rules.match_iou;
        let mut seen: Vec<&mut Live> = self.live.iter_mut().filter(|track| track.bbox.is_some()).collect();
        self.costs.clear();
        self.taken.clear();
        self.taken.resize(detections.len(), false);
        for bbox in seen.iter().filter_map(|track| track.bbox) {
            for (detection, taken) in detections.iter().zip(&mut self.taken) {
                let overlap = iou(&bbox, &detection.bbox);
                *taken |= overlap >= least;
                self.costs.push(if overlap >= least { 1.0 - overlap } else { 1.0 });
            }
        }
        for (row, column) in assign(seen.len(), detections.len(), &self.costs) {
            let (track, detection) = (&mut seen[row], &detections[column]);
            if track.bbox.is_some_and(|bbox| iou(&bbox, &detection.bbox) >= least) {
                track.unsupported = 0;
                track.found.hits += 1;
                track.found.score = track.found.score.max(detection.score);
                track.found.confirmed |= track.found.hits >= self.rules.need(track.found.birth, None);
            }
        }
    }

    /// Founds tracks by the detections that lie on none.
    fn found<C: Carrier + ?Sized>(&mut self, carrier: &mut C, detections: &[Detection]) -> Result<(), C::Error> {
        for (detection, taken) in detections.iter().zip(&self.taken) {
            if *taken || detection.score < self.rules.new_score {
                continue;
            }
            if self.live.len() >= self.rules.max_tracks as usize {
                self.counts.dropped += 1;
                continue;
            }
            let (id, birth) = (self.next_id, self.frame);
            carrier.found(id, detection.bbox)?;
            let bbox = carrier.bbox(id);
            let same = |track: &Live| {
                // Masks need not be read where their boxes are apart.
                let near = bbox.zip(track.bbox).is_some_and(|(new, old)| iou(&new, &old) > 0.0);
                let overlap = if near { carrier.mask(id).iou(carrier.mask(track.found.id)) } else { None };
                overlap.unwrap_or(0.0) >= self.rules.dup_iou
            };
            if bbox.is_none() || self.live.iter().any(same) {
                self.counts.refused += 1;
                carrier.refuse(id);
                continue;
            }
            carrier.keep(id)?;
            self.next_id += 1;
            let confirmed = self.rules.need(birth, None) <= 1;
            let (score, label) = (detection.score, detection.label);
            let found = FoundTrack { id, birth, end: birth, confirmed, hits: 1, score, label };
            self.live.push(Live { found, unsupported: 0, absent: 0, bbox });
        }
        Ok(())
    }

    /// Settles everything after the last frame, by which a probation may have been cut short, and begins anew.
    pub fn finish(&mut self) -> FoundTracks {
        let frames = self.frame;
        let mut counts = self.counts;
        let settled = |mut found: FoundTrack| {
            found.confirmed |= found.hits >= self.rules.need(found.birth, frames.checked_sub(1));
            found
        };
        // Taken back stays taken back: its probation was over.
        let past = self.past.drain(..).map(|track| if track.end == track.birth { track } else { settled(track) });
        let mut tracks: Vec<FoundTrack> = past.collect();
        for live in self.live.drain(..) {
            let mut track = settled(live.found);
            track.end = if track.confirmed { frames } else { track.birth };
            counts.unconfirmed += u32::from(!track.confirmed);
            tracks.push(track);
        }
        tracks.sort_by_key(|track| track.id);
        self.reset();
        FoundTracks { tracks, counts }
    }
}
