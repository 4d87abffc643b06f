//! Which dataset is this? Finds frames and masks under a root by the folders that each published dataset has, and turns
//! them into sequences.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::list::read_list;
use super::masklets::{ENDING, Masklets};
use super::video::{Probe, is_video, probe};
use super::{DataError, Dataset, FFMPEG, FrameFile, MaskSource, Object, Sequence, frame_size};
use crate::score::Protocol;

/// Published layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// SA-V: `JPEGImages_24fps/<video>/`, `Annotations_6fps/<video>/<object>/` (validation, test), or `<video>.mp4` with
    /// `<video>_manual.json` in the root or in its folders (train).
    #[serde(rename = "sa-v")]
    SaV,
    /// DAVIS 2016: `JPEGImages/480p/<video>/`, `Annotations/480p/<video>/`, one object, 0 and 255.
    Davis2016,
    /// DAVIS 2017: the same folders, palette index = object id, 255 = void.
    Davis2017,
    /// MOSE and every other `JPEGImages/<video>/`, `Annotations/<video>/` without a description file.
    Mose,
    /// YouTube-VOS: as MOSE, with `meta.json`.
    YoutubeVos,
    /// LVOS: as MOSE, with `*_meta.json`.
    Lvos,
    /// One video: `frames/` and `masks/`, or folders that each have both.
    Plain,
}

impl Layout {
    /// Every layout, in the order in which help texts list them.
    pub const ALL: [Layout; 7] = [
        Layout::SaV,
        Layout::Davis2016,
        Layout::Davis2017,
        Layout::Mose,
        Layout::YoutubeVos,
        Layout::Lvos,
        Layout::Plain,
    ];

    /// Name used on the command line and in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Layout::SaV => "sa-v",
            Layout::Davis2016 => "davis2016",
            Layout::Davis2017 => "davis2017",
            Layout::Mose => "mose",
            Layout::YoutubeVos => "youtube-vos",
            Layout::Lvos => "lvos",
            Layout::Plain => "plain",
        }
    }

    /// The protocol its own benchmark uses.
    pub const fn protocol(self) -> Protocol {
        match self {
            Layout::SaV => Protocol::Sav,
            Layout::Davis2016 => Protocol::Davis2016,
            Layout::Davis2017 => Protocol::Davis2017Semi,
            Layout::Mose | Layout::YoutubeVos | Layout::Lvos | Layout::Plain => Protocol::Vos,
        }
    }

    /// Frames per second as published; no file says it.
    const fn fps(self) -> f64 {
        match self {
            Layout::YoutubeVos | Layout::Lvos => 6.0,
            _ => 24.0,
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is no layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown layout `{0}`; known: sa-v, davis2016, davis2017, mose, youtube-vos, lvos, plain")]
pub struct UnknownLayout(pub String);

impl FromStr for Layout {
    type Err = UnknownLayout;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let lower = word.trim().to_ascii_lowercase();
        Layout::ALL.into_iter().find(|l| l.as_str() == lower).ok_or_else(|| UnknownLayout(word.to_string()))
    }
}

/// How to open a dataset; the default detects the layout and takes every video.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Layout, where detection would guess another one.
    pub layout: Option<Layout>,
    /// Text file with one video name per line (`sav_val.txt`, `ImageSets/2017/val.txt`); only these are opened.
    pub list: Option<PathBuf>,
    /// Open only the first so many videos: the others' masks are not even looked at.
    pub videos: Option<usize>,
}

/// Folders that hold frames and masks.
pub(super) struct FoundLayout {
    pub(super) layout: Layout,
    /// Per video: frames (a folder, or a video file), masks folder.
    pub(super) videos: BTreeMap<String, (PathBuf, PathBuf)>,
    /// Videos that have only one of the two: name, what is missing.
    pub(super) lone: Vec<(String, String)>,
}

/// Finds the videos that `options` ask for.
pub(super) fn places(root: &Path, options: &OpenOptions) -> Result<FoundLayout, DataError> {
    let mut places = find(root, options.layout)?;
    if let Some(list) = &options.list {
        let names = read_list(list)?;
        if let Some(missing) = names.iter().find(|n| !places.videos.contains_key(*n)) {
            return Err(DataError(format!(
                "{} lists `{missing}`, but {} has no such video with frames and annotations",
                list.display(),
                root.display()
            )));
        }
        places.videos.retain(|name, _| names.contains(name));
    }
    places.videos = places.videos.into_iter().take(options.videos.unwrap_or(usize::MAX)).collect();
    Ok(places)
}

