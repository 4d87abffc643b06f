//! Which dataset is this? Finds frames and masks under a root by the folders that each published dataset has, and turns
//! them into sequences.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use jetbench_runners::files;

use super::list::read_list;
use super::masklets::ENDING;
use super::objects::sequence;
use super::panoptic_truth::{MASKS, PanopticTruth};
use super::video::is_video;
use super::{Categories, DataError, Dataset, Finding, Sequence, UserPrompts, live, vipseg};
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
    /// MOSE and every other `JPEGImages/<video>/`, `Annotations/<video>/`; v2 has a description file.
    Mose,
    /// YouTube-VOS: as MOSE, with `meta.json`.
    YoutubeVos,
    /// LVOS v1 and v2: as MOSE, with `*_meta.json`.
    Lvos,
    /// VIPSeg: `images/<video>/`, `panomasksRGB/<video>/` and `panoptic_gt_….json`; things are the objects.
    Vipseg,
    /// One video: `frames/` and `masks/`, or folders that each have both.
    Plain,
}

impl Layout {
    /// Every layout, in the order in which help texts list them.
    pub const ALL: [Layout; 8] = [
        Layout::SaV,
        Layout::Davis2016,
        Layout::Davis2017,
        Layout::Mose,
        Layout::YoutubeVos,
        Layout::Lvos,
        Layout::Vipseg,
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
            Layout::Vipseg => "vipseg",
            Layout::Plain => "plain",
        }
    }

    /// The protocol its own benchmark uses.
    pub const fn protocol(self) -> Protocol {
        match self {
            Layout::SaV => Protocol::Sav,
            Layout::Davis2016 => Protocol::Davis2016,
            Layout::Davis2017 => Protocol::Davis2017Semi,
            Layout::Mose | Layout::YoutubeVos | Layout::Lvos | Layout::Vipseg | Layout::Plain => Protocol::Vos,
        }
    }

    /// Frames per second as published, where no file says it.
    pub(super) const fn fps(self) -> f64 {
        match self {
            Layout::YoutubeVos | Layout::Lvos => 6.0,
            Layout::Vipseg => 5.0,
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
#[error("unknown layout `{0}`; known: sa-v, davis2016, davis2017, mose, youtube-vos, lvos, vipseg, plain")]
pub struct UnknownLayout(pub String);

impl FromStr for Layout {
    type Err = UnknownLayout;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let lower = word.trim().to_ascii_lowercase();
        Layout::ALL.into_iter().find(|l| l.as_str() == lower).ok_or_else(|| UnknownLayout(word.to_string()))
    }
}

/// How to open a dataset; the default detects the layout and takes every video.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OpenOptions {
    /// Layout, where detection would guess another one.
    pub layout: Option<Layout>,
    /// Text file with one video name per line (`sav_val.txt`, `ImageSets/2017/val.txt`); only these are opened.
    pub list: Option<PathBuf>,
    /// Open only the first so many videos: the others' masks are not even looked at.
    pub videos: Option<usize>,
    /// Prompts of the user's own: only frames are read, of the videos that have a prompt.
    pub prompts: Option<UserPrompts>,
}

/// Folders that hold frames and masks.
pub(super) struct FoundLayout {
    pub(super) layout: Layout,
    /// Per video: frames (a folder, or a video file), masks folder.
    pub(super) videos: BTreeMap<String, (PathBuf, PathBuf)>,
    /// Videos that have only one of the two, and other things that are left out.
    pub(super) lone: Vec<Finding>,
    /// What the description of VIPSeg says of them.
    pub(super) panoptic: Option<PanopticTruth>,
}

