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
        let record = |(object, ious): (usize, Vec<f64>)| AgreementRecord {
            first: first.clone(),
            second: second.clone(),
            video: sequence.name.clone(),
            object: sequence.objects[object].name.clone(),
            frames: ious.len() as u32,
            mean_iou: ious.iter().sum::<f64>() / ious.len() as f64,
            below_half: ious.iter().filter(|iou| **iou < APART).count() as f64 / ious.len() as f64,
        };
        Some(match between(sequence, &spool(a, at), &spool(b, at)) {
            Ok(told) => Ok(told.into_iter().filter(|(_, ious)| !ious.is_empty()).map(record).collect()),
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
    let open = |path: &Path| match path.exists() {
        true => Reader::open(path).map_err(|e| e.to_string()),
        false => Err("its masks are gone, since it was finished before an interruption".to_string()),
    };
    let (mut a, mut b) = (open(first)?, open(second)?);
    let size = (a.width, a.height);
    if size != (b.width, b.height) {
        return Err("masks of two sizes".to_string());
    }
    let mut ious: Vec<(usize, Vec<f64>)> = (0..sequence.objects.len()).map(|i| (i, Vec::new())).collect();
    for frame in 0..sequence.frames.len() {
        let next = |reader: &mut Reader| reader.next().transpose().map_err(|e| e.to_string());
        let (a, b) = match (next(&mut a)?, next(&mut b)?) {
            (Some(a), Some(b)) if a.times.frame == b.times.frame => (a, b),
            (None, None) => break,
            _ => return Err(format!("the two cells' masks are not of the same frames (frame {frame})")),
        };
        for (index, all) in &mut ious {
            let id = sequence.objects[*index].id;
            let mask = |frame: &SpooledFrame| {
                let object = frame.objects.iter().find(|o| o.object == id);
                object.map(|object| Reader::mask(size.0, size.1, object)).transpose()
            };
            all.extend(mask(&a)?.zip(mask(&b)?).map(|(a, b)| iou(&a, &b)));
        }
    }
    Ok(ious)
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
