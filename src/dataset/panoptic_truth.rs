//! VIPSeg's description of its truth, `panoptic_gt_….json`: the segments of every frame, whose pixels are in `panomasksRGB/VIDEO/FRAME.png`
//! beside it, and the categories.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jetbench_runners::files;
use jetbench_runners::types::Mask;
use serde::Deserialize;

use super::{DataError, one_level};
use crate::text::plural;

/// The folder of the truth's masks, beside its description.
pub(crate) const MASKS: &str = "panomasksRGB";
/// The description that a folder is read by.
pub(crate) const DESCRIPTION: &str = "panoptic_gt_VIPSeg_val.json";
/// The id of pixels without a label.
pub(crate) const VOID: u32 = 0;
/// Ids have three bytes.
const IDS: u32 = 1 << 24;
/// The label of pixels without a category in STQ.
const IGNORED: u32 = 255;

/// A category.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanopticCategory {
    /// Id in the files, 0 to 254.
    pub id: u32,
    /// Name.
    pub name: String,
    /// Is it a thing (else stuff)?
    pub thing: bool,
}

/// A segment of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Id, the same on all frames of the video.
    pub id: u32,
    /// Place of its category among the categories.
    pub category: usize,
    /// Does it stand for several things that are not told apart?
    pub crowd: bool,
    /// Pixels.
    pub area: u64,
}

/// A segment as files list it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SegmentEntry {
    id: u32,
    category_id: u32,
    #[serde(default)]
    iscrowd: Option<u8>,
    #[serde(default)]
    area: Option<u64>,
}

/// The segments of a frame as files list them.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct FrameSegments {
    #[serde(default)]
    file_name: Option<String>,
    pub(crate) segments_info: Vec<SegmentEntry>,
}

/// Those of a video.
#[derive(Deserialize)]
pub(crate) struct VideoSegments {
    video_id: String,
    annotations: Vec<FrameSegments>,
}

#[derive(Deserialize)]
struct File {
    videos: Vec<VideoEntry>,
    annotations: Vec<VideoSegments>,
    categories: Vec<CategoryEntry>,
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

/// What a description says.
#[derive(Clone, Debug)]
pub(crate) struct PanopticTruth {
    /// The file.
    pub(crate) path: PathBuf,
    /// In the order of the file.
    pub(crate) categories: Arc<[PanopticCategory]>,
    /// In the order of the file.
    pub(crate) videos: Vec<PanopticVideo>,
}

/// A video of a description.
#[derive(Clone, Debug)]
pub(crate) struct PanopticVideo {
    /// Name.
    pub(crate) name: String,
    /// Names of the files of its masks, in order.
    pub(crate) files: Vec<String>,
    /// What is listed of each, unchecked.
    pub(crate) frames: Vec<FrameSegments>,
}

/// Where the truth of a sequence lies: a mask of segment ids for every frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceSegments {
    /// The description, which says what the segments are.
    pub description: PathBuf,
    /// The masks, in the order of the sequence's frames, and the segments of each in the order of the description.
    pub frames: Vec<(PathBuf, Vec<Segment>)>,
    /// What segments may be.
    pub categories: Arc<[PanopticCategory]>,
}

impl SequenceSegments {
    /// Ids of things other than crowds, each with its category and the first frame that shows it, in the order of these frames, then of the ids.
    pub(super) fn things(&self) -> Vec<(u32, &PanopticCategory, usize)> {
        let mut first: HashMap<u32, (usize, usize)> = HashMap::new();
        for (frame, (_, segments)) in self.frames.iter().enumerate() {
            for segment in segments.iter().filter(|s| self.categories[s.category].thing && !s.crowd) {
                first.entry(segment.id).or_insert((segment.category, frame));
            }
        }
        let mut things: Vec<_> =
            first.into_iter().map(|(id, (category, frame))| (id, &self.categories[category], frame)).collect();
        things.sort_by_key(|(id, _, first)| (*first, *id));
        things
    }

    /// Is the segment that is listed first a thing?
    pub(crate) fn first_is_thing(&self) -> bool {
        let first = self.frames.iter().find_map(|(_, segments)| segments.first());
        first.is_some_and(|segment| self.categories[segment.category].thing)
    }

