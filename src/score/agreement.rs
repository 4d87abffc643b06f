//! How alike are the masks of two cells of one run? Needs no ground truth, and says nothing about accuracy: two models can agree and both
//! be wrong. Read from the spools of both, after all cells are through.

use std::path::{Path, PathBuf};

use jetbench_runners::types::Mask;
use rayon::prelude::*;

use crate::dataset::Sequence;
use crate::results::note::{Note, NoteKind};
use crate::results::record::{AgreementRecord, CellRecord, Verdict};
use crate::run::spool::{Reader, SpooledFrame};
use crate::text::plural;

/// Below this IoU two masks are told apart at a glance.
const APART: f64 = 0.5;

/// Two valid cells whose masks of a video could not be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Gap {
    cells: (usize, usize),
    video: String,
    why: String,
}

/// Agreement of every two valid cells on every object of the videos that both finished. `spool` names the file of a cell and a sequence; where
/// it is gone (the video was finished before an interruption), what `before` says of these two cells stands. A pair of which there is nothing
/// to tell has a note in both cells.
pub fn of_cells(
    cells: &mut [CellRecord],
    before: Vec<AgreementRecord>,
    sequences: &[Sequence],
    spool: &(dyn Fn(usize, usize) -> PathBuf + Sync),
) -> Vec<AgreementRecord> {
    let pairs: Vec<(usize, usize, usize)> = (0..cells.len())
        .flat_map(|a| (a + 1..cells.len()).map(move |b| (a, b)))
        .flat_map(|(a, b)| (0..sequences.len()).map(move |at| (a, b, at)))
        .collect();
    let all = &*cells;
    let found = pairs.into_par_iter().filter_map(|(a, b, at)| {
        let sequence = &sequences[at];
        let done = |cell: &CellRecord| {
            cell.verdict == Verdict::Valid && cell.sequences.iter().any(|s| s.video == sequence.name)
        };
        if !(done(&all[a]) && done(&all[b])) {
            return None;
        }
        let (first, second) = (all[a].label(), all[b].label());
        let record = |(object, ious): (usize, Vec<f64>)| record((&first, &second), sequence, object, &ious);
        Some(match between(sequence, &spool(a, at), &spool(b, at)) {
            Ok(told) => Ok(told.into_iter().filter_map(record).collect()),
            Err(why) => {
                let same = |r: &&AgreementRecord| (&r.first, &r.second, &r.video) == (&first, &second, &sequence.name);
                let earlier: Vec<AgreementRecord> = before.iter().filter(same).cloned().collect();
                let gap = Gap { cells: (a, b), video: sequence.name.clone(), why };
                if earlier.is_empty() { Err(gap) } else { Ok(earlier) }
            }
        })
    });
    let (mut told, mut gaps) = (Vec::new(), Vec::new());
    for each in found.collect::<Vec<Result<Vec<_>, Gap>>>() {
        match each {
            Ok(records) => told.extend(records),
            Err(gap) => gaps.push(gap),
        }
    }
    note(cells, &gaps);
    told
}

/// The figures of one object; `None` where there is no frame to compare.
pub(crate) fn record(
    (first, second): (&str, &str),
    sequence: &Sequence,
    object: usize,
    ious: &[f64],
) -> Option<AgreementRecord> {
    let frames = ious.len() as f64;
    (!ious.is_empty()).then(|| AgreementRecord {
        first: first.to_string(),
        second: second.to_string(),
        video: sequence.name.clone(),
        object: sequence.objects[object].name.clone(),
        frames: ious.len() as u32,
        mean_iou: ious.iter().sum::<f64>() / frames,
        below_half: ious.iter().filter(|iou| **iou < APART).count() as f64 / frames,
    })
}

/// A note per pair in both cells: with whom, on how many videos, and why on the first of them.
fn note(cells: &mut [CellRecord], gaps: &[Gap]) {
    let names: Vec<String> = cells.iter().map(CellRecord::label).collect();
    for of_pair in gaps.chunk_by(|x, y| x.cells == y.cells) {
        let (a, b) = of_pair[0].cells;
        let videos = plural(of_pair.len(), "video", "videos");
        let first = format!("{}: {}", of_pair[0].video, of_pair[0].why);
        for (cell, other) in [(a, b), (b, a)] {
            let text = format!("agreement with {} is not known on {videos} ({first})", names[other]);
            cells[cell].notes.push(Note::new(NoteKind::Agreement, text));
        }
    }
}

