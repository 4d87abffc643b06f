//! Which graphs and tensors does a family of models need, and does a pack have them? A pack that describes itself correctly
//! but is another family's is refused by name instead of failing in the middle of a video.

use std::fmt;

use crate::manifest::{TensorSpec, TensorType};
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
    let family = &pack.manifest.family;
    for required in graphs {
        let name = required.name;
        let graph = pack
            .manifest
            .graph(name)
            .ok_or_else(|| pack.wrong(format!("graph `{name}` is missing; family `{family}` has one")))?;
        let check = |kind, required, found| {
            check_tensors(kind, required, found).map_err(|text| pack.wrong(format!("graph `{name}`: {kind} {text}")))
        };
        check("input", &required.inputs, &graph.inputs)?;
        check("output", &required.outputs, &graph.outputs)?;
    }
    match pack.manifest.graphs.iter().find(|graph| !graphs.iter().any(|required| required.name == graph.name)) {
        Some(extra) => Err(pack.wrong(format!("graph `{}` has no place in family `{family}`", extra.name))),
        None => Ok(()),
    }
}

fn check_tensors(kind: &str, required: &[TensorRequirement], found: &[TensorSpec]) -> Result<(), String> {
    for tensor in required {
        let name = tensor.name;
        match found.iter().find(|t| t.name == name) {
            None => return Err(format!("`{name}` is missing")),
            Some(t) if !(tensor.dtypes.contains(&t.dtype) && tensor.shape.admits(&t.shape, kind == "output")) => {
                let found = shape_text(&t.shape);
                return Err(format!("`{name}`: {tensor} expected, found {:?} {found}", t.dtype));
            }
            Some(_) => {}
        }
    }
    match found.iter().find(|t| !required.iter().any(|tensor| tensor.name == t.name)) {
        Some(extra) => Err(format!("`{}` has no place in this family", extra.name)),
        None => Ok(()),
    }
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
