//! Are a video's masks label maps, or folders that hold one object each? The majority decides, so that a stray folder
//! (`preview`, `@eaDir`, `__MACOSX`) or file hides nothing; what is left out is named.

use std::path::Path;

use super::layout::listing;
use super::{DataError, Finding, LabelMasks};

/// How the masks of a video lie in its folder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Structure {
    /// Label maps: names of the `.png` files, sorted as text.
    Labels(Vec<String>),
    /// One folder per object: its name, and the names of the `.png` files in it.
    Folders(Vec<(String, Vec<String>)>),
}

/// Looks at the folder `dir`; `is_frame` knows the stems of the video's frames.
///
/// # Errors
/// A folder that cannot be listed; masks that are there in both forms.
pub(crate) fn structure(dir: &Path, is_frame: impl Fn(&str) -> bool) -> Result<(Structure, Vec<Finding>), DataError> {
    let (folders, files): (Vec<_>, Vec<_>) = listing(dir)?.into_iter().partition(|(_, is_dir)| *is_dir);
    let mut found = Vec::new();
    let (labels, other) = masks(files.into_iter().map(|(name, _)| name).collect());
    let mut objects = Vec::new();
    for (name, _) in folders {
        let inside = listing(&dir.join(&name))?.into_iter().filter(|(_, is_dir)| !is_dir).map(|(name, _)| name);
        let (masks, others) = masks(inside.collect());
        objects.push((name, masks, others));
    }
    let known = |names: &[String]| names.iter().filter(|n| n.strip_suffix(".png").is_some_and(&is_frame)).count();
    let numbered = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit());
    // Among numbered folders one with a word for a name is no object, nor is a folder without a mask.
    let numbers = objects.iter().filter(|(name, ..)| numbered(name)).count();
    let worded = numbers * 2 > objects.len();
    let is_object = |(name, masks, others): &(String, Vec<String>, Vec<String>)| {
        (!worded || numbered(name)) && (!masks.is_empty() || others.iter().any(|n| is_png(n)) || numbered(name))
    };
    let loose = known(&labels);
    let best = objects
        .iter()
        .filter(|object| is_object(object) && (loose == 0 || one_object(&dir.join(&object.0), &object.1)))
        .map(|(_, masks, _)| known(masks))
        .max()
        .unwrap_or(0);
    if loose > 1 && best == loose && numbers == objects.len() {
        return Err(DataError(format!(
            "{}: masks as label maps and in one folder per object ({loose} frames each); move one of the two away",
            dir.display()
        )));
    }
    let in_folders = if loose == 0 && best == 0 { !objects.is_empty() && labels.is_empty() } else { best > loose };
    let stray = |path: &Path, why: &str| match path.is_dir() && path.to_str().is_some_and(is_png) {
        true => Finding::error(path, "a directory in the place of a mask; move it away"),
        false => Finding::warning(path, format!("{why}; it is left out, move it away")),
    };
    if in_folders {
        for name in labels.iter().chain(&other) {
            found.push(stray(&dir.join(name), "a file among the objects' folders, on which the references abort"));
        }
        let (kept, gone): (Vec<_>, Vec<_>) = objects.into_iter().partition(is_object);
        found.extend(gone.iter().map(|(name, ..)| stray(&dir.join(name), "a folder that is no object's")));
        for (name, _, others) in &kept {
            found.extend(others.iter().map(|other| misnamed(&dir.join(name).join(other))));
        }
        return Ok((Structure::Folders(kept.into_iter().map(|(name, masks, _)| (name, masks)).collect()), found));
    }
    found.extend(objects.iter().map(|(name, ..)| stray(&dir.join(name), "a folder beside the label maps")));
    found.extend(other.iter().map(|name| misnamed(&dir.join(name))));
    Ok((Structure::Labels(labels), found))
}

/// Names of masks, and of everything else.
fn masks(names: Vec<String>) -> (Vec<String>, Vec<String>) {
    names.into_iter().partition(|n| n.ends_with(".png"))
}

fn is_png(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".png")
}

fn misnamed(path: &Path) -> Finding {
    if path.to_str().is_some_and(is_png) {
        return Finding::error(
            path,
            "masks end in `.png` in small letters, as every evaluator asks for them; rename it",
        );
    }
    Finding::warning(path, "not a .png: it is left out; the references abort on it or take it for a mask, move it away")
}

/// Does the first mask of a folder show one object?
fn one_object(folder: &Path, masks: &[String]) -> bool {
    let first = masks.first().map(|name| LabelMasks::read(&folder.join(name)));
    first.is_some_and(|masks| masks.is_ok_and(|m| m.masks.len() + usize::from(m.background) <= 2))
}
