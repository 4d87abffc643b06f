//! What would stop a run half-way, found before it begins.

use std::path::Path;

use rayon::prelude::*;

use crate::dataset::{self, Dataset, MaskSource, Sequence, whole};
use crate::exit::Error;
use crate::plan::resolve::Cell;

/// What would stop a run half-way is looked for beforehand: too many objects for a pack, frames that are cut off,
/// annotations of another size than the frames. File ends and headers are enough for that; only panoptic masks are decoded.
pub(crate) fn dataset_is_sound(dataset: &Dataset, cells: &[Cell]) -> Result<(), Error> {
    for cell in cells {
        // A detector founds as many tracks as its runner takes; where a model finds them itself, an object may go without.
        let none = cell.finds() || cell.segments();
        let Some(most) = cell.pack.capabilities.max_objects.filter(|_| !none) else { continue };
        if let Some(sequence) = dataset.sequences.iter().find(|s| s.objects.len() > most as usize) {
            return Err(Error::Usage(format!(
                "video {} has {} objects, pack {} tracks at most {most} at once; use --limit-objects {most}",
                sequence.name,
                sequence.objects.len(),
                cell.pack.id
            )));
        }
    }
    dataset.sequences.par_iter().try_for_each(|sequence| {
        for frame in &sequence.frames {
            is_whole(&frame.path)?;
        }
        match sequence.truth_source() {
            // Read and checked when the dataset was opened.
            Some(MaskSource::Masklets(_)) | None => Ok(()),
            // No mask was looked at, and a segment that is not as described cannot be scored.
            Some(MaskSource::Segments(_)) => {
                (0..sequence.frames.len()).try_for_each(|frame| Ok(sequence.check_segments(frame)?))
            }
            _ => sequence.truth_files().iter().try_for_each(|path| mask_fits(path, sequence)),
        }
    })
}

fn is_whole(path: &Path) -> Result<(), Error> {
    whole::check_file(path).map_err(|what| Error::Usage(format!("{}: {what}", path.display())))
}

fn mask_fits(path: &Path, sequence: &Sequence) -> Result<(), Error> {
    let (width, height) = dataset::frame_size(path)?;
    if (width, height) != (sequence.width, sequence.height) {
        return Err(Error::Usage(format!(
            "{}: annotation of {width}x{height} pixels, the frames of video {} have {}x{}; make them the same size",
            path.display(),
            sequence.name,
            sequence.width,
            sequence.height
        )));
    }
    is_whole(path)
}
