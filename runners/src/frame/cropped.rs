//! How do mask logits of a padded input become a mask at source size? Bilinear to the input, cut to the part that the frame took, bilinear
//! to the frame, above 0: two interpolations, done as one, row by row, so that there is no float image of either size.

use super::threshold::bilinear_tap;
use crate::types::Mask;

/// Samples of a line of logits and their weights: two neighbours of each of two neighbours.
type Taps = [(usize, f32); 4];

/// Makes masks of logits `[height, width]`.
pub struct Cropped {
    /// Columns and rows of the logits.
    logits: [usize; 2],
    /// Columns and rows of the input.
    input: [u32; 2],
    /// Those that the frame took, and the size of the frame, of the taps.
    of: [[u32; 2]; 2],
    columns: Vec<Taps>,
    rows: Vec<Taps>,
    /// Every row of logits with as many columns as the frame.
    wide: Vec<f32>,
    /// Does a row of logits have one above 0?
    above: Vec<bool>,
    line: Vec<f32>,
}

fn taps(count: u32, taken: u32, input: u32, logits: usize) -> Vec<Taps> {
    let one = |i: u32| {
        let outer = bilinear_tap(i, count, taken as usize);
        let [low, high] = [outer.low, outer.high].map(|at| bilinear_tap(at as u32, input, logits));
        let (near, far) = (1.0 - outer.weight, outer.weight);
        [
            (low.low, near * (1.0 - low.weight)),
            (low.high, near * low.weight),
            (high.low, far * (1.0 - high.weight)),
            (high.high, far * high.weight),
        ]
    };
    (0..count).map(one).collect()
}

impl Cropped {
    /// For logits and inputs of these widths and heights.
    pub fn new(logits: [usize; 2], input: [u32; 2]) -> Cropped {
        let (columns, rows, wide, above, line) = Default::default();
        Cropped { logits, input, of: Default::default(), columns, rows, wide, above, line }
    }

    /// Writes the mask of `logits` into `mask`, at the size of the frame, whose resized form took `taken` columns and rows of the input.
    pub fn fill(&mut self, logits: &[f32], taken: [u32; 2], frame: [u32; 2], mask: &mut Mask) {
        mask.reset(frame[0], frame[1]);
        let ([width, height], [across, down]) = (self.logits, self.input);
        if self.of != [taken, frame] {
            self.of = [taken, frame];
            self.columns = taps(frame[0], taken[0], across, width);
            self.rows = taps(frame[1], taken[1], down, height);
        }
        self.above.clear();
        self.above.extend(logits.chunks_exact(width).map(|row| row.iter().any(|logit| *logit > 0.0)));
        if !self.above.contains(&true) {
            return;
        }
        let count = frame[0] as usize;
        self.wide.resize(height * count, 0.0);
        for (row, wide) in logits.chunks_exact(width).zip(self.wide.chunks_exact_mut(count.max(1))) {
            for (value, taps) in wide.iter_mut().zip(&self.columns) {
                *value = taps.iter().map(|(at, weight)| weight * row[*at]).sum();
            }
        }
        let words = mask.words_per_row();
        for (taps, words) in self.rows.iter().zip(mask.words_mut().chunks_exact_mut(words.max(1))) {
            if !taps.iter().any(|(at, weight)| *weight > 0.0 && self.above[*at]) {
                continue;
            }
            self.line.clear();
            self.line.resize(count, 0.0);
            for (at, weight) in taps {
                let row = &self.wide[at * count..][..count];
                self.line.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
            }
            for (word, values) in words.iter_mut().zip(self.line.chunks(64)) {
                *word = values.iter().enumerate().fold(0, |word, (i, value)| word | u64::from(*value > 0.0) << i);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::noise;

    /// The two interpolations one after the other, each of a whole image.
    fn plain(logits: &[f32], from: [usize; 2], input: [u32; 2], taken: [u32; 2], frame: [u32; 2]) -> Vec<f32> {
        let resized = |image: &[f32], from: [usize; 2], to: [u32; 2]| -> Vec<f32> {
            let pixel = |i: u32| {
                let (x, y) = (bilinear_tap(i % to[0], to[0], from[0]), bilinear_tap(i / to[0], to[1], from[1]));
                let row =
                    |y: usize| image[y * from[0] + x.low] * (1.0 - x.weight) + image[y * from[0] + x.high] * x.weight;
                row(y.low) * (1.0 - y.weight) + row(y.high) * y.weight
            };
            (0..to[0] * to[1]).map(pixel).collect()
        };
        let grown = resized(logits, from, input);
        let cut: Vec<f32> = grown
            .chunks_exact(input[0] as usize)
            .take(taken[1] as usize)
            .flat_map(|row| &row[..taken[0] as usize])
            .copied()
            .collect();
        resized(&cut, taken.map(|side| side as usize), frame)
    }

    #[test]
    fn one_pass_is_what_two_interpolations_are() {
        let (from, input) = ([16, 12], [64, 48]);
        let mut cropped = Cropped::new(from, input);
        let mut mask = Mask::default();
        let (mut seen, mut apart) = (0, 0);
        for (taken, frame) in [
            ([64, 36], [640, 360]),
            ([64, 36], [48, 27]),
            ([64, 48], [64, 48]),
            ([17, 48], [85, 240]),
            ([1, 1], [3, 2]),
        ] {
            for seed in 1..4 {
                let bytes = noise(256, seed);
                let smooth = |i: usize| f32::from(bytes[i / 7]) - 110.0 - (i % 5) as f32;
                let logits: Vec<f32> = (0..192).map(smooth).collect();
                cropped.fill(&logits, taken, frame, &mut mask);
                let known = plain(&logits, from, input, taken, frame);
                for (i, value) in known.iter().enumerate() {
                    let (x, y) = (i as u32 % frame[0], i as u32 / frame[0]);
                    // Sums are in another order.
                    apart += usize::from(mask.get(x, y) != (*value > 0.0) && value.abs() > 1e-3);
                    seen += usize::from(*value > 0.0);
                }
            }
            cropped.fill(&[-1.0; 192], taken, frame, &mut mask);
            assert!(mask.is_empty());
        }
        assert_eq!(apart, 0);
        assert!(seen > 10_000, "{seen}");
    }
}
