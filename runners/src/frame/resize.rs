//! PyTorch's antialiased resize of 8-bit images, bilinear or bicubic, to the bit, as a stream: a few resampled source rows are kept in
//! a ring that fits the first-level cache, and every target row is handed on as soon as it is complete, so that no
//! intermediate image is ever written to memory. Tap weights depend on sizes alone and are kept between frames: a frame
//! allocates nothing.
//!
//! The arithmetic is fixed point: weights have 16 bits, with as many of them behind the point as the largest allows;
//! columns come first and are rounded to 8 bits, then rows, rounded likewise. A pass that keeps the size has the weights
//! 1 and 0 and gives the pixels back as they were. Integer sums have no order, so the vector forms are equal to the
//! plain one by construction; tests compare both with PyTorch's kernel written down.

use crate::manifest::ResizeFilter;
use crate::types::Frame;

/// Taps of one pass: for each target sample the first source sample and the weights of it and those that follow.
#[derive(Default)]
struct Taps {
    /// Samples of the source.
    source: usize,
    /// First source sample of each target sample; ascending.
    first: Vec<u32>,
    /// `count` weights per target sample, zeros behind the last that counts.
    weights: Vec<i16>,
    /// Weights per target sample, a multiple of 4.
    count: usize,
    /// Bits behind the point.
    bits: u32,
}

impl Taps {
    /// The filter's kernel, stretched by max(1, source / target), around each target sample's centre, cut off at the border and
    /// normalised to sum 1, in f64, then rounded to fixed point.
    fn new(filter: ResizeFilter, source: u32, target: u32) -> Taps {
        let scale = f64::from(source) / f64::from(target);
        let stretch = scale.max(1.0);
        let support = stretch * reach(filter);
        let window = |i: u32| {
            let centre = scale * (f64::from(i) + 0.5);
            let first = (centre - support + 0.5).max(0.0) as u32;
            let last = ((centre + support + 0.5) as u32).min(source);
            let weight = move |x: u32| kernel(filter, (f64::from(x) - centre + 0.5) / stretch);
            let total: f64 = (first..last).map(weight).sum();
            (first, (first..last).map(move |x| weight(x) / total))
        };
        let windows = || (0..target).map(window);
        let largest = windows().flat_map(|(_, w)| w).fold(0.0, f64::max);
        let fits = |bits: u32| 0.5 + largest * f64::from(1u32 << bits) < f64::from(1u32 << 15);
        let bits = (1..=22).take_while(|&bits| fits(bits)).last().unwrap_or(0);
        let count = windows().map(|(_, w)| w.count()).max().unwrap_or(1).next_multiple_of(4);
        let mut taps = Taps { source: source as usize, first: Vec::new(), weights: Vec::new(), count, bits };
        for (first, weights) in windows() {
            taps.first.push(first);
            taps.weights.extend(weights.map(|w| (0.5f64.copysign(w) + w * f64::from(1u32 << bits)) as i16));
            taps.weights.resize(taps.first.len() * count, 0);
        }
        taps
    }

    /// Half a unit, in fixed point: what makes the shift round.
    fn half(&self) -> i32 {
        1 << (self.bits - 1)
    }
}

/// Half width of a filter's kernel, samples of the coarser grid.
fn reach(filter: ResizeFilter) -> f64 {
    match filter {
        ResizeFilter::BilinearAntialiasU8 => 1.0,
        ResizeFilter::BicubicAntialiasU8 => 2.0,
    }
}

/// A filter's weight at a distance: a triangle, or the cubic convolution of Keys with a = -0.5.
fn kernel(filter: ResizeFilter, at: f64) -> f64 {
    let x = at.abs();
    match filter {
        ResizeFilter::BilinearAntialiasU8 => (1.0 - x).max(0.0),
        ResizeFilter::BicubicAntialiasU8 if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        ResizeFilter::BicubicAntialiasU8 if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
        ResizeFilter::BicubicAntialiasU8 => 0.0,
    }
}

/// Pixels that are there a few rows at a time: a frame in memory, or a crop that is larger than its frame.
pub trait Rows {
    /// Columns and rows.
    fn size(&self) -> [usize; 2];

    /// Two of the rows, interleaved RGB.
    fn pair(&mut self, rows: [usize; 2]) -> [&[u8]; 2];

