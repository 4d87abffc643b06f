//! How does a frame become the encoder's input tensor? The arithmetic repeats PyTorch's to the bit (resize of 8-bit images)
//! and in the same order of f32 operations elsewhere, because a model sees a difference of one grey level as several
//! hundredths of a logit.

use crate::frame::resize::{Resizer, Rows};
use crate::manifest::InputSpec;
use crate::runner::RunnerError;
use crate::types::Frame;

/// Turns frames into the encoder's input: antialiased resize with 8-bit rounding, then `(v / 255 - mean) / std`
/// per channel, planes one after the other.
pub struct Preprocess {
    size: usize,
    resize: Resizer,
    channels: [Normalization; 3],
}

/// How the samples of one colour are normalised.
pub(super) struct Normalization {
    mean: f32,
    std: f32,
    /// Normalised value of each 8-bit value.
    table: [f32; 256],
    /// Does [`divided`] give exactly these values? Then it is used: vector registers have no room for the table.
    computes: bool,
}

impl Normalization {
    pub(super) fn new(mean: f32, std: f32) -> Normalization {
        let table = std::array::from_fn(|v| (v as f32 / 255.0 - mean) / std);
        let (units, parts) = ([1.0 / 255.0, 255.0], [1.0 / std, std]);
        let exact = |v: u8| divided(divided(f32::from(v), units) - mean, parts).to_bits();
        let computes = (0..=255u8).all(|v| exact(v) == table[usize::from(v)].to_bits());
        Normalization { mean, std, table, computes }
    }

    pub(super) fn fill(&self, samples: &[u8], values: &mut [f32]) {
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
    pub fn new(input: &InputSpec) -> Self {
        let channels = std::array::from_fn(|c| Normalization::new(input.mean[c], input.std[c]));
        Preprocess { size: input.size as usize, resize: Resizer::new(input.resize, input.size, input.size), channels }
    }

    /// The frame resized to `size` x `size` pixels, interleaved RGB. For comparisons; [`Preprocess::fill`] does not make it.
    ///
    /// # Errors
    /// [`RunnerError::Usage`] when the frame's bytes do not fit its size.
    pub fn resize(&mut self, frame: Frame<'_>) -> Result<Vec<u8>, RunnerError> {
        crate::runner::check_frame(frame)?;
        Ok(self.resized(frame))
    }

    /// The same of pixels that come row by row.
    pub fn resized(&mut self, source: impl Rows) -> Vec<u8> {
        let mut pixels = Vec::with_capacity(3 * self.size * self.size);
        self.resize.rows(source, |_, row| {
            let (red, rest) = row.split_at(self.size);
            let (green, blue) = rest.split_at(self.size);
            pixels.extend(red.iter().zip(green).zip(blue).flat_map(|((r, g), b)| [*r, *g, *b]));
        });
        pixels
    }

    /// Writes the normalised frame into `planes` (3 x `size` x `size`), row by row as it is resized.
    ///
    /// # Errors
    /// [`RunnerError::Usage`] when the frame's bytes do not fit its size.
    pub fn fill(&mut self, frame: Frame<'_>, planes: &mut [f32]) -> Result<(), RunnerError> {
        crate::runner::check_frame(frame)?;
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

    /// Writes the resized frame into `planes` (3 x `size` x `size`) as it is, 8-bit samples.
    ///
    /// # Errors
    /// [`RunnerError::Usage`] when the frame's bytes do not fit its size.
    pub fn fill_bytes(&mut self, frame: Frame<'_>, planes: &mut [u8]) -> Result<(), RunnerError> {
        crate::runner::check_frame(frame)?;
        let size = self.size;
        self.resize.rows(frame, |y, row| {
            for (samples, plane) in row.chunks_exact(size).zip(planes.chunks_exact_mut(size * size)) {
                plane[y * size..][..size].copy_from_slice(samples);
            }
        });
        Ok(())
    }

    /// Normalised value of each 8-bit sample, per channel.
    pub fn levels(&self) -> Vec<[f32; 256]> {
        self.channels.iter().map(|channel| channel.table).collect()
    }

    /// Leaves the vector instructions of the resize alone, for comparisons.
    pub fn set_plain(&mut self, plain: bool) {
        self.resize.set_plain(plain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::noise;
    use crate::manifest::{Colour, ResizeFilter};

    fn input(size: u32) -> InputSpec {
        input_with(ResizeFilter::BilinearAntialiasU8, size)
    }

    fn input_with(resize: ResizeFilter, size: u32) -> InputSpec {
        InputSpec {
            size,
            fit: None,
            resize,
            colour: Colour::Rgb,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }

    /// PyTorch's kernel for 8-bit images, written down: f64 weights as 16-bit fixed point with as many bits as fit,
    /// columns first, then rows, each rounded to 8 bits.
    fn reference(cubic: bool, image: &[u8], width: usize, height: usize, size: usize) -> Vec<u8> {
        let triangle = |x: f64| (1.0 - x.abs()).max(0.0);
        let keys = |x: f64| match x.abs() {
            x if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5,
            _ => 0.0,
        };
        let pass = |image: &[u8], source: usize, lines: usize, size: usize, stride: usize, line: usize| -> Vec<u8> {
            let scale = source as f64 / size as f64;
            let stretch = scale.max(1.0);
            let support = if cubic { 2.0 * stretch } else { stretch };
            let taps: Vec<(usize, Vec<f64>)> = (0..size)
                .map(|i| {
                    let centre = scale * (i as f64 + 0.5);
                    let first = (centre - support + 0.5).max(0.0) as usize;
                    let last = ((centre + support + 0.5) as usize).min(source);
                    let at = |x: usize| (x as f64 - centre + 0.5) / stretch;
                    let w: Vec<f64> =
                        (first..last).map(|x| if cubic { keys(at(x)) } else { triangle(at(x)) }).collect();
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
                            let half = if *w < 0.0 { -0.5 } else { 0.5 };
                            let fixed = (half + w * f64::from(1 << bits)) as i64;
                            sum += fixed * i64::from(image[(first + k) * stride + l * line + c]);
                        }
                        let at = if stride == 3 { (l * size + i) * 3 } else { (i * lines + l) * 3 };
                        out[at + c] = (sum >> bits).clamp(0, 255) as u8;
                    }
                }
            }
            out
        };
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
        let filters = [ResizeFilter::BilinearAntialiasU8, ResizeFilter::BicubicAntialiasU8];
        for (size, filter) in [128u32, 250, 256].into_iter().flat_map(|size| filters.map(|filter| (size, filter))) {
            for (w, h) in sizes {
                let rgb = noise(w * h * 3, (w * 31 + h) as u64);
                let mut preprocess = Preprocess::new(&input_with(filter, size));
                let frame = Frame { width: w as u32, height: h as u32, rgb: &rgb };
                let theirs = reference(filter == filters[1], &rgb, w, h, size as usize);
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

    proptest::proptest! {
        #[test]
        fn resize_equals_pytorchs_kernel_at_any_size(width in 1usize..400, height in 1usize..300, size in 1u32..300, seed in 1u64..u64::MAX, cubic: bool) {
            let filter = if cubic { ResizeFilter::BicubicAntialiasU8 } else { ResizeFilter::BilinearAntialiasU8 };
            let rgb = noise(width * height * 3, seed);
            let frame = Frame { width: width as u32, height: height as u32, rgb: &rgb };
            let theirs = reference(cubic, &rgb, width, height, size as usize);
            let mut preprocess = Preprocess::new(&input_with(filter, size));
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
            let channel = Normalization::new(mean, std);
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
