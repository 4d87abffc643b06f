//! Pixels in, pixels out: a frame becomes the encoder's input tensor, a mask prompt becomes a model-size mask, and
//! low-resolution logits become a binary mask at source size. The arithmetic repeats PyTorch's to the bit where it can
//! (resize of 8-bit images) and in the same order of f32 operations elsewhere, because a model sees a difference of one
//! grey level as several hundredths of a logit.

use fast_image_resize as fir;
use fir::images::{TypedImage, TypedImageRef};
use fir::pixels::U8x3;
use fir::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use crate::RunnerError;
use crate::manifest::Input;
use crate::types::{Frame, Mask};

/// Turns frames into the encoder's input: antialiased bilinear resize with 8-bit rounding, then `(v / 255 - mean) / std`
/// per channel, planes one after the other.
pub struct Preprocess {
    size: u32,
    /// Normalised value of each 8-bit value, per channel.
    table: [[f32; 256]; 3],
    resizer: Resizer,
    options: ResizeOptions,
    /// After the horizontal pass: `size` wide, as high as the frame.
    wide: TypedImage<'static, U8x3>,
    /// After both passes.
    square: TypedImage<'static, U8x3>,
}

impl Preprocess {
    /// For the input that a manifest describes.
    pub fn new(input: &Input) -> Self {
        let size = input.size;
        let table = std::array::from_fn(|c| std::array::from_fn(|v| (v as f32 / 255.0 - input.mean[c]) / input.std[c]));
        Preprocess {
            size,
            table,
            resizer: Resizer::new(),
            options: ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)),
            wide: TypedImage::new(1, 1),
            square: TypedImage::new(size, size),
        }
    }

    /// The frame resized to `size` x `size` pixels.
    ///
    /// The horizontal pass comes first and is rounded to 8 bits, then the vertical one: PyTorch's order. (One call of the
    /// resizer would do the vertical pass first, which gives other roundings.) A pass is skipped when the size is right.
    ///
    /// # Errors
    /// [`RunnerError::Usage`] when the frame's bytes do not fit its size.
    pub fn resize(&mut self, frame: Frame<'_>) -> Result<&[U8x3], RunnerError> {
        crate::check_frame(frame)?;
        let failed = |e: &dyn std::fmt::Display| {
            RunnerError::Usage(format!("cannot resize a frame of {}x{} pixels: {e}", frame.width, frame.height))
        };
        let size = self.size;
        let source =
            TypedImageRef::<U8x3>::from_buffer(frame.width, frame.height, frame.rgb).map_err(|e| failed(&e))?;
        // `resize_typed` instead of `resize`: it compiles the filter for one pixel type instead of fourteen.
        if frame.width == size || frame.height == size {
            self.resizer.resize_typed(&source, &mut self.square, &self.options).map_err(|e| failed(&e))?;
        } else {
            use fir::ImageView;
            if (self.wide.width(), self.wide.height()) != (size, frame.height) {
                self.wide = TypedImage::new(size, frame.height);
            }
            self.resizer.resize_typed(&source, &mut self.wide, &self.options).map_err(|e| failed(&e))?;
            self.resizer.resize_typed(&self.wide, &mut self.square, &self.options).map_err(|e| failed(&e))?;
        }
        Ok(self.square.pixels())
    }

    /// Writes the normalised frame into `planes` (3 x `size` x `size`).
    ///
    /// # Errors
    /// As [`Preprocess::resize`].
    pub fn fill(&mut self, frame: Frame<'_>, planes: &mut [f32]) -> Result<(), RunnerError> {
        let table = self.table;
        let pixels = self.resize(frame)?;
        let (red, rest) = planes.split_at_mut(pixels.len());
        let (green, blue) = rest.split_at_mut(pixels.len());
        for (((pixel, r), g), b) in pixels.iter().zip(red).zip(green).zip(blue) {
            let [red, green, blue] = pixel.0;
            *r = table[0][usize::from(red)];
            *g = table[1][usize::from(green)];
            *b = table[2][usize::from(blue)];
        }
        Ok(())
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
/// sign only: the float image at source size is never stored.
#[derive(Default)]
pub struct Thresholder {
    side: usize,
    width: u32,
    columns: Vec<Tap>,
    /// Every low-resolution row, resampled to source width.
    rows: Vec<f32>,
    /// Per row of `rows`: the columns between which it has positive values (empty range: none).
    positive: Vec<(usize, usize)>,
}

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

impl Thresholder {
    /// Mask of the pixels whose upsampled logit is above 0. `logits`: `side` x `side`.
    pub fn mask(&mut self, logits: &[f32], side: usize, width: u32, height: u32) -> Mask {
        let wide = width as usize;
        if (self.side, self.width) != (side, width) {
            self.columns = (0..width).map(|x| bilinear_tap(x, width, side)).collect();
            self.rows = vec![0.0; side * wide];
            self.positive = vec![(0, 0); side];
            (self.side, self.width) = (side, width);
        }
        for ((logits, row), positive) in
            logits.chunks_exact(side).zip(self.rows.chunks_exact_mut(wide)).zip(&mut self.positive)
        {
            *positive = (0, 0);
            // A row without a positive logit has no positive resampled value, and its values are not needed either
            // when the neighbouring row has none; they are computed because the neighbour may have some.
            for (value, tap) in row.iter_mut().zip(&self.columns) {
                *value = (1.0 - tap.weight) * logits[tap.low] + tap.weight * logits[tap.high];
            }
            if logits.iter().any(|&v| v > 0.0) {
                let first = row.iter().position(|&v| v > 0.0).unwrap_or(0);
                *positive = (first, row.iter().rposition(|&v| v > 0.0).map_or(0, |last| last + 1));
            }
        }
        let mut mask = Mask::empty(width, height);
        let words_per_row = mask.words_per_row();
        for (y, words) in mask.words_mut().chunks_exact_mut(words_per_row.max(1)).enumerate() {
            let tap = bilinear_tap(y as u32, height, side);
            let (low, high) = (self.positive[tap.low], self.positive[tap.high]);
            // A weighted mean is positive only where one of its terms is.
            let (first, last) = match (low.0 < low.1, high.0 < high.1) {
                (true, true) => (low.0.min(high.0), low.1.max(high.1)),
                (true, false) => low,
                (false, true) => high,
                (false, false) => continue,
            };
            let upper = &self.rows[tap.low * wide..][..wide];
            let lower = &self.rows[tap.high * wide..][..wide];
            let (a, b) = (1.0 - tap.weight, tap.weight);
            for (i, word) in words.iter_mut().enumerate().take(last.div_ceil(64)).skip(first / 64) {
                let from = i * 64;
                let to = (from + 64).min(wide);
                let mut flags = [0u8; 64];
                for ((flag, u), l) in flags.iter_mut().zip(&upper[from..to]).zip(&lower[from..to]) {
                    *flag = u8::from(a * u + b * l > 0.0);
                }
                *word = pack(&flags);
            }
        }
        mask
    }
}

/// Gives every pixel that several masks claim to the object with the highest upsampled logit there, the first of equals:
/// what SAM 2's own evaluation does with the masks of one label map (`non_overlap_masks`). `logits` holds `side` x `side`
/// values per mask, in the same order; the masks are those that [`Thresholder::mask`] made of them.
pub fn resolve_overlaps(masks: &mut [&mut Mask], logits: &[f32], side: usize) {
    let Some((width, height, words)) = masks.first().map(|m| (m.width(), m.height(), m.words_per_row())) else {
        return;
    };
    let mut columns: Vec<Tap> = Vec::new();
    for y in 0..height {
        for i in 0..words {
            let at = y as usize * words + i;
            let (mut once, mut contested) = (0, 0);
            for mask in masks.iter() {
                contested |= once & mask.words()[at];
                once |= mask.words()[at];
            }
            while contested != 0 {
                let bit = contested.trailing_zeros();
                contested &= contested - 1;
                if columns.is_empty() {
                    columns = (0..width).map(|x| bilinear_tap(x, width, side)).collect();
                }
                let (row, column) = (bilinear_tap(y, height, side), columns[i * 64 + bit as usize]);
                let mut best: Option<(usize, f32)> = None;
                for (k, mask) in masks.iter().enumerate().filter(|(_, m)| m.words()[at] >> bit & 1 == 1) {
                    let plane = &logits[k * side * side..][..side * side];
                    let across = |y: usize| {
                        let row = &plane[y * side..][..side];
                        (1.0 - column.weight) * row[column.low] + column.weight * row[column.high]
                    };
                    let value = (1.0 - row.weight) * across(row.low) + row.weight * across(row.high);
                    debug_assert!(mask.get(i as u32 * 64 + bit, y));
                    if best.is_none_or(|(_, highest)| value > highest) {
                        best = Some((k, value));
                    }
                }
                let winner = best.map(|(k, _)| k);
                for (_, mask) in masks.iter_mut().enumerate().filter(|(k, _)| Some(*k) != winner) {
                    mask.words_mut()[at] &= !(1 << bit);
                }
            }
        }
    }
}

/// 64 flags of 0 or 1 as bits, the first one lowest.
fn pack(flags: &[u8; 64]) -> u64 {
    let mut word = 0;
    for (i, eight) in flags.chunks_exact(8).enumerate() {
        let bytes =
            u64::from_le_bytes([eight[0], eight[1], eight[2], eight[3], eight[4], eight[5], eight[6], eight[7]]);
        // The product gathers bit 0 of every byte, in order, in the highest byte.
        word |= (bytes.wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * i);
    }
    word
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
        let mut masks = alone.clone();
        resolve_overlaps(&mut masks.iter_mut().collect::<Vec<_>>(), &logits, side);
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
            let owners: Vec<usize> = (0..objects).filter(|&k| masks[k].get(x, y)).collect();
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
        for size in [128u32, 256] {
            for (w, h) in sizes {
                let rgb = noise(w * h * 3, (w * 31 + h) as u64);
                let mut preprocess = Preprocess::new(&input(size));
                let frame = Frame { width: w as u32, height: h as u32, rgb: &rgb };
                let ours = preprocess.resize(frame).unwrap().iter().flat_map(|p| p.0);
                let theirs = reference(&rgb, w, h, size as usize);
                let different = ours.zip(&theirs).filter(|(a, b)| a != *b).count();
                assert_eq!(different, 0, "{w}x{h} -> {size}: {different} of {} bytes differ", theirs.len());
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
            let plain = Mask::from_fn(w, h, |x, y| {
                let (cx, cy) = (bilinear_tap(x, w, side), bilinear_tap(y, h, side));
                let row =
                    |r: usize| (1.0 - cx.weight) * logits[r * side + cx.low] + cx.weight * logits[r * side + cx.high];
                (1.0 - cy.weight) * row(cy.low) + cy.weight * row(cy.high) > 0.0
            });
            assert_eq!(mask, plain, "{w}x{h}");
            assert!(!mask.is_full() && (h == 1 || w == 1 || !mask.is_empty()), "{w}x{h}: the case must show something");
        }
        assert!(thresholder.mask(&[f32::NAN; 16], 4, 10, 10).is_empty());
        assert!(thresholder.mask(&[1.0; 16], 4, 130, 10).is_full());
    }
}
