//! Which files? The annotations of every video and object and the predictions beside them. Everything that is missing or
//! does not fit is collected and named.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::options::ScoreOptions;
use crate::dataset::{
    DataError, Finding, FindingSeverity, Layout, Structure, described, directories, entries, plain_name, read_list,
    sort_frames, structure,
};
use crate::score::predicted::{self, Predicted};
use crate::score::protocol::Protocol;
use jetbench_runners::files;

/// Masks of one video, or of one of its objects.
#[derive(Clone)]
pub(super) struct Unit {
    /// Folder name of the object; `None`: label maps of the whole video.
    pub(super) object: Option<String>,
    pub(super) truth: PathBuf,
    pub(super) pred: Predicted,
    /// Every annotation, sorted.
    pub(super) files: Vec<String>,
    /// The part of `files` that is evaluated.
    pub(super) evaluated: std::ops::Range<usize>,
}

pub(super) struct Video {
    pub(super) name: String,
    pub(super) units: Vec<Unit>,
    /// Are there predictions for it? Where the protocol counts a video without as nothing, there may be none.
    pub(super) predicted: bool,
}

impl Video {
    /// Name of the object with this key.
    pub(super) fn object_name(&self, unit: &Unit, key: u32) -> String {
        match unit.object {
            Some(_) => self.units[key as usize].object.clone().unwrap_or_default(),
            None => key.to_string(),
        }
    }
}

/// Collects faults; the first so many are shown.
#[derive(Default)]
pub(super) struct Faults(pub(super) Vec<String>);

impl Faults {
    pub(super) fn into_error(self, options: &ScoreOptions) -> DataError {
        const SHOWN: usize = 20;
        let mut lines: Vec<String> = self.0.iter().take(SHOWN).map(|f| format!("  {f}")).collect();
        if self.0.len() > SHOWN {
            lines.push(format!("  … and {} more", self.0.len() - SHOWN));
        }
        DataError(format!(
            "{} cannot be scored against {}: {} fault{}\n{}",
            options.pred.display(),
            options.truth.display(),
            self.0.len(),
            if self.0.len() == 1 { "" } else { "s" },
            lines.join("\n")
        ))
    }
}

/// Finds the folder that holds the videos' annotations, the layout, and the list that its own tool would use.
pub(super) fn annotation_root(given: &Path) -> Result<(PathBuf, Option<Layout>, Option<PathBuf>), DataError> {
    if !given.is_dir() {
        return Err(DataError(format!("{}: no such directory (ground truth)", given.display())));
    }
    if given.join("Annotations_6fps").is_dir() {
        return Ok((given.join("Annotations_6fps"), Some(Layout::SaV), None));
    }
    // DAVIS 2016 as it was first published keeps its lists by resolution.
    let davis = |root: &Path, masks: PathBuf, list: bool| {
        let new = root.join("ImageSets/2017").is_dir();
        let layout = if new { Layout::Davis2017 } else { Layout::Davis2016 };
        let resolution = masks.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let sets = if new { vec!["2017".to_string()] } else { vec!["2016".to_string(), resolution] };
        let lists = sets.iter().map(|set| root.join("ImageSets").join(set).join("val.txt"));
        let own = lists.filter(|_| list).find(|list| list.is_file());
        (masks, Some(layout), own)
    };
    let annotations = given.join("Annotations");
    if annotations.is_dir() {
        for resolution in ["480p", "1080p", "Full-Resolution"] {
            if annotations.join(resolution).is_dir() {
                return Ok(davis(given, annotations.join(resolution), true));
            }
        }
        return Ok((annotations, Some(described(given)), None));
    }
    if given.join("masks").is_dir() || directories(given)?.iter().any(|n| given.join(n).join("masks").is_dir()) {
        return Ok((given.to_path_buf(), Some(Layout::Plain), None));
    }
    let train = |dir: &Path| entries(dir).is_ok_and(|names| names.iter().any(|n| n.ends_with("_manual.json")));
    if train(given) || directories(given)?.iter().any(|n| train(&given.join(n))) {
        return Err(DataError(format!(
            "{}: SA-V's training split keeps its masks in JSON files, which no evaluator reads; `jetbench --data` scores \
             against them while it runs",
            given.display()
        )));
    }
    // The folder of annotations itself: its surroundings tell DAVIS.
    let full = given.canonicalize().map_err(|e| DataError(format!("{}: {e}", given.display())))?;
    let in_sav = full.file_name().is_some_and(|n| n == "Annotations_6fps");
    let root = full.parent().and_then(Path::parent).filter(|r| {
        r.join("ImageSets").is_dir() && full.parent().is_some_and(|p| p.file_name().is_some_and(|n| n == "Annotations"))
    });
    Ok(match root {
        Some(root) => davis(root, given.to_path_buf(), false),
        None => (given.to_path_buf(), in_sav.then_some(Layout::SaV), None),
    })
}

