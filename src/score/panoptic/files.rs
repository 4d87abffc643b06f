//! VIPSeg's files: a JSON file of the truth (`panoptic_gt_….json`) with the PNG files of its frames in `panomasksRGB/VIDEO/` beside it,
//! and a folder of predictions with `pred.json` and `pan_pred/VIDEO/`. Predictions have the truth's videos, frames by place, and file names;
//! the evaluator pairs frames by place without a look at their names, and so takes a frame for another where one is missing. Here that is an
//! error, as are two entries of one video, segment or category, of which it takes one or the other.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use jetbench_runners::files;
use serde::Deserialize;

use super::PanopticCategory;
use super::frame::{IDS, PairReader, PanopticFrame, Segment, VOID};
use crate::dataset::{DataError, one_level};
use crate::text::plural;

/// The file of a folder of truth that is scored against.
const TRUTH: &str = "panoptic_gt_VIPSeg_val.json";
/// STQ's label of pixels without a category.
const IGNORED: u32 = 255;

#[derive(Deserialize)]
struct TruthFile {
    videos: Vec<VideoEntry>,
    annotations: Vec<VideoSegments>,
    categories: Vec<CategoryEntry>,
}

#[derive(Deserialize)]
struct PredFile {
    annotations: Vec<VideoSegments>,
}

#[derive(Deserialize)]
struct VideoEntry {
    video_id: String,
    images: Vec<ImageEntry>,
}

#[derive(Deserialize)]
struct ImageEntry {
    file_name: String,
}

#[derive(Deserialize)]
struct CategoryEntry {
    id: u32,
    #[serde(default)]
    name: String,
    isthing: u8,
}

#[derive(Deserialize)]
struct VideoSegments {
    video_id: String,
    annotations: Vec<FrameSegments>,
}

#[derive(Deserialize)]
struct FrameSegments {
    #[serde(default)]
    file_name: Option<String>,
    segments_info: Vec<SegmentEntry>,
}

#[derive(Deserialize)]
struct SegmentEntry {
    id: u32,
    category_id: u32,
    #[serde(default)]
    iscrowd: Option<u8>,
    #[serde(default)]
    area: Option<u64>,
}

/// What is to be read.
pub(super) struct Files {
    pub(super) categories: Vec<PanopticCategory>,
    pub(super) videos: Vec<VideoFiles>,
    pub(super) notes: Vec<String>,
}

pub(super) struct VideoFiles {
    pub(super) name: String,
    pub(super) frames: Vec<FrameFiles>,
}

/// PNG files and listed segments of truth and prediction.
pub(super) struct FrameFiles {
    paths: [PathBuf; 2],
    segments: [FrameSegments; 2],
}

impl FrameFiles {
    /// Reads both files and counts their pixels.
    pub(super) fn read(
        &self,
        reader: &mut PairReader,
        categories: &[PanopticCategory],
    ) -> Result<PanopticFrame, DataError> {
        let segments = |side: usize| {
            let fail = |fault: String| DataError(format!("{}: {fault}", self.paths[side].display()));
            checked(&self.segments[side].segments_info, side == 0, categories).map_err(fail)
        };
        reader.read([&self.paths[0], &self.paths[1]], segments(0)?, segments(1)?)
    }
}

/// The listed segments of one frame.
fn checked(listed: &[SegmentEntry], of_truth: bool, categories: &[PanopticCategory]) -> Result<Vec<Segment>, String> {
    let mut ids = HashSet::new();
    let each = listed.iter().map(|entry| {
        let SegmentEntry { id, category_id, iscrowd, area } = *entry;
        let category = categories.iter().position(|c| c.id == category_id);
        let category = category.ok_or(format!("segment {id}: no category {category_id} in the truth"))?;
        if !ids.insert(id) {
            return Err(format!("segment {id} is listed twice"));
        }
        if id >= IDS {
            return Err(format!("segment {id}: an id has three bytes, so it is below {IDS}"));
        }
        if !of_truth {
            return Ok(Segment { id, category, crowd: false, area: 0 });
        }
        if id == VOID {
            return Err(format!("segment {VOID}: in the truth this id is that of pixels without a label"));
        }
        let area = area.ok_or(format!("segment {id} has no `area`"))?;
        match iscrowd {
            Some(crowd @ (0 | 1)) => Ok(Segment { id, category, crowd: crowd == 1, area }),
            _ => Err(format!("segment {id}: `iscrowd` must be 0 or 1")),
        }
    });
    each.collect()
}

