//! `jetbench score TRUTH PRED`: finds what has to be scored, decodes every file once, scores frames on all cores while
//! others decode, and puts the numbers together in the references' order. Everything that is missing or does not fit is
//! collected first and named; nothing is left out of a mean in silence.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use jetbench_runners::types::Mask;

use super::boundary_iou::boundary_iou;
use super::failure::{Failure, failures, taken_for};
use super::protocol::{Protocol, davis_statistics, mean};
use super::set_order::SetOrder;
use super::{BOUNDARY_THRESHOLD, FrameScore, FrameScorer};
use crate::dataset::{DataError, LabelMasks, Layout, directories, entries, plain_name, read_list};

/// What `jetbench score` was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreOptions {
    /// Dataset root, or the folder with the videos' annotations.
    pub truth: PathBuf,
    /// Folder with one folder of predictions per video, laid out as the annotations are.
    pub pred: PathBuf,
    /// Rules; `None`: those of the layout (`sav` for object folders, `vos` for bare label maps).
    pub protocol: Option<Protocol>,
    /// Refuse a video without predictions (else: leave it out, with a note), and what the protocol has no score for.
    pub strict: bool,
    /// Score the first and last frame too.
    pub keep_first_last: bool,
    /// Boundary tolerance as a share of the diagonal, or pixels from 1 on.
    pub boundary_threshold: f64,
    /// Text file with the videos to score.
    pub list: Option<PathBuf>,
    /// Text file with the unseen part: one `video` or `video object` per line; splits the means.
    pub unseen: Option<PathBuf>,
    /// Keep per-frame values in the report.
    pub per_frame: bool,
    /// Compute boundary IoU too (about doubles the scoring time).
    pub boundary_iou: bool,
    /// Threads; `None`: all cores.
    pub threads: Option<usize>,
}

impl ScoreOptions {
    /// Defaults for two folders: strict, the layout's protocol, the references' tolerance.
    pub fn new(truth: impl Into<PathBuf>, pred: impl Into<PathBuf>) -> Self {
        ScoreOptions {
            truth: truth.into(),
            pred: pred.into(),
            protocol: None,
            strict: true,
            keep_first_last: false,
            boundary_threshold: BOUNDARY_THRESHOLD,
            list: None,
            unseen: None,
            per_frame: false,
            boundary_iou: false,
            threads: None,
        }
    }
}

/// Scores of a dataset, on the scale of the protocol's reference ([`Protocol::scale`]).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScoreReport {
    /// Schema number of the JSON form.
    pub schema: u32,
    /// Rules.
    pub protocol: Protocol,
    /// A perfect score: 100, or 1 for DAVIS.
    pub scale: f64,
    /// Layout, where the truth's folders show it.
    pub layout: Option<Layout>,
    /// Truth as given.
    pub truth: String,
    /// Predictions as given.
    pub pred: String,
    /// Were first and last frames scored too?
    pub keep_first_last: bool,
    /// Boundary tolerance as given.
    pub boundary_threshold: f64,
    /// All objects of all videos, each with the same weight.
    pub global: GroupScore,
    /// Objects outside the list of unseen ones, where there is a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<GroupScore>,
    /// Objects on the list of unseen ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen: Option<GroupScore>,
    /// Mean of seen and unseen J and F: the overall score of YouTube-VOS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_unseen_mean: Option<f64>,
    /// Names of the videos that were evaluated, those without a scored object too.
    #[serde(skip)]
    pub evaluated: Vec<String>,
    /// Per video, in order.
    pub videos: Vec<VideoScore>,
    /// Per object, in the reference's order.
    pub objects: Vec<ObjectScore>,
    /// What the reader should know: videos left out, predictions ignored.
    pub notes: Vec<String>,
}

/// Mean over objects.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupScore {
    /// Mean J.
    pub j: f64,
    /// Mean F.
    pub f: f64,
    /// (J + F) / 2.
    pub jf: f64,
    /// Objects.
    pub objects: usize,
    /// Mean boundary IoU, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boundary_iou: Option<f64>,
    /// DAVIS recall and decay.
    #[serde(flatten)]
    pub davis: Option<DavisScore>,
}

/// Mean over the objects of one video.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VideoScore {
    /// Video.
    pub video: String,
    /// Its objects' means.
    #[serde(flatten)]
    pub score: GroupScore,
}

