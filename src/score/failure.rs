//! What people look for in a J-per-frame curve: where an object was lost, whether the prediction went over to another
//! object, and whether it came back.

use jetbench_runners::types::Mask;
use serde::Serialize;

use super::FrameScore;

/// A visible object counts as lost below this J.
pub const LOST_BELOW: f64 = 0.1;
/// A lost object counts as found again from this J on; a prediction counts as another object from this J with it on.
pub const FOUND_FROM: f64 = 0.5;

/// One loss of one object. Frames on which the truth does not show it neither start nor end a loss.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// First frame on which the visible object was lost.
    pub lost_at: String,
    /// Visible frames from there to the recovery, or to the end.
    pub frames: usize,
    /// The object whose truth the prediction covered instead, if it did: the first such one.
    pub switched_to: Option<String>,
    /// First frame on which it was found again; `None`: never.
    pub recovered_at: Option<String>,
}

/// Which other object's truth does a failed prediction cover? `None` when the prediction is not lost, or lies on none.
pub(super) fn taken_for(score: &FrameScore, pred: &Mask, own: u32, truth: &[(u32, Mask)]) -> Option<u32> {
    if score.j >= LOST_BELOW || score.pred_empty {
        return None;
    }
    let same_size = |m: &Mask| (m.width(), m.height()) == (pred.width(), pred.height());
    let on = |mask: &Mask| same_size(mask) && pred.iou(mask).is_some_and(|iou| iou >= FOUND_FROM);
    truth.iter().find(|(key, mask)| *key != own && on(mask)).map(|(key, _)| *key)
}

/// Losses of one object over its frames in order; each comes with the object that the prediction covered instead, if
/// any. `names` are the frames' names.
pub fn failures(frames: impl IntoIterator<Item = (FrameScore, Option<String>)>, names: &[&str]) -> Vec<Failure> {
    let mut found: Vec<Failure> = Vec::new();
    let mut lost = false;
    for ((score, other), name) in frames.into_iter().zip(names) {
        if score.truth_empty {
            continue;
        }
        match (lost, found.last_mut()) {
            (true, Some(failure)) => {
                if score.j >= FOUND_FROM {
                    failure.recovered_at = Some((*name).to_string());
                    lost = false;
                } else {
                    failure.frames += 1;
                    failure.switched_to = failure.switched_to.take().or(other);
                }
            }
            _ if score.j < LOST_BELOW => {
                lost = true;
                let lost_at = (*name).to_string();
                found.push(Failure { lost_at, frames: 1, switched_to: other, recovered_at: None });
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(j: f64, visible: bool) -> FrameScore {
        FrameScore { j, f: j, pred_empty: false, truth_empty: !visible }
    }

    #[test]
    fn a_loss_runs_from_the_first_bad_frame_to_the_recovery() {
        let frames = [
            (frame(0.9, true), None),
            (frame(0.05, true), None),
            (frame(0.0, false), Some("9".to_string())),
            (frame(0.3, true), Some("2".to_string())),
            (frame(0.7, true), None),
            (frame(0.2, true), None),
            (frame(0.0, true), None),
        ];
        let names = ["0", "1", "2", "3", "4", "5", "6"];
        let found = failures(frames, &names);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].lost_at, "1");
        assert_eq!(found[0].frames, 2);
        assert_eq!(found[0].switched_to.as_deref(), Some("2"));
        assert_eq!(found[0].recovered_at.as_deref(), Some("4"));
        assert_eq!((found[1].lost_at.as_str(), found[1].recovered_at.as_deref()), ("6", None));
    }

    #[test]
    fn a_prediction_on_another_object_is_recognised() {
        let square = |x0: u32| Mask::from_fn(64, 32, |x, y| (x0..x0 + 10).contains(&x) && (5..15).contains(&y));
        let truth = [(0, square(2)), (1, square(30))];
        let lost = frame(0.0, true);
        assert_eq!(taken_for(&lost, &square(31), 0, &truth), Some(1));
        assert_eq!(taken_for(&lost, &square(50), 0, &truth), None);
        assert_eq!(taken_for(&frame(0.6, true), &square(31), 0, &truth), None);
    }
}
