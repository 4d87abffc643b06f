//! Which pixels belong to an object?

/// Binary mask, bit-packed: each row starts at a fresh 64-bit word, bit `x % 64` of word `x / 64` is column `x`;
/// unused high bits of a row's last word are always zero.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Mask {
    width: u32,
    height: u32,
    words: Vec<u64>,
}

impl Mask {
    /// All-background mask of `width` x `height` pixels.
    pub fn empty(width: u32, height: u32) -> Self {
        let words = vec![0; words_per_row(width) * height as usize];
        Mask { width, height, words }
    }

    /// Makes this an all-background mask of `width` x `height` pixels, in the memory it has.
    pub fn reset(&mut self, width: u32, height: u32) {
        (self.width, self.height) = (width, height);
        self.words.clear();
        self.words.resize(words_per_row(width) * height as usize, 0);
    }

    /// Mask from a predicate on (column, row).
    pub fn from_fn(width: u32, height: u32, mut inside: impl FnMut(u32, u32) -> bool) -> Self {
        let mut mask = Mask::empty(width, height);
        for y in 0..height {
            for x in 0..width {
                if inside(x, y) {
                    mask.set(x, y);
                }
            }
        }
        mask
    }

    /// Width in pixels.
    #[inline]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    #[inline]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// 64-bit words per row.
    #[inline]
    pub fn words_per_row(&self) -> usize {
        words_per_row(self.width)
    }

    /// All words, row after row.
    #[inline]
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// All words, writable. The caller keeps the unused high bits of each row zero.
    pub fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }

    /// Words of row `y`.
    #[inline]
    pub fn row(&self, y: u32) -> &[u64] {
        let n = self.words_per_row();
        &self.words[y as usize * n..][..n]
    }

    /// Is the pixel in column `x`, row `y` foreground?
    #[inline]
    pub fn get(&self, x: u32, y: u32) -> bool {
        self.row(y)[x as usize / 64] >> (x % 64) & 1 == 1
    }

    /// Makes the pixel in column `x`, row `y` foreground.
    #[inline]
    pub fn set(&mut self, x: u32, y: u32) {
        let n = self.words_per_row();
        self.words[y as usize * n + x as usize / 64] |= 1 << (x % 64);
    }

    /// Number of foreground pixels.
    pub fn area(&self) -> u64 {
        self.words.iter().map(|w| u64::from(w.count_ones())).sum()
    }

    /// Pixels that both have; the masks are of one size.
    pub fn overlap(&self, other: &Mask) -> u64 {
        self.words.iter().zip(&other.words).map(|(a, b)| u64::from((a & b).count_ones())).sum()
    }

    /// Intersection over union of two masks of one size, 0..1; `None` where both are empty.
    pub fn iou(&self, other: &Mask) -> Option<f64> {
        let both = self.overlap(other);
        let either = self.area() + other.area() - both;
        (either > 0).then(|| both as f64 / either as f64)
    }

    /// Adds the pixels of a mask of the same size.
    pub fn unite(&mut self, other: &Mask) {
        self.words.iter_mut().zip(&other.words).for_each(|(own, other)| *own |= other);
    }

    /// Takes away the pixels of a mask of the same size.
    pub fn subtract(&mut self, other: &Mask) {
        self.words.iter_mut().zip(&other.words).for_each(|(own, other)| *own &= !other);
    }

    /// No foreground pixel at all.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&w| w == 0)
    }

    /// Every pixel is foreground.
    pub fn is_full(&self) -> bool {
        self.area() == u64::from(self.width) * u64::from(self.height)
    }

    /// First and last column and row with a pixel: `[left, top, right, bottom]`; `None`: it is empty.
    pub fn corners(&self) -> Option<[u32; 4]> {
        let rows = |y: &u32| self.row(*y).iter().any(|&word| word != 0);
        let (top, bottom) = ((0..self.height).find(rows)?, (0..self.height).rev().find(rows)?);
        let mut columns = vec![0u64; self.words_per_row()];
        for y in top..=bottom {
            columns.iter_mut().zip(self.row(y)).for_each(|(all, &word)| *all |= word);
        }
        let inside = |x: &u32| columns[*x as usize / 64] >> (x % 64) & 1 == 1;
        let (left, right) = ((0..self.width).find(inside)?, (0..self.width).rev().find(inside)?);
        Some([left, top, right, bottom])
    }

    /// Run lengths in row-major order, background first (the first run may be 0), summing to `width * height`.
    pub fn to_runs(&self) -> Vec<u32> {
        let mut runs = Vec::new();
        self.runs_into(&mut runs);
        runs
    }

    /// As [`Mask::to_runs`], in place of what `runs` held, in its memory.
    pub fn runs_into(&self, runs: &mut Vec<u32>) {
        // Word by word: this runs once per object and frame while the clock of the whole run is ticking.
        runs.clear();
        let (mut value, mut length) = (false, 0u32);
        for y in 0..self.height {
            let mut left = self.width;
            for &word in self.row(y) {
                let bits = left.min(64);
                left -= bits;
                let mut at = 0;
                while at < bits {
                    let rest = if value { !(word >> at) } else { word >> at };
                    let same = rest.trailing_zeros().min(bits - at);
                    length += same;
                    at += same;
                    if at < bits {
                        runs.push(length);
                        (value, length) = (!value, 0);
                    }
                }
            }
        }
        runs.push(length);
    }

    /// Inverse of [`Mask::to_runs`]; `None` when the runs do not sum to `width * height`.
    pub fn from_runs(width: u32, height: u32, runs: &[u32]) -> Option<Self> {
        let total = u64::from(width) * u64::from(height);
        if runs.iter().map(|&r| u64::from(r)).sum::<u64>() != total {
            return None;
        }
        let mut mask = Mask::empty(width, height);
        let mut at = 0u64;
        for (i, &run) in runs.iter().enumerate() {
            if i % 2 == 1 {
                for p in at..at + u64::from(run) {
                    mask.set((p % u64::from(width)) as u32, (p / u64::from(width)) as u32);
                }
            }
            at += u64::from(run);
        }
        Some(mask)
    }
}

fn words_per_row(width: u32) -> usize {
    (width as usize).div_ceil(64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_hold_the_mask_and_nothing_else() {
        let mask = Mask::from_fn(130, 20, |x, y| (x == 3 && y == 15) || (x == 129 && y == 4));
        assert_eq!(mask.corners(), Some([3, 4, 129, 15]));
        assert_eq!(Mask::empty(130, 20).corners(), None);
        assert_eq!(Mask::from_fn(64, 1, |_, _| true).corners(), Some([0, 0, 63, 0]));
    }
}