/// IoU by object and frame of the first pass, over frames on which both cells tracked the object.
///
/// # Errors
/// A file cannot be read, or the two do not hold the same frames: says why.
fn between(sequence: &Sequence, first: &Path, second: &Path) -> Result<Vec<(usize, Vec<f64>)>, String> {
    let (mut a, mut b) = (open(first)?, open(second)?);
    let size = (a.width, a.height);
    if size != (b.width, b.height) {
        return Err("masks of two sizes".to_string());
    }
    let mut ious: Vec<(usize, Vec<f64>)> = (0..sequence.objects.len()).map(|i| (i, Vec::new())).collect();
    for frame in 0..sequence.frames.len() {
        let (a, b) = match (next(&mut a)?, next(&mut b)?) {
            (Some(a), Some(b)) if a.times.frame == b.times.frame => (a, b),
            (None, None) => break,
            _ => return Err(format!("the two cells' masks are not of the same frames (frame {frame})")),
        };
        for (index, all) in &mut ious {
            let id = sequence.objects[*index].id;
            all.extend(mask(&a, id, size)?.zip(mask(&b, id, size)?).map(|(a, b)| iou(&a, &b)));
        }
    }
    Ok(ious)
}

/// An object on the last frame that was tracked and shows it.
#[derive(Clone, Debug)]
pub(crate) struct LastSeen {
    /// Its place among the objects of the sequence.
    pub(crate) index: usize,
    /// That frame.
    pub(crate) frame: usize,
    /// Its mask there.
    pub(crate) mask: Mask,
}

/// Where each object was seen last; without those that were not seen after their prompt. Frames of the first pass.
///
/// # Errors
/// As `between`.
pub(crate) fn last_seen(sequence: &Sequence, spool: &Path) -> Result<Vec<LastSeen>, String> {
    let mut reader = open(spool)?;
    let size = (reader.width, reader.height);
    let mut last: Vec<Option<LastSeen>> = vec![None; sequence.objects.len()];
    for frame in 0..sequence.frames.len() {
        let Some(spooled) = next(&mut reader)? else { break };
        // The masks of a dropped frame are of an earlier one.
        for (index, object) in sequence.objects.iter().enumerate().filter(|_| !spooled.dropped) {
            let seen = mask(&spooled, object.id, size)?.filter(|mask| !mask.is_empty() && frame > object.prompt_frame);
            last[index] = seen.map(|mask| LastSeen { index, frame, mask }).or(last[index].take());
        }
    }
    Ok(last.into_iter().flatten().collect())
}

/// IoU by object and frame between a track and that of the way back, from the prompt to the frame before the one on which the object was
/// seen `last`, where the way back begins. The way back holds the frames in reverse, and the objects of `last` by their rank.
///
/// # Errors
/// As `between`.
pub(crate) fn with_backward(
    sequence: &Sequence,
    forward: &Path,
    backward: &Path,
    last: &[LastSeen],
) -> Result<Vec<(usize, Vec<f64>)>, String> {
    let (mut there, mut back) = (open(forward)?, open(backward)?);
    let size = (there.width, there.height);
    let mut turned = Vec::new();
    while let Some(frame) = next(&mut back)? {
        turned.push(frame);
    }
    if (back.width, back.height) != size || turned.len() != sequence.frames.len() {
        return Err("the way back does not have the same frames".to_string());
    }
    let mut ious: Vec<(usize, Vec<f64>)> = last.iter().map(|object| (object.index, Vec::new())).collect();
    for (frame, back) in turned.iter().rev().enumerate() {
        let Some(there) = next(&mut there)? else { break };
        for (rank, object) in last.iter().enumerate().filter(|(_, o)| frame < o.frame && !there.dropped) {
            let id = sequence.objects[object.index].id;
            let pair = mask(&there, id, size)?.zip(mask(back, rank as u32, size)?);
            ious[rank].1.extend(pair.map(|(there, back)| iou(&there, &back)));
        }
    }
    Ok(ious)
}

fn open(path: &Path) -> Result<Reader, String> {
    match path.exists() {
        true => Reader::open(path).map_err(|e| e.to_string()),
        false => Err("its masks are gone, since it was finished before an interruption".to_string()),
    }
}

fn next(reader: &mut Reader) -> Result<Option<SpooledFrame>, String> {
    reader.next().transpose().map_err(|e| e.to_string())
}

/// The mask of an object on a frame; `None` where it is not tracked.
fn mask(frame: &SpooledFrame, id: u32, (width, height): (u32, u32)) -> Result<Option<Mask>, String> {
    let object = frame.objects.iter().find(|o| o.object == id);
    object.map(|object| Reader::mask(width, height, object)).transpose()
}

/// Intersection over union; 1 where both are empty: the two agree that there is nothing.
fn iou(a: &Mask, b: &Mask) -> f64 {
    a.iou(b).unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iou_is_one_for_two_empty_masks_and_zero_for_one() {
        let square = |from: u32| Mask::from_fn(70, 3, |x, _| (from..from + 4).contains(&x));
        let empty = Mask::empty(70, 3);
        assert_eq!((iou(&square(62), &square(62)), iou(&square(62), &square(66))), (1.0, 0.0));
        assert_eq!(iou(&square(62), &square(64)), 2.0 / 6.0);
        assert_eq!((iou(&empty, &empty), iou(&empty, &square(0))), (1.0, 0.0));
    }
}
