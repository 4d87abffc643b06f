//! What is there of one video? Its frames in order, its mask files, and everything odd about them that shows without
//! decoding an image. Check, plan and run all begin here, so that they find the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::frame::{Header, header};
use super::layout::{Layout, listing};
use super::order;
use super::structure::{Structure, structure};
use super::video::{Probe, probe};
use super::{DataError, FFMPEG, Finding, FrameFile, frame_size};

/// What was found of a video.
pub(super) struct Survey {
    pub(super) footage: Footage,
    pub(super) masks: MaskFiles,
}

/// Its frames.
pub(super) struct Footage {
    /// In order; of a video file they are named by their number, five digits.
    pub(super) frames: Vec<FrameFile>,
    /// What is in the video file; `None`: each frame is a file.
    pub(super) probe: Option<Probe>,
    /// Size of the frames, from the first one.
    pub(super) size: (u32, u32),
    /// Would a player show them turned by a quarter?
    turned: bool,
    /// What is odd, of the masks too; with an error among them the video cannot be used.
    pub(super) findings: Vec<Finding>,
}

/// Where a video's masks are.
pub(super) enum MaskFiles {
    /// One JSON file (SA-V train).
    Json,
    /// Label maps: indices of their frames.
    Labels(Vec<usize>),
    /// Objects: name, and indices of the frames that have a mask.
    Folders(Vec<(String, Vec<usize>)>),
}

/// Looks at the frames of one video, a folder or a video file.
///
/// # Errors
/// There is no frame, or a folder cannot be listed.
pub(super) fn footage(frames_at: &Path) -> Result<Footage, DataError> {
    let mut findings = Vec::new();
    let (frames, probe) = frames(frames_at, &mut findings)?;
    let first =
        frames.first().ok_or_else(|| DataError(format!("{}: no JPEG or PNG frame in it", frames_at.display())))?;
    let (size, turned) = match &probe {
        Some(probe) => {
            findings.extend(probe.remarks.iter().map(|what| Finding::warning(frames_at, what)));
            ((probe.width, probe.height), probe.remarks.iter().any(|r| r.contains("turned by")))
        }
        None => {
            let Header { size, orientation } = header(&first.path)?;
            if orientation > 1 {
                findings.push(Finding::warning(
                    frames_at,
                    format!(
                        "frames have EXIF orientation {orientation}: they are taken as they are stored, as SAM 2's loader \
                         takes them; masks must be drawn on the stored pixels, or the frames be turned for good (exiftran -ai)"
                    ),
                ));
            }
            (size, orientation > 4)
        }
    };
    Ok(Footage { frames, probe, size, turned, findings })
}

/// Looks at the frames (a folder or a video file) and masks (a folder or a JSON file) of one video.
///
/// # Errors
/// As [`footage`].
pub(super) fn survey(layout: Layout, frames_at: &Path, masks_at: &Path) -> Result<Survey, DataError> {
    let mut footage = footage(frames_at)?;
    if masks_at.is_file() {
        return Ok(Survey { footage, masks: MaskFiles::Json });
    }
    let known: BTreeMap<String, usize> = footage.frames.iter().enumerate().map(|(i, f)| (f.name.clone(), i)).collect();
    let (structure, strays) = structure(masks_at, |stem| known.contains_key(stem))?;
    footage.findings.extend(strays);
    let masks = match structure {
        Structure::Labels(names) => MaskFiles::Labels(footage.annotated(layout, masks_at, names, &known)),
        Structure::Folders(folders) => {
            let mut numbers: BTreeMap<u64, String> = BTreeMap::new();
            for (name, _) in &folders {
                let other = name.parse::<u64>().ok().and_then(|number| numbers.insert(number, name.clone()));
                if let Some(other) = other {
                    let what = format!("objects {other} and {name} have the same number; rename one");
                    footage.findings.push(Finding::error(masks_at, what));
                }
            }
            let of = |(name, masks): (String, Vec<String>)| {
                let frames = footage.annotated(layout, &masks_at.join(&name), masks, &known);
                (name, frames)
            };
            MaskFiles::Folders(folders.into_iter().map(of).collect())
        }
    };
    Ok(Survey { footage, masks })
}

