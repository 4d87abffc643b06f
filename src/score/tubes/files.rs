//! Truth and results of YouTube-VIS and OVIS, as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jetbench_runners::files;
use serde::Deserialize;

use crate::dataset::{DataError, coco_runs};
use crate::score::segment::Segment;

/// An instance over a video.
#[derive(Clone, Debug, PartialEq)]
pub struct Tube {
    /// Video, as an index.
    pub video: usize,
    /// Category, as an index.
    pub category: usize,
    /// Per frame; `None` where it does not show.
    pub frames: Vec<Option<Segment>>,
    /// Mean area of the frames where it has one, pixels.
    pub area: f64,
    /// Score of a result; 0 for the truth.
    pub score: f64,
    /// A crowd: it may be matched any number of times and counts for nobody.
    pub crowd: bool,
    /// OVIS's occlusion score of a truth.
    pub occlusion: Option<f64>,
}

/// Truth and results of one evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Instances {
    /// Ids of videos, ascending.
    pub videos: Vec<i64>,
    /// Ids and names of categories, ascending by id.
    pub categories: Vec<(i64, String)>,
    /// Truth, in the file's order.
    pub truth: Vec<Tube>,
    /// Results, in the file's order, without those of unknown categories.
    pub results: Vec<Tube>,
}

impl Tube {
    /// An instance or a result of the only video and category.
    pub fn alone(frames: Vec<Option<Segment>>, score: f64) -> Tube {
        let area = mean_area(frames.iter().flatten().map(|s| s.area() as f64));
        Tube { video: 0, category: 0, frames, area, score, crowd: false, occlusion: None }
    }
}