    /// Is this row of one colour, the same as all such rows? Then it is resampled once.
    fn blank(&self, _row: usize) -> bool {
        false
    }
}

impl Rows for Frame<'_> {
    fn size(&self) -> [usize; 2] {
        [self.width as usize, self.height as usize]
    }

    #[inline]
    fn pair(&mut self, rows: [usize; 2]) -> [&[u8]; 2] {
        let bytes = self.width as usize * 3;
        rows.map(|row| &self.rgb[row * bytes..][..bytes])
    }
}

/// Turns frames into pixels of another size, row by row.
pub struct Resizer {
    filter: ResizeFilter,
    /// Columns and rows of the result.
    size: [usize; 2],
    columns: Taps,
    rows: Taps,
    /// Resampled source rows, `ring_rows` of them, a power of 2: row `y` in place `y % ring_rows`.
    ring: Vec<u8>,
    ring_rows: usize,
    /// The target row that was completed last.
    line: Vec<u8>,
    plain: bool,
}

impl Resizer {
    /// To `width` x `height` pixels.
    pub fn new(filter: ResizeFilter, width: u32, height: u32) -> Resizer {
        let size = [width as usize, height as usize];
        let line = vec![0; 3 * size[0]];
        let (columns, rows) = (Taps::default(), Taps::default());
        Resizer { filter, size, columns, rows, ring: Vec::new(), ring_rows: 0, line, plain: false }
    }

    /// Leaves the vector instructions alone, for comparisons.
    pub fn set_plain(&mut self, plain: bool) {
        self.plain = plain;
    }

    /// Resizes a frame, whose bytes fit its size, or a crop, and hands on each target row in turn: its number and its samples, first
    /// all red, then all green, then all blue.
    pub fn rows(&mut self, mut source: impl Rows, mut take: impl FnMut(usize, &[u8])) {
        let ([size, lines], [across, height]) = (self.size, source.size());
        if self.columns.source != across {
            self.columns = Taps::new(self.filter, across as u32, size as u32);
        }
        if self.rows.source != height {
            self.rows = Taps::new(self.filter, height as u32, lines as u32);
            // Room for one window and the second row of the pair that is resampled together.
            self.ring_rows = (self.rows.count + 2).next_power_of_two();
            self.ring.clear();
            self.ring.resize(self.ring_rows * 3 * size, 0);
        }
        let wide = 3 * size;
        let mut ready = 0;
        // What becomes of a blank row.
        let mut blank: Option<Vec<u8>> = None;
        for y in 0..lines {
            let window = self.rows.first[y] as usize;
            let weights = &self.rows.weights[y * self.rows.count..][..self.rows.count];
            while ready < (window + self.rows.count).min(height) {
                // Two source rows at a time; the last one of an odd number goes twice.
                let next = (ready + 1).min(height - 1);
                let place = ready % self.ring_rows;
                debug_assert!(place + 1 < self.ring_rows);
                let (first, second) = self.ring[place * wide..][..2 * wide].split_at_mut(wide);
                match blank.as_ref().filter(|_| source.blank(ready) && source.blank(next)) {
                    Some(blank) => [first, second].into_iter().for_each(|row| row.copy_from_slice(blank)),
                    None => {
                        let pair = source.pair([ready, next]);
                        resample_columns(self.plain, &self.columns, pair, [&mut *first, second]);
                        blank = blank.or_else(|| source.blank(ready).then(|| first.to_vec()));
                    }
                }
                ready += 2;
            }
            let places: usize = self.ring_rows;
            let row = |tap: usize| &self.ring[(window + tap) % places * wide..][..wide];
            resample_rows(self.plain, row, weights, self.rows.half(), self.rows.bits, &mut self.line);
            take(y, &self.line);
        }
    }
}

/// Columns of two source rows (interleaved RGB) to two rows of planes.
fn resample_columns(plain: bool, taps: &Taps, from: [&[u8]; 2], to: [&mut [u8]; 2]) {
    let [first, second] = to;
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if !plain && is_x86_feature_detected!("avx2") {
        // SAFETY: the instructions are there.
        done = unsafe { x86::columns(taps, from, [&mut *first, &mut *second]) };
    }
    #[cfg(target_arch = "aarch64")]
    if !plain {
        // SAFETY: every 64-bit Arm processor has these instructions.
        done = unsafe { arm::columns(taps, from, [&mut *first, &mut *second]) };
    }
    let _ = plain;
    columns_plain(taps, from[0], first, done);
    columns_plain(taps, from[1], second, done);
}

