//! J and F of one pair of masks, exactly as the three reference evaluators compute them, on bit-packed rows. The
//! boundary map is the references' half-pixel-offset one; "within the tolerance" is the exact Euclidean disk. No disk is
//! ever drawn: boundary pixels that have no partner at the same place look around themselves, one 64-pixel word at a
//! time, nearest rows first. Where that takes long, pixels without a partner even in the square around the disk are
//! sorted out first (masks far apart); where it still does (noise), the runs of the other boundary are painted, longer by
//! the disk's half width, into the rows above and below instead.

mod disk;

use jetbench_runners::types::Mask;

use self::disk::FractionalDisk;
use super::FrameScore;
use super::mosev2::{self, MoseFrame};

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
        self.f_of((self.fg_match, self.gt_match))
    }

    /// F with other matches (of the prediction, of the truth) than those within the usual tolerance.
    fn f_of(&self, (fg_match, gt_match): (u64, u64)) -> f64 {
        let (precision, recall) = match (self.n_fg, self.n_gt) {
            (0, 0) => (1.0, 1.0),
            (0, _) => (1.0, 0.0),
            (_, 0) => (0.0, 1.0),
            (fg, gt) => (fg_match as f64 / fg as f64, gt_match as f64 / gt as f64),
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
    (threshold * diagonal(width, height)).ceil() as u32
}

/// Diagonal of an image, pixels.
fn diagonal(width: u32, height: u32) -> f64 {
    let (w, h) = (u64::from(width), u64::from(height));
    ((h * h + w * w) as f64).sqrt()
}

/// Half widths of the rows of a disk of `radius` pixels, from its middle row on.
fn half_widths(radius: u32, height: u32) -> Vec<u32> {
    let r = u64::from(radius);
    // No pixel has a partner farther away than the image is large.
    (0..=r.min(u64::from(height))).map(|d| (r * r - d * d).isqrt() as u32).collect()
}

/// Half-open range of non-zero words in a row; empty when `from >= to`.
#[derive(Clone, Copy, Default)]
struct ColumnSpan {
    from: u32,
    to: u32,
}

impl ColumnSpan {
    #[inline(always)]
    fn of(row: &[u64]) -> ColumnSpan {
        match row.iter().position(|&w| w != 0) {
            None => ColumnSpan::default(),
            Some(from) => {
                let to = row.iter().rposition(|&w| w != 0).map_or(from, |i| i + 1);
                ColumnSpan { from: from as u32, to: to as u32 }
            }
        }
    }

    #[inline(always)]
    fn is_empty(self) -> bool {
        self.from >= self.to
    }

    #[inline(always)]
    fn join(self, other: ColumnSpan) -> ColumnSpan {
        if self.is_empty() {
            other
        } else if other.is_empty() {
            self
        } else {
            ColumnSpan { from: self.from.min(other.from), to: self.to.max(other.to) }
        }
    }
}

/// Boundary map of a mask: bit-packed like the mask, with the non-zero span of each row.
#[derive(Default)]
struct Boundary {
    /// Words of rows with an empty span may hold anything.
    words: Vec<u64>,
    spans: Vec<ColumnSpan>,
    mask_spans: Vec<ColumnSpan>,
    count: u64,
}

impl Boundary {
    /// A pixel is boundary where it differs from its right, lower or lower right neighbour; the last row and column
    /// count as repeated beyond the image, which gives the references' border rules.
    #[inline(always)]
    fn fill(&mut self, mask: &Mask) {
        let (n, height) = (mask.words_per_row(), mask.height() as usize);
        // What an earlier mask left is cleared row by row, where a row is used.
        self.words.resize(n * height, 0);
        self.spans.clear();
        self.mask_spans.clear();
        self.mask_spans.extend((0..height).map(|y| ColumnSpan::of(mask.row(y as u32))));
        self.count = 0;
        let last_bit = 1u64 << ((mask.width().max(1) - 1) % 64);
        for y in 0..height {
            let below_y = (y + 1).min(height - 1);
            let span = self.mask_spans[y].join(self.mask_spans[below_y]);
            if span.is_empty() {
                self.spans.push(ColumnSpan::default());
                continue;
            }
            // The pixel left of the span sees the span's first pixel.
            let span = ColumnSpan { from: span.from.saturating_sub(1), to: span.to };
            let (row, below) = (mask.row(y as u32), mask.row(below_y as u32));
            let out = &mut self.words[y * n..][..n];
            out.fill(0);
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
            self.spans.push(ColumnSpan::of(out));
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
    scratch: Scratch,
}

/// Working memory of [`matches`].
#[derive(Default)]
struct Scratch {
    wide: Vec<u64>,
    column: KernelColumn,
}

impl FrameScorer {
    /// Scorer for masks of `width` x `height` pixels; `threshold` as in [`tolerance_radius`]
    /// ([`BOUNDARY_THRESHOLD`] is the references').
    pub fn new(width: u32, height: u32, threshold: f64) -> Self {
        FrameScorer {
            width,
            height,
            half: half_widths(tolerance_radius(width, height, threshold), height),
            pred: Boundary::default(),
            truth: Boundary::default(),
            scratch: Scratch::default(),
        }
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
        self.dispatch(pred, truth, false).0
    }

    /// Counts for one pair, and MOSEv2's values of it. Its F is that of the counts where its own tolerance is tighter, so the
    /// scorer must have been made with [`BOUNDARY_THRESHOLD`].
    ///
    /// # Panics
    /// As [`FrameScorer::counts`].
    pub fn mosev2(&mut self, pred: &Mask, truth: &Mask) -> (FrameCounts, MoseFrame) {
        let (counts, [usual, tight]) = self.dispatch(pred, truth, true);
        let (f, f_dot) = (counts.f_of(usual), counts.f_of(tight));
        (counts, MoseFrame { j: mosev2::j(counts.inter, counts.union), f, f_dot, gone: counts.truth_area == 0 })
    }

    /// Counts; and, where `mosev2` is wanted, its matches for F and for Ḟ.
    fn dispatch(&mut self, pred: &Mask, truth: &Mask, mosev2: bool) -> (FrameCounts, [(u64, u64); 2]) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("popcnt")
            && std::arch::is_x86_feature_detected!("bmi1")
        {
            // SAFETY: the processor has just said that it has them.
            return unsafe { self.counts_avx2(pred, truth, mosev2) };
        }
        self.counts_here(pred, truth, mosev2)
    }

    /// The same code, compiled for processors of the last ten years: counting bits is one instruction there, and many
    /// without.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,popcnt,bmi1")]
    fn counts_avx2(&mut self, pred: &Mask, truth: &Mask, mosev2: bool) -> (FrameCounts, [(u64, u64); 2]) {
        self.counts_here(pred, truth, mosev2)
    }

    #[inline(always)]
    fn counts_here(&mut self, pred: &Mask, truth: &Mask, mosev2: bool) -> (FrameCounts, [(u64, u64); 2]) {
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
            counts.fg_match = matches(&self.pred, &self.truth, &self.half, self.width, &mut self.scratch);
            counts.gt_match = matches(&self.truth, &self.pred, &self.half, self.width, &mut self.scratch);
        }
        let matched = if mosev2 { self.mosev2_matches(&counts) } else { Default::default() };
        (counts, matched)
    }

    /// MOSEv2's matches (of the prediction, of the truth) for F and for Ḟ, of the masks whose boundaries were found last. Its
    /// tolerance is a tenth of the side of a square as large as the object, in whole pixels; or, for both, 0.008 of the diagonal
    /// as a fraction, where that is not wider (`f_measure_adaptive` in its `metricsv2.py`).
    #[inline(always)]
    fn mosev2_matches(&mut self, counts: &FrameCounts) -> [(u64, u64); 2] {
        let usual = (counts.fg_match, counts.gt_match);
        if counts.n_fg == 0 || counts.n_gt == 0 {
            return [usual; 2];
        }
        let widest = BOUNDARY_THRESHOLD * diagonal(self.width, self.height);
        let own = (mosev2::TOLERANCE * (counts.truth_area as f64).sqrt()).ceil();
        if own < widest {
            let half = half_widths(own as u32, self.height);
            let fg = matches(&self.pred, &self.truth, &half, self.width, &mut self.scratch);
            return [usual, (fg, matches(&self.truth, &self.pred, &half, self.width, &mut self.scratch))];
        }
        let n = (self.width as usize).div_ceil(64);
        let disk = FractionalDisk::new(widest);
        let fg = disk.matches(&self.pred, &self.truth, n, &mut self.scratch.wide);
        [(fg, disk.matches(&self.truth, &self.pred, n, &mut self.scratch.wide)); 2]
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
#[inline(always)]
fn matches(a: &Boundary, b: &Boundary, half: &[u32], width: u32, scratch: &mut Scratch) -> u64 {
    let n = (width as usize).div_ceil(64);
    let rows = b.spans.iter().filter(|s| !s.is_empty()).count();
    // Searching knows one word to either side only.
    let mut finder = if half[0] < 64 { Finder::Search } else { Finder::Widen };
    let mut budget = SECOND_BUDGET * rows;
    if finder == Finder::Widen {
        widen(b, half, n, &mut scratch.wide);
    }
    let mut matched = 0;
    for (y, span) in a.spans.iter().enumerate() {
        for i in span.from as usize..span.to as usize {
            let word = a.words[y * n + i];
            let alone = if b.spans[y].is_empty() { word } else { word & !b.words[y * n + i] };
            if alone == 0 {
                matched += u64::from(word.count_ones());
                continue;
            }
            let left = loop {
                let found = match finder {
                    Finder::Search => search(alone, b, y, i, n, half, &mut { FIRST_BUDGET }),
                    Finder::Square => match scratch.column.near(alone, y, i, half[0]) {
                        0 => Some(alone),
                        near => search(near, b, y, i, n, half, &mut budget).map(|left| left | alone & !near),
                    },
                    Finder::Widen => Some(alone & !scratch.wide[y * n + i]),
                };
                if let Some(left) = found {
                    break left;
                }
                if finder == Finder::Search {
                    scratch.column.fill(b, half.len() - 1, n);
                    finder = Finder::Square;
                } else {
                    widen(b, half, n, &mut scratch.wide);
                    finder = Finder::Widen;
                }
            };
            matched += u64::from((word & !left).count_ones());
        }
    }
    matched
}

/// How pixels of one boundary look for partners on the other, from the cheapest to the one that never gets worse.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Finder {
    /// Around themselves.
    Search,
    /// The same, for those that have one in the square around the disk.
    Square,
    /// In the other boundary, dilated.
    Widen,
}

/// Rows looked at for one word before the square is tried: masks that agree need less.
const FIRST_BUDGET: usize = 8;
/// Rows looked at after that, per non-empty row of the other boundary, before [`widen`] takes over: a fraction of its cost.
const SECOND_BUDGET: usize = 16;

/// A boundary dilated by the disk's radius, upwards and downwards only.
#[derive(Default)]
struct KernelColumn {
    /// Words of the rows from `top` on, `words` each, starting with the row's word `from`.
    bits: Vec<u64>,
    spare: Vec<u64>,
    /// First row; below 0 where the dilation leaves the image.
    top: isize,
    from: usize,
    words: usize,
}

impl KernelColumn {
    /// Dilates `b` by `reach` rows. Rows of the result are ORs of `2 reach + 1` rows, put together by doubling.
    #[inline(always)]
    fn fill(&mut self, b: &Boundary, reach: usize, n: usize) {
        let filled = |s: &&ColumnSpan| !s.is_empty();
        let all = b.spans.iter().filter(filled).fold(ColumnSpan::default(), |all, s| all.join(*s));
        let first = b.spans.iter().position(|s| !s.is_empty()).unwrap_or(0);
        let last = b.spans.iter().rposition(|s| !s.is_empty()).unwrap_or(0);
        let (from, words) = (all.from as usize, (all.to - all.from) as usize);
        (self.from, self.words, self.top) = (from, words, first as isize - reach as isize);
        self.bits.clear();
        self.bits.resize(2 * reach * words, 0);
        for y in first..=last {
            if b.spans[y].is_empty() {
                self.bits.resize(self.bits.len() + words, 0); // the row's words are not kept up
            } else {
                self.bits.extend_from_slice(&b.words[y * n + from..][..words]);
            }
        }
        // Row t becomes the OR of the rows t ..= t + 2 reach: those of the image from `top + t - reach` on.
        let (mut window, wanted) = (1, 2 * reach + 1);
        while window < wanted {
            let step = window.min(wanted - window);
            let shift = (step * words).min(self.bits.len());
            self.spare.clear();
            self.spare.extend(self.bits.iter().zip(&self.bits[shift..]).map(|(a, b)| a | b));
            self.spare.extend_from_slice(&self.bits[self.bits.len() - shift..]);
            std::mem::swap(&mut self.bits, &mut self.spare);
            window += step;
        }
    }

    /// Which bits of `open` (columns `64 i ..`, row `y`) have a pixel in the square of `reach < 64` around them.
    #[inline(always)]
    fn near(&self, open: u64, y: usize, i: usize, reach: u32) -> u64 {
        let start = (y as isize - self.top) * self.words as isize;
        let row = usize::try_from(start).ok().and_then(|start| self.bits.get(start..start + self.words));
        let Some(row) = row else { return 0 };
        let word = |i: Option<usize>| i.and_then(|i| i.checked_sub(self.from)).and_then(|i| row.get(i)).copied();
        let [left, middle, right] = [i.checked_sub(1), Some(i), Some(i + 1)].map(|i| word(i).unwrap_or(0));
        open & spread(left, middle, right, reach)
    }
}

/// Which bits of `open` (columns `64 i ..`, row `y`) have no pixel of `b` inside the disk around them; `None` when the
/// budget of rows to look at is used up.
#[inline(always)]
fn search(mut open: u64, b: &Boundary, y: usize, i: usize, n: usize, half: &[u32], budget: &mut usize) -> Option<u64> {
    for (d, &w) in half.iter().enumerate() {
        let below = (d > 0 && y + d < b.spans.len()).then_some(y + d);
        for yy in y.checked_sub(d).into_iter().chain(below) {
            let span = b.spans[yy];
            if span.is_empty() || i + 1 < span.from as usize || i > span.to as usize {
                continue;
            }
            *budget = budget.checked_sub(1)?;
            let row = &b.words[yy * n..][..n];
            let (left, right) = (if i == 0 { 0 } else { row[i - 1] }, row.get(i + 1).copied().unwrap_or(0));
            open &= !if open & (open - 1) == 0 {
                // One pixel, as on upright edges: is anything in its part of the row?
                let at = open.trailing_zeros();
                let middle = row[i] & (!0 << at.saturating_sub(w)) & (!0 >> 63u32.saturating_sub(at + w));
                let before = if w > at { left >> (64 + at - w) } else { 0 };
                let after = if at + w > 63 { right << (127 - at - w) } else { 0 };
                if middle | before | after == 0 { 0 } else { open }
            } else {
                spread(left, row[i], right, w)
            };
            if open == 0 {
                return Some(0);
            }
        }
    }
    Some(open)
}

/// Bits of the middle word that have a set bit within `w < 64` columns in the three words.
#[inline(always)]
fn spread(left: u64, middle: u64, right: u64, w: u32) -> u64 {
    if left | middle | right == 0 {
        return 0;
    }
    // Upwards out of `left`, downwards out of `right`, by doubling; shifts of two words at once.
    let (mut below, mut up) = (left, middle);
    let (mut down, mut above) = (middle, right);
    let mut reached = 0;
    while reached < w {
        let step = (reached + 1).min(w - reached);
        up |= up << step | below >> (64 - step);
        below |= below << step;
        down |= down >> step | above << (64 - step);
        above |= above >> step;
        reached += step;
    }
    up | down
}

/// Rows with more runs than this are widened as a whole: painting each run of a noisy row would be slower.
const MANY_RUNS: u32 = 24;

/// Dilates `b` by the disk into `wide`.
#[inline(always)]
fn widen(b: &Boundary, half: &[u32], n: usize, wide: &mut Vec<u64>) {
    wide.clear();
    wide.resize(n * b.spans.len(), 0);
    for (y, span) in b.spans.iter().enumerate().filter(|(_, s)| !s.is_empty()) {
        let row = &b.words[y * n..][..n];
        let within = &row[span.from as usize..span.to as usize];
        let starts: u32 = within.iter().map(|w| (w & !(w << 1)).count_ones()).sum();
        if starts > MANY_RUNS {
            widen_row(row, *span, y, half, n, wide);
            continue;
        }
        let mut x = span.from as usize * 64;
        while let Some(start) = next_bit(row, x, true) {
            let end = next_bit(row, start, false).unwrap_or(n * 64);
            for (d, &w) in half.iter().enumerate() {
                let (from, last) = (start.saturating_sub(w as usize), (end + w as usize).min(n * 64) - 1);
                let below = (d > 0 && y + d < b.spans.len()).then_some(y + d);
                for yy in y.checked_sub(d).into_iter().chain(below) {
                    paint(&mut wide[yy * n..][..n], from, last);
                }
            }
            x = end;
        }
    }
}

/// Sets the bits of the columns `from..=last`.
#[inline(always)]
fn paint(row: &mut [u64], from: usize, last: usize) {
    let (head, tail) = (!0u64 << (from % 64), !0u64 >> (63 - last % 64));
    let words = from / 64..last / 64;
    if words.is_empty() {
        row[words.end] |= head & tail;
    } else {
        row[words.start] |= head;
        row[words.start + 1..words.end].fill(!0);
        row[words.end] |= tail;
    }
}

/// First column from `x` on whose bit is `set`.
#[inline(always)]
fn next_bit(row: &[u64], x: usize, set: bool) -> Option<usize> {
    let flip = if set { 0 } else { !0 };
    let mut i = x / 64;
    let mut word = (row.get(i)? ^ flip) & !0 << (x % 64);
    while word == 0 {
        i += 1;
        word = row.get(i)? ^ flip;
    }
    Some(i * 64 + word.trailing_zeros() as usize)
}

/// Widens one row step by step as the disk's rows get longer towards its middle, and puts it over the rows above and
/// below.
#[inline(always)]
fn widen_row(row: &[u64], span: ColumnSpan, y: usize, half: &[u32], n: usize, wide: &mut [u64]) {
    let reach = half.first().map_or(0, |w| w.div_ceil(64) as usize);
    let (from, to) = ((span.from as usize).saturating_sub(reach), (span.to as usize + reach).min(n));
    let mut run = row[from..to].to_vec();
    let mut next = run.clone();
    let mut reached = 0;
    for (d, &w) in half.iter().enumerate().rev() {
        while reached < w {
            // A run of 2 reached + 1 pixels may jump by as much without leaving a gap.
            let step = (2 * reached + 1).min(w - reached).min(63);
            for (i, out) in next.iter_mut().enumerate() {
                let left = if i == 0 { 0 } else { run[i - 1] };
                let right = run.get(i + 1).copied().unwrap_or(0);
                *out = run[i] | run[i] << step | left >> (64 - step) | run[i] >> step | right << (64 - step);
            }
            std::mem::swap(&mut run, &mut next);
            reached += step;
        }
        let height = wide.len() / n;
        let below = (d > 0 && y + d < height).then_some(y + d);
        for yy in y.checked_sub(d).into_iter().chain(below) {
            for (out, r) in wide[yy * n + from..yy * n + to].iter_mut().zip(&run) {
                *out |= r;
            }
        }
    }
}
