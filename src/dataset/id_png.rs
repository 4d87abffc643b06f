//! Segment ids as colour: the PNG files of panoptic datasets, whose pixels hold the id R + 256 G + 65536 B in three channels of 8 bits. A
//! fourth channel is ignored, as the references ignore it.

use std::path::Path;

use png::{BitDepth, ColorType};

use super::DataError;
use super::label_png::{bound_size, decoder, png_fault, read_file_into};

/// Reads such files into one buffer, again and again.
#[derive(Debug, Default)]
pub(crate) struct IdPng {
    file: Vec<u8>,
    samples: Vec<u8>,
    size: (u32, u32),
    channels: usize,
}

impl IdPng {
    /// Reads a file in place of what was read before.
    ///
    /// # Errors
    /// Names the file and the fault: unreadable, not a PNG, another kind of pixels, truncated, absurd size.
    pub(crate) fn read(&mut self, path: &Path) -> Result<(), DataError> {
        read_file_into(path, &mut self.file)?;
        self.decode().map_err(|fault| DataError(format!("{}: {fault}", path.display())))
    }

    fn decode(&mut self) -> Result<(), String> {
        let mut decoder = decoder(&self.file)?;
        let header = decoder.read_header_info().map_err(png_fault)?;
        let (width, height, colour, depth) = (header.width, header.height, header.color_type, header.bit_depth);
        self.channels = match (colour, depth) {
            (ColorType::Rgb, BitDepth::Eight) => 3,
            (ColorType::Rgba, BitDepth::Eight) => 4,
            _ => {
                return Err(format!(
                    "a panoptic mask has three channels of 8 bits (id = R + 256 G + 65536 B), this is {colour:?} of {} bits",
                    depth as u8
                ));
            }
        };
        bound_size(width, height, 8 * self.channels as u64, self.file.len())?;
        let mut reader = decoder.read_info().map_err(png_fault)?;
        self.samples.resize(reader.output_buffer_size().ok_or("image too large")?, 0);
        reader.next_frame(&mut self.samples).map_err(png_fault)?;
        self.size = (width, height);
        Ok(())
    }

    /// The bytes of the file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.file
    }

    /// Width and height, pixels.
    pub(crate) fn size(&self) -> (u32, u32) {
        self.size
    }

    /// Ids in row order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.samples.chunks_exact(self.channels).map(|p| u32::from_le_bytes([p[0], p[1], p[2], 0]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dataset::label_png::tests::encode;

    fn decoded(file: Vec<u8>) -> Result<((u32, u32), Vec<u32>), String> {
        let mut png = IdPng { file, ..IdPng::default() };
        png.decode().map(|()| (png.size(), png.ids().collect()))
    }

    #[test]
    fn an_id_is_three_bytes_the_lowest_first_and_a_fourth_channel_is_ignored() {
        let wanted = Ok(((2, 1), vec![1 + 2 * 256 + 3 * 65_536, 255]));
        assert_eq!(decoded(encode(2, 1, BitDepth::Eight, ColorType::Rgb, &[1, 2, 3, 255, 0, 0])), wanted);
        assert_eq!(decoded(encode(2, 1, BitDepth::Eight, ColorType::Rgba, &[1, 2, 3, 9, 255, 0, 0, 0])), wanted);
    }

    #[test]
    fn other_pixels_are_refused() {
        for (colour, depth, bytes) in [
            (ColorType::Grayscale, BitDepth::Eight, 2),
            (ColorType::GrayscaleAlpha, BitDepth::Eight, 4),
            (ColorType::Rgb, BitDepth::Sixteen, 12),
        ] {
            let fault = decoded(encode(2, 1, depth, colour, &vec![7; bytes])).unwrap_err();
            let wanted = format!("this is {colour:?} of {} bits", depth as u8);
            assert!(
                fault.starts_with("a panoptic mask has three channels of 8 bits") && fault.ends_with(&wanted),
                "{fault}"
            );
        }
    }

    proptest! {
        #[test]
        fn damaged_files_end_in_ids_or_an_error(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), cut in any::<prop::sample::Index>()
        ) {
            let mut file = encode(9, 7, BitDepth::Eight, ColorType::Rgb, &(0..189).collect::<Vec<u8>>());
            damage.iter().for_each(|(at, value)| { let at = at.index(file.len()); file[at] = *value; });
            file.truncate(cut.index(file.len()) + 1);
            if let Ok(((width, height), ids)) = decoded(file) {
                prop_assert_eq!(ids.len(), (width * height) as usize);
            }
        }
    }
}
