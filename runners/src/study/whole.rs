//! Does a pack lie within its directory? What of it leads outside (links, frames of its golden clips that several packs share), and a copy in which
//! nothing does.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::files;
use crate::manifest::{self, Manifest};
use crate::pack::{Pack, read_text};
use crate::packs;
use crate::runner::RunnerError;

/// Deepest folder of a pack that is read; links can lead in a circle.
const DEEPEST: usize = 16;
/// More files than any pack has.
const MOST_FILES: usize = 100_000;

/// Everything of the pack in `dir` that leads out of it, each with where it leads to, in words.
///
/// # Errors
/// [`RunnerError::Pack`] when a folder or the index of golden clips cannot be read.
pub fn outside(dir: &Path) -> Result<Vec<String>, RunnerError> {
    let real = dir.canonicalize().map_err(|e| wrong(dir, &e))?;
    let mut found = Vec::new();
    for link in Tree::read(dir)?.links {
        match dir.join(&link).canonicalize() {
            Ok(target) if target.starts_with(&real) => {}
            Ok(target) => found.push(format!("{} is a link to {}", link.display(), target.display())),
            Err(e) => found.push(format!("{} is a link that leads nowhere ({e})", link.display())),
        }
    }
    if let Some(index) = Index::read(dir)? {
        for (place, path) in index.entries() {
            let target = index.dir.join(&path);
            let sentence = match target.canonicalize() {
                Ok(target) if target.starts_with(&real) || !leads_up(&path) => continue, // or through a link that was named
                Ok(target) => format!("{}: {place} are in {}", index.file, target.display()),
                Err(e) => format!("{}: {place}: {}: {e}", index.file, target.display()),
            };
            if !found.contains(&sentence) {
                found.push(sentence);
            }
        }
    }
    Ok(found)
}

/// Copies the pack in `from` to the new directory `to`, with real files in place of links, and with the frames and tensors of its golden
/// clips in it. Its manifest stays what it is, and so does its digest. Says what was brought in.
///
/// # Errors
/// [`RunnerError::Usage`] when `to` exists already; [`RunnerError::Pack`] when something of the pack cannot be read or is broken;
/// [`RunnerError::Environment`] when the copy cannot be written. Nothing is left of a copy that failed.
pub fn copy(from: &Path, to: &Path) -> Result<Vec<String>, RunnerError> {
    let digest = packs::digest_of(from)?;
    if to.symlink_metadata().is_ok() {
        return Err(RunnerError::Usage(format!("{}: exists already; name a new directory", to.display())));
    }
    let brought = outside(from)?;
    let parent = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = to.file_name().ok_or_else(|| RunnerError::Usage(format!("{}: no name of a directory", to.display())))?;
    std::fs::create_dir_all(parent).map_err(|e| unwritten(parent, &e))?;
    let half = parent.join(format!(".copying-{}-{}", std::process::id(), name.to_string_lossy()));
    let copied = copy_into(from, &half)
        .and_then(|()| {
            // Packs of some families have no such manifest.
            if let Ok(pack) = Pack::read(&half) {
                pack.manifest.dtypes().into_iter().try_for_each(|dtype| pack.check(dtype))?;
            }
            match packs::digest_of(&half)? == digest {
                true => Ok(()),
                false => Err(RunnerError::Pack(format!("{}: it changed while it was copied", from.display()))),
            }
        })
        .and_then(|()| std::fs::rename(&half, to).map_err(|e| unwritten(to, &e)));
    if copied.is_err() {
        let _ = std::fs::remove_dir_all(&half);
    }
    copied.map(|()| brought)
}

fn copy_into(from: &Path, to: &Path) -> Result<(), RunnerError> {
    copy_tree(from, to)?;
    let Some(mut index) = Index::read(from)? else { return Ok(()) };
    let real = from.canonicalize().map_err(|e| wrong(from, &e))?;
    let place = to.join(&index.file).parent().unwrap_or(to).to_path_buf();
    let mut moved = BTreeMap::new();
    for (_, path) in index.entries().into_iter().filter(|(_, path)| leads_up(path)) {
        let source = index.dir.join(&path);
        if moved.contains_key(&path) || source.canonicalize().map_err(|e| wrong(&source, &e))?.starts_with(&real) {
            continue;
        }
        let last = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Several may have one name.
        let new = format!("shared/{}/{last}", moved.len());
        match source.is_dir() {
            true => copy_tree(&source, &place.join(&new))?,
            false => copy_file(&source, &place.join(&new))?,
        }
        moved.insert(path, new);
    }
    if moved.is_empty() {
        return Ok(());
    }
    index.rename(&moved);
    let file = to.join(&index.file);
    let text = serde_json::to_string(&index.value).map_err(|e| wrong(&file, &e))?;
    std::fs::write(&file, text).map_err(|e| unwritten(&file, &e))
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), RunnerError> {
    Tree::read(from)?.files.iter().try_for_each(|file| copy_file(&from.join(file), &to.join(file)))
}