pub(super) fn open(root: &Path, options: &OpenOptions) -> Result<Dataset, DataError> {
    let places = places(root, options)?;
    let layout = places.layout;
    let chosen: Vec<_> = places.videos.into_iter().collect();
    let sequences: Vec<Sequence> = chosen
        .into_par_iter()
        .map(|(name, (frames, masks))| sequence(layout, name, &frames, &masks))
        .collect::<Result<_, _>>()?;
    let sequences: Vec<Sequence> = sequences.into_iter().filter(|s| !s.objects.is_empty()).collect();
    if sequences.is_empty() {
        return Err(DataError(format!(
            "{}: no video has an annotated object ({} layout); is this the right folder?",
            root.display(),
            layout
        )));
    }
    Ok(Dataset { root: root.to_path_buf(), layout: layout.as_str(), kind: layout, sequences })
}

fn find(root: &Path, wanted: Option<Layout>) -> Result<FoundLayout, DataError> {
    if !root.is_dir() {
        return Err(DataError(format!("{}: no such directory; give the dataset's root with --data", root.display())));
    }
    let (frames, masks, found) = if root.join("JPEGImages_24fps").is_dir() {
        (root.join("JPEGImages_24fps"), root.join("Annotations_6fps"), Layout::SaV)
    } else if root.join("JPEGImages").is_dir() {
        let (frames, masks) = (root.join("JPEGImages"), root.join("Annotations"));
        let resolution = ["480p", "1080p", "Full-Resolution"].into_iter().find(|r| frames.join(r).is_dir());
        match resolution {
            Some(r) => {
                let sets = root.join("ImageSets");
                let old = !sets.join("2017").exists() && (sets.join("2016").exists() || sets.join(r).exists());
                let layout = if old { Layout::Davis2016 } else { Layout::Davis2017 };
                (frames.join(r), masks.join(r), layout)
            }
            None => {
                let described = |end: &str| entries(root).is_ok_and(|names| names.iter().any(|n| n.ends_with(end)));
                let layout = if root.join("meta.json").exists() {
                    Layout::YoutubeVos
                } else if described("_meta.json") {
                    Layout::Lvos
                } else {
                    Layout::Mose
                };
                (frames, masks, layout)
            }
        }
    } else if let Some(places) = find_masklets(root)? {
        return Ok(places);
    } else {
        return find_plain(root, wanted);
    };
    if !masks.is_dir() {
        return Err(DataError(format!(
            "{}: {} is missing: there is nothing to prompt with or to score against",
            root.display(),
            masks.display()
        )));
    }
    let mut videos = BTreeMap::new();
    let mut lone = Vec::new();
    for name in entries(&frames)? {
        let file = frames.join(&name);
        let stem = match name.rsplit_once('.') {
            Some((stem, _)) if is_video(&name) && file.is_file() => stem.to_string(),
            _ if file.is_dir() => name,
            _ => continue,
        };
        if masks.join(&stem).is_dir() {
            videos.insert(stem.clone(), (file, masks.join(&stem)));
        } else {
            lone.push((file.display().to_string(), "a video without annotations: it is left out".to_string()));
        }
    }
    for name in directories(&masks)?.into_iter().filter(|n| !videos.contains_key(n)) {
        lone.push((masks.join(&name).display().to_string(), "annotations without frames: left out".to_string()));
    }
    if videos.is_empty() {
        return Err(DataError(format!(
            "{}: no video has both frames ({}) and annotations ({})",
            root.display(),
            frames.display(),
            masks.display()
        )));
    }
    Ok(FoundLayout { layout: wanted.unwrap_or(found), videos, lone })
}

/// SA-V train: videos beside their annotation files, in the root (`sav_000`) or in its folders (`sav_train`). `None` when
/// there is no such pair.
fn find_masklets(root: &Path) -> Result<Option<FoundLayout>, DataError> {
    let mut videos: BTreeMap<String, (PathBuf, PathBuf)> = BTreeMap::new();
    let mut lone = Vec::new();
    let inner = directories(root)?.into_iter().map(|n| root.join(n));
    for dir in std::iter::once(root.to_path_buf()).chain(inner) {
        for name in entries(&dir)? {
            let Some((stem, _)) = name.rsplit_once('.').filter(|_| is_video(&name)) else { continue };
            let (video, masks) = (dir.join(&name), dir.join(format!("{stem}{ENDING}")));
            if !masks.is_file() {
                lone.push((video.display().to_string(), format!("no {stem}{ENDING} beside it: it is left out")));
            } else if let Some((other, _)) = videos.insert(stem.to_string(), (video.clone(), masks)) {
                return Err(DataError(format!("{} and {} have the same name", other.display(), video.display())));
            }
        }
    }
    Ok((!videos.is_empty()).then_some(FoundLayout { layout: Layout::SaV, videos, lone }))
}

