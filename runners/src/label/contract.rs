//! The graph that a label pack needs. The text tower has done its work when the pack was made: see [`super::vectors`].

use std::path::Path;

use crate::manifest::{LabelsSpec, TensorType};
use crate::onnx::Dimension;
use crate::pack::Pack;
use crate::requirements::{self, GraphRequirement, ShapeRequirement, TensorRequirement};
use crate::runner::{Entry, Runner, RunnerError};
use crate::sam::contract::{capabilities, read};
use crate::types::{Capabilities, Device, Dtype, OpenRequest};

use super::vectors::Vectors;

/// Name of the family.
pub const FAMILY: &str = "clip_labels";

/// Registry entry of label packs.
pub const CLIP_LABELS: Entry = Entry {
    family: FAMILY,
    aliases: &[("labels", "labels_mini")],
    summary: "CLIP-style labels: names for the tracks of a run (--labels labels_mini)",
    hidden: false,
    detects: false,
    describe,
    check,
    open,
    compose: None,
};

/// Name of its only graph.
pub const VISION: &str = "vision";
/// Its input, the crop.
pub const PIXELS: &str = "pixel_values";

const OUTPUTS: [&str; 2] = ["image_embeds", "pooler_output"];

/// What a label pack was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Name of the output with the embedding: CLIP's or SigLIP's.
    pub output: &'static str,
    /// Side of the square crop, pixels.
    pub size: i64,
    /// Values of an embedding.
    pub width: i64,
    /// Is the shape of the input fixed?
    pub fixed: bool,
}

/// Compares a manifest with what the family needs.
///
/// # Errors
/// [`RunnerError::Pack`] naming the manifest, the tensor, what was expected and what was found.
pub fn signature(pack: &Pack) -> Result<Signature, RunnerError> {
    let manifest = &pack.manifest;
    spec(pack)?;
    if manifest.memory.is_some() || !manifest.states.is_empty() {
        return Err(pack.wrong(format!("[memory] and [[state]] have no place in family `{FAMILY}`")));
    }
    let graph = manifest
        .graph(VISION)
        .ok_or_else(|| pack.wrong(format!("graph `{VISION}` is missing; family `{FAMILY}` has one")))?;
    let found = graph.outputs.iter().find_map(|t| Some((OUTPUTS.into_iter().find(|name| t.name == *name)?, &t.shape)));
    let (output, width) = match found {
        Some((name, shape)) => match shape.last() {
            Some(Dimension::Size(width)) if shape.len() == 2 => (name, *width),
            _ => return Err(pack.wrong(format!("graph `{VISION}`: output `{name}`: shape [1, values] expected"))),
        },
        None => {
            return Err(pack.wrong(format!("graph `{VISION}`: output {} expected", OUTPUTS.join(" or "))));
        }
    };
    let shape = graph.inputs.iter().find(|t| t.name == PIXELS).map(|t| t.shape.as_slice());
    let fixed = shape.is_some_and(|axes| axes.iter().all(|axis| matches!(axis, Dimension::Size(_))));
    let size = i64::from(manifest.input.size);
    requirements::check(pack, &[requirement(output, size, width)])?;
    Ok(Signature { output, size, width, fixed })
}

/// Its [labels].
///
/// # Errors
/// [`RunnerError::Pack`] when there is none.
pub fn spec(pack: &Pack) -> Result<&LabelsSpec, RunnerError> {
    let missing = || pack.wrong(format!("[labels] is missing; family `{FAMILY}` has it"));
    pack.manifest.labels.as_ref().ok_or_else(missing)
}

fn requirement(output: &'static str, size: i64, width: i64) -> GraphRequirement {
    let tensor = |name, sizes: &[i64]| TensorRequirement {
        name,
        dtypes: &[TensorType::F32],
        shape: ShapeRequirement::Open(sizes.iter().map(|n| Some(*n)).collect()),
    };
    GraphRequirement {
        name: VISION,
        inputs: vec![tensor(PIXELS, &[1, 3, size, size])],
        outputs: vec![tensor(output, &[1, width])],
    }
}

fn describe(dir: &Path, device: Device) -> Result<Capabilities, RunnerError> {
    Ok(capabilities(&read(dir, signature)?.0, false, device))
}

fn check(dir: &Path, precision: Dtype) -> Result<(), RunnerError> {
    let (pack, signature) = read(dir, signature)?;
    pack.check(precision)?;
    Vectors::read(&pack, signature.width).map(drop)
}

fn open(request: &OpenRequest) -> Result<Box<dyn Runner>, RunnerError> {
    let id = read(&request.pack, signature)?.0.manifest.id;
    Err(RunnerError::Usage(format!(
        "{}: a label pack tracks nothing; it names the tracks of another model: --models NAME --labels {id}",
        request.pack.display()
    )))
}
