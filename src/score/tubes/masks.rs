//! Masks of YouTube-VIS files, and the comparison of a video's results with its truth, a frame at a time: what is held is the masks of
//! one frame, whatever the size of the files.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::value::RawValue;

use super::Shared;
use super::average::{Part, best};
use super::files::mean_area;
use crate::score::segment::Segment;

/// An instance as its file has it.
pub(super) struct Entry<'a> {
    /// Video and category, as indices.
    pub(super) video: usize,
    pub(super) category: usize,
    /// The area of a result is not in it yet.
    pub(super) part: Part,
    /// Per frame; `None` where it does not show.
    pub(super) masks: Vec<Option<Rle<'a>>>,
}

/// A mask as COCO writes it.
#[derive(Deserialize)]
pub(super) struct Rle<'a> {
    /// Height, width.
    pub(super) size: [u32; 2],
    #[serde(borrow)]
    counts: Counts<'a>,
}

/// Its run lengths.
enum Counts<'a> {
    /// What stands between the quotes of the JSON text.
    Text(&'a str),
    Runs(Vec<u32>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Counts<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        if let Some(text) = raw.strip_prefix('"') {
            return Ok(Counts::Text(&text[..text.len() - 1]));
        }
        let runs = serde_json::from_str(raw)
            .map_err(|_| D::Error::custom("`counts` is neither a text nor a list of run lengths"))?;
        Ok(Counts::Runs(runs))
    }
}

/// Truth and results of one video, and their IoU.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VideoTubes {
    /// Category, as an index, and what decides whether and when it counts; in the file's order.
    pub truth: Vec<(usize, Part)>,
    /// The same of the results, without those of unknown categories.
    pub results: Vec<(usize, Part)>,
    /// IoU of the tubes, a row per result; 0 for pairs that no average looks at.
    pub iou: Vec<f64>,
}

/// Memory that every frame uses again.
#[derive(Default)]
pub(super) struct Room {
    truth: Vec<Segment>,
    result: Segment,
}

impl Room {
    /// Compares a video's results with its truth.
    ///
    /// # Errors
    /// What is wrong with a mask.
    pub(super) fn compare(&mut self, truth: &[&Entry], results: &[&Entry]) -> Result<VideoTubes, String> {
        let looked_at = looked_at(truth, results);
        let mut shared = vec![Shared::default(); truth.len() * results.len()];
        let mut areas = vec![Vec::new(); results.len()];
        let frames = truth.iter().chain(results).map(|entry| entry.masks.len()).max().unwrap_or(0);
        self.truth.resize_with(truth.len().max(self.truth.len()), Segment::default);
        for frame in 0..frames {
            for (entry, segment) in truth.iter().zip(&mut self.truth) {
                if let Some(Some(rle)) = entry.masks.get(frame) {
                    rle.read(segment)?;
                }
            }
            for (r, result) in results.iter().enumerate() {
                let Some(rle) = result.masks.get(frame) else { continue };
                if let Some(rle) = rle {
                    rle.read(&mut self.result)?;
                    areas[r].push(self.result.area() as f64);
                }
                let own = rle.as_ref().map(|_| &self.result);
                for (t, entry) in truth.iter().enumerate().filter(|(t, _)| looked_at[r * truth.len() + t]) {
                    // Frames that only one of them has are not compared.
                    let Some(rle) = entry.masks.get(frame) else { continue };
                    shared[r * truth.len() + t].add(own, rle.as_ref().map(|_| &self.truth[t]));
                }
            }
        }
        let results = results.iter().zip(areas);
        Ok(VideoTubes {
            truth: truth.iter().map(|entry| (entry.category, entry.part)).collect(),
            results: results
                .map(|(r, areas)| (r.category, Part { area: mean_area(areas.into_iter()), ..r.part }))
                .collect(),
            iou: shared.iter().map(Shared::iou).collect(),
        })
    }

    /// Can the mask be read?
    pub(super) fn check(&mut self, rle: &Rle) -> Result<(), String> {
        rle.read(&mut self.result)
    }
}

impl Rle<'_> {
    /// Reads it into a segment.
    fn read(&self, segment: &mut Segment) -> Result<(), String> {
        const NONE: &str = "`counts` is not a COCO run-length text";
        let text = match &self.counts {
            Counts::Runs(runs) => return segment.set_runs(self.size, runs),
            Counts::Text(text) => text,
        };
        segment.set_text(self.size, text.as_bytes(), true, NONE).or_else(|fault| {
            // JSON may write any character as an escape, but nobody does.
            let text: String = serde_json::from_str(&format!("\"{text}\"")).map_err(|_| fault)?;
            segment.set_text(self.size, text.as_bytes(), false, NONE)
        })
    }
}

/// Which pairs some average looks at, a row per result: those of one category, and all of the best results.
fn looked_at(truth: &[&Entry], results: &[&Entry]) -> Vec<bool> {
    let mut looked_at = vec![false; truth.len() * results.len()];
    let scored: Vec<(usize, Part)> = results.iter().map(|entry| (entry.category, entry.part)).collect();
    let categories: BTreeSet<usize> = scored.iter().map(|(category, _)| *category).collect();
    for category in std::iter::once(None).chain(categories.into_iter().map(Some)) {
        for r in best(&scored, category) {
            for (t, entry) in truth.iter().enumerate() {
                looked_at[r * truth.len() + t] |= category.is_none_or(|category| category == entry.category);
            }
        }
    }
    looked_at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(json: &str) -> Result<Vec<[u32; 2]>, String> {
        let text = format!(r#"{{"size": [5, 20], "counts": {json}}}"#);
        let rle: Rle = serde_json::from_str(&text).unwrap();
        let mut segment = Segment::default();
        rle.read(&mut segment).map(|()| segment.spans().to_vec())
    }

    #[test]
    fn run_lengths_are_read_from_numbers_and_from_texts_with_any_escape() {
        let wanted = Ok(vec![[0, 76]]);
        for json in ["[0, 76, 24]", r#""0\\2h0""#, r#""0\u005c2h0""#, r#""\u0030\\2h0""#] {
            assert_eq!(spans(json), wanted, "{json}");
        }
        let none = Err("`counts` is not a COCO run-length text".to_string());
        for json in [r#""0\n2h0""#, r#""0\\""#, r#""0\\2h0\/""#, r#""\ud800""#] {
            assert_eq!(spans(json), none, "{json}");
        }
        assert_eq!(spans("[0, 76]"), Err("its run lengths do not fill 20x5 pixels".to_string()));
        let odd: Result<Rle, _> = serde_json::from_str(r#"{"size": [5, 20], "counts": [0, -1]}"#);
        assert!(odd.err().unwrap().to_string().contains("neither a text nor a list of run lengths"));
    }
}
