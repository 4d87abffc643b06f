//! How do two sets of outputs differ? Masks, tensors frame by frame, and what is left when all frames are put together.

use crate::study::limits::Difference;
use crate::types::{Mask, PromptKind};

/// How two masks of one size agree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// Intersection over union; 1 where both are empty.
    pub iou: f64,
    /// Pixels that differ.
    pub differing: u64,
    /// Pixels that either has.
    pub either: u64,
}

/// Compares two masks of one size.
pub fn agreement(a: &Mask, b: &Mask) -> Agreement {
    let both = a.overlap(b);
    let either = a.area() + b.area() - both;
    Agreement { iou: a.iou(b).unwrap_or(1.0), differing: either - both, either }
}

/// Masks of a track, all frames together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MaskDifference {
    /// Pixels that differ.
    pub differing: u64,
    /// Pixels that either side has.
    pub either: u64,
    /// Pixels compared.
    pub pixels: u64,
    /// Pixels that differ on the worst frame.
    pub most: u64,
    /// One less the smallest IoU of a frame.
    pub worst_frame: f64,
}

impl MaskDifference {
    /// Adds a frame.
    pub fn compare(&mut self, ours: &Mask, theirs: &Mask) -> Agreement {
        let seen = agreement(ours, theirs);
        self.differing += seen.differing;
        self.either += seen.either;
        self.pixels += u64::from(ours.width()) * u64::from(ours.height());
        self.most = self.most.max(seen.differing);
        self.worst_frame = self.worst_frame.max(1.0 - seen.iou);
        seen
    }

    /// IoU of all frames together; 1 where all masks are empty.
    pub fn iou(&self) -> f64 {
        if self.either == 0 { 1.0 } else { (self.either - self.differing) as f64 / self.either as f64 }
    }
}

/// Largest absolute difference; infinite when a value is not finite.
fn max_abs(ours: &[f32], theirs: &[f32]) -> f64 {
    ours.iter().zip(theirs).fold(0.0, |worst: f64, (&a, &b)| {
        let difference = (f64::from(a) - f64::from(b)).abs();
        if difference.is_nan() { f64::INFINITY } else { worst.max(difference) }
    })
}

/// Largest absolute difference, and the root mean square of the difference over that of `theirs`; infinite when a value is
/// not finite. `theirs` was rounded to multiples of `step` (0: it was not), and what that gives, step / sqrt(12), is taken out.
pub fn difference(ours: &[f32], theirs: &[f32], step: f64) -> (f64, f64) {
    let (mut squares, mut of) = (0.0, 0.0);
    for (&a, &b) in ours.iter().zip(theirs) {
        squares += (f64::from(a) - f64::from(b)).powi(2);
        of += f64::from(b).powi(2);
    }
    let left = squares - ours.len() as f64 * step * step / 12.0;
    let rel = if left <= 0.0 { 0.0 } else { (left / of).sqrt() };
    (max_abs(ours, theirs), if rel.is_nan() { f64::INFINITY } else { rel })
}

/// One tensor over the frames of a track. Not finite counts as largest.
#[derive(Clone, Debug, Default)]
pub struct TensorDifference {
    frame: usize,
    max_abs: f64,
    /// Frame and relative root mean square.
    rel_rms: Vec<(usize, f64)>,
}

impl TensorDifference {
    /// Adds a frame; `step` as for [`difference`].
    pub fn compare(&mut self, frame: usize, ours: &[f32], theirs: &[f32], step: f64) -> (f64, f64) {
        let (max_abs, rel_rms) = difference(ours, theirs, step);
        if self.rel_rms.is_empty() || max_abs > self.max_abs {
            (self.frame, self.max_abs) = (frame, max_abs);
        }
        self.rel_rms.push((frame, rel_rms));
        (max_abs, rel_rms)
    }

    /// Was any frame compared?
    pub fn seen(&self) -> bool {
        !self.rel_rms.is_empty()
    }

    /// The frame with the largest absolute difference.
    pub fn largest_on(&self) -> usize {
        self.frame
    }

    /// Largest relative root mean square.
    fn worst_rel_rms(&self) -> f64 {
        self.rel_rms.iter().map(|(_, rel)| *rel).fold(0.0, f64::max)
    }