fn copy_file(from: &Path, to: &Path) -> Result<(), RunnerError> {
    let mut source = files::plain(from).map_err(|e| wrong(from, &e))?;
    let folder = to.parent().unwrap_or(to);
    std::fs::create_dir_all(folder).map_err(|e| unwritten(folder, &e))?;
    let mut copy = files::create(to).map_err(|e| unwritten(to, &e))?;
    std::io::copy(&mut source, &mut copy).map(drop).map_err(|e| unwritten(to, &e))
}

/// Every file below `dir`, links followed: paths from there, sorted.
pub(crate) fn files_in(dir: &Path) -> Result<Vec<PathBuf>, RunnerError> {
    Tree::read(dir).map(|tree| tree.files)
}

/// What lies in a directory, links followed: paths from there.
#[derive(Default)]
struct Tree {
    files: Vec<PathBuf>,
    /// Those of them, and those folders, that are links.
    links: Vec<PathBuf>,
}

impl Tree {
    fn read(dir: &Path) -> Result<Tree, RunnerError> {
        let mut tree = Tree::default();
        let mut todo = vec![(PathBuf::new(), 0)];
        while let Some((folder, depth)) = todo.pop() {
            let place = dir.join(&folder);
            if depth > DEEPEST || tree.files.len() > MOST_FILES {
                let most = format!(
                    "more than {MOST_FILES} files, or folders nested more than {DEEPEST} deep: a link in a circle?"
                );
                return Err(wrong(&place, &most));
            }
            for entry in std::fs::read_dir(&place).map_err(|e| wrong(&place, &e))? {
                let entry = entry.map_err(|e| wrong(&place, &e))?;
                let file = folder.join(entry.file_name());
                if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                    tree.links.push(file.clone());
                }
                match entry.path().is_dir() {
                    true => todo.push((file, depth + 1)),
                    false => tree.files.push(file),
                }
            }
        }
        tree.files.sort();
        tree.links.sort();
        Ok(tree)
    }
}

/// The index of a pack's golden clips, as JSON, so that a copy keeps what this program does not know.
struct Index {
    /// From the pack's directory.
    file: String,
    /// Where its paths start from.
    dir: PathBuf,
    value: Value,
}

impl Index {
    /// `None`: the pack has none.
    fn read(dir: &Path) -> Result<Option<Index>, RunnerError> {
        // Packs of some families have no such manifest.
        let Ok(manifest) = toml::from_str::<Manifest>(&read_text(dir)?) else { return Ok(None) };
        manifest.check().map_err(|e| wrong(&dir.join(manifest::FILE_NAME), &e))?;
        let Some(golden) = manifest.golden else { return Ok(None) };
        let path = dir.join(&golden.index);
        let Ok(text) = files::read_text(&path, files::SMALL) else { return Ok(None) };
        let value = serde_json::from_str(&text).map_err(|e| wrong(&path, &e))?;
        let start = path.parent().unwrap_or(dir).to_path_buf();
        Ok(Some(Index { file: golden.index, dir: start, value }))
    }

    /// Every path with the words that name it.
    fn entries(&self) -> Vec<(String, String)> {
        let mut entries = Vec::new();
        let mut take = |words: String, path: &Value| {
            if let Some(path) = path.as_str() {
                entries.push((words, path.to_string()));
            }
        };
        // A detector's, a video segmenter's, or a label pack's.
        for frame in self.value["frames"].as_array().into_iter().flatten() {
            take("frames of the reference".to_string(), &frame["image"]);
            for tensor in OF_FRAMES {
                take(format!("{tensor} of the reference"), &frame[tensor]["file"]);
            }
            for picture in PICTURES_OF_FRAMES {
                take(format!("{picture} of the reference"), &frame[picture]);
            }
        }
        for clip in self.value["clips"].as_array().into_iter().flatten() {
            let name = clip["name"].as_str().unwrap_or_default();
            take(format!("frames of clip {name}"), &clip["frames"]);
            for track in clip["tracks"].as_array().into_iter().flatten() {
                for (tensor, words) in TENSORS {
                    take(format!("{words} of clip {name}"), &track[tensor]["file"]);
                }
            }
        }
        entries
    }

