//! SA-V's training split: one `<video>.mp4` and one `<video>_manual.json` per video, masks as run lengths in the COCO
//! text form. Annotations stand for every fourth frame (6 of 24 per second) and list all objects on each of them. The
//! automatic masklets (`_auto.json`) were made by a model, so they are no ground truth and are not read.

use std::path::{Path, PathBuf};

use jetbench_runners::files;
use jetbench_runners::types::Mask;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::DataError;
use super::content::Sha;

/// Frames of the video from one annotation to the next.
pub(super) const STRIDE: usize = 4;

/// End of the name of a video's annotation file.
pub(super) const ENDING: &str = "_manual.json";

/// Annotations of one video, still as text: a mask is unpacked when it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masklets {
    path: PathBuf,
    sha: Sha,
    /// Names of the objects: their `masklet_id`, three digits as in the validation split.
    names: Vec<String>,
    width: u32,
    height: u32,
    /// Per annotation, per object: run lengths.
    counts: Vec<Vec<String>>,
}

#[derive(Deserialize)]
struct MaskletFile {
    masklet: Vec<Vec<Rle>>,
    masklet_id: Vec<u32>,
}

#[derive(Deserialize)]
struct Rle {
    /// Height, width.
    size: [u32; 2],
    counts: String,
}

impl Masklets {
    /// Reads an annotation file.
    ///
    /// # Errors
    /// Names the file, and the annotation and object that do not fit.
    pub(super) fn read(path: &Path) -> Result<Masklets, DataError> {
        let fail = |what: String| DataError(format!("{}: {what}", path.display()));
        let text = files::read_text(path, files::LARGE).map_err(|e| fail(e.to_string()))?;
        let sha = Sha256::digest(text.as_bytes()).into();
        let file: MaskletFile = serde_json::from_str(&text).map_err(|e| fail(format!("not a SA-V annotation: {e}")))?;
        let names: Vec<String> = file.masklet_id.iter().map(|id| format!("{id:03}")).collect();
        if let Some(id) = (1..names.len()).find(|&i| names[..i].contains(&names[i])) {
            return Err(fail(format!("masklet_id {} is there twice", names[id])));
        }
        let Some([height, width]) = file.masklet.iter().flatten().map(|rle| rle.size).next() else {
            return Err(fail("no mask in `masklet`".to_string()));
        };
        super::label_png::bound_size(width, height, 0, 0).map_err(&fail)?;
        let mut counts = Vec::with_capacity(file.masklet.len());
        for (at, row) in file.masklet.into_iter().enumerate() {
            if row.len() != names.len() {
                return Err(fail(format!(
                    "masklet[{at}] has {} masks, but masklet_id names {} objects",
                    row.len(),
                    names.len()
                )));
            }
            for (object, rle) in names.iter().zip(&row) {
                if rle.size != [height, width] {
                    return Err(fail(format!(
                        "masklet[{at}], object {object}: mask of {}x{}, the first one is {width}x{height}",
                        rle.size[1], rle.size[0]
                    )));
                }
            }
            counts.push(row.into_iter().map(|rle| rle.counts).collect());
        }
        Ok(Masklets { path: path.to_path_buf(), sha, names, width, height, counts })
    }

    /// The file, and SHA-256 of what was read of it.
    pub fn content(&self) -> (&Path, Sha) {
        (&self.path, self.sha)
    }

    /// Objects, in the file's order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Width and height of every mask, pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Indices of the annotated frames among the first `frames` of the video.
    pub fn annotated(&self, frames: usize) -> Vec<usize> {
        (0..self.counts.len()).map(|i| i * STRIDE).take_while(|&f| f < frames).collect()
    }

    /// Annotations that the file holds.
    pub fn annotations(&self) -> usize {
        self.counts.len()
    }

