//! Pixels in, pixels out: a frame becomes the encoder's input tensor, a mask prompt becomes a model-size mask, and
//! low-resolution logits become a binary mask at source size. The arithmetic repeats PyTorch's to the bit where it can
//! (resize of 8-bit images) and in the same order of f32 operations elsewhere, because a model sees a difference of one
//! grey level as several hundredths of a logit.

use crate::RunnerError;
use crate::manifest::Input;
use crate::resize::Resize;
use crate::types::{Frame, Mask, ObjectMask};

/// Turns frames into the encoder's input: antialiased bilinear resize with 8-bit rounding, then `(v / 255 - mean) / std`
/// per channel, planes one after the other.
pub struct Preprocess {
    size: usize,
    resize: Resize,
    channels: [Channel; 3],
}

/// How the samples of one colour are normalised.
struct Channel {
    mean: f32,
    std: f32,
    /// Normalised value of each 8-bit value.
    table: [f32; 256],
    /// Does [`divided`] give exactly these values? Then it is used: vector registers have no room for the table.
    computes: bool,
}

impl Channel {
    fn new(mean: f32, std: f32) -> Channel {
        let table = std::array::from_fn(|v| (v as f32 / 255.0 - mean) / std);
        let (units, parts) = ([1.0 / 255.0, 255.0], [1.0 / std, std]);
        let exact = |v: u8| divided(divided(f32::from(v), units) - mean, parts).to_bits();
        let computes = (0..=255u8).all(|v| exact(v) == table[usize::from(v)].to_bits());
        Channel { mean, std, table, computes }
    }

    fn fill(&self, samples: &[u8], values: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        if self.computes && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the instructions are there.
            return unsafe { self.compute_with_fma(samples, values) };
        }
        #[cfg(target_arch = "aarch64")]
        if self.computes {
            return self.compute(samples, values);
        }
        for (value, &sample) in values.iter_mut().zip(samples) {
            *value = self.table[usize::from(sample)];
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn compute_with_fma(&self, samples: &[u8], values: &mut [f32]) {
        self.compute(samples, values);
    }

    /// Only where fused multiply-add is one instruction.
    #[inline(always)]
    #[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), expect(dead_code))]
    fn compute(&self, samples: &[u8], values: &mut [f32]) {
        let (units, parts) = ([1.0 / 255.0, 255.0], [1.0 / self.std, self.std]);
        for (value, &sample) in values.iter_mut().zip(samples) {
            *value = divided(divided(f32::from(sample), units) - self.mean, parts);
        }
    }
}

/// `a / b` by one step of Newton's method from the product with the rounded reciprocal: three operations that vector
/// units do in one cycle each, where a division takes ten. `by`: the reciprocal of `b`, and `b`.
#[inline(always)]
fn divided(a: f32, by: [f32; 2]) -> f32 {
    let [reciprocal, b] = by;
    let quotient = a * reciprocal;
    (-quotient).mul_add(b, a).mul_add(reciprocal, quotient)
}

impl Preprocess {
    /// For the input that a manifest describes.
    pub fn new(input: &Input) -> Self {
        let channels = std::array::from_fn(|c| Channel::new(input.mean[c], input.std[c]));
        Preprocess { size: input.size as usize, resize: Resize::new(input.size), channels }
    }

    /// The frame resized to `size` x `size` pixels, interleaved RGB. For comparisons; [`Preprocess::fill`] does not make it.
    ///
    /// # Errors
    /// [`RunnerError::Usage`] when the frame's bytes do not fit its size.
    pub fn resize(&mut self, frame: Frame<'_>) -> Result<Vec<u8>, RunnerError> {
        crate::check_frame(frame)?;
        let mut pixels = Vec::with_capacity(3 * self.size * self.size);
        self.resize.rows(frame, |_, row| {
            let (red, rest) = row.split_at(self.size);
            let (green, blue) = rest.split_at(self.size);
            pixels.extend(red.iter().zip(green).zip(blue).flat_map(|((r, g), b)| [*r, *g, *b]));
        });
        Ok(pixels)
    }

