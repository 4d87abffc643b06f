//! How does a frame become an input that is no square? Its aspect ratio is kept: it is resized to the largest size that fits, and what
//! is left to the right and below is 0 after normalisation.

use super::preprocess::Normalization;
use super::resize::Resizer;
use crate::manifest::InputSpec;
use crate::manifest::tracks::Fit;
use crate::runner::RunnerError;
use crate::types::Frame;

/// Turns frames into such inputs.
pub struct Fitted {
    fit: Fit,
    spec: InputSpec,
    channels: [Normalization; 3],
    /// For frames of the last size, which comes first.
    resizer: Option<([u32; 2], Resizer)>,
}

impl Fitted {
    /// Frames take the part `fit` of the input that a manifest describes.
    pub fn new(spec: &InputSpec, fit: Fit) -> Fitted {
        let channels = std::array::from_fn(|c| Normalization::new(spec.mean[c], spec.std[c]));
        Fitted { fit, spec: spec.clone(), channels, resizer: None }
    }

    /// Width and height of a resized frame.
    pub fn size(&self, frame: Frame<'_>) -> [u32; 2] {
        let (across, down) = (f64::from(frame.width), f64::from(frame.height));
        let scale = (f64::from(self.fit.width) / across).min(f64::from(self.fit.height) / down);
        let of = |side: f64, most: u32| ((side * scale + 0.5) as u32).clamp(1, most);
        [of(across, self.fit.width), of(down, self.fit.height)]
    }

    /// Size of the resized frame, what resizes it, and what normalises it.
    fn ready(&mut self, frame: Frame<'_>) -> Result<([u32; 2], &mut Resizer, &[Normalization; 3]), RunnerError> {
        crate::runner::check_frame(frame)?;
        let (size, of) = (self.size(frame), [frame.width, frame.height]);
        let known = self.resizer.take().filter(|(known, _)| *known == of);
        let resizer = known.unwrap_or_else(|| (of, Resizer::new(self.spec.resize, size[0], size[1])));
        Ok((size, &mut self.resizer.insert(resizer).1, &self.channels))
    }

    /// The resized frame, interleaved RGB. For comparisons; [`Fitted::fill`] does not make it.
    ///
    /// # Errors
    /// [`RunnerError::Usage`] when the frame's bytes do not fit its size.
    pub fn resize(&mut self, frame: Frame<'_>) -> Result<Vec<u8>, RunnerError> {
        let mut pixels = Vec::new();
        self.ready(frame)?.1.rows(frame, |_, row| {
            let side = row.len() / 3;
            pixels.extend((0..side).flat_map(|x| [row[x], row[side + x], row[2 * side + x]]));
        });
        Ok(pixels)
    }

    /// Writes the normalised frame into `planes` (3 x rows x `width`), zeros around it, and returns its width and height there.
    ///
    /// # Errors
    /// [`RunnerError::Usage`] when the frame's bytes do not fit its size.
    pub fn fill(&mut self, frame: Frame<'_>, planes: &mut [f32], width: usize) -> Result<[u32; 2], RunnerError> {
        planes.fill(0.0);
        let plane = planes.len() / 3;
        let (size, resizer, channels) = self.ready(frame)?;
        resizer.rows(frame, |y, row| {
            let side = row.len() / 3;
            for ((samples, plane), channel) in row.chunks_exact(side).zip(planes.chunks_exact_mut(plane)).zip(channels)
            {
                channel.fill(samples, &mut plane[y * width..][..side]);
            }
        });
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Preprocess, noise};
    use crate::manifest::{Colour, ResizeFilter};

    #[test]
    fn the_aspect_ratio_is_kept_and_the_rest_is_zero() {
        let fit = Fit { width: 24, height: 16 };
        let resize = ResizeFilter::BilinearAntialiasU8;
        let spec = InputSpec {
            size: 32,
            fit: Some(fit),
            resize,
            colour: Colour::Rgb,
            mean: [0.5, 0.4, 0.3],
            std: [0.2, 0.3, 0.4],
        };
        let mut fitted = Fitted::new(&spec, fit);
        for (width, height, expected) in
            [(48, 32, [24, 16]), (40, 10, [24, 6]), (10, 40, [4, 16]), (1, 1, [16, 16]), (33, 20, [24, 15])]
        {
            let rgb = noise(3 * width * height, 7);
            let frame = Frame { width: width as u32, height: height as u32, rgb: &rgb };
            let mut planes = vec![9.0; 3 * 32 * 16];
            assert_eq!(fitted.fill(frame, &mut planes, 32).unwrap(), expected, "{width}x{height}");
            let pixels = fitted.resize(frame).unwrap();
            assert_eq!(pixels.len() as u32, 3 * expected[0] * expected[1]);
            for (i, value) in planes.iter().enumerate() {
                let (c, y, x) = (i / 512, i % 512 / 32, i % 32);
                let inside = x < expected[0] as usize && y < expected[1] as usize;
                let known =
                    || (f32::from(pixels[3 * (y * expected[0] as usize + x) + c]) / 255.0 - spec.mean[c]) / spec.std[c];
                assert_eq!(*value, if inside { known() } else { 0.0 }, "{width}x{height} at {c}, {y}, {x}");
            }
        }
        // Where a square is made, it is the one of the others.
        let rgb = noise(3 * 50 * 50, 9);
        let frame = Frame { width: 50, height: 50, rgb: &rgb };
        let square = InputSpec { size: 16, fit: None, ..spec };
        assert_eq!(fitted.resize(frame).unwrap(), Preprocess::new(&square).resize(frame).unwrap());
        assert!(fitted.resize(Frame { width: 51, ..frame }).is_err());
    }
}
