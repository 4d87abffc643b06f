//! Which pixels of a frame show a track? The tight box of its mask, 10 % longer on every side, made square by extending the shorter
//! one; what lies outside the frame has the pack's mean colour. `scripts/jetbench_models/clips/crops.py` is the same rule.

use crate::frame::Rows;
use crate::types::{Frame, Mask};

/// The square crop of a mask. Of a frame that is long and narrow it has many times the frame's pixels, so it is never made as a whole.
pub struct Crop<'a> {
    frame: Frame<'a>,
    /// Its first column and row, those of the frame being 0.
    corner: [i64; 2],
    /// Columns and rows, pixels.
    side: i64,
    fill: [u8; 3],
    lines: &'a mut [Vec<u8>; 2],
}

/// That of a mask; `lines`: memory for two of its rows. `None`: the mask is empty.
pub fn square<'a>(frame: Frame<'a>, mask: &Mask, fill: [u8; 3], lines: &'a mut [Vec<u8>; 2]) -> Option<Crop<'a>> {
    let [x0, y0, right, bottom] = mask.corners()?.map(i64::from);
    let (x1, y1) = (right + 1, bottom + 1);
    let side = (12 * (x1 - x0).max(y1 - y0) + 9) / 10;
    let corner = [x0 + x1, y0 + y1].map(|twice| (twice - side).div_euclid(2));
    Some(Crop { frame, corner, side, fill, lines })
}

impl Rows for Crop<'_> {
    fn size(&self) -> [usize; 2] {
        [self.side as usize; 2]
    }

    fn pair(&mut self, rows: [usize; 2]) -> [&[u8]; 2] {
        let Crop { frame, corner: [left, top], side, fill, ref mut lines } = *self;
        let (width, height) = (i64::from(frame.width), i64::from(frame.height));
        for (line, row) in lines.iter_mut().zip(rows) {
            line.clear();
            let y = top + row as i64;
            // Columns of the frame; none of a row outside of it.
            let inside = if (0..height).contains(&y) { left.max(0)..(left + side).min(width) } else { left..left };
            (left..inside.start).for_each(|_| line.extend(fill));
            if !inside.is_empty() {
                let [from, to] = [inside.start, inside.end].map(|x| 3 * (y * width + x) as usize);
                line.extend(&frame.rgb[from..to]);
            }
            (inside.end..left + side).for_each(|_| line.extend(fill));
        }
        [&lines[0], &lines[1]]
    }

    fn blank(&self, row: usize) -> bool {
        !(0..i64::from(self.frame.height)).contains(&(self.corner[1] + row as i64))
    }
}