fn find_plain(root: &Path, wanted: Option<Layout>) -> Result<FoundLayout, DataError> {
    // `frames` may also be one video file of any name beside `masks`.
    let both = |dir: &Path| -> Result<Option<(PathBuf, PathBuf)>, DataError> {
        let (frames, masks) = (dir.join("frames"), dir.join("masks"));
        if !masks.is_dir() {
            return Ok(None);
        }
        if frames.is_dir() {
            return Ok(Some((frames, masks)));
        }
        let files: Vec<String> = entries(dir)?.into_iter().filter(|n| is_video(n)).collect();
        match files.as_slice() {
            [one] => Ok(Some((dir.join(one), masks))),
            [] => Ok(None),
            _ => Err(DataError(format!("{}: {} video files beside masks; keep one", dir.display(), files.len()))),
        }
    };
    let mut videos = BTreeMap::new();
    if let Some(places) = both(root)? {
        videos.insert(plain_name(root), places);
    } else {
        for name in directories(root)? {
            if let Some(places) = both(&root.join(&name))? {
                videos.insert(name, places);
            }
        }
    }
    if !videos.is_empty() {
        return Ok(FoundLayout { layout: wanted.unwrap_or(Layout::Plain), videos, lone: Vec::new() });
    }
    let inner: Vec<String> = directories(root)?
        .into_iter()
        .filter(|n| root.join(n).join("JPEGImages").is_dir() || root.join(n).join("JPEGImages_24fps").is_dir())
        .map(|n| root.join(n).display().to_string())
        .collect();
    let hint = if inner.is_empty() { String::new() } else { format!("; did you mean {}?", inner.join(" or ")) };
    Err(DataError(format!(
        "{}: no dataset found. Known: JPEGImages_24fps + Annotations_6fps (SA-V), *.mp4 + *_manual.json (SA-V train), JPEGImages/480p + Annotations/480p \
         (DAVIS), JPEGImages + Annotations (MOSE, YouTube-VOS, LVOS), frames + masks (plain){hint}",
        root.display()
    )))
}

/// Name of the one video of a plain folder: the folder's own.
pub(crate) fn plain_name(root: &Path) -> String {
    let name = root.canonicalize().ok().and_then(|p| p.file_name().map(|n| n.to_string_lossy().into_owned()));
    name.unwrap_or_else(|| "video".to_string())
}

