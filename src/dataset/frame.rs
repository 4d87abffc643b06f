//! Frames as RGB: one file at a time, or a whole sequence decoded ahead on its own thread so that decoding never sits
//! inside a measured frame.

use std::borrow::Cow;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jetbench_runners::lfs::{LFS_POINTER, is_lfs_pointer};
use png::Transformations;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::content::Witness;
use super::label_png::{MAX_SIDE, bound_size, png_fault, png_limits, read_file, read_file_into};
use super::video::VideoStream;
use super::{DataError, FFMPEG, FrameFile, RgbFrame, whole};

/// Reads a JPEG or PNG frame; which of the two, its first bytes say. Grey and palette become RGB, alpha is dropped.
///
/// # Errors
/// Names the file and the fault: unreadable, neither JPEG nor PNG, truncated, absurd size.
pub fn read_frame(path: &Path) -> Result<RgbFrame, DataError> {
    read_frame_in(path, &mut Vec::new(), Vec::new())
}

/// As [`read_frame`], with the file in the memory of `bytes` and the pixels in that of `rgb`.
fn read_frame_in(path: &Path, bytes: &mut Vec<u8>, rgb: Vec<u8>) -> Result<RgbFrame, DataError> {
    read_file_into(path, bytes)?;
    decode_frame_in(bytes, rgb).map_err(|fault| DataError(format!("{}: {fault}", path.display())))
}

/// Width and height of a frame file, from its header.
///
/// # Errors
/// As [`read_frame`].
pub fn frame_size(path: &Path) -> Result<(u32, u32), DataError> {
    header(path).map(|header| header.size)
}

/// What the header of a frame file says.
pub(super) struct Header {
    /// Width and height as stored, pixels.
    pub(super) size: (u32, u32),
    /// EXIF orientation, 1 to 8; 1 (upright) where none is given.
    pub(super) orientation: u8,
}

/// Reads the header of a frame file.
///
/// # Errors
/// As [`read_frame`].
pub(super) fn header(path: &Path) -> Result<Header, DataError> {
    let bytes = read_file(path)?;
    let found = if bytes.starts_with(&PNG_MAGIC) {
        let mut decoder = png::Decoder::new_with_limits(Cursor::new(&bytes), png_limits());
        decoder.read_header_info().map(|h| Header { size: (h.width, h.height), orientation: 1 }).map_err(png_fault)
    } else if bytes.starts_with(&JPEG_MAGIC) {
        contain(|| {
            refuse_coding(&bytes)?;
            let mut decoder = jpeg_decoder(&bytes);
            let size = jpeg_header(&mut decoder)?;
            Ok(Header { size, orientation: decoder.exif().and_then(|e| orientation(e)).unwrap_or(1) })
        })
    } else {
        Err(unknown(&bytes))
    };
    found.map_err(|fault| DataError(format!("{}: {fault}", path.display())))
}

/// Tag 0x0112 of the first directory of an EXIF block, which is a TIFF file.
fn orientation(exif: &[u8]) -> Option<u8> {
    let little = match exif.get(..4)? {
        [b'I', b'I', 42, 0] => true,
        [b'M', b'M', 0, 42] => false,
        _ => return None,
    };
    let short = |at: usize| {
        let pair = [*exif.get(at)?, *exif.get(at + 1)?];
        Some(if little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) })
    };
    let long = |at: usize| {
        let (a, b) = (u32::from(short(at)?), u32::from(short(at + 2)?));
        Some(if little { b << 16 | a } else { a << 16 | b } as usize)
    };
    let directory = long(4)?;
    let entries = usize::from(short(directory)?);
    let tag = (0..entries).map(|i| directory + 2 + 12 * i).find(|&at| short(at) == Some(0x0112))?;
    u8::try_from(short(tag + 8)?).ok().filter(|o| (1..=8).contains(o))
}

const PNG_MAGIC: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
const JPEG_MAGIC: [u8; 3] = [0xff, 0xd8, 0xff];

fn unknown(bytes: &[u8]) -> String {
    match bytes {
        [] => "empty file",
        _ if is_lfs_pointer(bytes) => LFS_POINTER,
        _ => "neither JPEG nor PNG",
    }
    .to_string()
}

/// Decodes a frame held in memory.
///
/// # Errors
/// The fault, without a file name.
pub fn decode_frame(bytes: &[u8]) -> Result<RgbFrame, String> {
    decode_frame_in(bytes, Vec::new())
}

/// As [`decode_frame`], with the pixels in the memory of `rgb`.
fn decode_frame_in(bytes: &[u8], rgb: Vec<u8>) -> Result<RgbFrame, String> {
    if bytes.starts_with(&PNG_MAGIC) {
        decode_png(bytes, rgb)
    } else if bytes.starts_with(&JPEG_MAGIC) {
        contain(|| decode_jpeg(bytes, rgb))
    } else {
        Err(unknown(bytes))
    }
}

