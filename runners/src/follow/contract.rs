//! The graphs that a DVIS-DAQ needs, and what its pack can do. docs/dvis_daq.md has the tensors.

use std::path::Path;

use super::Follower;
use crate::manifest::TensorType;
use crate::manifest::tracks::{Fit, TracksSpec};
use crate::onnx::Dimension;
use crate::pack::Pack;
use crate::prompted::{self, also_prompted};
use crate::requirements::{self, GraphRequirement, ShapeRequirement, TensorRequirement};
use crate::runner::{Entry, Runner, RunnerError};
use crate::sam::contract::{capabilities as of_pack, read};
use crate::segment::contract::SEGMENTER;
use crate::types::{Capabilities, Device, Dtype, OpenRequest};

/// Name of the family.
pub const FAMILY: &str = "dvis_daq";

/// Registry entry of DVIS-DAQ packs.
pub const DVIS_DAQ: Entry = Entry {
    family: FAMILY,
    aliases: &[],
    summary: "DVIS-DAQ video segmenter: finds, tracks and names objects that come and go, without prompts; its tag is the pack's name alone, or with a prompt kind where objects that are prompted take its tracks",
    hidden: false,
    detects: false,
    describe,
    check,
    open,
    compose: None,
};

/// Name of the graph that holds the tracks.
pub const STEP: &str = "tracker_step";
/// Input of the segmenter with the frame.
pub const IMAGE: &str = "image";
/// What the segmenter says of a frame, and the step reads.
pub const OF_FRAME: [&str; 4] = ["frame_embeds", "frame_positions", "frame_scores", "features"];
/// State, as input and as output.
pub const STATES: [(&str, &str); 6] = [
    ("queries", "queries_out"),
    ("positions", "positions_out"),
    ("ring", "ring_out"),
    ("count", "count_out"),
    ("missed", "missed_out"),
    ("tracks", "tracks_out"),
];
/// Input: 1 on the first frame of a sequence, else 0.
pub const FIRST: &str = "first";
/// Input with the limits of the manifest.
pub const RULES: &str = "rules";
/// Input with the segmenter's query of each slot, in packs with a slot branch.
pub const MATCH: &str = "match";
/// Output with the logits of the classes.
pub const LOGITS: &str = "logits";
/// Output with the logits of the masks.
pub const MASKS: &str = "masks";
/// Output with the row that each slot's track comes from: from the number of slots on, it is a new one.
pub const SOURCE: &str = "source";
/// Output: is the slot's track an object on this frame?
pub const SEEN: &str = "seen";
/// Output: tracks that there would be, were there slots for all.
pub const TOTAL: &str = "total";
/// Output with the cosines between slots and the segmenter's queries, in packs with a slot branch.
pub const SIMILARITY: &str = "similarity";
/// Positions of earlier frames that a track's position is weighed with.
pub const MEMORY: usize = 9;

/// Sizes that fix every tensor shape of a pack, and its rules.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes {
    /// Width and height of the input, pixels.
    pub input: [usize; 2],
    /// Width and height of features and mask logits.
    pub coarse: [usize; 2],
    /// The part of the input that a frame takes.
    pub fit: Fit,
    /// Queries of the segmenter.
    pub queries: usize,
    /// Channels of a query.
    pub channels: usize,
    /// Number of classes, without "no object".
    pub classes: usize,
    /// What the manifest says of tracks.
    pub rules: TracksSpec,
}

impl Sizes {
    /// Most tracks at a time.
    pub fn slots(&self) -> usize {
        self.rules.slots as usize
    }

    /// Rows of the slot branch.
    pub fn rows(&self) -> usize {
        (self.rules.slots + self.rules.background) as usize
    }

    /// Shapes of the state, in the order of [`STATES`].
    pub fn states(&self) -> [Vec<i64>; 6] {
        let [slots, channels] = [self.slots(), self.channels].map(|n| n as i64);
        let row = vec![slots, channels];
        [row.clone(), row, vec![slots, MEMORY as i64, channels], vec![slots], vec![slots], vec![1]]
    }

    /// Shapes of what the segmenter says of a frame, in the order of [`OF_FRAME`].
    pub fn of_frame(&self) -> [Vec<i64>; 4] {
        let [queries, channels, width, height] =
            [self.queries, self.channels, self.coarse[0], self.coarse[1]].map(|n| n as i64);
        [vec![queries, channels], vec![queries, channels], vec![queries], vec![channels, height, width]]
    }
}

