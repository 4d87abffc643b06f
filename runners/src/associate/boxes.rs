//! How are boxes compared, with each other and with masks? Boxes are `[x0, y0, x1, y1]` in pixel edges.

use crate::types::Mask;

fn area(a: &[f64; 4]) -> f64 {
    (a[2] - a[0]) * (a[3] - a[1])
}

/// Intersection over union, 0..1; 0 where both boxes have no area.
pub fn iou(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let side = |i: usize| (a[i + 2].min(b[i + 2]) - a[i].max(b[i])).max(0.0);
    let both = side(0) * side(1);
    if both == 0.0 {
        return 0.0; // most pairs
    }
    both / (area(a) + area(b) - both).max(1e-9)
}

/// Words of a mask that are looked at together.
const TOGETHER: usize = 32;

/// The smallest box around a mask's pixels: first column and row, last column and row + 1. `None` where the mask is empty.
pub fn tight(mask: &Mask) -> Option<[f64; 4]> {
    let (n, words) = (mask.words_per_row(), mask.words());
    // Most of a mask is empty: many words are looked at together before one is.
    let any = |part: &[u64]| part.iter().fold(0, |all, word| all | word) != 0;
    let first = words.chunks(TOGETHER).position(any)? * TOGETHER;
    let first = (first + words[first..].iter().position(|word| *word != 0)?) / n;
    let filled = words.rchunks(TOGETHER).position(any)? * TOGETHER;
    let last = words[..words.len() - filled].iter().rposition(|word| *word != 0)? / n;
    let rows = || words[first * n..(last + 1) * n].chunks_exact(n);
    let columns = |block: usize| {
        let mut all = [0; TOGETHER];
        rows().for_each(|row| all.iter_mut().zip(&row[block * TOGETHER..]).for_each(|(all, word)| *all |= word));
        all
    };
    let blocks = 0..n.div_ceil(TOGETHER);
    let left = blocks.clone().find_map(|block| {
        let (i, word) = columns(block).into_iter().enumerate().find(|(_, word)| *word != 0)?;
        Some((block * TOGETHER + i) * 64 + word.trailing_zeros() as usize)
    })?;
    let right = blocks.rev().find_map(|block| {
        let (i, word) = columns(block).into_iter().enumerate().rfind(|(_, word)| *word != 0)?;
        Some((block * TOGETHER + i + 1) * 64 - word.leading_zeros() as usize)
    })?;
    Some([left, first, right, last + 1].map(|edge| edge as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_overlap_by_area() {
        let a = [0.0, 0.0, 2.0, 2.0];
        assert_eq!(iou(&a, &[1.0, 0.0, 3.0, 2.0]), 1.0 / 3.0);
        assert_eq!(iou(&a, &[2.0, 0.0, 3.0, 2.0]), 0.0);
        assert_eq!(iou(&[1.0; 4], &[1.0; 4]), 0.0);
    }

    #[test]
    fn the_tight_box_is_that_of_the_pixels() {
        for [x0, y0, x1, y1] in [[0, 0, 1, 1], [3, 5, 64, 6], [63, 2, 65, 9], [64, 0, 130, 10], [129, 9, 130, 10]] {
            let mask = Mask::from_fn(130, 10, |x, y| (x0..x1).contains(&x) && (y0..y1).contains(&y));
            assert_eq!(tight(&mask), Some([x0, y0, x1, y1].map(f64::from)));
        }
        let wide =
            Mask::from_fn(64 * TOGETHER as u32 + 70, 3, |x, y| y == 1 && (x == 3 || x == 64 * TOGETHER as u32 + 66));
        assert_eq!(tight(&wide), Some([3.0, 1.0, 64.0 * TOGETHER as f64 + 67.0, 2.0]));
        let two = Mask::from_fn(200, 9, |x, y| (x, y) == (190, 1) || (x, y) == (7, 6));
        assert_eq!(tight(&two), Some([7.0, 1.0, 191.0, 7.0]));
        assert_eq!(tight(&Mask::empty(130, 10)), None);
        assert_eq!(tight(&Mask::default()), None);
    }
}
