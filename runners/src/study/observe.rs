//! What do the golden clips give, frame by frame? For a comparison of a pack with itself, run otherwise.

use crate::pack::Pack;
use crate::runner::{Runner, RunnerError};
use crate::sam::contract::{MASK_DECODER, MASK_PROMPT};
use crate::sam::tracker::Tracker;
use crate::study::golden::one_by_one;
use crate::study::reference::{ReferenceTrack, read_index};
use crate::types::{Mask, OpenRequest, PromptKind};

/// What one object gave on one frame of a golden clip.
pub struct Observation<'a> {
    /// Clip name.
    pub clip: &'a str,
    /// Object in the clip.
    pub object: u32,
    /// Kind of its prompt.
    pub prompt: PromptKind,
    /// Frame index.
    pub frame: usize,
    /// Graph, tensor, values: what the inner graphs gave (on the CPU), then logits, score and pointer.
    pub tensors: Vec<(&'static str, &'static str, Vec<f32>)>,
    /// Mask at source size.
    pub mask: &'a Mask,
}

/// Runs the first `most` frames of the pack's golden clips, every kind of prompt, and shows what came out, in a fixed order. Nothing is compared.
/// Gives the version of ONNX Runtime.
///
/// # Errors
/// As [`crate::golden::verify`]; an error of `see` ends it.
pub fn observe(
    request: &OpenRequest,
    most: usize,
    see: &mut dyn FnMut(Observation<'_>) -> Result<(), RunnerError>,
) -> Result<String, RunnerError> {
    let pack = Pack::read(&request.pack)?;
    let (index, dir) = read_index(&pack)?;
    let request = one_by_one(request, &pack)?;
    let mut tracker = Tracker::open(&request)?;
    for clip in &index.clips {
        let mut frames = clip.read_frames(&dir)?;
        frames.truncate(most);
        for kind in PromptKind::ALL {
            let tracks: Vec<&ReferenceTrack> = clip.tracks.iter().filter(|t| t.prompt.kind() == kind).collect();
            if tracks.is_empty() {
                continue;
            }
            let prompts = tracks.iter().map(|t| t.prompt(clip)).collect::<Result<Vec<_>, _>>()?;
            tracker.reset();
            for (t, rgb) in frames.iter().enumerate() {
                let prompts = if t == 0 { prompts.as_slice() } else { &[] };
                let mut failed = None;
                tracker.step_observed(clip.frame(rgb), prompts, &mut |raw| {
                    let mut tensors = (raw.inner)();
                    let logits_from = if kind == PromptKind::Mask && t == 0 { MASK_PROMPT } else { MASK_DECODER };
                    tensors.push((logits_from, "low_res_mask", raw.low_res.to_vec()));
                    tensors.push((MASK_DECODER, "object_score", vec![raw.object_score]));
                    tensors.push((MASK_DECODER, "obj_ptr", raw.obj_ptr.to_vec()));
                    let seen = Observation {
                        clip: &clip.name,
                        object: raw.object,
                        prompt: kind,
                        frame: t,
                        tensors,
                        mask: raw.mask,
                    };
                    if failed.is_none() {
                        failed = see(seen).err();
                    }
                })?;
                if let Some(error) = failed {
                    return Err(error);
                }
            }
        }
    }
    Ok(tracker.open_report().runtime_version.clone())
}
