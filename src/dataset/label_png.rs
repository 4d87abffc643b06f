//! Masks as PNG files, read with the semantics of the references' reader (PIL): palette files give the raw index at any
//! bit depth, 1-bit grey gives 0 and 1, 2-bit and 4-bit grey are scaled to 8 bits, 8-bit and 16-bit grey keep their
//! values, transparency and gamma are ignored, colour is refused. Sizes in the header are bounded before anything is
//! allocated.

use std::io::Cursor;
use std::path::Path;

use jetbench_runners::files;
use jetbench_runners::lfs::{LFS_POINTER, is_lfs_pointer};
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
    values: SampleValues,
    format: Format,
}

/// How a mask file stores its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    width: u32,
    height: u32,
    depth: BitDepth,
    grey: bool,
}

impl Format {
    /// Bits per pixel: 1, 2, 4, 8 or 16.
    pub fn bits(&self) -> u8 {
        self.depth as u8
    }

    /// Grey levels (else: palette indices).
    pub fn grey(&self) -> bool {
        self.grey
    }

    /// Bytes per packed row.
    fn line(&self) -> usize {
        (self.width as usize * self.depth as usize).div_ceil(8)
    }

    /// SampleValues of a row of less than 8 bits per pixel.
    fn unpack(&self, packed: &[u8], row: &mut [u8]) {
        let bits = self.depth as usize;
        let scale = match (self.grey, self.depth) {
            (true, BitDepth::Two) => 85,
            (true, BitDepth::Four) => 17,
            _ => 1,
        };
        for (x, value) in row.iter_mut().enumerate() {
            *value = (packed[x * bits / 8] >> (8 - bits - x * bits % 8) & ((1 << bits) - 1)) * scale;
        }
    }
}

type PngReader<'a> = png::Reader<Cursor<&'a [u8]>>;

/// Decoder of a file whose samples are ids: they come as they are stored.
///
/// # Errors
/// The file is a Git LFS pointer.
pub(super) fn decoder(bytes: &[u8]) -> Result<png::Decoder<Cursor<&[u8]>>, String> {
    if is_lfs_pointer(bytes) {
        return Err(LFS_POINTER.to_string());
    }
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), png_limits());
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    Ok(decoder)
}

/// Reads and bounds the header; refuses colour.
fn open(bytes: &[u8]) -> Result<(PngReader<'_>, Format), String> {
    let mut decoder = decoder(bytes)?;
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
    let reader = decoder.read_info().map_err(png_fault)?;
    Ok((reader, Format { width, height, depth, grey: colour == ColorType::Grayscale }))
}

/// The rows of a file, one after the other; those of 16 bits per pixel and of interlaced files are not read this way.
pub(crate) struct LabelRows<'a> {
    reader: PngReader<'a>,
    format: Format,
    packed: Vec<u8>,
    values: Vec<u8>,
}

impl<'a> LabelRows<'a> {
    /// Of a PNG file held in memory; `None`: it has other rows.
    ///
    /// # Errors
    /// As [`LabelImage::decode`].
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Option<Self>, String> {
        let (reader, format) = open(bytes)?;
        if reader.info().interlaced || format.depth == BitDepth::Sixteen {
            return Ok(None);
        }
        let values = if format.depth == BitDepth::Eight { 0 } else { format.width as usize };
        Ok(Some(LabelRows { reader, format, packed: vec![0; format.line()], values: vec![0; values] }))
    }

    /// Width and height, pixels.
    pub(crate) fn size(&self) -> (u32, u32) {
        (self.format.width, self.format.height)
    }

    /// The next row as the file packs it.
    fn packed(&mut self) -> Result<&[u8], String> {
        self.reader.read_row(&mut self.packed).map_err(png_fault)?.ok_or("truncated PNG: rows are missing")?;
        Ok(&self.packed)
    }

    /// The values of the next row.
    ///
    /// # Errors
    /// It is not in the file, or damaged.
    pub(crate) fn next(&mut self) -> Result<&[u8], String> {
        self.packed()?;
        if self.format.depth == BitDepth::Eight {
            return Ok(&self.packed);
        }
        self.format.unpack(&self.packed, &mut self.values);
        Ok(&self.values)
    }

    /// When all rows are read: the chunk they came in must be whole too, as it must for [`LabelImage`].
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn finish(mut self) -> Result<(), String> {
        self.reader.read_row(&mut self.packed).map(drop).map_err(png_fault)
    }
}

