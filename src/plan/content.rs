//! What do the planned files hold? Of annotations the SHA-256, of frames (which are many and large) a sample and what the file system
//! says of them; their SHA-256 is taken while they are decoded. What is read later is compared with this, and files that changed are named.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jetbench_runners::digest::hex;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::dataset::content::{Sample, Sha, Stamp, Witness, file_sha, joined, joined_stamps};
use crate::dataset::{DataError, Dataset, MaskSource, Sequence};
use crate::plan::Plan;
use crate::plan::identity::prompts_sha256;
use crate::results::record::{CellRecord, PlannedContent, RunRecord, SequenceRecord};
use crate::results::store;

/// Times of files come in steps; within the coarsest of them (of FAT) another change may bear the same time.
const STEP: Duration = Duration::from_secs(2);

/// How an error of this kind begins.
pub(crate) const CHANGED: &str = "changed since it was planned";

/// What the files of all planned videos hold, by video.
#[derive(Clone, Debug, Default)]
pub struct Content(BTreeMap<String, VideoContent>);

/// One video.
#[derive(Clone, Debug, Default)]
struct VideoContent {
    /// Of each frame file, in order; empty where one cannot be read.
    frames: Vec<Sample>,
    /// Of each annotation file; those that cannot be read are missing.
    truth: BTreeMap<PathBuf, Sha>,
    record: PlannedContent,
}

/// What a worker read of a video.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReadContent {
    /// As [`SequenceRecord::frames_sha256`].
    pub frames_sha256: String,
    /// SHA-256 of the annotation files that its prompts came from.
    pub truth: Vec<(PathBuf, String)>,
}

impl ReadContent {
    /// What a witness saw of a video; of frames that nobody decoded, what their files hold.
    ///
    /// # Errors
    /// Such a file cannot be read.
    pub fn of(sequence: &Sequence, length: usize, witness: &Witness) -> Result<ReadContent, DataError> {
        Ok(ReadContent { frames_sha256: sequence.frames_sha256(length, witness)?, truth: sequence.truth_seen(witness) })
    }
}

impl Content {
    /// Looks at the files of every video. What cannot be read is left out here: a video that is to be tracked is checked by itself, and
    /// those of other parts need not be there.
    pub fn survey(dataset: &Dataset) -> Content {
        let videos = dataset.sequences.par_iter().map(|s| (s.name.clone(), VideoContent::survey(s)));
        Content(videos.collect())
    }

    /// For the record, in the order of `list`.
    pub fn record(&self, list: &[String]) -> Vec<PlannedContent> {
        list.iter().map(|name| self.0.get(name).map_or_else(PlannedContent::default, |v| v.record.clone())).collect()
    }

    /// SHA-256 of the annotations of a video.
    pub fn truth_sha256(&self, video: &str) -> String {
        self.0.get(video).map_or_else(String::new, |v| v.record.truth_sha256.clone())
    }

    /// Are these annotation files, as they were read, the planned ones?
    ///
    /// # Errors
    /// Names the first that is not.
    pub fn check_truth(&self, video: &str, read: &[(PathBuf, String)]) -> Result<(), DataError> {
        let planned = self.0.get(video);
        for (path, sha) in read {
            if planned.and_then(|v| v.truth.get(path)).is_none_or(|planned| hex(planned) != *sha) {
                return Err(changed(&[path.display().to_string()]));
            }
        }
        Ok(())
    }

    /// Did a worker read the planned frames? `read`: the digest of what it read of the first `length`. Nobody wrote to a file whose
    /// stamp is that of the plan; one with another stamp was at least touched, and is the same only if all of its bytes are known from the
    /// plan, and are there now, and are what the worker read.
    ///
    /// # Errors
    /// Names the files that are not.
    pub fn check_frames(&self, sequence: &Sequence, length: usize, read: &str) -> Result<(), DataError> {
        let files = sequence.frame_files(length);
        let planned = self.0.get(&sequence.name).map_or(&[][..], |v| &v.frames);
        if planned.len() < files.len() {
            return Err(changed(&[format!("frames of video {}", sequence.name)]));
        }
        let moved: Vec<(&Path, &Sample)> = files
            .iter()
            .copied()
            .zip(planned)
            .filter(|(path, sample)| Stamp::read(path).ok() != Some(sample.stamp))
            .collect();
        if moved.is_empty() {
            return Ok(());
        }
        let other = |(path, planned): &&(&Path, &Sample)| {
            !planned.whole || Sample::read(path).ok().is_none_or(|now| now.sha != planned.sha)
        };
        let others: Vec<String> = moved.iter().filter(other).map(|(path, _)| path.display().to_string()).collect();
        match others.is_empty() {
            false => Err(changed(&others)),
            true if sequence.frames_sha256(length, &Witness::default())? == read => Ok(()),
            true => Err(changed(&moved.iter().map(|(path, _)| path.display().to_string()).collect::<Vec<_>>())),
        }
    }
}

impl VideoContent {
    fn survey(sequence: &Sequence) -> VideoContent {
        let files = sequence.frame_files(usize::MAX);
        let frames: Vec<Sample> =
            files.iter().map(|path| Sample::read(path)).collect::<Result<_, _>>().unwrap_or_default();
        let truth: BTreeMap<PathBuf, Sha> = match sequence.truth_source() {
            Some(MaskSource::Masklets(masklets)) => {
                [masklets.content()].map(|(path, sha)| (path.to_path_buf(), sha)).into()
            }
            _ => sequence
                .truth_files()
                .into_iter()
                .filter_map(|path| Some((path.clone(), file_sha(&path).ok()?)))
                .collect(),
        };
        let named = |pick: fn(&Sample) -> Sha| joined(files.iter().copied().zip(frames.iter().map(pick)));
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(STEP);
        let settled = frames.iter().all(|f| i128::from(f.stamp.changed_ns()) < since.as_nanos() as i128);
        let record = PlannedContent {
            frames_sample: if frames.is_empty() { String::new() } else { named(|f| f.sha) },
            frames_stamp: match settled && !frames.is_empty() {
                true => joined_stamps(files.iter().copied().zip(frames.iter().map(|f| f.stamp))),
                false => String::new(),
            },
            truth_sha256: match sequence.truth_source() {
                Some(_) => joined(truth.iter().map(|(path, sha)| (path.as_path(), *sha))),
                None => prompts_sha256([sequence]),
            },
        };
        VideoContent { frames, truth, record }
    }
}

