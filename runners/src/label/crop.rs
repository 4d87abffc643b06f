//! Which pixels of a frame show a track? The tight box of its mask, 10 % longer on every side, made square by extending the shorter
//! one; what lies outside the frame has the pack's mean colour. `scripts/jetbench_models/clips/crops.py` is the same rule.

use crate::types::{Frame, Mask};

/// The square crop of a mask, `side * side * 3` bytes into `crop`, and its side in pixels; `None`: the mask is empty.
pub fn square(frame: Frame<'_>, mask: &Mask, fill: [u8; 3], crop: &mut Vec<u8>) -> Option<u32> {
    let [x0, y0, right, bottom] = mask.corners()?.map(i64::from);
    let (x1, y1) = (right + 1, bottom + 1);
    let side = (12 * (x1 - x0).max(y1 - y0) + 9) / 10;
    let [left, top] = [x0 + x1, y0 + y1].map(|twice| (twice - side).div_euclid(2));
    let (width, height) = (i64::from(frame.width), i64::from(frame.height));
    crop.clear();
    for y in top..top + side {
        if !(0..height).contains(&y) {
            (0..side).for_each(|_| crop.extend(fill));
            continue;
        }
        let (from, to) = (left.max(0), (left + side).min(width));
        (left..from).for_each(|_| crop.extend(fill));
        let row = (y * width) as usize;
        crop.extend(&frame.rgb[3 * (row + from as usize)..3 * (row + to as usize)]);
        (to..left + side).for_each(|_| crop.extend(fill));
    }
    Some(side as u32)
}
