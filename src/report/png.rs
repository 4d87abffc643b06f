//! PNG files of what was drawn: plots and overlays.

use std::path::Path;

use crate::dataset::RgbFrame;

/// An image as the bytes of a PNG file: 8-bit RGB.
///
/// # Errors
/// When the image has no pixels or not `width * height * 3` bytes.
pub fn encode(image: &RgbFrame) -> Result<Vec<u8>, ::png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut bytes, image.width, image.height);
    encoder.set_color(::png::ColorType::Rgb);
    encoder.set_depth(::png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&image.rgb)?;
    writer.finish()?;
    Ok(bytes)
}

/// Writes an image as a PNG file.
///
/// # Errors
/// When the image is not whole or the file cannot be written; names the file.
pub fn write(path: &Path, image: &RgbFrame) -> std::io::Result<()> {
    let named = |e: &dyn std::fmt::Display| std::io::Error::other(format!("{}: {e}", path.display()));
    let bytes = encode(image).map_err(|e| named(&e))?;
    std::fs::write(path, bytes).map_err(|e| std::io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let rgb: Vec<u8> = (0..7 * 5 * 3).map(|i| (i * 37 % 256) as u8).collect();
        let image = RgbFrame { width: 7, height: 5, rgb: rgb.clone() };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        write(&path, &image).unwrap();
        let mut reader =
            ::png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&path).unwrap())).read_info().unwrap();
        let mut out = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut out).unwrap();
        assert_eq!((info.width, info.height, info.color_type), (7, 5, ::png::ColorType::Rgb));
        assert_eq!(out, rgb);
    }

    #[test]
    fn faults_name_the_file() {
        let image = RgbFrame { width: 2, height: 2, rgb: vec![0; 12] };
        let error = write(Path::new("/nowhere/at/all.png"), &image).unwrap_err().to_string();
        assert!(error.contains("/nowhere/at/all.png"), "{error}");
        assert!(encode(&RgbFrame { width: 0, height: 0, rgb: vec![] }).is_err());
        assert!(encode(&RgbFrame { rgb: vec![0; 3], ..image }).is_err());
    }
}
