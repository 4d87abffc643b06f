//! Boundary IoU (Cheng et al., CVPR 2021): the IoU of the two masks' inner borders, as wide as 2 % of the diagonal. It
//! punishes ragged edges of large objects, which J hides.

use jetbench_runners::types::Mask;

/// Width of the border as a share of the image diagonal.
const DILATION_RATIO: f64 = 0.02;

/// Boundary IoU of two masks of equal size, 0..1; 1 when both are empty.
pub fn boundary_iou(pred: &Mask, truth: &Mask) -> f64 {
    if pred.is_empty() && truth.is_empty() {
        return 1.0;
    }
    let (p, t) = (inner_border(pred), inner_border(truth));
    let (mut inter, mut union) = (0u64, 0u64);
    for (a, b) in p.iter().zip(&t) {
        inter += u64::from((a & b).count_ones());
        union += u64::from((a | b).count_ones());
    }
    if union == 0 { 1.0 } else { inter as f64 / union as f64 }
}

/// Border width in pixels for an image size: rounded half to even, at least 1.
fn border_width(width: u32, height: u32) -> u32 {
    let (w, h) = (u64::from(width), u64::from(height));
    ((DILATION_RATIO * ((w * w + h * h) as f64).sqrt()).round_ties_even() as u32).max(1)
}

/// Pixels of the mask that are at most the border width (in both axes) away from a background pixel or the outside:
/// the mask without its erosion by a square.
fn inner_border(mask: &Mask) -> Vec<u64> {
    let n = mask.words_per_row();
    let height = mask.height() as usize;
    let reach = border_width(mask.width(), mask.height());
    // Vertical: a pixel survives if every row within reach has it. Running "height of the column so far" per pixel
    // would cost a word per bit; doubling needs log2(reach) passes over whole words.
    let mut rows: Vec<u64> = mask.words().to_vec();
    erode_rows(&mut rows, n, height, reach as usize);
    for row in rows.chunks_exact_mut(n.max(1)) {
        if row.iter().any(|&w| w != 0) {
            erode_columns(row, reach);
        }
    }
    mask.words().iter().zip(&rows).map(|(m, eroded)| m & !eroded).collect()
}

/// `out[y] = AND of rows y - reach ..= y + reach`, zero outside.
fn erode_rows(rows: &mut [u64], n: usize, height: usize, reach: usize) {
    let window = 2 * reach + 1;
    if window > height {
        rows.fill(0);
        return;
    }
    // run[y] = AND of rows y .. y + length, grown by doubling.
    let mut length = 1;
    while length < window {
        let step = length.min(window - length);
        for y in 0..height {
            for i in 0..n {
                let below = if y + step < height { rows[(y + step) * n + i] } else { 0 };
                rows[y * n + i] &= below;
            }
        }
        length += step;
    }
    // Rows that start at y belong to the centre y + reach.
    rows.rotate_right(reach * n);
    rows[..reach * n].fill(0);
}

/// The same along a row of bits.
fn erode_columns(row: &mut [u64], reach: u32) {
    let window = 2 * reach + 1;
    let mut length = 1;
    while length < window {
        let step = length.min(window - length);
        for i in 0..row.len() {
            row[i] &= shifted_down(row, i, step);
        }
        length += step;
    }
    for i in (0..row.len()).rev() {
        row[i] = shifted_up(row, i, reach);
    }
}

/// Word `i` of the row shifted towards lower columns.
fn shifted_down(row: &[u64], i: usize, by: u32) -> u64 {
    let (words, bits) = ((by / 64) as usize, by % 64);
    let get = |k: usize| row.get(k).copied().unwrap_or(0);
    if bits == 0 { get(i + words) } else { get(i + words) >> bits | get(i + words + 1) << (64 - bits) }
}

/// Word `i` of the row shifted towards higher columns; words below `i` must be unshifted still.
fn shifted_up(row: &[u64], i: usize, by: u32) -> u64 {
    let (words, bits) = ((by / 64) as usize, by % 64);
    let get = |back: usize| if i >= back { row[i - back] } else { 0 };
    if bits == 0 { get(words) } else { get(words) << bits | get(words + 1) >> (64 - bits) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive_border(mask: &Mask) -> Mask {
        let reach = i64::from(border_width(mask.width(), mask.height()));
        let (w, h) = (i64::from(mask.width()), i64::from(mask.height()));
        Mask::from_fn(mask.width(), mask.height(), |x, y| {
            let near_outside = (-reach..=reach).any(|dy| {
                (-reach..=reach).any(|dx| {
                    let (xx, yy) = (i64::from(x) + dx, i64::from(y) + dy);
                    xx < 0 || yy < 0 || xx >= w || yy >= h || !mask.get(xx as u32, yy as u32)
                })
            });
            mask.get(x, y) && near_outside
        })
    }

    proptest! {
        #[test]
        fn border_is_that_of_the_naive_erosion(w in 1u32..150, h in 1u32..60, seed in any::<u64>(), holes in 0u32..6) {
            let mask = Mask::from_fn(w, h, |x, y| {
                (0..holes).all(|k| {
                    let r = seed.rotate_left(k * 11);
                    let (hx, hy) = ((r & 127) as u32 % w, (r >> 8 & 63) as u32 % h);
                    x.abs_diff(hx) > (r >> 16 & 7) as u32 || y.abs_diff(hy) > (r >> 20 & 7) as u32
                })
            });
            let border = inner_border(&mask);
            let naive = naive_border(&mask);
            prop_assert_eq!(border.as_slice(), naive.words());
        }
    }

    #[test]
    fn same_masks_score_1_and_apart_score_0() {
        let a = Mask::from_fn(100, 80, |x, y| (10..40).contains(&x) && (10..40).contains(&y));
        let b = Mask::from_fn(100, 80, |x, y| (50..90).contains(&x) && (10..40).contains(&y));
        assert_eq!(boundary_iou(&a, &a), 1.0);
        assert_eq!(boundary_iou(&a, &b), 0.0);
        assert_eq!(boundary_iou(&Mask::empty(9, 9), &Mask::empty(9, 9)), 1.0);
        assert_eq!(boundary_iou(&a, &Mask::empty(100, 80)), 0.0);
    }
}
