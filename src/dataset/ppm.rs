//! Frames on a pipe that say their own size: one PPM image (`P6`, 8 bits per channel) after the other, as ffmpeg's and GStreamer's
//! encoders write them.

use std::io::{BufRead, Read};

use super::{MAX_PIXELS, MAX_SIDE, RgbFrame};

/// The next frame, with its pixels in the memory of `rgb`; `None` where the stream ends between two frames.
///
/// # Errors
/// It ends inside a frame, or what comes is no frame that is read: in words.
pub(super) fn read(from: &mut impl BufRead, mut rgb: Vec<u8>) -> Result<Option<RgbFrame>, String> {
    let Some((width, height)) = header(from)? else { return Ok(None) };
    rgb.resize(width as usize * height as usize * 3, 0);
    from.read_exact(&mut rgb).map_err(inside)?;
    Ok(Some(RgbFrame { width, height, rgb }))
}

/// The header of the next frame, its last white space included: width and height; `None` at the end.
///
/// # Errors
/// As [`read`].
pub(super) fn header(from: &mut impl Read) -> Result<Option<(u32, u32)>, String> {
    let mut magic = [0u8; 2];
    match from.read(&mut magic[..1]) {
        Ok(0) => return Ok(None),
        Ok(_) => {}
        Err(e) => return Err(e.to_string()),
    }
    from.read_exact(&mut magic[1..]).map_err(inside)?;
    if &magic != b"P6" {
        return Err("what was sent is no PPM frame".to_string());
    }
    let mut fields = [0u64; 3];
    for field in &mut fields {
        *field = number(from).ok_or("a damaged frame header")?;
    }
    let [width, height, levels] = fields;
    let side = u64::from(MAX_SIDE);
    if levels != 255 || !(1..=side).contains(&width) || !(1..=side).contains(&height) || width * height > MAX_PIXELS {
        return Err(format!("frames of {width}x{height} with {levels} levels are not read"));
    }
    Ok(Some((width as u32, height as u32)))
}

fn inside(error: std::io::Error) -> String {
    format!("it stopped inside a frame ({error})")
}

/// A decimal number and the single white space after it, with white space before it skipped.
fn number(from: &mut impl Read) -> Option<u64> {
    let mut value: Option<u64> = None;
    loop {
        let mut byte = [0u8];
        from.read_exact(&mut byte).ok()?;
        match byte[0] {
            b'0'..=b'9' => value = Some(value.unwrap_or(0).checked_mul(10)?.checked_add(u64::from(byte[0] - b'0'))?),
            b' ' | b'\n' | b'\r' | b'\t' if value.is_none() => {}
            b' ' | b'\n' | b'\r' | b'\t' => return value,
            _ => return None,
        }
    }
}
