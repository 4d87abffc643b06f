//! How was the model told which object to track?

use jetbench_runners::digest::hex;
use jetbench_runners::types::{Click, Mask, PromptShape};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A prompt as the model was given it. Coordinates are source pixels, the centre of the top left one at (0, 0).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PromptRecord {
    /// Clicks.
    Points {
        /// In the order given.
        clicks: Vec<Click>,
    },
    /// A box.
    Bbox {
        /// `[x_min, y_min, x_max, y_max]`: first and last column and row of the object, both inclusive.
        corners: [f32; 4],
    },
    /// A mask of the frame's size, by its digest.
    Mask {
        /// SHA-256 over one byte per pixel (1 inside, 0 outside), row after row from the top, as lower-case hexadecimal text.
        sha256: String,
        /// Pixels inside.
        area: u64,
    },
}

impl PromptRecord {
    /// The prompt itself. A mask is taken from `truth`, the annotation that it was made from; `None` if that is not the
    /// mask that was given.
    pub fn shape(&self, truth: Option<&Mask>) -> Option<PromptShape> {
        match self {
            PromptRecord::Points { clicks } => Some(PromptShape::Points(clicks.clone())),
            PromptRecord::Bbox { corners } => Some(PromptShape::Bbox(*corners)),
            PromptRecord::Mask { sha256, .. } => {
                truth.filter(|truth| digest(truth) == *sha256).cloned().map(PromptShape::Mask)
            }
        }
    }
}

impl From<&PromptShape> for PromptRecord {
    fn from(shape: &PromptShape) -> Self {
        match shape {
            PromptShape::Points(clicks) => PromptRecord::Points { clicks: clicks.clone() },
            PromptShape::Bbox(corners) => PromptRecord::Bbox { corners: *corners },
            PromptShape::Mask(mask) => PromptRecord::Mask { sha256: digest(mask), area: mask.area() },
        }
    }
}

/// See [`PromptRecord::Mask`]. One row at a time: a worker's memory is being measured.
fn digest(mask: &Mask) -> String {
    let mut digest = Sha256::new();
    let mut row = vec![0; mask.width() as usize];
    for y in 0..mask.height() {
        row.iter_mut().zip(0..).for_each(|(pixel, x)| *pixel = u8::from(mask.get(x, y)));
        digest.update(&row);
    }
    hex(&digest.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_prompt_is_found_again_by_its_digest_and_no_other_mask_is_taken_for_it() {
        let mask = Mask::from_fn(70, 3, |x, y| x >= 65 && y < 2);
        let record = PromptRecord::from(&PromptShape::Mask(mask.clone()));
        let bytes: Vec<u8> = (0..3).flat_map(|y| (0..70).map(move |x| u8::from(x >= 65 && y < 2))).collect();
        assert_eq!(record, PromptRecord::Mask { sha256: jetbench_runners::digest::sha256_hex(&bytes), area: 10 });
        assert_eq!(record.shape(Some(&mask)), Some(PromptShape::Mask(mask.clone())));
        let mut other = mask;
        other.set(0, 2);
        assert_eq!((record.shape(Some(&other)), record.shape(None)), (None, None));
    }

    #[test]
    fn clicks_and_boxes_are_read_back_as_they_were_given() {
        let clicks = vec![Click { x: 3.0, y: 4.0, positive: true }, Click { x: 1919.0, y: 0.0, positive: false }];
        for shape in [PromptShape::Points(clicks), PromptShape::Bbox([0.0, 1.0, 639.0, 479.0])] {
            let text = serde_json::to_string(&PromptRecord::from(&shape)).unwrap();
            let read: PromptRecord = serde_json::from_str(&text).unwrap();
            assert_eq!(read.shape(None), Some(shape), "{text}");
        }
    }
}