    /// Writes the normalised frame into `planes` (3 x `size` x `size`), row by row as it is resized.
    ///
    /// # Errors
    /// [`RunnerError::Usage`] when the frame's bytes do not fit its size.
    pub fn fill(&mut self, frame: Frame<'_>, planes: &mut [f32]) -> Result<(), RunnerError> {
        crate::check_frame(frame)?;
        let (size, channels) = (self.size, &self.channels);
        self.resize.rows(frame, |y, row| {
            for ((samples, plane), channel) in
                row.chunks_exact(size).zip(planes.chunks_exact_mut(size * size)).zip(channels)
            {
                channel.fill(samples, &mut plane[y * size..][..size]);
            }
        });
        Ok(())
    }

    /// Leaves the vector instructions of the resize alone, for comparisons.
    pub fn set_plain(&mut self, plain: bool) {
        self.resize.set_plain(plain);
    }
}

/// First source index and weights per target sample of PyTorch's antialiased bilinear filter for f32 images: a triangle
/// of half width max(1, source / target), cut off at the border and normalised to sum 1.
fn triangle_taps(source: u32, target: u32) -> Vec<(usize, Vec<f32>)> {
    let scale = source as f32 / target as f32;
    let support = scale.max(1.0);
    let shrink = 1.0 / support;
    let taps = |i: u32| {
        let centre = scale * (i as f32 + 0.5);
        let first = (centre - support + 0.5).max(0.0) as usize;
        let last = ((centre + support + 0.5) as usize).min(source as usize);
        let weight = |x: usize| (1.0 - ((x as f32 - centre + 0.5) * shrink).abs()).max(0.0);
        let mut weights: Vec<f32> = (first..last).map(weight).collect();
        let total: f32 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= total);
        (first, weights)
    };
    (0..target).map(taps).collect()
}

/// Writes a mask prompt at model size into `plane` (`size` x `size`): 1 where the antialiased bilinear resize of the
/// mask is 0.5 or more, else 0.
pub fn resize_mask(mask: &Mask, size: u32, plane: &mut [f32]) {
    let (width, height) = (mask.width() as usize, mask.height() as usize);
    let side = size as usize;
    let mut rows = vec![0f32; side * height];
    let columns = triangle_taps(mask.width(), size);
    for (y, row) in rows.chunks_exact_mut(side).enumerate() {
        if width == side {
            (0..side).for_each(|x| row[x] = f32::from(u8::from(mask.get(x as u32, y as u32))));
            continue;
        }
        for (value, (first, weights)) in row.iter_mut().zip(&columns) {
            let pixel = |i: usize| f32::from(u8::from(mask.get((first + i) as u32, y as u32)));
            *value = weights.iter().enumerate().map(|(i, w)| pixel(i) * w).sum();
        }
    }
    let lines = triangle_taps(mask.height(), size);
    for (y, out) in plane.chunks_exact_mut(side).enumerate() {
        for (x, out) in out.iter_mut().enumerate() {
            let value: f32 = if height == side {
                rows[y * side + x]
            } else {
                let (first, weights) = &lines[y];
                // Fused, as PyTorch's kernel is compiled: it decides exact ties at 0.5.
                weights.iter().enumerate().fold(0.0, |sum, (i, w)| rows[(first + i) * side + x].mul_add(*w, sum))
            };
            *out = f32::from(u8::from(value >= 0.5));
        }
    }
}

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
}

/// Pixels that are computed together.
const BLOCK: usize = 16;

/// Two neighbours and the weight of the second.
#[derive(Clone, Copy, Default)]
struct Tap {
    low: usize,
    high: usize,
    weight: f32,
}

