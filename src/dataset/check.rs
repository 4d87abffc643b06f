//! `jetbench data check DIR`: everything in a dataset that would waste a night's run, found before it: frames and masks
//! that are missing, damaged or of the wrong size, prompts that cannot be given, masks that store their values in a way
//! that changes their meaning, names that mean the same object twice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use super::layout::{self, OpenOptions, entries};
use super::{DataError, LabelImage, Layout, Masklets, frame_size};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingSeverity {
    /// A run or its scoring would fail, or be wrong.
    Error,
    /// It works, but probably not as meant.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: FindingSeverity,
    /// File or folder.
    pub place: String,
    /// What is wrong, and what to do.
    pub what: String,
}

/// What was looked at and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Layout.
    pub layout: Layout,
    /// Videos looked at.
    pub videos: usize,
    /// Frames whose headers were read.
    pub frames: usize,
    /// Mask files that were decoded.
    pub masks: usize,
    /// Errors first, then by place.
    pub findings: Vec<Finding>,
}

impl CheckReport {
    /// Is there nothing that would make a run fail or its scores wrong?
    pub fn passed(&self) -> bool {
        self.findings.iter().all(|f| f.severity != FindingSeverity::Error)
    }
}

/// Looks at every frame's header and every mask under `root`. `progress` is told (videos done, videos in all).
///
/// # Errors
/// Only when there is no dataset to look at; what is wrong inside it is in the report.
pub fn check(
    root: &Path,
    options: &OpenOptions,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<CheckReport, DataError> {
    let places = layout::places(root, options)?;
    let mut findings: Vec<Finding> = Vec::new();
    for (name, what) in places.lone {
        findings.push(Finding { severity: FindingSeverity::Warning, place: name, what });
    }
    let done = AtomicUsize::new(0);
    let total = places.videos.len();
    let checked: Vec<VideoCheck> = places
        .videos
        .par_iter()
        .map(|(_, (frames, masks))| {
            let mut video = VideoCheck::default();
            video.look(places.layout, frames, masks);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
            video
        })
        .collect();
    let frames = checked.iter().map(|v| v.frames).sum();
    let masks = checked.iter().map(|v| v.masks).sum();
    findings.extend(checked.into_iter().flat_map(|v| v.findings));
    findings.sort();
    Ok(CheckReport { layout: places.layout, videos: total, frames, masks, findings })
}

#[derive(Default)]
struct VideoCheck {
    frames: usize,
    masks: usize,
    findings: Vec<Finding>,
}

impl VideoCheck {
    fn error(&mut self, place: impl AsRef<Path>, what: impl Into<String>) {
        let place = place.as_ref().display().to_string();
        self.findings.push(Finding { severity: FindingSeverity::Error, place, what: what.into() });
    }

    fn warn(&mut self, place: impl AsRef<Path>, what: impl Into<String>) {
        let place = place.as_ref().display().to_string();
        self.findings.push(Finding { severity: FindingSeverity::Warning, place, what: what.into() });
    }

    fn look(&mut self, layout: Layout, frames_dir: &Path, masks_dir: &Path) {
        let (files, probed) = match layout::frame_files(frames_dir) {
            Ok(found) => found,
            Err(fault) => return self.error(frames_dir, fault.0),
        };
        let mut sizes: BTreeMap<(u32, u32), (usize, String)> = BTreeMap::new();
        if frames_dir.is_dir() {
            for file in &files {
                match frame_size(&file.path) {
                    Ok(size) => sizes.entry(size).or_insert((0, file.name.clone())).0 += 1,
                    Err(fault) => self.error(&file.path, fault.0),
                }
                self.frames += 1;
            }
        }
        if sizes.len() > 1 {
            let list: Vec<String> =
                sizes.iter().map(|((w, h), (n, first))| format!("{w}x{h} ({n}, first {first})")).collect();
            self.error(frames_dir, format!("frames of different sizes: {}", list.join(", ")));
        }
        if files.is_empty() {
            self.error(frames_dir, "no JPEG or PNG frame in it");
        }
        if masks_dir.is_file() {
            return self.masklets(masks_dir, files.len(), probed.map(|p| (p.width, p.height)));
        }
        let names: BTreeSet<&str> = files.iter().map(|f| f.name.as_str()).collect();
        self.gaps(frames_dir, &names.iter().map(|n| (*n).to_string()).collect::<Vec<_>>());
        let size = sizes.iter().max_by_key(|(_, (n, _))| *n).map(|(size, _)| *size);
        let inside = match entries(masks_dir) {
            Ok(inside) => inside,
            Err(fault) => return self.error(masks_dir, fault.0),
        };
        let (folders, loose): (Vec<String>, Vec<String>) = inside.into_iter().partition(|n| masks_dir.join(n).is_dir());
        if !folders.is_empty() {
            for stray in &loose {
                self.error(
                    masks_dir.join(stray),
                    "a file among the objects' folders; the references abort on it, move it away",
                );
            }
            let mut numbers: BTreeMap<u64, &str> = BTreeMap::new();
            for folder in &folders {
                let other = folder.parse::<u64>().ok().and_then(|number| numbers.insert(number, folder));
                if let Some(other) = other {
                    self.error(masks_dir, format!("objects {other} and {folder} have the same number; rename one"));
                }
                self.masks_of(&masks_dir.join(folder), true, layout, &names, size);
            }
        } else if loose.is_empty() {
            self.error(masks_dir, "no annotation in it");
        } else {
            self.masks_of(masks_dir, false, layout, &names, size);
        }
    }

    /// The annotation file of a SA-V train video of `frames` frames.
    fn masklets(&mut self, file: &Path, frames: usize, size: Option<(u32, u32)>) {
        let masklets = match Masklets::read(file) {
            Ok(masklets) => masklets,
            Err(fault) => return self.error(file, fault.0),
        };
        let (w, h) = masklets.size();
        if let Some((width, height)) = size.filter(|s| *s != (w, h)) {
            self.error(file, format!("masks of {w}x{h}, the video has {width}x{height}"));
        }
        let annotated = masklets.annotated(frames);
        if annotated.len() < masklets.annotations() {
            self.warn(
                file,
                format!(
                    "{} annotations, but the video's {frames} frames reach {}",
                    masklets.annotations(),
                    annotated.len()
                ),
            );
        }
        for name in masklets.names() {
            let mut visible = false;
            for &frame in &annotated {
                self.masks += 1;
                match masklets.mask(name, frame) {
                    Ok(mask) => visible |= !mask.is_empty(),
                    Err(fault) => self.error(file, fault.0),
                }
            }
            if !visible {
                self.error(file, format!("object {name} is never visible: it can be neither prompted nor scored"));
            }
        }
    }

    /// Files of one object, or the label maps of a video.
    fn masks_of(
        &mut self,
        dir: &Path,
        single: bool,
        layout: Layout,
        frames: &BTreeSet<&str>,
        size: Option<(u32, u32)>,
    ) {
        let inside = match entries(dir) {
            Ok(inside) => inside,
            Err(fault) => return self.error(dir, fault.0),
        };
        let mut stems = Vec::new();
        let mut formats: BTreeMap<(u8, bool), String> = BTreeMap::new();
        let mut seen: BTreeSet<u16> = BTreeSet::new();
        let mut first_ids: Option<BTreeSet<u16>> = None;
        let mut visible = false;
        for name in inside {
            let path = dir.join(&name);
            let Some(stem) = name.strip_suffix(".png") else {
                self.error(&path, "not a .png; the references abort on it or take it for a mask, move it away");
                continue;
            };
            stems.push(stem.to_string());
            if !frames.contains(stem) {
                self.error(&path, format!("there is no frame {stem} for this annotation"));
            }
            self.masks += 1;
            let image = match LabelImage::read(&path) {
                Ok(image) => image,
                Err(fault) => {
                    self.error(&path, fault.0);
                    continue;
                }
            };
            if size.is_some_and(|s| s != (image.width(), image.height())) {
                let (w, h) = size.unwrap_or_default();
                self.error(&path, format!("{}x{}, its frames are {w}x{h}", image.width(), image.height()));
            }
            let format = image.format();
            formats.entry((format.bits(), format.grey())).or_insert(name.clone());
            let split = image.into_masks();
            let ids: BTreeSet<u16> = split.masks.iter().map(|(id, _)| *id).collect();
            if single && ids.len() + usize::from(split.background) > 2 {
                self.error(&path, format!("{} values besides 0; an object's file holds one object", ids.len()));
            }
            if single && ids.len() == 2 && !split.background {
                self.warn(&path, "two values and no 0: the references take all of it for foreground");
            }
            if stems.len() == 1 && ids.is_empty() {
                self.warn(&path, "the first annotation is empty: the prompt is given on the first that is not");
            }
            visible |= !ids.is_empty();
            first_ids.get_or_insert_with(|| ids.clone());
            seen.extend(ids);
        }
        self.gaps(dir, &stems);
        if !stems.is_empty() && !visible {
            self.error(dir, "never visible in any annotation: it can be neither prompted nor scored");
        }
        if stems.len() <= 2 && !stems.is_empty() {
            self.warn(
                dir,
                format!("{} annotated frames: nothing is scored once the first and last are dropped", stems.len()),
            );
        }
        if stems.is_empty() {
            self.error(dir, "no annotation in it");
        }
        if formats.len() > 1 {
            let list: Vec<String> = formats
                .iter()
                .map(|((bits, grey), first)| format!("{bits}-bit {} ({first})", if *grey { "grey" } else { "palette" }))
                .collect();
            self.warn(dir, format!("masks are stored in different ways: {}", list.join(", ")));
        }
        if !single {
            self.label_maps(dir, layout, &formats, &seen, &first_ids.unwrap_or_default());
        }
    }

    /// What values in label maps can get wrong.
    fn label_maps(
        &mut self,
        dir: &Path,
        layout: Layout,
        formats: &BTreeMap<(u8, bool), String>,
        seen: &BTreeSet<u16>,
        first: &BTreeSet<u16>,
    ) {
        for (bits, scale) in [(2, 85), (4, 17)] {
            if formats.contains_key(&(bits, true)) {
                self.warn(
                    dir,
                    format!(
                        "{bits}-bit grey: readers multiply its values by {scale}, so ids change; save a palette PNG"
                    ),
                );
            }
        }
        let binary = layout == Layout::Davis2016;
        if binary && seen.len() > 1 {
            self.warn(dir, format!("values {seen:?}: DAVIS 2016 has one object per video, all of them count as it"));
        }
        if seen.contains(&255) && !binary {
            let what = if layout == Layout::Davis2017 {
                "255 is void in DAVIS 2017: background for the semi-supervised protocol"
            } else {
                "255 is an ordinary object for the vos protocol, not void"
            };
            self.warn(dir, what);
        }
        if layout == Layout::Davis2017 {
            let real = |ids: &BTreeSet<u16>| ids.iter().copied().filter(|id| *id != 255).collect::<BTreeSet<u16>>();
            let (first, seen) = (real(first), real(seen));
            let highest = first.last().copied().unwrap_or(0);
            let late: Vec<u16> = seen.iter().copied().filter(|id| *id > highest).collect();
            if !late.is_empty() {
                self.warn(
                    dir,
                    format!("ids {late:?} come after the first annotation: the DAVIS protocol ignores them"),
                );
            }
            let holes: Vec<u16> = (1..highest).filter(|id| !seen.contains(id)).collect();
            if !holes.is_empty() {
                self.warn(dir, format!("ids {holes:?} are never used, but DAVIS counts them as objects that score 1"));
            }
        }
    }

    /// Numbered names that leave a number out: most differences between neighbours are the same, one is not.
    fn gaps(&mut self, dir: &Path, names: &[String]) {
        let numbers: Option<Vec<u64>> = names.iter().map(|n| n.parse().ok()).collect();
        let Some(numbers) = numbers.filter(|n| n.len() > 3) else { return };
        let mut steps: BTreeMap<u64, usize> = BTreeMap::new();
        for pair in numbers.windows(2) {
            *steps.entry(pair[1].saturating_sub(pair[0])).or_default() += 1;
        }
        let Some((&usual, _)) = steps.iter().max_by_key(|(_, n)| **n) else { return };
        let odd: Vec<String> = numbers
            .windows(2)
            .zip(names)
            .filter(|(pair, _)| pair[1].saturating_sub(pair[0]) != usual)
            .map(|(pair, name)| format!("after {name} comes {}", pair[1]))
            .collect();
        if !odd.is_empty() {
            let shown = odd[..odd.len().min(5)].join(", ");
            self.warn(
                dir,
                format!("numbers go in steps of {usual}, but {} time(s) not: {shown}; are files missing?", odd.len()),
            );
        }
    }
}
