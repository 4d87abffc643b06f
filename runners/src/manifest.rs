//! What does a model pack say about itself? `pack.toml`, and whether it makes sense by itself.

pub mod draft;
mod graphs;
pub mod panoptic;
#[cfg(test)]
mod reference;
pub mod tracks;

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::types::{Dtype, PromptKind};

pub use graphs::{Form, GraphSpec, StateSpec, TensorSpec, TensorType, WeightFile};

/// Schema number of `pack.toml` that this program reads.
pub const SCHEMA: u32 = 1;

/// File name of the manifest in a pack directory.
pub const FILE_NAME: &str = "pack.toml";

/// Name of the axis that counts objects.
pub const OBJECTS: &str = "objects";
/// Name of the first axis of the decoder's `cond_embed`: 1 or the number of objects.
pub const COND_OBJECTS: &str = "cond_objects";

/// Contents of `pack.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Name used on the command line: `<id>_<prompt>`, `<tracker>_<detector>`.
    pub id: String,
    /// Family in the registry: `sam2`, `edgetam`, `efficienttam`, `sam3_tracker`, `dfine`, `videomt`, `dvis_daq`, `clip_labels`.
    pub family: String,
    /// One or two sentences for listings.
    pub description: String,
    /// SPDX expression.
    pub licence: String,
    /// The model that this pack only stands in for (`SAM 2`), where it is a test model: figures of the pack do not describe it.
    #[serde(default)]
    pub test_model_of: Option<String>,
    /// Where the graphs come from.
    pub provenance: Provenance,
    /// The image the encoder wants.
    pub input: InputSpec,
    /// The memory bank; left out by families without memory.
    pub memory: Option<MemorySpec>,
    /// The prompts it takes; left out by detectors, video segmenters and label packs.
    #[serde(default)]
    pub prompts: PromptSpec,
    /// What a detector finds; left out by trackers.
    pub detector: Option<DetectorSpec>,
    /// The names that it gives; of label packs only.
    pub labels: Option<LabelsSpec>,
    /// What a video segmenter finds and tracks; left out by all others.
    pub segmenter: Option<SegmenterSpec>,
    /// The graphs.
    #[serde(rename = "graph")]
    pub graphs: Vec<GraphSpec>,
    /// Tensors that a graph takes in and gives back changed.
    #[serde(rename = "state", default)]
    pub states: Vec<StateSpec>,
    /// Reference outputs for `jetbench verify`.
    pub golden: Option<GoldenSpec>,
}

/// Where the graphs come from.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// SHA-256 of the weights the graphs were exported from.
    pub checkpoint_sha256: String,
    /// Exporter and its version.
    pub exporter: String,
    /// The command that wrote the pack.
    pub command: String,
    /// Versions of the libraries that took part.
    #[serde(default)]
    pub libraries: BTreeMap<String, String>,
    /// Whose masks the graphs give where implementations differ.
    #[serde(default)]
    pub follows: Option<Follows>,
    /// Anything else a reader should know.
    #[serde(default)]
    pub notes: String,
}

/// Implementations of the video models. They differ in the memory and the pointer of a mask prompt and in how EdgeTAM's
/// memories are stored (docs/exporting.md); the graphs hold the difference, the tracking loop is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Follows {
    /// The video session of the transformers library.
    Transformers,
    /// The predictors of the official packages.
    Official,
}

impl Follows {
    /// For readers of a listing.
    pub fn describe(self) -> &'static str {
        match self {
            Follows::Transformers => "transformers' video session",
            Follows::Official => "the official predictor",
        }
    }
}

/// The image the encoder wants.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// Side of the square input in pixels; with `fit`, the width of the input.
    pub size: u32,
    /// Where the input is no square: the part of it, from its upper left corner on, that a frame takes.
    pub fit: Option<tracks::Fit>,
    /// How a frame becomes that square, or that part.
    pub resize: ResizeFilter,
    /// Channel order.
    pub colour: Colour,
    /// Per channel, for values in 0..1.
    pub mean: [f32; 3],
    /// Per channel, for values in 0..1.
    pub std: [f32; 3],
}

/// Resize filters a pack can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ResizeFilter {
    /// Antialiased bilinear on 8-bit values, rounded to 8 bits, aspect ratio not kept (Pillow, torchvision).
    BilinearAntialiasU8,
    /// The same with a cubic kernel (a = -0.5); of label packs only.
    BicubicAntialiasU8,
}