/// DAVIS statistics, 0..1; a decay that the reference leaves undefined is NaN (null in JSON).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DavisScore {
    /// Share of frames with J above 0.5.
    pub j_recall: f64,
    /// Fall of J from the first to the last quarter.
    pub j_decay: f64,
    /// Share of frames with F above 0.5.
    pub f_recall: f64,
    /// Fall of F from the first to the last quarter.
    pub f_decay: f64,
}

/// Score of one object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ObjectScore {
    /// Video.
    pub video: String,
    /// Folder name, or id.
    pub object: String,
    /// Is `object` a folder name?
    #[serde(skip)]
    pub folder: bool,
    /// Mean J.
    pub j: f64,
    /// Mean F.
    pub f: f64,
    /// (J + F) / 2.
    pub jf: f64,
    /// Frames that counted.
    pub frames: usize,
    /// Mean boundary IoU over the same frames, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boundary_iou: Option<f64>,
    /// DAVIS recall and decay.
    #[serde(flatten)]
    pub davis: Option<DavisScore>,
    /// Where the object was lost, taken for another, and found again.
    pub failures: Vec<Failure>,
    /// Every evaluated frame, when asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub per_frame: Vec<FrameRow>,
}

/// One object on one evaluated frame, on the protocol's scale.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FrameRow {
    /// Frame: file stem.
    pub frame: String,
    /// J.
    pub j: f64,
    /// F.
    pub f: f64,
    /// Boundary IoU, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boundary_iou: Option<f64>,
    /// Does the frame count?
    pub counted: bool,
    /// Is the object visible in the truth?
    pub visible: bool,
    /// Is the predicted mask non-empty?
    pub predicted: bool,
}

