//! How sure is a model of the pixels of a mask? The mean probability inside it, at source size, without a float image.

use super::threshold::{Tap, bilinear_tap};
use crate::types::Mask;

/// Pixels of a word of a mask.
const WORD: usize = 64;
/// Sums that are kept apart, so that vector units add them side by side.
const LANES: usize = 16;

/// An object score of a probability, 0..1: above one half it is above 0; never infinite.
pub fn logit(probability: f64) -> f32 {
    let inner = probability.clamp(1e-9, 1.0 - 1e-9);
    (inner / (1.0 - inner)).ln() as f32
}

/// Means over masks; holds what masks of one size share.
#[derive(Default)]
pub struct Confidence {
    side: usize,
    width: u32,
    /// Per column of the mask.
    columns: Vec<Tap>,
    /// The two rows of logits around a row of the mask, upsampled to its width and filled up to whole words; with the number of each.
    rows: [(Option<usize>, Vec<f32>); 2],
}

impl Confidence {
    /// Mean sigmoid of the upsampled logits over the pixels of `mask`, which [`super::Thresholder::fill`] made of them; `logits`:
    /// `side` x `side`. 0 where the mask is empty. The 1e-6 beside the count of pixels is transformers'
    /// (`post_process_instance_segmentation`).
    pub fn mean(&mut self, logits: &[f32], side: usize, mask: &Mask) -> f64 {
        let (width, height) = (mask.width(), mask.height());
        self.prepare(side, width);
        let (mut sum, mut count) = (0.0, 0u64);
        for y in 0..height {
            let words = mask.row(y);
            let pixels: u32 = words.iter().map(|word| word.count_ones()).sum();
            if pixels == 0 {
                continue;
            }
            count += u64::from(pixels);
            let tap = bilinear_tap(y, height, side);
            if self.rows[1].0 == Some(tap.low) {
                self.rows.swap(0, 1);
            }
            for (at, wanted) in [tap.low, tap.high].into_iter().enumerate() {
                self.widen(at, wanted, &logits[wanted * side..][..side]);
            }
            let [(_, upper), (_, lower)] = &self.rows;
            sum += sum_of(words, upper, lower, tap.weight);
        }
        sum / (count as f64 + 1e-6)
    }

    fn prepare(&mut self, side: usize, width: u32) {
        if (self.side, self.width) != (side, width) {
            (self.side, self.width) = (side, width);
            self.columns = (0..width).map(|x| bilinear_tap(x, width, side)).collect();
        }
        // Other logits than the last ones.
        for (number, row) in &mut self.rows {
            *number = None;
            row.resize((width as usize).next_multiple_of(WORD), 0.0);
        }
    }

    /// Row `at` holds the logits `row`, whose number is `number`, at the mask's width.
    fn widen(&mut self, at: usize, number: usize, row: &[f32]) {
        let (held, values) = &mut self.rows[at];
        if held.replace(number) == Some(number) {
            return;
        }
        for (value, tap) in values.iter_mut().zip(&self.columns) {
            *value = (1.0 - tap.weight) * row[tap.low] + tap.weight * row[tap.high];
        }
    }
}

/// Sum of the sigmoids of `(1 - weight) * upper + weight * lower` where `words` has pixels.
fn sum_of(words: &[u64], upper: &[f32], lower: &[f32], weight: f32) -> f64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the instructions are there.
        return unsafe { sum_with_avx2(words, upper, lower, weight) };
    }
    sum_plain(words, upper, lower, weight)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_with_avx2(words: &[u64], upper: &[f32], lower: &[f32], weight: f32) -> f64 {
    sum_plain(words, upper, lower, weight)
}

#[inline(always)]
fn sum_plain(words: &[u64], upper: &[f32], lower: &[f32], weight: f32) -> f64 {
    let pairs = upper.as_chunks::<WORD>().0.iter().zip(lower.as_chunks::<WORD>().0);
    let mut sum = 0.0;
    for (&word, (upper, lower)) in words.iter().zip(pairs) {
        if word == 0 {
            continue;
        }
        let mut lanes = [0f32; LANES];
        for start in (0..WORD).step_by(LANES) {
            let bits = (word >> start) as u32;
            for (lane, total) in lanes.iter_mut().enumerate() {
                let value = sigmoid((1.0 - weight) * upper[start + lane] + weight * lower[start + lane]);
                // All ones where the pixel is in the mask: whatever stands elsewhere, a number or none, counts as 0.
                let inside = 0u32.wrapping_sub(bits >> lane & 1);
                *total += f32::from_bits(value.to_bits() & inside);
            }
        }
        sum += f64::from(lanes.iter().sum::<f32>());
    }
    sum
}

