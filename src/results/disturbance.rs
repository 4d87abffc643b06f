//! What disturbed a measurement whose figures may still be used? The rules are in `judge::disturbed`; the sentence that says what was seen
//! is the note of the same kind.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::results::note::NoteKind;

/// What disturbed a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disturbance {
    /// Other programs used the processor.
    Rivals,
    /// The worker stood still: it was stopped, waited for a processor, or the machine stood still.
    Stalled,
    /// Many frames took much longer than their like.
    Outliers,
    /// Latency at the end differs from that at the beginning.
    Drift,
    /// Latency changed its level.
    Shifted,
    /// Few frames lie near the median of their like.
    Scattered,
    /// The first frames were so slow that they move the mean.
    SlowStart,
    /// The decoder was later than the clock of `realtime`.
    LateFrames,
    /// Of a record of a later version.
    #[serde(other)]
    Unknown,
}

impl Disturbance {
    /// Its name in records and CSV files.
    pub fn as_str(self) -> &'static str {
        match self {
            Disturbance::Rivals => "rivals",
            Disturbance::Stalled => "stalled",
            Disturbance::Outliers => "outliers",
            Disturbance::Drift => "drift",
            Disturbance::Shifted => "shifted",
            Disturbance::Scattered => "scattered",
            Disturbance::SlowStart => "slow_start",
            Disturbance::LateFrames => "late_frames",
            Disturbance::Unknown => "unknown",
        }
    }

    /// Does it move the median latency, not only single frames?
    pub fn moves_medians(self) -> bool {
        !matches!(self, Disturbance::Outliers | Disturbance::SlowStart | Disturbance::LateFrames)
    }

    /// What it was, as it stands after "disturbed by".
    pub fn words(self) -> &'static str {
        match self {
            Disturbance::Rivals => "other programs",
            Disturbance::Stalled => "stalls",
            Disturbance::Outliers => "outliers",
            Disturbance::Drift => "drift",
            Disturbance::Shifted => "a change of level",
            Disturbance::Scattered => "scattered latencies",
            Disturbance::SlowStart => "a slow start",
            Disturbance::LateFrames => "late decoding",
            Disturbance::Unknown => "something that this version does not know",
        }
    }

    /// Does it surely lie in the hour rather than in the job or the device? Then another run may be undisturbed.
    pub fn passes(self) -> bool {
        self == Disturbance::Rivals
    }

    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Disturbance::Rivals => {
                "stop other programs, or run when the machine is idle (--rival-policy strict refuses such runs)"
            }
            Disturbance::Stalled => {
                "look for other load, limits of the container, a suspended machine or virtual machine"
            }
            Disturbance::Outliers => "look for other load, and for clocks that are not pinned",
            Disturbance::Drift => "look for heat, clocks and other load; let the device cool down, or run longer",
            Disturbance::Shifted => "look for clocks, heat and other load that begins or ends in the run",
            Disturbance::Scattered => "pin the clocks and stop other load; quote percentiles, not the mean",
            Disturbance::SlowStart => "use the figures of the steady state, or run longer",
            Disturbance::LateFrames => "decode the clip to JPEG frames first, or lower --fps",
            Disturbance::Unknown => "read the record with the version that wrote it",
        }
    }

    /// Does the record hold what it is seen in, frame by frame? Otherwise sensors saw it while frames were timed.
    pub fn is_in_the_record(self) -> bool {
        matches!(
            self,
            Disturbance::Stalled
                | Disturbance::Outliers
                | Disturbance::Drift
                | Disturbance::Shifted
                | Disturbance::Scattered
                | Disturbance::SlowStart
        )
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl NoteKind {
    /// The disturbance that notes of this kind tell about. Not every such note is one: see the limits in `judge::limits`.
    pub fn disturbance(self) -> Option<Disturbance> {
        match self {
            NoteKind::Rivals => Some(Disturbance::Rivals),
            NoteKind::Stalled => Some(Disturbance::Stalled),
            NoteKind::Outliers => Some(Disturbance::Outliers),
            NoteKind::Drift => Some(Disturbance::Drift),
            NoteKind::Shifted => Some(Disturbance::Shifted),
            NoteKind::Scattered => Some(Disturbance::Scattered),
            NoteKind::SlowStart => Some(Disturbance::SlowStart),
            NoteKind::LateFrames => Some(Disturbance::LateFrames),
            _ => None,
        }
    }
}

/// Names with semicolons between them, as a CSV field has them.
pub fn list(disturbed: &[Disturbance]) -> String {
    disturbed.iter().map(|d| d.as_str()).collect::<Vec<_>>().join(";")
}

/// Takes in what `more` has beyond `all`; names stay in order.
pub fn join(all: &mut Vec<Disturbance>, more: &[Disturbance]) {
    all.extend(more);
    all.sort_unstable();
    all.dedup();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_record_and_later_ones_are_read() {
        use Disturbance::*;
        for kind in [Rivals, Stalled, Outliers, Drift, Shifted, Scattered, SlowStart, LateFrames] {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("{:?}", kind.as_str()));
        }
        assert_eq!(serde_json::from_str::<Disturbance>("\"of a later version\"").unwrap(), Unknown);
        let mut all = vec![Drift];
        join(&mut all, &[Rivals, Drift]);
        assert_eq!(list(&all), "rivals;drift");
        assert_eq!(list(&[]), "");
    }
}
