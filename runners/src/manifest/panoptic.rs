//! What does a manifest say of a video segmenter whose objects share the pixels of a frame among them?

use serde::{Deserialize, Serialize};

/// Largest id of a category: 255 means none to STQ's evaluator.
const LARGEST: u32 = 254;

/// How panoptic segments are made (option `panoptic`), and what they are called in the files of a data set. Defaults: `score` and `overlap` 0.8, no stuff,
/// ids are the numbers of the classes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PanopticSpec {
    /// An object takes part where the probability of its best class is above this.
    pub score: f64,
    /// An object that wins less than this share of its own mask has no segment on that frame.
    pub overlap: f64,
    /// Numbers of the classes that are stuff: all objects of such a class are one segment. The others are things.
    pub stuff: Vec<u32>,
    /// Id of each class in the files of the data set, 254 at most; empty: its number.
    pub ids: Vec<u32>,
}

impl Default for PanopticSpec {
    fn default() -> Self {
        PanopticSpec { score: 0.8, overlap: 0.8, stuff: Vec::new(), ids: Vec::new() }
    }
}

impl PanopticSpec {
    /// Is class number `class` stuff?
    pub fn is_stuff(&self, class: u32) -> bool {
        self.stuff.contains(&class)
    }

    /// Id of class number `class` in the files of the data set.
    pub fn id_of(&self, class: u32) -> u32 {
        self.ids.get(class as usize).copied().unwrap_or(class)
    }

    /// Does it fit so many classes?
    pub(super) fn check(&self, classes: usize) -> Result<(), String> {
        for (field, value) in [("score", self.score), ("overlap", self.overlap)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(format!("segmenter.panoptic.{field} = {value}: 0 to 1 expected"));
            }
        }
        if let Some(class) = self.stuff.iter().find(|class| **class as usize >= classes) {
            return Err(format!(
                "segmenter.panoptic.stuff: {class}: numbers of the {classes} classes expected, from 0"
            ));
        }
        let known = self.ids.len();
        if known != 0 && known != classes {
            return Err(format!("segmenter.panoptic.ids: {known} ids, but {classes} classes"));
        }
        if let Some(id) = self.ids.iter().find(|id| **id > LARGEST) {
            return Err(format!("segmenter.panoptic.ids: {id}: 0 to {LARGEST} expected"));
        }
        if let Some((at, id)) = self.ids.iter().enumerate().find(|(at, id)| self.ids[..*at].contains(id)) {
            return Err(format!("segmenter.panoptic.ids: class {at} has the id {id} of another one"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_the_classes_is_named() {
        let spec = PanopticSpec::default;
        assert_eq!(spec().check(3), Ok(()));
        let full = PanopticSpec { stuff: vec![2], ids: vec![7, 5, 9], ..spec() };
        assert_eq!(full.check(3), Ok(()));
        assert_eq!((full.id_of(1), full.is_stuff(1), full.is_stuff(2), spec().id_of(1)), (5, false, true, 1));
        for (wrong, fault) in [
            (PanopticSpec { score: 1.5, ..spec() }, "segmenter.panoptic.score = 1.5: 0 to 1 expected"),
            (PanopticSpec { overlap: f64::NAN, ..spec() }, "segmenter.panoptic.overlap = NaN: 0 to 1 expected"),
            (
                PanopticSpec { stuff: vec![0, 3], ..spec() },
                "segmenter.panoptic.stuff: 3: numbers of the 3 classes expected, from 0",
            ),
            (PanopticSpec { ids: vec![1, 255, 3], ..spec() }, "segmenter.panoptic.ids: 255: 0 to 254 expected"),
            (PanopticSpec { ids: vec![1], ..spec() }, "segmenter.panoptic.ids: 1 ids, but 3 classes"),
            (
                PanopticSpec { ids: vec![1, 2, 1], ..spec() },
                "segmenter.panoptic.ids: class 2 has the id 1 of another one",
            ),
        ] {
            assert_eq!(wrong.check(3), Err(fault.to_string()));
        }
    }
}
