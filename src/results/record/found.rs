//! What was found that nobody prompted.

use jetbench_runners::types::AssociationCounts;
use serde::{Deserialize, Serialize};

use super::sequence::{SequenceRecord, TrackRecord};
use crate::score::unprompted::{COVERED_FROM, Unprompted, UnpromptedScores};

/// The detector of a cell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetectorRecord {
    /// Pack id.
    pub pack: String,
    /// The model that the pack only stands in for, where it is a test model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_model_of: Option<String>,
    /// Licence of its pack; empty in older records, and where its manifest has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub licence: String,
    /// Names of its classes, by number.
    #[serde(default)]
    pub classes: Vec<String>,
}

/// What a detector founded in a video.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FoundRecord {
    /// How often which rule of the association applied.
    #[serde(default)]
    pub counts: AssociationCounts,
    /// Every track, those that were taken back too, by id.
    #[serde(default)]
    pub tracks: Vec<FoundTrackRecord>,
    /// What the tracks are worth; `None` where there is no ground truth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<UnpromptedScores>,
}

/// A track that a detector founded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FoundTrackRecord {
    /// Its number in the runner, from 1, never given twice.
    pub id: u32,
    /// Its number in saved masks and pictures, from 1 without gaps; `None`: it was taken back, and is no part of the result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// Its first frame, an index into the video.
    pub birth: u32,
    /// The first frame that is no longer its own; `birth` where it was taken back.
    pub end: u32,
    /// Detections that supported it.
    pub hits: u32,
    /// Largest score of these, 0..1.
    pub score: f64,
    /// Class of the founding detection.
    pub label: String,
    /// Its largest IoU with any object of the truth on any frame; `None` where there is no truth, or it was taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_iou: Option<f64>,
    /// What the model said of it, on each of its tracked frames of the first pass.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub frames: Vec<TrackRecord>,
}

/// What a detector founded in all videos of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FoundSummary {
    /// Tracks that were founded.
    pub founded: usize,
    /// Those that were confirmed: the result.
    pub confirmed: usize,
    /// Those that were taken back.
    pub taken_back: usize,
    /// Confirmed ones that cover no object: their IoU with every one is below 0.5 on every frame. `None` where there is no ground truth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmatched: Option<usize>,
    /// What they are worth; `None` where there is no ground truth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<Unprompted>,
}

impl FoundSummary {
    /// Of the finished videos of a cell; `None`: its objects are prompted.
    pub fn of(sequences: &[SequenceRecord]) -> Option<FoundSummary> {
        let found: Vec<&FoundRecord> = sequences.iter().filter_map(|s| s.found.as_ref()).collect();
        if found.is_empty() {
            return None;
        }
        let tracks = || found.iter().flat_map(|f| &f.tracks);
        let confirmed = tracks().filter(|t| t.number.is_some()).count();
        let scores: Vec<&UnpromptedScores> = found.iter().filter_map(|f| f.scores.as_ref()).collect();
        let uncovered = |t: &&FoundTrackRecord| t.best_iou.is_some_and(|iou| iou < COVERED_FROM);
        Some(FoundSummary {
            founded: tracks().count(),
            confirmed,
            taken_back: tracks().count() - confirmed,
            unmatched: (!scores.is_empty()).then(|| tracks().filter(uncovered).count()),
            scores: Unprompted::over(&scores),
        })
    }
}
