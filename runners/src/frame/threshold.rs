//! How do low-resolution logits become a binary mask at source size, and whose is a pixel that several masks claim?

use std::ops::Range;

use crate::types::{Mask, ObjectMask};

/// Upsamples square low-resolution logits to source size (bilinear, half-pixel centres, edges clamped) and keeps the
/// sign only, as bits: there is no float image at source size, nor any part of one larger than 16 pixels.
///
/// An upsampled value is a weighted mean of four logits. Where none of the four is above 0, it is not above 0 either;
/// where all four are, and none is so small or so large that f32 would lose it, it is above 0. Only between logits of
/// both signs is anything computed, with the same operations in the same order as for a whole image.
#[derive(Default)]
pub struct Thresholder {
    side: usize,
    width: u32,
    height: u32,
    /// Per column of the mask, filled up to a multiple of [`BLOCK`].
    columns: Vec<Tap>,
    /// First column of the mask between logit columns `i` and `i + 1`, per `i`, and the mask's width.
    starts: Vec<u32>,
    /// Per row of logits, a bit per column `i`: logits `i` and `i + 1` are both above 0 (and of ordinary size).
    inside: Vec<u64>,
    /// Likewise: neither is above 0.
    outside: Vec<u64>,
    /// A row of the mask with the runs that lie inside.
    template: Vec<u64>,
    /// Blocks of the current rows that must be computed, a bit each.
    blocks: Vec<u64>,
    extent: Extent,
}

/// Where a mask has pixels, gathered while it is filled: to look for them afterwards means to read all of it.
#[derive(Default)]
struct Extent {
    /// The rows of the mask put together.
    columns: Vec<u64>,
    rows: Range<u32>,
}

impl Extent {
    fn reset(&mut self, words: usize) {
        self.columns.clear();
        self.columns.resize(words, 0);
        // No row yet: the first one that is added is less than the start and beyond the end.
        self.rows = Range { start: u32::MAX, end: 0 };
    }

    fn add_rows(&mut self, rows: Range<u32>) {
        self.rows = self.rows.start.min(rows.start)..self.rows.end.max(rows.end);
    }

    /// First column and row, last column + 1 and last row + 1.
    fn bbox(&self) -> Option<[u32; 4]> {
        let left = self.columns.iter().position(|word| *word != 0)?;
        let right = self.columns.iter().rposition(|word| *word != 0)?;
        let (first, last) = (self.columns[left].trailing_zeros(), 64 - self.columns[right].leading_zeros());
        Some([64 * left as u32 + first, self.rows.start, 64 * right as u32 + last, self.rows.end])
    }
}

/// Pixels that are computed together.
const BLOCK: usize = 16;

/// Two neighbours and the weight of the second.
#[derive(Clone, Copy, Default)]
pub(super) struct Tap {
    pub(super) low: usize,
    pub(super) high: usize,
    pub(super) weight: f32,
}

pub(super) fn bilinear_tap(i: u32, target: u32, source: usize) -> Tap {
    let scale = source as f32 / target as f32;
    let position = ((i as f32 + 0.5) * scale - 0.5).max(0.0);
    let low = (position as usize).min(source - 1);
    Tap { low, high: (low + 1).min(source - 1), weight: (position - low as f32).clamp(0.0, 1.0) }
}

/// Logits between these are above 0 in every weighted mean of them: a product with a weight of 1/2 or more does not
/// vanish, and none becomes infinite.
const ORDINARY: std::ops::RangeInclusive<f32> = 1e-30..=1e30;

impl Thresholder {
    /// Mask of the pixels whose upsampled logit is above 0. `logits`: `side` x `side`.
    pub fn mask(&mut self, logits: &[f32], side: usize, width: u32, height: u32) -> Mask {
        let mut mask = Mask::default();
        self.fill(logits, side, width, height, &mut mask);
        mask
    }