impl Footage {
    /// Indices of the frames that the masks `names` in `dir` belong to, ascending.
    fn annotated(
        &mut self,
        layout: Layout,
        dir: &Path,
        names: Vec<String>,
        known: &BTreeMap<String, usize>,
    ) -> Vec<usize> {
        let mut stems: Vec<String> = names.iter().filter_map(|n| n.strip_suffix(".png").map(str::to_string)).collect();
        let mut odd = order::sort(&mut stems, |stem| stem);
        // What holds for the frames' names too has been said of them.
        odd.retain(|what| what.contains("are files missing"));
        self.findings.extend(odd.into_iter().map(|what| Finding::warning(dir, what)));
        let file = |stem: &str| dir.join(format!("{stem}.png"));
        for stem in stems.iter().filter(|stem| !known.contains_key(*stem)) {
            let what = format!("there is no frame {stem} for this annotation");
            self.findings.push(Finding::error(file(stem), what));
        }
        if let Some(first) = stems.first() {
            // What cannot be read is said by the one who reads it.
            let size = frame_size(&file(first)).unwrap_or(self.size);
            if size != self.size {
                self.findings.push(Finding::error(file(first), self.other_size(size)));
            }
        }
        let mut frames: Vec<usize> = stems.iter().filter_map(|stem| known.get(stem)).copied().collect();
        frames.sort_unstable();
        let too_few = match frames.len() {
            0 => Some("no annotation in it".to_string()),
            n @ 1..=2 => Some(format!(
                "{n} annotated frame{}: nothing is scored once the first and last are dropped",
                if n == 1 { "" } else { "s" }
            )),
            3 => Some("3 annotated frames: one alone is scored once the first and last are dropped".to_string()),
            _ => None,
        };
        self.findings.extend(too_few.map(|what| Finding::warning(dir, format!("{what} ({})", layout.protocol()))));
        frames
    }

    fn other_size(&self, (w, h): (u32, u32)) -> String {
        let (width, height) = self.size;
        let hint = match self.turned && (h, w) == self.size {
            false => "",
            true if self.probe.is_some() => ": they were drawn before the video was turned as its metadata says",
            true => {
                ": they were drawn on the frames turned as their EXIF orientation says, and frames are taken as stored"
            }
        };
        format!(
            "annotation is {w}x{h}, the frames of the video are {width}x{height}; masks must have the size of their frames{hint}"
        )
    }
}

/// Frames of a folder, or of a video file with what is in it.
fn frames(at: &Path, findings: &mut Vec<Finding>) -> Result<(Vec<FrameFile>, Option<Probe>), DataError> {
    if at.is_file() {
        let probe = probe(Path::new(FFMPEG), at)?;
        let frame = |i: usize| FrameFile { name: format!("{i:05}"), path: at.to_path_buf() };
        return Ok(((0..probe.frames).map(frame).collect(), Some(probe)));
    }
    let mut frames: Vec<FrameFile> = Vec::new();
    for (name, _) in listing(at)?.into_iter().filter(|(_, is_dir)| !is_dir) {
        let Some((stem, extension)) = name.rsplit_once('.') else { continue };
        if ["jpg", "jpeg", "png"].contains(&extension.to_ascii_lowercase().as_str()) {
            frames.push(FrameFile { name: stem.to_string(), path: at.join(&name) });
        }
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = frames.iter().find(|f| !seen.insert(f.name.as_str())) {
        let what = format!("frame {} is there twice, with two extensions", twice.name);
        findings.push(Finding::error(at, what));
    }
    findings.extend(order::sort(&mut frames, |f| &f.name).into_iter().map(|what| Finding::warning(at, what)));
    Ok((frames, None))
}

/// The mask file of a frame.
pub(super) fn mask_file(dir: &Path, frame: &FrameFile) -> PathBuf {
    dir.join(format!("{}.png", frame.name))
}