    /// An id that has one category on a frame and another on a later one, in words.
    pub(super) fn recategorised(&self) -> Option<String> {
        let mut first: HashMap<u32, (usize, &PathBuf)> = HashMap::new();
        let each = self.frames.iter().flat_map(|(file, segments)| segments.iter().map(move |segment| (file, segment)));
        each.into_iter().find_map(|(file, segment)| {
            let (category, seen) = *first.entry(segment.id).or_insert((segment.category, file));
            (category != segment.category).then(|| {
                let of = |place: usize, file: &Path| {
                    let file = file.file_name().unwrap_or_default().to_string_lossy();
                    format!("{} in {file}", self.categories[place].id)
                };
                let (before, after) = (of(category, seen), of(segment.category, file));
                format!("segment {} has category {before} and {after}", segment.id)
            })
        })
    }
}

/// Segment ids of a frame, pixel by pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentIds {
    /// Width, pixels.
    pub width: u32,
    /// Height, pixels.
    pub height: u32,
    /// In row order; 0: no label.
    pub ids: Vec<u32>,
}

impl SegmentIds {
    /// Pixels by id.
    pub(crate) fn areas(&self) -> HashMap<u32, u64> {
        let mut areas = HashMap::new();
        for run in self.ids.chunk_by(|a, b| a == b) {
            *areas.entry(run[0]).or_default() += run.len() as u64;
        }
        areas
    }

    /// Masks of the wanted ids that have a pixel.
    pub(crate) fn masks(&self, mut wanted: impl FnMut(u32) -> bool) -> HashMap<u32, Mask> {
        let mut masks: HashMap<u32, Option<Mask>> = HashMap::new();
        let width = self.width as usize;
        for (y, row) in self.ids.chunks_exact(width).enumerate() {
            let mut x = 0;
            for run in row.chunk_by(|a, b| a == b) {
                let mask =
                    masks.entry(run[0]).or_insert_with(|| wanted(run[0]).then(|| Mask::empty(self.width, self.height)));
                if let Some(mask) = mask {
                    (x..x + run.len()).for_each(|x| mask.set(x as u32, y as u32));
                }
                x += run.len();
            }
        }
        masks.into_iter().filter_map(|(id, mask)| Some((id, mask?))).collect()
    }
}

/// Is every id that has pixels a segment, and the other way round? `areas`: pixels by id.
///
/// # Errors
/// Which is not.
pub(crate) fn listed(areas: &HashMap<u32, u64>, segments: &[Segment]) -> Result<(), String> {
    let ids: HashSet<u32> = segments.iter().map(|s| s.id).collect();
    if let Some(s) = segments.iter().find(|s| !areas.contains_key(&s.id)) {
        return Err(format!("segment {} is listed, but no pixel has its id", s.id));
    }
    match areas.keys().filter(|id| **id != VOID && !ids.contains(id)).min() {
        Some(id) => Err(format!("{} pixels have the id {id}, which is not among the segments", areas[id])),
        None => Ok(()),
    }
}

/// The same, and has every segment the pixels that the description says?
///
/// # Errors
/// Which has not.
pub(crate) fn agree(areas: &HashMap<u32, u64>, segments: &[Segment]) -> Result<(), String> {
    listed(areas, segments)?;
    match segments.iter().find(|s| areas.get(&s.id) != Some(&s.area)) {
        Some(s) => Err(format!("segment {} has an area of {}, and {} pixels", s.id, s.area, areas[&s.id])),
        None => Ok(()),
    }
}

/// The description in a folder; `given` may be the description itself.
pub(crate) fn description(given: &Path) -> PathBuf {
    if given.is_dir() { given.join(DESCRIPTION) } else { given.to_path_buf() }
}

/// Reads a description.
///
/// # Errors
/// Names the file and what is wrong in it; segments are not looked at.
pub(crate) fn read(path: &Path) -> Result<PanopticTruth, DataError> {
    let fail = |what: String| DataError(format!("{}: {what}", path.display()));
    let file: File = parsed(path, "a panoptic annotation file of VIPSeg")?;
    let categories = categories(file.categories).map_err(fail)?;
    let mut listed = by_video(path, file.annotations)?;
    let mut videos = Vec::new();
    for VideoEntry { video_id: name, images } in file.videos {
        one_level(&name)?;
        let files: Vec<String> = images.into_iter().map(|image| image.file_name).collect();
        files.iter().try_for_each(|file| one_level(file))?;
        let frames = of_video(path, &mut listed, &name, &files)?;
        videos.push(PanopticVideo { name, files, frames });
    }
    if videos.is_empty() {
        return Err(fail("no video in it".into()));
    }
    Ok(PanopticTruth { path: path.to_path_buf(), categories: categories.into(), videos })
}