fn bilinear_tap(i: u32, target: u32, source: usize) -> Tap {
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

    /// As [`Thresholder::mask`], into a mask of any size, whose memory is used again.
    pub fn fill(&mut self, logits: &[f32], side: usize, width: u32, height: u32, mask: &mut Mask) {
        self.prepare(side, width, height);
        mask.reset(width, height);
        if width == 0 {
            return;
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
                let pair = [tap.low, tap.high].map(|row| &logits[row * side..][..side]);
                self.compute(pair, first, rows);
            }
            first += last;
        }
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
    fn compute(&self, pair: [&[f32]; 2], first: u32, rows: &mut [u64]) {
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
                for (y, row) in rows.chunks_exact_mut(words).enumerate() {
                    let weight = bilinear_tap(first + y as u32, self.height, self.side).weight;
                    let (a, b) = (1.0 - weight, weight);
                    let mut flags = [0u8; BLOCK];
                    for ((flag, u), l) in flags.iter_mut().zip(&across[0]).zip(&across[1]) {
                        *flag = u8::from(a * u + b * l > 0.0);
                    }
                    let (low, high) = flags.split_at(8);
                    let found = (u16::from(eight(low)) | u16::from(eight(high)) << 8) & valid;
                    let word = &mut row[at / 64];
                    *word = *word & !(0xffff << (at % 64)) | u64::from(found) << (at % 64);
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
    use crate::manifest::{Colour, Resize};

    fn noise(count: usize, mut seed: u64) -> Vec<u8> {
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 32) as u8
        };
        (0..count).map(|_| next()).collect()
    }

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

    fn input(size: u32) -> Input {
        Input {
            size,
            resize: Resize::BilinearAntialiasU8,
            colour: Colour::Rgb,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }

    /// PyTorch's kernel for 8-bit images, written down: f64 weights as 16-bit fixed point with as many bits as fit,
    /// columns first, then rows, each rounded to 8 bits.
    fn reference(image: &[u8], width: usize, height: usize, size: usize) -> Vec<u8> {
        fn pass(image: &[u8], source: usize, lines: usize, size: usize, stride: usize, line: usize) -> Vec<u8> {
            let scale = source as f64 / size as f64;
            let support = scale.max(1.0);
            let taps: Vec<(usize, Vec<f64>)> = (0..size)
                .map(|i| {
                    let centre = scale * (i as f64 + 0.5);
                    let first = (centre - support + 0.5).max(0.0) as usize;
                    let last = ((centre + support + 0.5) as usize).min(source);
                    let w: Vec<f64> =
                        (first..last).map(|x| (1.0 - ((x as f64 - centre + 0.5) / support).abs()).max(0.0)).collect();
                    let total: f64 = w.iter().sum();
                    (first, w.iter().map(|w| w / total).collect())
                })
                .collect();
            let largest = taps.iter().flat_map(|t| &t.1).fold(0.0f64, |a, &b| a.max(b));
            let mut bits = 0;
            while bits < 22 && ((0.5 + largest * f64::from(1 << (bits + 1))) as i64) < 1 << 15 {
                bits += 1;
            }
            let mut out = vec![0; lines * size * 3];
            for l in 0..lines {
                for (i, (first, weights)) in taps.iter().enumerate() {
                    for c in 0..3 {
                        let mut sum = 1i64 << (bits - 1);
                        for (k, w) in weights.iter().enumerate() {
                            let fixed = (0.5 + w * f64::from(1 << bits)) as i64;
                            sum += fixed * i64::from(image[(first + k) * stride + l * line + c]);
                        }
                        let at = if stride == 3 { (l * size + i) * 3 } else { (i * lines + l) * 3 };
                        out[at + c] = (sum >> bits).clamp(0, 255) as u8;
                    }
                }
            }
            out
        }
        let wide = if width == size { image.to_vec() } else { pass(image, width, height, size, 3, width * 3) };
        if height == size { wide } else { pass(&wide, height, size, size, size * 3, 3) }
    }

    #[test]
    fn resize_equals_pytorchs_kernel_to_the_bit() {
        let sizes = [
            (96, 72),
            (192, 144),
            (256, 256),
            (256, 100),
            (100, 256),
            (320, 240),
            (640, 480),
            (854, 480),
            (511, 257),
            (37, 41),
            (1, 1),
            (1280, 720),
            (512, 512),
            (768, 1024),
            (3, 900),
        ];
        for size in [128u32, 250, 256] {
            for (w, h) in sizes {
                let rgb = noise(w * h * 3, (w * 31 + h) as u64);
                let mut preprocess = Preprocess::new(&input(size));
                let frame = Frame { width: w as u32, height: h as u32, rgb: &rgb };
                let theirs = reference(&rgb, w, h, size as usize);
                for plain in [false, true] {
                    preprocess.set_plain(plain);
                    let ours = preprocess.resize(frame).unwrap();
                    assert_eq!(ours.len(), theirs.len());
                    let different = ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
                    assert_eq!(
                        different,
                        0,
                        "{w}x{h} -> {size}, plain {plain}: {different} of {} differ",
                        theirs.len()
                    );
                }
            }
        }
    }

    #[test]
    fn fill_normalises_plane_by_plane() {
        let rgb = [0u8, 128, 255].repeat(16 * 16);
        let mut planes = vec![0.0; 3 * 16 * 16];
        let frame = Frame { width: 16, height: 16, rgb: &rgb };
        Preprocess::new(&input(16)).fill(frame, &mut planes).unwrap();
        assert_eq!(planes[0], -0.485 / 0.229);
        assert_eq!(planes[256], (128.0 / 255.0 - 0.456) / 0.224);
        assert_eq!(planes[767], (1.0 - 0.406) / 0.225);
    }

    #[test]
    fn mask_prompt_keeps_a_half_plane() {
        let mask = Mask::from_fn(200, 100, |x, _| x < 100);
        let mut plane = vec![9.0; 64 * 64];
        resize_mask(&mask, 64, &mut plane);
        assert!(plane.chunks(64).all(|row| row[..32].iter().all(|&v| v == 1.0) && row[32..].iter().all(|&v| v == 0.0)));
        let same = Mask::from_fn(64, 64, |x, y| (x * y) % 3 == 0);
        resize_mask(&same, 64, &mut plane);
        assert!((0..64 * 64).all(|i| (plane[i] == 1.0) == same.get(i as u32 % 64, i as u32 / 64)));
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
            thresholder.fill(&logits, side, width, height, &mut mask);
            proptest::prop_assert_eq!(&mask, &plain_threshold(&logits, side, width, height));
            thresholder.fill(&logits, side, width, height, &mut mask);
            proptest::prop_assert_eq!(&mask, &plain_threshold(&logits, side, width, height));
        }

        #[test]
        fn resize_equals_pytorchs_kernel_at_any_size(width in 1usize..400, height in 1usize..300, size in 1u32..300, seed in 1u64..u64::MAX) {
            let rgb = noise(width * height * 3, seed);
            let frame = Frame { width: width as u32, height: height as u32, rgb: &rgb };
            let theirs = reference(&rgb, width, height, size as usize);
            let mut preprocess = Preprocess::new(&input(size));
            proptest::prop_assert_eq!(&preprocess.resize(frame).unwrap(), &theirs);
            preprocess.set_plain(true);
            proptest::prop_assert_eq!(&preprocess.resize(frame).unwrap(), &theirs);
        }
    }

    #[test]
    fn computed_values_are_those_of_the_table() {
        let samples: Vec<u8> = (0..=255).collect();
        let mut all_compute = true;
        for (mean, std) in [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225), (0.5, 0.5), (0.0, 1.0), (0.1234567, 0.0101)]
        {
            let channel = Channel::new(mean, std);
            all_compute &= channel.computes;
            let mut values = [0f32; 256];
            channel.fill(&samples, &mut values);
            for (v, value) in values.iter().enumerate() {
                assert_eq!(value.to_bits(), ((v as f32 / 255.0 - mean) / std).to_bits(), "{v}, {mean}, {std}");
            }
        }
        assert!(all_compute, "the fast form is exact for ordinary constants");
    }
}