    /// Mask of the object named `object` on video frame `frame`.
    ///
    /// # Errors
    /// A frame without annotation, an object that is not in the file, damaged run lengths.
    pub fn mask(&self, object: &str, frame: usize) -> Result<Mask, DataError> {
        let fail = |what: &str| DataError(format!("{}: frame {frame}, object {object}: {what}", self.path.display()));
        let row = frame.is_multiple_of(STRIDE).then(|| self.counts.get(frame / STRIDE)).flatten();
        let row = row.ok_or_else(|| fail("not annotated"))?;
        let at = self.names.iter().position(|n| n == object).ok_or_else(|| fail("no such object"))?;
        let runs = runs(row[at].as_bytes()).ok_or_else(|| fail("`counts` is not a COCO run-length text"))?;
        unpack(self.width, self.height, &runs)
            .ok_or_else(|| fail(&format!("its run lengths do not fill {}x{} pixels", self.width, self.height)))
    }
}

/// Mask of `width` x `height` pixels from COCO's text form of its run lengths.
///
/// # Errors
/// What is wrong with size or text, without a file name.
pub(crate) fn coco_mask(width: u32, height: u32, text: &str) -> Result<Mask, String> {
    super::label_png::bound_size(width, height, 0, 0)?;
    let runs = runs(text.as_bytes()).ok_or("not a COCO run-length text")?;
    unpack(width, height, &runs).ok_or_else(|| format!("its run lengths do not fill {width}x{height} pixels"))
}

/// Run lengths from COCO's text form: groups of five bits, lowest first, each a character from `0` on, with a sixth bit
/// for "more follows"; from the third run on the difference to the run before the last (pycocotools, `rleFrString`).
/// `None` for text that is none.
pub(crate) fn runs(text: &[u8]) -> Option<Vec<u32>> {
    let mut runs: Vec<u32> = Vec::new();
    let mut bytes = text.iter();
    while let Some(&first) = bytes.next() {
        let (mut byte, mut value, mut shift) = (first, 0i64, 0u32);
        loop {
            let group = i64::from(byte.checked_sub(b'0').filter(|g| *g < 64)?);
            value |= (group & 31) << shift;
            shift += 5;
            if group & 32 == 0 {
                if group & 16 != 0 {
                    value |= -1 << shift;
                }
                break;
            }
            // Seven groups hold every difference of two 32-bit runs.
            byte = *bytes.next().filter(|_| shift < 35)?;
        }
        if runs.len() > 2 {
            value += i64::from(runs[runs.len() - 2]);
        }
        runs.push(u32::try_from(value).ok()?);
    }
    Some(runs)
}