/// Reads a JSON file.
///
/// # Errors
/// Names it; `what` it should be.
pub(crate) fn parsed<T: for<'a> Deserialize<'a>>(path: &Path, what: &str) -> Result<T, DataError> {
    let fail = |e: String| DataError(format!("{}: {e}", path.display()));
    let text = files::read_text(path, files::LARGE).map_err(|e| fail(e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| fail(format!("not {what}: {e}")))
}

/// Entries by video.
///
/// # Errors
/// Two are of one video.
pub(crate) fn by_video(path: &Path, all: Vec<VideoSegments>) -> Result<HashMap<String, Vec<FrameSegments>>, DataError> {
    let mut videos = HashMap::new();
    for VideoSegments { video_id, annotations } in all {
        if videos.contains_key(&video_id) {
            return Err(DataError(format!("{}: video {video_id} has two entries", path.display())));
        }
        videos.insert(video_id, annotations);
    }
    Ok(videos)
}

/// Takes the entry of a video whose masks have these names.
///
/// # Errors
/// There is none, or it does not fit them.
pub(crate) fn of_video(
    path: &Path,
    listed: &mut HashMap<String, Vec<FrameSegments>>,
    name: &str,
    files: &[String],
) -> Result<Vec<FrameSegments>, DataError> {
    let fail = |what: String| DataError(format!("{}: {what}", path.display()));
    let frames = listed.remove(name).ok_or_else(|| fail(format!("no entry of video {name}")))?;
    fitting(files, &frames).map_err(|what| fail(format!("video {name}: {what}")))?;
    Ok(frames)
}

/// One entry per image, of the same name but for the ending.
fn fitting(files: &[String], frames: &[FrameSegments]) -> Result<(), String> {
    if files.len() != frames.len() {
        let frames = plural(frames.len(), "frame", "frames");
        return Err(format!("{frames} listed with segments, but the truth lists {} images", files.len()));
    }
    let stem = |name: &str| Path::new(name).with_extension("");
    for (place, (file, frame)) in files.iter().zip(frames).enumerate() {
        if let Some(name) = frame.file_name.as_deref().filter(|name| stem(name) != stem(file)) {
            return Err(format!("entry {} is of {name}, but the truth's image there is {file}", place + 1));
        }
    }
    Ok(())
}

/// The listed segments of one frame.
///
/// # Errors
/// What a segment may not say.
pub(crate) fn segments(
    listed: &[SegmentEntry],
    of_truth: bool,
    categories: &[PanopticCategory],
) -> Result<Vec<Segment>, String> {
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
    use super::*;

    #[test]
    fn what_a_segment_may_not_say_is_named() {
        let categories = [PanopticCategory { id: 3, name: String::new(), thing: true }];
        let good = || SegmentEntry { id: 9, category_id: 3, iscrowd: Some(0), area: Some(4) };
        assert!(segments(&[good()], true, &categories).is_ok());
        for (entry, fault) in [
            (
                SegmentEntry { id: 1 << 24, ..good() },
                "segment 16777216: an id has three bytes, so it is below 16777216",
            ),
            (SegmentEntry { area: None, ..good() }, "segment 9 has no `area`"),
            (SegmentEntry { iscrowd: None, ..good() }, "segment 9: `iscrowd` must be 0 or 1"),
            (SegmentEntry { iscrowd: Some(2), ..good() }, "segment 9: `iscrowd` must be 0 or 1"),
        ] {
            assert_eq!(segments(&[entry], true, &categories), Err(fault.to_string()));
        }
        // Of a prediction, neither is read.
        assert!(segments(&[SegmentEntry { area: None, iscrowd: Some(2), ..good() }], false, &categories).is_ok());
    }

    #[test]
    fn things_are_in_the_order_in_which_they_show_and_crowds_are_none() {
        let category = |id: u32, thing: bool| PanopticCategory { id, name: id.to_string(), thing };
        let segment = |id: u32, category: usize, crowd: bool| Segment { id, category, crowd, area: 1 };
        let of = SequenceSegments {
            description: PathBuf::new(),
            frames: vec![
                (PathBuf::new(), vec![segment(9, 1, false), segment(5, 0, false), segment(7, 1, true)]),
                (PathBuf::new(), vec![segment(9, 1, false), segment(2, 1, false)]),
            ],
            categories: [category(0, false), category(4, true)].into(),
        };
        let things: Vec<_> = of.things().into_iter().map(|(id, category, frame)| (id, category.id, frame)).collect();
        assert_eq!(things, [(9, 4, 0), (2, 4, 1)]);
    }
}
