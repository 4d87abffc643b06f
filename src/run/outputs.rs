//! Can everything be written that was asked for? Masks and overlays come after all tracking, under the names that videos, objects
//! and frames have in the dataset; whether the file system of the results takes these names is tried before the first frame.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jetbench_runners::files;

use crate::dataset::{Dataset, MaskWriter, Sequence};
use crate::dataset::{mask_lines, panoptic_files, track_files};
use crate::exit::Error;
use crate::plan::Plan;
use crate::plan::mask_files::MaskFiles;
use crate::plan::overlays::Overlays;
use crate::plan::resolve::Cell;
use crate::report::movie;
use crate::results::store;

/// Where the predicted masks of a cell go, below the directory of its run.
pub(super) fn masks(run: &Path, cell: &Cell) -> PathBuf {
    run.join("masks").join(cell.slug())
}

/// Where the overlays of a cell go.
pub(super) fn overlays(run: &Path, cell: &Cell) -> PathBuf {
    run.join("overlays").join(cell.slug())
}

/// What the user should know of the masks that will be written.
pub(super) fn remarks(plan: &Plan) -> Option<String> {
    if plan.cells.iter().all(|cell| cell.finds()) {
        return None;
    }
    let wide: Vec<&str> = plan.dataset.sequences.iter().filter(|s| s.wide_ids()).map(|s| s.name.as_str()).collect();
    let first = wide.first().filter(|_| plan.settings.save_masks == MaskFiles::Png)?;
    Some(format!(
        "--save-masks: object ids above 255 do not fit into the usual label maps of 8 bits; the masks of video {first}{} are \
         written as label maps of 16 bits. `jetbench score` reads them, most evaluators do not: for those, keep the truth as \
         per-object masks (a folder per object), and predictions are written so too",
        if wide.len() > 1 { format!(" and {} more", wide.len() - 1) } else { String::new() }
    ))
}

/// Makes the directories of all masks and overlays in the directory of the run, and proves that their names are kept.
///
/// # Errors
/// Names what cannot be written, and the remedy: exit 2.
pub(super) fn prove(plan: &Plan, run: &Path) -> Result<(), Error> {
    let settings = &plan.settings;
    let mut slugs = BTreeSet::new();
    for cell in &plan.cells {
        let asked: [(bool, &str, PathBuf); 2] = [
            (settings.save_masks != MaskFiles::Off, "--save-masks", masks(run, cell)),
            (settings.overlays != Overlays::Off, "--overlays", overlays(run, cell)),
        ];
        for (_, flag, root) in asked.into_iter().filter(|(wanted, ..)| *wanted) {
            let fault = |what: String| {
                Error::Usage(format!(
                    "{flag}: {what}; rename it, choose a directory on another file system with --out, or leave out {flag}"
                ))
            };
            if !slugs.insert(root.clone()) {
                return Err(fault(format!("two cells would write to {}", root.display())));
            }
            let per_video = |names: fn(&str) -> [String; 2]| files_of_videos(&plan.dataset, &root, names);
            match (flag, settings.overlays, settings.save_masks) {
                ("--overlays", Overlays::Mp4, _) => {
                    per_video(|video| [movie::file_name(video), movie::unfinished_name(video)])
                }
                ("--save-masks", _, MaskFiles::Rle) => per_video(mask_lines::file_names),
                ("--save-masks", _, MaskFiles::Mots) => per_video(|video| track_files::file_names(video, true)),
                ("--save-masks", _, MaskFiles::YoutubeVis) => per_video(|video| track_files::file_names(video, false)),
                ("--save-masks", _, MaskFiles::Vipseg) => per_video(|video| track_files::file_names(video, false))
                    .and_then(|()| directories(&plan.dataset, &root.join(panoptic_files::FRAMES), false, true)),
                _ => directories(&plan.dataset, &root, flag == "--save-masks", cell.finds()),
            }
            .map_err(fault)?;
        }
    }
    Ok(())
}

