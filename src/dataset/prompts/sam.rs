//! Points and boxes as code around SAM keeps them: `point_coords`, `point_labels`, `box`, and for videos `obj_id` and `frame_idx`; one
//! object of JSON or a list of them.

use jetbench_runners::types::{Click, PromptShape};
use serde::Deserialize;

use super::{FrameName, UserPrompt};

/// One prompt. Names are those of SAM's predictors, SAM 2's video predictor and transformers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default, alias = "object_id", alias = "object")]
    obj_id: Option<Name>,
    #[serde(default, alias = "frame")]
    frame_idx: FrameName,
    #[serde(default)]
    video: Option<String>,
    #[serde(default, alias = "points", alias = "input_points")]
    point_coords: Option<Vec<[f32; 2]>>,
    #[serde(default, alias = "labels", alias = "input_labels")]
    point_labels: Option<Vec<i64>>,
    #[serde(default, rename = "box", alias = "input_box", alias = "bbox")]
    corners: Option<[f32; 4]>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a name or a number")]
enum Name {
    Number(u64),
    Text(String),
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Many(Vec<Entry>);

/// Is this such a file? Told from the fields of its first object.
pub(super) fn is_one(first: &serde_json::Map<String, serde_json::Value>) -> bool {
    ["point_coords", "points", "input_points", "box", "input_box", "bbox"].iter().any(|name| first.contains_key(*name))
}

/// The prompts of such a file.
///
/// # Errors
/// The place and what is wrong there.
pub(super) fn read(text: &str) -> Result<Vec<UserPrompt>, String> {
    let entries = match text.trim_start().starts_with('[') {
        true => serde_json::from_str::<Many>(text).map_err(|e| e.to_string())?.0,
        false => vec![serde_json::from_str::<Entry>(text).map_err(|e| e.to_string())?],
    };
    let prompt = |(at, entry): (usize, Entry)| entry.prompt().map_err(|what| format!("entry {at}: {what}"));
    entries.into_iter().enumerate().map(prompt).collect()
}

impl Entry {
    fn prompt(self) -> Result<UserPrompt, String> {
        let shape = match (self.point_coords, self.corners) {
            (Some(points), None) => {
                let labels = self.point_labels.unwrap_or_else(|| vec![1; points.len()]);
                if labels.len() != points.len() {
                    return Err(format!("{} points and {} labels", points.len(), labels.len()));
                }
                if let Some(other) = labels.iter().find(|l| !(0..=1).contains(*l)) {
                    return Err(format!("label {other}; 1 is inside the object, 0 outside"));
                }
                let click = |([x, y], label): (&[f32; 2], &i64)| Click { x: *x, y: *y, positive: *label == 1 };
                PromptShape::Points(points.iter().zip(&labels).map(click).collect())
            }
            (None, Some(corners)) => PromptShape::Bbox(corners),
            (Some(_), Some(_)) => return Err("points and a box; models are given one of them".to_string()),
            (None, None) => return Err("neither points nor a box".to_string()),
        };
        let object = match self.obj_id {
            None => "1".to_string(),
            Some(Name::Number(number)) => number.to_string(),
            Some(Name::Text(name)) => name,
        };
        Ok(UserPrompt { video: self.video, object, frame: self.frame_idx, shape })
    }
}
