//! What became of the objects that a runner found by itself: tracks, founded and ended without a prompt.

use serde::{Deserialize, Serialize};

/// A track that a detection founded. Frames are counted in steps since the last reset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundTrack {
    /// Number of the object in [`crate::types::FrameMasks`]; from 1, never given twice in a sequence.
    pub id: u32,
    /// Its first frame.
    pub birth: u32,
    /// The first frame that is no longer its own; equal to `birth` for a track that was taken back.
    pub end: u32,
    /// Enough detections supported it: only then it is part of the result.
    pub confirmed: bool,
    /// Detections that supported it, the founding one included.
    pub hits: u32,
    /// Largest score of these, 0..1.
    pub score: f64,
    /// Class of the founding detection.
    pub label: u32,
}

/// How often which rule of the association applied in a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AssociationCounts {
    /// Frames on which the detector looked.
    pub detector_frames: u32,
    /// Detections that were left after threshold and suppression.
    pub detections: u32,
    /// Detections with a number that is none, left out.
    pub non_finite: u32,
    /// Detections that founded no track, because as many as allowed were alive.
    pub dropped: u32,
    /// Detections that founded no track: the mask was empty, or that of a live track.
    pub refused: u32,
    /// Tracks that were taken back, because too few detections supported them.
    pub unconfirmed: u32,
    /// Tracks that ended, because no detection supported them for too long.
    pub ended_unsupported: u32,
    /// Tracks that ended, because their mask was empty for too long.
    pub ended_absent: u32,
}

/// All tracks of a sequence, by id, taken-back ones included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FoundTracks {
    /// The tracks, by id.
    pub tracks: Vec<FoundTrack>,
    /// Which rules applied.
    pub counts: AssociationCounts,
}

/// The track that a prompted object took, where the model finds its tracks itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TakenTrack {
    /// Caller's number of the object.
    pub object: u32,
    /// Number of the track, as it would be in [`FoundTrack::id`]; `None`: none suited the prompt, or another object had it.
    pub track: Option<u32>,
    /// IoU of the prompt with the track on the frame of the prompt, 0..1: of masks, or of boxes; `None` for clicks, and without a track.
    pub iou: Option<f64>,
    /// The first frame on which the track was no more, in steps since the last reset; `None`: it lived to the last.
    pub end: Option<u32>,
}

/// The tracks of all prompted objects of a sequence.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TakenTracks {
    /// One entry per object, in the order of the prompts.
    pub objects: Vec<TakenTrack>,
    /// As [`AssociationCounts::dropped`], of the model's own tracks.
    pub dropped: u32,
}

/// What a label pack calls an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrackLabel {
    /// Number of the object in [`crate::types::FrameMasks`].
    pub object: u32,
    /// Crops that its features are the mean of.
    pub crops: u32,
    /// The class with the largest probability; `None`: no crop showed it, or its features are no numbers.
    pub best: Option<ClassProbability>,
    /// The class with the second largest; `None` also where there is one class.
    pub second: Option<ClassProbability>,
}

/// A class and its probability.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassProbability {
    /// Number of the class.
    pub label: u32,
    /// 0..1.
    pub probability: f64,
}

/// What a label pack calls the objects of a sequence.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrackLabels {
    /// One entry per object, by number.
    pub objects: Vec<TrackLabel>,
    /// Time of the image tower over all crops, after the last frame, ms.
    pub time_ms: f64,
    /// Objects beyond the number that is labelled.
    pub left_out: u32,
}
