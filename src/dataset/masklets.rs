//! SA-V's training split: one `<video>.mp4` and one `<video>_manual.json` per video, masks as run lengths in the COCO
//! text form. Annotations stand for every fourth frame (6 of 24 per second) and list all objects on each of them. The
//! automatic masklets (`_auto.json`) were made by a model, so they are no ground truth and are not read.

use std::path::{Path, PathBuf};

use jetbench_runners::files;
use jetbench_runners::types::Mask;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::DataError;
use super::coco_rle::{runs, unpack};
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
