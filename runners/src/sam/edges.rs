//! What changes at the edges of a pack's graphs when they are loaded? By the settings: frames go in as bytes, results come out as
//! one small tensor, the memory is gated.

use super::contract::{IMAGE_ENCODER, MASK_DECODER, MASK_PROMPT, MEMORY_ENCODER, STATES};
use crate::frame::Preprocess;
use crate::host::settings::{MemoryPolicy, SessionSettings};
use crate::onnx::{Edge, Gate};

/// The changes that settings ask for, by graph.
pub struct Edges(Vec<(&'static str, Edge)>);

impl Edges {
    /// Those of a tracker.
    pub fn new(settings: &SessionSettings, preprocess: &Preprocess) -> Edges {
        let mut edges = Vec::new();
        if settings.image_as_bytes() {
            edges.push((IMAGE_ENCODER, Edge::Pixels("image", preprocess.levels())));
        }
        if settings.results_on_device() {
            edges.push((MASK_PROMPT, Edge::Report(&["object_score"], None)));
            edges.push((MASK_DECODER, Edge::Report(&["object_score", "predicted_iou"], Some("obj_ptr"))));
        }
        if let Some(threshold) = settings.memory_threshold() {
            let (score, iou, is_prompt) = ("object_score", "predicted_iou", "is_prompt");
            let last = settings.memory() == MemoryPolicy::GatedLast;
            edges.push((MEMORY_ENCODER, Edge::Gate(Gate { states: &STATES, score, iou, is_prompt, threshold, last })));
        }
        Edges(edges)
    }

    /// That of a graph.
    pub fn of(&self, graph: &str) -> Option<&Edge> {
        self.0.iter().find(|(name, _)| *name == graph).map(|(_, edge)| edge)
    }
}