    /// The median over the frames, of an even number the upper one.
    fn typical_rel_rms(&self) -> f64 {
        let mut sorted: Vec<f64> = self.rel_rms.iter().map(|(_, rel)| *rel).collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
    }

    /// The figures, with the names of where they belong.
    pub fn figures(&self, graph: &str, tensor: &str, clip: &str, object: u32, prompt: PromptKind) -> Difference {
        let finite = |value: f64| value.is_finite().then_some(value);
        Difference {
            graph: graph.to_string(),
            tensor: tensor.to_string(),
            clip: clip.to_string(),
            object,
            prompt,
            frame: self.frame,
            max_abs: finite(self.max_abs),
            rel_rms: finite(self.worst_rel_rms()),
            typical_rel_rms: finite(self.typical_rel_rms()),
            prompted_rel_rms: self.rel_rms.iter().find(|(frame, _)| *frame == 0).and_then(|(_, rel)| finite(*rel)),
        }
    }
}

/// What of vectors' differences points the same way on all frames.
#[derive(Clone, Debug, Default)]
pub struct Systematic {
    differences: Vec<Vec<f32>>,
    /// Sum of the lengths of the other side's vectors.
    lengths: f64,
}

impl Systematic {
    /// Adds a frame.
    pub fn add(&mut self, ours: &[f32], theirs: &[f32]) {
        self.differences.push(ours.iter().zip(theirs).map(|(a, b)| a - b).collect());
        self.lengths += theirs.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    }

    /// Frames added.
    pub fn frames(&self) -> usize {
        self.differences.len()
    }

    /// Length of the vector of medians over the mean length of the other side's; `None` when not finite or nothing was added.
    pub fn value(&self) -> Option<f64> {
        let first = self.differences.first()?;
        let squares: f64 = (0..first.len())
            .map(|i| {
                let mut values: Vec<f32> = self.differences.iter().map(|d| d[i]).collect();
                values.sort_by(f32::total_cmp);
                let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
                (f64::from(low) / 2.0 + f64::from(high) / 2.0).powi(2)
            })
            .sum();
        let value = if squares == 0.0 { 0.0 } else { squares.sqrt() / (self.lengths / self.frames() as f64) };
        value.is_finite().then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_that_is_not_a_number_is_the_largest() {
        assert_eq!(max_abs(&[1.0, 2.0], &[1.5, 2.0]), 0.5);
        assert_eq!(max_abs(&[f32::NAN, 2.0], &[1.5, 2.0]), f64::INFINITY);
        let mut largest = TensorDifference::default();
        for (frame, ours) in [(3, 0.0), (4, 2.0), (5, 1.0)] {
            largest.compare(frame, &[ours], &[0.0], 0.0);
        }
        assert_eq!((largest.frame, largest.max_abs), (4, 2.0));
        largest.compare(6, &[f32::NAN], &[0.0], 0.0);
        let figures = largest.figures("g", "t", "c", 1, PromptKind::Mask);
        assert_eq!((figures.frame, figures.max_abs, figures.rel_rms), (6, None, None));
    }

    #[test]
    fn the_steps_of_a_stored_reference_are_taken_out() {
        let step = 0.5;
        let ours: Vec<f32> = (0..1000).map(|i| 3.0 + 0.001 * i as f32).collect();
        let stored: Vec<f32> = ours.iter().map(|v| (f64::from(*v) / step).round() as f32 * step as f32).collect();
        let (max_abs, rel_rms) = difference(&ours, &stored, step);
        assert!(max_abs > 0.2 && rel_rms < 2e-3, "{max_abs} {rel_rms}");
        assert!(difference(&ours, &stored, 0.0).1 > 0.03, "they are there");
    }

    #[test]
    fn what_stays_is_told_from_what_comes_and_goes() {
        let seen = |stays: f32| {
            let mut all = Systematic::default();
            for t in 0..20 {
                let rounding = [0.02, -0.02, 0.01, -0.01][t % 4];
                let flip = if t == 7 { 5.0 } else { 0.0 };
                all.add(&[3.0 + rounding + flip + stays, 4.0 - rounding], &[3.0, 4.0]);
            }
            all.value().unwrap()
        };
        assert!(seen(0.0) < 2.1e-3 && (seen(0.05) - 0.01).abs() < 2.1e-3, "{} {}", seen(0.0), seen(0.05));
    }
}
