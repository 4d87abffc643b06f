//! Which objects does the user mean? Prompts by video, object and frame, from the command line or a file, brought into one form and
//! checked as far as that is possible without the footage.

mod coco;
mod file;
mod images;
mod labelme;
mod polygon;
mod sam;
mod words;
mod yolo;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use jetbench_runners::files;
use jetbench_runners::types::{Click, Mask, PromptShape};
use serde::{Deserialize, Serialize};

use super::{DataError, footage};
use file::{PromptEntry, PromptFile};

/// Longest name of an object: it becomes the name of a folder.
const LONGEST_NAME: usize = 100;
/// Most prompts of a run; each is compared with those before it.
const MOST: usize = 10_000;
/// Most memory for the masks of a file, bytes.
const MOST_MASKS: u64 = 1 << 30;

/// One prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct UserPrompt {
    /// Name of the video; `None`: the only one there is.
    pub video: Option<String>,
    /// Name of the object.
    pub object: String,
    /// The frame that it is given on.
    pub frame: FrameName,
    /// Where it is, in source pixels.
    pub shape: PromptShape,
}

/// A frame of a video.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged, expecting = "the number of a frame or its name")]
pub enum FrameName {
    /// Its index, from 0.
    Index(usize),
    /// Its name: that of its file without the ending; five digits in a video file.
    Named(String),
}

impl FrameName {
    /// The frame that an image file is of, by the file's name.
    fn of_file(path: &str) -> FrameName {
        let name = path.rsplit(['/', '\\']).next().unwrap_or_default();
        FrameName::Named(name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_string())
    }

    /// Its index among frames of these names. A name without a digit that is no frame's means the first frame: `mask.png`.
    pub(super) fn index(&self, names: &[&str]) -> Result<usize, String> {
        let (first, last) = (names.first().copied().unwrap_or_default(), names.last().copied().unwrap_or_default());
        match self {
            FrameName::Index(index) if *index < names.len() => Ok(*index),
            FrameName::Index(_) => Err(format!("the video has {} frames; the first one is frame 0", names.len())),
            FrameName::Named(name) => match names.iter().position(|known| known == name) {
                Some(index) => Ok(index),
                None if !name.contains(|c: char| c.is_ascii_digit()) => Ok(0),
                None => Err(format!(
                    "no frame has that name; frames are named {first} to {last}, and only a name without a digit means the first"
                )),
            },
        }
    }
}

impl Default for FrameName {
    fn default() -> Self {
        FrameName::Index(0)
    }
}

impl fmt::Display for FrameName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameName::Index(index) => index.fmt(f),
            FrameName::Named(name) => write!(f, "`{}`", name.escape_debug()),
        }
    }
}

/// All prompts of a run: at most one per video, object and frame. In records and files it has the form of a prompt file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PromptFile", into = "PromptFile")]
pub struct UserPrompts(Vec<UserPrompt>);

impl From<Vec<UserPrompt>> for UserPrompts {
    fn from(prompts: Vec<UserPrompt>) -> Self {
        UserPrompts(prompts)
    }
}

impl UserPrompts {
    /// What `--clicks` and `--box` say, then what a file says; `root`: the footage, for files that measure in shares of a frame.
    ///
    /// # Errors
    /// Names the flag or file, and what cannot be read; two prompts for one object on one frame.
    pub fn read(
        clicks: &[String],
        boxes: &[String],
        file: Option<&Path>,
        root: &Path,
    ) -> Result<UserPrompts, DataError> {
        let mut all = Vec::new();
        for text in clicks {
            let prompt = words::clicks(text).map_err(|what| DataError(format!("--clicks \"{text}\": {what}")))?;
            all.push((format!("--clicks \"{text}\""), prompt));
        }
        for text in boxes {
            let prompt = words::corners(text).map_err(|what| DataError(format!("--box \"{text}\": {what}")))?;
            all.push((format!("--box \"{text}\""), prompt));
        }
        if let Some(path) = file {
            for prompt in read_file(path, root)? {
                all.push((path.display().to_string(), prompt));
            }
        }
        let mut prompts = UserPrompts::default();
        for (from, prompt) in all {
            prompts.add(prompt).map_err(|what| DataError(format!("{from}: {what}")))?;
        }
        Ok(prompts)
    }

