//! MOSEv2's scores: how well is an object tracked while it is there, left alone while it is gone, and found when it returns? J
//! with a one added to both counts, F, Ḟ (F with a tolerance that shrinks with the object), and the means over stretches of
//! absence and after return, as `score.py` and `metricsv2.py` of the MOSE API define them. All values are 0..1.

use serde::{Deserialize, Serialize};

use super::mean;

/// Tolerance of Ḟ: this share of the square root of the object's area.
pub(super) const TOLERANCE: f64 = 0.1;

/// One object on one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MoseFrame {
    /// (intersection + 1) / (union + 1); 1 when both masks are empty.
    pub j: f64,
    /// F, with the fractional tolerance where that is the object's own.
    pub f: f64,
    /// Ḟ.
    pub f_dot: f64,
    /// The truth does not show the object.
    pub gone: bool,
}

impl MoseFrame {
    /// Neither mask shows the object.
    pub const BOTH_EMPTY: MoseFrame = MoseFrame { j: 1.0, f: 1.0, f_dot: 1.0, gone: true };
}

/// J of MOSEv2 from pixels in both and in either mask.
pub(super) fn j(inter: u64, union: u64) -> f64 {
    if union == 0 { 1.0 } else { (inter + 1) as f64 / (union + 1) as f64 }
}

/// Scores of one object; or means over objects, those without a stretch left out of its mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MoseScore {
    /// Mean J.
    pub j: f64,
    /// Mean F.
    pub f: f64,
    /// Mean Ḟ.
    pub f_dot: f64,
    /// While the object is gone; `None` when it never is, or only from the first evaluated frame on.
    pub disappear: Option<Stretches>,
    /// After it (re)appears; `None` when it never does.
    pub reappear: Option<Stretches>,
}

/// Means over stretches of frames, each stretch with the same weight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stretches {
    /// J.
    pub j: f64,
    /// Ḟ.
    pub f_dot: f64,
}

impl Stretches {
    /// J&Ḟ.
    pub fn jf_dot(&self) -> f64 {
        (self.j + self.f_dot) / 2.0
    }
}

impl MoseScore {
    /// J&F.
    pub fn jf(&self) -> f64 {
        (self.j + self.f) / 2.0
    }

    /// J&Ḟ.
    pub fn jf_dot(&self) -> f64 {
        (self.j + self.f_dot) / 2.0
    }

    /// J&Ḟ while the object is gone.
    pub fn jf_disappear(&self) -> Option<f64> {
        self.disappear.map(|s| s.jf_dot())
    }

    /// J&Ḟ after it (re)appears.
    pub fn jf_reappear(&self) -> Option<f64> {
        self.reappear.map(|s| s.jf_dot())
    }

    /// A video that was not predicted scores nothing, and has no stretches.
    pub const MISSING: MoseScore = MoseScore { j: 0.0, f: 0.0, f_dot: 0.0, disappear: None, reappear: None };

    /// Score of one object over its evaluated frames, in order; `None` for no frames.
    ///
    /// A stretch of absence runs from the first frame without the object to before the next with it; one that begins with the
    /// first evaluated frame does not count. A stretch after return runs from the first frame with the object after any absence
    /// (an object that comes late: after the one before it) to before the next absence.
    pub fn of(frames: &[MoseFrame]) -> Option<MoseScore> {
        let over =
            |frames: &[MoseFrame], value: fn(&MoseFrame) -> f64| mean(&frames.iter().map(value).collect::<Vec<_>>());
        let (mut gone, mut back) = (Vec::new(), Vec::new());
        let mut from = 0;
        for stretch in frames.chunk_by(|a, b| a.gone == b.gone) {
            if from > 0 {
                let means = Stretches { j: over(stretch, |f| f.j)?, f_dot: over(stretch, |f| f.f_dot)? };
                if stretch[0].gone { gone.push(means) } else { back.push(means) }
            }
            from += stretch.len();
        }
        Some(MoseScore {
            j: over(frames, |f| f.j)?,
            f: over(frames, |f| f.f)?,
            f_dot: over(frames, |f| f.f_dot)?,
            disappear: stretches(&gone),
            reappear: stretches(&back),
        })
    }

    /// Mean over objects; `None` for none.
    pub fn over<'a>(objects: impl IntoIterator<Item = &'a MoseScore>) -> Option<MoseScore> {
        let objects: Vec<&MoseScore> = objects.into_iter().collect();
        let over = |value: fn(&MoseScore) -> f64| mean(&objects.iter().map(|o| value(o)).collect::<Vec<_>>());
        let those = |which: fn(&MoseScore) -> Option<Stretches>| {
            stretches(&objects.iter().filter_map(|o| which(o)).collect::<Vec<_>>())
        };
        Some(MoseScore {
            j: over(|o| o.j)?,
            f: over(|o| o.f)?,
            f_dot: over(|o| o.f_dot)?,
            disappear: those(|o| o.disappear),
            reappear: those(|o| o.reappear),
        })
    }
}

fn stretches(all: &[Stretches]) -> Option<Stretches> {
    let over = |value: fn(&Stretches) -> f64| mean(&all.iter().map(value).collect::<Vec<_>>());
    Some(Stretches { j: over(|s| s.j)?, f_dot: over(|s| s.f_dot)? })
}
