//! From frame scores to object and dataset scores, as each reference protocol defines it: which frames count, and means
//! summed in the references' order so that the last bit agrees.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::FrameScore;

/// Sum of `values` in the order of numpy's pairwise summation, to the last bit.
pub fn pairwise_sum(values: &[f64]) -> f64 {
    let n = values.len();
    if n < 8 {
        return values.iter().fold(0.0, |sum, v| sum + v);
    }
    if n <= 128 {
        let mut lanes: [f64; 8] = std::array::from_fn(|i| values[i]);
        let groups = values[8..].chunks_exact(8);
        let rest = groups.remainder();
        for group in groups {
            for (lane, v) in lanes.iter_mut().zip(group) {
                *lane += v;
            }
        }
        let [a, b, c, d, e, f, g, h] = lanes;
        return rest.iter().fold(((a + b) + (c + d)) + ((e + f) + (g + h)), |sum, v| sum + v);
    }
    let half = n / 2;
    let half = half - half % 8;
    pairwise_sum(&values[..half]) + pairwise_sum(&values[half..])
}

/// Mean as numpy computes it; `None` for no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| pairwise_sum(values) / values.len() as f64)
}

/// Mean, recall and decay of one object's per-frame values (0..1) as the DAVIS tools define them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DavisStatistics {
    /// Mean.
    pub mean: f64,
    /// Share of frames above 0.5.
    pub recall: f64,
    /// Mean of the first quarter minus mean of the last; NaN where the reference's own indices leave a quarter empty.
    pub decay: f64,
}

/// DAVIS statistics of the evaluated frames' values; `None` for no values.
///
/// The quarters are those of the reference, with its 8-bit frame indices: beyond 256 frames they wrap, and a quarter
/// that comes out empty gives NaN (as with numpy 2). DAVIS 2016 keeps a blank at either end of the array, which only
/// moves the order of summation of the mean.
pub fn davis_statistics(values: &[f64], protocol: Protocol) -> Option<DavisStatistics> {
    let n = values.len();
    if n == 0 {
        return None;
    }
    let mean_all = if protocol == Protocol::Davis2016 {
        let mut padded = vec![0.0; n + 2];
        padded[1..=n].copy_from_slice(values);
        pairwise_sum(&padded) / n as f64
    } else {
        pairwise_sum(values) / n as f64
    };
    let recall = values.iter().filter(|&&v| v > 0.5).count() as f64 / n as f64;
    let step = (n - 1) as f64 / 4.0;
    let edge = |i: usize| {
        let at = if i == 4 { n as f64 } else { 1.0 + i as f64 * step };
        ((at + 1e-10).round_ties_even() - 1.0) as u64 as u8
    };
    let quarter = |k: usize| {
        let (from, to) = (edge(k) as usize, edge(k + 1).wrapping_add(1) as usize);
        values.get(from..to.min(n)).and_then(mean).unwrap_or(f64::NAN)
    };
    Some(DavisStatistics { mean: mean_all, recall, decay: quarter(0) - quarter(3) })
}

/// The last quarter of an object's evaluated frames, over which VOST takes J_tr: what is left of `values` from three quarters on, rounded down.
pub fn last_quarter(values: &[f64]) -> &[f64] {
    &values[values.len() * 3 / 4..]
}

/// A set of rules for scoring a dataset; names are those of `--protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// SA-V's evaluator: every object alone, first and last annotated frame dropped, frames count from the object's
    /// first appearance in truth or prediction on. Scale 0..100.
    Sav,
    /// vos-benchmark: the same rules on label maps (MOSE, YouTube-VOS, LVOS). Scale 0..100.
    Vos,
    /// DAVIS 2017 semi-supervised: first and last frame dropped, every other frame counts. Scale 0..1.
    #[serde(rename = "davis2017-semi")]
    Davis2017Semi,
    /// DAVIS 2016: one object per video, first and last frame dropped. Scale 0..1.
    Davis2016,
    /// DAVIS 2017 unsupervised: every frame counts, and proposals are matched with the objects of the first frame. Scale 0..1.
    #[serde(rename = "davis2017-unsup")]
    Davis2017Unsup,
    /// MOSEv2: first and last frame dropped, every other frame counts; F with a tolerance that follows the object's size, and
    /// scores while it is gone and after its return ([`super::MoseScore`]). Scale 0..100.
    #[serde(rename = "mosev2")]
    MoseV2,
    /// VOST: as DAVIS 2017 semi-supervised, void pixels and ids beyond the first annotation's being background, and besides J over all
    /// evaluated frames that over their last quarter ([`last_quarter`]). Its tool has no F. Scale 0..1.
    Vost,
}

