//! Masks as PNG files, read with the semantics of the references' reader (PIL): palette files give the raw index at any
//! bit depth, 1-bit grey gives 0 and 1, 2-bit and 4-bit grey are scaled to 8 bits, 8-bit and 16-bit grey keep their
//! values, transparency and gamma are ignored, colour is refused. Sizes in the header are bounded before anything is
//! allocated.

use std::io::Cursor;
use std::path::Path;

use jetbench_runners::types::Mask;
use png::{BitDepth, ColorType, Transformations};

use super::DataError;

/// Longest side that is read, in pixels.
pub const MAX_SIDE: u32 = 16_384;
/// Largest image that is read, in pixels (8K is 33 million).
pub const MAX_PIXELS: u64 = 1 << 27;
/// Deflate cannot compress by more than this: a header that promises more is forged.
const MAX_DEFLATE_RATIO: u64 = 1_032;

/// A single-channel image whose values are object ids (0 is background).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelImage {
    width: u32,
    height: u32,
    values: Values,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Values {
    Byte(Vec<u8>),
    Word(Vec<u16>),
}

impl LabelImage {
    /// Reads a PNG file.
    ///
    /// # Errors
    /// Names the file and the fault: unreadable, not a PNG, colour, truncated, absurd size.
    pub fn read(path: &Path) -> Result<LabelImage, DataError> {
        let bytes = read_file(path)?;
        LabelImage::decode(&bytes).map_err(|fault| DataError(format!("{}: {fault}", path.display())))
    }

    /// Decodes a PNG file held in memory.
    ///
    /// # Errors
    /// The fault, without a file name.
    pub fn decode(bytes: &[u8]) -> Result<LabelImage, String> {
        let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), png_limits());
        decoder.set_transformations(Transformations::IDENTITY);
        decoder.set_ignore_text_chunk(true);
        decoder.set_ignore_iccp_chunk(true);
        let header = decoder.read_header_info().map_err(png_fault)?;
        let (width, height, depth, colour) = (header.width, header.height, header.bit_depth, header.color_type);
        if !matches!(colour, ColorType::Grayscale | ColorType::Indexed) {
            return Err(format!(
                "a mask must have one channel (grey or palette), this is {}; save object ids, not colours",
                match colour {
                    ColorType::Rgb => "RGB",
                    ColorType::Rgba => "RGBA",
                    _ => "grey with alpha",
                }
            ));
        }
        bound_size(width, height, depth as u64, bytes.len())?;
        let mut reader = decoder.read_info().map_err(png_fault)?;
        let mut raw = vec![0; reader.output_buffer_size().ok_or("image too large")?];
        reader.next_frame(&mut raw).map_err(png_fault)?;
        let grey = colour == ColorType::Grayscale;
        let unpack = |bits: usize, scale: u8| {
            let line = (width as usize * bits).div_ceil(8);
            let mut values = Vec::with_capacity(width as usize * height as usize);
            for row in raw.chunks_exact(line) {
                let value = |x: usize| row[x * bits / 8] >> (8 - bits - x * bits % 8) & ((1 << bits) - 1);
                values.extend((0..width as usize).map(|x| value(x) * scale));
            }
            Values::Byte(values)
        };
        let values = match depth {
            BitDepth::One => unpack(1, 1),
            BitDepth::Two => unpack(2, if grey { 85 } else { 1 }),
            BitDepth::Four => unpack(4, if grey { 17 } else { 1 }),
            BitDepth::Eight => Values::Byte(raw),
            BitDepth::Sixteen => Values::Word(raw.chunks_exact(2).map(|b| u16::from_be_bytes([b[0], b[1]])).collect()),
        };
        Ok(LabelImage { width, height, values })
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Value of the pixel in column `x`, row `y`.
    pub fn get(&self, x: u32, y: u32) -> u16 {
        let at = y as usize * self.width as usize + x as usize;
        match &self.values {
            Values::Byte(v) => u16::from(v[at]),
            Values::Word(v) => v[at],
        }
    }

    /// Pixels above 0, and how many distinct values the image has, counted up to 3 (a mask has at most 2).
    pub fn foreground(&self) -> (Mask, usize) {
        let masks = self.masks();
        let area: u64 = masks.iter().map(|(_, m)| m.area()).sum();
        let background = area < u64::from(self.width) * u64::from(self.height);
        let mut all = Mask::empty(self.width, self.height);
        for (_, mask) in &masks {
            for (a, m) in all.words_mut().iter_mut().zip(mask.words()) {
                *a |= m;
            }
        }
        (all, masks.len() + usize::from(background))
    }

    /// One mask per non-zero value, in ascending order of value.
    pub fn masks(&self) -> Vec<(u16, Mask)> {
        let mut found = match &self.values {
            Values::Byte(v) => split_bytes(v, self.width, self.height),
            Values::Word(v) => split_words(v, self.width, self.height),
        };
        found.sort_by_key(|(id, _)| *id);
        found
    }
}

