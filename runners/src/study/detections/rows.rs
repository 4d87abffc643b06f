//! How do two sets of detections differ? Rows have no order that a comparison could rely on: a detector takes the best of its tokens, which
//! may lie within 1e-6 of each other. So rows are matched first, those with the smallest differences together.

use crate::assignment::assign;
use crate::detect::boxes::{Rows, corners, sigmoid};

/// A score above which a detection is one; transformers' default.
pub const THRESHOLD: f32 = 0.5;
/// Stands for a difference that is no number where rows are matched.
const FAR: f64 = 1e9;

/// How the rows of a frame differ.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowDifference {
    /// Largest absolute difference of a logit; infinite when one is no number.
    pub logits: f64,
    /// Largest absolute difference of a box, in shares of the image; infinite when one is no number.
    pub boxes: f64,
    /// The row of the reference with the largest of the two.
    pub row: usize,
    /// The same of each row, larger of logits and boxes.
    pub each: Vec<f64>,
    /// Rows that have another place on the other side.
    pub moved: usize,
    /// The detections.
    pub detections: Detected,
}

/// How the detections above [`THRESHOLD`] differ.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Detected {
    /// Of ours.
    pub ours: usize,
    /// Of the reference.
    pub theirs: usize,
    /// On one side only, with a score that is not near the lowest of a detection on either: label and row of the reference, in words.
    pub apart: Vec<String>,
    /// On one side only, with a score near the lowest of a detection on both.
    pub near: usize,
    /// Largest difference of an edge among those on both sides, pixels; infinite when one is no number.
    pub pixels: f64,
    /// Of each of them the largest difference of an edge, in shares of the image.
    pub edges: Vec<f64>,
    /// Largest difference of a score among them.
    pub scores: f64,
}

fn far(a: f32, b: f32) -> f64 {
    let difference = (f64::from(a) - f64::from(b)).abs();
    if difference.is_nan() { f64::INFINITY } else { difference }
}

fn largest(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| far(*a, *b)).fold(0.0, f64::max)
}

/// Compares rows of one frame of that width and height. `near`: how far from the threshold a score may lie and yet fall to the other side.
pub fn compare(ours: Rows<'_>, theirs: Rows<'_>, size: [u32; 2], near: f64) -> RowDifference {
    let (mine, other): (Vec<_>, Vec<_>) = (ours.each().collect(), theirs.each().collect());
    let mut cost = Vec::with_capacity(other.len() * mine.len());
    for (logits, shares) in &other {
        let each = mine.iter().map(|(l, s)| largest(l, logits).max(largest(s, shares)).min(FAR));
        cost.extend(each);
    }
    // Row of ours for each of theirs.
    let pairs = assign(other.len(), mine.len(), &cost);
    let mut seen = RowDifference::default();
    let mut place = vec![None; other.len()];
    for (row, matched) in pairs {
        place[row] = Some(matched);
        seen.moved += usize::from(row != matched);
        let (logits, boxes) = (largest(mine[matched].0, other[row].0), largest(&mine[matched].1, &other[row].1));
        if logits.max(boxes) > seen.logits.max(seen.boxes) {
            seen.row = row;
        }
        (seen.logits, seen.boxes) = (seen.logits.max(logits), seen.boxes.max(boxes));
        seen.each.push(logits.max(boxes));
    }
    seen.detections = detected(ours, theirs, &place, size, near);
    seen
}

/// Row and class of every detection, and the score above which there are no others: the threshold, or that of the last one, where as many as can
/// be are above it.
fn found(rows: Rows<'_>) -> (Vec<(usize, usize)>, f64) {
    let pairs = rows.pairs(THRESHOLD);
    let full = pairs.len() == rows.each().count();
    let cut = pairs.last().filter(|_| full).map_or(THRESHOLD, |last| last.score);
    (pairs.iter().map(|pair| (pair.query, pair.label)).collect(), f64::from(cut))
}