    fn rename(&mut self, moved: &BTreeMap<String, String>) {
        // Nothing is added where a frame or a track has no such entry.
        let rename = |of: &mut Value, place: &str| {
            if let Some(path) = of.pointer_mut(place)
                && let Some(new) = path.as_str().and_then(|old| moved.get(old))
            {
                *path = Value::from(new.as_str());
            }
        };
        for frame in self.value["frames"].as_array_mut().into_iter().flatten() {
            rename(frame, "/image");
            OF_FRAMES.iter().for_each(|tensor| rename(frame, &format!("/{tensor}/file")));
            PICTURES_OF_FRAMES.iter().for_each(|picture| rename(frame, &format!("/{picture}")));
        }
        for clip in self.value["clips"].as_array_mut().into_iter().flatten() {
            rename(clip, "/frames");
            for track in clip["tracks"].as_array_mut().into_iter().flatten() {
                TENSORS.iter().for_each(|(tensor, _)| rename(track, &format!("/{tensor}/file")));
            }
        }
    }
}

/// Does a path in the index lead out of a folder?
fn leads_up(path: &str) -> bool {
    Path::new(path).components().any(|part| part == Component::ParentDir)
}

/// The reference tensors of a track, and what they are.
const TENSORS: [(&str, &str); 3] = [("low_res", "mask logits"), ("obj_ptr", "object pointers"), ("masks", "masks")];

/// The reference tensors of a frame: those of detectors, video segmenters and label packs.
const OF_FRAMES: [&str; 5] = ["logits", "boxes", "masks", "queries", "embeds"];

/// The pictures that a video segmenter's frame has beside them.
const PICTURES_OF_FRAMES: [&str; 2] = ["labels", "outlines"];

fn wrong(path: &Path, text: &dyn std::fmt::Display) -> RunnerError {
    RunnerError::Pack(format!("{}: {text}", path.display()))
}