fn parsed<T: for<'a> Deserialize<'a>>(path: &Path, what: &str) -> Result<T, DataError> {
    let fail = |e: String| DataError(format!("{}: {e}", path.display()));
    let text = files::read_text(path, files::LARGE).map_err(|e| fail(e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| fail(format!("not {what}: {e}")))
}

/// Entries by video.
fn by_video(path: &Path, all: Vec<VideoSegments>) -> Result<HashMap<String, Vec<FrameSegments>>, DataError> {
    let mut videos = HashMap::new();
    for VideoSegments { video_id, annotations } in all {
        if videos.contains_key(&video_id) {
            return Err(DataError(format!("{}: video {video_id} has two entries", path.display())));
        }
        videos.insert(video_id, annotations);
    }
    Ok(videos)
}

/// Reads both JSON files and pairs what they list.
///
/// # Errors
/// Names the file and the entry that is missing or does not fit.
pub(super) fn read(truth: &Path, pred: &Path) -> Result<Files, DataError> {
    let truth_json = if truth.is_dir() { truth.join(TRUTH) } else { truth.to_path_buf() };
    let pred_json = pred.join("pred.json");
    let fail = |path: &Path, what: String| DataError(format!("{}: {what}", path.display()));
    let file: TruthFile = parsed(&truth_json, "a panoptic annotation file of VIPSeg")?;
    let predicted: PredFile = parsed(&pred_json, "panoptic results as VIPSeg's evaluator reads them")?;
    let categories = categories(file.categories).map_err(|what| fail(&truth_json, what))?;
    let roots = [truth_json.with_file_name("panomasksRGB"), pred.join("pan_pred")];
    let mut of_truth = by_video(&truth_json, file.annotations)?;
    let mut of_pred = by_video(&pred_json, predicted.annotations)?;
    let mut videos = Vec::new();
    for VideoEntry { video_id: name, images } in file.videos {
        one_level(&name)?;
        images.iter().try_for_each(|image| one_level(&image.file_name))?;
        let take = |entries: &mut HashMap<_, Vec<FrameSegments>>, path: &Path| {
            let frames = entries.remove(&name).ok_or_else(|| fail(path, format!("no entry of video {name}")))?;
            fitting(&images, &frames).map_err(|what| fail(path, format!("video {name}: {what}")))?;
            Ok(frames)
        };
        let sides = (take(&mut of_truth, &truth_json)?, take(&mut of_pred, &pred_json)?);
        let mut frames = Vec::new();
        for (image, segments) in images.iter().zip(sides.0.into_iter().zip(sides.1)) {
            let paths = [&roots[0], &roots[1]].map(|root| root.join(&name).join(&image.file_name));
            frames.push(FrameFiles { paths, segments: segments.into() });
        }
        videos.push(VideoFiles { name, frames });
    }
    if videos.is_empty() {
        return Err(fail(&truth_json, "no video in it".into()));
    }
    let extra = of_pred.len();
    let more = plural(extra, "predicted video is", "predicted videos are");
    let notes = (extra > 0).then(|| format!("{more} not among the truth's, and left out as in the reference"));
    Ok(Files { categories, videos, notes: notes.into_iter().collect() })
}

/// One entry per image, of the same name but for the ending.
fn fitting(images: &[ImageEntry], frames: &[FrameSegments]) -> Result<(), String> {
    if images.len() != frames.len() {
        let frames = plural(frames.len(), "frame", "frames");
        return Err(format!("{frames} listed with segments, but the truth lists {} images", images.len()));
    }
    let stem = |name: &str| Path::new(name).with_extension("");
    for (place, (image, frame)) in images.iter().zip(frames).enumerate() {
        if let Some(name) = frame.file_name.as_deref().filter(|name| stem(name) != stem(&image.file_name)) {
            return Err(format!(
                "entry {} is of {name}, but the truth's image there is {}",
                place + 1,
                image.file_name
            ));
        }
    }
    Ok(())
}

fn categories(entries: Vec<CategoryEntry>) -> Result<Vec<PanopticCategory>, String> {
    let mut ids = HashSet::new();
    let each = entries.into_iter().map(|CategoryEntry { id, name, isthing }| {
        if !ids.insert(id) {
            return Err(format!("category {id} is listed twice"));
        }
        if id >= IGNORED {
            return Err(format!("category {id}: ids go up to {}; {IGNORED} means no category to STQ", IGNORED - 1));
        }
        match isthing {
            0 | 1 => Ok(PanopticCategory { id, name, thing: isthing == 1 }),
            _ => Err(format!("category {id}: `isthing` must be 0 or 1")),
        }
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = r#"{"videos": [{"video_id": "v", "images": [{"file_name": "0.png"}]}], "categories": [{"id": 3, "name": "c", "isthing": 1}],
        "annotations": [{"video_id": "v", "annotations": [{"file_name": "0.png", "segments_info": [{"id": 9, "category_id": 3, "iscrowd": 0, "area": 4}]}]}]}"#;

    fn of(truth: &[u8], pred: &[u8]) -> Result<Files, DataError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("panoptic_gt.json");
        std::fs::write(&file, truth).unwrap();
        std::fs::write(dir.path().join("pred.json"), pred).unwrap();
        read(&file, dir.path())
    }

    #[test]
    fn what_a_file_may_not_say_is_named() {
        assert_eq!(of(GOOD.as_bytes(), GOOD.as_bytes()).unwrap().videos.len(), 1);
        for (from, to, fault) in [
            (r#""isthing": 1"#, r#""isthing": 2"#, "category 3: `isthing` must be 0 or 1"),
            (r#""id": 3"#, r#""id": 255"#, "category 255: ids go up to 254"),
            (r#""categories": [{"#, r#""categories": [{"id": 3, "isthing": 0}, {"#, "category 3 is listed twice"),
            (
                r#""videos": [{"#,
                r#""videos": [{"video_id": "v", "images": []}, {"#,
                "video v: 1 frame listed with segments, but the truth lists 0",
            ),
            (
                r#""annotations": [{"video_id": "v""#,
                r#""annotations": [{"video_id": "v", "annotations": []}, {"video_id": "v""#,
                "video v has two entries",
            ),
            (r#""isthing": 1"#, "", "not a panoptic annotation file of VIPSeg"),
        ] {
            let changed = GOOD.replace(from, to);
            let found = of(changed.as_bytes(), GOOD.as_bytes()).err().map(|e| e.0).unwrap_or_default();
            assert!(found.contains(fault), "{found}");
        }
        let none = of(br#"{"videos": [], "categories": [], "annotations": []}"#, GOOD.as_bytes());
        assert!(none.err().unwrap().0.ends_with("panoptic_gt.json: no video in it"));
    }

    #[test]
    fn what_a_segment_may_not_say_is_named() {
        let categories = [PanopticCategory { id: 3, name: String::new(), thing: true }];
        let good = || SegmentEntry { id: 9, category_id: 3, iscrowd: Some(0), area: Some(4) };
        assert!(checked(&[good()], true, &categories).is_ok());
        for (entry, fault) in [
            (
                SegmentEntry { id: 1 << 24, ..good() },
                "segment 16777216: an id has three bytes, so it is below 16777216",
            ),
            (SegmentEntry { area: None, ..good() }, "segment 9 has no `area`"),
            (SegmentEntry { iscrowd: None, ..good() }, "segment 9: `iscrowd` must be 0 or 1"),
            (SegmentEntry { iscrowd: Some(2), ..good() }, "segment 9: `iscrowd` must be 0 or 1"),
        ] {
            assert_eq!(checked(&[entry], true, &categories), Err(fault.to_string()));
        }
        // Of a prediction, neither is read.
        assert!(checked(&[SegmentEntry { area: None, iscrowd: Some(2), ..good() }], false, &categories).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_ends_in_videos_or_an_error(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8)
        ) {
            let mut text = GOOD.as_bytes().to_vec();
            damage.iter().for_each(|(at, value)| { let at = at.index(text.len()); text[at] = *value; });
            let _ = of(&text, GOOD.as_bytes());
            let _ = of(GOOD.as_bytes(), &text);
        }
    }
}