/// Gathers the top bits of the 8 bytes of `word` (first byte: lowest bit).
fn top_bits(word: u64) -> u64 {
    ((word >> 7) & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// Bit `k` of the result: is byte `k` of the 64 bytes equal to `value`?
fn equal_bits(bytes: &[u64; 8], value: u8) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let wanted = u64::from(value) * 0x0101_0101_0101_0101;
    bytes.iter().enumerate().fold(0, |bits, (k, &word)| {
        let difference = word ^ wanted;
        let zero = !(((difference & LOW) + LOW) | difference | LOW);
        bits | top_bits(zero) << (8 * k)
    })
}

fn split_bytes(values: &[u8], width: u32, height: u32) -> Vec<(u16, Mask)> {
    let mut found: Vec<(u16, Mask)> = Vec::new();
    let mut slot = [usize::MAX; 256];
    let words = (width as usize).div_ceil(64);
    for (y, row) in values.chunks_exact(width.max(1) as usize).enumerate() {
        for (i, chunk) in row.chunks(64).enumerate() {
            let mut padded = [0u8; 64];
            padded[..chunk.len()].copy_from_slice(chunk);
            let bytes: [u64; 8] =
                std::array::from_fn(|k| u64::from_le_bytes(std::array::from_fn(|b| padded[8 * k + b])));
            let mut rest = if chunk.len() == 64 { !0u64 } else { (1 << chunk.len()) - 1 };
            if bytes.iter().all(|&b| b == 0) {
                continue;
            }
            while rest != 0 {
                let value = padded[rest.trailing_zeros() as usize];
                let uniform = u64::from(value) * 0x0101_0101_0101_0101;
                let bits = if bytes.iter().all(|&b| b == uniform) { rest } else { equal_bits(&bytes, value) & rest };
                rest &= !bits;
                if value != 0 {
                    let at = &mut slot[value as usize];
                    if *at == usize::MAX {
                        *at = found.len();
                        found.push((u16::from(value), Mask::empty(width, height)));
                    }
                    found[*at].1.words_mut()[y * words + i] = bits;
                }
            }
        }
    }
    found
}

fn split_words(values: &[u16], width: u32, height: u32) -> Vec<(u16, Mask)> {
    let mut found: std::collections::BTreeMap<u16, Mask> = std::collections::BTreeMap::new();
    for (y, row) in values.chunks_exact(width.max(1) as usize).enumerate() {
        for (x, &value) in row.iter().enumerate() {
            if value != 0 {
                found.entry(value).or_insert_with(|| Mask::empty(width, height)).set(x as u32, y as u32);
            }
        }
    }
    found.into_iter().collect()
}

/// Whole file, refusing what cannot be an image of ours.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, DataError> {
    const MAX_FILE: u64 = 1 << 29;
    let fail = |e: std::io::Error| DataError(format!("{}: {e}", path.display()));
    let length = std::fs::metadata(path).map_err(fail)?.len();
    if length > MAX_FILE {
        return Err(DataError(format!("{}: {length} bytes is too large for an image", path.display())));
    }
    std::fs::read(path).map_err(fail)
}

/// Refuses sizes that no real image has, and sizes that the file is too short to hold.
pub(super) fn bound_size(width: u32, height: u32, bits_per_pixel: u64, file: usize) -> Result<(), String> {
    let pixels = u64::from(width) * u64::from(height);
    if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE || pixels > MAX_PIXELS {
        return Err(format!(
            "header says {width}x{height}; at most {MAX_SIDE} a side and {MAX_PIXELS} pixels are read"
        ));
    }
    if pixels * bits_per_pixel / 8 > (file as u64 + 64) * MAX_DEFLATE_RATIO {
        return Err(format!("header says {width}x{height}, but {file} bytes cannot hold that: truncated or forged"));
    }
    Ok(())
}

/// What the decoder may allocate besides our buffer: ancillary chunks and its window.
pub(super) fn png_limits() -> png::Limits {
    png::Limits { bytes: 64 << 20 }
}