/// The graphs with all their tensors.
pub(crate) fn requirements(s: &Sizes) -> [GraphRequirement; 2] {
    let of = |name, dtypes, sizes: &[i64]| {
        let axes = sizes.iter().map(|n| Dimension::Size(*n)).collect();
        TensorRequirement { name, dtypes, shape: ShapeRequirement::Exactly(axes) }
    };
    let tensor = |name, sizes: &[i64]| of(name, &[TensorType::F32], sizes);
    let number = |n: usize| n as i64;
    let frame = || OF_FRAME.iter().zip(s.of_frame()).map(|(name, shape)| tensor(*name, &shape)).collect::<Vec<_>>();
    let (slots, rows, branch) = (number(s.slots()), number(s.rows()), s.rules.slot_branch);
    let [across, down] = s.coarse.map(number);
    let mut inputs = frame();
    inputs.extend([tensor(FIRST, &[1]), tensor(RULES, &[4])]);
    inputs.extend(STATES.iter().zip(s.states()).map(|((name, _), shape)| tensor(*name, &shape)));
    inputs.extend(branch.then(|| of(MATCH, &[TensorType::I32], &[rows])));
    let mut outputs = vec![
        tensor(LOGITS, &[slots, number(s.classes) + 1]),
        tensor(MASKS, &[slots, down, across]),
        tensor(SOURCE, &[slots]),
        tensor(SEEN, &[slots]),
        tensor(TOTAL, &[1]),
    ];
    outputs.extend(STATES.iter().zip(s.states()).map(|((_, name), shape)| tensor(*name, &shape)));
    outputs.extend(branch.then(|| tensor(SIMILARITY, &[rows, number(s.queries)])));
    let image = [1, 3, number(s.input[1]), number(s.input[0])];
    [
        GraphRequirement { name: SEGMENTER, inputs: vec![tensor(IMAGE, &image)], outputs: frame() },
        GraphRequirement { name: STEP, inputs, outputs },
    ]
}

/// Compares a manifest with what the family needs.
///
/// # Errors
/// [`RunnerError::Pack`] naming the manifest, the tensor, what was expected and what was found.
pub fn sizes(pack: &Pack) -> Result<Sizes, RunnerError> {
    let manifest = &pack.manifest;
    let family = &manifest.family;
    let segmenter = manifest.segmenter.as_ref();
    let (Some(segmenter), Some(fit), Some(rules)) =
        (segmenter, manifest.input.fit, segmenter.and_then(|segmenter| segmenter.tracks))
    else {
        return Err(pack.wrong(format!("[segmenter] with [segmenter.tracks] is missing; family `{family}` has both")));
    };
    if manifest.memory.is_some() {
        return Err(pack.wrong(format!("[memory] has no place in family `{family}`")));
    }
    let states: Vec<(&str, &str)> = manifest.states.iter().map(|s| (s.input.as_str(), s.output.as_str())).collect();
    if states != STATES {
        return Err(pack.wrong(format!("state: {STATES:?} expected, found {states:?}")));
    }
    let graph = |name: &str| {
        let missing = || pack.wrong(format!("graph `{name}` is missing; family `{family}` has one"));
        manifest.graph(name).ok_or_else(missing)
    };
    let (seen, _) = (graph(SEGMENTER)?, graph(STEP)?);
    // One axis of each tells; that the others agree with it is then checked.
    let axis = |name: &str, axis: usize| {
        let tensor = seen.inputs.iter().chain(&seen.outputs).find(|t| t.name == name);
        match tensor.and_then(|t| t.shape.get(axis)) {
            Some(Dimension::Size(n)) => usize::try_from(*n).unwrap_or_default(),
            _ => 0,
        }
    };
    let input = [manifest.input.size as usize, axis(IMAGE, 2)];
    if input[1] < fit.height as usize {
        return Err(pack.wrong(format!("input.fit.height = {}: the input has {} rows", fit.height, input[1])));
    }
    let found = Sizes {
        input,
        coarse: [axis(OF_FRAME[3], 2), axis(OF_FRAME[3], 1)],
        fit,
        queries: segmenter.queries as usize,
        channels: axis(OF_FRAME[0], 1),
        classes: segmenter.classes.len(),
        rules,
    };
    requirements::check(pack, &requirements(&found))?;
    Ok(found)
}

/// What a runner can do with this pack on this device.
pub(super) fn capabilities(pack: &Pack, sizes: &Sizes, device: Device) -> Capabilities {
    also_prompted(Capabilities { max_objects: Some(sizes.rules.slots), ..of_pack(pack, false, device) })
}

fn describe(dir: &Path, device: Device) -> Result<Capabilities, RunnerError> {
    let (pack, sizes) = read(dir, sizes)?;
    Ok(capabilities(&pack, &sizes, device))
}

fn check(dir: &Path, precision: Dtype) -> Result<(), RunnerError> {
    read(dir, sizes)?.0.check(precision)
}

fn open(request: &OpenRequest) -> Result<Box<dyn Runner>, RunnerError> {
    prompted::open(request, |request| Follower::open(request, None))
}
