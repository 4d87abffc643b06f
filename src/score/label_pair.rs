//! The label maps of one frame, true and predicted, for everything that scores folders of them.

use std::path::Path;

use jetbench_runners::types::Mask;

use super::predicted::Predicted;
use crate::dataset::{DataError, LabelMasks, entries};

/// Pixels of DAVIS's truth that count for nobody have this id.
pub(super) const VOID: u16 = 255;

/// Names of the PNG files in a folder, in the order of [`entries`].
///
/// # Errors
/// The folder cannot be read.
pub(super) fn pngs(dir: &Path) -> Result<Vec<String>, DataError> {
    Ok(only_pngs(entries(dir)?))
}

/// Those of the names that end like PNG files.
pub(super) fn only_pngs(names: Vec<String>) -> Vec<String> {
    names.into_iter().filter(|name| name.ends_with(".png")).collect()
}

/// The masks of the frame with this file on both sides.
///
/// # Errors
/// One cannot be read, or they differ in size: names the file.
pub(super) fn read(truth: &Path, pred: &Predicted, file: &str) -> Result<(LabelMasks, LabelMasks), DataError> {
    let (truth_file, place) = (truth.join(file), pred.place(file));
    let (truth, pred) = (LabelMasks::read(&truth_file)?, pred.read(file)?);
    if (truth.width, truth.height) != (pred.width, pred.height) {
        return Err(DataError(format!(
            "{place}: {}x{}, but the truth {} is {}x{}; write masks at the size of the frames",
            pred.width,
            pred.height,
            truth_file.display(),
            truth.width,
            truth.height
        )));
    }
    Ok((truth, pred))
}

/// Takes the void pixels out of the objects of a truth, where it has some.
pub(super) fn take_void(masks: &mut Vec<(u16, Mask)>) -> Option<Mask> {
    let at = masks.iter().position(|(id, _)| *id == VOID)?;
    Some(masks.swap_remove(at).1)
}