    /// Takes a prompt in; further clicks for an object on the same frame join those that are there.
    fn add(&mut self, prompt: UserPrompt) -> Result<(), String> {
        check(&prompt)?;
        if self.0.len() == MOST {
            return Err(format!("more than {MOST} prompts are not read"));
        }
        let same =
            |p: &&mut UserPrompt| (&p.video, &p.object, &p.frame) == (&prompt.video, &prompt.object, &prompt.frame);
        match (self.0.iter_mut().find(same), prompt.shape) {
            (None, shape) => self.0.push(UserPrompt { shape, ..prompt }),
            (Some(UserPrompt { shape: PromptShape::Points(clicks), .. }), PromptShape::Points(more)) => {
                clicks.extend(more);
            }
            (Some(there), shape) => {
                return Err(format!(
                    "object {} on frame {} has a prompt of kind {} already, so none of kind {} is taken; models are given one of them",
                    prompt.object,
                    prompt.frame,
                    there.shape.kind(),
                    shape.kind()
                ));
            }
        }
        Ok(())
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every prompt, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &UserPrompt> {
        self.0.iter()
    }

    /// By video, those of a video by object and frame; objects in the order of their numbers, else of their names. `videos` are those
    /// that there are.
    ///
    /// # Errors
    /// A video that is not among them; no video named where there are several.
    pub fn by_video(&self, videos: &[&str]) -> Result<BTreeMap<String, Vec<UserPrompt>>, String> {
        let mut found: BTreeMap<String, Vec<UserPrompt>> = BTreeMap::new();
        let known = || {
            videos.iter().take(5).copied().collect::<Vec<_>>().join(", ") + if videos.len() > 5 { ", …" } else { "" }
        };
        for prompt in &self.0 {
            let video = match (&prompt.video, videos) {
                (Some(name), _) if videos.contains(&name.as_str()) => name.clone(),
                (Some(name), _) => {
                    return Err(format!("a prompt names video `{name}`, which is not there; there: {}", known()));
                }
                (None, [one]) => (*one).to_string(),
                (None, _) => {
                    return Err(format!(
                        "a prompt for object {} names no video, and there are {}; say video=NAME: {}",
                        prompt.object,
                        videos.len(),
                        known()
                    ));
                }
            };
            found.entry(video).or_default().push(prompt.clone());
        }
        for prompts in found.values_mut() {
            let number = |name: &str| name.parse::<u64>().unwrap_or(u64::MAX);
            prompts.sort_by(|a, b| {
                let key = |p: &UserPrompt| (number(&p.object), p.object.clone(), p.frame.clone());
                key(a).cmp(&key(b))
            });
        }
        Ok(found)
    }
}

/// The prompts of a file or folder in any form that is read.
///
/// # Errors
/// Names the file, the place in it and what is wrong there.
fn read_file(path: &Path, root: &Path) -> Result<Vec<UserPrompt>, DataError> {
    let fail = |what: String| DataError(format!("{}: {what}", path.display()));
    if path.is_dir() {
        return images::one_each(path);
    }
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if ending == "png" {
        return images::label_map(path);
    }
    let text = files::read_text(path, files::SMALL).map_err(|e| fail(e.to_string()))?;
    if ending == "txt" {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        return yolo::read(&text, &stem, footage::frame_size(root)?)
            .map_err(|what| fail(format!("as a YOLO label file: {what}")));
    }
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| fail(format!("no JSON: {e}")))?;
    let first = value.as_array().map_or(Some(&value), |all| all.first()).and_then(serde_json::Value::as_object);
    let has = |name: &str| first.is_some_and(|fields| fields.contains_key(name));
    let read = match first {
        _ if has("schema") => ("a prompt file", file::read(&text)),
        _ if has("annotations") => ("COCO", coco::read(&text)),
        _ if has("shapes") => ("LabelMe", labelme::read(&text)),
        Some(fields) if sam::is_one(fields) => ("SAM points and boxes", sam::read(&text)),
        _ => return Err(fail(UNKNOWN.to_string())),
    };
    read.1.map_err(|what| fail(format!("as {}: {what}", read.0)))
}