/// Finds the videos that `options` ask for.
pub(super) fn places(root: &Path, options: &OpenOptions) -> Result<FoundLayout, DataError> {
    live::refuse(root)?;
    if root.to_str().is_none() {
        return Err(DataError(format!(
            "{}: the path is not UTF-8, and records hold text; rename the folder, or link to it under another name",
            root.display()
        )));
    }
    let panoptic = match options.layout {
        None | Some(Layout::Vipseg) => vipseg::description(root, options.layout.is_some())?,
        Some(_) => None,
    };
    let mut places = match panoptic {
        Some(description) => vipseg::places(&description)?,
        None if options.layout == Some(Layout::Vipseg) => {
            return Err(DataError(format!(
                "{}: not VIPSeg's folder, which has panomasksRGB, nor its annotation file, panoptic_gt_….json",
                root.display()
            )));
        }
        None if root.is_file() => find_clip(root, options.layout)?,
        None => find(root, options.layout)?,
    };
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
        .map(|(name, (frames, masks))| match &places.panoptic {
            Some(truth) => vipseg::sequence(truth, &name, &frames, &masks),
            None => sequence(layout, name, &frames, &masks),
        })
        .collect::<Result<_, _>>()?;
    // Where stuff is scored too, a video without things counts.
    let whole = |s: &Sequence| !s.objects.is_empty() || s.segments().is_some();
    let sequences: Vec<Sequence> = sequences.into_iter().filter(whole).collect();
    if sequences.is_empty() {
        return Err(DataError(format!(
            "{}: no video has an annotated object ({} layout); is this the right folder?",
            root.display(),
            layout
        )));
    }
    let (categories, unused) = match layout {
        Layout::YoutubeVos => Categories::read(root, &sequences),
        Layout::Vipseg => (vipseg::categories(&sequences), None),
        _ => Default::default(),
    };
    let findings = places.lone.into_iter().chain(unused).collect();
    Ok(Dataset { root: root.to_path_buf(), layout: layout.as_str(), kind: layout, sequences, categories, findings })
}

/// Is there anything beside the frames that could be their truth? It may be wrong or not whole, which is then told.
pub(crate) fn has_masks(root: &Path) -> bool {
    if vipseg::is_panoptic(root) {
        return true;
    }
    if let Some(folder) = root.parent().filter(|_| root.is_file()) {
        let stem = root.file_stem().unwrap_or_default().to_string_lossy();
        return folder.join("masks").is_dir() || folder.join(format!("{stem}{ENDING}")).is_file();
    }
    let annotated = |dir: &Path| {
        ["Annotations", "Annotations_6fps", "masks", MASKS].iter().any(|name| dir.join(name).is_dir())
            || entries(dir).unwrap_or_default().iter().any(|name| name.ends_with(ENDING))
    };
    annotated(root) || directories(root).unwrap_or_default().iter().any(|name| annotated(&root.join(name)))
}

fn find(root: &Path, wanted: Option<Layout>) -> Result<FoundLayout, DataError> {
    if !root.is_dir() {
        return Err(DataError(format!("{}: no such directory; name a dataset's root folder", root.display())));
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
            None => (frames, masks, described(root)),
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
            lone.push(Finding::warning(file, "a video without annotations: it is left out"));
        }
    }
    for name in directories(&masks)?.into_iter().filter(|n| !videos.contains_key(n)) {
        lone.push(Finding::warning(masks.join(&name), "annotations without frames: left out"));
    }
    if videos.is_empty() {
        return Err(DataError(format!(
            "{}: no video has both frames ({}) and annotations ({})",
            root.display(),
            frames.display(),
            masks.display()
        )));
    }
    Ok(FoundLayout { layout: wanted.unwrap_or(found), videos, lone, panoptic: None })
}

/// Whose folders `JPEGImages` and `Annotations` are, from the description file beside them: MOSE v2 gives the length of
/// each video, LVOS the range of each object, and YouTube-VOS the frames of each object. MOSE v1 has none.
pub(crate) fn described(root: &Path) -> Layout {
    let is_meta = |n: &String| n.ends_with(".json") && n.split(['.', '_']).any(|word| word == "meta");
    let metas: Vec<String> = entries(root).unwrap_or_default().into_iter().filter(is_meta).collect();
    for name in &metas {
        let mut start = Vec::new();
        let read = files::plain(&root.join(name)).and_then(|f| f.take(1 << 16).read_to_end(&mut start));
        let text = String::from_utf8_lossy(&start);
        match read {
            Ok(_) if text.contains("\"frame_range\"") => return Layout::Lvos,
            Ok(_) if text.contains("\"length\"") => return Layout::Mose,
            _ => {}
        }
    }
    match metas.as_slice() {
        [] => Layout::Mose,
        _ if metas.iter().any(|n| n == "meta.json") => Layout::YoutubeVos,
        _ if metas.iter().any(|n| n.ends_with("_meta.json")) => Layout::Lvos,
        _ => Layout::Mose,
    }
}

