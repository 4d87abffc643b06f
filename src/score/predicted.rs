//! Where do the predicted masks of a video lie? In a folder of PNG files, or as run lengths in one file; whoever scores masks
//! reads both through here, so that the same masks have the same scores.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::dataset::mask_lines::{ENDING, MaskLines, file_names};
use crate::dataset::{DataError, LabelMasks, directories, entries};

/// Predicted masks of a video, or of one of its objects.
#[derive(Clone, Debug)]
pub(super) enum Predicted {
    /// A folder, which need not be there.
    Folder(PathBuf),
    /// A file of run lengths; of it one object, or all.
    Lines(Arc<MaskLines>, Option<String>),
}

/// Names of the videos of which there are masks in `root`, sorted.
///
/// # Errors
/// The folder cannot be read; a video is there in both forms.
pub(super) fn videos(root: &Path) -> Result<Vec<String>, DataError> {
    let mut names = directories(root)?;
    names.extend(entries(root)?.iter().filter_map(|name| name.strip_suffix(ENDING).map(str::to_string)));
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(twice(root, &pair[0])),
        None => Ok(names),
    }
}

fn twice(root: &Path, video: &str) -> DataError {
    DataError(format!(
        "{}: both {video}/ and {video}{ENDING} are there: which are the masks? move one away",
        root.display()
    ))
}

impl Predicted {
    /// The masks of `video` in `root`.
    ///
    /// # Errors
    /// Its file of run lengths cannot be read: names it, and the line; both forms are there.
    pub(super) fn of_video(root: &Path, video: &str) -> Result<Predicted, DataError> {
        let (folder, file) = (root.join(video), root.join(&file_names(video)[0]));
        match (folder.is_dir(), file.is_file()) {
            (true, true) => Err(twice(root, video)),
            (false, true) => Ok(Predicted::Lines(Arc::new(MaskLines::open(&file)?), None)),
            _ => Ok(Predicted::Folder(folder)),
        }
    }

    /// Those of one object.
    pub(super) fn object(&self, name: &str) -> Predicted {
        match self {
            Predicted::Folder(folder) => Predicted::Folder(folder.join(name)),
            Predicted::Lines(video, _) => Predicted::Lines(Arc::clone(video), Some(name.to_string())),
        }
    }

    /// Is there anything?
    pub(super) fn is_there(&self) -> bool {
        match self {
            Predicted::Folder(folder) => folder.is_dir(),
            Predicted::Lines(video, object) => object.as_ref().is_none_or(|name| video.objects().contains(name)),
        }
    }

    /// Names of the objects, where each has masks of its own.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(super) fn objects(&self) -> Result<Vec<String>, DataError> {
        match self {
            Predicted::Folder(folder) => directories(folder),
            Predicted::Lines(video, _) => Ok(video.objects().to_vec()),
        }
    }

    /// Names of the files of its frames; as PNG files would be called, where there are none.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(super) fn files(&self) -> Result<Vec<String>, DataError> {
        match self {
            Predicted::Folder(folder) => entries(folder),
            Predicted::Lines(video, _) => Ok(video.frames().map(|frame| format!("{frame}.png")).collect()),
        }
    }

    /// That file, where each frame has one.
    pub(super) fn file(&self, name: &str) -> Option<PathBuf> {
        match self {
            Predicted::Folder(folder) => Some(folder.join(name)),
            Predicted::Lines(..) => None,
        }
    }

    /// Where the masks of the frame with this file are, in words.
    pub(super) fn place(&self, file: &str) -> String {
        match self {
            Predicted::Folder(folder) => folder.join(file).display().to_string(),
            Predicted::Lines(..) => format!("{self}: frame {}", file.strip_suffix(".png").unwrap_or(file)),
        }
    }

    /// The masks of the frame with this file.
    ///
    /// # Errors
    /// They cannot be read: names the file, and the frame where it holds several.
    pub(super) fn read(&self, file: &str) -> Result<LabelMasks, DataError> {
        match self {
            Predicted::Folder(folder) => LabelMasks::read(&folder.join(file)),
            Predicted::Lines(video, object) => {
                let frame = file.strip_suffix(".png").unwrap_or(file);
                object.as_ref().map_or_else(|| video.labels(frame), |object| video.object(object, frame))
            }
        }
    }
}

impl fmt::Display for Predicted {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Predicted::Folder(folder) => write!(f, "{}", folder.display()),
            Predicted::Lines(video, None) => write!(f, "{}", video.path().display()),
            Predicted::Lines(video, Some(object)) => write!(f, "{}, object {object}", video.path().display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_of_a_video_in_two_forms_are_refused() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("clip")).unwrap();
        std::fs::write(root.path().join(&file_names("clip")[0]), "").unwrap();
        let said = Predicted::of_video(root.path(), "clip").unwrap_err().to_string();
        assert!(said.contains("both clip/ and clip.rle.jsonl are there"), "{said}");
    }
}
