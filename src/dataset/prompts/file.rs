//! The prompt file: jetbench's own form, described in docs/footage.md.
//!
//! ```json
//! {"schema": 1, "prompts": [
//!   {"object": "1", "frame": 0, "clicks": [{"x": 320, "y": 180}, {"x": 40, "y": 60, "positive": false}]},
//!   {"object": "2", "frame": 10, "box": [100, 80, 260, 300]},
//!   {"object": "3", "video": "bear", "mask": {"size": [480, 854], "counts": [204000, 12, 205908]}}
//! ]}
//! ```

use jetbench_runners::types::{Click, Mask, PromptShape};
use serde::{Deserialize, Serialize};

use super::{FrameName, UserPrompt, UserPrompts, room};
use crate::dataset::coco_rle::{columns, runs, unpack};
use crate::dataset::label_png;

/// The form that this program writes and reads.
pub(super) const SCHEMA: u32 = 1;

/// A prompt file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptFile {
    schema: u32,
    prompts: Vec<PromptEntry>,
}

/// One prompt of it: exactly one of `clicks`, `box` and `mask`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptEntry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    video: Option<String>,
    object: ObjectName,
    #[serde(default)]
    frame: FrameName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clicks: Option<Vec<ClickEntry>>,
    #[serde(default, rename = "box", skip_serializing_if = "Option::is_none")]
    corners: Option<[f32; 4]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mask: Option<MaskEntry>,
}

/// A name, or a number that is one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged, expecting = "a name or a number")]
enum ObjectName {
    Text(String),
    Number(u64),
}

impl Default for ObjectName {
    fn default() -> Self {
        ObjectName::Text(String::new())
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClickEntry {
    x: f32,
    y: f32,
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    positive: bool,
}

fn yes() -> bool {
    true
}

/// COCO's run lengths: size is height, width; counts are numbers or pycocotools' text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MaskEntry {
    size: [u32; 2],
    counts: Counts,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged, expecting = "run lengths: a list of numbers, or COCO's text")]
enum Counts {
    Numbers(Vec<u32>),
    Text(String),
}

impl PromptFile {
    pub(super) fn of(prompts: Vec<PromptEntry>) -> PromptFile {
        PromptFile { schema: SCHEMA, prompts }
    }

    pub(super) fn entries(self) -> Result<Vec<PromptEntry>, String> {
        match self.schema {
            SCHEMA => {
                room(self.prompts.iter().filter_map(|p| p.mask.as_ref()).map(|m| (m.size[1], m.size[0])))?;
                Ok(self.prompts)
            }
            other => Err(format!("schema {other}; this version reads schema {SCHEMA}")),
        }
    }
}

impl PromptEntry {
    pub(super) fn of(prompt: &UserPrompt) -> PromptEntry {
        let UserPrompt { video, object, frame, shape } = prompt;
        let blank = PromptEntry {
            video: video.clone(),
            object: ObjectName::Text(object.clone()),
            frame: frame.clone(),
            ..PromptEntry::default()
        };
        match shape {
            PromptShape::Points(clicks) => {
                let entry = |c: &Click| ClickEntry { x: c.x, y: c.y, positive: c.positive };
                PromptEntry { clicks: Some(clicks.iter().map(entry).collect()), ..blank }
            }
            PromptShape::Bbox(corners) => PromptEntry { corners: Some(*corners), ..blank },
            PromptShape::Mask(mask) => {
                let (size, counts) = ([mask.height(), mask.width()], Counts::Numbers(columns(mask)));
                PromptEntry { mask: Some(MaskEntry { size, counts }), ..blank }
            }
        }
    }

    pub(super) fn prompt(self) -> Result<UserPrompt, String> {
        let shape = match (self.clicks, self.corners, self.mask) {
            (Some(clicks), None, None) => {
                PromptShape::Points(clicks.iter().map(|c| Click { x: c.x, y: c.y, positive: c.positive }).collect())
            }
            (None, Some(corners), None) => PromptShape::Bbox(corners),
            (None, None, Some(mask)) => PromptShape::Mask(mask.read().map_err(|what| format!("mask: {what}"))?),
            _ => return Err("exactly one of clicks, box and mask is needed".to_string()),
        };
        let object = match self.object {
            ObjectName::Text(name) => name,
            ObjectName::Number(number) => number.to_string(),
        };
        Ok(UserPrompt { video: self.video, object, frame: self.frame, shape })
    }
}

impl MaskEntry {
    fn read(&self) -> Result<Mask, String> {
        let [height, width] = self.size;
        label_png::bound_size(width, height, 0, 0).map_err(|_| format!("size {height}, {width} is not read"))?;
        let runs = match &self.counts {
            Counts::Numbers(numbers) => numbers.clone(),
            Counts::Text(text) => runs(text.as_bytes()).ok_or("counts is not a COCO run-length text")?,
        };
        unpack(width, height, &runs).ok_or_else(|| format!("counts do not fill {width}x{height} pixels"))
    }
}

