//! Which graphs and tensors does a family of models need, and does a pack have them? A pack that describes itself correctly
//! but is another family's is refused by name instead of failing in the middle of a video.

use std::fmt;

use crate::manifest::{Manifest, TensorSpec, TensorType};
use crate::onnx::{Dimension, shape_text};
use crate::pack::Pack;
use crate::runner::RunnerError;
use crate::types::PromptKind;

/// A graph that a family needs, with all its tensors.
pub struct GraphRequirement {
    /// Name of the graph.
    pub name: &'static str,
    /// Its inputs, in any order.
    pub inputs: Vec<TensorRequirement>,
    /// Its outputs, in any order.
    pub outputs: Vec<TensorRequirement>,
}

/// A tensor of such a graph.
pub struct TensorRequirement {
    /// Name of the tensor.
    pub name: &'static str,
    /// Element types, any of which will do.
    pub dtypes: &'static [TensorType],
    /// What its shape must be.
    pub shape: ShapeRequirement,
}

/// What the shape of a tensor must be.
pub enum ShapeRequirement {
    /// Whatever the pack says.
    Any,
    /// These sizes and names.
    Exactly(Vec<Dimension>),
    /// These sizes, which the pack may leave open; `None` is an axis that is decided at run time or, of an output, any size.
    Open(Vec<Option<i64>>),
}

impl ShapeRequirement {
    fn admits(&self, shape: &[Dimension], is_output: bool) -> bool {
        match self {
            ShapeRequirement::Any => true,
            ShapeRequirement::Exactly(axes) => axes == shape,
            ShapeRequirement::Open(sizes) => {
                sizes.len() == shape.len()
                    && shape.iter().zip(sizes).all(|(found, size)| match (found, size) {
                        (Dimension::Size(n), Some(size)) => n == size,
                        (Dimension::Dynamic(_), _) => true,
                        (Dimension::Size(_), None) => is_output,
                    })
            }
        }
    }
}

impl fmt::Display for TensorRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dtypes {
            [dtype] => write!(f, "{dtype:?}")?,
            dtypes => write!(f, "{dtypes:?}")?,
        }
        match &self.shape {
            ShapeRequirement::Any => Ok(()),
            ShapeRequirement::Exactly(axes) => write!(f, " {}", shape_text(axes)),
            ShapeRequirement::Open(sizes) => {
                let sizes: Vec<String> = sizes.iter().map(|n| n.map_or("any".to_string(), |n| n.to_string())).collect();
                write!(f, " [{}]", sizes.join(", "))
            }
        }
    }
}

/// Compares a pack's manifest with what its family needs: every graph and tensor, and no other.
///
/// # Errors
/// [`RunnerError::Pack`] naming the manifest, the graph, the tensor, what was expected and what was found.
pub fn check(pack: &Pack, graphs: &[GraphRequirement]) -> Result<(), RunnerError> {
    faults(&pack.manifest, graphs).into_iter().next().map_or(Ok(()), |text| Err(pack.wrong(text)))
}

/// Everything that a manifest lacks of what its family needs, or has beyond it.
pub(crate) fn faults(manifest: &Manifest, graphs: &[GraphRequirement]) -> Vec<String> {
    let family = &manifest.family;
    let mut faults = Vec::new();
    for required in graphs {
        let name = required.name;
        match manifest.graph(name) {
            None => faults.push(format!("graph `{name}` is missing; family `{family}` has one")),
            Some(graph) => {
                for (kind, required, found) in
                    [("input", &required.inputs, &graph.inputs), ("output", &required.outputs, &graph.outputs)]
                {
                    faults.extend(
                        tensor_faults(kind, required, found).map(|text| format!("graph `{name}`: {kind} {text}")),
                    );
                }
            }
        }
    }
    let extra = manifest.graphs.iter().filter(|graph| !graphs.iter().any(|required| required.name == graph.name));
    faults.extend(extra.map(|graph| format!("graph `{}` has no place in family `{family}`", graph.name)));
    faults
}

fn tensor_faults(kind: &str, required: &[TensorRequirement], found: &[TensorSpec]) -> impl Iterator<Item = String> {
    let lacking = required.iter().filter_map(|tensor| {
        let name = tensor.name;
        match found.iter().find(|t| t.name == name) {
            None => Some(format!("`{name}` is missing")),
            Some(t) if !(tensor.dtypes.contains(&t.dtype) && tensor.shape.admits(&t.shape, kind == "output")) => {
                Some(format!("`{name}`: {tensor} expected, found {:?} {}", t.dtype, shape_text(&t.shape)))
            }
            Some(_) => None,
        }
    });
    let extra = found.iter().filter(|t| !required.iter().any(|tensor| tensor.name == t.name));
    let faults: Vec<String> =
        lacking.chain(extra.map(|t| format!("`{}` has no place in this family", t.name))).collect();
    faults.into_iter()
}

/// For families whose decoders take no masks.
///
/// # Errors
/// [`RunnerError::Pack`] when the manifest names mask prompts.
pub fn no_mask_prompts(pack: &Pack) -> Result<(), RunnerError> {
    if pack.manifest.prompts.kinds.contains(&PromptKind::Mask) {
        return Err(pack.wrong("prompts.kinds names mask: the decoder of this family takes no masks".to_string()));
    }
    Ok(())
}