/// A decoder that panics on a damaged file must not take the run with it.
fn contain<T>(decode: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| Err("damaged image: the decoder gave up".to_string()))
}

fn jpeg_decoder(bytes: &[u8]) -> JpegDecoder<ZCursor<&[u8]>> {
    // Strict: a truncated file is an error, not a half-grey frame.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(MAX_SIDE as usize)
        .set_max_height(MAX_SIDE as usize)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    JpegDecoder::new_with_options(ZCursor::new(bytes), options)
}

fn jpeg_header(decoder: &mut JpegDecoder<ZCursor<&[u8]>>) -> Result<(u32, u32), String> {
    decoder.decode_headers().map_err(|e| format!("not a readable JPEG ({e:?})"))?;
    let info = decoder.info().ok_or("not a readable JPEG (no header)")?;
    Ok((u32::from(info.width), u32::from(info.height)))
}

fn decode_jpeg(bytes: &[u8], mut rgb: Vec<u8>) -> Result<RgbFrame, String> {
    refuse_coding(bytes)?;
    let with_tables = with_tables(bytes);
    let mut decoder = jpeg_decoder(&with_tables);
    let (width, height) = jpeg_header(&mut decoder)?;
    // An 8x8 block takes at least a few bits per channel even when nothing is in it.
    bound_size(width, height, 1, bytes.len())?;
    rgb.resize(width as usize * height as usize * 3, 0);
    decoder.decode_into(&mut rgb).map_err(|e| format!("damaged or truncated JPEG ({e:?}); copy the file again"))?;
    // The entropy decoder pads with zeros where the data stops: an image cut inside its last rows shows only by its
    // missing end marker.
    whole::check(bytes)?;
    Ok(RgbFrame { width, height, rgb })
}

/// Frames cut out of a Motion JPEG stream have no Huffman tables, for it agrees on the standard's. The decoder knows them,
/// and takes them where the header says `AVI1`.
fn with_tables(bytes: &[u8]) -> Cow<'_, [u8]> {
    if segments(bytes).any(|marker| marker == 0xc4) {
        return Cow::Borrowed(bytes);
    }
    Cow::Owned([&bytes[..2], b"\xff\xe0\x00\x10AVI1\0\0\0\0\0\0\0\0\0\0", &bytes[2..]].concat())
}

/// Ways to code a JPEG that are not read, by the marker of its frame.
fn refuse_coding(bytes: &[u8]) -> Result<(), String> {
    let coding = segments(bytes).find(|m| matches!(m, 0xc0..=0xcf) && !matches!(m, 0xc4 | 0xc8 | 0xcc));
    match coding {
        Some(0xc9..=0xcb | 0xcd..=0xcf) => {
            Err("arithmetic-coded JPEG, which is not read; `jpegtran -optimize` rewrites it as an ordinary one without loss"
                .to_string())
        }
        Some(0xc3 | 0xc5..=0xc7) => Err("lossless or hierarchical JPEG, which is not read; save it as PNG".to_string()),
        _ => Ok(()),
    }
}

/// Markers of the segments before the first scan.
fn segments(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let mut at = 2;
    std::iter::from_fn(move || {
        while bytes.get(at..at + 2)? == [0xff, 0xff] {
            at += 1; // filling
        }
        let [0xff, marker, high, low] = *bytes.get(at..at + 4)? else { return None };
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
        (marker != 0xda).then_some(marker)
    })
}

fn decode_png(bytes: &[u8], mut raw: Vec<u8>) -> Result<RgbFrame, String> {
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), png_limits());
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let header = decoder.read_header_info().map_err(png_fault)?;
    let (width, height) = (header.width, header.height);
    bound_size(width, height, header.bits_per_pixel() as u64, bytes.len())?;
    let mut reader = decoder.read_info().map_err(png_fault)?;
    raw.resize(reader.output_buffer_size().ok_or("image too large")?, 0);
    let info = reader.next_frame(&mut raw).map_err(png_fault)?;
    let rgb = match info.color_type.samples() {
        3 => raw,
        4 => raw.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        samples => raw.chunks_exact(samples).flat_map(|p| [p[0]; 3]).collect(),
    };
    Ok(RgbFrame { width, height, rgb })
}

/// Gives single frames of a sequence. Frames of a video file come in ascending order: it is decoded once, forwards.
pub struct FramePicker<'a> {
    files: &'a [FrameFile],
    video: Option<&'a Path>,
    stream: Option<VideoStream>,
    /// Frames of the stream that have gone by.
    passed: usize,
}

