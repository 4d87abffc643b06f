//! Which videos? The dataset within the limits, and the part of it that this process does.

use std::path::Path;

use crate::dataset::{DataError, Dataset, OpenOptions};
use crate::plan::settings::Limits;
use crate::plan::shard::Shard;

/// Opens the part of a dataset that is used.
///
/// # Errors
/// It cannot be read, or nothing is left within the limits.
pub fn open_data(root: &Path, limits: Limits) -> Result<Dataset, DataError> {
    let mut dataset = open_whole(root, limits)?;
    keep_part(&mut dataset, limits.shard)?;
    Ok(dataset)
}

/// The same with the videos of all parts.
pub(crate) fn open_whole(root: &Path, limits: Limits) -> Result<Dataset, DataError> {
    let options = OpenOptions { videos: limits.videos, ..OpenOptions::default() };
    let mut dataset = Dataset::open_with(root, &options)?;
    dataset.limit(limits.videos, limits.objects, limits.frames)?;
    Ok(dataset)
}

/// Keeps the videos of one part.
pub(crate) fn keep_part(dataset: &mut Dataset, shard: Option<Shard>) -> Result<(), DataError> {
    let Some(shard) = shard else { return Ok(()) };
    let videos = dataset.sequences.len();
    let mut position = 0;
    dataset.sequences.retain(|_| {
        position += 1;
        shard.holds(position - 1)
    });
    if dataset.sequences.is_empty() {
        return Err(DataError(format!(
            "{}: part {shard} of {videos} videos is empty; use at most {videos} parts",
            dataset.root.display()
        )));
    }
    Ok(())
}
