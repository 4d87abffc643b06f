//! MOSEv2's disk of a fractional radius, as scikit-image draws it and OpenCV dilates by it. Its grid starts at `-r`, so the
//! middle of the disk lies between pixels: what is matched is shifted against what looks for a match.

use super::{Boundary, next_bit, paint};

/// Rows of the disk: a pixel is matched by one `(dx, dy)` away from it with `dx` in `left..=right`.
pub(super) struct FractionalDisk {
    rows: Vec<(isize, isize, isize)>,
}

impl FractionalDisk {
    /// The disk of `radius` pixels: cells of the grid `-r, -r + 1, …` below `r + 1` with `x² + y² <= r²`, about the
    /// grid's middle cell (`skimage.morphology.disk`, `cv2.dilate`).
    pub(super) fn new(radius: f64) -> Self {
        // numpy's arange: the step is the difference of its first two values.
        let step = (1.0 - radius) + radius;
        let cells = ((radius + 1.0) + radius).ceil() as usize;
        let at = |i: usize| -radius + i as f64 * step;
        let inside = |x: f64, y: f64| x * x + y * y <= radius * radius;
        let anchor = (cells / 2) as isize;
        let row = |i: usize| {
            let left = (0..cells).position(|k| inside(at(k), at(i)))? as isize;
            let right = (0..cells).rposition(|k| inside(at(k), at(i)))? as isize;
            Some((i as isize - anchor, left - anchor, right - anchor))
        };
        let mut rows: Vec<_> = (0..cells).filter_map(row).collect();
        if rows.is_empty() {
            // Images below some 60 pixels: of a kernel without a cell, OpenCV takes the first.
            rows.push((-anchor, -anchor, -anchor));
        }
        FractionalDisk { rows }
    }

    /// Number of pixels of `a` that are matched by one of `b`; `n` words per row, `wide` is working memory.
    #[inline(always)]
    pub(super) fn matches(&self, a: &Boundary, b: &Boundary, n: usize, wide: &mut Vec<u64>) -> u64 {
        wide.clear();
        wide.resize(n * b.spans.len(), 0);
        for (y, span) in b.spans.iter().enumerate().filter(|(_, s)| !s.is_empty()) {
            let row = &b.words[y * n..][..n];
            let mut x = span.from as usize * 64;
            while let Some(start) = next_bit(row, x, true) {
                let end = next_bit(row, start, false).unwrap_or(n * 64);
                for &(dy, left, right) in &self.rows {
                    let Some(above) = y.checked_add_signed(-dy).filter(|y| *y < b.spans.len()) else { continue };
                    let from = start.saturating_add_signed(-right);
                    let to = end.saturating_add_signed(-left).min(n * 64);
                    if from < to {
                        paint(&mut wide[above * n..][..n], from, to - 1);
                    }
                }
                x = end;
            }
        }
        let mut matched = 0;
        for (y, span) in a.spans.iter().enumerate() {
            for i in span.from as usize..span.to as usize {
                matched += u64::from((a.words[y * n + i] & wide[y * n + i]).count_ones());
            }
        }
        matched
    }
}