    /// As [`Thresholder::mask`], into a mask of any size, whose memory is used again. Returns the smallest box around its pixels:
    /// first column and row, last column + 1 and last row + 1; `None` where there are none.
    pub fn fill(&mut self, logits: &[f32], side: usize, width: u32, height: u32, mask: &mut Mask) -> Option<[u32; 4]> {
        self.prepare(side, width, height);
        mask.reset(width, height);
        self.extent.reset(mask.words_per_row());
        if width == 0 {
            return None;
        }
        self.classify(logits);
        let (bits, words) = (side.div_ceil(64), mask.words_per_row());
        let whole = |i: usize| if i == bits - 1 { u64::MAX >> (bits * 64 - side) } else { u64::MAX };
        let mut rest = mask.words_mut();
        let mut first = 0;
        while first < height {
            // All rows of the mask between the same two rows of logits.
            let tap = bilinear_tap(first, height, side);
            let last = (first..height).take_while(|&y| bilinear_tap(y, height, side).low == tap.low).count() as u32;
            let (rows, after) = rest.split_at_mut(last as usize * words);
            rest = after;
            let row = |of: &[u64], i: usize| of[tap.low * bits + i] & of[tap.high * bits + i];
            if (0..bits).any(|i| row(&self.outside, i) != whole(i)) {
                self.template.fill(0);
                self.blocks.fill(0);
                for i in 0..bits {
                    let (inside, outside) = (row(&self.inside, i), row(&self.outside, i));
                    let (starts, columns) = (&self.starts, self.width);
                    let span = |run: (usize, usize)| {
                        let at = |bit: usize| starts.get(i * 64 + bit).copied().unwrap_or(columns) as usize;
                        at(run.0)..at(run.1)
                    };
                    runs(inside, |run| set_bits(&mut self.template, span(run)));
                    runs(whole(i) & !inside & !outside, |run| {
                        let pixels = span(run);
                        if !pixels.is_empty() {
                            set_bits(&mut self.blocks, pixels.start / BLOCK..(pixels.end - 1) / BLOCK + 1);
                        }
                    });
                }
                rows.chunks_exact_mut(words).for_each(|row| row.copy_from_slice(&self.template));
                self.extent.columns.iter_mut().zip(&self.template).for_each(|(all, word)| *all |= word);
                if self.template.iter().any(|word| *word != 0) {
                    self.extent.add_rows(first..first + last);
                }
                let pair = [tap.low, tap.high].map(|row| &logits[row * side..][..side]);
                self.compute(pair, first, rows);
            }
            first += last;
        }
        self.extent.bbox()
    }

    fn prepare(&mut self, side: usize, width: u32, height: u32) {
        if (self.side, self.width, self.height) == (side, width, height) {
            return;
        }
        (self.side, self.width, self.height) = (side, width, height);
        self.columns.clear();
        self.columns.extend((0..width).map(|x| bilinear_tap(x, width, side)));
        self.starts.clear();
        for x in 0..width {
            let reached = self.columns[x as usize].low + 1;
            self.starts.resize(reached.max(self.starts.len()), x);
        }
        self.starts.resize(side + 1, width);
        self.columns.resize((width as usize).next_multiple_of(BLOCK), Tap::default());
        let words = (width as usize).div_ceil(64);
        for (part, length) in [
            (&mut self.inside, side * side.div_ceil(64)),
            (&mut self.outside, side * side.div_ceil(64)),
            (&mut self.template, words),
            (&mut self.blocks, words.div_ceil(BLOCK)),
        ] {
            part.clear();
            part.resize(length, 0);
        }
    }

