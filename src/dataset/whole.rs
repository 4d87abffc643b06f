//! Does an image file reach its end? Its markers or chunks are followed, so data behind the end does no harm: cameras,
//! phones and download tools append some.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use jetbench_runners::files;
use jetbench_runners::lfs::{LFS_POINTER, is_lfs_pointer};

use super::label_png::read_file;

/// Is the whole image there? Reads its end, and the file only when the mark is not in it.
///
/// # Errors
/// What is wrong, without the file's name.
pub(crate) fn check_file(path: &Path) -> Result<(), String> {
    let mut file = files::plain(path).map_err(|e| e.to_string())?;
    let length = file.metadata().map_err(|e| e.to_string())?.len();
    let mut start = Vec::new();
    let mut end = Vec::new();
    file.by_ref()
        .take(64)
        .read_to_end(&mut start)
        .and_then(|_| file.seek(SeekFrom::Start(length.saturating_sub(1024))))
        .and_then(|_| file.take(1024).read_to_end(&mut end))
        .map_err(|e| e.to_string())?;
    if start.is_empty() {
        return Err("empty file".to_string());
    }
    if is_lfs_pointer(&start) {
        return Err(LFS_POINTER.to_string());
    }
    let Some((_, mark)) = format(&start) else { return Ok(()) }; // what it is instead is said when it is read
    if holds(&end, mark) { Ok(()) } else { check(&read_file(path).map_err(|e| e.0)?) }
}

/// The same for a file in memory; `Ok` for what is neither JPEG nor PNG.
///
/// # Errors
/// What is wrong, and what to do.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let Some((kind, mark)) = format(bytes) else { return Ok(()) };
    let whole = holds(&bytes[bytes.len().saturating_sub(1024)..], mark)
        || if kind == "JPEG" { jpeg_ends(&bytes[2..]) } else { png_ends(&bytes[8..]) };
    if whole { Ok(()) } else { Err(format!("truncated {kind}: it has no end marker; copy the file again")) }
}

fn format(start: &[u8]) -> Option<(&'static str, &'static [u8])> {
    if start.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Some(("PNG", b"IEND"));
    }
    start.starts_with(&[0xff, 0xd8]).then_some(("JPEG", &[0xff, 0xd9]))
}

fn holds(end: &[u8], mark: &[u8]) -> bool {
    end.windows(mark.len()).any(|w| w == mark)
}

/// Follows the segments after SOI up to EOI.
fn jpeg_ends(mut rest: &[u8]) -> bool {
    loop {
        // To the next marker: inside a scan, 0xff 0x00 is data and RST0 to RST7 are part of it; 0xff may be repeated.
        let Some(at) = rest.windows(2).position(|w| w[0] == 0xff && !matches!(w[1], 0x00 | 0xff | 0xd0..=0xd7)) else {
            return false;
        };
        let marker = rest[at + 1];
        rest = &rest[at + 2..];
        match marker {
            0xd9 => return true,
            0x01 | 0xd8 => {}
            _ => {
                let [high, low, ..] = rest else { return false };
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                let Some(after) = rest.get(length.max(2)..) else { return false };
                rest = after;
            }
        }
    }
}

/// Follows the chunks up to IEND.
fn png_ends(mut rest: &[u8]) -> bool {
    loop {
        let Some((head, after)) = rest.split_at_checked(8) else { return false };
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(next) = after.get(length.saturating_add(4)..) else { return false };
        if &head[4..] == b"IEND" {
            return true;
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_behind_the_end_does_no_harm_and_a_missing_end_is_found() {
        let jpeg = std::fs::read("tests/cases/jpeg/grad_37x29.jpg").unwrap();
        let mut png = Vec::new();
        png::Encoder::new(&mut png, 3, 2).write_header().unwrap().write_image_data(&[1; 6]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        for (image, kind) in [(&jpeg, "JPEG"), (&png, "PNG")] {
            for trailer in [0, 7, 5_000, 200_000] {
                let file = [image.as_slice(), &vec![0x41; trailer]].concat();
                std::fs::write(&path, &file).unwrap();
                assert_eq!((check(&file), check_file(&path)), (Ok(()), Ok(())), "{kind}, {trailer} bytes behind it");
                let cut = [&image[..image.len() - 12], &vec![0x41; trailer]].concat();
                std::fs::write(&path, &cut).unwrap();
                assert!(check(&cut).unwrap_err().contains(&format!("truncated {kind}")));
                assert!(check_file(&path).unwrap_err().contains("truncated"));
            }
        }
        // A thumbnail in a segment of its own has an end marker, which is not the picture's.
        let thumb =
            [&[0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd9, 0, 0][..], &jpeg[2..jpeg.len() - 2], &[0x41; 2000]].concat();
        assert!(check(&thumb).is_err());
    }
}
