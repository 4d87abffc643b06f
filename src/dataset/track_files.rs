//! Found tracks in the files that other evaluators read: MOTS text, a file per video, and YouTube-VIS result JSON, a list per video that
//! [`join_results`] makes one file of. Frames come in any order and from any thread.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use jetbench_runners::files;
use jetbench_runners::types::Mask;
use serde_json::{Value, json};

use super::coco_rle::{columns, text};
use super::write::one_level;
use super::{DataError, Sequence};

/// Class of what is tracked, in MOTS text.
const TRACKED: u32 = 2;
/// While a file is written it has this name more.
const UNFINISHED: &str = ".part";
/// The file of all videos' results.
pub const RESULTS: &str = "results.json";
/// The file of all videos' panoptic segments.
pub const SEGMENTS: &str = "pred.json";

/// A track as YouTube-VIS has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Instance {
    /// Category, from 1: a detector's class + 1.
    pub category: u32,
    /// Score, 0..1.
    pub score: f64,
}

/// Form of the files.
#[derive(Clone, Debug, PartialEq)]
pub enum TrackForm {
    /// `frame id class height width rle`, frames from 1.
    Mots,
    /// A result per track: the number of the video, from 1, and the tracks of the sequence in order.
    YoutubeVis(usize, Vec<Instance>),
}

/// Writes the tracks of one sequence; its objects' names are their numbers.
#[derive(Debug)]
pub struct TrackWriter {
    path: PathBuf,
    form: TrackForm,
    numbers: Vec<String>,
    size: [u32; 2],
    video: String,
    /// Place of each frame, by name.
    places: BTreeMap<String, usize>,
    /// Per frame, COCO's text of every track that has a pixel.
    frames: Mutex<BTreeMap<usize, Vec<(usize, String)>>>,
}

impl TrackWriter {
    /// Writer for `sequence`, into the directory `root`, which is created.
    ///
    /// # Errors
    /// Names the directory that cannot be made, or the video whose name is no single name.
    pub fn new(root: &Path, sequence: &Sequence, form: TrackForm) -> Result<TrackWriter, DataError> {
        one_level(&sequence.name)?;
        std::fs::create_dir_all(root).map_err(|e| DataError(format!("{}: {e}", root.display())))?;
        Ok(TrackWriter {
            path: root.join(file_names(&sequence.name, form == TrackForm::Mots)[0].clone()),
            form,
            numbers: sequence.objects.iter().map(|object| object.name.clone()).collect(),
            size: [sequence.height, sequence.width],
            video: sequence.name.clone(),
            places: sequence.frames.iter().enumerate().map(|(at, frame)| (frame.name.clone(), at)).collect(),
            frames: Mutex::default(),
        })
    }

    /// May masks of one frame have a pixel in common? Those of MOTS never do, those of YouTube-VIS as the model has them.
    pub fn takes_overlaps(&self) -> bool {
        matches!(self.form, TrackForm::YoutubeVis(..))
    }

    /// Takes frame `name`; `masks` has one entry per track, `None` and an empty mask are the same.
    ///
    /// # Errors
    /// There is no such frame.
    pub fn write(&self, name: &str, masks: &[Option<&Mask>]) -> Result<(), DataError> {
        let fail = || DataError(format!("{}: frame {name}: no such frame", self.path.display()));
        let place = *self.places.get(name).ok_or_else(fail)?;
        let there = masks.iter().enumerate().filter_map(|(i, mask)| Some((i, mask.filter(|mask| !mask.is_empty())?)));
        let line = there.map(|(i, mask)| (i, text(&columns(mask)))).collect();
        self.frames.lock().unwrap_or_else(|broken| broken.into_inner()).insert(place, line);
        Ok(())
    }

    /// Writes the file.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn finish(self) -> Result<(), DataError> {
        let frames = self.frames.into_inner().unwrap_or_else(|broken| broken.into_inner());
        let [height, width] = self.size;
        let mut out = String::new();
        match &self.form {
            TrackForm::Mots => {
                for (frame, masks) in &frames {
                    for (track, rle) in masks {
                        let number = &self.numbers[*track];
                        out.push_str(&format!("{} {number} {TRACKED} {height} {width} {rle}\n", frame + 1));
                    }
                }
            }
            TrackForm::YoutubeVis(video, instances) => {
                let of = |track: usize, frame: usize| -> Value {
                    let found = frames.get(&frame).and_then(|masks| masks.iter().find(|(i, _)| *i == track));
                    found.map_or(Value::Null, |(_, rle)| json!({"size": self.size, "counts": rle}))
                };
                let result = |(track, instance): (usize, &Instance)| {
                    let segments: Vec<Value> = (0..self.places.len()).map(|frame| of(track, frame)).collect();
                    // A track without a pixel is no result: the evaluator would count it as wrong.
                    segments.iter().any(|s| !s.is_null()).then(|| {
                        json!({"video_id": video, "video": self.video, "track": self.numbers[track],
                            "category_id": instance.category, "score": instance.score, "segmentations": segments})
                    })
                };
                let results: Vec<Value> = instances.iter().enumerate().filter_map(result).collect();
                out = Value::Array(results).to_string();
            }
        }
        put(&self.path, out.as_bytes())
    }
}

/// Writes a file under another name first: it has its own when it is whole.
pub(super) fn put(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    let unfinished = PathBuf::from(format!("{}{UNFINISHED}", path.display()));
    let written = files::create(&unfinished).and_then(|mut file| file.write_all(bytes));
    written.and_then(|()| std::fs::rename(&unfinished, path)).map_err(|e| DataError(format!("{}: {e}", path.display())))
}

/// Name of a video's file, and its name while it is written.
pub fn file_names(video: &str, mots: bool) -> [String; 2] {
    let name = if mots { format!("{video}.txt") } else { format!("{video}.results") };
    [name.clone(), format!("{name}{UNFINISHED}")]
}

/// Makes one list of the results of these videos, or of their panoptic segments; each of their files goes.
///
/// # Errors
/// Names the file that cannot be read or written.
pub fn join_results<'a>(root: &Path, panoptic: bool, videos: impl Iterator<Item = &'a str>) -> Result<(), DataError> {
    let whole = |all| match panoptic {
        true => (SEGMENTS, json!({"annotations": all})),
        false => (RESULTS, Value::Array(all)),
    };
    join(root, videos, whole)
}

/// Makes one file of the lists of these videos; `whole`: its name, and what it is of them all.
pub(super) fn join<'a>(
    root: &Path,
    videos: impl Iterator<Item = &'a str>,
    whole: impl FnOnce(Vec<Value>) -> (&'static str, Value),
) -> Result<(), DataError> {
    let fail = |path: &Path, e: &dyn std::fmt::Display| DataError(format!("{}: {e}", path.display()));
    let mut all = Vec::new();
    let mut parts = Vec::new();
    for video in videos {
        let path = root.join(file_names(video, false)[0].clone());
        let bytes = files::read(&path, files::LARGE).map_err(|e| fail(&path, &e))?;
        let results: Vec<Value> = serde_json::from_slice(&bytes).map_err(|e| fail(&path, &e))?;
        all.extend(results);
        parts.push(path);
    }
    let (name, whole) = whole(all);
    put(&root.join(name), whole.to_string().as_bytes())?;
    parts.iter().try_for_each(|part| std::fs::remove_file(part).map_err(|e| fail(part, &e)))
}
