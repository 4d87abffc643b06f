//! The label maps of one frame, true and predicted, for everything that scores folders of them.

use std::path::Path;

use jetbench_runners::types::Mask;

use crate::dataset::{DataError, LabelMasks, entries};

/// Pixels of DAVIS's truth that count for nobody have this id.
pub(super) const VOID: u16 = 255;

/// Names of the PNG files in a folder, in the order of [`entries`].
///
/// # Errors
/// The folder cannot be read.
pub(super) fn pngs(dir: &Path) -> Result<Vec<String>, DataError> {
    Ok(entries(dir)?.into_iter().filter(|name| name.ends_with(".png")).collect())
}

/// Both files.
///
/// # Errors
/// One cannot be read, or they differ in size: names the file.
pub(super) fn read(truth_file: &Path, pred_file: &Path) -> Result<(LabelMasks, LabelMasks), DataError> {
    let (truth, pred) = (LabelMasks::read(truth_file)?, LabelMasks::read(pred_file)?);
    if (truth.width, truth.height) != (pred.width, pred.height) {
        return Err(DataError(format!(
            "{}: {}x{}, but the truth {} is {}x{}; write masks at the size of the frames",
            pred_file.display(),
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
