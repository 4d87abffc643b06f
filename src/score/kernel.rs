//! J and F of one pair of masks, exactly as the three reference evaluators compute them, on bit-packed rows. The
//! boundary map is the references' half-pixel-offset one; "within the tolerance" is the exact Euclidean disk. No disk is
//! ever drawn: only the boundary pixels that have no partner at the same place look around themselves, one 64-pixel
//! word at a time, nearest rows first.

use jetbench_runners::types::Mask;

use super::FrameScore;

/// The references' boundary tolerance: this share of the image diagonal.
pub const BOUNDARY_THRESHOLD: f64 = 0.008;

/// The integers behind J and F. All counts are pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCounts {
    /// Pixels in both masks.
    pub inter: u64,
    /// Pixels in either mask.
    pub union: u64,
    /// Foreground pixels of the prediction.
    pub pred_area: u64,
    /// Foreground pixels of the truth.
    pub truth_area: u64,
    /// Boundary pixels of the prediction.
    pub n_fg: u64,
    /// Boundary pixels of the truth.
    pub n_gt: u64,
    /// Boundary pixels of the prediction within the tolerance of the truth's boundary.
    pub fg_match: u64,
    /// Boundary pixels of the truth within the tolerance of the prediction's boundary.
    pub gt_match: u64,
}

impl FrameCounts {
    /// Region similarity: intersection over union, 1 when both masks are empty.
    pub fn j(&self) -> f64 {
        if self.union == 0 { 1.0 } else { self.inter as f64 / self.union as f64 }
    }

    /// Boundary F-measure. "Empty" means an empty boundary, not an empty mask: the image border is no boundary, so an
    /// all-foreground mask has none.
    pub fn f(&self) -> f64 {
        let (precision, recall) = match (self.n_fg, self.n_gt) {
            (0, 0) => (1.0, 1.0),
            (0, _) => (1.0, 0.0),
            (_, 0) => (0.0, 1.0),
            (fg, gt) => (self.fg_match as f64 / fg as f64, self.gt_match as f64 / gt as f64),
        };
        if precision + recall == 0.0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) }
    }

    /// J and F with the emptiness flags that the protocols need.
    pub fn score(&self) -> FrameScore {
        FrameScore { j: self.j(), f: self.f(), pred_empty: self.pred_area == 0, truth_empty: self.truth_area == 0 }
    }
}

/// Tolerance radius in pixels: `ceil(threshold * diagonal)`; a threshold of 1 or more is taken as pixels (rounded up).
pub fn tolerance_radius(width: u32, height: u32, threshold: f64) -> u32 {
    if threshold >= 1.0 {
        return threshold.ceil() as u32;
    }
    let (w, h) = (u64::from(width), u64::from(height));
    (threshold * ((h * h + w * w) as f64).sqrt()).ceil() as u32
}

/// Half-open range of non-zero words in a row; empty when `from >= to`.
#[derive(Clone, Copy, Default)]
struct Span {
    from: u32,
    to: u32,
}

impl Span {
    fn of(row: &[u64]) -> Span {
        match row.iter().position(|&w| w != 0) {
            None => Span::default(),
            Some(from) => {
                let to = row.iter().rposition(|&w| w != 0).map_or(from, |i| i + 1);
                Span { from: from as u32, to: to as u32 }
            }
        }
    }

    fn is_empty(self) -> bool {
        self.from >= self.to
    }

    fn join(self, other: Span) -> Span {
        if self.is_empty() {
            other
        } else if other.is_empty() {
            self
        } else {
            Span { from: self.from.min(other.from), to: self.to.max(other.to) }
        }
    }
}

/// Boundary map of a mask: bit-packed like the mask, with the non-zero span of each row.
#[derive(Default)]
struct Boundary {
    words: Vec<u64>,
    spans: Vec<Span>,
    mask_spans: Vec<Span>,
    count: u64,
}

impl Boundary {
    /// A pixel is boundary where it differs from its right, lower or lower right neighbour; the last row and column
    /// count as repeated beyond the image, which gives the references' border rules.
    fn fill(&mut self, mask: &Mask) {
        let (n, height) = (mask.words_per_row(), mask.height() as usize);
        self.words.clear();
        self.words.resize(n * height, 0);
        self.spans.clear();
        self.mask_spans.clear();
        self.mask_spans.extend((0..height).map(|y| Span::of(mask.row(y as u32))));
        self.count = 0;
        let last_bit = 1u64 << ((mask.width().max(1) - 1) % 64);
        for y in 0..height {
            let below_y = (y + 1).min(height - 1);
            let span = self.mask_spans[y].join(self.mask_spans[below_y]);
            if span.is_empty() {
                self.spans.push(Span::default());
                continue;
            }
            // The pixel left of the span sees the span's first pixel.
            let span = Span { from: span.from.saturating_sub(1), to: span.to };
            let (row, below) = (mask.row(y as u32), mask.row(below_y as u32));
            let out = &mut self.words[y * n..][..n];
            for i in span.from as usize..span.to as usize {
                let (m, b) = (row[i], below[i]);
                let (right, below_right) = if i + 1 < n {
                    (m >> 1 | row[i + 1] << 63, b >> 1 | below[i + 1] << 63)
                } else {
                    (m >> 1 | m & last_bit, b >> 1 | b & last_bit)
                };
                out[i] = (m ^ right) | (m ^ b) | (m ^ below_right);
                self.count += u64::from(out[i].count_ones());
            }
            self.spans.push(Span::of(out));
        }
    }
}

/// Scores pairs of masks of one size, keeping its working memory between calls.
pub struct FrameScorer {
    width: u32,
    height: u32,
    /// `half[d]`: half width of the disk's row at vertical distance `d`.
    half: Vec<u32>,
    pred: Boundary,
    truth: Boundary,
}