impl<'a> FramePicker<'a> {
    pub(super) fn new(files: &'a [FrameFile], video: Option<&'a Path>) -> FramePicker<'a> {
        FramePicker { files, video, stream: None, passed: 0 }
    }

    /// Frame `index`. From a video file, a later one each time.
    ///
    /// # Errors
    /// As [`read_frame`]; a frame that the video does not have, or that has gone by.
    pub fn frame(&mut self, index: usize) -> Result<RgbFrame, DataError> {
        let Some(video) = self.video else {
            let file = self.files.get(index).ok_or_else(|| DataError(format!("there is no frame {index}")))?;
            return read_frame(&file.path);
        };
        let fault = |what: &str| DataError(format!("{} (frame {index}): {what}", video.display()));
        if index < self.passed {
            return Err(fault("frames of a video are read forwards only"));
        }
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(VideoStream::open(Path::new(FFMPEG), video)?),
        };
        loop {
            let frame = stream.next_frame()?.ok_or_else(|| fault("the video ends before it"))?;
            self.passed += 1;
            if self.passed > index {
                return Ok(frame);
            }
        }
    }
}

/// A frame that was decoded ahead.
#[derive(Clone, Debug)]
pub struct DecodedFrame {
    /// Index into the files the reader was given.
    pub index: usize,
    /// Pixels.
    pub frame: RgbFrame,
    /// Time from opening the file to finished pixels, on the decoding thread.
    pub decode: Duration,
}

impl DecodedFrame {
    /// [`DecodedFrame::decode`] in milliseconds.
    pub fn decode_ms(&self) -> f64 {
        self.decode.as_secs_f64() * 1e3
    }
}

/// Decodes frames in order on one thread, at most `ahead` frames before the one asked for. Iteration ends after the
/// last frame or after the first error; dropping the reader stops the thread.
pub struct FrameReader {
    frames: Option<Receiver<Result<DecodedFrame, DataError>>>,
    home: SyncSender<Vec<u8>>,
    thread: Option<JoinHandle<()>>,
}

impl FrameReader {
    /// Starts decoding `files`. Every frame must have the size of the first.
    pub fn new(files: &[FrameFile], ahead: usize) -> FrameReader {
        FrameReader::of_files(files, files.len(), ahead, None)
    }

    /// Starts decoding `total` frames: `files`, over and over. The witness takes note of each file once.
    pub(super) fn of_files(
        files: &[FrameFile],
        total: usize,
        ahead: usize,
        witness: Option<Arc<Witness>>,
    ) -> FrameReader {
        let files = files.to_vec();
        let mut bytes = Vec::new();
        FrameReader::start(total, ahead, move |index, rgb| {
            let file = &files[index % files.len()];
            let frame = read_frame_in(&file.path, &mut bytes, rgb)?;
            if let Some(witness) = witness.as_ref().filter(|_| index < files.len()) {
                witness.saw(&file.path, &bytes);
            }
            Ok((frame, file.path.display().to_string()))
        })
    }

    /// Starts decoding `total` frames of a video file: its first `length`, over and over.
    pub(super) fn of_video(video: &Path, length: usize, total: usize, ahead: usize) -> FrameReader {
        let video = video.to_path_buf();
        let mut stream = None;
        FrameReader::start(total, ahead, move |index, rgb| {
            if index % length == 0 {
                stream = None;
            }
            let place = format!("{} (frame {index})", video.display());
            let stream = match &mut stream {
                Some(stream) => stream,
                none => none.insert(VideoStream::open(Path::new(FFMPEG), &video)?),
            };
            match stream.next_frame_in(rgb)? {
                Some(frame) => Ok((frame, place)),
                None => Err(DataError(format!("{place}: the video ends before it"))),
            }
        })
    }

    /// Where pixels that are no longer needed can be sent: the decoding thread uses their memory again.
    pub fn home(&self) -> SyncSender<Vec<u8>> {
        self.home.clone()
    }

    /// Runs `read` for each index on a thread of its own; it is given memory for pixels, and gives a frame and its place for
    /// messages.
    fn start(
        total: usize,
        ahead: usize,
        mut read: impl FnMut(usize, Vec<u8>) -> Result<(RgbFrame, String), DataError> + Send + 'static,
    ) -> FrameReader {
        let (send, frames) = sync_channel(ahead.max(1));
        let (home, returned) = sync_channel(ahead.max(1) + 4);
        let thread = std::thread::spawn(move || {
            let mut size = None;
            for index in 0..total {
                let rgb = returned.try_recv().unwrap_or_default();
                let start = Instant::now();
                let result = read(index, rgb).and_then(|(frame, place)| {
                    let decode = start.elapsed();
                    let (width, height) = *size.get_or_insert((frame.width, frame.height));
                    if (frame.width, frame.height) != (width, height) {
                        return Err(DataError(format!(
                            "{place}: {}x{}, but the frames before it are {width}x{height}",
                            frame.width, frame.height
                        )));
                    }
                    Ok(DecodedFrame { index, frame, decode })
                });
                let failed = result.is_err();
                if send.send(result).is_err() || failed {
                    return;
                }
            }
        });
        FrameReader { frames: Some(frames), home, thread: Some(thread) }
    }
}

impl Iterator for FrameReader {
    type Item = Result<DecodedFrame, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.frames.as_ref()?.recv().ok()
    }
}

impl Drop for FrameReader {
    fn drop(&mut self) {
        // The thread ends at its next send once nobody listens.
        self.frames = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