/// Lists what is evaluated, and everything that is missing for it.
pub(super) fn find_videos(
    options: &ScoreOptions,
    truth_root: &Path,
    layout: Option<Layout>,
    list: Option<&Path>,
    faults: &mut Faults,
    notes: &mut Vec<String>,
) -> Result<(Vec<Video>, Protocol), DataError> {
    if !options.pred.is_dir() {
        return Err(DataError(format!("{}: no such directory (predictions)", options.pred.display())));
    }
    // Plain: `masks` in the root of one video, or in each video's folder.
    let single = (layout == Some(Layout::Plain) && truth_root.join("masks").is_dir()).then(|| plain_name(truth_root));
    let truth_dir = |name: &str| match (&single, layout) {
        (Some(_), _) => truth_root.join("masks"),
        (None, Some(Layout::Plain)) => truth_root.join(name).join("masks"),
        _ => truth_root.join(name),
    };
    let mut names = match &single {
        Some(name) => vec![name.clone()],
        None => directories(truth_root)?.into_iter().filter(|n| truth_dir(n).is_dir()).collect(),
    };
    if let Some(list) = list {
        let wanted = read_list(list)?;
        for missing in wanted.iter().filter(|n| !names.contains(n)) {
            faults.0.push(format!(
                "{} lists video {missing}, but {} is missing",
                list.display(),
                truth_root.join(missing).display()
            ));
        }
        // DAVIS goes through its list in the list's order, the others through sorted names.
        names = wanted.into_iter().filter(|n| names.contains(n)).collect();
        let by_list = options.protocol.map_or(layout.is_some_and(|l| l.protocol().is_davis()), Protocol::is_davis);
        if !by_list {
            names.sort_unstable();
        }
    }
    if names.is_empty() && faults.0.is_empty() {
        return Err(DataError(format!(
            "{}: no video folder in it; give the dataset's root or its folder of annotations",
            truth_root.display()
        )));
    }
    let predicted = predicted::videos(&options.pred)?;
    keep_predicted(options, &predicted, &mut names, faults, notes);
    let mut videos = Vec::new();
    let mut folders_seen = false;
    for name in names {
        let units = units(options, &truth_dir(&name), &name, faults, notes)?;
        folders_seen |= units.iter().any(|u| u.object.is_some());
        if !units.is_empty() {
            let predicted = predicted.contains(&name);
            videos.push(Video { name, units, predicted });
        }
    }
    let protocol = options.protocol.unwrap_or(match layout {
        Some(layout) => layout.protocol(),
        None if folders_seen => Protocol::Sav,
        None => Protocol::Vos,
    });
    for video in videos.iter().filter(|v| v.predicted) {
        check_files(video, protocol, faults);
    }
    Ok((videos, protocol))
}

