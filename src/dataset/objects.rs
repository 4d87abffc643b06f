//! Which objects does a video have, and on which frame is each prompted? Decodes masks until that is known.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::layout::Layout;
use super::masklets::Masklets;
use super::survey::{Footage, MaskFiles, Survey, mask_file, survey};
use super::values::Values;
use super::{DataError, Finding, FindingSeverity, Guide, LabelImage, MaskSource, Object, Sequence};

/// Reads a video: its frames (a folder or a video file) and masks (a folder or a JSON file).
///
/// # Errors
/// Names what a run could not use.
pub(super) fn sequence(layout: Layout, name: String, frames_at: &Path, masks_at: &Path) -> Result<Sequence, DataError> {
    let Survey { footage, masks } = survey(layout, frames_at, masks_at)?;
    refuse(&footage.findings)?;
    let source = match &masks {
        MaskFiles::Json => MaskSource::Masklets(Arc::new(Masklets::read(masks_at)?)),
        MaskFiles::Folders(_) => MaskSource::ObjectFolders(masks_at.to_path_buf()),
        MaskFiles::Labels(_) if layout == Layout::Davis2016 => MaskSource::Foreground(masks_at.to_path_buf()),
        MaskFiles::Labels(_) => MaskSource::LabelMaps(masks_at.to_path_buf()),
    };
    let mut sequence = of_footage(name, frames_at, footage, layout.fps(), Guide::Truth(source), Vec::new());
    sequence.objects = match masks {
        MaskFiles::Json => masklet_objects(&sequence, masks_at)?,
        MaskFiles::Folders(folders) => folder_objects(&sequence, masks_at, folders)?,
        MaskFiles::Labels(annotated) if layout == Layout::Davis2016 => foreground(&sequence, masks_at, annotated)?,
        MaskFiles::Labels(annotated) => {
            let (objects, doubt) = label_map_objects(layout, &sequence, masks_at, &annotated)?;
            sequence.findings.extend(doubt);
            objects
        }
    };
    Ok(sequence)
}

/// Stops at findings that make a video unusable.
///
/// # Errors
/// Names the first of them.
pub(super) fn refuse(findings: &[Finding]) -> Result<(), DataError> {
    let errors: Vec<_> = findings.iter().filter(|f| f.severity == FindingSeverity::Error).collect();
    let Some(first) = errors.first() else { return Ok(()) };
    let more = match errors.len() - 1 {
        0 => String::new(),
        n => format!(" (and {n} more: `jetbench data check` names them)"),
    };
    Err(DataError(format!("{}: {}{more}", first.place, first.what)))
}

/// A sequence of these frames; `fps`: where the video file does not say it.
pub(super) fn of_footage(
    name: String,
    frames_at: &Path,
    footage: Footage,
    fps: f64,
    guide: Guide,
    objects: Vec<Object>,
) -> Sequence {
    let Footage { frames, probe, size: (width, height), findings, .. } = footage;
    Sequence {
        name,
        frames,
        objects,
        video: probe.as_ref().map(|_| frames_at.to_path_buf()),
        fps: probe.as_ref().and_then(|p| p.fps).unwrap_or(fps),
        times: probe.and_then(|p| p.times),
        width,
        height,
        guide,
        findings,
        witness: None,
    }
}

/// What makes a mask unfit for an object's folder; `values` counts its distinct values, 0 included.
pub(super) fn not_one_object(values: usize) -> Option<String> {
    (values > 2).then(|| format!("{} values besides 0; an object's file holds one object", values - 1))
}

fn folder_objects(
    sequence: &Sequence,
    dir: &Path,
    folders: Vec<(String, Vec<usize>)>,
) -> Result<Vec<Object>, DataError> {
    let mut objects = Vec::new();
    for (name, annotated) in folders {
        let mut start = None;
        for &frame in &annotated {
            let path = mask_file(&dir.join(&name), &sequence.frames[frame]);
            let (mask, values) = sequence.read_labels(&path)?.into_foreground();
            if let Some(fault) = not_one_object(values) {
                return Err(DataError(format!("{}: {fault}", path.display())));
            }
            if !mask.is_empty() {
                start = Some(frame);
                break;
            }
        }
        // An object that is never visible cannot be prompted, and no protocol scores it.
        if let Some(prompt_frame) = start {
            objects.push(Object { id: objects.len() as u32, name, annotated, prompt_frame });
        }
    }
    Ok(objects)
}

fn masklet_objects(sequence: &Sequence, file: &Path) -> Result<Vec<Object>, DataError> {
    let Guide::Truth(MaskSource::Masklets(masklets)) = &sequence.guide else { return Ok(Vec::new()) };
    let (w, h) = masklets.size();
    if (w, h) != (sequence.width, sequence.height) {
        return Err(DataError(format!(
            "{}: masks of {w}x{h}, the video has {}x{}; both must be the original files",
            file.display(),
            sequence.width,
            sequence.height
        )));
    }
    let annotated = masklets.annotated(sequence.frames.len());
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

/// DAVIS 2016's one object: every pixel above 0.
fn foreground(sequence: &Sequence, dir: &Path, annotated: Vec<usize>) -> Result<Vec<Object>, DataError> {
    for &frame in &annotated {
        let masks = sequence.read_labels(&mask_file(dir, &sequence.frames[frame]))?;
        if !masks.masks.is_empty() {
            return Ok(vec![Object { id: 0, name: "255".to_string(), annotated, prompt_frame: frame }]);
        }
    }
    Ok(Vec::new())
}

/// The objects of label maps, and what makes one doubt the first of these.
fn label_map_objects(
    layout: Layout,
    sequence: &Sequence,
    dir: &Path,
    annotated: &[usize],
) -> Result<(Vec<Object>, Option<Finding>), DataError> {
    const VOID: u16 = 255;
    /// New ids on one frame from which on it is looked at closely.
    const MANY: usize = 8;
    let mut first: BTreeMap<u16, usize> = BTreeMap::new();
    let mut void = false;
    let mut doubt = None;
    for (n, &frame) in annotated.iter().enumerate() {
        let path = mask_file(dir, &sequence.frames[frame]);
        let before = first.len();
        for (id, _) in sequence.read_labels(&path)?.masks {
            if layout == Layout::Davis2017 && id == VOID {
                void = true;
            } else {
                first.entry(id).or_insert(frame);
            }
        }
        if n == 0 || first.len() - before >= MANY {
            let values = Values::of(&LabelImage::read(&path)?);
            if let Some(fault) = values.interpolated() {
                return Err(DataError(format!("{}: {fault}", path.display())));
            }
            if n == 0 {
                doubt = values.lined().map(|what| Finding::warning(&path, what));
            }
        }
    }
    if first.is_empty() && void {
        return Err(DataError(format!("{}: {ONLY_VOID}", dir.display())));
    }
    let objects = first.into_iter().enumerate().map(|(i, (value, prompt_frame))| Object {
        id: i as u32,
        name: value.to_string(),
        annotated: annotated.to_vec(),
        prompt_frame,
    });
    Ok((objects.collect(), doubt))
}

/// What is said of 0/255 masks in DAVIS 2017's folders.
const ONLY_VOID: &str = "the masks' only value is 255, which DAVIS 2017 calls void, so there is no object; \
                         `--layout davis2016` takes every pixel above 0 for one object";
