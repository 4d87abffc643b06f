//! The graph that a D-FINE detector needs, in the layouts in which such graphs are found. Tensors are bound by name: the order of outputs
//! differs between exporters and engines.
//!
//! | layout | inputs | outputs |
//! |---|---|---|
//! | `raw` | `image`, `pixel_values` or `images` | `logits` or `pred_logits`, `pred_boxes` |
//! | `official` | the same, `orig_target_sizes` (width, height) | `labels`, `boxes`, `scores` |

use std::path::Path;

use crate::manifest::{DetectorLayout, DetectorSpec, GraphSpec, TensorSpec, TensorType};
use crate::onnx::Dimension;
use crate::pack::Pack;
use crate::requirements::{self, GraphRequirement, ShapeRequirement, TensorRequirement};
use crate::runner::{Entry, Runner, RunnerError};
use crate::sam::contract::{capabilities, read};
use crate::types::{Capabilities, Device, Dtype, OpenRequest};

/// Registry entry of D-FINE packs.
pub const DFINE: Entry = Entry {
    family: "dfine",
    aliases: &[("dfine", "dfine_mini")],
    summary: "D-FINE detector: boxes on single frames, from which a tracker's pack starts its tracks (sam2_dfine)",
    hidden: false,
    detects: true,
    describe,
    check,
    open,
    compose: None,
};

/// Name of its only graph.
pub const DETECTOR: &str = "detector";
/// Input with the width and height that boxes are scaled to.
pub const SIZE: &str = "orig_target_sizes";
/// Boxes of layout `raw`.
pub const PRED_BOXES: &str = "pred_boxes";
/// Outputs of layout `official`.
pub const OFFICIAL: [&str; 3] = ["labels", "boxes", "scores"];

const IMAGES: [&str; 3] = ["image", "pixel_values", "images"];
const LOGITS: [&str; 2] = ["logits", "pred_logits"];

/// What a detector pack was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Layout of its graph.
    pub layout: DetectorLayout,
    /// Name of the input that takes the image.
    pub image: &'static str,
    /// Is the shape of that input fixed?
    pub fixed: bool,
    /// Name of the output with the logits, of layout `raw`.
    pub logits: &'static str,
    /// Side of the square image, pixels.
    pub size: i64,
    /// Boxes per frame.
    pub queries: usize,
    /// Number of classes.
    pub classes: usize,
}

/// The first of `names` that a graph has; the first of all where it has none, for the error.
fn named<const N: usize>(names: [&'static str; N], tensors: &[TensorSpec]) -> &'static str {
    names.into_iter().find(|name| tensors.iter().any(|t| t.name == *name)).unwrap_or(names[0])
}

impl Signature {
    /// What a manifest says of its graph.
    pub(crate) fn of(graph: &GraphSpec, detector: &DetectorSpec, size: u32) -> Signature {
        let image = named(IMAGES, &graph.inputs);
        let shape = graph.inputs.iter().find(|t| t.name == image).map(|t| t.shape.as_slice());
        Signature {
            layout: detector.layout,
            image,
            fixed: shape.is_some_and(|axes| axes.iter().all(|axis| matches!(axis, Dimension::Size(_)))),
            logits: named(LOGITS, &graph.outputs),
            size: i64::from(size),
            queries: detector.queries as usize,
            classes: detector.classes.len(),
        }
    }

    /// The graph with all its tensors. Exporters may leave axes open.
    pub(crate) fn requirement(&self) -> GraphRequirement {
        let tensor = |name, dtypes, sizes: &[i64]| TensorRequirement {
            name,
            dtypes,
            shape: ShapeRequirement::Open(sizes.iter().map(|n| Some(*n)).collect()),
        };
        let (floats, integers): (&[TensorType], &[TensorType]) = (&[TensorType::F32], &[TensorType::I64]);
        let (queries, classes) = (self.queries as i64, self.classes as i64);
        let mut inputs = vec![tensor(self.image, floats, &[1, 3, self.size, self.size])];
        let outputs = match self.layout {
            DetectorLayout::Raw => {
                vec![tensor(self.logits, floats, &[1, queries, classes]), tensor(PRED_BOXES, floats, &[1, queries, 4])]
            }
            DetectorLayout::Official => {
                inputs.push(tensor(SIZE, integers, &[1, 2]));
                let [labels, boxes, scores] = OFFICIAL;
                vec![
                    tensor(labels, integers, &[1, queries]),
                    tensor(boxes, floats, &[1, queries, 4]),
                    tensor(scores, floats, &[1, queries]),
                ]
            }
        };
        GraphRequirement { name: DETECTOR, inputs, outputs }
    }
}

/// Compares a manifest with what the family needs.
///
/// # Errors
/// [`RunnerError::Pack`] naming the manifest, the tensor, what was expected and what was found.
pub fn signature(pack: &Pack) -> Result<Signature, RunnerError> {
    let manifest = &pack.manifest;
    let family = &manifest.family;
    let Some(detector) = &manifest.detector else {
        return Err(pack.wrong(format!("[detector] is missing; family `{family}` has one")));
    };
    if manifest.memory.is_some() || !manifest.states.is_empty() {
        return Err(pack.wrong(format!("[memory] and [[state]] have no place in family `{family}`")));
    }
    let graph = manifest
        .graph(DETECTOR)
        .ok_or_else(|| pack.wrong(format!("graph `{DETECTOR}` is missing; family `{family}` has one")))?;
    let found = Signature::of(graph, detector, manifest.input.size);
    requirements::check(pack, &[found.requirement()])?;
    Ok(found)
}

fn describe(dir: &Path, device: Device) -> Result<Capabilities, RunnerError> {
    Ok(capabilities(&read(dir, signature)?.0, false, device))
}

fn check(dir: &Path, precision: Dtype) -> Result<(), RunnerError> {
    read(dir, signature)?.0.check(precision)
}

fn open(request: &OpenRequest) -> Result<Box<dyn Runner>, RunnerError> {
    let id = read(&request.pack, signature)?.0.manifest.id;
    Err(RunnerError::Usage(format!(
        "{}: a detector tracks nothing by itself; it founds the tracks of a tracker: --models sam2_{id} or edgetam_{id}",
        request.pack.display()
    )))
}
