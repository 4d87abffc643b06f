//! What a video adds to VPQ and STQ: counts that are summed over videos before a mean is taken.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::frame::PanopticFrame;
use super::vpq::Tally;
use super::{WINDOWS, stq, vpq};
use crate::dataset::panoptic_truth::PanopticCategory;

/// Counts of one video.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VideoCounts {
    /// Frames.
    pub frames: usize,
    /// Ids of categories are below it: the largest id plus 1, but at least as many as [`stq`] has room for.
    pub classes: usize,
    /// Categories that occur on either side, by their place in the truth's description.
    pub categories: BTreeMap<usize, CategoryCounts>,
    /// Pixels that are labelled in the truth and in no segment of the prediction.
    pub unpredicted: u64,
    /// Sum over the truth's tubes of what [`stq`] takes the mean of.
    pub aq: f64,
    /// Tubes of the truth that [`VideoCounts::aq`] is a sum over.
    pub tubes: u64,
    /// Is the truth's first segment a thing, which counts as a crowd in STQ?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub first_is_thing: bool,
    /// Tracks that are no segment, because the data set has no category of the name of their class.
    #[serde(default)]
    pub left_out: usize,
}

/// Counts of one category.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CategoryCounts {
    /// Id in the truth's description.
    pub id: u32,
    /// Is it a thing?
    pub thing: bool,
    /// By length of [`WINDOWS`].
    pub windows: [Tally; WINDOWS.len()],
    /// Pixels of both sides, of the truth, and of the prediction where the truth is labelled.
    pub pixels: [u64; 3],
}

impl VideoCounts {
    /// Of the frames of a video, in order.
    ///
    /// # Errors
    /// There are more segments than STQ's labels can tell apart.
    pub(crate) fn of(frames: &[PanopticFrame], categories: &[PanopticCategory]) -> Result<VideoCounts, String> {
        let stq::Video { confusion, aq, tubes, first_is_thing } = stq::Video::of(frames, categories)?;
        let windows = WINDOWS.map(|length| vpq::of_video(frames, categories.len(), length));
        let of = |(place, category): (usize, &PanopticCategory)| {
            let at = category.id as usize;
            let counts = CategoryCounts {
                id: category.id,
                thing: category.thing,
                windows: std::array::from_fn(|n| windows[n][place]),
                pixels: [confusion.both[at], confusion.truth[at], confusion.pred[at]],
            };
            let occurs = counts.pixels.iter().any(|n| *n > 0) || counts.windows.iter().any(|t| *t != Tally::default());
            occurs.then_some((place, counts))
        };
        let classes = confusion.both.len() - 1;
        Ok(VideoCounts {
            frames: frames.len(),
            classes,
            categories: categories.iter().enumerate().filter_map(of).collect(),
            unpredicted: confusion.pred[classes],
            aq,
            tubes: tubes as u64,
            first_is_thing,
            left_out: 0,
        })
    }
}