    /// Fills `inside` and `outside`.
    fn classify(&mut self, logits: &[f32]) {
        let (side, bits) = (self.side, self.side.div_ceil(64));
        let rows = self.inside.chunks_exact_mut(bits).zip(self.outside.chunks_exact_mut(bits));
        for (row, (inside, outside)) in logits.chunks_exact(side).zip(rows) {
            for ((values, inside), outside) in row.chunks(64).zip(&mut *inside).zip(&mut *outside) {
                let (mut ordinary, mut above) = ([0u8; 64], [0u8; 64]);
                for ((&value, ordinary), above) in values.iter().zip(&mut ordinary).zip(&mut above) {
                    *ordinary = u8::from(value >= *ORDINARY.start()) & u8::from(value <= *ORDINARY.end());
                    *above = u8::from(value > 0.0);
                }
                (*inside, *outside) = (pack(&ordinary), !pack(&above));
            }
            // Each with its right neighbour; the last column is its own.
            for part in [inside, outside] {
                for i in 0..bits {
                    let next = match part.get(i + 1) {
                        Some(next) => next << 63,
                        None => part[i] & 1 << ((side - 1) % 64),
                    };
                    let kept = if i + 1 == bits { u64::MAX >> (bits * 64 - side) } else { u64::MAX };
                    part[i] &= (part[i] >> 1 & kept >> 1) | next & kept;
                }
            }
        }
    }

    /// Computes the marked blocks of `rows`, which begin at row `first` and lie between the logits of `pair`.
    fn compute(&mut self, pair: [&[f32]; 2], first: u32, rows: &mut [u64]) {
        let words = self.template.len();
        for (i, &marked) in self.blocks.iter().enumerate() {
            let mut marked = marked;
            while marked != 0 {
                let block = i * 64 + marked.trailing_zeros() as usize;
                marked &= marked - 1;
                let at = block * BLOCK;
                let taps = &self.columns[at..][..BLOCK];
                let mut across = [[0f32; BLOCK]; 2];
                for (across, row) in across.iter_mut().zip(pair) {
                    for (value, tap) in across.iter_mut().zip(taps) {
                        *value = (1.0 - tap.weight) * row[tap.low] + tap.weight * row[tap.high];
                    }
                }
                let valid = u16::MAX >> BLOCK.saturating_sub(self.width as usize - at);
                let (mut all, mut top, mut bottom) = (0, u32::MAX, 0);
                for (y, row) in (0..).zip(rows.chunks_exact_mut(words)) {
                    let weight = bilinear_tap(first + y, self.height, self.side).weight;
                    let (a, b) = (1.0 - weight, weight);
                    let mut flags = [0u8; BLOCK];
                    for ((flag, u), l) in flags.iter_mut().zip(&across[0]).zip(&across[1]) {
                        *flag = u8::from(a * u + b * l > 0.0);
                    }
                    let (low, high) = flags.split_at(8);
                    let found = (u16::from(eight(low)) | u16::from(eight(high)) << 8) & valid;
                    let word = &mut row[at / 64];
                    *word = *word & !(0xffff << (at % 64)) | u64::from(found) << (at % 64);
                    all |= found;
                    if found != 0 {
                        top = top.min(y);
                        bottom = y + 1;
                    }
                }
                if all != 0 {
                    self.extent.columns[at / 64] |= u64::from(all) << (at % 64);
                    self.extent.add_rows(first + top..first + bottom);
                }
            }
        }
    }

    /// Gives every pixel that several masks claim to the object with the highest upsampled logit there, the first of
    /// equals: what SAM 2's own evaluation does with the masks of one label map (`non_overlap_masks`). `logits` holds
    /// `side` x `side` values per mask, in the same order; the masks are those that [`Thresholder::fill`] made of them.
    pub fn resolve_overlaps(&mut self, objects: &mut [ObjectMask], logits: &[f32], side: usize) {
        let Some((width, height, words)) =
            objects.first().map(|o| (o.mask.width(), o.mask.height(), o.mask.words_per_row()))
        else {
            return;
        };
        self.prepare(side, width, height);
        for y in 0..height {
            for i in 0..words {
                let at = y as usize * words + i;
                let (mut once, mut contested) = (0, 0);
                for object in objects.iter() {
                    contested |= once & object.mask.words()[at];
                    once |= object.mask.words()[at];
                }
                while contested != 0 {
                    let bit = contested.trailing_zeros();
                    contested &= contested - 1;
                    let (row, column) = (bilinear_tap(y, height, side), self.columns[i * 64 + bit as usize]);
                    let mut best: Option<(usize, f32)> = None;
                    for (k, _) in objects.iter().enumerate().filter(|(_, o)| o.mask.words()[at] >> bit & 1 == 1) {
                        let plane = &logits[k * side * side..][..side * side];
                        let across = |y: usize| {
                            let row = &plane[y * side..][..side];
                            (1.0 - column.weight) * row[column.low] + column.weight * row[column.high]
                        };
                        let value = (1.0 - row.weight) * across(row.low) + row.weight * across(row.high);
                        if best.is_none_or(|(_, highest)| value > highest) {
                            best = Some((k, value));
                        }
                    }
                    let winner = best.map(|(k, _)| k);
                    for (_, object) in objects.iter_mut().enumerate().filter(|(k, _)| Some(*k) != winner) {
                        object.mask.words_mut()[at] &= !(1 << bit);
                    }
                }
            }
        }
    }
}

