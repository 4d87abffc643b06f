//! Which objects run through the graphs together? Where the graphs have an object axis, all tracked objects are one group
//! and run as one batch (unless the option `objects` says otherwise); in other packs every object is a group of its own.

use crate::host::settings::SessionSettings;
use crate::sam::contract::TensorSizes;
use crate::sam::state::Memories;
use crate::types::{Prompt, PromptKind};

/// Objects that run through the graphs together.
pub struct Group {
    /// Caller's numbers of the objects, in the order of the tensors' first axis.
    pub objects: Vec<u32>,
    /// Their memories.
    pub memories: Memories,
}

/// How objects run, for the record.
pub fn grouping_note(sizes: &TensorSizes, settings: &SessionSettings, one_age: bool) -> String {
    let together = if one_age { ", those that start on one frame" } else { "" };
    match (sizes.batched, settings.together()) {
        (false, _) => "objects: one after the other (the pack's graphs take one object at a time)".to_string(),
        (true, 1) if one_age && settings.memory_threshold().is_some() => format!(
            "objects: one after the other (with memory={} their ages differ, and the CPU form of the graphs takes one age)",
            settings.memory().as_str()
        ),
        (true, 1) => "objects: one after the other (requested; the pack's graphs take any number)".to_string(),
        (true, usize::MAX) if one_age => "objects: those that start on one frame in one batch".to_string(),
        (true, usize::MAX) => "objects: all in one batch".to_string(),
        (true, n) => format!("objects: in batches of at most {n}{together}"),
    }
}

/// Does the object start from a mask?
pub fn is_mask(prompt: &Prompt) -> bool {
    prompt.shape.kind() == PromptKind::Mask
}

/// Prompts that can run together, in their order: neighbours that are all masks or all points and boxes, at most `most`.
pub fn batches(prompts: &[Prompt], most: usize) -> impl Iterator<Item = &[Prompt]> {
    prompts.chunk_by(|a, b| is_mask(a) == is_mask(b)).flat_map(move |alike| alike.chunks(most.max(1)))
}