fn changed(files: &[String]) -> DataError {
    let more = files.len().saturating_sub(3);
    let shown = files[..files.len().min(3)].join(", ");
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    DataError(format!(
        "{CHANGED}: {shown}{more}; figures of it would be of other data than the rest: restore it, or start a new run"
    ))
}

/// Do the planned files still hold what they held when this run was planned, and what it read of them? Where nothing but stamps differ,
/// frames that it read are read again.
///
/// # Errors
/// Names the files that changed.
pub fn same_as(plan: &Plan, then: &RunRecord, finished: &[(&str, &str)]) -> Result<(), DataError> {
    let now = plan.content.record(&plan.list);
    for ((name, before), now) in then.data.list.iter().zip(&then.data.planned).zip(&now) {
        let parts = differing(before, now);
        if !parts.is_empty() {
            return Err(changed(&suspects(plan, name, &parts, &then.run_id)));
        }
    }
    let stamps: BTreeMap<&str, (&str, &str)> = then
        .data
        .list
        .iter()
        .zip(then.data.planned.iter().zip(&now))
        .map(|(name, (before, now))| (name.as_str(), (before.frames_stamp.as_str(), now.frames_stamp.as_str())))
        .collect();
    let mut known: BTreeMap<&str, String> = BTreeMap::new();
    for &(video, read) in finished {
        if read.is_empty() || stamps.get(video).is_some_and(|(before, now)| !before.is_empty() && before == now) {
            continue;
        }
        let Some(sequence) = plan.dataset.sequences.iter().find(|s| s.name == video) else { continue };
        let length = plan.settings.loop_frames.unwrap_or(sequence.frames.len());
        let now = match known.get(video) {
            Some(now) => now,
            None => known.entry(video).or_insert(sequence.frames_sha256(length, &Witness::default())?),
        };
        if now != read {
            return Err(changed(&suspects(plan, video, &["frames"], &then.run_id)));
        }
    }
    Ok(())
}

/// Are the figures of a run those of the planned files, as they are now? A run that does not say what it read is not.
pub fn is_of(plan: &Plan, record: &RunRecord) -> bool {
    let read: Vec<_> = record.cells.iter().flat_map(finished).collect();
    let known = record.data.planned.len() == plan.list.len() && read.iter().all(|(_, sha256)| !sha256.is_empty());
    known && same_as(plan, record, &read).is_ok()
}

/// The finished sequences of a cell with the digests of their frames.
pub fn finished(cell: &CellRecord) -> impl Iterator<Item = (&str, &str)> {
    let repeats = cell.repeats.iter().flat_map(|r| &r.sequences);
    cell.sequences.iter().chain(repeats).map(|s: &SequenceRecord| (s.video.as_str(), s.frames_sha256.as_str()))
}

/// What differs between two plans' knowledge of one video, in words; nothing where one of them has none.
pub fn differing(a: &PlannedContent, b: &PlannedContent) -> Vec<&'static str> {
    let fields = [("frames", &a.frames_sample, &b.frames_sample), ("annotations", &a.truth_sha256, &b.truth_sha256)];
    fields.iter().filter(|(_, a, b)| !a.is_empty() && !b.is_empty() && a != b).map(|(name, _, _)| *name).collect()
}

/// Files of a video that were written after a run began, the latest first; where none was, the video and what of it differs.
fn suspects(plan: &Plan, video: &str, parts: &[&'static str], run_id: &str) -> Vec<String> {
    let whole = || vec![format!("{} of video {video}", parts.join(" and "))];
    let Some(sequence) = plan.dataset.sequences.iter().find(|s| s.name == video) else { return whole() };
    let began = store::began(run_id).and_then(|t| t.timestamp_nanos_opt()).unwrap_or(0);
    let mut files: Vec<PathBuf> = Vec::new();
    if parts.contains(&"frames") {
        files.extend(sequence.frame_files(usize::MAX).into_iter().map(Path::to_path_buf));
    }
    if parts.contains(&"annotations") {
        files.extend(sequence.truth_files());
    }
    let changed = |path: &PathBuf| Stamp::read(path).map_or(i64::MAX, |stamp| stamp.changed_ns());
    files.retain(|path| changed(path) >= began);
    files.sort_by_cached_key(|path| std::cmp::Reverse(changed(path)));
    match files.is_empty() {
        true => whole(),
        false => files.iter().map(|path| path.display().to_string()).collect(),
    }
}

/// SHA-256 over all frames and annotations that a run read: what its figures are of. Empty where that of a video is not known.
pub fn content_sha256(cells: &[CellRecord]) -> String {
    let Some(cell) = cells.first().filter(|cell| !cell.sequences.is_empty()) else { return String::new() };
    let mut digest = Sha256::new();
    for s in &cell.sequences {
        if s.frames_sha256.is_empty() || s.truth_sha256.is_empty() {
            return String::new();
        }
        digest.update(format!("{:?} {} {}\n", s.video, s.frames_sha256, s.truth_sha256));
    }
    hex(&digest.finalize())
}
