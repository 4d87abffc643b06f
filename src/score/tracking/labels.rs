//! Tracks as label maps: one folder per video, one PNG per frame, ids as pixel values.

use std::collections::BTreeSet;
use std::path::Path;

use jetbench_runners::types::Mask;
use rayon::prelude::*;

use super::crossing::Crossing;
use super::{Scene, TrackedVideo};
use crate::dataset::DataError;
use crate::score::label_pair;
use crate::score::predicted::Predicted;

/// What shows on one frame by id, ascending.
pub(super) type Shown<T> = Vec<(u32, T)>;

/// One video, and whether its truth has void pixels. TrackEval leaves those in the tracks; with `remove_void` they are taken out of both
/// sides.
///
/// # Errors
/// A frame is missing on either side, or differs in size: names the file.
pub(super) fn read(
    name: &str,
    truth: &Path,
    pred: &Predicted,
    remove_void: bool,
) -> Result<(TrackedVideo, bool), DataError> {
    let (files, there) = (label_pair::pngs(truth)?, label_pair::only_pngs(pred.files()?));
    if files.is_empty() {
        return Err(DataError(format!("{}: the video has no annotation", truth.display())));
    }
    let apart = files.iter().find(|f| !there.contains(f)).map(|f| (pred.to_string(), f));
    let alone = || there.iter().find(|f| !files.contains(f)).map(|f| (truth.display().to_string(), f));
    if let Some((place, file)) = apart.or_else(alone) {
        return Err(DataError(format!("{place}: {file} is missing; truth and tracks need the same frames")));
    }
    let frames = files.par_iter().map_init(Crossing::new, |crossing, file| {
        let counted = pred.file(file).and_then(|tracks| crossing.compare(&truth.join(file), &tracks, remove_void));
        counted.map_or_else(|| masks(truth, pred, file, remove_void), Ok)
    });
    let frames: Vec<(Met, bool)> = frames.collect::<Result<_, DataError>>()?;
    let void = frames.iter().any(|(_, void)| *void);
    Ok((numbered(name, frames.into_iter().map(|(met, _)| met).collect()), void))
}

/// The comparison of one frame by the masks of its objects, whatever files they come from, and whether it has void pixels.
pub(super) fn masks(truth: &Path, pred: &Predicted, file: &str, remove_void: bool) -> Result<(Met, bool), DataError> {
    let (mut t, mut p) = label_pair::read(truth, pred, file)?;
    let void = label_pair::take_void(&mut t.masks);
    if let Some(void) = void.as_ref().filter(|_| remove_void) {
        p.masks.iter_mut().for_each(|(_, mask)| mask.subtract(void));
        p.masks.retain(|(_, mask)| !mask.is_empty());
    }
    let wide = |masks: Vec<(u16, Mask)>| masks.into_iter().map(|(id, m)| (u32::from(id), m)).collect::<Shown<Mask>>();
    let (mut t, mut p) = (wide(t.masks), wide(p.masks));
    t.sort_unstable_by_key(|(id, _)| *id);
    p.sort_unstable_by_key(|(id, _)| *id);
    Ok((Met::of(&t, &p, mask_iou), void.is_some()))
}

/// Who is there on a frame, by id, and the IoU of every object with every track, a row per object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Met {
    pub(crate) truth: Vec<u32>,
    pub(crate) tracks: Vec<u32>,
    pub(crate) iou: Vec<f64>,
}

impl Met {
    /// Compares what shows on a frame; ids ascend.
    pub(crate) fn of<T>(truth: &[(u32, T)], tracks: &[(u32, T)], iou: fn(&T, &T) -> f64) -> Met {
        let ids = |shown: &[(u32, T)]| shown.iter().map(|(id, _)| *id).collect();
        let each = truth.iter().flat_map(|(_, t)| tracks.iter().map(move |(_, p)| iou(t, p)));
        Met { truth: ids(truth), tracks: ids(tracks), iou: each.collect() }
    }
}

/// IoU of two masks; 0 where both are empty.
pub(crate) fn mask_iou(a: &Mask, b: &Mask) -> f64 {
    a.iou(b).unwrap_or(0.0)
}

/// Ids of all objects and of all tracks, ascending.
pub(crate) fn ids(frames: &[Met]) -> (Vec<u32>, Vec<u32>) {
    let ids = |side: fn(&Met) -> &Vec<u32>| -> Vec<u32> {
        let all: BTreeSet<u32> = frames.iter().flat_map(|f| side(f).iter().copied()).collect();
        all.into_iter().collect()
    };
    (ids(|f| &f.truth), ids(|f| &f.tracks))
}

/// Numbers ids anew, from 0 in their order.
pub(crate) fn numbered(name: &str, frames: Vec<Met>) -> TrackedVideo {
    let (objects, tracks) = ids(&frames);
    let places = |all: &[u32], ids: &[u32]| -> Vec<usize> {
        ids.iter().map(|id| all.binary_search(id).expect("it was collected")).collect()
    };
    let scene =
        |met: Met| Scene { truth: places(&objects, &met.truth), tracks: places(&tracks, &met.tracks), iou: met.iou };
    let (objects_count, tracks_count) = (objects.len(), tracks.len());
    let frames = frames.into_iter().map(scene).collect();
    TrackedVideo { name: name.to_string(), objects: objects_count, tracks: tracks_count, frames }
}