/// What is said of other JSON.
const UNKNOWN: &str = "no prompts are recognised in it; read are jetbench's own (`schema`, `prompts`), COCO (`images`, `annotations`), \
                       LabelMe (`shapes`), and SAM's points and boxes (`point_coords` or `points`, `box`)";

/// Do masks of these sizes have room?
fn room(sizes: impl Iterator<Item = (u32, u32)>) -> Result<(), String> {
    let bytes = |(width, height): (u32, u32)| u64::from(width.div_ceil(64)) * 8 * u64::from(height);
    let all = sizes.map(bytes).fold(0, u64::saturating_add);
    match all > MOST_MASKS {
        true => Err(format!("masks of {} MiB; at most {} MiB are read", all >> 20, MOST_MASKS >> 20)),
        false => Ok(()),
    }
}

/// What a prompt must hold whatever the footage is.
fn check(prompt: &UserPrompt) -> Result<(), String> {
    name("object", &prompt.object)?;
    prompt.video.as_deref().map_or(Ok(()), |video| name("video", video))?;
    let who = || format!("object {} on frame {}", prompt.object, prompt.frame);
    match &prompt.shape {
        PromptShape::Points(clicks) if clicks.is_empty() => Err(format!("{} has no click; give x,y", who())),
        PromptShape::Points(clicks) => match clicks.iter().find(|c| !(c.x.is_finite() && c.y.is_finite())) {
            Some(click) => Err(format!("{}: ({}, {}) is no place", who(), click.x, click.y)),
            None if clicks.iter().all(|c| !c.positive) => {
                Err(format!("{} has negative clicks only; at least one click must lie on the object", who()))
            }
            None => Ok(()),
        },
        PromptShape::Bbox([x0, y0, x1, y1]) => {
            let places = [x0, y0, x1, y1].iter().all(|v| v.is_finite());
            match places && x0 < x1 && y0 < y1 {
                true => Ok(()),
                false => Err(format!("{}: {x0},{y0},{x1},{y1} is no box; x0 < x1 and y0 < y1 are needed", who())),
            }
        }
        PromptShape::Mask(mask) if mask.is_empty() => Err(format!("{}: its mask has no pixel", who())),
        PromptShape::Mask(_) => Ok(()),
    }
}

/// Names become names of folders, one level down.
fn name(what: &str, text: &str) -> Result<(), String> {
    let leads_away = matches!(text, "" | "." | "..") || text.contains(['/', '\\']) || text.contains(char::is_control);
    match leads_away || text.len() > LONGEST_NAME {
        true => Err(format!(
            "`{}` is no name of {what}; it becomes the name of a folder: 1 to {LONGEST_NAME} bytes without / and \\",
            text.chars().take(40).collect::<String>().escape_debug()
        )),
        false => Ok(()),
    }
}

impl TryFrom<PromptFile> for UserPrompts {
    type Error = String;

    fn try_from(file: PromptFile) -> Result<UserPrompts, String> {
        let mut prompts = UserPrompts::default();
        for (at, entry) in file.entries()?.into_iter().enumerate() {
            let within = |what: String| format!("prompts[{at}]: {what}");
            prompts.add(entry.prompt().map_err(within)?).map_err(within)?;
        }
        Ok(prompts)
    }
}

impl From<UserPrompts> for PromptFile {
    fn from(prompts: UserPrompts) -> PromptFile {
        PromptFile::of(prompts.0.iter().map(PromptEntry::of).collect())
    }
}

