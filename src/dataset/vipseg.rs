//! VIPSeg's folder: `images/VIDEO/FRAME.jpg`, `panomasksRGB/VIDEO/FRAME.png` and a description of both, `panoptic_gt_….json`. The
//! things of a video are its objects; things and stuff are what found segments are scored against.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::layout::{FoundLayout, entries};
use super::objects::{of_footage, refuse};
use super::panoptic_truth::{self, MASKS, PanopticCategory, PanopticTruth, PanopticVideo, SequenceSegments, segments};
use super::survey::footage;
use super::{Categories, DataError, Finding, Guide, Layout, MaskSource, Object, Sequence, same_class};

/// Folders of frames, the usual one first.
const FRAMES: [&str; 2] = ["images", "imgs"];

/// The description that a folder, or a path to it, is read by; `None`: it is no such folder. `told`: a file is said to be one, whatever its name.
///
/// # Errors
/// There are several, none of which is the one that VIPSeg's evaluators read.
pub(crate) fn description(given: &Path, told: bool) -> Result<Option<PathBuf>, DataError> {
    let named = |name: &str| name.starts_with("panoptic_gt") && name.ends_with(".json");
    if given.is_file() {
        let name = given.file_name().and_then(|name| name.to_str());
        return Ok(name.filter(|name| named(name) || (told && name.ends_with(".json"))).map(|_| given.to_path_buf()));
    }
    if !given.join(MASKS).is_dir() {
        return Ok(None);
    }
    let usual = panoptic_truth::description(given);
    if usual.is_file() {
        return Ok(Some(usual));
    }
    let all: Vec<String> = entries(given)?.into_iter().filter(|name| named(name)).collect();
    match all.as_slice() {
        [] => Err(DataError(format!(
            "{}: {MASKS} without its annotation file (panoptic_gt_….json), which VIPSeg's create_panoptic_video_labels.py writes",
            given.display()
        ))),
        [one] => Ok(Some(given.join(one))),
        all => Err(DataError(format!(
            "{}: {} annotation files ({}); name one of them instead of the folder",
            given.display(),
            all.len(),
            all.join(", ")
        ))),
    }
}

/// Is a path VIPSeg's folder, or its description?
pub(crate) fn is_panoptic(given: &Path) -> bool {
    description(given, false).is_ok_and(|description| description.is_some())
}

/// The videos of a description.
///
/// # Errors
/// It cannot be read, classes cannot be told apart by the names of its categories, or there are no frames beside it.
pub(super) fn places(description: &Path) -> Result<FoundLayout, DataError> {
    let truth = panoptic_truth::read(description)?;
    if let Some([one, other]) = alike(&truth.categories) {
        return Err(DataError(format!(
            "{}: categories {} and {} are both `{}`; a run tells them apart by name alone, so give each its own",
            description.display(),
            one.id,
            other.id,
            other.name
        )));
    }
    let root = description.parent().unwrap_or(Path::new(""));
    let frames = FRAMES.iter().map(|name| root.join(name)).find(|dir| dir.is_dir()).ok_or_else(|| {
        DataError(format!("{}: no folder of frames beside it ({})", description.display(), FRAMES.join(" or ")))
    })?;
    let mut lone = Vec::new();
    let mut videos: BTreeMap<String, (PathBuf, PathBuf)> = BTreeMap::new();
    for PanopticVideo { name, files, .. } in &truth.videos {
        let (frames, masks) = (frames.join(name), root.join(MASKS).join(name));
        if files.is_empty() {
            lone.push(Finding::warning(description, format!("video {name} has no frame: it is left out")));
        } else if let Some(file) = repeated(files) {
            return Err(DataError(format!("{}: video {name} lists {file} twice", description.display())));
        } else if !frames.is_dir() {
            let what = "no frames of this video: it is left out, and saved segments lack it when they are scored again";
            lone.push(Finding::warning(frames, what));
        } else if videos.insert(name.clone(), (frames, masks)).is_some() {
            return Err(DataError(format!("{}: video {name} is listed twice", description.display())));
        }
    }
    if videos.is_empty() {
        return Err(DataError(format!("{}: none of its videos has frames", description.display())));
    }
    Ok(FoundLayout { layout: Layout::Vipseg, videos, lone, panoptic: Some(truth) })
}

/// Two categories whose names are the same class. Names that are blank are none.
fn alike(categories: &[PanopticCategory]) -> Option<[&PanopticCategory; 2]> {
    let mut names = HashMap::new();
    let named = categories.iter().filter(|category| !category.name.trim().is_empty());
    named.into_iter().find_map(|category| Some([names.insert(same_class(&category.name), category)?, category]))
}

/// A file that is listed again.
fn repeated(files: &[String]) -> Option<&String> {
    let mut seen = HashSet::new();
    files.iter().find(|file| !seen.insert(*file))
}

/// Reads a video: its frames are those that the description lists.
///
/// # Errors
/// Names the frame that is missing, or the mask whose segments are not as they must be.
pub(super) fn sequence(
    truth: &PanopticTruth,
    name: &str,
    frames_at: &Path,
    masks_at: &Path,
) -> Result<Sequence, DataError> {
    let fail = |path: &Path, what: String| DataError(format!("{}: {what}", path.display()));
    let video = truth.videos.iter().find(|video| video.name == name);
    let video = video.ok_or_else(|| fail(&truth.path, format!("no video {name}")))?;
    let mut footage = footage(frames_at)?;
    refuse(&footage.findings)?;
    let mut there: HashMap<_, _> = footage.frames.drain(..).map(|frame| (frame.name.clone(), frame)).collect();
    let mut frames = Vec::new();
    for (file, listed) in video.files.iter().zip(&video.frames) {
        let mask = masks_at.join(file);
        let stem = Path::new(file).file_stem().unwrap_or_default().to_string_lossy();
        let frame = there.remove(&*stem);
        footage.frames.push(frame.ok_or_else(|| fail(&mask, format!("{} has no frame {stem}", frames_at.display())))?);
        let listed = segments(&listed.segments_info, true, &truth.categories);
        let listed = listed.map_err(|what| fail(&truth.path, format!("video {name}, {file}: {what}")))?;
        frames.push((mask, listed));
    }
    if !there.is_empty() {
        let what = format!("{} frames that {} does not list are left out", there.len(), truth.path.display());
        footage.findings.push(Finding::warning(frames_at, what));
    }
    let count = frames.len();
    let of = SequenceSegments { description: truth.path.clone(), frames, categories: Arc::clone(&truth.categories) };
    let object = |(place, (id, _, first)): (usize, (u32, _, usize))| Object {
        id: place as u32,
        name: id.to_string(),
        annotated: (0..count).collect(),
        prompt_frame: first,
    };
    let objects = of.things().into_iter().enumerate().map(object).collect();
    let guide = Guide::Truth(MaskSource::Segments(Arc::new(of)));
    Ok(of_footage(name.to_string(), frames_at, footage, Layout::Vipseg.fps(), guide, objects))
}

/// Categories of the things.
pub(super) fn categories(sequences: &[Sequence]) -> Categories {
    let of = |sequence: &Sequence| {
        let things = sequence.segments().map(SequenceSegments::things).unwrap_or_default();
        let named = things.into_iter().map(|(id, category, _)| (id.to_string(), category.name.clone()));
        (sequence.name.clone(), named.collect::<BTreeMap<_, _>>())
    };
    Categories::from(sequences.iter().map(of).collect::<BTreeMap<_, _>>())
}