/// Channel orders a pack can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Colour {
    /// Red, green, blue.
    Rgb,
}

/// The memory bank.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MemorySpec {
    /// Slots: the prompted frame and the last `frames - 1`.
    pub frames: u32,
    /// Tokens per slot.
    pub tokens_per_frame: u32,
    /// Channels per token.
    pub channels: u32,
    /// Object pointers kept.
    pub pointers: u32,
    /// How memories are stored.
    pub storage: Storage,
}

impl MemorySpec {
    fn sizes(&self) -> [(&'static str, u32); 4] {
        [
            ("frames", self.frames),
            ("tokens_per_frame", self.tokens_per_frame),
            ("channels", self.channels),
            ("pointers", self.pointers),
        ]
    }
}

/// How memories are stored between frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// f32 tensors that hold values rounded to bf16.
    Bf16Rounded,
    /// Plain f32.
    Fp32,
}

/// What a detector finds.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DetectorSpec {
    /// What its graph gives.
    pub layout: DetectorLayout,
    /// Boxes per frame.
    pub queries: u32,
    /// Names of the classes, by number.
    pub classes: Vec<String>,
}

/// What a video segmenter finds and tracks.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SegmenterSpec {
    /// Queries, each of which may follow one object through a clip.
    pub queries: u32,
    /// Names of the classes, by number, without "no object".
    pub classes: Vec<String>,
    /// How tracks come and go, where a query is not one for the whole clip.
    pub tracks: Option<tracks::TracksSpec>,
    /// How panoptic segments are made of its objects.
    #[serde(default)]
    pub panoptic: panoptic::PanopticSpec,
}

/// What the graph of a detector gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DetectorLayout {
    /// A logit per query and class, and a box per query: centre, width and height as shares of the image.
    Raw,
    /// The form of the official exporter: the best pairs of query and class, with boxes in pixels of a size that is an input.
    Official,
}

/// The names that a label pack gives, and the vector of each.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LabelsSpec {
    /// File with the vectors: `text_embeds` f32 \[C, D\] (unit rows), `logit_scale` f32 \[1\] and, for sigmoid, `logit_bias` f32 \[1\].
    pub embeddings: String,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// Names of the classes, by row.
    pub classes: Vec<String>,
    /// How cosines become probabilities.
    pub activation: Activation,
    /// How the vectors were made; nothing depends on it.
    pub pooling: Pooling,
    /// The texts that the vectors were made of, with `{}` for the name; or `learned`.
    pub prompts: Vec<String>,
}

/// How scaled cosines become probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// One class of all: CLIP.
    Softmax,
    /// Each class by itself: SigLIP.
    Sigmoid,
}

/// Which row of a text tower is the vector of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// That of the end-of-text token: CLIP.
    Eot,
    /// The mean of those up to it.
    Mean,
    /// The last one: SigLIP.
    Last,
    /// There was no text tower.
    None,
}

/// The prompts a pack takes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PromptSpec {
    /// Kinds.
    pub kinds: Vec<PromptKind>,
    /// Slots for points: the most clicks that an object can be given. A box takes two. The padding point that the
    /// model adds is not counted.
    pub point_slots: u32,
}

/// Reference outputs for `jetbench verify`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GoldenSpec {
    /// Index file, relative to the pack directory.
    pub index: String,
    /// Largest absolute difference allowed.
    pub tolerance: f64,
}
/// A relative path that stays inside the pack; symbolic links are the pack owner's business.
pub(crate) fn stays_inside(file: &str) -> bool {
    let path = Path::new(file);
    !file.is_empty() && !file.contains('\\') && path.components().all(|c| matches!(c, Component::Normal(_)))
}

impl Manifest {
    /// Graph by name.
    pub fn graph(&self, name: &str) -> Option<&GraphSpec> {
        self.graphs.iter().find(|graph| graph.name == name)
    }