#[derive(Deserialize)]
struct TruthFile {
    videos: Vec<VideoEntry>,
    categories: Vec<CategoryEntry>,
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
struct VideoEntry {
    id: i64,
}

#[derive(Deserialize)]
struct CategoryEntry {
    id: i64,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Annotation {
    id: i64,
    video_id: i64,
    category_id: i64,
    segmentations: Vec<Option<Rle>>,
    areas: Vec<Option<f64>>,
    #[serde(default)]
    iscrowd: i64,
    #[serde(default)]
    occlusion: Option<Vec<Option<String>>>,
}

#[derive(Deserialize)]
struct ResultEntry {
    video_id: i64,
    category_id: i64,
    score: f64,
    segmentations: Vec<Option<Rle>>,
}

#[derive(Deserialize)]
struct Rle {
    size: [u32; 2],
    counts: Counts,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Counts {
    Text(String),
    Runs(Vec<u32>),
}

impl Rle {
    fn segment(self) -> Result<Segment, String> {
        let runs = match self.counts {
            Counts::Runs(runs) => runs,
            Counts::Text(text) => coco_runs(text.as_bytes()).ok_or("`counts` is not a COCO run-length text")?,
        };
        Segment::of_runs(self.size, &runs)
    }
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, what: &str) -> Result<T, DataError> {
    let fail = |what: String| DataError(format!("{}: {what}", path.display()));
    let text = files::read_text(path, files::LARGE).map_err(|e| fail(e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| fail(format!("not {what}: {e}")))
}

fn segments(all: Vec<Option<Rle>>, fail: impl Fn(String) -> DataError) -> Result<Vec<Option<Segment>>, DataError> {
    let each = all.into_iter().enumerate();
    each.map(|(i, rle)| rle.map(|r| r.segment().map_err(|e| fail(format!("segmentations[{i}]: {e}")))).transpose())
        .collect()
}

/// Mean of the areas above 0; 0 for none. The reference's mean is numpy's.
fn mean_area(areas: impl Iterator<Item = f64>) -> f64 {
    let areas: Vec<f64> = areas.filter(|a| *a != 0.0).collect();
    crate::score::mean(&areas).unwrap_or(0.0)
}

/// OVIS's occlusion score: the mean of the upper half of its frames' degrees.
fn occlusion(words: &[Option<String>]) -> Result<f64, String> {
    let degree = |word: &Option<String>| match word.as_deref() {
        None => Ok(None),
        Some("no_occlusion") => Ok(Some(0.0)),
        Some("slight_occlusion") => Ok(Some(0.25)),
        Some("severe_occlusion") => Ok(Some(0.75)),
        Some(other) => Err(format!("occlusion {other:?}: expected no_occlusion, slight_occlusion or severe_occlusion")),
    };
    let mut degrees: Vec<f64> = Vec::new();
    for word in words {
        degrees.extend(degree(word)?);
    }
    degrees.sort_by(|a, b| b.total_cmp(a));
    degrees.truncate(degrees.len().div_ceil(2));
    Ok(crate::score::mean(&degrees).unwrap_or(0.0))
}

impl Instances {
    /// Reads both files, and notes on what a reader should know.
    ///
    /// # Errors
    /// Names the file and the entry that does not fit.
    pub fn read(truth: &Path, pred: &Path, by_occlusion: bool) -> Result<(Instances, Vec<String>), DataError> {
        let file: TruthFile = parse(truth, "a YouTube-VIS annotation file")?;
        let results: Vec<ResultEntry> = parse(pred, "a YouTube-VIS result file")?;
        if results.is_empty() {
            return Err(DataError(format!("{}: no result in it", pred.display())));
        }
        let videos: BTreeSet<i64> = file.videos.iter().map(|v| v.id).collect();
        let categories: BTreeMap<i64, String> = file.categories.into_iter().map(|c| (c.id, c.name)).collect();
        let mut instances = Instances {
            videos: videos.into_iter().collect(),
            categories: categories.into_iter().collect(),
            truth: vec![],
            results: vec![],
        };
        let negative = instances.take_truth(file.annotations, truth, by_occlusion)?;
        let odd = instances.take_results(results, pred)?;
        let of_truth = "with an area below 0; one whose mean area is below 0 counts for nobody, as in the reference";
        let notes = [
            (negative, ["annotation", "annotations"], of_truth),
            (odd.unknown, RESULTS, "of a category that the truth does not list, left out as in the reference"),
            (
                odd.short,
                RESULTS,
                "with another number of frames than the truth; only the frames that both have are compared",
            ),
            (odd.resized, RESULTS, "with masks of another size than the truth's, which match nothing"),
        ];
        let notes = notes.into_iter().filter(|(count, ..)| *count > 0);
        let notes = notes.map(|(n, [one, many], what)| format!("{}: {what}", crate::text::plural(n, one, many)));
        let notes = notes.collect();
        Ok((instances, notes))
    }

    fn video(&self, id: i64) -> Option<usize> {
        self.videos.binary_search(&id).ok()
    }

    fn category(&self, id: i64) -> Option<usize> {
        self.categories.binary_search_by_key(&id, |(id, _)| *id).ok()
    }

    /// Takes the annotations of a truth file; how many have an area below 0.
    fn take_truth(&mut self, all: Vec<Annotation>, file: &Path, by_occlusion: bool) -> Result<usize, DataError> {
        let (mut ids, mut negative) = (BTreeSet::new(), 0);
        for a in all {
            let fail = |what: String| DataError(format!("{}: annotation {}: {what}", file.display(), a.id));
            if !ids.insert(a.id) {
                return Err(fail("two annotations have this id, of which the reference scores one twice".into()));
            }
            negative += usize::from(a.areas.iter().flatten().any(|area| *area < 0.0));
            let video = self.video(a.video_id).ok_or_else(|| fail(format!("no video {}", a.video_id)))?;
            let category = self.category(a.category_id);
            let category = category.ok_or_else(|| fail(format!("no category {}", a.category_id)))?;
            let degree = match (by_occlusion, &a.occlusion) {
                (false, _) => None,
                (true, Some(words)) => Some(occlusion(words).map_err(&fail)?),
                (true, None) => {
                    return Err(fail("no `occlusion`, which OVIS needs; score with --protocol ytvis".into()));
                }
            };
            self.truth.push(Tube {
                video,
                category,
                area: mean_area(a.areas.into_iter().flatten()),
                frames: segments(a.segmentations, fail)?,
                score: 0.0,
                crowd: a.iscrowd != 0,
                occlusion: degree,
            });
        }
        Ok(negative)
    }

    /// Takes the entries of a result file, after the truth.
    fn take_results(&mut self, all: Vec<ResultEntry>, file: &Path) -> Result<Odd, DataError> {
        let mut odd = Odd::default();
        for (i, r) in all.into_iter().enumerate() {
            let fail = |what: String| DataError(format!("{}: result {i}: {what}", file.display()));
            let video = self.video(r.video_id).ok_or_else(|| fail(format!("no video {} in the truth", r.video_id)))?;
            let Some(category) = self.category(r.category_id) else {
                odd.unknown += 1;
                continue;
            };
            let frames = segments(r.segmentations, fail)?;
            let area = mean_area(frames.iter().flatten().map(|s| s.area() as f64));
            let own: Vec<&Tube> = self.truth.iter().filter(|t| t.video == video).collect();
            odd.short += usize::from(own.iter().any(|t| t.frames.len() != frames.len()));
            let size = |tube: &[Option<Segment>]| tube.iter().flatten().map(|s| s.size).next();
            let other = |t: &&Tube| size(&t.frames).zip(size(&frames)).is_some_and(|(a, b)| a != b);
            odd.resized += usize::from(own.iter().any(other));
            self.results.push(Tube { video, category, frames, area, score: r.score, crowd: false, occlusion: None });
        }
        Ok(odd)
    }
}

const RESULTS: [&str; 2] = ["result", "results"];

/// Results that the reference takes in its own way, counted.
#[derive(Default)]
struct Odd {
    /// Of no category of the truth.
    unknown: usize,
    /// Of another number of frames.
    short: usize,
    /// Of another size.
    resized: usize,
}