/// Mask from runs in column order, background first; `None` when they do not fill it exactly.
fn unpack(width: u32, height: u32, runs: &[u32]) -> Option<Mask> {
    let total = u64::from(width) * u64::from(height);
    if runs.iter().map(|&r| u64::from(r)).sum::<u64>() != total {
        return None;
    }
    let mut mask = Mask::empty(width, height);
    let (mut x, mut y) = (0u32, 0u32);
    for (i, &run) in runs.iter().enumerate() {
        let mut left = run;
        while left > 0 {
            let here = left.min(height - y);
            if i % 2 == 1 {
                (y..y + here).for_each(|y| mask.set(x, y));
            }
            (left, y) = (left - here, y + here);
            if y == height {
                (x, y) = (x + 1, 0);
            }
        }
    }
    Some(mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The inverse of [`runs`], after pycocotools' `rleToString`.
    fn text(runs: &[u32]) -> String {
        let mut text = String::new();
        for (i, &run) in runs.iter().enumerate() {
            let mut value = i64::from(run) - if i > 2 { i64::from(runs[i - 2]) } else { 0 };
            loop {
                let group = (value & 31) as u8;
                value >>= 5;
                let more = if group & 16 != 0 { value != -1 } else { value != 0 };
                text.push(char::from(b'0' + (group | u8::from(more) << 5)));
                if !more {
                    break;
                }
            }
        }
        text
    }

    fn columns(mask: &Mask) -> Vec<u32> {
        let (mut runs, mut value, mut length) = (Vec::new(), false, 0);
        for x in 0..mask.width() {
            for y in 0..mask.height() {
                if mask.get(x, y) != value {
                    runs.push(length);
                    (value, length) = (!value, 0);
                }
                length += 1;
            }
        }
        runs.push(length);
        runs
    }

    /// `pycocotools.mask.encode(np.asfortranarray(mask))["counts"]` of a 7x5 mask (h = 5, w = 7) with ones at
    /// (row, column) (1, 0), (2, 0), (1, 1), (4, 6), of an empty one and of a full one.
    #[test]
    fn texts_of_pycocotools_are_read() {
        let mask = unpack(7, 5, &runs(b"123Oh00").unwrap()).unwrap();
        let ones: Vec<(u32, u32)> =
            (0..5).flat_map(|y| (0..7).map(move |x| (y, x))).filter(|&(y, x)| mask.get(x, y)).collect();
        assert_eq!(ones, [(1, 0), (1, 1), (2, 0), (4, 6)]);
        assert!(unpack(7, 5, &runs(b"S1").unwrap()).unwrap().is_empty());
        assert!(unpack(7, 5, &runs(b"0S1").unwrap()).unwrap().is_full());
    }

    #[test]
    fn damaged_texts_are_refused() {
        assert_eq!(runs(b"oo"), None, "ends inside a number");
        assert_eq!(runs(b"~"), None, "not a group");
        assert_eq!(runs(b"oooooooooo1"), None, "longer than any run");
        assert_eq!(runs(b"O"), None, "negative");
        assert_eq!(unpack(2, 2, &[3]), None);
    }

    #[test]
    fn files_are_checked_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v_manual.json");
        let read = |json: &str| {
            std::fs::write(&path, json).unwrap();
            Masklets::read(&path)
        };
        let rle = r#"{"size": [2, 3], "counts": "6"}"#;
        let good = read(&format!(r#"{{"masklet_id": [0, 12], "masklet": [[{rle}, {rle}], [{rle}, {rle}]], "x": 1}}"#));
        let good = good.unwrap();
        assert_eq!(good.names(), ["000", "012"]);
        assert_eq!((good.size(), good.annotated(4), good.annotated(9)), ((3, 2), vec![0], vec![0, 4]));
        assert!(good.mask("012", 4).unwrap().is_empty());
        assert!(good.mask("012", 5).unwrap_err().0.contains("not annotated"));
        let fault = |json: &str| read(json).unwrap_err().0;
        assert!(fault("[]").contains("not a SA-V annotation"));
        assert!(
            fault(&format!(r#"{{"masklet_id": [0, 1], "masklet": [[{rle}]]}}"#)).contains("masklet[0] has 1 masks")
        );
        assert!(fault(&format!(r#"{{"masklet_id": [1, 1], "masklet": [[{rle}, {rle}]]}}"#)).contains("twice"));
        let huge = r#"{"masklet_id": [1], "masklet": [[{"size": [4000000000, 4000000000], "counts": "6"}]]}"#;
        assert!(fault(huge).contains("4000000000"));
    }

    proptest! {
        #[test]
        fn any_mask_survives_the_text(w in 1u32..40, h in 1u32..40, seed in any::<u64>()) {
            let mask = Mask::from_fn(w, h, |x, y| (seed ^ (u64::from(x / 3) * 31) ^ (u64::from(y / 2) * 7)) % 3 == 0);
            let text = text(&columns(&mask));
            prop_assert_eq!(unpack(w, h, &runs(text.as_bytes()).unwrap()).unwrap(), mask);
        }

        #[test]
        fn any_bytes_end_with_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(runs) = runs(&bytes) {
                let _ = unpack(17, 11, &runs);
            }
        }
    }
}
