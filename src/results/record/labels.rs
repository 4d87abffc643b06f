//! What the objects of a run are called, by a label pack.

use jetbench_runners::types::{ClassProbability, TrackLabel, TrackLabels};
use serde::{Deserialize, Serialize};

use super::sequence::SequenceRecord;

/// An object whose best class is less probable is shown as unlabelled. Arbitrary, and so stated wherever a name is shown; the record has
/// every best class with its probability.
pub const LEAST: f64 = 0.5;

/// What stands in place of a name.
pub const UNLABELLED: &str = "unlabelled";

/// The label pack of a cell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelPackRecord {
    /// Pack id.
    pub pack: String,
    /// The model that the pack only stands in for, where it is a test model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_model_of: Option<String>,
    /// Licence of the pack; empty in older records, and where its manifest has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub licence: String,
    /// Names of its classes, by number.
    #[serde(default)]
    pub classes: Vec<String>,
}

/// What the objects of a video are called.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LabelsRecord {
    /// One entry per object that has a mask, of found ones per confirmed track.
    pub objects: Vec<ObjectLabelRecord>,
    /// Time of the image tower over all crops, after the last frame: no part of any frame and of no wall time. Milliseconds.
    pub time_ms: f64,
    /// Objects beyond the number that is labelled.
    pub left_out: u32,
}

/// What an object is called.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ObjectLabelRecord {
    /// Its name in the dataset, or its number where it was found.
    pub object: String,
    /// Crops that its features are the mean of.
    pub crops: u32,
    /// The most probable class; `None`: no crop showed it.
    pub label: Option<String>,
    /// Its probability, 0..1.
    pub probability: Option<f64>,
    /// The second.
    pub second: Option<String>,
    /// Its probability, 0..1.
    pub second_probability: Option<f64>,
}

impl LabelsRecord {
    /// From what the runner said; `name` gives an object its name, and `None` where it is no part of the result.
    pub fn of(said: &TrackLabels, classes: &[String], name: impl Fn(u32) -> Option<String>) -> LabelsRecord {
        let word = |of: &ClassProbability| class(classes, of.label);
        let object = |of: &TrackLabel| {
            Some(ObjectLabelRecord {
                object: name(of.object)?,
                crops: of.crops,
                label: of.best.as_ref().map(word),
                probability: of.best.map(|best| best.probability),
                second: of.second.as_ref().map(word),
                second_probability: of.second.map(|second| second.probability),
            })
        };
        let objects = said.objects.iter().filter_map(object).collect();
        LabelsRecord { objects, time_ms: said.time_ms, left_out: said.left_out }
    }
}

/// Name of a class; its number where the pack names none.
fn class(classes: &[String], number: u32) -> String {
    classes.get(number as usize).cloned().unwrap_or_else(|| format!("class {number}"))
}

/// What is shown beside an object: its class and how probable it is, or that it has none.
pub fn shown(best: Option<ClassProbability>, classes: &[String]) -> String {
    match best {
        Some(best) if best.probability >= LEAST => {
            format!("{} {:.2}", class(classes, best.label), best.probability)
        }
        _ => UNLABELLED.to_string(),
    }
}

/// How a cell's objects were named.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LabelSummary {
    /// Objects.
    pub objects: usize,
    /// Those with a class of a probability of [`LEAST`] or more.
    pub named: usize,
    /// Crops that went through the image tower.
    pub crops: u32,
    /// Time of that, after the last frames, milliseconds.
    pub time_ms: f64,
    /// Mean time per frame in which crops were cut, milliseconds; `None`: no stage was timed.
    pub frame_ms: Option<f64>,
    /// Objects beyond the number that is labelled.
    pub left_out: u32,
}

impl LabelSummary {
    /// Of the finished videos of a cell; `None`: nothing was labelled.
    pub fn of(sequences: &[SequenceRecord]) -> Option<LabelSummary> {
        let all: Vec<&LabelsRecord> = sequences.iter().filter_map(|s| s.labels.as_ref()).collect();
        if all.is_empty() {
            return None;
        }
        let objects = || all.iter().flat_map(|labels| &labels.objects);
        let frames = || sequences.iter().flat_map(|s| &s.frames);
        let timed = frames().any(|frame| !frame.stages_ms.is_empty());
        let cut: f64 = frames().filter_map(|frame| frame.stages_ms.get("labels")).sum();
        Some(LabelSummary {
            objects: objects().count(),
            named: objects().filter(|o| o.probability.is_some_and(|p| p >= LEAST)).count(),
            crops: objects().map(|o| o.crops).sum(),
            time_ms: all.iter().map(|labels| labels.time_ms).sum(),
            frame_ms: timed.then(|| cut / frames().count() as f64),
            left_out: all.iter().map(|labels| labels.left_out).sum(),
        })
    }
}
