//! Truth and results of YouTube-VIS and OVIS, as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jetbench_runners::files;
use serde::Deserialize;

use super::average::Part;
use super::masks::{Entry, Rle, Room, VideoTubes};
use crate::dataset::DataError;

/// Truth and results of one evaluation, compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Instances {
    /// Ids and names of categories, ascending by id.
    pub categories: Vec<(i64, String)>,
    /// By video, ids ascending.
    pub videos: Vec<VideoTubes>,
}

#[derive(Deserialize)]
struct TruthFile<'a> {
    videos: Vec<VideoEntry>,
    categories: Vec<CategoryEntry>,
    #[serde(borrow)]
    annotations: Vec<Annotation<'a>>,
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
struct Annotation<'a> {
    id: i64,
    video_id: i64,
    category_id: i64,
    #[serde(borrow)]
    segmentations: Vec<Option<Rle<'a>>>,
    areas: Vec<Option<f64>>,
    #[serde(default)]
    iscrowd: i64,
    #[serde(default)]
    occlusion: Option<Vec<Option<String>>>,
}

#[derive(Deserialize)]
struct ResultEntry<'a> {
    video_id: i64,
    category_id: i64,
    score: f64,
    #[serde(borrow)]
    segmentations: Vec<Option<Rle<'a>>>,
}

fn read(path: &Path) -> Result<String, DataError> {
    files::read_text(path, files::LARGE).map_err(|e| DataError(format!("{}: {e}", path.display())))
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str, path: &Path, what: &str) -> Result<T, DataError> {
    serde_json::from_str(text).map_err(|e| DataError(format!("{}: not {what}: {e}", path.display())))
}

/// Mean of the areas above 0; 0 for none. The reference's mean is numpy's.
pub(super) fn mean_area(areas: impl Iterator<Item = f64>) -> f64 {
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
    /// Reads and compares both files, and notes on what a reader should know.
    ///
    /// # Errors
    /// Names the file and the entry that does not fit.
    pub fn read(truth: &Path, pred: &Path, by_occlusion: bool) -> Result<(Instances, Vec<String>), DataError> {
        let truth_text = read(truth)?;
        let file: TruthFile = parse(&truth_text, truth, "a YouTube-VIS annotation file")?;
        let pred_text = read(pred)?;
        let results: Vec<ResultEntry> = parse(&pred_text, pred, "a YouTube-VIS result file")?;
        if results.is_empty() {
            return Err(DataError(format!("{}: no result in it", pred.display())));
        }
        let videos: BTreeSet<i64> = file.videos.iter().map(|v| v.id).collect();
        let categories: BTreeMap<i64, String> = file.categories.into_iter().map(|c| (c.id, c.name)).collect();
        let mut entries = Entries {
            videos: videos.into_iter().collect(),
            categories: categories.into_iter().collect(),
            files: [truth, pred],
            truth: vec![],
            results: vec![],
        };
        // Masks are read when their video is compared; of several faults the first one of the files is named all the same.
        let taken = entries.take_truth(file.annotations, by_occlusion);
        let taken = taken.and_then(|negative| Ok((negative, entries.take_results(results)?)));
        let compared = taken.and_then(|(negative, odd)| Ok((negative, odd, entries.compared()?)));
        let (negative, odd, videos) = compared.map_err(|fault| entries.first_bad_mask().unwrap_or(fault))?;
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
        Ok((Instances { categories: entries.categories, videos }, notes.collect()))
    }
}

