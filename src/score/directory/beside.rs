//! What do some protocols tell beside J and F?

use serde::Serialize;

use crate::score::mosev2::MoseScore;
use crate::score::protocol::{Protocol, davis_statistics, last_quarter, mean};

/// DAVIS statistics, 0..1; a decay that the reference leaves undefined is NaN (null in JSON).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DavisScore {
    /// Share of frames with J above 0.5.
    pub j_recall: f64,
    /// Fall of J from the first to the last quarter.
    pub j_decay: f64,
    /// Share of frames with F above 0.5.
    pub f_recall: f64,
    /// Fall of F from the first to the last quarter.
    pub f_decay: f64,
}

/// J of the last quarter of the frames (VOST calls it J_tr: by then the object has changed), 0..1; a decay that the reference leaves
/// undefined is NaN.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LateScore {
    /// Mean.
    pub j_tr: f64,
    /// Share of these frames with J above 0.5.
    pub j_tr_recall: f64,
    /// Fall from their first to their last quarter.
    pub j_tr_decay: f64,
}

impl LateScore {
    /// Of an object's J on its evaluated frames; `None` for none.
    pub(super) fn of(j: &[f64]) -> Option<LateScore> {
        let last = davis_statistics(last_quarter(j), Protocol::Vost)?;
        Some(LateScore { j_tr: last.mean, j_tr_recall: last.recall, j_tr_decay: last.decay })
    }

    /// Means over objects; `None` where one has none.
    pub(super) fn over(objects: impl Iterator<Item = Option<LateScore>>) -> Option<LateScore> {
        let all: Vec<LateScore> = objects.collect::<Option<_>>()?;
        let over = |value: fn(&LateScore) -> f64| mean(&all.iter().map(value).collect::<Vec<_>>());
        Some(LateScore {
            j_tr: over(|l| l.j_tr)?,
            j_tr_recall: over(|l| l.j_tr_recall)?,
            j_tr_decay: over(|l| l.j_tr_decay)?,
        })
    }
}

/// A proposal and the object it was matched with, each by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pairing {
    /// Id in the prediction.
    pub proposal: u32,
    /// Id in the truth.
    pub truth_object: u32,
}

/// What MOSEv2 adds to J and F, 0..100. Ḟ is F with a tolerance that follows the object's size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MoseColumns {
    /// Ḟ.
    pub f_dot: f64,
    /// J&Ḟ: the mean of J and Ḟ.
    pub jf_dot: f64,
    /// J&Ḟ while the object is gone; `None` where none is, so that there is nothing to average.
    pub jf_disappear: Option<f64>,
    /// J&Ḟ after it (re)appears.
    pub jf_reappear: Option<f64>,
}

impl From<&MoseScore> for MoseColumns {
    fn from(score: &MoseScore) -> Self {
        MoseColumns {
            f_dot: score.f_dot * 100.0,
            jf_dot: score.jf_dot() * 100.0,
            jf_disappear: score.jf_disappear().map(|s| s * 100.0),
            jf_reappear: score.jf_reappear().map(|s| s * 100.0),
        }
    }
}
