//! Which videos does a list file name? Names read from files are single path components: a list cannot lead outside the
//! dataset.

use std::collections::BTreeSet;
use std::path::Path;

use jetbench_runners::files;

use super::DataError;

/// Reads a list file: one name per line (the first word counts), or DAVIS 2016's pairs of a frame and its annotation
/// (`/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png`), whose folder is the name. Empty lines and lines
/// that start with `#` are left out.
///
/// # Errors
/// Names file and line for a name that is no single path component, or given twice.
pub fn read_list(path: &Path) -> Result<Vec<String>, DataError> {
    let text = files::read_text(path, files::SMALL).map_err(|e| DataError(format!("{}: {e}", path.display())))?;
    parse_list(&text).map_err(|(line, fault)| DataError(format!("{}:{line}: {fault}", path.display())))
}

/// [`read_list`] on text.
///
/// # Errors
/// (Line number from 1, fault).
pub fn parse_list(text: &str) -> Result<Vec<String>, (usize, String)> {
    let mut names = Vec::new();
    let mut seen = BTreeSet::new();
    let mut pairs = None;
    for (i, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let fail = |fault: String| (i + 1, fault);
        let Some(word) = line.split_whitespace().next().filter(|w| !w.starts_with('#')) else { continue };
        let folder = frame_folder(word);
        if *pairs.get_or_insert(folder.is_some()) != folder.is_some() {
            return Err(fail("the lines before it are of the other kind (names, or paths of frames)".to_string()));
        }
        let name = folder.unwrap_or(word);
        check_name(name).map_err(fail)?;
        if seen.insert(name.to_string()) {
            names.push(name.to_string());
        } else if folder.is_none() {
            return Err(fail(format!("`{name}` is listed twice")));
        }
    }
    Ok(names)
}

/// The video's folder in the path of one of its frames, as DAVIS 2016 lists them.
fn frame_folder(word: &str) -> Option<&str> {
    let mut parts = word.rsplit('/');
    let (file, folder) = (parts.next()?, parts.next()?);
    let (_, ending) = file.rsplit_once('.')?;
    let image = ["jpg", "jpeg", "png"].contains(&ending.to_ascii_lowercase().as_str());
    (image && parts.any(|p| p == "JPEGImages")).then_some(folder)
}

/// Only a plain name may become part of a path.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let plain =
        !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0']) && name.len() <= 255;
    if plain { Ok(()) } else { Err(format!("`{}` is not a plain name", name.escape_debug())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_give_names_and_refuse_paths() {
        assert_eq!(parse_list("\u{feff}bear\n\n# no\r\nblackswan x\n").unwrap(), ["bear", "blackswan"]);
        for bad in ["../x", "a/b", "..", "c:\\x", "/etc", "a\\b"] {
            assert_eq!(parse_list(&format!("ok\n{bad}\n")).unwrap_err().0, 2, "{bad}");
        }
        assert_eq!(parse_list("a\nb\na\n").unwrap_err(), (3, "`a` is listed twice".to_string()));
    }

    /// `ImageSets/480p/val.txt` of DAVIS 2016: a line per frame.
    #[test]
    fn pairs_of_frame_and_annotation_name_their_folder_once() {
        let pair =
            |video: &str, n: u32| format!("/JPEGImages/480p/{video}/{n:05}.jpg /Annotations/480p/{video}/{n:05}.png\n");
        let text = [pair("swan", 0), pair("swan", 1), pair("bear", 0)].concat();
        assert_eq!(parse_list(&text).unwrap(), ["swan", "bear"]);
        assert_eq!(parse_list(&format!("{text}camel\n")).unwrap_err().0, 4);
        for bad in ["/JPEGImages/480p/../0.jpg", "/JPEGImages/480p//0.jpg", "/other/bear/0.jpg", "JPEGImages/0.txt"] {
            assert_eq!(parse_list(bad).unwrap_err().0, 1, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_listed_name_leaves_its_folder(text in any::<String>()) {
            if let Ok(names) = parse_list(&text) {
                for name in names {
                    let joined = Path::new("root").join(&name);
                    prop_assert_eq!(joined.components().count(), 2);
                    prop_assert!(joined.starts_with("root"));
                }
            }
        }
    }
}