impl FrameScorer {
    /// Scorer for masks of `width` x `height` pixels; `threshold` as in [`tolerance_radius`]
    /// ([`BOUNDARY_THRESHOLD`] is the references').
    pub fn new(width: u32, height: u32, threshold: f64) -> Self {
        let r = u64::from(tolerance_radius(width, height, threshold));
        // No pixel has a partner farther away than the image is large.
        let half = (0..=r.min(u64::from(height))).map(|d| (r * r - d * d).isqrt() as u32).collect();
        FrameScorer { width, height, half, pred: Boundary::default(), truth: Boundary::default() }
    }

    /// Does this scorer fit masks of that size?
    pub fn fits(&self, width: u32, height: u32) -> bool {
        (self.width, self.height) == (width, height)
    }

    /// Counts for one pair.
    ///
    /// # Panics
    /// When a mask has another size than the scorer: readers of files must check sizes, and ours do.
    pub fn counts(&mut self, pred: &Mask, truth: &Mask) -> FrameCounts {
        for (mask, what) in [(pred, "predicted"), (truth, "true")] {
            assert!(
                self.fits(mask.width(), mask.height()),
                "{what} mask is {}x{}, the scorer was made for {}x{}",
                mask.width(),
                mask.height(),
                self.width,
                self.height
            );
        }
        self.truth.fill(truth);
        self.pred.fill(pred);
        let mut counts = FrameCounts { n_fg: self.pred.count, n_gt: self.truth.count, ..FrameCounts::default() };
        for y in 0..self.height as usize {
            let span = self.pred.mask_spans[y].join(self.truth.mask_spans[y]);
            let range = span.from as usize..span.to.max(span.from) as usize;
            let (p, t) = (&pred.row(y as u32)[range.clone()], &truth.row(y as u32)[range]);
            for (&p, &t) in p.iter().zip(t) {
                counts.inter += u64::from((p & t).count_ones());
                counts.pred_area += u64::from(p.count_ones());
                counts.truth_area += u64::from(t.count_ones());
            }
        }
        counts.union = counts.pred_area + counts.truth_area - counts.inter;
        if counts.n_fg > 0 && counts.n_gt > 0 {
            counts.fg_match = matches(&self.pred, &self.truth, &self.half, self.width);
            counts.gt_match = matches(&self.truth, &self.pred, &self.half, self.width);
        }
        counts
    }

    /// J and F for one pair.
    ///
    /// # Panics
    /// As [`FrameScorer::counts`].
    pub fn score(&mut self, pred: &Mask, truth: &Mask) -> FrameScore {
        self.counts(pred, truth).score()
    }
}

/// Number of pixels of `a` with a pixel of `b` inside the disk around them.
fn matches(a: &Boundary, b: &Boundary, half: &[u32], width: u32) -> u64 {
    let n = (width as usize).div_ceil(64);
    let mut matched = 0;
    for (y, span) in a.spans.iter().enumerate() {
        for i in span.from as usize..span.to as usize {
            let word = a.words[y * n + i];
            let alone = word & !b.words[y * n + i];
            let left = if alone == 0 { 0 } else { unmatched(alone, b, y, i, n, half) };
            matched += u64::from((word & !left).count_ones());
        }
    }
    matched
}

/// Which bits of `open` (columns `64 i ..`, row `y`) have no pixel of `b` inside the disk around them.
fn unmatched(mut open: u64, b: &Boundary, y: usize, i: usize, n: usize, half: &[u32]) -> u64 {
    for (d, &w) in half.iter().enumerate() {
        let above = y.checked_sub(d);
        let below = (d > 0 && y + d < b.spans.len()).then_some(y + d);
        for yy in above.into_iter().chain(below) {
            let span = b.spans[yy];
            let reach = w.div_ceil(64) as usize;
            if span.is_empty() || i + reach < span.from as usize || i >= span.to as usize + reach {
                continue;
            }
            let row = &b.words[yy * n..][..n];
            open &= !if w < 64 {
                let (left, right) = (if i == 0 { 0 } else { row[i - 1] }, row.get(i + 1).copied().unwrap_or(0));
                spread(left, row[i], right, w)
            } else {
                wide_spread(open, row, i, w)
            };
            if open == 0 {
                return 0;
            }
        }
    }
    open
}

/// Bits of the middle word that have a set bit within `w < 64` columns in the three words.
fn spread(left: u64, middle: u64, right: u64, w: u32) -> u64 {
    if left | middle | right == 0 {
        return 0;
    }
    let mut up = u128::from(middle) << 64 | u128::from(left);
    let mut down = u128::from(right) << 64 | u128::from(middle);
    let mut reached = 0;
    while reached < w {
        let step = (reached + 1).min(w - reached);
        up |= up << step;
        down |= down >> step;
        reached += step;
    }
    (up >> 64) as u64 | down as u64
}

/// As [`spread`] for any width, one bit of `open` at a time: only images beyond 8K have such radii.
fn wide_spread(open: u64, row: &[u64], i: usize, w: u32) -> u64 {
    let mut found = 0;
    let mut rest = open;
    while rest != 0 {
        let bit = rest.trailing_zeros();
        rest &= rest - 1;
        let x = i * 64 + bit as usize;
        let (from, to) = (x.saturating_sub(w as usize), (x + w as usize).min(row.len() * 64 - 1));
        let (first, last) = (from / 64, to / 64);
        let hit = (first..=last).any(|k| {
            let mut word = row[k];
            if k == first {
                word &= !0 << (from % 64);
            }
            if k == last {
                word &= !0 >> (63 - to % 64);
            }
            word != 0
        });
        found |= u64::from(hit) << bit;
    }
    found
}
