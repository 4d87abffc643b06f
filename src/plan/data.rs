//! Which videos? The dataset within the limits, and the part of it that this process does.

use std::path::Path;

use crate::dataset::{DataError, Dataset, Layout, Live, OpenOptions, UserPrompts};
use crate::plan::settings::Limits;
use crate::plan::shard::Shard;

/// Where the videos are, and what says where their objects are.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Root of the dataset, a folder of frames or a video file.
    pub root: &'a Path,
    /// Its layout, where the user says it.
    pub layout: Option<Layout>,
    /// Prompts of the user's own; `None`: they are made from the dataset's masks.
    pub prompts: Option<&'a UserPrompts>,
    /// Where it is a live source: what is known of that.
    pub live: Option<&'a Live>,
    /// Frames per second that the user says.
    pub fps: Option<f64>,
}

/// Opens the part of a dataset that is used.
///
/// # Errors
/// It cannot be read, or nothing is left within the limits.
pub fn open_data(source: &Source<'_>, limits: Limits) -> Result<Dataset, DataError> {
    let mut dataset = open_whole(source, limits)?;
    keep_part(&mut dataset, limits.shard)?;
    Ok(dataset)
}

/// The same with the videos of all parts.
pub(crate) fn open_whole(source: &Source<'_>, limits: Limits) -> Result<Dataset, DataError> {
    if let (Some(live), Some(prompts)) = (source.live, source.prompts) {
        let mut dataset = live.dataset(source.root.to_path_buf(), prompts, source.fps)?;
        dataset.limit(None, limits.objects, None)?;
        return Ok(dataset);
    }
    let options =
        OpenOptions { layout: source.layout, videos: limits.videos, list: None, prompts: source.prompts.cloned() };
    let mut dataset = Dataset::open_with(source.root, &options)?;
    dataset.limit(limits.videos, limits.objects, limits.frames)?;
    if !limits.stuff {
        dataset.leave_out_stuff()?;
    }
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

/// What is odd about the data, though it can be used: the same words as those of `data check`.
pub(crate) fn remarks(dataset: &Dataset) -> Vec<String> {
    const SHOWN: usize = 5;
    let all = || dataset.findings.iter().chain(dataset.sequences.iter().flat_map(|s| &s.findings));
    let mut remarks: Vec<String> = all().take(SHOWN).map(|f| format!("{}: {}", f.place, f.what)).collect();
    let more = all().count() - remarks.len();
    if more > 0 {
        remarks.push(format!("… and {more} more: `jetbench data check {}` names them", dataset.root.display()));
    }
    remarks
}
