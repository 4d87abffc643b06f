//! What do copies between host and device cost a video? Every kind of copy once, with its severity and a remedy.

use std::collections::BTreeMap;

use jetbench_runners::audit::Audit;
use jetbench_runners::contract;
use jetbench_runners::types::{Device, Dtype};
use serde::Serialize;

/// How much a copy costs a video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TransferSeverity {
    /// Inside the frame loop.
    Critical,
    /// Once per sequence, prompt or track.
    Medium,
    /// At load, or more of a result than is needed.
    Minor,
    /// The image in, the mask and its report out, a detector's boxes and scores: what the job itself is.
    #[value(skip)]
    Expected,
}

/// One kind of copy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Transfer {
    /// Model tag.
    pub model: String,
    /// Precision asked for.
    pub dtype: Dtype,
    /// How much it matters.
    pub severity: TransferSeverity,
    /// `ours`: bound or read back by this program; `runtime`: a Memcpy node that ONNX Runtime put into the graph.
    pub category: &'static str,
    /// Graph.
    pub component: String,
    /// Tensor, where it has a name.
    pub tensor: String,
    /// `to device` or `to host`.
    pub direction: &'static str,
    /// Bytes per frame (per prompt or track for medium ones).
    pub bytes: u64,
    /// How often per frame.
    pub count_per_frame: f64,
    /// What to do; empty where nothing should be done.
    pub remedy: String,
    /// Where in the pipeline of a frame.
    pub place: &'static str,
}

/// Where in a frame's pipeline a tensor is copied. Association runs on the host: boxes come down to it, and those that found a track go up
/// again as prompts.
fn place(graph: &str, tensor: &str, to_host: bool) -> &'static str {
    match (graph, to_host) {
        (contract::IMAGE_ENCODER, false) => "frame to image encoder",
        (contract::DETECTOR, false) => "frame to detector",
        (contract::DETECTOR, true) => "detector to association",
        (contract::SEGMENTER, false) => "frame to segmenter",
        (contract::SEGMENTER, true) => "segmenter to scores and masks at source size",
        (contract::TRACKER_STEP, false) => "matched queries to tracker",
        (contract::TRACKER_STEP, true) => "tracker to identities, scores and masks at source size",
        (contract::MASK_DECODER | contract::MASK_PROMPT, false) => "prompt to mask decoder",
        (contract::MASK_DECODER, true) if tensor == "low_res_mask" => "mask decoder to masks at source size",
        (contract::MASK_DECODER, true) => "mask decoder to checks",
        (contract::MEMORY_ENCODER, false) => "checks to memory encoder",
        (contract::KEEP, false) => "association to memories, where tracks end",
        _ => "inside a graph, or between two",
    }
}

/// The tensors that come out of every frame: the mask, and the report of what the loop checks.
const RESULTS: [&str; 2] = ["low_res_mask", "report"];

/// The direction of what comes down.
pub const TO_HOST: &str = "to host";

/// Is this a graph of a video segmenter that gives masks?
fn segments(graph: &str) -> bool {
    [contract::SEGMENTER, contract::TRACKER_STEP].contains(&graph)
}

/// Copies as items, each kind once, with its severity.
pub fn judge(model: &str, dtype: Dtype, device: Device, audit: &Audit) -> Vec<Transfer> {
    let mut kinds: BTreeMap<(bool, &str, &str, bool), (u64, u64)> = BTreeMap::new();
    for copy in &audit.copies {
        // On a prompted frame the results come out as on any other.
        let prompted = copy.prompted && !RESULTS.contains(&copy.tensor);
        let kind = kinds.entry((prompted, copy.graph, copy.tensor, copy.to_host)).or_default();
        kind.0 += 1;
        kind.1 += copy.bytes;
    }
    let frames = audit.frames.max(1) as f64;
    // Of a detector's raw outputs, boxes and one score per query are needed, as far as anything crosses at all; where the best rows
    // are picked on the device, the raw outputs come down beside them, on some frames.
    let boxes = kinds.get(&(false, contract::DETECTOR, contract::PRED_BOXES, true)).filter(|_| device != Device::Cpu);
    let picks = kinds.contains_key(&(false, contract::DETECTOR, contract::KEPT, true));
    let enough = boxes.map_or(u64::MAX, |(_, bytes)| *bytes);
    let direction = |to_host| if to_host { TO_HOST } else { "to device" };
    let mut items = Vec::new();
    for ((prompted, graph, tensor, to_host), (count, bytes)) in kinds {
        let needed = (graph, tensor, to_host) == (contract::IMAGE_ENCODER, "image", false)
            || [contract::DETECTOR, contract::SEGMENTER, contract::TRACKER_STEP].contains(&graph)
            || (RESULTS.contains(&tensor) && to_host);
        let severity = match (needed, prompted) {
            (true, _) if tensor == contract::KEPT => TransferSeverity::Expected,
            (true, _) if graph == contract::DETECTOR && to_host && bytes > enough => TransferSeverity::Minor,
            (true, _) if segments(graph) && tensor == "masks" && device != Device::Cpu => TransferSeverity::Minor,
            (true, _) => TransferSeverity::Expected,
            (false, true) => TransferSeverity::Medium,
            (false, false) => TransferSeverity::Critical,
        };
        let remedy = match severity {
            TransferSeverity::Expected => String::new(),
            TransferSeverity::Medium => "happens once per prompt or track; nothing to gain".to_string(),
            TransferSeverity::Minor if segments(graph) => {
                "holds the masks of all queries or slots, also of those without an object; nothing to be done yet"
                    .to_string()
            }
            TransferSeverity::Minor if picks => {
                "holds every class of every query, on frames where more rows counted than are picked, or a number was not finite; \
                 a larger max_tracks picks more"
                    .to_string()
            }
            TransferSeverity::Minor => {
                "holds every class of every query; with results=device only rows that may count come down, an export in layout \
                 `official` gives one class and score per query"
                    .to_string()
            }
            _ => format!("keep {tensor} on {device} between the graphs, and read it back only for checks"),
        };
        let per = if prompted { count as f64 } else { frames };
        items.push(Transfer {
            model: model.to_string(),
            dtype,
            severity,
            category: "ours",
            component: graph.to_string(),
            tensor: tensor.to_string(),
            direction: direction(to_host),
            bytes: (bytes as f64 / per).round() as u64,
            count_per_frame: count as f64 / frames,
            remedy,
            place: place(graph, tensor, to_host),
        });
    }
    for copy in &audit.memcpy {
        items.push(Transfer {
            model: model.to_string(),
            dtype,
            severity: TransferSeverity::Critical,
            category: "runtime",
            component: copy.graph.clone(),
            tensor: String::new(),
            direction: direction(copy.to_host),
            bytes: (copy.bytes as f64 / frames).round() as u64,
            count_per_frame: copy.count as f64 / frames,
            remedy:
                "an operator of this graph runs on another provider: export the graph without it, or use a runtime \
                     whose provider has it"
                    .to_string(),
            place: place("", "", copy.to_host),
        });
    }
    items
}