/// Columns of one source row from target column `from_column` on.
fn columns_plain(taps: &Taps, from: &[u8], to: &mut [u8], from_column: usize) {
    let size = taps.first.len();
    for x in from_column..size {
        let mut sums = [taps.half(); 3];
        let pixels = from[taps.first[x] as usize * 3..].chunks_exact(3);
        for (pixel, &weight) in pixels.zip(&taps.weights[x * taps.count..][..taps.count]) {
            for (sum, &value) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(weight) * i32::from(value);
            }
        }
        for (channel, sum) in sums.into_iter().enumerate() {
            to[channel * size + x] = (sum >> taps.bits).clamp(0, 255) as u8;
        }
    }
}

/// One target row from the rows of its window.
fn resample_rows<'a>(
    plain: bool,
    row: impl Fn(usize) -> &'a [u8],
    weights: &[i16],
    half: i32,
    bits: u32,
    to: &mut [u8],
) {
    #[cfg(target_arch = "x86_64")]
    let done = match !plain && is_x86_feature_detected!("avx2") {
        // SAFETY: the instructions are there.
        true => unsafe { x86::rows(&row, weights, half, bits, to) },
        false => 0,
    };
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    let _ = plain;
    rows_plain(row, weights, half, bits, to, done);
}

/// As [`resample_rows`], from sample `from` on. Fixed chunks, so that the compiler finds vector instructions by itself.
fn rows_plain<'a>(row: impl Fn(usize) -> &'a [u8], weights: &[i16], half: i32, bits: u32, to: &mut [u8], from: usize) {
    const CHUNK: usize = 16;
    for (i, to) in to[from..].chunks_mut(CHUNK).enumerate() {
        let mut sums = [half; CHUNK];
        for (tap, &weight) in weights.iter().enumerate().filter(|(_, w)| **w != 0) {
            let samples = &row(tap)[from + i * CHUNK..][..to.len()];
            for (sum, &sample) in sums.iter_mut().zip(samples) {
                *sum += i32::from(weight) * i32::from(sample);
            }
        }
        for (to, sum) in to.iter_mut().zip(sums) {
            *to = (sum >> bits).clamp(0, 255) as u8;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! The two passes with AVX2. Products are made in pairs: a multiply-add of 16-bit numbers takes two taps at once.

    use std::arch::x86_64::*;

    use super::Taps;

    /// Two source rows, one in each half of the registers. Gives the number of columns done: all but a few at the end,
    /// where 16 bytes can no longer be read.
    #[target_feature(enable = "avx2")]
    pub fn columns(taps: &Taps, from: [&[u8]; 2], to: [&mut [u8]; 2]) -> usize {
        let size = taps.first.len();
        let (pairs, quads) = (taps.count / 2, taps.count / 4);
        assert!(from.iter().all(|row| row.len() == taps.source * 3) && to.iter().all(|row| row.len() == 3 * size));
        assert_eq!(taps.weights.len(), size * taps.count);
        let readable = |x: usize| taps.first[x] as usize * 3 + (quads - 1) * 12 + 16 <= taps.source * 3;
        // First samples ascend, so that if the last of four columns can be read, so can the others.
        let fours = (0..size / 4).take_while(|&four| readable(four * 4 + 3)).count();

        // Pixels 0 and 1, then 2 and 3, as R0 R1 G0 G1 B0 B1 0 0 in 16 bits each.
        let near = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
        let far =
            _mm256_broadcastsi128_si256(_mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));
        // Four pixels of RGB and a byte that does not count, as planes.
        let planes = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
        let half = _mm256_set1_epi32(taps.half());
        let shift = _mm_cvtsi32_si128(taps.bits as i32);
        let [upper, lower] = from.map(<[u8]>::as_ptr);
        let weights = taps.weights.as_ptr().cast::<i32>();
        let pixel = |x: usize| {
            let mut sum = half;
            let at = taps.first[x] as usize * 3;
            for quad in 0..quads {
                // SAFETY: `readable` holds for this column or one after it, and there are `pairs` pairs per column.
                let (source, low, high) = unsafe {
                    let offset = at + quad * 12;
                    let source = _mm256_inserti128_si256(
                        _mm256_castsi128_si256(_mm_loadu_si128(upper.add(offset).cast())),
                        _mm_loadu_si128(lower.add(offset).cast()),
                        1,
                    );
                    let pair = weights.add(x * pairs + quad * 2);
                    (source, pair.read_unaligned(), pair.add(1).read_unaligned())
                };
                let two = _mm256_madd_epi16(_mm256_shuffle_epi8(source, near), _mm256_set1_epi32(low));
                let more = _mm256_madd_epi16(_mm256_shuffle_epi8(source, far), _mm256_set1_epi32(high));
                sum = _mm256_add_epi32(sum, _mm256_add_epi32(two, more));
            }
            _mm256_sra_epi32(sum, shift)
        };
        let [first, second] = to;
        for x in (0..fours * 4).step_by(4) {
            let four = [pixel(x), pixel(x + 1), pixel(x + 2), pixel(x + 3)];
            let bytes = _mm256_packus_epi16(_mm256_packs_epi32(four[0], four[1]), _mm256_packs_epi32(four[2], four[3]));
            let bytes = _mm256_shuffle_epi8(bytes, planes);
            for (row, half) in
                [(&mut *first, _mm256_castsi256_si128(bytes)), (&mut *second, _mm256_extracti128_si256(bytes, 1))]
            {
                let colours = [_mm_extract_epi32(half, 0), _mm_extract_epi32(half, 1), _mm_extract_epi32(half, 2)];
                for (channel, four) in colours.into_iter().enumerate() {
                    // SAFETY: x + 4 <= size, and the row has three planes of `size`.
                    unsafe { row.as_mut_ptr().add(channel * size + x).cast::<i32>().write_unaligned(four) };
                }
            }
        }
        fours * 4
    }

    /// Gives the number of samples done: a multiple of 32.
    #[target_feature(enable = "avx2")]
    pub fn rows<'a>(row: &impl Fn(usize) -> &'a [u8], weights: &[i16], half: i32, bits: u32, to: &mut [u8]) -> usize {
        const MOST: usize = 8;
        // Windows of more rows than this come from frames more than four times as high as the model's input.
        let used = weights.iter().rposition(|&w| w != 0).map_or(0, |last| last + 1).next_multiple_of(2);
        if used > MOST || weights.len() < used {
            return 0;
        }
        let mut sources = [std::ptr::null(); MOST];
        for (tap, source) in sources.iter_mut().enumerate().take(used) {
            let samples = row(tap);
            assert_eq!(samples.len(), to.len());
            *source = samples.as_ptr();
        }
        let mut pairs = [_mm256_setzero_si256(); MOST / 2];
        for (pair, two) in pairs.iter_mut().zip(weights[..used].chunks_exact(2)) {
            *pair = _mm256_set1_epi32(i32::from(two[0] as u16) | i32::from(two[1]) << 16);
        }
        // SAFETY: the first `used` pointers lead to as many samples as `to` has.
        unsafe {
            match used / 2 {
                1 => window::<1>(&sources, &pairs, half, bits, to),
                2 => window::<2>(&sources, &pairs, half, bits, to),
                3 => window::<3>(&sources, &pairs, half, bits, to),
                _ => window::<4>(&sources, &pairs, half, bits, to),
            }
        }
    }

    /// # Safety
    /// The first `2 * PAIRS` sources (as far as their weights are not all zero) lead to `to.len()` samples each.
    #[target_feature(enable = "avx2")]
    unsafe fn window<const PAIRS: usize>(
        sources: &[*const u8; 8],
        pairs: &[__m256i; 4],
        half: i32,
        bits: u32,
        to: &mut [u8],
    ) -> usize {
        let (half, shift) = (_mm256_set1_epi32(half), _mm_cvtsi32_si128(bits as i32));
        let done = to.len() / 32 * 32;
        for at in (0..done).step_by(32) {
            let mut sums = [half; 4];
            for pair in 0..PAIRS {
                // SAFETY: as the caller promises.
                let [a, b] = [0, 1].map(|i| unsafe { _mm256_loadu_si256(sources[2 * pair + i].add(at).cast()) });
                let zero = _mm256_setzero_si256();
                let (low, high) = (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b));
                for (sum, bytes) in sums.iter_mut().zip([
                    _mm256_unpacklo_epi8(low, zero),
                    _mm256_unpackhi_epi8(low, zero),
                    _mm256_unpacklo_epi8(high, zero),
                    _mm256_unpackhi_epi8(high, zero),
                ]) {
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(bytes, pairs[pair]));
                }
            }
            let [a, b, c, d] = sums.map(|sum| _mm256_sra_epi32(sum, shift));
            // Unpacking and packing both work in the halves of a register, so the order comes back.
            let bytes = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
            // SAFETY: at + 32 <= to.len().
            unsafe { _mm256_storeu_si256(to.as_mut_ptr().add(at).cast(), bytes) };
        }
        done
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    //! The pass over columns with NEON; the compiler finds the vector form of the other one by itself.

    use std::arch::aarch64::*;

    use super::Taps;

    /// Two source rows. Gives the number of columns done: all but a few at the end, where 16 bytes can no longer be read.
    #[target_feature(enable = "neon")]
    pub fn columns(taps: &Taps, from: [&[u8]; 2], to: [&mut [u8]; 2]) -> usize {
        let size = taps.first.len();
        let quads = taps.count / 4;
        assert!(from.iter().all(|row| row.len() == taps.source * 3) && to.iter().all(|row| row.len() == 3 * size));
        assert_eq!(taps.weights.len(), size * taps.count);
        let readable = |x: usize| taps.first[x] as usize * 3 + (quads - 1) * 12 + 16 <= taps.source * 3;
        let fours = (0..size / 4).take_while(|&four| readable(four * 4 + 3)).count();

        // One pixel each as R 0 G 0 B 0 and two bytes that do not count; two pixels per table.
        const NONE: u8 = 255;
        const NEAR: [u8; 16] = [0, NONE, 1, NONE, 2, NONE, NONE, NONE, 3, NONE, 4, NONE, 5, NONE, NONE, NONE];
        const FAR: [u8; 16] = [6, NONE, 7, NONE, 8, NONE, NONE, NONE, 9, NONE, 10, NONE, 11, NONE, NONE, NONE];
        const PLANES: [u8; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];
        // SAFETY: 16 bytes each.
        let [near, far, planes] =
            unsafe { [vld1q_u8(NEAR.as_ptr()), vld1q_u8(FAR.as_ptr()), vld1q_u8(PLANES.as_ptr())] };
        let half = vdupq_n_s32(taps.half());
        let shift = vdupq_n_s32(-(taps.bits as i32));
        for (row, out) in from.into_iter().zip(to) {
            let pixel = |x: usize| {
                let mut sum = half;
                let at = taps.first[x] as usize * 3;
                for quad in 0..quads {
                    // SAFETY: `readable` holds for this column or one after it, and there are `count` weights per column.
                    let (source, weights) = unsafe {
                        (
                            vld1q_u8(row.as_ptr().add(at + quad * 12)),
                            vld1_s16(taps.weights.as_ptr().add(x * taps.count + quad * 4)),
                        )
                    };
                    let (two, more) =
                        (vreinterpretq_s16_u8(vqtbl1q_u8(source, near)), vreinterpretq_s16_u8(vqtbl1q_u8(source, far)));
                    sum = vmlal_lane_s16::<0>(sum, vget_low_s16(two), weights);
                    sum = vmlal_lane_s16::<1>(sum, vget_high_s16(two), weights);
                    sum = vmlal_lane_s16::<2>(sum, vget_low_s16(more), weights);
                    sum = vmlal_lane_s16::<3>(sum, vget_high_s16(more), weights);
                }
                vqmovn_s32(vshlq_s32(sum, shift))
            };
            for x in (0..fours * 4).step_by(4) {
                let low = vqmovun_s16(vcombine_s16(pixel(x), pixel(x + 1)));
                let high = vqmovun_s16(vcombine_s16(pixel(x + 2), pixel(x + 3)));
                let four = vreinterpretq_u32_u8(vqtbl1q_u8(vcombine_u8(low, high), planes));
                let colours = [vgetq_lane_u32::<0>(four), vgetq_lane_u32::<1>(four), vgetq_lane_u32::<2>(four)];
                for (channel, four) in colours.into_iter().enumerate() {
                    // SAFETY: x + 4 <= size, and the row has three planes of `size`.
                    unsafe { out.as_mut_ptr().add(channel * size + x).cast::<u32>().write_unaligned(four) };
                }
            }
        }
        fours * 4
    }
}