/// Names in a directory, sorted as the references sort them; hidden files left out.
pub(crate) fn entries(dir: &Path) -> Result<Vec<String>, DataError> {
    let fail = |e: std::io::Error| DataError(format!("{}: {e}", dir.display()));
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        let name = name.into_string().map_err(|n| {
            DataError(format!("{}: the name {} is not UTF-8; rename it", dir.display(), n.to_string_lossy()))
        })?;
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Names of the sub-directories of a directory, sorted; hidden ones left out.
pub(crate) fn directories(dir: &Path) -> Result<Vec<String>, DataError> {
    Ok(entries(dir)?.into_iter().filter(|n| dir.join(n).is_dir()).collect())
}

fn sequence(layout: Layout, name: String, frames_dir: &Path, masks_dir: &Path) -> Result<Sequence, DataError> {
    let (frames, probed) = frame_files(frames_dir)?;
    let first =
        frames.first().ok_or_else(|| DataError(format!("{}: no JPEG or PNG frame in it", frames_dir.display())))?;
    let (width, height) = match probed {
        Some(probe) => (probe.width, probe.height),
        None => frame_size(&first.path)?,
    };
    let video = probed.map(|_| frames_dir.to_path_buf());
    if masks_dir.is_file() {
        let masklets = Arc::new(Masklets::read(masks_dir)?);
        if masklets.size() != (width, height) {
            let (w, h) = masklets.size();
            return Err(DataError(format!(
                "{}: masks of {w}x{h}, the video has {width}x{height}; both must be the original files",
                masks_dir.display()
            )));
        }
        let objects = masklet_objects(&masklets, frames.len())?;
        let masks = MaskSource::Masklets(masklets);
        return Ok(Sequence { name, frames, objects, fps: layout.fps(), width, height, masks, video, witness: None });
    }
    let inside = entries(masks_dir)?;
    let folders: Vec<String> = inside.iter().filter(|n| masks_dir.join(n).is_dir()).cloned().collect();
    let masks = if folders.is_empty() {
        MaskSource::LabelMaps(masks_dir.to_path_buf())
    } else {
        MaskSource::ObjectFolders(masks_dir.to_path_buf())
    };
    let mut sequence =
        Sequence { name, frames, objects: Vec::new(), fps: layout.fps(), width, height, masks, video, witness: None };
    sequence.objects = if folders.is_empty() {
        label_map_objects(layout, &sequence, masks_dir)?
    } else {
        folder_objects(&sequence, masks_dir, folders)?
    };
    Ok(sequence)
}

/// Frames of a folder, or of a video file with what is in it: those are named by their number, five digits.
pub(super) fn frame_files(dir: &Path) -> Result<(Vec<FrameFile>, Option<Probe>), DataError> {
    if dir.is_file() {
        let probe = probe(Path::new(FFMPEG), dir)?;
        let frame = |i: usize| FrameFile { name: format!("{i:05}"), path: dir.to_path_buf() };
        return Ok(((0..probe.frames).map(frame).collect(), Some(probe)));
    }
    let mut frames: Vec<FrameFile> = Vec::new();
    for name in entries(dir)? {
        let Some((stem, extension)) = name.rsplit_once('.') else { continue };
        if !["jpg", "jpeg", "png"].contains(&extension.to_ascii_lowercase().as_str()) {
            continue;
        }
        if frames.iter().rev().take(3).any(|f| f.name == stem) {
            return Err(DataError(format!("{}: frame {stem} is there twice, with two extensions", dir.display())));
        }
        frames.push(FrameFile { name: stem.to_string(), path: dir.join(&name) });
    }
    Ok((frames, None))
}

/// Indices of the frames that the annotation files of a folder belong to.
fn annotated(sequence: &Sequence, dir: &Path) -> Result<Vec<usize>, DataError> {
    let index: BTreeMap<&str, usize> = sequence.frames.iter().enumerate().map(|(i, f)| (f.name.as_str(), i)).collect();
    let mut frames = Vec::new();
    for name in entries(dir)? {
        let Some(stem) = name.strip_suffix(".png") else { continue };
        let frame = index.get(stem).ok_or_else(|| {
            DataError(format!("{}: there is no frame {stem} for this annotation", dir.join(&name).display()))
        })?;
        frames.push(*frame);
    }
    frames.sort_unstable();
    Ok(frames)
}

fn folder_objects(sequence: &Sequence, dir: &Path, folders: Vec<String>) -> Result<Vec<Object>, DataError> {
    let mut objects = Vec::new();
    for name in folders {
        let annotated = annotated(sequence, &dir.join(&name))?;
        let mut object = Object { id: objects.len() as u32, name, annotated, prompt_frame: 0 };
        let mut start = None;
        for &frame in &object.annotated {
            if !sequence.truth(&object, frame)?.is_empty() {
                start = Some(frame);
                break;
            }
        }
        // An object that is never visible cannot be prompted, and no protocol scores it.
        if let Some(frame) = start {
            object.prompt_frame = frame;
            objects.push(object);
        }
    }
    Ok(objects)
}

fn masklet_objects(masklets: &Masklets, frames: usize) -> Result<Vec<Object>, DataError> {
    let annotated = masklets.annotated(frames);
    let mut objects = Vec::new();
    for name in masklets.names() {
        let mut start = None;
        for &frame in &annotated {
            if !masklets.mask(name, frame)?.is_empty() {
                start = Some(frame);
                break;
            }
        }
        if let Some(prompt_frame) = start {
            let id = objects.len() as u32;
            objects.push(Object { id, name: name.clone(), annotated: annotated.clone(), prompt_frame });
        }
    }
    Ok(objects)
}

fn label_map_objects(layout: Layout, sequence: &Sequence, dir: &Path) -> Result<Vec<Object>, DataError> {
    const VOID: u16 = 255;
    let annotated = annotated(sequence, dir)?;
    let mut first: BTreeMap<u16, usize> = BTreeMap::new();
    for &frame in &annotated {
        let path = dir.join(format!("{}.png", sequence.frames[frame].name));
        for (id, _) in sequence.read_labels(&path)?.masks {
            if !(layout == Layout::Davis2017 && id == VOID) {
                first.entry(id).or_insert(frame);
            }
        }
    }
    Ok(first
        .into_iter()
        .enumerate()
        .map(|(i, (value, prompt_frame))| Object {
            id: i as u32,
            name: value.to_string(),
            annotated: annotated.clone(),
            prompt_frame,
        })
        .collect())
}