/// 1 / (1 + e^-x), to 2e-7, with operations that vector units have. e^-x is 2^(k + f) with a whole k and f within a half of 0: 2^k goes into
/// the exponent, 2^f is its series, whose next term is 5e-9.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    // Adding this leaves a whole number in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const SERIES: [f32; 7] =
        [1.525_273_4e-5, 1.540_353e-4, 1.333_355_8e-3, 9.618_129e-3, 5.550_411e-2, 0.240_226_5, std::f32::consts::LN_2];
    // Below 2^-100, e^-x no longer changes the sum with 1; above 2^100, 1 no longer changes it. What is no number gives 0, so that it wins
    // nothing.
    #[expect(clippy::manual_clamp, reason = "clamp keeps what is no number")]
    let power = (x * -std::f32::consts::LOG2_E).min(100.0).max(-100.0);
    let whole = power + ROUND;
    let part = power - (whole - ROUND);
    let series = SERIES.iter().fold(0.0, |sum, factor| (sum + factor) * part) + 1.0;
    let exponential = f32::from_bits(series.to_bits().wrapping_add(whole.to_bits() << 23));
    1.0 / (1.0 + exponential)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Thresholder;

    #[test]
    fn only_the_pixels_of_the_mask_count() {
        let logits = [2.0, -3.0, 2.0, -3.0];
        let mut thresholder = Thresholder::default();
        let mask = thresholder.mask(&logits, 2, 71, 2);
        // The zero lies two fifths of the way from the first logit to the second.
        assert_eq!((mask.row(0)[0].count_ones(), mask.row(0)[1].count_ones()), (32, 0));
        let values = (0..32).map(|x| {
            let weight = ((f64::from(x) + 0.5) * 2.0 / 71.0 - 0.5).max(0.0);
            1.0 / (1.0 + (-(2.0 - 5.0 * weight)).exp())
        });
        let expected = values.sum::<f64>() / 32.0;
        let mut confidence = Confidence::default();
        assert!((confidence.mean(&logits, 2, &mask) - expected).abs() < 1e-6);
        assert_eq!(confidence.mean(&logits, 2, &Mask::empty(71, 2)), 0.0);
    }

    #[test]
    fn a_sigmoid_is_one_to_seven_digits() {
        for x in (0..200_000).map(|i| i as f32 * 1e-3).chain([1e9, f32::MAX, f32::INFINITY]).flat_map(|x| [x, -x]) {
            let exact = 1.0 / (1.0 + f64::from(-x).exp());
            assert!((f64::from(sigmoid(x)) - exact).abs() < 2e-7, "{x}");
        }
        assert!(sigmoid(f32::NAN) < 1e-20);
    }

    /// Pixel by pixel, as transformers does it.
    fn plain(logits: &[f32], side: usize, mask: &Mask) -> f64 {
        let (width, height) = (mask.width(), mask.height());
        let (mut sum, mut count) = (0.0, 0.0);
        for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).filter(|(x, y)| mask.get(*x, *y)) {
            let (column, row) = (bilinear_tap(x, width, side), bilinear_tap(y, height, side));
            let across = |from: usize| {
                let row = &logits[from * side..];
                (1.0 - column.weight) * row[column.low] + column.weight * row[column.high]
            };
            let value = (1.0 - row.weight) * across(row.low) + row.weight * across(row.high);
            (sum, count) = (sum + 1.0 / (1.0 + f64::from(-value).exp()), count + 1.0);
        }
        sum / (count + 1e-6)
    }

    #[test]
    fn every_size_gives_what_pixels_one_by_one_give() {
        let mut confidence = Confidence::default();
        let mut thresholder = Thresholder::default();
        let mut state = 7u32;
        for (side, width, height) in
            [(20, 333, 97), (20, 333, 50), (33, 640, 11), (5, 64, 64), (40, 21, 13), (1, 3, 130)]
        {
            let mut logits: Vec<f32> = Vec::new();
            for _ in 0..side * side {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                logits.push((state >> 8) as f32 / 65_536.0 - 100.0);
            }
            let mask = thresholder.mask(&logits, side, width, height);
            let (ours, theirs) = (confidence.mean(&logits, side, &mask), plain(&logits, side, &mask));
            assert!((ours - theirs).abs() < 1e-6, "{side} {width} {height}: {ours} {theirs}");
        }
        // Logits that are no numbers lie outside the mask and count as nothing.
        let logits = [1.0, 1.0, f32::NAN, f32::NAN].repeat(4);
        let mut mask = Mask::empty(64, 2);
        mask.words_mut().fill(1);
        assert!((confidence.mean(&logits, 4, &mask) - 1.0 / (1.0 + (-1f64).exp())).abs() < 1e-6);
    }
}