/// Keeps the videos that were predicted; what is missing is a fault, or with lenient scoring a note.
fn keep_predicted(
    options: &ScoreOptions,
    predicted: &[String],
    names: &mut Vec<String>,
    faults: &mut Faults,
    notes: &mut Vec<String>,
) {
    let extra: Vec<&str> = predicted.iter().filter(|n| !names.contains(n)).map(String::as_str).collect();
    if !extra.is_empty() {
        notes.push(format!("predicted videos that are not evaluated: {}", shorten(&extra)));
    }
    let absent: Vec<String> = names.iter().filter(|n| !predicted.contains(n)).cloned().collect();
    if !absent.is_empty() && absent.len() < names.len() && options.protocol == Some(Protocol::MoseV2) {
        let absent: Vec<&str> = absent.iter().map(String::as_str).collect();
        notes.push(format!(
            "no predictions: every object of these videos scores 0, as in MOSEv2's tool: {}",
            shorten(&absent)
        ));
        return;
    }
    if !absent.is_empty() {
        if options.strict || absent.len() == names.len() {
            for name in &absent {
                faults
                    .0
                    .push(format!("no predictions for video {name}: {} is missing", options.pred.join(name).display()));
            }
        } else {
            let absent: Vec<&str> = absent.iter().map(String::as_str).collect();
            notes.push(format!("left out, no predictions (strict scoring refuses this): {}", shorten(&absent)));
        }
        names.retain(|n| predicted.contains(n));
    }
}

fn units(
    options: &ScoreOptions,
    dir: &Path,
    name: &str,
    faults: &mut Faults,
    notes: &mut Vec<String>,
) -> Result<Vec<Unit>, DataError> {
    let pred = Predicted::of_video(&options.pred, name)?;
    let mut unit = |object: Option<String>, truth: PathBuf, pred: Predicted, mut files: Vec<String>| {
        let as_text = files.clone();
        sort_frames(&mut files, |file| file);
        if files != as_text {
            notes.push(format!(
                "{}: frames are taken in the order of their numbers ({}, {}, …); the reference tools sort them as text and \
                 leave out other ones",
                truth.display(),
                files[0],
                files[1]
            ));
        }
        let n = files.len();
        let evaluated = if options.keep_first_last { 0..n } else { 1.min(n)..n.saturating_sub(1).max(1.min(n)) };
        Unit { object, truth, pred, files, evaluated }
    };
    let (structure, strays) = structure(dir, |_| true)?;
    let folders = match structure {
        Structure::Labels(files) if files.is_empty() => {
            faults.0.push(format!("{}: the video has no annotation", dir.display()));
            return Ok(Vec::new());
        }
        Structure::Labels(files) => {
            let units = vec![unit(None, dir.to_path_buf(), pred, files)];
            say(strays, faults, notes);
            return Ok(units);
        }
        Structure::Folders(folders) => folders,
    };
    let units: Vec<Unit> = folders
        .iter()
        .map(|(object, files)| unit(Some(object.clone()), dir.join(object), pred.object(object), files.clone()))
        .collect();
    say(strays, faults, notes);
    let objects: Vec<&str> = folders.iter().map(|(object, _)| object.as_str()).collect();
    if pred.is_there() {
        let predicted = pred.objects()?;
        let extra: Vec<&str> =
            predicted.iter().filter(|o| !objects.contains(&o.as_str())).map(String::as_str).collect();
        if let Some(shift) = shift(&numbers(&objects), &numbers(&predicted)).filter(|_| !extra.is_empty()) {
            faults.0.push(format!(
                "video {name}: predicted objects {} are the truth's {} {}; rename their folders",
                shorten(&predicted.iter().map(String::as_str).collect::<Vec<_>>()),
                shorten(&objects),
                if shift == 0 { "spelt otherwise".to_string() } else { format!("with numbers shifted by {shift}") }
            ));
        } else if !extra.is_empty() {
            notes.push(format!("{name}: predicted objects that the truth does not have, ignored: {}", shorten(&extra)));
        }
    }
    Ok(units)
}

/// Errors are faults, warnings notes; but a stray file is a fault as well, because the reference tools fail on one.
fn say(findings: Vec<Finding>, faults: &mut Faults, notes: &mut Vec<String>) {
    for Finding { severity, place, what } in findings {
        let text = format!("{place}: {what}");
        match severity {
            FindingSeverity::Warning if !Path::new(&place).is_file() => notes.push(text),
            _ => faults.0.push(text),
        }
    }
}

fn numbers(names: &[impl AsRef<str>]) -> BTreeSet<u64> {
    names.iter().filter_map(|n| n.as_ref().parse().ok()).collect()
}