/// Scores `options.pred` against `options.truth`. `progress` is told (frames done, frames in all), from any thread.
///
/// # Errors
/// Everything that is missing or does not fit, one line each, with what to do.
pub fn score(options: &ScoreOptions, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<ScoreReport, DataError> {
    match options.threads {
        None => score_here(options, progress),
        Some(n) => rayon::ThreadPoolBuilder::new()
            .num_threads(n.max(1))
            .build()
            .map_err(|e| DataError(format!("cannot start {n} threads: {e}")))?
            .install(|| score_here(options, progress)),
    }
}

/// Masks of one video, or of one of its objects.
struct Unit {
    /// Folder name of the object; `None`: label maps of the whole video.
    object: Option<String>,
    truth: PathBuf,
    pred: PathBuf,
    /// Every annotation, sorted.
    files: Vec<String>,
    /// The part of `files` that is evaluated.
    evaluated: std::ops::Range<usize>,
}

struct Video {
    name: String,
    units: Vec<Unit>,
}

impl Video {
    /// Name of the object with this key.
    fn object_name(&self, unit: &Unit, key: u32) -> String {
        match unit.object {
            Some(_) => self.units[key as usize].object.clone().unwrap_or_default(),
            None => key.to_string(),
        }
    }
}

/// One frame of one video: `(unit, index into the unit's files)` of everything that is evaluated on it.
struct Job {
    video: usize,
    parts: Vec<(usize, usize)>,
}

/// One object on one frame. `key` is the unit (object folders) or the id (label maps).
#[derive(Clone, Copy)]
pub(super) struct Scored {
    key: u32,
    score: FrameScore,
    boundary_iou: Option<f64>,
    taken_for: Option<u32>,
}

/// Collects faults; the first so many are shown.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn into_error(self, options: &ScoreOptions) -> DataError {
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

fn score_here(options: &ScoreOptions, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<ScoreReport, DataError> {
    let valid = options.boundary_threshold > 0.0 && options.boundary_threshold.is_finite();
    if !valid || (options.boundary_threshold >= 1.0 && options.boundary_threshold.fract() != 0.0) {
        return Err(DataError(format!(
            "boundary threshold {}: give a share of the diagonal below 1 (0.008 is the references'), or whole pixels",
            options.boundary_threshold
        )));
    }
    let unseen = options.unseen.as_deref().map(read_unseen).transpose()?;
    let (truth_root, layout, default_list) = annotation_root(&options.truth)?;
    let mut notes = Vec::new();
    let mut faults = Faults::default();
    let list = options.list.clone().or_else(|| {
        let list = default_list?;
        notes.push(format!("videos: those listed in {}", list.display()));
        Some(list)
    });
    let (videos, protocol) = find_videos(options, &truth_root, layout, list.as_deref(), &mut faults, &mut notes)?;
    if !faults.0.is_empty() {
        return Err(faults.into_error(options));
    }

    let jobs = jobs(&videos);
    let done = AtomicUsize::new(0);
    progress(0, jobs.len());
    let results: Vec<Result<Vec<Scored>, String>> = jobs
        .par_iter()
        .map_init(
            || None,
            |scorer, job| {
                let result = run_job(job, &videos[job.video], protocol, options, scorer);
                progress(done.fetch_add(1, Ordering::Relaxed) + 1, jobs.len());
                result
            },
        )
        .collect();
    // By video and unit, in frame order: jobs are in that order.
    let mut frames: Vec<Vec<Vec<(usize, Scored)>>> =
        videos.iter().map(|v| v.units.iter().map(|_| Vec::new()).collect()).collect();
    for (job, result) in jobs.iter().zip(results) {
        match result {
            Err(fault) => faults.0.push(fault),
            Ok(scored) => {
                let folders = videos[job.video].units[0].object.is_some();
                for s in scored {
                    let unit = if folders { s.key as usize } else { 0 };
                    let at = job.parts.iter().find(|(u, _)| *u == unit).map_or(0, |(_, at)| *at);
                    frames[job.video][unit].push((at, s));
                }
            }
        }
    }
    if !faults.0.is_empty() {
        return Err(faults.into_error(options));
    }

    let mut objects = Vec::new();
    for (video, frames) in videos.iter().zip(frames) {
        for (unit, frames) in video.units.iter().zip(frames) {
            assemble(video, unit, &frames, protocol, options, &mut objects, &mut faults, &mut notes);
        }
    }
    if !faults.0.is_empty() {
        return Err(faults.into_error(options));
    }
    if objects.is_empty() {
        faults.0.push("no object is visible on an evaluated frame of the truth: there is nothing to score".into());
        return Err(faults.into_error(options));
    }
    Ok(report(options, protocol, layout, &videos, objects, unseen.as_ref(), notes))
}

/// Finds the folder that holds the videos' annotations, the layout, and the list that its own tool would use.
fn annotation_root(given: &Path) -> Result<(PathBuf, Option<Layout>, Option<PathBuf>), DataError> {
    if !given.is_dir() {
        return Err(DataError(format!("{}: no such directory (ground truth)", given.display())));
    }
    if given.join("Annotations_6fps").is_dir() {
        return Ok((given.join("Annotations_6fps"), Some(Layout::SaV), None));
    }
    let sets = |root: &Path, year: &str| {
        let list = root.join("ImageSets").join(year).join("val.txt");
        list.is_file().then_some(list)
    };
    let davis = |root: &Path, masks: PathBuf, list: bool| {
        let new = root.join("ImageSets/2017").is_dir();
        let year = if new { "2017" } else { "2016" };
        let layout = if new { Layout::Davis2017 } else { Layout::Davis2016 };
        (masks, Some(layout), if list { sets(root, year) } else { None })
    };
    let annotations = given.join("Annotations");
    if annotations.is_dir() {
        for resolution in ["480p", "1080p", "Full-Resolution"] {
            if annotations.join(resolution).is_dir() {
                return Ok(davis(given, annotations.join(resolution), true));
            }
        }
        let meta = |end: &str| entries(given).is_ok_and(|names| names.iter().any(|n| n.ends_with(end)));
        let layout = if given.join("meta.json").exists() {
            Layout::YoutubeVos
        } else if meta("_meta.json") {
            Layout::Lvos
        } else {
            Layout::Mose
        };
        return Ok((annotations, Some(layout), None));
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
fn find_videos(
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
    let predicted = directories(&options.pred)?;
    let extra: Vec<&str> = predicted.iter().filter(|n| !names.contains(n)).map(String::as_str).collect();
    if !extra.is_empty() {
        notes.push(format!("predicted videos that are not evaluated: {}", shorten(&extra)));
    }
    let absent: Vec<String> = names.iter().filter(|n| !predicted.contains(n)).cloned().collect();
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
    let mut videos = Vec::new();
    let mut folders_seen = false;
    for name in names {
        let units = units(options, &truth_dir(&name), &name, faults, notes)?;
        folders_seen |= units.iter().any(|u| u.object.is_some());
        if !units.is_empty() {
            videos.push(Video { name, units });
        }
    }
    let protocol = options.protocol.unwrap_or(match layout {
        Some(layout) => layout.protocol(),
        None if folders_seen => Protocol::Sav,
        None => Protocol::Vos,
    });
    for video in &videos {
        check_files(video, protocol, faults);
    }
    Ok((videos, protocol))
}

fn units(
    options: &ScoreOptions,
    dir: &Path,
    name: &str,
    faults: &mut Faults,
    notes: &mut Vec<String>,
) -> Result<Vec<Unit>, DataError> {
    let inside = entries(dir)?;
    let pred = options.pred.join(name);
    let unit = |object: Option<String>, truth: PathBuf, pred: PathBuf, files: Vec<String>| {
        let n = files.len();
        let evaluated = if options.keep_first_last { 0..n } else { 1.min(n)..n.saturating_sub(1).max(1.min(n)) };
        Unit { object, truth, pred, files, evaluated }
    };
    if inside.iter().all(|n| n.ends_with(".png")) {
        if inside.is_empty() {
            faults.0.push(format!("{}: the video has no annotation", dir.display()));
            return Ok(Vec::new());
        }
        return Ok(vec![unit(None, dir.to_path_buf(), pred, inside)]);
    }
    let mut units = Vec::new();
    let is_dir = |n: &String| dir.join(n).is_dir();
    for stray in inside.iter().filter(|n| !is_dir(n)) {
        faults.0.push(format!(
            "{}: neither an object's folder nor, with the others, a set of label maps (.png only); move it away",
            dir.join(stray).display()
        ));
    }
    let objects: Vec<String> = inside.into_iter().filter(is_dir).collect();
    if pred.is_dir() {
        let predicted = directories(&pred)?;
        let extra: Vec<&str> = predicted.iter().filter(|o| !objects.contains(o)).map(String::as_str).collect();
        if !extra.is_empty() {
            notes.push(format!("{name}: predicted objects that the truth does not have, ignored: {}", shorten(&extra)));
        }
    }
    for object in objects {
        let files = entries(&dir.join(&object))?;
        units.push(unit(Some(object.clone()), dir.join(&object), pred.join(&object), files));
    }
    Ok(units)
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
        if !unit.pred.is_dir() {
            faults.0.push(format!(
                "{what}: {} is missing; an object that was never found needs all-zero masks",
                unit.pred.display()
            ));
            continue;
        }
        let there: BTreeSet<String> = match entries(&unit.pred) {
            Ok(names) => names.into_iter().collect(),
            Err(fault) => {
                faults.0.push(fault.0);
                continue;
            }
        };
        let missing: Vec<&str> =
            unit.files[unit.evaluated.clone()].iter().filter(|f| !there.contains(*f)).map(String::as_str).collect();
        if !missing.is_empty() {
            faults.0.push(format!(
                "{}: {} of {} evaluated frames {} missing: {}",
                unit.pred.display(),
                missing.len(),
                unit.evaluated.len(),
                if missing.len() == 1 { "is" } else { "are" },
                shorten(&missing)
            ));
        }
    }
}

fn shorten(names: &[&str]) -> String {
    const SHOWN: usize = 8;
    let mut text = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN {
        text += &format!(", … ({} in all)", names.len());
    }
    text
}

/// One job per video and frame name, in order; object folders that share a frame are scored together, so that a
/// prediction can be recognised as another object.
fn jobs(videos: &[Video]) -> Vec<Job> {
    let mut jobs = Vec::new();
    for (v, video) in videos.iter().enumerate() {
        let mut by_frame: BTreeMap<&str, Vec<(usize, usize)>> = BTreeMap::new();
        for (u, unit) in video.units.iter().enumerate() {
            for at in unit.evaluated.clone() {
                by_frame.entry(&unit.files[at]).or_default().push((u, at));
            }
        }
        jobs.extend(by_frame.into_values().map(|parts| Job { video: v, parts }));
    }
    jobs
}

type Masks = Vec<(u32, Mask)>;

fn run_job(
    job: &Job,
    video: &Video,
    protocol: Protocol,
    options: &ScoreOptions,
    scorer: &mut Option<FrameScorer>,
) -> Result<Vec<Scored>, String> {
    let (mut truth, mut pred): (Masks, Masks) = (Vec::new(), Vec::new());
    for &(u, at) in &job.parts {
        let unit = &video.units[u];
        let (truth_file, pred_file) = (unit.truth.join(&unit.files[at]), unit.pred.join(&unit.files[at]));
        let t = LabelMasks::read(&truth_file).map_err(|e| e.0)?;
        let p = LabelMasks::read(&pred_file).map_err(|e| e.0)?;
        if (t.width, t.height) != (p.width, p.height) {
            return Err(format!(
                "{}: {}x{}, but the truth {} is {}x{}; write masks at the size of the frames",
                pred_file.display(),
                p.width,
                p.height,
                truth_file.display(),
                t.width,
                t.height
            ));
        }
        let binary = |image: LabelMasks, file: &Path| {
            let (mask, values) = image.into_foreground();
            if values > 2 && unit.object.is_some() {
                return Err(format!(
                    "{}: {values} different values; a file in an object's folder holds one object (0 and one other value)",
                    file.display()
                ));
            }
            Ok(mask)
        };
        if unit.object.is_some() {
            truth.push((u as u32, binary(t, &truth_file)?));
            pred.push((u as u32, binary(p, &pred_file)?));
        } else if protocol == Protocol::Davis2016 {
            truth.push((1, binary(t, &truth_file)?));
            pred.push((1, binary(p, &pred_file)?));
        } else {
            let all = |image: LabelMasks| image.masks.into_iter().map(|(id, m)| (u32::from(id), m));
            let void = |id: u32| protocol == Protocol::Davis2017Semi && id == 255;
            truth.extend(all(t).filter(|(id, _)| !void(*id)));
            pred.extend(all(p));
        }
    }
    let keys: BTreeSet<u32> = truth.iter().chain(&pred).map(|(key, _)| *key).collect();
    let mut scored = Vec::with_capacity(keys.len());
    for key in keys {
        let find = |masks: &Masks| masks.iter().position(|(k, _)| *k == key);
        let (t, p) = (find(&truth), find(&pred));
        let Some(either) = t.map(|i| &truth[i].1).or(p.map(|i| &pred[i].1)) else { continue };
        let empty = Mask::empty(either.width(), either.height());
        let truth_mask = t.map_or(&empty, |i| &truth[i].1);
        let pred_mask = p.map_or(&empty, |i| &pred[i].1);
        // Object folders of one frame may differ in size; the references do not mind.
        if !scorer.as_ref().is_some_and(|s| s.fits(either.width(), either.height())) {
            *scorer = Some(FrameScorer::new(either.width(), either.height(), options.boundary_threshold));
        }
        let Some(scorer) = scorer else { continue };
        let score = scorer.score(pred_mask, truth_mask);
        let taken_for = taken_for(&score, pred_mask, key, &truth);
        let boundary_iou = options.boundary_iou.then(|| boundary_iou(pred_mask, truth_mask));
        scored.push(Scored { key, score, boundary_iou, taken_for });
    }
    Ok(scored)
}

/// Turns one unit's frames into object scores.
#[allow(clippy::too_many_arguments)]
fn assemble(
    video: &Video,
    unit: &Unit,
    frames: &[(usize, Scored)],
    protocol: Protocol,
    options: &ScoreOptions,
    objects: &mut Vec<ObjectScore>,
    faults: &mut Faults,
    notes: &mut Vec<String>,
) {
    let mut series: BTreeMap<u32, Vec<Option<Scored>>> = BTreeMap::new();
    for &(at, scored) in frames {
        let row = series.entry(scored.key).or_insert_with(|| vec![None; unit.evaluated.len()]);
        row[at - unit.evaluated.start] = Some(scored);
    }
    let order: Vec<u32> = match (&unit.object, protocol) {
        (Some(_), _) => series.keys().copied().collect(),
        (None, Protocol::Davis2016) => vec![1],
        (None, Protocol::Sav | Protocol::Vos) => {
            let mut set = SetOrder::default();
            for i in 0..unit.evaluated.len() {
                let visible = |row: &[Option<Scored>]| row[i].is_some_and(|s| !s.score.truth_empty);
                let ids: Vec<u64> =
                    series.iter().filter(|(_, row)| visible(row)).map(|(id, _)| u64::from(*id)).collect();
                set.update(&ids);
            }
            set.iter().map(|id| id as u32).collect()
        }
        (None, Protocol::Davis2017Semi) => match davis_objects(video, unit, &series, faults, notes) {
            Some(n) => (1..=n).collect(),
            None => return,
        },
    };
    for key in order {
        let row: Vec<Scored> = match series.get(&key) {
            Some(row) => row.iter().map(|s| s.unwrap_or(Scored::both_empty(key))).collect(),
            None => vec![Scored::both_empty(key); unit.evaluated.len()],
        };
        let scores: Vec<FrameScore> = row.iter().map(|s| s.score).collect();
        // First and last frame are gone already.
        let counted = protocol.counted(&scores, true);
        let object = unit.object.clone().unwrap_or_else(|| key.to_string());
        let Some(result) = object_score(video, object.clone(), unit, &row, &counted, protocol, options) else {
            let fault = format!(
                "video {}, object {object}: never visible on an evaluated frame of the truth: {protocol} has no score for it",
                video.name
            );
            if options.strict {
                faults.0.push(fault)
            } else {
                notes.push(format!("left out: {fault}"))
            }
            continue;
        };
        objects.push(result);
    }
}

impl Scored {
    fn both_empty(key: u32) -> Scored {
        let score = FrameScore { j: 1.0, f: 1.0, pred_empty: true, truth_empty: true };
        Scored { key, score, boundary_iou: Some(1.0), taken_for: None }
    }
}

/// Number of objects under DAVIS 2017: the largest id of the first annotation; `None` after a fault.
fn davis_objects(
    video: &Video,
    unit: &Unit,
    series: &BTreeMap<u32, Vec<Option<Scored>>>,
    faults: &mut Faults,
    notes: &mut Vec<String>,
) -> Option<u32> {
    const VOID: u16 = 255;
    let first = unit.truth.join(&unit.files[0]);
    let ids = match LabelMasks::read(&first) {
        Ok(image) => image.masks.into_iter().map(|(id, _)| id).filter(|id| *id != VOID).collect::<Vec<_>>(),
        Err(fault) => {
            faults.0.push(fault.0);
            return None;
        }
    };
    let Some(n) = ids.iter().max().map(|id| u32::from(*id)) else {
        faults
            .0
            .push(format!("{}: the first annotation has no object; DAVIS takes its objects from it", first.display()));
        return None;
    };
    let beyond = |what: fn(&FrameScore) -> bool| -> Vec<String> {
        let uses = |row: &[Option<Scored>]| row.iter().flatten().any(|s| !what(&s.score));
        series.iter().filter(|(id, row)| **id > n && uses(row)).map(|(id, _)| id.to_string()).collect()
    };
    let predicted = beyond(|s| s.pred_empty);
    if !predicted.is_empty() {
        faults.0.push(format!(
            "video {}: the predictions use id {}, but the first annotation has objects 1 to {n}; remove them, or score \
             with --protocol vos",
            video.name,
            predicted.join(", ")
        ));
        return None;
    }
    let late = beyond(|s| s.truth_empty);
    if !late.is_empty() {
        notes.push(format!(
            "video {}: DAVIS ignores id {}, absent from the first annotation",
            video.name,
            late.join(", ")
        ));
    }
    Some(n)
}

fn object_score(
    video: &Video,
    object: String,
    unit: &Unit,
    row: &[Scored],
    counted: &[bool],
    protocol: Protocol,
    options: &ScoreOptions,
) -> Option<ObjectScore> {
    let pick = |value: fn(&Scored) -> f64| -> Vec<f64> {
        row.iter().zip(counted).filter(|(_, c)| **c).map(|(s, _)| value(s)).collect()
    };
    let (j, f) = (pick(|s| s.score.j), pick(|s| s.score.f));
    let scale = protocol.scale();
    let boundary_iou =
        if options.boundary_iou { Some(mean(&pick(|s| s.boundary_iou.unwrap_or(f64::NAN)))? * scale) } else { None };
    let names: Vec<&str> =
        unit.files[unit.evaluated.clone()].iter().map(|f| f.strip_suffix(".png").unwrap_or(f)).collect();
    let (mean_j, mean_f, davis) = if protocol.is_davis() {
        let (j, f) = (davis_statistics(&j, protocol)?, davis_statistics(&f, protocol)?);
        let davis = DavisScore { j_recall: j.recall, j_decay: j.decay, f_recall: f.recall, f_decay: f.decay };
        (j.mean, f.mean, Some(davis))
    } else {
        (mean(&j)? * 100.0, mean(&f)? * 100.0, None)
    };
    let per_frame = if options.per_frame {
        let rows = row.iter().zip(counted).zip(&names).map(|((s, counted), name)| FrameRow {
            frame: (*name).to_string(),
            j: s.score.j * scale,
            f: s.score.f * scale,
            boundary_iou: s.boundary_iou.filter(|_| options.boundary_iou).map(|b| b * scale),
            counted: *counted,
            visible: !s.score.truth_empty,
            predicted: !s.score.pred_empty,
        });
        rows.collect()
    } else {
        Vec::new()
    };
    Some(ObjectScore {
        video: video.name.clone(),
        object,
        folder: unit.object.is_some(),
        j: mean_j,
        f: mean_f,
        jf: (mean_j + mean_f) / 2.0,
        frames: j.len(),
        boundary_iou,
        davis,
        failures: failures(row.iter().map(|s| (s.score, s.taken_for.map(|key| video.object_name(unit, key)))), &names),
        per_frame,
    })
}

fn group(objects: &[&ObjectScore]) -> Option<GroupScore> {
    let over = |value: &dyn Fn(&ObjectScore) -> f64| mean(&objects.iter().map(|o| value(o)).collect::<Vec<_>>());
    let davis = |value: fn(&DavisScore) -> f64| {
        let values: Option<Vec<f64>> = objects.iter().map(|o| o.davis.as_ref().map(value)).collect();
        mean(&values?)
    };
    let (j, f) = (over(&|o| o.j)?, over(&|o| o.f)?);
    Some(GroupScore {
        j,
        f,
        jf: (j + f) / 2.0,
        objects: objects.len(),
        boundary_iou: objects.iter().map(|o| o.boundary_iou).collect::<Option<Vec<f64>>>().and_then(|b| mean(&b)),
        davis: davis(|d| d.j_recall)
            .zip(davis(|d| d.j_decay))
            .zip(davis(|d| d.f_recall).zip(davis(|d| d.f_decay)))
            .map(|((j_recall, j_decay), (f_recall, f_decay))| DavisScore { j_recall, j_decay, f_recall, f_decay }),
    })
}

fn report(
    options: &ScoreOptions,
    protocol: Protocol,
    layout: Option<Layout>,
    videos: &[Video],
    objects: Vec<ObjectScore>,
    unseen: Option<&BTreeSet<(String, Option<String>)>>,
    notes: Vec<String>,
) -> ScoreReport {
    let all: Vec<&ObjectScore> = objects.iter().collect();
    let global = group(&all).expect("there are objects");
    let (mut seen_score, mut unseen_score, mut overall) = (None, None, None);
    if let Some(list) = unseen {
        let listed = |o: &&ObjectScore| {
            list.contains(&(o.video.clone(), None)) || list.contains(&(o.video.clone(), Some(o.object.clone())))
        };
        let (in_list, out): (Vec<&ObjectScore>, Vec<&ObjectScore>) = all.iter().copied().partition(listed);
        (seen_score, unseen_score) = (group(&out), group(&in_list));
        if let (Some(s), Some(u)) = (&seen_score, &unseen_score) {
            overall = Some((s.j + s.f + u.j + u.f) / 4.0);
        }
    }
    let evaluated = videos.iter().map(|v| v.name.clone()).collect();
    let videos = videos
        .iter()
        .filter_map(|v| {
            let own: Vec<&ObjectScore> = objects.iter().filter(|o| o.video == v.name).collect();
            Some(VideoScore { video: v.name.clone(), score: group(&own)? })
        })
        .collect();
    ScoreReport {
        schema: 1,
        protocol,
        scale: protocol.scale(),
        layout,
        truth: options.truth.display().to_string(),
        pred: options.pred.display().to_string(),
        keep_first_last: options.keep_first_last,
        boundary_threshold: options.boundary_threshold,
        global,
        seen: seen_score,
        unseen: unseen_score,
        seen_unseen_mean: overall,
        evaluated,
        videos,
        objects,
        notes,
    }
}

/// `video` or `video object` per line.
fn read_unseen(path: &Path) -> Result<BTreeSet<(String, Option<String>)>, DataError> {
    let text = std::fs::read_to_string(path).map_err(|e| DataError(format!("{}: {e}", path.display())))?;
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
