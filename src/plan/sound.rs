//! What would stop a run half-way, found before it begins.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use rayon::prelude::*;

use crate::dataset::{self, Dataset, MaskSource, Sequence};
use crate::exit::Error;
use crate::plan::resolve::Cell;

/// What would stop a run half-way is looked for beforehand: too many objects for a pack, frames that are cut off,
/// annotations of another size than the frames. File ends and headers are enough for that; nothing is decoded.
pub(crate) fn dataset_is_sound(dataset: &Dataset, cells: &[Cell]) -> Result<(), Error> {
    for cell in cells {
        let Some(most) = cell.pack.capabilities.max_objects else { continue };
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
        match sequence.masks {
            // Read and checked when the dataset was opened.
            MaskSource::Masklets(_) => Ok(()),
            _ => sequence.truth_files().iter().try_for_each(|path| mask_fits(path, sequence)),
        }
    })
}

/// A frame file must end the way its format ends; a copy that was cut off does not.
fn is_whole(path: &Path) -> Result<(), Error> {
    let fault = |what: &str| Error::Usage(format!("{}: {what}; copy or extract it again", path.display()));
    let mut file = File::open(path).map_err(|e| fault(&e.to_string()))?;
    let length = file.metadata().map_err(|e| fault(&e.to_string()))?.len();
    let mut start = Vec::new();
    let mut end = Vec::new();
    // Some cameras pad JPEG files, so the end mark may come a little earlier.
    file.by_ref()
        .take(4)
        .read_to_end(&mut start)
        .and_then(|_| file.seek(SeekFrom::Start(length.saturating_sub(1024))))
        .and_then(|_| file.read_to_end(&mut end))
        .map_err(|e| fault(&e.to_string()))?;
    let ends_with = |mark: &[u8]| end.windows(mark.len()).any(|w| w == mark);
    match start.as_slice() {
        [0xff, 0xd8, ..] if !ends_with(&[0xff, 0xd9]) => Err(fault("truncated JPEG: its end mark is missing")),
        [0x89, b'P', b'N', b'G'] if !ends_with(b"IEND") => Err(fault("truncated PNG: its end mark is missing")),
        [] => Err(fault("empty file")),
        _ => Ok(()),
    }
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