/// Calls `take` with begin and end of every run of ones.
fn runs(mut word: u64, mut take: impl FnMut((usize, usize))) {
    let mut at = 0;
    while word != 0 {
        let begin = at + word.trailing_zeros() as usize;
        word >>= word.trailing_zeros();
        let length = word.trailing_ones() as usize;
        take((begin, begin + length));
        at = begin + length;
        word = word.checked_shr(length as u32).unwrap_or(0);
    }
}

/// Sets a range of bits.
fn set_bits(words: &mut [u64], range: std::ops::Range<usize>) {
    let touched = words.iter_mut().enumerate().take(range.end.div_ceil(64)).skip(range.start / 64);
    for (i, word) in touched {
        let (from, to) = (range.start.saturating_sub(i * 64), (range.end - i * 64).min(64));
        if from < to {
            *word |= u64::MAX >> (64 - to) & u64::MAX << from;
        }
    }
}

/// 64 flags of 0 or 1 as bits, the first one lowest.
fn pack(flags: &[u8; 64]) -> u64 {
    flags.chunks_exact(8).enumerate().fold(0, |word, (i, flags)| word | u64::from(eight(flags)) << (8 * i))
}

/// Eight flags of 0 or 1 as bits.
fn eight(flags: &[u8]) -> u8 {
    let bytes = u64::from_le_bytes([flags[0], flags[1], flags[2], flags[3], flags[4], flags[5], flags[6], flags[7]]);
    // The product gathers bit 0 of every byte, in order, in the highest byte.
    (bytes.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{noise, tight};

    #[test]
    fn a_contested_pixel_goes_to_the_highest_logit() {
        let (side, width, height, objects) = (16usize, 150u32, 70u32, 3usize);
        let logits: Vec<f32> = noise(objects * side * side, 5).iter().map(|&v| (f32::from(v) - 110.0) / 16.0).collect();
        let mut thresholder = Thresholder::default();
        let alone: Vec<Mask> =
            logits.chunks_exact(side * side).map(|l| thresholder.mask(l, side, width, height)).collect();
        let object = |(i, mask): (usize, &Mask)| ObjectMask {
            object: i as u32,
            mask: mask.clone(),
            claimed: true,
            object_score: 1.0,
            predicted_iou: 1.0,
            finite: true,
        };
        let mut masks: Vec<ObjectMask> = alone.iter().enumerate().map(object).collect();
        thresholder.resolve_overlaps(&mut masks, &logits, side);
        let value = |k: usize, x: u32, y: u32| {
            let (row, column) = (bilinear_tap(y, height, side), bilinear_tap(x, width, side));
            let at = |y: usize, x: usize| logits[k * side * side + y * side + x];
            let across = |y: usize| (1.0 - column.weight) * at(y, column.low) + column.weight * at(y, column.high);
            (1.0 - row.weight) * across(row.low) + row.weight * across(row.high)
        };
        let mut contested = 0;
        for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
            let values: Vec<f32> = (0..objects).map(|k| value(k, x, y)).collect();
            let highest = values.iter().copied().fold(f32::MIN, f32::max);
            let owner = values.iter().position(|&v| v == highest).filter(|_| highest > 0.0);
            contested += usize::from(alone.iter().filter(|m| m.get(x, y)).count() > 1);
            let owners: Vec<usize> = (0..objects).filter(|&k| masks[k].mask.get(x, y)).collect();
            assert_eq!(owners, owner.into_iter().collect::<Vec<_>>(), "({x}, {y}): {values:?}");
        }
        assert!(contested > 1000, "{contested}");
    }

    /// Every pixel by itself.
    fn plain_threshold(logits: &[f32], side: usize, width: u32, height: u32) -> Mask {
        Mask::from_fn(width, height, |x, y| {
            let (cx, cy) = (bilinear_tap(x, width, side), bilinear_tap(y, height, side));
            let row = |r: usize| (1.0 - cx.weight) * logits[r * side + cx.low] + cx.weight * logits[r * side + cx.high];
            (1.0 - cy.weight) * row(cy.low) + cy.weight * row(cy.high) > 0.0
        })
    }

    #[test]
    fn threshold_equals_the_plain_form() {
        let mut thresholder = Thresholder::default();
        for (round, (w, h)) in
            [(96, 72), (64, 64), (300, 33), (65, 1), (1, 7), (854, 480), (20, 20)].into_iter().enumerate()
        {
            let side = 32;
            let bytes = noise(side * side, round as u64 + 1);
            // smooth-ish logits with empty rows, so that every branch is taken
            let logits: Vec<f32> = (0..side * side)
                .map(|i| if i / side % 7 < 3 { -5.0 } else { f32::from(bytes[i]) / 32.0 - 4.0 })
                .collect();
            let mask = thresholder.mask(&logits, side, w, h);
            assert_eq!(mask, plain_threshold(&logits, side, w, h), "{w}x{h}");
            let bbox = thresholder.fill(&logits, side, w, h, &mut Mask::default());
            assert_eq!(bbox.map(|bbox| bbox.map(f64::from)), tight(&mask), "{w}x{h}");
            assert!(!mask.is_full() && (h == 1 || w == 1 || !mask.is_empty()), "{w}x{h}: the case must show something");
        }
        assert!(thresholder.mask(&[f32::NAN; 16], 4, 10, 10).is_empty());
        assert!(thresholder.mask(&[1.0; 16], 4, 130, 10).is_full());
        assert_eq!(thresholder.mask(&[1.0; 16], 4, 0, 0), Mask::empty(0, 0));
    }

    /// Values at which a shortcut by signs could go wrong, beside ordinary ones.
    const EDGES: [f32; 16] = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        0.0,
        -0.0,
        1e-45,
        -1e-45,
        1e-38,
        1e-31,
        1e-30,
        1e30,
        3e38,
        -3e38,
        1.0,
        -1.0,
        1e-20,
    ];

    proptest::proptest! {
        #[test]
        fn threshold_equals_the_plain_form_everywhere(
            side in 1usize..140,
            width in 1u32..200,
            height in 1u32..90,
            seed in 1u64..u64::MAX,
            island in 1usize..20,
            edges in 0u8..60,
        ) {
            let bytes = noise(2 * side * side, seed);
            // Islands of one sign, ragged where the noise outweighs the sign, with edge values strewn in.
            let logits: Vec<f32> = (0..side * side)
                .map(|i| match bytes[i] {
                    edge if edge < edges => EDGES[usize::from(bytes[side * side + i]) % EDGES.len()],
                    value => {
                        let sign = (i / side / island + i % side / island) % 2;
                        f32::from(value) / 16.0 - 3.0 - 8.0 * sign as f32
                    }
                })
                .collect();
            let mut thresholder = Thresholder::default();
            // Left over from another size: nothing of it may show.
            let mut mask = thresholder.mask(&[2.0; 9], 3, 77, 31);
            let plain = plain_threshold(&logits, side, width, height);
            for _ in 0..2 {
                let bbox = thresholder.fill(&logits, side, width, height, &mut mask);
                proptest::prop_assert_eq!(&mask, &plain);
                proptest::prop_assert_eq!(bbox.map(|bbox| bbox.map(f64::from)), tight(&plain));
            }
        }
    }
}
