//! Masks as images: a label map (a value per object), a mask of 0 and 255 (one object), or a folder with one mask per object.

use std::path::Path;

use jetbench_runners::types::PromptShape;

use super::{FrameName, UserPrompt};
use crate::dataset::layout::entries;
use crate::dataset::{DataError, LabelMasks};

/// The objects of one image; its name names the frame, or means the first one.
///
/// # Errors
/// Names the file.
pub(super) fn label_map(path: &Path) -> Result<Vec<UserPrompt>, DataError> {
    let masks = LabelMasks::read(path)?.masks;
    let one = masks.len() == 1 && masks[0].0 == 255;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let prompt = |(id, mask)| {
        let object = if one { "1".to_string() } else { format!("{id}") };
        UserPrompt { video: None, object, frame: FrameName::Named(stem.to_string()), shape: PromptShape::Mask(mask) }
    };
    Ok(masks.into_iter().map(prompt).collect())
}

/// One image per object: its name names the object, every pixel above 0 belongs to it; on the first frame.
///
/// # Errors
/// Names the file or folder.
pub(super) fn one_each(dir: &Path) -> Result<Vec<UserPrompt>, DataError> {
    let names: Vec<String> = entries(dir)?.into_iter().filter(|n| n.to_ascii_lowercase().ends_with(".png")).collect();
    if names.is_empty() {
        return Err(DataError(format!("{}: no PNG in it; one mask per object is expected, NAME.png", dir.display())));
    }
    let prompt = |name: &String| {
        let (mask, values) = LabelMasks::read(&dir.join(name))?.into_foreground();
        if values > 2 {
            return Err(DataError(format!(
                "{}: {} values besides 0; a file of a folder holds one object, give a label map by itself",
                dir.join(name).display(),
                values - 1
            )));
        }
        let object = name[..name.len() - 4].to_string();
        Ok(UserPrompt { video: None, object, frame: FrameName::Index(0), shape: PromptShape::Mask(mask) })
    };
    names.iter().map(prompt).collect()
}
