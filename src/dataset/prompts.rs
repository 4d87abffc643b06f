//! Which objects does the user mean? Prompts by video, object and frame, from the command line or a file, brought into one form and
//! checked as far as that is possible without the footage.

mod file;
mod words;

use std::collections::BTreeMap;
use std::path::Path;

use jetbench_runners::types::{Click, Mask, PromptShape};
use serde::{Deserialize, Serialize};

use super::DataError;
use file::{PromptEntry, PromptFile};

/// Longest name of an object: it becomes the name of a folder.
const LONGEST_NAME: usize = 100;
/// Most prompts of a run; each is compared with those before it.
const MOST: usize = 10_000;

/// One prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct UserPrompt {
    /// Name of the video; `None`: the only one there is.
    pub video: Option<String>,
    /// Name of the object.
    pub object: String,
    /// Index of the frame, from 0.
    pub frame: usize,
    /// Where it is, in source pixels.
    pub shape: PromptShape,
}

/// All prompts of a run: at most one per video, object and frame. In records and files it has the form of a prompt file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PromptFile", into = "PromptFile")]
pub struct UserPrompts(Vec<UserPrompt>);

impl UserPrompts {
    /// What `--clicks` and `--box` say, then what a prompt file says.
    ///
    /// # Errors
    /// Names the flag or file, and what cannot be read; two prompts for one object on one frame.
    pub fn read(clicks: &[String], boxes: &[String], file: Option<&Path>) -> Result<UserPrompts, DataError> {
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
            for prompt in file::read(path)? {
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
            |p: &&mut UserPrompt| (&p.video, &p.object, p.frame) == (&prompt.video, &prompt.object, prompt.frame);
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
                let key = |p: &UserPrompt| (number(&p.object), p.object.clone(), p.frame);
                key(a).cmp(&key(b))
            });
        }
        Ok(found)
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
