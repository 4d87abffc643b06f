//! What does a manifest say of a video segmenter whose tracks are born and die, and of an input that is no square?

use serde::{Deserialize, Serialize};

use super::Manifest;

/// The part of the input that a frame takes: as large as fits, its aspect ratio kept. What is left to the right and below is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Fit {
    /// Columns, `input.size` at most.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// How a video segmenter's tracks come and go. A score is the probability of the best class, "no object" left out; above a limit means above,
/// not equal.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TracksSpec {
    /// Most tracks at a time.
    pub slots: u32,
    /// Slots of the background in the branch that says whether a track is gone.
    pub background: u32,
    /// Is there such a branch?
    pub slot_branch: bool,
    /// Score above which a query is an object, on every frame but the first.
    pub select_score: f32,
    /// Score of the segmenter above which a query is an object on the first frame.
    pub first_score: f32,
    /// Score in the slot branch above which a track is still there.
    pub keep_score: f32,
    /// So many frames one after the other on which a track is no object end it.
    pub kick_out_frames: u32,
    /// A track of fewer frames is left out of the result, unless it is alive at the end.
    pub noise_frames: u32,
    /// The result has so many of the likeliest pairs of track and class.
    pub most: u32,
}

/// Do the parts of the manifest that belong to such a segmenter hold what they can?
pub(super) fn check(manifest: &Manifest) -> Result<(), String> {
    let tracks = manifest.segmenter.as_ref().and_then(|segmenter| segmenter.tracks.as_ref());
    match (&manifest.input.fit, tracks) {
        (None, None) => Ok(()),
        (Some(_), None) => Err("input.fit: only for a pack with [segmenter.tracks]".to_string()),
        (None, Some(_)) => Err("input.fit: the part of the input that a frame takes is missing".to_string()),
        (Some(fit), Some(tracks)) => {
            let most = manifest.input.size;
            for (field, value, most) in [("width", fit.width, most), ("height", fit.height, 4096)] {
                if !(16..=most).contains(&value) {
                    return Err(format!("input.fit.{field} = {value}: 16 to {most} expected"));
                }
            }
            tracks.check()
        }
    }
}

impl TracksSpec {
    fn check(&self) -> Result<(), String> {
        for (field, value, most) in [
            ("slots", self.slots, 4096),
            ("background", self.background, 4096),
            ("kick_out_frames", self.kick_out_frames, 1_000_000),
            ("noise_frames", self.noise_frames, 1_000_000),
            ("most", self.most, 1_000_000),
        ] {
            if !(1..=most).contains(&value) {
                return Err(format!("segmenter.tracks.{field} = {value}: 1 to {most} expected"));
            }
        }
        for (field, value) in
            [("select_score", self.select_score), ("first_score", self.first_score), ("keep_score", self.keep_score)]
        {
            if !(0.0..=1.0).contains(&value) {
                return Err(format!("segmenter.tracks.{field} = {value}: 0 to 1 expected"));
            }
        }
        Ok(())
    }
}