impl Protocol {
    /// Every protocol, in the order in which help texts list them.
    pub const ALL: [Protocol; 7] = [
        Protocol::Sav,
        Protocol::Vos,
        Protocol::Davis2017Semi,
        Protocol::Davis2016,
        Protocol::Davis2017Unsup,
        Protocol::MoseV2,
        Protocol::Vost,
    ];

    /// Name used on the command line and in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Protocol::Sav => "sav",
            Protocol::Vos => "vos",
            Protocol::Davis2017Semi => "davis2017-semi",
            Protocol::Davis2016 => "davis2016",
            Protocol::Davis2017Unsup => "davis2017-unsup",
            Protocol::MoseV2 => "mosev2",
            Protocol::Vost => "vost",
        }
    }

    /// A perfect score in the reference's own output: 100, or 1 for DAVIS.
    pub const fn scale(self) -> f64 {
        match self {
            Protocol::Sav | Protocol::Vos | Protocol::MoseV2 => 100.0,
            Protocol::Davis2017Semi | Protocol::Davis2016 | Protocol::Davis2017Unsup | Protocol::Vost => 1.0,
        }
    }

    /// Is this one of the DAVIS protocols, or made from one (scale 0..1, with recall and decay)?
    pub const fn is_davis(self) -> bool {
        matches!(self, Protocol::Davis2017Semi | Protocol::Davis2016 | Protocol::Davis2017Unsup | Protocol::Vost)
    }

    /// Do its label maps have void pixels (255), which belong to no object of the truth?
    pub const fn has_void(self) -> bool {
        matches!(self, Protocol::Davis2017Semi | Protocol::Vost)
    }

    /// Do frames count only from the object's first appearance (in truth or prediction) on?
    const fn waits_for_object(self) -> bool {
        matches!(self, Protocol::Sav | Protocol::Vos)
    }

    /// Which of an object's annotated frames count; `frames` is in frame order. None at all when the object does not
    /// exist for the protocol: too few frames, or (sav, vos) never in the truth on an evaluated frame.
    pub fn counted(self, frames: &[FrameScore], keep_first_last: bool) -> Vec<bool> {
        let n = frames.len();
        let evaluated = if keep_first_last { 0..n } else { 1.min(n)..n.saturating_sub(1).max(1.min(n)) };
        let mut counted = vec![false; n];
        if self.waits_for_object() && frames[evaluated.clone()].iter().all(|f| f.truth_empty) {
            return counted;
        }
        let mut seen = !self.waits_for_object();
        for i in evaluated {
            seen |= !frames[i].truth_empty || !frames[i].pred_empty;
            counted[i] = seen;
        }
        counted
    }

    /// Score of one object over its annotated frames (in frame order), with the protocol's default frame selection, on
    /// a scale of 0 to 100 whatever the reference's own scale is; `None` when no frame counts.
    pub fn aggregate(self, frames: &[FrameScore]) -> Option<TrackScore> {
        let counted = self.counted(frames, false);
        let pick = |value: fn(&FrameScore) -> f64| -> Vec<f64> {
            frames.iter().zip(&counted).filter(|(_, c)| **c).map(|(f, _)| value(f)).collect()
        };
        let (j, f) = (pick(|f| f.j), pick(|f| f.f));
        Some(TrackScore { j: mean(&j)? * 100.0, f: mean(&f)? * 100.0, counted: j.len() })
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is no protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown protocol `{0}`; known: {known}", known = Protocol::ALL.map(Protocol::as_str).join(", "))]
pub struct UnknownProtocol(pub String);

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let lower = word.trim().to_ascii_lowercase();
        Protocol::ALL.into_iter().find(|p| p.as_str() == lower).ok_or_else(|| UnknownProtocol(word.to_string()))
    }
}

/// Score of one object, 0..100.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrackScore {
    /// Mean J over the counted frames.
    pub j: f64,
    /// Mean F over the counted frames.
    pub f: f64,
    /// Frames that counted.
    pub counted: usize,
}

impl TrackScore {
    /// (J + F) / 2.
    pub fn jf(&self) -> f64 {
        (self.j + self.f) / 2.0
    }
}
