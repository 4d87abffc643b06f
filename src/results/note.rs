//! What a reader should know about a cell, and why a cell may not be quoted: each with its kind, so that nobody has to
//! search a sentence for it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a note is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteKind {
    /// Frames slower than the rest at the beginning.
    SlowStart,
    /// Latency that rose or fell over the run.
    Drift,
    /// Frames that took much longer than their like.
    Outliers,
    /// Latency that changed its level.
    Shifted,
    /// Frames of which few lie near the median.
    Scattered,
    /// Frames that took much longer because the number of objects changed.
    ObjectChange,
    /// Other programs that used the processor.
    Rivals,
    /// The worker stood still while frames were timed.
    Stalled,
    /// Frames that the decoder brought late.
    LateFrames,
    /// A memory figure that had to be left empty.
    MemoryUnknown,
    /// Memory of this machine that was swapped out.
    Swap,
    /// More memory than was allowed.
    Budget,
    /// An energy figure that had to be left empty.
    EnergyUnknown,
    /// How hot the machine became.
    Temperature,
    /// How far a stage is from what the hardware can do.
    Limit,
    /// How the runner was set up.
    Setup,
    /// The cell ended early.
    Stopped,
    /// The cell was taken up again, or joined from several processes.
    Joined,
    /// Repeats of one cell that scored differently.
    Scores,
    /// Cells whose masks could not be compared.
    Agreement,
    /// A file for the reader that could not be written.
    Output,
    /// What the worker left unsaid until it ended.
    Worker,
    /// Of a record of schema 1, in which notes had no kind.
    #[serde(other)]
    Unknown,
}

/// How much a note matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something disturbed the measurement, or a figure is missing: look before quoting.
    Warning,
    /// Worth knowing.
    Info,
}

impl NoteKind {
    /// How much notes of this kind matter.
    pub fn severity(self) -> Severity {
        use NoteKind::*;
        match self {
            SlowStart | Drift | Outliers | Shifted | Scattered | ObjectChange | Rivals | Stalled | LateFrames
            | MemoryUnknown | Swap | Budget | Stopped | Scores | Agreement | Output | Worker => Severity::Warning,
            EnergyUnknown | Temperature | Limit | Setup | Joined | Unknown => Severity::Info,
        }
    }
}

/// A remark for the reader, with a remedy where there is one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// What it is about.
    pub kind: NoteKind,
    /// How much it matters.
    pub severity: Severity,
    /// The repeat that it is about, from 1; `None`: the cell, or its first repeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<u32>,
    /// One sentence without its full stop.
    pub text: String,
    /// The figure that the sentence is about, for notes that are told together: [`NoteKind::Rivals`]: cores; `Drift`: percent,
    /// up or down; `Outliers`: percent of the frames; `SlowStart`: frames. `None` for other kinds, and in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<f64>,
}

impl Note {
    /// A note of this kind.
    pub fn new(kind: NoteKind, text: impl Into<String>) -> Note {
        Note { kind, severity: kind.severity(), repeat: None, text: text.into(), amount: None }
    }

    /// With the figure that it is about; see [`Note::amount`].
    #[must_use]
    pub fn about(self, amount: f64) -> Note {
        Note { amount: Some(amount), ..self }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.repeat {
            Some(repeat) => write!(f, "repeat {repeat}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Which rule a cell broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonKind {
    /// The warm-up mask was empty, full or not finite.
    WarmUp,
    /// An output was not finite.
    NonFinite,
    /// A graph ran on another provider.
    Fallback,
    /// A graph computed in another precision.
    Precision,
    /// Too few frames were timed.
    TooFewFrames,
    /// Too little time was spent in frames.
    TooShort,
    /// Latency never settled.
    Unsteady,
    /// The worker was swapped out.
    Swapped,
    /// The power mode changed.
    PowerMode,
    /// Clocks were cut.
    Throttled,
    /// Other programs used the processor.
    Rivals,
    /// A cgroup's processor quota stopped the worker.
    Quota,
    /// The worker kept memory with every frame.
    Leak,
    /// Fewer videos, objects or frames than planned.
    Incomplete,
    /// The detector that founds the tracks found nothing.
    NoDetection,
    /// More tracks than a label map has ids.
    TooManyTracks,
    /// Of a record of schema 1, in which reasons had no kind.
    #[serde(other)]
    Unknown,
}

impl ReasonKind {
    /// Does it lie in the hour (heat, other programs, full memory) rather than in the job? Then another run may be valid.
    pub fn passes(self) -> bool {
        use ReasonKind::*;
        match self {
            Unsteady | Swapped | PowerMode | Throttled | Rivals | Quota => true,
            WarmUp | NonFinite | Fallback | Precision | TooFewFrames | TooShort | Leak | Incomplete | NoDetection
            | TooManyTracks | Unknown => false,
        }
    }
}

/// Why a cell is invalid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// The rule.
    pub kind: ReasonKind,
    /// What was seen, in one sentence without its full stop.
    pub text: String,
}

impl Reason {
    /// A broken rule.
    pub fn new(kind: ReasonKind, text: impl Into<String>) -> Reason {
        Reason { kind, text: text.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_as_written_and_those_of_later_versions_too() {
        for note in [Note::new(NoteKind::Drift, "a"), Note { repeat: Some(2), ..Note::new(NoteKind::Setup, "b") }] {
            assert_eq!(serde_json::from_str::<Note>(&serde_json::to_string(&note).unwrap()).unwrap(), note);
        }
        let later = r#"{"kind": "of a later version", "severity": "info", "text": "c"}"#;
        assert_eq!(serde_json::from_str::<Note>(later).unwrap().kind, NoteKind::Unknown);
    }
}