/// What both files hold, in their order.
struct Entries<'a> {
    /// Ids of videos, ascending.
    videos: Vec<i64>,
    /// Ids and names, ascending by id.
    categories: Vec<(i64, String)>,
    /// That of the truth and that of the results.
    files: [&'a Path; 2],
    /// With the annotation's id.
    truth: Vec<(i64, Entry<'a>)>,
    /// With the place in the file; without those of unknown categories.
    results: Vec<(usize, Entry<'a>)>,
}

impl<'a> Entries<'a> {
    fn video(&self, id: i64) -> Option<usize> {
        self.videos.binary_search(&id).ok()
    }

    fn category(&self, id: i64) -> Option<usize> {
        self.categories.binary_search_by_key(&id, |(id, _)| *id).ok()
    }

    fn bad_annotation(&self, id: i64, what: &str) -> DataError {
        DataError(format!("{}: annotation {id}: {what}", self.files[0].display()))
    }

    fn bad_result(&self, place: usize, what: &str) -> DataError {
        DataError(format!("{}: result {place}: {what}", self.files[1].display()))
    }

    /// Takes the annotations of a truth file; how many have an area below 0.
    fn take_truth(&mut self, all: Vec<Annotation<'a>>, by_occlusion: bool) -> Result<usize, DataError> {
        let (mut ids, mut negative) = (BTreeSet::new(), 0);
        for a in all {
            let fail = |what: String| self.bad_annotation(a.id, &what);
            if !ids.insert(a.id) {
                return Err(fail("two annotations have this id, of which the reference scores one twice".into()));
            }
            negative += usize::from(a.areas.iter().flatten().any(|area| *area < 0.0));
            let video = self.video(a.video_id).ok_or_else(|| fail(format!("no video {}", a.video_id)))?;
            let category = self.category(a.category_id);
            let category = category.ok_or_else(|| fail(format!("no category {}", a.category_id)))?;
            let occlusion = match (by_occlusion, &a.occlusion) {
                (false, _) => None,
                (true, Some(words)) => Some(occlusion(words).map_err(&fail)?),
                (true, None) => {
                    return Err(fail("no `occlusion`, which OVIS needs; score with --protocol ytvis".into()));
                }
            };
            let area = mean_area(a.areas.into_iter().flatten());
            let part = Part { score: 0.0, area, crowd: a.iscrowd != 0, occlusion };
            self.truth.push((a.id, Entry { video, category, part, masks: a.segmentations }));
        }
        Ok(negative)
    }

    /// Takes the entries of a result file, after the truth.
    fn take_results(&mut self, all: Vec<ResultEntry<'a>>) -> Result<Odd, DataError> {
        let size = |masks: &[Option<Rle>]| masks.iter().flatten().map(|rle| rle.size).next();
        // By video: how many frames its instances have, and the size of their masks.
        let mut shapes = vec![BTreeSet::new(); self.videos.len()];
        for (_, truth) in &self.truth {
            shapes[truth.video].insert((truth.masks.len(), size(&truth.masks)));
        }
        let mut odd = Odd::default();
        for (place, r) in all.into_iter().enumerate() {
            let no_video = || self.bad_result(place, &format!("no video {} in the truth", r.video_id));
            let video = self.video(r.video_id).ok_or_else(no_video)?;
            let Some(category) = self.category(r.category_id) else {
                odd.unknown += 1;
                continue;
            };
            let (frames, own) = (r.segmentations.len(), size(&r.segmentations));
            let other = |of_truth: &Option<[u32; 2]>| of_truth.zip(own).is_some_and(|(a, b)| a != b);
            odd.short += usize::from(shapes[video].iter().any(|(length, _)| *length != frames));
            odd.resized += usize::from(shapes[video].iter().any(|(_, size)| other(size)));
            // Its area is known when its masks are read.
            let part = Part { score: r.score, ..Part::default() };
            self.results.push((place, Entry { video, category, part, masks: r.segmentations }));
        }
        Ok(odd)
    }

    /// Compares the results of each video with its truth.
    ///
    /// # Errors
    /// A mask cannot be read; which one is told by [`Entries::first_bad_mask`].
    fn compared(&self) -> Result<Vec<VideoTubes>, DataError> {
        let mut by_video: Vec<[Vec<&Entry>; 2]> = vec![Default::default(); self.videos.len()];
        self.truth.iter().for_each(|(_, entry)| by_video[entry.video][0].push(entry));
        self.results.iter().for_each(|(_, entry)| by_video[entry.video][1].push(entry));
        let mut room = Room::default();
        let each = by_video.iter().map(|[truth, results]| room.compare(truth, results));
        each.collect::<Result<_, String>>().map_err(DataError)
    }

    /// The first mask that cannot be read.
    fn first_bad_mask(&self) -> Option<DataError> {
        let mut room = Room::default();
        let mut fault = |entry: &Entry| {
            let mut there = entry.masks.iter().enumerate().filter_map(|(i, rle)| Some((i, rle.as_ref()?)));
            there.find_map(|(i, rle)| Some(format!("segmentations[{i}]: {}", room.check(rle).err()?)))
        };
        let truth = self.truth.iter().find_map(|(id, entry)| Some(self.bad_annotation(*id, &fault(entry)?)));
        truth.or_else(|| self.results.iter().find_map(|(place, entry)| Some(self.bad_result(*place, &fault(entry)?))))
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
