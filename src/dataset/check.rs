//! `jetbench data check DIR`: everything in a dataset that would waste a night's run, found before it: frames and masks
//! that are missing, damaged or of the wrong size, prompts that cannot be given, masks that store their values in a way
//! that changes their meaning, names that mean the same object twice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use super::layout::{self, OpenOptions};
use super::objects::{not_one_object, sequence};
use super::panoptic_truth::{PanopticTruth, SequenceSegments};
use super::survey::{Footage, MaskFiles, Survey, mask_file, survey};
use super::values::Values;
use super::{DataError, Finding, FindingSeverity, FrameFile, LabelImage, Layout, Masklets, read_frame, vipseg, whole};

/// What was looked at and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Layout.
    pub layout: Layout,
    /// Videos looked at.
    pub videos: usize,
    /// Frames that were decoded.
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

/// Decodes every frame and every mask under `root`. `progress` is told (videos done, videos in all).
///
/// # Errors
/// Only when there is no dataset to look at; what is wrong inside it is in the report.
pub fn check(
    root: &Path,
    options: &OpenOptions,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<CheckReport, DataError> {
    let places = layout::places(root, options)?;
    let mut findings = places.lone;
    let done = AtomicUsize::new(0);
    let total = places.videos.len();
    let checked: Vec<VideoCheck> = places
        .videos
        .par_iter()
        .map(|(name, (frames, masks))| {
            let mut video = VideoCheck::default();
            match &places.panoptic {
                Some(truth) => video.segments(truth, name, frames, masks),
                None => {
                    video.look(places.layout, frames, masks);
                    video.open(places.layout, name, frames, masks);
                }
            }
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

/// A fault of several files.
struct Repeated {
    first: PathBuf,
    what: String,
    more: usize,
}

fn again(fault: &mut Option<Repeated>, path: &Path, what: String) {
    match fault {
        Some(known) => known.more += 1,
        None => *fault = Some(Repeated { first: path.to_path_buf(), what, more: 0 }),
    }
}

#[derive(Default)]
struct VideoCheck {
    frames: usize,
    masks: usize,
    findings: Vec<Finding>,
}

impl VideoCheck {
    /// One error per place: the first says what a run would say.
    fn error(&mut self, place: impl AsRef<Path>, what: impl Into<String>) {
        let mut new = Finding::error(place, what);
        if let Some(rest) = new.what.strip_prefix(&format!("{}: ", new.place)) {
            new.what = rest.to_string();
        }
        if !self.findings.iter().any(|f| f.severity == new.severity && f.place == new.place) {
            self.findings.push(new);
        }
    }

    fn warn(&mut self, place: impl AsRef<Path>, what: impl Into<String>) {
        self.findings.push(Finding::warning(place, what));
    }

    fn look(&mut self, layout: Layout, frames_at: &Path, masks_at: &Path) {
        let Survey { footage, masks } = match survey(layout, frames_at, masks_at) {
            Ok(found) => found,
            Err(fault) => return self.error(frames_at, fault.0),
        };
        let Footage { frames, probe, size, findings, .. } = footage;
        self.findings = findings;
        match probe {
            // Decoding it has counted its frames.
            Some(_) => self.frames = frames.len(),
            None => self.frame_files(frames_at, &frames),
        }
        match masks {
            MaskFiles::Json => self.masklets(masks_at, frames.len(), size),
            MaskFiles::Labels(annotated) => self.masks_of(masks_at, None, layout, &frames, &annotated, size),
            MaskFiles::Folders(folders) => {
                for (object, annotated) in folders {
                    self.masks_of(&masks_at.join(&object), Some(&object), layout, &frames, &annotated, size);
                }
            }
        }
    }

    /// Opens a video with segments as a run does, and decodes its frames and masks.
    fn segments(&mut self, truth: &PanopticTruth, name: &str, frames_at: &Path, masks_at: &Path) {
        let sequence = match vipseg::sequence(truth, name, frames_at, masks_at) {
            Ok(sequence) => sequence,
            Err(fault) => return self.error(masks_at, fault.0),
        };
        self.findings.extend(sequence.findings.iter().cloned());
        if let Some(what) = sequence.segments().and_then(SequenceSegments::recategorised) {
            self.error(&truth.path, format!("video {name}: {what}"));
        }
        self.frame_files(frames_at, &sequence.frames);
        for (frame, (path, _)) in sequence.segments().into_iter().flat_map(|s| s.frames.iter().enumerate()) {
            self.masks += 1;
            let whole = whole::check_file(path).map_err(DataError);
            if let Err(fault) = whole.and_then(|()| sequence.check_segments(frame)) {
                self.error(path, fault.0);
            }
        }
    }

    /// Opens the video as a run does, when nothing is known that would stop it: what a run refuses must not pass here.
    fn open(&mut self, layout: Layout, name: &str, frames_at: &Path, masks_at: &Path) {
        if self.findings.iter().any(|f| f.severity == FindingSeverity::Error) {
            return;
        }
        match sequence(layout, name.to_string(), frames_at, masks_at) {
            Err(fault) => self.error(masks_at, fault.0),
            Ok(sequence) if sequence.objects.is_empty() => {
                self.warn(masks_at, "no object is visible in any annotation: a run leaves the video out");
            }
            Ok(_) => {}
        }
    }

    /// Decodes frames that are files.
    fn frame_files(&mut self, dir: &Path, frames: &[FrameFile]) {
        let mut sizes: BTreeMap<(u32, u32), (usize, String)> = BTreeMap::new();
        for file in frames {
            self.frames += 1;
            let read = whole::check_file(&file.path)
                .map_err(|what| DataError(format!("{}: {what}", file.path.display())))
                .and_then(|()| read_frame(&file.path));
            match read {
                Ok(frame) => sizes.entry((frame.width, frame.height)).or_insert((0, file.name.clone())).0 += 1,
                Err(fault) => self.error(&file.path, fault.0),
            }
        }
        if sizes.len() > 1 {
            let list: Vec<String> =
                sizes.iter().map(|((w, h), (n, first))| format!("{w}x{h} ({n}, first {first})")).collect();
            self.error(dir, format!("frames of different sizes: {}", list.join(", ")));
        }
    }

    /// The annotation file of a SA-V train video of `frames` frames.
    fn masklets(&mut self, file: &Path, frames: usize, size: (u32, u32)) {
        let masklets = match Masklets::read(file) {
            Ok(masklets) => masklets,
            Err(fault) => return self.error(file, fault.0),
        };
        let ((w, h), (width, height)) = (masklets.size(), size);
        if (w, h) != (width, height) {
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
        object: Option<&str>,
        layout: Layout,
        frames: &[FrameFile],
        annotated: &[usize],
        size: (u32, u32),
    ) {
        let mut formats: BTreeMap<(u8, bool), String> = BTreeMap::new();
        let mut seen: BTreeSet<u16> = BTreeSet::new();
        let mut first_ids: Option<BTreeSet<u16>> = None;
        let mut visible = false;
        // The same fault of many files is said once.
        let (mut sizes, mut blurred): (Option<Repeated>, Option<Repeated>) = (None, None);
        for (n, &frame) in annotated.iter().enumerate() {
            let path = mask_file(dir, &frames[frame]);
            self.masks += 1;
            let image = match whole::check_file(&path).map_err(DataError).and_then(|()| LabelImage::read(&path)) {
                Ok(image) => image,
                Err(fault) => {
                    self.error(&path, fault.0);
                    continue;
                }
            };
            if (image.width(), image.height()) != size {
                let ((w, h), (width, height)) = ((image.width(), image.height()), size);
                again(&mut sizes, &path, format!("{w}x{h}, its frames are {width}x{height}"));
            }
            if object.is_none() && layout != Layout::Davis2016 {
                let values = Values::of(&image);
                values.interpolated().into_iter().for_each(|fault| again(&mut blurred, &path, fault));
                if n == 0 {
                    values.lined().into_iter().for_each(|doubt| self.warn(&path, doubt));
                }
            }
            let format = image.format();
            formats.entry((format.bits(), format.grey())).or_insert(frames[frame].name.clone());
            let split = image.into_masks();
            let ids: BTreeSet<u16> = split.masks.iter().map(|(id, _)| *id).collect();
            if object.is_some() {
                if let Some(fault) = not_one_object(ids.len() + usize::from(split.background)) {
                    self.error(&path, fault);
                }
                if ids.len() == 2 && !split.background {
                    self.warn(&path, "two values and no 0: the references take all of it for foreground");
                }
            }
            if n == 0 && ids.is_empty() {
                self.warn(&path, "the first annotation is empty: the prompt is given on the first that is not");
            }
            visible |= !ids.is_empty();
            first_ids.get_or_insert_with(|| ids.clone());
            seen.extend(ids);
        }
        for Repeated { first, what, more } in sizes.into_iter().chain(blurred) {
            self.error(first, if more == 0 { what } else { format!("{what} (and {more} more files here)") });
        }
        if !annotated.is_empty() && !visible {
            self.error(dir, "never visible in any annotation: it can be neither prompted nor scored");
        }
        if annotated.is_empty() {
            self.error(dir, "no annotation in it");
        }
        if formats.len() > 1 {
            let list: Vec<String> = formats
                .iter()
                .map(|((bits, grey), first)| format!("{bits}-bit {} ({first})", if *grey { "grey" } else { "palette" }))
                .collect();
            self.warn(dir, format!("masks are stored in different ways: {}", list.join(", ")));
        }
        if object.is_none() {
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
            let what = match (layout, seen.len()) {
                (Layout::Davis2017, _) => "255 is void in DAVIS 2017: background for the semi-supervised protocol",
                (_, 1) => "masks of 0 and 255: one object, named 255; `--layout davis2016` scores it by that protocol",
                _ => "255 is an ordinary object for the vos protocol, not void",
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
}
