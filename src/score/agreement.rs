//! How alike are the masks of two cells of one run? Needs no ground truth, and says nothing about accuracy: two models can agree and both
//! be wrong. Read from the spools of both, after all cells are through.

use std::path::PathBuf;

use jetbench_runners::types::Mask;
use rayon::prelude::*;

use crate::dataset::Sequence;
use crate::results::record::{AgreementRecord, CellRecord, Verdict};
use crate::run::spool::{Reader, SpooledFrame};

/// Below this IoU two masks are told apart at a glance.
const APART: f64 = 0.5;

/// Agreement of every two valid cells on every object of the videos that both finished. `spool` names the file of a cell and a sequence; where it
/// is gone (the video was finished before an interruption), nothing is said.
pub fn of_cells(
    cells: &[CellRecord],
    sequences: &[Sequence],
    spool: &(dyn Fn(usize, usize) -> PathBuf + Sync),
) -> Vec<AgreementRecord> {
    let pairs: Vec<(usize, usize, usize)> = (0..cells.len())
        .flat_map(|a| (a + 1..cells.len()).map(move |b| (a, b)))
        .flat_map(|(a, b)| (0..sequences.len()).map(move |at| (a, b, at)))
        .collect();
    let found = pairs.into_par_iter().map(|(a, b, at)| {
        let sequence = &sequences[at];
        let done = |cell: &CellRecord| {
            cell.verdict == Verdict::Valid && cell.sequences.iter().any(|s| s.video == sequence.name)
        };
        if !(done(&cells[a]) && done(&cells[b])) {
            return Vec::new();
        }
        let told = between(sequence, spool(a, at), spool(b, at)).unwrap_or_default();
        let name = |cell: &CellRecord| format!("{} {} {}", cell.model, cell.dtype, cell.device);
        let record = |(object, ious): (usize, Vec<f64>)| AgreementRecord {
            first: name(&cells[a]),
            second: name(&cells[b]),
            video: sequence.name.clone(),
            object: sequence.objects[object].name.clone(),
            frames: ious.len() as u32,
            mean_iou: ious.iter().sum::<f64>() / ious.len() as f64,
            below_half: ious.iter().filter(|iou| **iou < APART).count() as f64 / ious.len() as f64,
        };
        told.into_iter().filter(|(_, ious)| !ious.is_empty()).map(record).collect()
    });
    found.collect::<Vec<Vec<_>>>().concat()
}

/// IoU by object and frame of the first pass, over frames on which both cells tracked the object. `None`: the files do not tell the same
/// frames.
fn between(sequence: &Sequence, first: PathBuf, second: PathBuf) -> Option<Vec<(usize, Vec<f64>)>> {
    let (a, b) = (Reader::open(&first).ok()?, Reader::open(&second).ok()?);
    let size = (a.width, a.height);
    let mut ious: Vec<(usize, Vec<f64>)> = (0..sequence.objects.len()).map(|i| (i, Vec::new())).collect();
    for (a, b) in a.zip(b).take(sequence.frames.len()) {
        let (a, b) = (a.ok()?, b.ok()?);
        if a.times.frame != b.times.frame {
            return None;
        }
        for (index, all) in &mut ious {
            let id = sequence.objects[*index].id;
            let mask = |frame: &SpooledFrame| {
                let object = frame.objects.iter().find(|o| o.object == id)?;
                Reader::mask(size.0, size.1, object).ok()
            };
            all.extend(mask(&a).zip(mask(&b)).map(|(a, b)| iou(&a, &b)));
        }
    }
    Some(ious)
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
