//! Pictures of the worst moments of a cell: the frames on which it lost an object, with what was true and what it
//! predicted. Made when the cell is scored, because masks do not outlive that; kept small, because they travel inside the
//! report.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::dataset::RgbFrame;
use crate::results::record::SequenceRecord;
use jetbench_runners::files;

/// Pictures per cell.
pub const MOST: usize = 3;
/// Longest side of a picture in pixels.
const SIDE: u32 = 300;

/// A frame on which an object was lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Video name.
    pub video: String,
    /// Object name.
    pub object: String,
    /// Index of the frame in the video.
    pub frame: u32,
    /// J there, 0..100.
    pub j: f64,
    /// File of the picture beside the list.
    pub file: String,
}

/// The pictures of one cell, read back.
#[derive(Clone, Debug, PartialEq)]
pub struct Thumb {
    /// Index of the cell.
    pub cell: usize,
    /// What it shows.
    pub moment: Moment,
    /// PNG.
    pub png: Vec<u8>,
}

/// The worst counted frames of a cell, at most one per object, worst first: video, object, frame, J. A J of 100 is no loss.
pub fn worst(sequences: &[SequenceRecord]) -> Vec<Moment> {
    let mut moments: Vec<Moment> = sequences
        .iter()
        .flat_map(|s| s.objects.iter().map(move |o| (s, o)))
        .filter_map(|(s, o)| {
            let lowest = o.per_frame.iter().filter(|f| f.counted && f.j < 100.0).min_by(|a, b| a.j.total_cmp(&b.j))?;
            let (video, object) = (s.video.clone(), o.object.clone());
            Some(Moment { video, object, frame: lowest.frame, j: lowest.j, file: String::new() })
        })
        .collect();
    moments.sort_by(|a, b| a.j.total_cmp(&b.j));
    moments.truncate(MOST);
    moments
}

/// The image, no side longer than 300 pixels; each pixel is the mean of those it covers.
pub fn shrink(image: &RgbFrame) -> RgbFrame {
    let longest = image.width.max(image.height);
    if longest <= SIDE {
        return image.clone();
    }
    let scaled = |v: u32| (u64::from(v) * u64::from(SIDE) / u64::from(longest)).max(1) as u32;
    let (width, height) = (scaled(image.width), scaled(image.height));
    let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
    for y in 0..height {
        let rows = span(y, height, image.height);
        for x in 0..width {
            let columns = span(x, width, image.width);
            let mut sum = [0u32; 3];
            for row in rows.clone() {
                for column in columns.clone() {
                    let at = (row * image.width as usize + column) * 3;
                    sum.iter_mut().zip(&image.rgb[at..at + 3]).for_each(|(s, v)| *s += u32::from(*v));
                }
            }
            let count = (rows.len() * columns.len()) as u32;
            rgb.extend(sum.map(|s| ((s + count / 2) / count) as u8));
        }
    }
    RgbFrame { width, height, rgb }
}

/// Source pixels that small pixel `i` of `n` covers.
fn span(i: u32, n: u32, of: u32) -> std::ops::Range<usize> {
    let at = |i: u32| (u64::from(i) * u64::from(of) / u64::from(n)) as usize;
    at(i)..at(i + 1).max(at(i) + 1)
}

/// Directory of the pictures below that of the run.
pub const DIR: &str = "moments";

/// The pictures of all cells below a run's directory; a list or picture that cannot be read is left out.
pub fn read(run: &Path, cells: usize) -> Vec<Thumb> {
    let mut thumbs = Vec::new();
    for cell in 0..cells {
        let dir = run.join(DIR).join(cell.to_string());
        let Ok(bytes) = files::read(&dir.join("moments.json"), files::LARGE) else { continue };
        let Ok(list) = serde_json::from_slice::<Vec<Moment>>(&bytes) else { continue };
        for moment in list {
            // The list is ours, but names in it must not lead elsewhere.
            let plain = !moment.file.contains(['/', '\\']);
            if let Some(png) = plain.then(|| files::read(&dir.join(&moment.file), files::LARGE).ok()).flatten() {
                thumbs.push(Thumb { cell, moment, png });
            }
        }
    }
    thumbs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_shrink_to_means() {
        let image = RgbFrame {
            width: 1200,
            height: 600,
            rgb: (0..1200 * 600).flat_map(|i| [(i % 2 * 200) as u8, 7, 9]).collect(),
        };
        let small = shrink(&image);
        assert_eq!((small.width, small.height, small.rgb.len()), (300, 150, 300 * 150 * 3));
        assert!(small.rgb.chunks(3).all(|p| p == [100, 7, 9]));
        let tiny = RgbFrame { width: 3, height: 2, rgb: vec![5; 18] };
        assert_eq!(shrink(&tiny), tiny);
        let thin = RgbFrame { width: 5000, height: 1, rgb: vec![5; 15000] };
        assert_eq!((shrink(&thin).width, shrink(&thin).height), (300, 1));
    }
}
