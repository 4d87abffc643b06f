//! The graph that a VidEoMT needs, and what its pack can do.
//!
//! | tensor | shape | meaning |
//! |---|---|---|
//! | input `image` | `[1, 3, S, S]` | the normalised frame |
//! | input `queries` | `[1, Q, D]` | what the last frame says of this one; zeros on the first |
//! | output `logits` | `[1, Q, C + 1]` | of the classes, and of "no object", which is last |
//! | output `masks` | `[1, Q, s, s]` | mask logits |
//! | output `queries_out` | `[1, Q, D]` | `queries` of the next frame |

use std::path::Path;

use super::Segmenter;
use crate::manifest::{GraphSpec, SegmenterSpec, TensorType};
use crate::onnx::Dimension;
use crate::pack::Pack;
use crate::prompted::{self, also_prompted};
use crate::requirements::{self, GraphRequirement, ShapeRequirement, TensorRequirement};
use crate::runner::{Entry, Runner, RunnerError};
use crate::sam::contract::{capabilities as of_pack, read};
use crate::types::{Capabilities, Device, Dtype, OpenRequest};

/// Registry entry of VidEoMT packs.
pub const VIDEOMT: Entry = Entry {
    family: "videomt",
    aliases: &[],
    summary: "VidEoMT video segmenter: finds, tracks and names objects by itself, without prompts; its tag is the pack's name alone, or with a prompt kind where objects that are prompted take its tracks",
    hidden: false,
    detects: false,
    describe,
    check,
    open,
    compose: None,
};

/// Name of its only graph.
pub const SEGMENTER: &str = "segmenter";
/// Input with the frame.
pub const IMAGE: &str = "image";
/// State, as input and as output.
pub const QUERIES: (&str, &str) = ("queries", "queries_out");
/// Output with the logits of the classes.
pub const LOGITS: &str = "logits";
/// Output with the logits of the masks.
pub const MASKS: &str = "masks";

/// Sizes that fix every tensor shape of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Side of the square image, pixels.
    pub image: i64,
    /// Queries.
    pub queries: usize,
    /// Channels of a query.
    pub channels: usize,
    /// Number of classes, without "no object".
    pub classes: usize,
    /// Side of the square mask logits.
    pub side: usize,
}

/// The graph with all its tensors.
pub(crate) fn requirement(s: &Sizes) -> GraphRequirement {
    let tensor = |name, sizes: &[usize]| {
        let axes = sizes.iter().map(|n| Dimension::Size(*n as i64)).collect();
        TensorRequirement { name, dtypes: &[TensorType::F32], shape: ShapeRequirement::Exactly(axes) }
    };
    let image = s.image as usize;
    GraphRequirement {
        name: SEGMENTER,
        inputs: vec![tensor(IMAGE, &[1, 3, image, image]), tensor(QUERIES.0, &[1, s.queries, s.channels])],
        outputs: vec![
            tensor(LOGITS, &[1, s.queries, s.classes + 1]),
            tensor(MASKS, &[1, s.queries, s.side, s.side]),
            tensor(QUERIES.1, &[1, s.queries, s.channels]),
        ],
    }
}

/// Compares a manifest with what the family needs.
///
/// # Errors
/// [`RunnerError::Pack`] naming the manifest, the tensor, what was expected and what was found.
pub fn sizes(pack: &Pack) -> Result<Sizes, RunnerError> {
    let manifest = &pack.manifest;
    let family = &manifest.family;
    let Some(segmenter) = &manifest.segmenter else {
        return Err(pack.wrong(format!("[segmenter] is missing; family `{family}` has one")));
    };
    if segmenter.tracks.is_some() {
        return Err(pack.wrong(format!("[segmenter.tracks] has no place in family `{family}`")));
    }
    if manifest.memory.is_some() {
        return Err(pack.wrong(format!("[memory] has no place in family `{family}`")));
    }
    let states: Vec<(&str, &str)> = manifest.states.iter().map(|s| (s.input.as_str(), s.output.as_str())).collect();
    if states != [QUERIES] {
        return Err(pack.wrong(format!("state: queries -> queries_out expected, found {states:?}")));
    }
    let graph = manifest
        .graph(SEGMENTER)
        .ok_or_else(|| pack.wrong(format!("graph `{SEGMENTER}` is missing; family `{family}` has one")))?;
    let found = sizes_of(graph, segmenter, manifest.input.size);
    requirements::check(pack, &[requirement(&found)])?;
    Ok(found)
}

/// One axis of each tensor tells; whether the others agree with it is for [`requirement`] to say.
pub(crate) fn sizes_of(graph: &GraphSpec, segmenter: &SegmenterSpec, image: u32) -> Sizes {
    let last = |name: &str| {
        let tensor = graph.inputs.iter().chain(&graph.outputs).find(|t| t.name == name);
        match tensor.and_then(|t| t.shape.last()) {
            Some(Dimension::Size(n)) => usize::try_from(*n).unwrap_or_default(),
            _ => 0,
        }
    };
    Sizes {
        image: i64::from(image),
        queries: segmenter.queries as usize,
        channels: last(QUERIES.0),
        classes: segmenter.classes.len(),
        side: last(MASKS),
    }
}

/// What a runner can do with this pack on this device.
pub(super) fn capabilities(pack: &Pack, sizes: &Sizes, device: Device) -> Capabilities {
    let most = u32::try_from(sizes.queries).unwrap_or(u32::MAX);
    also_prompted(Capabilities { max_objects: Some(most), ..of_pack(pack, false, device) })
}

fn describe(dir: &Path, device: Device) -> Result<Capabilities, RunnerError> {
    let (pack, sizes) = read(dir, sizes)?;
    Ok(capabilities(&pack, &sizes, device))
}

fn check(dir: &Path, precision: Dtype) -> Result<(), RunnerError> {
    read(dir, sizes)?.0.check(precision)
}

fn open(request: &OpenRequest) -> Result<Box<dyn Runner>, RunnerError> {
    prompted::open(request, |request| Segmenter::open(request, None))
}
