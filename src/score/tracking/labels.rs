//! Tracks as label maps: one folder per video, one PNG per frame, ids as pixel values.

use std::collections::BTreeSet;
use std::path::Path;

use jetbench_runners::types::Mask;
use rayon::prelude::*;

use super::{Scene, TrackedVideo};
use crate::dataset::{DataError, LabelMasks, entries};

/// Pixels of the truth that count for nobody.
const VOID: u16 = 255;

/// Masks of one frame by id, ascending.
pub(super) type Masks = Vec<(u32, Mask)>;

/// One video, and whether its truth has void pixels. TrackEval leaves those in the tracks; with `remove_void` they are taken out of both
/// sides.
///
/// # Errors
/// A frame is missing on either side, or differs in size: names the file.
pub(super) fn read(
    name: &str,
    truth: &Path,
    pred: &Path,
    remove_void: bool,
) -> Result<(TrackedVideo, bool), DataError> {
    let pngs = |dir: &Path| -> Result<Vec<String>, DataError> {
        Ok(entries(dir)?.into_iter().filter(|n| n.ends_with(".png")).collect())
    };
    let (files, there) = (pngs(truth)?, pngs(pred)?);
    if files.is_empty() {
        return Err(DataError(format!("{}: the video has no annotation", truth.display())));
    }
    let apart = files.iter().find(|f| !there.contains(f)).map(|f| (pred, f));
    if let Some((dir, file)) = apart.or_else(|| there.iter().find(|f| !files.contains(f)).map(|f| (truth, f))) {
        return Err(DataError(format!("{}: {file} is missing; truth and tracks need the same frames", dir.display())));
    }
    let frames: Vec<(Masks, Masks, bool)> = files
        .par_iter()
        .map(|file| {
            let (truth_file, pred_file) = (truth.join(file), pred.join(file));
            let (t, p) = (LabelMasks::read(&truth_file)?, LabelMasks::read(&pred_file)?);
            if (t.width, t.height) != (p.width, p.height) {
                return Err(DataError(format!(
                    "{}: {}x{}, but the truth {} is {}x{}",
                    pred_file.display(),
                    p.width,
                    p.height,
                    truth_file.display(),
                    t.width,
                    t.height
                )));
            }
            let wide = |masks: Vec<(u16, Mask)>| masks.into_iter().map(|(id, m)| (u32::from(id), m)).collect::<Masks>();
            let (mut t, mut p) = (wide(t.masks), wide(p.masks));
            let void = t.iter().position(|(id, _)| *id == u32::from(VOID)).map(|at| t.swap_remove(at).1);
            if let Some(void) = void.as_ref().filter(|_| remove_void) {
                p.iter_mut().for_each(|(_, mask)| {
                    mask.words_mut().iter_mut().zip(void.words()).for_each(|(word, void)| *word &= !void);
                });
                p.retain(|(_, mask)| !mask.is_empty());
            }
            t.sort_unstable_by_key(|(id, _)| *id);
            p.sort_unstable_by_key(|(id, _)| *id);
            Ok((t, p, void.is_some()))
        })
        .collect::<Result<_, DataError>>()?;
    let void = frames.iter().any(|f| f.2);
    Ok((video(name, frames.into_iter().map(|(t, p, _)| (t, p)).collect()), void))
}

/// Intersection and the areas of two masks of one size, pixels.
pub(super) fn overlap(a: &Mask, b: &Mask) -> u64 {
    a.words().iter().zip(b.words()).map(|(a, b)| u64::from((a & b).count_ones())).sum()
}

/// IoU of two masks of one size.
pub(super) fn iou(a: &Mask, b: &Mask) -> f64 {
    let inter = overlap(a, b);
    let union = a.area() + b.area() - inter;
    if union == 0 { 0.0 } else { inter as f64 / union as f64 }
}

/// Numbers ids anew, from 0 in their order, and compares the masks of each frame.
pub(super) fn video(name: &str, frames: Vec<(Masks, Masks)>) -> TrackedVideo {
    let ids = |side: fn(&(Masks, Masks)) -> &Masks| -> Vec<u32> {
        let all: BTreeSet<u32> = frames.iter().flat_map(|f| side(f).iter().map(|(id, _)| *id)).collect();
        all.into_iter().collect()
    };
    let (objects, tracks) = (ids(|f| &f.0), ids(|f| &f.1));
    let places = |all: &[u32], masks: &Masks| -> Vec<usize> {
        masks.iter().map(|(id, _)| all.binary_search(id).expect("it was collected")).collect()
    };
    let scene = |(truth, pred): &(Masks, Masks)| Scene {
        truth: places(&objects, truth),
        tracks: places(&tracks, pred),
        iou: truth.iter().flat_map(|(_, t)| pred.iter().map(move |(_, p)| iou(t, p))).collect(),
    };
    let frames = frames.par_iter().map(scene).collect();
    TrackedVideo { name: name.to_string(), objects: objects.len(), tracks: tracks.len(), frames }
}