/// The masks in a file, without the image between: what scoring needs, at the speed of the decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelMasks {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// One mask per non-zero value, in ascending order of value.
    pub masks: Vec<(u16, Mask)>,
    /// Is there a pixel of value 0?
    pub background: bool,
}

impl LabelMasks {
    /// Reads a PNG file.
    ///
    /// # Errors
    /// As [`LabelImage::read`].
    pub fn read(path: &Path) -> Result<LabelMasks, DataError> {
        let bytes = read_file(path)?;
        LabelMasks::decode(&bytes).map_err(|fault| DataError(format!("{}: {fault}", path.display())))
    }

    /// Decodes a PNG file held in memory, a row at a time.
    ///
    /// # Errors
    /// The fault, without a file name.
    pub fn decode(bytes: &[u8]) -> Result<LabelMasks, String> {
        let Some(mut rows) = LabelRows::open(bytes)? else { return Ok(LabelImage::decode(bytes)?.into_masks()) };
        let (width, height) = rows.size();
        let mut splitter = Splitter::new(width, height);
        for y in 0..height as usize {
            match rows.format.depth {
                BitDepth::One => splitter.bits(y, rows.packed()?),
                _ => splitter.row(y, rows.next()?),
            }
        }
        rows.finish()?;
        Ok(splitter.finish())
    }

    /// Pixels above 0, and how many distinct values the image has (a mask has at most 2).
    pub fn into_foreground(mut self) -> (Mask, usize) {
        let values = self.masks.len() + usize::from(self.background);
        let mut all =
            if self.masks.is_empty() { Mask::empty(self.width, self.height) } else { self.masks.swap_remove(0).1 };
        for (_, mask) in &self.masks {
            all.unite(mask);
        }
        (all, values)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum SampleValues {
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
        let (mut reader, format) = open(bytes)?;
        let mut raw = vec![0; reader.output_buffer_size().ok_or("image too large")?];
        reader.next_frame(&mut raw).map_err(png_fault)?;
        let Format { width, height, depth, .. } = format;
        let values = match depth {
            BitDepth::Eight => SampleValues::Byte(raw),
            BitDepth::Sixteen => {
                SampleValues::Word(raw.chunks_exact(2).map(|b| u16::from_be_bytes([b[0], b[1]])).collect())
            }
            _ => {
                let mut values = vec![0; width as usize * height as usize];
                let rows = raw.chunks_exact(format.line()).zip(values.chunks_exact_mut(width as usize));
                rows.for_each(|(packed, row)| format.unpack(packed, row));
                SampleValues::Byte(values)
            }
        };
        Ok(LabelImage { width, height, values, format })
    }

    /// How the file stores its values.
    pub fn format(&self) -> Format {
        self.format
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
            SampleValues::Byte(v) => u16::from(v[at]),
            SampleValues::Word(v) => v[at],
        }
    }

    /// One mask per non-zero value.
    pub fn into_masks(self) -> LabelMasks {
        let mut splitter = Splitter::new(self.width, self.height);
        match &self.values {
            SampleValues::Byte(v) => {
                v.chunks_exact(self.width as usize).enumerate().for_each(|(y, row)| splitter.row(y, row));
            }
            SampleValues::Word(v) => {
                v.chunks_exact(self.width as usize).enumerate().for_each(|(y, row)| splitter.wide_row(y, row));
            }
        }
        splitter.finish()
    }
}

/// Gathers the top bits of the 8 bytes of `word` (first byte: lowest bit).
#[inline(always)]
fn top_bits(word: u64) -> u64 {
    ((word >> 7) & ONES).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// A 1 in every byte.
const ONES: u64 = 0x0101_0101_0101_0101;

/// Bit `k` of the result: is byte `k` of the 64 bytes equal to `value`?
#[inline(always)]
fn equal_bits(words: &[u64; 8], value: u8) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let wanted = u64::from(value) * ONES;
    words.iter().enumerate().fold(0, |bits, (k, &word)| {
        let difference = word ^ wanted;
        let zero = !(((difference & LOW) + LOW) | difference | LOW);
        bits | top_bits(zero) << (8 * k)
    })
}

/// Turns rows of values into one bit-packed mask per value, 64 pixels at a time; nearly all of them are of one value.
struct Splitter {
    width: u32,
    height: u32,
    words: usize,
    /// Index into `found` by value, for values below 256.
    slot: [u16; 256],
    found: Vec<(u16, Mask)>,
    background: bool,
}