/// The prompts of a file.
///
/// # Errors
/// The place and what is wrong there.
pub(super) fn read(text: &str) -> Result<Vec<UserPrompt>, String> {
    let file: PromptFile = serde_json::from_str(text).map_err(|e| e.to_string())?;
    UserPrompts::try_from(file).map(|prompts| prompts.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape() -> impl Strategy<Value = PromptShape> {
        let click = (0u32..4000, 0u32..4000, any::<bool>()).prop_map(|(x, y, positive)| Click {
            x: x as f32 / 2.0,
            y: y as f32,
            positive,
        });
        let points = prop::collection::vec(click, 0..5).prop_map(|mut clicks| {
            clicks.insert(0, Click { x: 1.0, y: 2.0, positive: true });
            PromptShape::Points(clicks)
        });
        let corners = (0u32..500, 0u32..500, 1u32..500, 1u32..500)
            .prop_map(|(x, y, w, h)| PromptShape::Bbox([x as f32, y as f32, (x + w) as f32, (y + h) as f32]));
        let mask = (1u32..70, 1u32..20, any::<u64>()).prop_map(|(w, h, seed)| {
            PromptShape::Mask(Mask::from_fn(w, h, |x, y| (x, y) == (0, 0) || (seed ^ u64::from(x * y + x)) % 3 == 0))
        });
        prop_oneof![points, corners, mask]
    }

    fn frame() -> impl Strategy<Value = FrameName> {
        prop_oneof![(0usize..30).prop_map(FrameName::Index), "[a-z0-9_]{1,6}".prop_map(FrameName::Named)]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(shapes in prop::collection::vec((shape(), frame(), any::<bool>()), 0..6)) {
            let prompts = shapes.into_iter().enumerate().map(|(i, (shape, frame, named))| UserPrompt {
                video: named.then(|| "bear 1".to_string()), object: format!("{i}"), frame, shape,
            });
            let prompts = UserPrompts(prompts.collect());
            let text = serde_json::to_string(&prompts).unwrap();
            prop_assert_eq!(serde_json::from_str::<UserPrompts>(&text).unwrap(), prompts);
        }

        #[test]
        fn any_text_is_prompts_or_an_error(text in "\\PC{0,60}", counts in "[0-9A-Za-o]{0,12}", size in any::<[u32; 2]>()) {
            let _ = serde_json::from_str::<UserPrompts>(&text);
            let masked = format!(
                r#"{{"schema": 1, "prompts": [{{"object": 1, "mask": {{"size": {size:?}, "counts": "{counts}"}}}}]}}"#
            );
            let _ = serde_json::from_str::<UserPrompts>(&masked);
        }
    }

    #[test]
    fn a_fault_is_named_with_its_place() {
        let fault = |json: &str| read(json).unwrap_err();
        let one = |entry: &str| {
            format!("{{\"schema\": 1, \"prompts\": [\n{{\"object\": 1, \"box\": [1,2,3,4]}},\n{entry}]}}")
        };
        for (json, part) in [
            ("[]".to_string(), "invalid length 0"),
            ("{\"schema\": 9, \"prompts\": []}".to_string(), "schema 9; this version reads schema 1"),
            (one("{\"object\": 2}"), "prompts[1]: exactly one of clicks, box and mask"),
            (one("{\"object\": 2, \"boxes\": []}"), "unknown field `boxes`, expected one of"),
            (one("{\"object\": 2, \"boxes\": []}"), "line 3"),
            (one("{\"object\": 2, \"box\": [4,2,3,4]}"), "prompts[1]: object 2 on frame 0: 4,2,3,4 is no box"),
            (one("{\"object\": \"../x\", \"box\": [1,2,3,4]}"), "is no name of object"),
            (one("{\"object\": 1, \"box\": [1,2,3,4]}"), "has a prompt of kind bbox already"),
            (one("{\"object\": 2, \"clicks\": []}"), "has no click"),
            (one("{\"object\": 2, \"clicks\": [{\"x\": 1, \"y\": 2, \"positive\": false}]}"), "negative clicks only"),
            (one("{\"object\": 2, \"mask\": {\"size\": [2, 2], \"counts\": [3]}}"), "counts do not fill 2x2 pixels"),
            (one("{\"object\": 2, \"mask\": {\"size\": [2, 2], \"counts\": [4]}}"), "its mask has no pixel"),
            (one("{\"object\": 2, \"mask\": {\"size\": [4000000000, 2], \"counts\": [4]}}"), "masks of 30517 MiB"),
        ] {
            let said = fault(&json);
            assert!(said.contains(part), "{json}: {said}");
        }
    }
}