/// Does the prompt lie inside frames of this size?
pub(super) fn inside(shape: &PromptShape, width: u32, height: u32) -> Result<(), String> {
    let (w, h) = (width as f32, height as f32);
    let frames = format!("the frames have {width}x{height} pixels");
    let beyond = |c: &&Click| !(0.0..w).contains(&c.x) || !(0.0..h).contains(&c.y);
    match shape {
        PromptShape::Points(clicks) => match clicks.iter().find(beyond) {
            Some(c) => Err(format!("click {},{} is outside: {frames}, the first one is 0,0", c.x, c.y)),
            None => Ok(()),
        },
        PromptShape::Bbox([x0, y0, x1, y1]) if !(*x0 >= 0.0 && *y0 >= 0.0 && *x1 <= w && *y1 <= h) => {
            Err(format!("box {x0},{y0},{x1},{y1} reaches outside: {frames}"))
        }
        PromptShape::Mask(mask) if size(mask) != (width, height) => {
            Err(format!("a mask of {}x{} pixels: {frames}; both must be the same", mask.width(), mask.height()))
        }
        _ => Ok(()),
    }
}

fn size(mask: &Mask) -> (u32, u32) {
    (mask.width(), mask.height())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COCO: &str = r#"{"images": [{"id": 7, "file_name": "a/00003.jpg", "width": 48, "height": 32}], "annotations": [
        {"id": 1, "image_id": 7, "bbox": [10, 8, 12, 12], "segmentation": [[10, 8, 22, 8, 22, 20, 10, 20]]},
        {"id": 2, "image_id": 7, "bbox": [10, 8, 12, 12], "segmentation": []},
        {"id": 3, "image_id": 7, "segmentation": {"size": [32, 48], "counts": [330, 10, 1196]}}]}"#;
    const LABELME: &str = r#"{"version": "5", "imagePath": "00003.png", "imageWidth": 48, "imageHeight": 32, "shapes": [
        {"label": "dog", "points": [[10, 8], [22, 8], [22, 20], [10, 20]]},
        {"label": "dog", "points": [[21, 19], [10, 8]], "shape_type": "rectangle"},
        {"label": "cat", "points": [[4, 5]], "shape_type": "point"}, {"label": "cat", "points": [[6, 5]], "shape_type": "point"},
        {"label": "two", "group_id": 4, "points": [[0, 0], [2, 0], [2, 2]], "shape_type": "polygon"},
        {"label": "two", "group_id": 4, "points": [[9, 9], [12, 9], [12, 12]], "shape_type": "polygon"}]}"#;
    const SAM: &str = r#"[{"obj_id": 1, "frame_idx": 3, "point_coords": [[20, 16], [2, 2]], "point_labels": [1, 0]},
        {"object_id": "b", "box": [10, 8, 21, 19]}]"#;
    const YOLO: &str = "0 0.333333 0.4375 0.25 0.375\n\n3 0.208333 0.25 0.458333 0.25 0.458333 0.625 0.208333 0.625\n";

    fn told(prompts: &[UserPrompt]) -> Vec<String> {
        let words = |shape: &PromptShape| match shape {
            PromptShape::Points(clicks) => clicks
                .iter()
                .map(|c| format!("{},{}{}", c.x, c.y, if c.positive { "" } else { "-" }))
                .collect::<Vec<_>>()
                .join(" "),
            PromptShape::Bbox(corners) => format!("{corners:?}"),
            PromptShape::Mask(mask) => format!("mask of {}", mask.area()),
        };
        prompts.iter().map(|p| format!("{} on {}: {}", p.object, p.frame, words(&p.shape))).collect()
    }

    #[test]
    fn every_form_is_read_as_it_is() {
        assert_eq!(
            told(&coco::read(COCO).unwrap()),
            ["1 on `00003`: mask of 144", "2 on `00003`: [10.0, 8.0, 21.0, 19.0]", "3 on `00003`: mask of 10"]
        );
        assert_eq!(
            told(&labelme::read(LABELME).unwrap()),
            [
                "dog on `00003`: mask of 144",
                "dog_2 on `00003`: [10.0, 8.0, 21.0, 19.0]",
                "cat on `00003`: 4,5 6,5",
                "two_4 on `00003`: mask of 9"
            ]
        );
        assert_eq!(told(&sam::read(SAM).unwrap()), ["1 on 3: 20,16 2,2-", "b on 0: [10.0, 8.0, 21.0, 19.0]"]);
        assert_eq!(
            told(&yolo::read(YOLO, "00003", (48, 32)).unwrap()),
            ["1 on `00003`: [10.0, 8.0, 21.0, 19.0]", "3 on `00003`: mask of 144"]
        );
    }

    #[test]
    fn a_fault_of_a_foreign_file_is_named_with_file_and_place() {
        let dir = tempfile::tempdir().unwrap();
        let fault = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            let fault = read_file(&path, dir.path()).unwrap_err().0;
            assert!(fault.contains(name), "{fault}");
            fault
        };
        for (text, part) in [
            ("{", "no JSON: EOF while parsing an object at line 1"),
            ("{\"a\": 1}", "no prompts are recognised"),
            ("[]", "no prompts are recognised"),
            (
                &COCO.replace("\"image_id\": 7, \"seg", "\"image_id\": 8, \"seg"),
                "as COCO: annotations[2]: image_id 8 is no image's",
            ),
            (&COCO.replace("22, 8, 22, 20, 10, 20", "22"), "annotations[0]: a polygon of 3 numbers"),
            (&COCO.replace("[330, 10, 1196]", "[330]"), "annotations[2]: counts do not fill 48x32"),
            (&COCO.replace("\"width\": 48", "\"width\": 4000000000"), "masks of"),
            (&LABELME.replace("rectangle", "circle"), "as LabelMe: shapes[1]: shape_type `circle` is not read"),
            (&LABELME.replace("\"imagePath\"", "\"path\""), "missing field `imagePath`"),
            (&SAM.replace("[1, 0]", "[1, 0, 1]"), "as SAM points and boxes: entry 0: 2 points and 3 labels"),
            (&SAM.replace("[1, 0]", "[1, 2]"), "entry 0: label 2"),
            (&SAM.replace("\"box\"", "\"boxes\""), "unknown field `boxes`"),
        ] {
            let said = fault("p.json", text);
            assert!(said.contains(part), "{text}: {said}");
        }
        for (text, part) in [
            ("0 0.5 0.5 0.2 0.2\n0 0.5 x 1 1", "line 2: a word that is no number"),
            ("0 320 180 20 20", "line 1: 320 is no share of the frame"),
            ("0 0.1 0.1 0.2", "line 1: 4 numbers"),
        ] {
            let said = yolo::read(text, "a", (48, 32)).unwrap_err();
            assert!(said.contains(part), "{text}: {said}");
        }
        let names = ["00000", "00001"];
        assert_eq!(FrameName::of_file("x\\y/00001.jpg").index(&names), Ok(1));
        assert_eq!(FrameName::of_file("mask.png").index(&names), Ok(0));
        assert!(FrameName::of_file("clip_20.png").index(&names).unwrap_err().contains("named 00000 to 00001"));
    }

    proptest! {
        #[test]
        fn damaged_files_end_with_an_answer(which in 0usize..4, at in 0usize..700, cut in 0usize..12, with in "[-0-9e.\\[\\]{}:,\"a-z \\n]{0,8}") {
            let text: Vec<char> = [COCO, LABELME, SAM, YOLO][which].chars().collect();
            let at = at % text.len();
            let end = (at + cut).min(text.len());
            let damaged: String = text[..at].iter().copied().chain(with.chars()).chain(text[end..].iter().copied()).collect();
            let _ = (coco::read(&damaged), labelme::read(&damaged), sam::read(&damaged), file::read(&damaged));
            let _ = yolo::read(&damaged, "a", (48, 32));
        }
    }
}