fn directories(dataset: &Dataset, root: &Path, masks: bool, found: bool) -> Result<(), String> {
    for sequence in &dataset.sequences {
        // Which tracks a detector founds is not known yet; they have numbers and no folders.
        let of_tracks = found.then(|| sequence.with_found(Vec::new()));
        let sequence = of_tracks.as_ref().unwrap_or(sequence);
        let dir = root.join(&sequence.name);
        let fail = |e: std::io::Error| format!("{}: {e}{}", dir.display(), store::remedy(&e));
        std::fs::create_dir_all(&dir).map_err(fail)?;
        if masks {
            MaskWriter::new(root, dataset.kind, sequence).map_err(|e| e.to_string())?;
            kept(&dir, sequence.mask_folders())?;
        }
        longest_frame(&dir, sequence).map_err(fail)?;
    }
    kept(root, dataset.sequences.iter().map(|s| s.name.as_str()))
}

/// Makes the one file of every video and removes it again; that of an earlier attempt stays. `names`: the file's name, and its longer one
/// while it is made.
fn files_of_videos(dataset: &Dataset, root: &Path, names: fn(&str) -> [String; 2]) -> Result<(), String> {
    let fail = |path: &Path, e: std::io::Error| format!("{}: {e}{}", path.display(), store::remedy(&e));
    std::fs::create_dir_all(root).map_err(|e| fail(root, e))?;
    let (names, unfinished): (Vec<String>, Vec<String>) =
        dataset.sequences.iter().map(|s| names(&s.name)).map(|[name, unfinished]| (name, unfinished)).unzip();
    let longest = unfinished.into_iter().max_by_key(String::len);
    let mut made = Vec::new();
    for name in names.iter().chain(&longest) {
        let file = root.join(name);
        if file.symlink_metadata().is_err() {
            files::create(&file).map_err(|e| fail(&file, e))?;
            made.push(file);
        }
    }
    kept(root, names.iter().map(String::as_str))?;
    made.iter().try_for_each(|file| std::fs::remove_file(file).map_err(|e| fail(file, e)))
}

/// Does the directory list these names, each as it was given? Some file systems make one of names that differ in case, or cut
/// dots and blanks at the end.
fn kept<'a>(dir: &Path, names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let listed = std::fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let listed: BTreeSet<_> = listed.flatten().map(|entry| entry.file_name()).collect();
    missing(&listed, names).map_or(Ok(()), |name| {
        Err(format!("the file system of {} does not keep the name `{name}` beside the others", dir.display()))
    })
}

fn missing<'a>(listed: &BTreeSet<std::ffi::OsString>, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut names = names;
    names.find(|name| !listed.contains(std::ffi::OsStr::new(name)))
}

/// Writes and removes a file with the longest name that a frame has.
fn longest_frame(dir: &Path, sequence: &Sequence) -> std::io::Result<()> {
    let Some(frame) = sequence.frames.iter().max_by_key(|frame| frame.name.len()) else { return Ok(()) };
    let file = dir.join(format!("{}.png", frame.name));
    if file.symlink_metadata().is_ok() {
        return Ok(()); // of an earlier attempt
    }
    files::create(&file)?;
    std::fs::remove_file(&file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_the_file_system_changed_is_found() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["Bear", "2025-11-02T10:20:30", "end."] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        kept(dir.path(), ["Bear", "2025-11-02T10:20:30", "end."].into_iter()).unwrap();
        // As on a file system that does not tell capitals from small letters.
        let fault = kept(dir.path(), ["Bear", "bear"].into_iter()).unwrap_err();
        assert!(fault.contains("does not keep the name `bear`"), "{fault}");
        // As on one that cuts dots at the end.
        std::fs::rename(dir.path().join("end."), dir.path().join("end")).unwrap();
        assert!(kept(dir.path(), ["end."].into_iter()).is_err());
    }
}
