//! Which tracks did prompted objects take, where the model finds its tracks itself?

use jetbench_runners::types::TakenTrack;
use serde::{Deserialize, Serialize};

use super::sequence::SequenceRecord;

/// The track of a prompted object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TakenRecord {
    /// Its number in the model, from 1; `None`: none suited the prompt, and the object has empty masks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub track: Option<u32>,
    /// IoU of track and prompt on the frame of the prompt, 0..1: of masks, or of boxes; `None` for clicks, and without a track.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iou: Option<f64>,
    /// The first frame on which the track was no more; `None`: it lived to the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<u32>,
}

impl From<&TakenTrack> for TakenRecord {
    fn from(&TakenTrack { track, iou, end, .. }: &TakenTrack) -> Self {
        TakenRecord { track, iou, end }
    }
}

/// What became of the prompted objects of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenSummary {
    /// Objects that were prompted.
    pub objects: usize,
    /// Those without a track.
    pub without: usize,
    /// Those whose track ended before the video.
    pub ended: usize,
}

impl TakenSummary {
    /// Of the finished videos of a cell; `None`: the prompts reach the model, or there are none.
    pub fn of(sequences: &[SequenceRecord]) -> Option<TakenSummary> {
        let taken = || sequences.iter().flat_map(|s| &s.objects).filter_map(|object| object.taken);
        let asked = sequences.iter().any(|s| s.dropped_births.is_some());
        asked.then(|| TakenSummary {
            objects: taken().count(),
            without: taken().filter(|taken| taken.track.is_none()).count(),
            ended: taken().filter(|taken| taken.end.is_some()).count(),
        })
    }
}