const NO_SLOT: u16 = u16::MAX;

impl Splitter {
    fn new(width: u32, height: u32) -> Splitter {
        let words = (width as usize).div_ceil(64);
        Splitter { width, height, words, slot: [NO_SLOT; 256], found: Vec::new(), background: false }
    }

    fn row(&mut self, y: usize, values: &[u8]) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("bmi1") {
            // SAFETY: the processor has just said that it has them.
            return unsafe { self.row_avx2(y, values) };
        }
        self.row_here(y, values);
    }

    /// The same code, compiled for vectors of 32 bytes.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1")]
    fn row_avx2(&mut self, y: usize, values: &[u8]) {
        self.row_here(y, values);
    }

    #[inline(always)]
    fn row_here(&mut self, y: usize, values: &[u8]) {
        let (chunks, rest) = values.as_chunks::<64>();
        for (i, chunk) in chunks.iter().enumerate() {
            self.chunk(y, i, chunk, !0);
        }
        if !rest.is_empty() {
            let mut padded = [rest[0]; 64];
            padded[..rest.len()].copy_from_slice(rest);
            self.chunk(y, chunks.len(), &padded, (1 << rest.len()) - 1);
        }
    }

    /// 64 pixels, of which those in `valid` exist.
    #[inline(always)]
    fn chunk(&mut self, y: usize, i: usize, values: &[u8; 64], valid: u64) {
        let (eights, _) = values.as_chunks::<8>();
        let words: [u64; 8] = std::array::from_fn(|k| u64::from_le_bytes(eights[k]));
        let first = u64::from(values[0]) * ONES;
        if words.iter().fold(0, |other, w| other | (w ^ first)) == 0 {
            self.put(y, i, values[0], valid);
            return;
        }
        let mut rest = valid;
        while rest != 0 {
            let value = values[rest.trailing_zeros() as usize];
            let bits = equal_bits(&words, value) & rest;
            rest &= !bits;
            self.put(y, i, value, bits);
        }
    }

    /// A row of 1-bit pixels, first pixel in the top bit.
    fn bits(&mut self, y: usize, packed: &[u8]) {
        for (i, bytes) in packed.chunks(8).enumerate() {
            let word = bytes.iter().enumerate().fold(0, |w, (k, b)| w | u64::from(b.reverse_bits()) << (8 * k));
            let left = self.width as usize - i * 64;
            let valid = if left >= 64 { !0 } else { (1 << left) - 1 };
            self.background |= !word & valid != 0;
            if word & valid != 0 {
                self.put(y, i, 1, word & valid);
            }
        }
    }

    fn wide_row(&mut self, y: usize, values: &[u16]) {
        for (x, &value) in values.iter().enumerate() {
            if let Ok(byte) = u8::try_from(value) {
                self.put(y, x / 64, byte, 1 << (x % 64));
                continue;
            }
            let at = match self.found.iter().position(|(id, _)| *id == value) {
                Some(at) => at,
                None => self.add(value),
            };
            self.found[at].1.set(x as u32, y as u32);
        }
    }

    #[inline(always)]
    fn put(&mut self, y: usize, i: usize, value: u8, bits: u64) {
        if value == 0 {
            self.background = true;
            return;
        }
        let mut at = self.slot[value as usize];
        if at == NO_SLOT {
            at = self.add(u16::from(value)) as u16;
            self.slot[value as usize] = at;
        }
        self.found[at as usize].1.words_mut()[y * self.words + i] |= bits;
    }

    #[cold]
    fn add(&mut self, value: u16) -> usize {
        self.found.push((value, Mask::empty(self.width, self.height)));
        self.found.len() - 1
    }

    fn finish(mut self) -> LabelMasks {
        self.found.sort_by_key(|(id, _)| *id);
        LabelMasks { width: self.width, height: self.height, masks: self.found, background: self.background }
    }
}

/// Whole file, refusing what cannot be an image of ours.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    read_file_into(path, &mut bytes)?;
    Ok(bytes)
}

/// As [`read_file`], in place of what `bytes` held, in its memory.
pub(crate) fn read_file_into(path: &Path, bytes: &mut Vec<u8>) -> Result<(), DataError> {
    const MAX_FILE: u64 = 1 << 29;
    files::read_into(path, MAX_FILE, bytes).map_err(|e| DataError(format!("{}: {e}", path.display())))
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
pub(super) mod tests;