    /// Precisions for which every graph has a file, in [`Precision::ALL`]'s order.
    pub fn dtypes(&self) -> Vec<Dtype> {
        Dtype::ALL.into_iter().filter(|p| self.graphs.iter().all(|g| g.files.contains_key(p))).collect()
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if self.schema != SCHEMA {
            return Err(format!("schema = {}, this program reads schema {SCHEMA}", self.schema));
        }
        check_id(&self.id)?;
        if !(16..=4096).contains(&self.input.size) || !self.input.size.is_multiple_of(16) {
            return Err(format!("input.size = {}: a multiple of 16 from 16 to 4096 expected", self.input.size));
        }
        tracks::check(self)?;
        for (field, values) in [("mean", self.input.mean), ("std", self.input.std)] {
            if values.iter().any(|v| !v.is_finite()) || (field == "std" && values.iter().any(|&v| v <= 0.0)) {
                return Err(format!("input.{field} = {values:?}: finite numbers expected, std above 0"));
            }
        }
        for (field, value) in self.memory.iter().flat_map(MemorySpec::sizes) {
            if !(1..=65536).contains(&value) {
                return Err(format!("memory.{field} = {value}: 1 to 65536 expected"));
            }
        }
        let finders = [
            self.detector.as_ref().map(|d| ("detector", d.queries, &d.classes)),
            self.segmenter.as_ref().map(|s| ("segmenter", s.queries, &s.classes)),
        ];
        if finders.iter().flatten().count() + usize::from(self.labels.is_some()) > 1 {
            return Err("[detector], [segmenter] and [labels]: a pack has one of them at most".to_string());
        }
        if let Some(labels) = &self.labels {
            labels.check()?;
            if self.prompts != PromptSpec::default() {
                return Err("prompts: a label pack takes none; leave them out".to_string());
            }
        } else if let Some((section, queries, classes)) = finders.into_iter().flatten().next() {
            check_finder(section, queries, classes)?;
            self.segmenter.iter().try_for_each(|s| s.panoptic.check(s.classes.len()))?;
            if self.prompts != PromptSpec::default() {
                return Err(format!("prompts: a {section} takes none; leave them out"));
            }
        } else if self.prompts.kinds.is_empty() || !(2..=64).contains(&self.prompts.point_slots) {
            return Err("prompts: at least one kind and 2 to 64 point_slots expected".to_string());
        } else if self.prompts.kinds.contains(&PromptKind::Detector) {
            return Err("prompts.kinds: detector is no prompt that a pack takes".to_string());
        }
        for (i, graph) in self.graphs.iter().enumerate() {
            if self.graphs[..i].iter().any(|other| other.name == graph.name) {
                return Err(format!("graph `{}` is described twice", graph.name));
            }
            graph.check()?;
        }
        match &self.golden {
            Some(golden) if !stays_inside(&golden.index) => Err(escape("golden.index", &golden.index)),
            Some(golden) if !(golden.tolerance.is_finite() && golden.tolerance >= 0.0) => {
                Err(format!("golden.tolerance = {}: a number from 0 expected", golden.tolerance))
            }
            _ => Ok(()),
        }
    }
}

/// Queries and classes of a section of the manifest.
fn check_finder(section: &str, queries: u32, classes: &[String]) -> Result<(), String> {
    if !(1..=4096).contains(&queries) {
        return Err(format!("{section}.queries = {queries}: 1 to 4096 expected"));
    }
    if !(1..=65536).contains(&classes.len()) || classes.iter().any(String::is_empty) {
        return Err(format!("{section}.classes: 1 to 65536 names expected, none of them empty"));
    }
    Ok(())
}

impl LabelsSpec {
    fn check(&self) -> Result<(), String> {
        if !stays_inside(&self.embeddings) {
            return Err(escape("labels.embeddings", &self.embeddings));
        }
        if !(1..=4096).contains(&self.classes.len()) || self.classes.iter().any(String::is_empty) {
            return Err("labels.classes: 1 to 4096 names expected, none of them empty".to_string());
        }
        let mut names: Vec<&String> = self.classes.iter().collect();
        names.sort();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("labels.classes: {:?} stands twice", pair[0])),
            None => Ok(()),
        }
    }
}

/// A pack id appears in file names and model tags.
pub(crate) fn check_id(id: &str) -> Result<(), String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if id.len() <= 64 && id.chars().all(fine) && ends(id.chars().next()) && ends(id.chars().last()) {
        Ok(())
    } else {
        Err(format!("id = {id:?}: letters, digits, `_`, `-`, `.` expected, at most 64, a letter or digit at both ends"))
    }
}

fn escape(field: &str, file: &str) -> String {
    format!("{field} = {file:?}: a relative path inside the pack expected (no `..`, not absolute)")
}