/// Compares what is above the threshold; `place`: row of ours for each of theirs.
fn detected(ours: Rows<'_>, theirs: Rows<'_>, place: &[Option<usize>], size: [u32; 2], near: f64) -> Detected {
    let (mine, other): (Vec<_>, Vec<_>) = (ours.each().collect(), theirs.each().collect());
    let [(of_ours, our_cut), (of_theirs, their_cut)] = [ours, theirs].map(found);
    let mut all = Detected { ours: of_ours.len(), theirs: of_theirs.len(), ..Detected::default() };
    let mut one_sided = |query: usize, label: usize, who: &str| {
        let score = |logits: Option<&f32>| logits.map_or(f64::NAN, |logit| f64::from(sigmoid(*logit)));
        let here = score(place[query].and_then(|row| mine[row].0.get(label)));
        let there = score(other[query].0.get(label));
        if (here - our_cut).abs() <= near && (there - their_cut).abs() <= near {
            all.near += 1;
        } else {
            all.apart.push(format!(
                "{who}: class {label} in row {query} of the reference, score {here:.4} here, {there:.4} there"
            ));
        }
    };
    for &(query, label) in &of_theirs {
        if !place[query].is_some_and(|row| of_ours.contains(&(row, label))) {
            one_sided(query, label, "missing");
        }
    }
    for &(row, label) in &of_ours {
        if let Some(query) = place.iter().position(|matched| *matched == Some(row))
            && !of_theirs.contains(&(query, label))
        {
            one_sided(query, label, "too many");
        }
    }
    for (query, label) in of_theirs {
        let Some(row) = place[query].filter(|row| of_ours.contains(&(*row, label))) else { continue };
        let (a, b) = (corners(mine[row].1, size), corners(other[query].1, size));
        let pixels = [0, 1, 2, 3].map(|edge| far(a[edge], b[edge]));
        all.pixels = pixels.into_iter().fold(all.pixels, f64::max);
        all.edges.push((0..4).map(|edge| pixels[edge] / f64::from(size[edge % 2])).fold(0.0, f64::max));
        all.scores = all.scores.max(far(sigmoid(mine[row].0[label]), sigmoid(other[query].0[label])));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 8] = [2.0, -3.0, -1.0, 1.5, -4.0, -4.5, -2.0, -2.5];
    const BOXES: [f32; 16] = [0.5, 0.5, 0.2, 0.4, 0.3, 0.6, 0.1, 0.1, 0.7, 0.7, 0.3, 0.2, 0.1, 0.9, 0.2, 0.2];

    fn rows<'a>(logits: &'a [f32], boxes: &'a [f32]) -> Rows<'a> {
        Rows { logits, boxes, classes: 2 }
    }

    fn seen(edit: impl Fn(&mut [f32; 8], &mut [f32; 16])) -> RowDifference {
        let (mut logits, mut boxes) = (LOGITS, BOXES);
        edit(&mut logits, &mut boxes);
        compare(rows(&logits, &boxes), rows(&LOGITS, &BOXES), [200, 100], 1e-3)
    }

    #[test]
    fn rows_are_compared_as_a_set_and_every_damage_shows() {
        let same = seen(|_, _| {});
        assert_eq!((same.logits, same.boxes, same.moved), (0.0, 0.0, 0));
        assert_eq!((same.detections.ours, same.detections.theirs, same.detections.apart.len()), (2, 2, 0));
        let swapped = seen(|logits, boxes| {
            logits.rotate_left(2);
            boxes.rotate_left(4);
        });
        assert_eq!((swapped.logits, swapped.boxes, swapped.moved), (0.0, 0.0, 4));
        assert_eq!(swapped.detections, same.detections, "the order of the rows is no matter");
        // Boxes that belong to other rows' logits: a row is shifted.
        let shifted = seen(|_, boxes| boxes.rotate_left(4));
        assert!(shifted.boxes > 0.1 || shifted.logits > 0.1, "{shifted:?}");
        let moved = seen(|_, boxes| boxes[0] += 0.01);
        assert!((moved.boxes - 0.01).abs() < 1e-6 && moved.row == 0, "{moved:?}");
        assert!((moved.detections.pixels - 2.0).abs() < 1e-4 && (moved.detections.edges[0] - 0.01).abs() < 1e-6);
        let dropped = seen(|logits, _| logits[0] = -2.0);
        assert_eq!((dropped.detections.ours, dropped.detections.apart.len()), (1, 1), "{dropped:?}");
        assert!(dropped.detections.apart[0].starts_with("missing: class 0 in row 0"), "{dropped:?}");
        let other = seen(|logits, _| logits.swap(2, 3));
        assert_eq!(other.detections.apart.len(), 2, "another class is a missing detection and one too many: {other:?}");
        let none = seen(|logits, _| logits[7] = f32::NAN);
        assert_eq!((none.logits, none.row), (f64::INFINITY, 3));
        let near = |logit: f32| {
            let [ours, theirs] = [logit, 0.001].map(|logit| [logit, -3.0, -3.0, -3.0]);
            compare(rows(&ours, &[0.5; 8]), rows(&theirs, &[0.5; 8]), [9, 9], 1e-3)
        };
        assert_eq!((near(-0.001).detections.near, near(-0.001).detections.apart.len()), (1, 0));
        assert_eq!((near(-0.01).detections.near, near(-0.01).detections.apart.len()), (0, 1));
        // Of three above the threshold two can be detections: which, where two scores are as good as one, is no matter.
        let full = |third: f32| {
            let [ours, theirs] = [third, 0.999].map(|third| [2.0, 1.0, third, -3.0]);
            compare(rows(&ours, &[0.5; 8]), rows(&theirs, &[0.5; 8]), [9, 9], 1e-3).detections
        };
        assert_eq!((full(1.001).near, full(1.001).apart.len()), (2, 0));
        assert_eq!((full(1.1).near, full(1.1).apart.len()), (1, 1));
    }
}