/// One video file: its masks lie beside it, in `masks/` or as SA-V train's JSON.
fn find_clip(file: &Path, wanted: Option<Layout>) -> Result<FoundLayout, DataError> {
    let fail = |what: &str| Err(DataError(format!("{}: {what}", file.display())));
    let (Some(stem), Some(folder)) = (file.file_stem().and_then(|s| s.to_str()), file.parent()) else {
        return fail("not a dataset; give its folder");
    };
    if !file.file_name().and_then(|n| n.to_str()).is_some_and(is_video) {
        return fail("a file, but no video; name a dataset's folder");
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let json = folder.join(format!("{stem}{ENDING}"));
    let (name, masks, layout) = if json.is_file() {
        (stem.to_string(), json, Layout::SaV)
    } else if folder.join("masks").is_dir() {
        (plain_name(folder), folder.join("masks"), Layout::Plain)
    } else {
        return fail(
            "a video without masks: there is nothing to prompt with or to score against; put them into `masks` beside it, a \
             PNG per annotated frame: 00000.png is that of the first frame",
        );
    };
    let videos = BTreeMap::from([(name, (file.to_path_buf(), masks))]);
    Ok(FoundLayout { layout: wanted.unwrap_or(layout), videos, lone: Vec::new(), panoptic: None })
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
                lone.push(Finding::warning(video, format!("no {stem}{ENDING} beside it: it is left out")));
            } else if let Some((other, _)) = videos.insert(stem.to_string(), (video.clone(), masks)) {
                return Err(DataError(format!("{} and {} have the same name", other.display(), video.display())));
            }
        }
    }
    Ok((!videos.is_empty()).then_some(FoundLayout { layout: Layout::SaV, videos, lone, panoptic: None }))
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
        return Ok(FoundLayout { layout: wanted.unwrap_or(Layout::Plain), videos, lone: Vec::new(), panoptic: None });
    }
    let inner: Vec<String> = directories(root)?
        .into_iter()
        .filter(|n| root.join(n).join("JPEGImages").is_dir() || root.join(n).join("JPEGImages_24fps").is_dir())
        .map(|n| root.join(n).display().to_string())
        .collect();
    let hint = if inner.is_empty() { String::new() } else { format!("; did you mean {}?", inner.join(" or ")) };
    Err(DataError(format!(
        "{}: no dataset found. Known: JPEGImages_24fps + Annotations_6fps (SA-V), *.mp4 + *_manual.json (SA-V train), JPEGImages/480p + Annotations/480p \
         (DAVIS), JPEGImages + Annotations (MOSE, YouTube-VOS, LVOS), images + panomasksRGB + panoptic_gt_….json (VIPSeg), frames + masks (plain){hint}",
        root.display()
    )))
}

/// Name of the one video of a plain folder: the folder's own.
pub(crate) fn plain_name(root: &Path) -> String {
    let name = root.canonicalize().ok().and_then(|p| p.file_name().map(|n| n.to_string_lossy().into_owned()));
    name.unwrap_or_else(|| "video".to_string())
}

/// Names in a directory and whether each is one itself, sorted as the references sort them; hidden ones left out.
pub(crate) fn listing(dir: &Path) -> Result<Vec<(String, bool)>, DataError> {
    let fail = |e: std::io::Error| DataError(format!("{}: {e}", dir.display()));
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name().into_string().map_err(|n| {
            DataError(format!("{}: the name {} is not UTF-8; rename it", dir.display(), n.to_string_lossy()))
        })?;
        if !name.starts_with('.') {
            let kind = entry.file_type().map_err(fail)?;
            let is_dir = kind.is_dir() || (kind.is_symlink() && dir.join(&name).is_dir());
            names.push((name, is_dir));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Names in a directory, as [`listing`] has them.
pub(crate) fn entries(dir: &Path) -> Result<Vec<String>, DataError> {
    Ok(listing(dir)?.into_iter().map(|(name, _)| name).collect())
}

/// Names of the sub-directories of a directory, sorted; hidden ones left out.
pub(crate) fn directories(dir: &Path) -> Result<Vec<String>, DataError> {
    Ok(listing(dir)?.into_iter().filter_map(|(name, is_dir)| is_dir.then_some(name)).collect())
}