/// By how much `pred` is `truth` with other numbers: each by the same amount.
pub(super) fn shift(truth: &BTreeSet<u64>, pred: &BTreeSet<u64>) -> Option<i64> {
    let by = *pred.first()? as i64 - *truth.first()? as i64;
    let shifted = truth.len() == pred.len() && truth.iter().zip(pred).all(|(t, p)| *p as i64 - *t as i64 == by);
    shifted.then_some(by)
}

/// Reports evaluated frames without a prediction, and units with nothing to evaluate.
fn check_files(video: &Video, protocol: Protocol, faults: &mut Faults) {
    for unit in &video.units {
        let what = match &unit.object {
            Some(object) => format!("video {}, object {object}", video.name),
            None => format!("video {}", video.name),
        };
        if unit.evaluated.is_empty() {
            // vos-benchmark leaves such a video out without a word; the other references abort.
            faults.0.push(format!(
                "{what}: {} annotated frame{} leave{} nothing to score once the first and last are dropped ({protocol}); \
                 score them too (--keep-first-last) or remove it from the truth",
                unit.files.len(),
                if unit.files.len() == 1 { "" } else { "s" },
                if unit.files.len() == 1 { "s" } else { "" },
            ));
            continue;
        }
        if !unit.pred.is_there() {
            faults
                .0
                .push(format!("{what}: {} is missing; an object that was never found needs all-zero masks", unit.pred));
            continue;
        }
        let there: BTreeSet<String> = match unit.pred.files() {
            Ok(names) => names.into_iter().collect(),
            Err(fault) => {
                faults.0.push(fault.0);
                continue;
            }
        };
        if protocol == Protocol::MoseV2 && unit.object.is_none() {
            faults.0.extend(out_of_step(unit, &there));
        }
        let missing: Vec<&str> =
            unit.files[unit.evaluated.clone()].iter().filter(|f| !there.contains(*f)).map(String::as_str).collect();
        if !missing.is_empty() {
            faults.0.push(format!(
                "{}: {} of {} evaluated frames {} missing: {}",
                unit.pred,
                missing.len(),
                unit.evaluated.len(),
                if missing.len() == 1 { "is" } else { "are" },
                shorten(&missing)
            ));
        }
    }
}

/// MOSEv2's tool takes the frames to compare by their place among the predictions: with other files than the truth's it would
/// compare others, in silence.
fn out_of_step(unit: &Unit, there: &BTreeSet<String>) -> Option<String> {
    let mut predicted: Vec<String> =
        there.iter().filter(|f| f.ends_with(".png") && !f.starts_with('.')).cloned().collect();
    sort_frames(&mut predicted, |file| file);
    let last = unit.files.len() - 1;
    let at = (0..last).find(|i| predicted.get(*i) != Some(&unit.files[*i]))?;
    // Frames that are missing are named by the caller.
    let wrong = predicted.get(at).filter(|_| !unit.evaluated.contains(&at) || there.contains(&unit.files[at]))?;
    Some(format!(
        "{}: {wrong} stands where {} should; MOSEv2 counts frames by their place, so write a mask for every annotated frame, the \
         first too, and for no other",
        unit.pred, unit.files[at]
    ))
}

pub(super) fn shorten(names: &[&str]) -> String {
    const SHOWN: usize = 8;
    let mut text = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN {
        text += &format!(", … ({} in all)", names.len());
    }
    text
}

/// `video` or `video object` per line.
pub(super) fn read_unseen(path: &Path) -> Result<BTreeSet<(String, Option<String>)>, DataError> {
    let text = files::read_text(path, files::SMALL).map_err(|e| DataError(format!("{}: {e}", path.display())))?;
    let mut listed = BTreeSet::new();
    for (i, line) in text.lines().enumerate() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (None, ..) => {}
            (Some(video), object, None) => {
                listed.insert((video.to_string(), object.map(str::to_string)));
            }
            _ => return Err(DataError(format!("{}:{}: expected `video` or `video object`", path.display(), i + 1))),
        }
    }
    Ok(listed)
}
