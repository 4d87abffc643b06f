//! CLEAR MOT: how many pairs of objects and tracks there are, and how often an object changes its track.

use serde::{Deserialize, Serialize};

use super::{THRESHOLD, TrackedVideo};

/// CLEAR MOT at an IoU of 0.5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Clear {
    /// (TP - FP - id switches) / (TP + FN).
    pub mota: f64,
    /// Mean IoU of the pairs.
    pub motp: f64,
    /// (TP - FP) / (TP + FN).
    pub moda: f64,
    /// (sum of IoU - FP - id switches) / (TP + FN).
    pub smota: f64,
    /// Recall.
    pub recall: f64,
    /// Precision.
    pub precision: f64,
    /// F1.
    pub f1: f64,
    /// Pairs.
    pub tp: f64,
    /// Masks of the truth without a partner.
    pub fn_: f64,
    /// Predicted masks without a partner.
    pub fp: f64,
    /// Times an object's track differs from its last one.
    pub id_switches: f64,
    /// Objects tracked on more than 80 % of their frames.
    pub mostly_tracked: f64,
    /// Objects between.
    pub partly_tracked: f64,
    /// Objects tracked on less than 20 %.
    pub mostly_lost: f64,
    /// Times a tracked object's track is broken off and taken up again.
    pub fragments: f64,
    /// Sum of IoU of the pairs.
    pub iou_sum: f64,
}

/// An object's track is another one than its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Switch {
    /// Index of the object.
    pub(crate) object: usize,
    /// Index of its last track, and place of the last frame on which it had that.
    pub(crate) from: (usize, usize),
    /// Index of its track now, and place of this frame.
    pub(crate) to: (usize, usize),
}

/// What [`Clear::id_switches`] counts, in the order of the frames.
pub(crate) fn switches(video: &TrackedVideo) -> Vec<Switch> {
    let mut all = Vec::new();
    Clear::walk(video, &mut |switch| all.push(switch));
    all
}

impl Clear {
    pub(super) fn of(video: &TrackedVideo) -> Clear {
        Clear::walk(video, &mut |_| ())
    }

    /// Of one video; tells each id switch.
    fn walk(video: &TrackedVideo, switched: &mut dyn FnMut(Switch)) -> Clear {
        let (truths, tracks) = video.detections();
        let mut all = Clear::default();
        if truths == 0 || tracks == 0 {
            all.fn_ = truths as f64;
            all.fp = tracks as f64;
            all.mostly_lost = if tracks == 0 { video.objects as f64 } else { 0.0 };
            return all.finished();
        }
        let mut counts = vec![[0.0; 3]; video.objects]; // frames, frames with a track, times taken up
        let (mut last, mut previous) = (vec![None::<(usize, usize)>; video.objects], vec![None; video.objects]);
        for (place, frame) in video.frames.iter().enumerate() {
            if frame.truth.is_empty() {
                all.fp += frame.tracks.len() as f64;
                continue;
            }
            frame.truth.iter().for_each(|o| counts[*o][0] += 1.0);
            if frame.tracks.is_empty() {
                all.fn_ += frame.truth.len() as f64;
                continue;
            }
            let score = |o: usize, t: usize| match frame.at(o, t) {
                iou if iou < THRESHOLD - f64::EPSILON => 0.0,
                // A pair of the frame before stays a pair.
                iou => f64::from(u8::from(previous[frame.truth[o]] == Some(frame.tracks[t]))) * 1000.0 + iou,
            };
            let pairs: Vec<(usize, usize)> =
                frame.matched(score).into_iter().filter(|(o, t)| score(*o, *t) > f64::EPSILON).collect();
            let mut now = vec![None; video.objects];
            let mut sum = 0.0;
            for &(o, t) in &pairs {
                let (object, track) = (frame.truth[o], frame.tracks[t]);
                sum += frame.at(o, t);
                if let Some(from) = last[object].filter(|(last, _)| *last != track) {
                    all.id_switches += 1.0;
                    switched(Switch { object, from, to: (track, place) });
                }
                counts[object][1] += 1.0;
                counts[object][2] += f64::from(u8::from(previous[object].is_none()));
                last[object] = Some((track, place));
                now[object] = Some(track);
            }
            previous = now;
            all.tp += pairs.len() as f64;
            all.fn_ += (frame.truth.len() - pairs.len()) as f64;
            all.fp += (frame.tracks.len() - pairs.len()) as f64;
            all.iou_sum += sum;
        }
        let share = |c: &&[f64; 3]| c[1] / c[0];
        let seen = || counts.iter().filter(|c| c[0] > 0.0);
        all.mostly_tracked = seen().filter(|c| share(c) > 0.8).count() as f64;
        all.partly_tracked = seen().filter(|c| share(c) >= 0.2).count() as f64 - all.mostly_tracked;
        all.mostly_lost = video.objects as f64 - all.mostly_tracked - all.partly_tracked;
        all.fragments = counts.iter().filter(|c| c[2] > 0.0).fold(0.0, |sum, c| sum + c[2] - 1.0);
        all.finished()
    }

    pub(super) fn over(videos: &[&Clear]) -> Clear {
        let sum = |get: fn(&Clear) -> f64| videos.iter().fold(0.0, |sum, v| sum + get(v));
        let all = Clear {
            tp: sum(|c| c.tp),
            fn_: sum(|c| c.fn_),
            fp: sum(|c| c.fp),
            id_switches: sum(|c| c.id_switches),
            mostly_tracked: sum(|c| c.mostly_tracked),
            partly_tracked: sum(|c| c.partly_tracked),
            mostly_lost: sum(|c| c.mostly_lost),
            fragments: sum(|c| c.fragments),
            iou_sum: sum(|c| c.iou_sum),
            ..Clear::default()
        };
        all.finished()
    }

    fn finished(self) -> Clear {
        let there = (self.tp + self.fn_).max(1.0);
        Clear {
            mota: (self.tp - self.fp - self.id_switches) / there,
            motp: self.iou_sum / self.tp.max(1.0),
            moda: (self.tp - self.fp) / there,
            smota: (self.iou_sum - self.fp - self.id_switches) / there,
            recall: self.tp / there,
            precision: self.tp / (self.tp + self.fp).max(1.0),
            f1: self.tp / (self.tp + 0.5 * self.fn_ + 0.5 * self.fp).max(1.0),
            ..self
        }
    }
}
