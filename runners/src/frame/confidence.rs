//! How sure is a model of the pixels of a mask? The mean probability inside it, at source size, without a float image.

use super::threshold::bilinear_tap;
use crate::types::Mask;

/// Mean sigmoid of the upsampled logits over the pixels of `mask`, which [`super::Thresholder::fill`] made of them; `logits`: `side` x
/// `side`. 0 where the mask is empty. The 1e-6 beside the count of pixels is transformers' (`post_process_instance_segmentation`).
pub fn mean_probability(logits: &[f32], side: usize, mask: &Mask) -> f64 {
    let (width, height) = (mask.width(), mask.height());
    let columns: Vec<_> = (0..width).map(|x| bilinear_tap(x, width, side)).collect();
    let (mut sum, mut count) = (0.0, 0u64);
    for y in 0..height {
        let tap = bilinear_tap(y, height, side);
        let [upper, lower] = [tap.low, tap.high].map(|row| &logits[row * side..][..side]);
        for (word, columns) in mask.row(y).iter().zip(columns.chunks(64)) {
            let mut word = *word;
            while word != 0 {
                let column = &columns[word.trailing_zeros() as usize];
                word &= word - 1;
                let across = |row: &[f32]| (1.0 - column.weight) * row[column.low] + column.weight * row[column.high];
                let value = (1.0 - tap.weight) * across(upper) + tap.weight * across(lower);
                sum += 1.0 / (1.0 + f64::from(-value).exp());
                count += 1;
            }
        }
    }
    sum / (count as f64 + 1e-6)
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
        assert!((mean_probability(&logits, 2, &mask) - expected).abs() < 1e-6);
        assert_eq!(mean_probability(&logits, 2, &Mask::empty(71, 2)), 0.0);
    }
}
