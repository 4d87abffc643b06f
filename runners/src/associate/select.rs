//! Which of a detector's boxes count, and in which order?

use super::boxes::iou;
use super::rules::Rules;
use crate::detect::Detection;
use crate::types::AssociationCounts;

/// Leaves the detections that count, clipped to the frame, by falling score, equal scores in the detector's order: finite, at
/// least `detect_score`, at least one pixel wide and high, and of box IoU at most `nms_iou` with every better one.
pub fn select(
    detections: &mut Vec<Detection>,
    (width, height): (u32, u32),
    rules: &Rules,
    counts: &mut AssociationCounts,
) {
    let given = detections.len();
    detections.retain(|d| d.score.is_finite() && d.bbox.iter().all(|edge| edge.is_finite()));
    counts.non_finite += (given - detections.len()) as u32;
    for d in detections.iter_mut() {
        let limits = [width, height, width, height].map(f64::from);
        d.bbox.iter_mut().zip(limits).for_each(|(edge, limit)| *edge = edge.clamp(0.0, limit));
    }
    let large = |[x0, y0, x1, y1]: [f64; 4]| x1 - x0 >= 1.0 && y1 - y0 >= 1.0;
    detections.retain(|d| d.score >= rules.detect_score && large(d.bbox));
    detections.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept = 0;
    for i in 0..detections.len() {
        let d = detections[i];
        if detections[..kept].iter().all(|better| iou(&d.bbox, &better.bbox) <= rules.nms_iou) {
            detections[kept] = d;
            kept += 1;
        }
    }
    detections.truncate(kept);
    counts.detections += kept as u32;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(given: &[([f64; 4], f64)]) -> (Vec<([f64; 4], f64)>, AssociationCounts) {
        let mut counts = AssociationCounts::default();
        let mut all: Vec<Detection> = given.iter().map(|&(bbox, score)| Detection { bbox, score, label: 0 }).collect();
        select(&mut all, (100, 50), &Rules::default(), &mut counts);
        (all.iter().map(|d| (d.bbox, d.score)).collect(), counts)
    }

    #[test]
    fn what_is_no_box_on_the_frame_is_left_out() {
        let fine = [10.0, 10.0, 30.0, 30.0];
        let (kept, counts) = selected(&[
            (fine, 0.4),
            ([f64::NAN, 0.0, 9.0, 9.0], 0.9),
            ([0.0, 0.0, f64::INFINITY, 9.0], 0.9),
            (fine, f64::NAN),
            (fine, 0.399_999),
            ([-40.0, -9.0, -1.0, 20.0], 0.9),
            ([100.0, 0.0, 140.0, 20.0], 0.9),
            ([60.0, 0.0, 60.9, 20.0], 0.9),
            ([70.0, 20.0, 60.0, 10.0], 0.9),
            ([-5.0, 40.0, 5.0, 70.0], 0.7),
        ]);
        assert_eq!(kept, [([0.0, 40.0, 5.0, 50.0], 0.7), (fine, 0.4)]);
        assert_eq!((counts.non_finite, counts.detections), (3, 2));
    }

    #[test]
    fn the_first_of_equals_suppresses_the_others() {
        let at = |x: f64| [x, 0.0, x + 10.0, 10.0];
        // IoU of neighbours 9/11, of the outer two 8/12.
        let (kept, _) = selected(&[(at(0.0), 0.5), (at(2.0), 0.9), (at(1.0), 0.9), (at(40.0), 0.5)]);
        assert_eq!(kept, [(at(2.0), 0.9), (at(0.0), 0.5), (at(40.0), 0.5)]);
    }
}