/// The decoder's fault in the words of a user.
pub(super) fn png_fault(fault: png::DecodingError) -> String {
    match fault {
        png::DecodingError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            "truncated PNG: the file ends before its image does; copy it again".to_string()
        }
        other => format!("not a readable PNG ({other})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(width: u32, height: u32, depth: BitDepth, colour: ColorType, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, width, height);
        encoder.set_depth(depth);
        encoder.set_color(colour);
        if colour == ColorType::Indexed {
            encoder.set_palette(vec![0; 3 << (depth as usize)]);
        }
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(data).unwrap();
        writer.finish().unwrap();
        out
    }

    #[test]
    fn values_are_those_of_pil() {
        let read = |depth, colour, data: &[u8], width| {
            let image = LabelImage::decode(&encode(width, 1, depth, colour, data)).unwrap();
            (0..width).map(|x| image.get(x, 0)).collect::<Vec<_>>()
        };
        assert_eq!(read(BitDepth::One, ColorType::Grayscale, &[0b0110_0000], 4), [0, 1, 1, 0]);
        assert_eq!(read(BitDepth::Two, ColorType::Grayscale, &[0b0001_1011], 4), [0, 85, 170, 255]);
        assert_eq!(read(BitDepth::Four, ColorType::Grayscale, &[0x0f, 0x20], 3), [0, 255, 34]);
        assert_eq!(read(BitDepth::Two, ColorType::Indexed, &[0b0001_1011], 4), [0, 1, 2, 3]);
        assert_eq!(read(BitDepth::Four, ColorType::Indexed, &[0x0f, 0x20], 3), [0, 15, 2]);
        assert_eq!(read(BitDepth::Eight, ColorType::Grayscale, &[0, 7, 255], 3), [0, 7, 255]);
        assert_eq!(read(BitDepth::Sixteen, ColorType::Grayscale, &[1, 0, 0, 3], 2), [256, 3]);
    }

    #[test]
    fn colour_is_refused_with_a_remedy() {
        let fault = LabelImage::decode(&encode(1, 1, BitDepth::Eight, ColorType::Rgb, &[1, 2, 3])).unwrap_err();
        assert!(fault.contains("RGB") && fault.contains("object ids"), "{fault}");
    }

    #[test]
    fn truncation_is_an_error_at_every_length() {
        let data: Vec<u8> = (0..64 * 48).map(|i| (i % 7) as u8).collect();
        let whole = encode(64, 48, BitDepth::Eight, ColorType::Grayscale, &data);
        let image_ends = whole.len() - 12 - 4;
        for length in 0..image_ends - 8 {
            assert!(LabelImage::decode(&whole[..length]).is_err(), "accepted {length} of {} bytes", whole.len());
        }
    }

    #[test]
    fn a_forged_header_is_refused_before_allocation() {
        let mut forged = encode(8, 8, BitDepth::Eight, ColorType::Grayscale, &[0; 64]);
        forged[16..24].copy_from_slice(&[0, 0, 0x3f, 0xff, 0, 0, 0x1f, 0xff]);
        let crc = crc32(&forged[12..29]);
        forged[29..33].copy_from_slice(&crc.to_be_bytes());
        let fault = LabelImage::decode(&forged).unwrap_err();
        assert!(fault.contains("16383x8191") && fault.contains("cannot hold"), "{fault}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &b| {
            (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 })
        })
    }

    proptest! {
        #[test]
        fn splitting_by_value_agrees_with_a_look_at_each_pixel(
            width in 1u32..150, height in 1u32..5, ids in prop::collection::vec(any::<u8>(), 1..6), seed in any::<u64>()
        ) {
            let mut state = seed | 1;
            let mut value = 0u8;
            let data: Vec<u8> = (0..width * height).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if state >> 60 == 0 { value = ids[(state >> 33) as usize % ids.len()]; }
                value
            }).collect();
            let image = LabelImage { width, height, values: Values::Byte(data.clone()) };
            let wide = LabelImage { width, height, values: Values::Word(data.iter().map(|&v| v.into()).collect()) };
            let masks = image.masks();
            prop_assert_eq!(&masks, &wide.masks());
            let mut present: Vec<u16> = data.iter().map(|&v| v.into()).filter(|&v| v != 0).collect();
            present.sort_unstable();
            present.dedup();
            prop_assert_eq!(masks.iter().map(|(id, _)| *id).collect::<Vec<_>>(), present);
            for (id, mask) in &masks {
                prop_assert_eq!(mask, &Mask::from_fn(width, height, |x, y| image.get(x, y) == *id));
            }
            let (all, _) = image.foreground();
            prop_assert_eq!(all, Mask::from_fn(width, height, |x, y| image.get(x, y) > 0));
        }
    }
}
