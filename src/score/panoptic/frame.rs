//! What is on one frame? Its segments, and how many pixels each pair of them shares: all that VPQ and STQ need.

use std::collections::HashMap;
use std::path::Path;

use crate::dataset::panoptic_truth::{Segment, VOID, agree, listed};
use crate::dataset::{DataError, IdPng};

/// Pixels of one id in the truth that have one id in the prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pixels {
    /// Id in the truth.
    pub(super) truth: u32,
    /// Id in the prediction.
    pub(super) pred: u32,
    /// How many.
    pub(super) count: u64,
}

/// One frame, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PanopticFrame {
    /// Width and height, pixels.
    pub(super) size: (u32, u32),
    /// Segments of the truth, in the order of its file.
    pub(super) truth: Vec<Segment>,
    /// Segments of the prediction, likewise.
    pub(super) pred: Vec<Segment>,
    /// Ascending by both ids.
    pub(super) pairs: Vec<Pixels>,
}

impl PanopticFrame {
    /// A frame whose ids are given pixel by pixel; areas of `pred` are counted.
    ///
    /// # Errors
    /// Says of which side ids and segments do not agree, and where. The evaluator says so of predictions alone: in the truth it takes an area
    /// as it stands in the file, and pixels without a segment for labelled ones in VPQ and for void in STQ.
    pub(crate) fn new(
        size: (u32, u32),
        ids: impl Iterator<Item = (u32, u32)>,
        truth: Vec<Segment>,
        mut pred: Vec<Segment>,
    ) -> Result<PanopticFrame, (Side, String)> {
        let mut counts: HashMap<(u32, u32), u64> = HashMap::new();
        let (mut last, mut run) = ((VOID, VOID), 0);
        for pair in ids {
            if pair != last {
                if run > 0 {
                    *counts.entry(last).or_default() += run;
                }
                (last, run) = (pair, 0);
            }
            run += 1;
        }
        if run > 0 {
            *counts.entry(last).or_default() += run;
        }
        let mut pairs: Vec<Pixels> =
            counts.into_iter().map(|((truth, pred), count)| Pixels { truth, pred, count }).collect();
        pairs.sort_unstable();
        let areas = |id: fn(&Pixels) -> u32| {
            let mut areas: HashMap<u32, u64> = HashMap::new();
            pairs.iter().for_each(|p| *areas.entry(id(p)).or_default() += p.count);
            areas
        };
        let of_truth = areas(|p| p.truth);
        agree(&of_truth, &truth).map_err(|fault| (Side::Truth, fault))?;
        let of_pred = areas(|p| p.pred);
        listed(&of_pred, &pred).map_err(|fault| (Side::Pred, fault))?;
        pred.iter_mut().for_each(|s| s.area = of_pred[&s.id]);
        Ok(PanopticFrame { size, truth, pred, pairs })
    }
}

/// Truth or prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Truth.
    Truth,
    /// Prediction.
    Pred,
}

/// Reads pairs of files, again and again into the same memory.
#[derive(Debug, Default)]
pub(super) struct PairReader {
    truth: IdPng,
    pred: IdPng,
}

impl PairReader {
    /// Counts one frame.
    ///
    /// # Errors
    /// Names the file that cannot be read or does not fit.
    pub(super) fn read(
        &mut self,
        paths: [&Path; 2],
        truth: Vec<Segment>,
        pred: Vec<Segment>,
    ) -> Result<PanopticFrame, DataError> {
        self.truth.read(paths[0])?;
        self.pred.read(paths[1])?;
        let (size, own) = (self.truth.size(), self.pred.size());
        if size != own {
            let [truth, pred] = paths.map(Path::display);
            let (w, h, x, y) = (size.0, size.1, own.0, own.1);
            return Err(DataError(format!("{pred}: {x}x{y} pixels, but {truth} has {w}x{h}")));
        }
        PanopticFrame::new(size, self.truth.ids().zip(self.pred.ids()), truth, pred).map_err(|(side, fault)| {
            DataError(format!("{}: {fault}", paths[usize::from(side == Side::Pred)].display()))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segment(id: u32, area: u64) -> Segment {
        Segment { id, category: 0, crowd: false, area }
    }

    fn counted(truth: Vec<Segment>, pred: Vec<Segment>) -> Result<PanopticFrame, (Side, String)> {
        let ids = [(1, 0), (1, 7), (1, 7), (0, 7), (9, 7), (1, 0)];
        PanopticFrame::new((3, 2), ids.into_iter(), truth, pred)
    }

    #[test]
    fn pixels_are_counted_by_pair() {
        let frame = counted(vec![segment(9, 1), segment(1, 4)], vec![segment(7, 0)]).unwrap();
        let pairs: Vec<_> = frame.pairs.iter().map(|p| (p.truth, p.pred, p.count)).collect();
        assert_eq!(pairs, [(0, 7, 1), (1, 0, 2), (1, 7, 2), (9, 7, 1)]);
        assert_eq!(frame.pred, [segment(7, 4)]);
    }

    #[test]
    fn segments_that_do_not_fit_the_pixels_are_named() {
        let both = || vec![segment(9, 1), segment(1, 4)];
        for (truth, pred, side, fault) in [
            (
                vec![segment(9, 1)],
                vec![segment(7, 0)],
                Side::Truth,
                "4 pixels have the id 1, which is not among the segments",
            ),
            (
                vec![segment(9, 2), segment(1, 4)],
                vec![segment(7, 0)],
                Side::Truth,
                "segment 9 has an area of 2, and 1 pixels",
            ),
            (both(), vec![], Side::Pred, "4 pixels have the id 7, which is not among the segments"),
            (both(), vec![segment(7, 0), segment(8, 0)], Side::Pred, "segment 8 is listed, but no pixel has its id"),
        ] {
            assert_eq!(counted(truth, pred), Err((side, fault.to_string())));
        }
    }

    proptest! {
        #[test]
        fn counting_by_runs_agrees_with_a_look_at_each_pixel(
            ids in prop::collection::vec((0u32..4, 0u32..4), 1..60), at in 0u32..4, other in 0u32..4
        ) {
            let area = |id: u32, of: fn(&(u32, u32)) -> u32| ids.iter().filter(|pair| of(pair) == id).count() as u64;
            let side = |of: fn(&(u32, u32)) -> u32| -> Vec<Segment> {
                (1..4).map(|id| segment(id, area(id, of))).filter(|s| s.area > 0).collect()
            };
            let (truth, pred) = (side(|p| p.0), side(|p| p.1));
            let frame = PanopticFrame::new((ids.len() as u32, 1), ids.iter().copied(), truth.clone(), pred.clone()).unwrap();
            prop_assert_eq!((&frame.truth, &frame.pred), (&truth, &pred));
            let found = frame.pairs.iter().find(|p| (p.truth, p.pred) == (at, other)).map_or(0, |p| p.count);
            prop_assert_eq!(found, ids.iter().filter(|pair| **pair == (at, other)).count() as u64);
            prop_assert!(frame.pairs.is_sorted());
        }
    }
}