fn unwritten(path: &Path, error: &std::io::Error) -> RunnerError {
    RunnerError::Environment(format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A pack of one graph whose golden clip has frames and one tensor that another pack shares, and whose LICENSE is a link.
    fn pack(root: &Path) -> PathBuf {
        let dir = root.join("pack");
        crate::pack::tests::write_pack(&dir, |text| text);
        for (file, bytes) in [("shared/g0/00000.png", "frame"), ("other/reference/t.z", "tensor"), ("LICENSE", "free")]
        {
            let file = root.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, bytes).unwrap();
        }
        std::fs::create_dir_all(dir.join("reference")).unwrap();
        std::fs::write(dir.join("reference/own.z"), "own").unwrap();
        let index = r#"{"schema": 1, "of_later": 0.1, "clips": [{"name": "g0", "frames": "../../shared/g0", "tracks": [
            {"low_res": {"file": "../../other/reference/t.z"}, "obj_ptr": {"file": "own.z"}, "masks": {"file": "own.z"}}]}]}"#;
        std::fs::write(dir.join("reference/golden.json"), index).unwrap();
        symlink(root.join("LICENSE"), dir.join("LICENSE")).unwrap();
        dir
    }

    #[test]
    fn what_leads_outside_is_named_and_brought_into_the_copy() {
        let root = tempfile::tempdir().unwrap();
        let dir = pack(root.path());
        let found = outside(&dir).unwrap().join("; ");
        for wanted in ["LICENSE is a link to", "frames of clip g0 are in", "mask logits of clip g0 are in"] {
            assert!(found.contains(wanted), "{wanted}: {found}");
        }
        let moved = root.path().join("far/copy");
        assert_eq!(copy(&dir, &moved).unwrap().len(), 3);
        assert_eq!(outside(&moved).unwrap(), Vec::<String>::new());
        assert_eq!(packs::digest_of(&moved).unwrap(), packs::digest_of(&dir).unwrap());
        // The originals are no longer needed.
        ["shared", "other", "LICENSE", "pack"].iter().for_each(|name| {
            let place = root.path().join(name);
            let gone = if place.is_dir() { std::fs::remove_dir_all(place) } else { std::fs::remove_file(place) };
            gone.unwrap();
        });
        let index = Index::read(&moved).unwrap().unwrap();
        let read: Vec<String> = index
            .entries()
            .iter()
            .map(|(_, path)| index.dir.join(path))
            .map(|p| std::fs::read_to_string(if p.is_dir() { p.join("00000.png") } else { p }).unwrap())
            .collect();
        assert_eq!(read, ["frame", "tensor", "own", "own"]);
        assert_eq!(index.value["of_later"], 0.1, "what is not known is kept");
        assert_eq!(std::fs::read_to_string(moved.join("LICENSE")).unwrap(), "free");
    }

    /// Of a detector's, a video segmenter's, DVIS-DAQ's and a label pack's frame.
    #[test]
    fn all_that_references_of_frames_name_is_brought_into_the_copy() {
        for (of_frame, wanted) in [
            (
                r#""logits": {"file": "own.z"}, "boxes": {"file": "../../other/reference/t.z"}"#,
                &[("boxes", "tensor"), ("logits", "own")][..],
            ),
            (
                r#""logits": {"file": "own.z"}, "masks": {"file": "../../other/reference/t.z"},
                   "queries": {"file": "../../other/reference/t.z"}, "labels": "../../shared/g0/00000.png""#,
                &[("logits", "own"), ("masks", "tensor"), ("queries", "tensor"), ("labels", "frame")][..],
            ),
            (
                r#""logits": {"file": "own.z"}, "masks": {"file": "own.z"}, "outlines": "../../shared/g0/00000.png", "tracks": [0]"#,
                &[("logits", "own"), ("masks", "own"), ("outlines", "frame")][..],
            ),
            (r#""embeds": {"file": "../../other/reference/t.z"}"#, &[("embeds", "tensor")][..]),
        ] {
            let root = tempfile::tempdir().unwrap();
            let dir = pack(root.path());
            let text = format!(r#"{{"frames": [{{"image": "../../shared/g0/00000.png", {of_frame}}}]}}"#);
            std::fs::write(dir.join("reference/golden.json"), &text).unwrap();
            let found = outside(&dir).unwrap().join("; ");
            assert!(found.contains("frames of the reference are in"), "{found}");
            for (name, _) in wanted.iter().filter(|(_, holds)| *holds != "own") {
                assert!(found.contains(&format!("{name} of the reference are in")), "{name}: {found}");
            }
            let moved = root.path().join("copy");
            copy(&dir, &moved).unwrap();
            assert_eq!(outside(&moved).unwrap(), Vec::<String>::new());
            ["shared", "other", "pack"]
                .iter()
                .for_each(|gone| std::fs::remove_dir_all(root.path().join(gone)).unwrap());
            let index = Index::read(&moved).unwrap().unwrap();
            let read: BTreeMap<String, String> = index
                .entries()
                .into_iter()
                .map(|(words, path)| (words, std::fs::read_to_string(index.dir.join(path)).unwrap()))
                .collect();
            assert_eq!(read.len(), 1 + wanted.len(), "{read:?}");
            for (name, holds) in wanted {
                assert_eq!(read[&format!("{name} of the reference")], *holds);
            }
            // Nothing is added to what a frame has.
            let before: Value = serde_json::from_str(&text).unwrap();
            let names = |of: &Value| of["frames"][0].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&index.value), names(&before));
        }
    }

    #[test]
    fn a_linked_reference_is_named_and_a_copy_that_fails_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let dir = pack(root.path());
        std::fs::rename(dir.join("reference"), root.path().join("elsewhere")).unwrap();
        symlink("../elsewhere", dir.join("reference")).unwrap();
        let found = outside(&dir).unwrap().join("; ");
        assert!(found.contains("reference is a link to"), "{found}");
        let to = root.path().join("copy");
        // Through the link `..` leads to another place.
        assert!(copy(&dir, &to).unwrap_err().to_string().contains("shared/g0"));
        assert!(
            !std::fs::read_dir(root.path()).unwrap().flatten().any(|e| e.file_name().to_string_lossy().contains("cop"))
        );
        symlink("..", dir.join("circle")).unwrap();
        assert!(outside(&dir).unwrap_err().to_string().contains("circle"));
        std::fs::create_dir(&to).unwrap();
        assert!(matches!(copy(&dir, &to), Err(RunnerError::Usage(text)) if text.contains("exists already")));
    }
}
