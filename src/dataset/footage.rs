//! Which footage is meant, and which objects in it, when the user gives the prompts? Frames only: whatever masks lie beside them are not
//! looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jetbench_runners::types::PromptShape;
use rayon::prelude::*;

use super::layout::{Layout, listing, plain_name};
use super::objects::{of_footage, refuse};
use super::prompts::{FrameName, UserPrompt, UserPrompts, inside};
use super::survey::footage;
use super::video::is_video;
use super::{Categories, DataError, Dataset, FOOTAGE, Finding, Guide, Object, RgbFrame, Sequence, live};

/// Opens the videos that have a prompt, or all where there is no prompt at all; the first `limit` of them.
///
/// # Errors
/// There is no footage; a prompt names a video, frame or place that is not there; an object has prompts on several frames.
pub(super) fn open(root: &Path, prompts: &UserPrompts, limit: Option<usize>) -> Result<Dataset, DataError> {
    let fail = |what: String| DataError(format!("{}: {what}", root.display()));
    if root.to_str().is_none() {
        return Err(fail("the path is not UTF-8, and records hold text; rename the folder".to_string()));
    }
    let videos = videos(root)?;
    let names: Vec<&str> = videos.keys().map(String::as_str).collect();
    let mut by_video = prompts.by_video(&names).map_err(fail)?;
    if prompts.is_empty() {
        by_video = names.iter().map(|name| (name.to_string(), Vec::new())).collect();
    }
    let mut findings = Vec::new();
    if by_video.len() < videos.len() {
        let without = videos.len() - by_video.len();
        findings.push(Finding::warning(
            root,
            format!("{without} of {} videos have no prompt: they are left out", videos.len()),
        ));
    }
    let chosen: Vec<(String, Vec<UserPrompt>)> = by_video.into_iter().take(limit.unwrap_or(usize::MAX)).collect();
    let sequences = chosen
        .into_par_iter()
        .map(|(name, prompts)| {
            let frames_at = &videos[&name];
            sequence(name, frames_at, prompts)
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Dataset {
        root: root.to_path_buf(),
        layout: FOOTAGE,
        kind: Layout::Plain,
        sequences,
        categories: Categories::default(),
        findings,
    })
}

/// One video with the objects of its prompts, which are sorted by object.
fn sequence(name: String, frames_at: &Path, prompts: Vec<UserPrompt>) -> Result<Sequence, DataError> {
    let found = footage(frames_at)?;
    refuse(&found.findings)?;
    let names: Vec<&str> = found.frames.iter().map(|frame| frame.name.as_str()).collect();
    let (objects, shapes) = objects_of(&name, prompts, found.size, |frame| frame.index(&names))?;
    let fps = Layout::Plain.fps();
    Ok(of_footage(name, frames_at, found, fps, Guide::Prompts(shapes.into()), objects))
}

/// The objects of a video's prompts, which are sorted by object, and the shape of each; `index` finds a frame.
///
/// # Errors
/// A prompt names a frame or place that is not there; an object has prompts on several frames.
pub(super) fn objects_of(
    video: &str,
    prompts: Vec<UserPrompt>,
    (width, height): (u32, u32),
    index: impl Fn(&FrameName) -> Result<usize, String>,
) -> Result<(Vec<Object>, Vec<PromptShape>), DataError> {
    let mut objects: Vec<Object> = Vec::new();
    let mut shapes: Vec<PromptShape> = Vec::new();
    for prompt in prompts {
        let fail = |what: String| {
            Err(DataError(format!("video {video}, object {}, frame {}: {what}", prompt.object, prompt.frame)))
        };
        let prompt_frame = match index(&prompt.frame) {
            Ok(index) => index,
            Err(what) => return fail(what),
        };
        if let Err(what) = inside(&prompt.shape, width, height) {
            return fail(what);
        }
        if let Some(before) = objects.last().filter(|o| o.name == prompt.object) {
            return fail(format!(
                "it has a prompt on frame {} already. A correction of a running track is taken by no family: the graphs keep one prompted \
                 frame per object in their memory. Give the object one prompt, or the later one another name",
                before.prompt_frame
            ));
        }
        let (id, annotated) = (objects.len() as u32, Vec::new());
        objects.push(Object { id, name: prompt.object, annotated, prompt_frame });
        shapes.push(prompt.shape);
    }
    Ok((objects, shapes))
}

/// Size of the frames of the only video of `root`.
///
/// # Errors
/// There is none, or there are several.
pub(super) fn frame_size(root: &Path) -> Result<(u32, u32), DataError> {
    let videos = videos(root)?;
    match videos.values().collect::<Vec<_>>().as_slice() {
        [one] => Ok(footage(one)?.size),
        all => Err(DataError(format!(
            "{}: {} videos; prompts in shares of a frame need one, give it with --data",
            root.display(),
            all.len()
        ))),
    }
}

/// One frame of footage.
#[derive(Clone, Debug)]
pub struct Still {
    /// Name of the video.
    pub video: String,
    /// Videos that there are.
    pub videos: usize,
    /// Index of the frame.
    pub frame: usize,
    /// The frame.
    pub image: RgbFrame,
}

/// Frame `frame` of a video of `root`; `video` names it where there are several.
///
/// # Errors
/// There is no such video or frame, or it cannot be decoded.
pub fn still(root: &Path, video: Option<&str>, frame: usize) -> Result<Still, DataError> {
    let fail = |what: String| Err(DataError(format!("{}: {what}", root.display())));
    let videos = videos(root)?;
    let names: Vec<&str> = videos.keys().map(String::as_str).collect();
    let name = match (video, names.as_slice()) {
        (Some(name), _) if videos.contains_key(name) => name.to_string(),
        (None, [one]) => (*one).to_string(),
        (Some(name), _) => return fail(format!("there is no video `{name}`")),
        (None, all) => {
            return fail(format!(
                "{} videos; say which with --video: {}",
                all.len(),
                all[..all.len().min(5)].join(", ")
            ));
        }
    };
    let found = footage(&videos[&name])?;
    refuse(&found.findings)?;
    if let Err(what) = FrameName::Index(frame).index(&found.frames.iter().map(|f| f.name.as_str()).collect::<Vec<_>>())
    {
        return fail(format!("frame {frame}: {what}"));
    }
    let guide = Guide::Prompts(Vec::new().into());
    let sequence = of_footage(name.clone(), &videos[&name], found, Layout::Plain.fps(), guide, Vec::new());
    let image = sequence.picker().frame(frame)?;
    Ok(Still { video: name, videos: videos.len(), frame, image })
}

/// Every video of `root` by name: a video file, a folder of frames, a folder of either, or a dataset.
fn videos(root: &Path) -> Result<BTreeMap<String, PathBuf>, DataError> {
    live::refuse(root)?;
    let fail = |what: &str| Err(DataError(format!("{}: {what}", root.display())));
    if root.is_file() {
        let name = root.file_name().and_then(|n| n.to_str()).filter(|name| is_video(name));
        return match name.and_then(|name| name.rsplit_once('.')) {
            Some((stem, _)) => Ok(BTreeMap::from([(stem.to_string(), root.to_path_buf())])),
            None => fail("a file, but no video; name a video or a folder of frames"),
        };
    }
    if !root.is_dir() {
        return fail("no such file or folder; name a video or a folder of frames");
    }
    if let Some(frames) = frames_in(root)? {
        return Ok(BTreeMap::from([(plain_name(root), frames)]));
    }
    let of_dataset =
        ["JPEGImages_24fps", "JPEGImages/480p", "JPEGImages/1080p", "JPEGImages/Full-Resolution", "JPEGImages"];
    let place =
        of_dataset.iter().map(|dir| root.join(dir)).find(|dir| dir.is_dir()).unwrap_or_else(|| root.to_path_buf());
    let mut videos: BTreeMap<String, PathBuf> = BTreeMap::new();
    for (entry, is_dir) in listing(&place)? {
        let path = place.join(&entry);
        let found = match (is_dir, entry.rsplit_once('.')) {
            (true, _) => frames_in(&path)?.map(|frames| (entry.clone(), frames)),
            (false, Some((stem, _))) if is_video(&entry) => Some((stem.to_string(), path)),
            _ => None,
        };
        let Some((name, path)) = found else { continue };
        if let Some(other) = videos.insert(name.clone(), path.clone()) {
            return Err(DataError(format!("{} and {} have the same name", other.display(), path.display())));
        }
    }
    match videos.is_empty() {
        true => fail("no video and no JPEG or PNG frames in it; name a video or a folder of frames"),
        false => Ok(videos),
    }
}

/// The frames of a folder that is one video: its `frames`, or itself where images lie in it.
fn frames_in(dir: &Path) -> Result<Option<PathBuf>, DataError> {
    let frames = dir.join("frames");
    if frames.is_dir() {
        return Ok(Some(frames));
    }
    let is_image = |name: &str| {
        let lower = name.to_ascii_lowercase();
        [".jpg", ".jpeg", ".png"].iter().any(|ending| lower.ends_with(ending))
    };
    let images = listing(dir)?.iter().any(|(name, is_dir)| !is_dir && is_image(name));
    Ok(images.then(|| dir.to_path_buf()))
}
