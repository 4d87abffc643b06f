//! `pack.toml`: what a model pack says about itself, and the check of that against its ONNX files. Everything that can
//! be wrong with a pack is found here, before a runtime is loaded or a device touched, and named by file, tensor,
//! expected and found value.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::RunnerError;
use crate::onnx::{Axis, ElementType, Model, ValueInfo, shape_text};
use crate::types::{Precision, PromptKind};

/// Schema number of `pack.toml` that this program reads.
pub const SCHEMA: u32 = 1;

/// File name of the manifest in a pack directory.
pub const FILE_NAME: &str = "pack.toml";

/// A manifest larger than this is refused unread.
const LARGEST_MANIFEST: u64 = 4 << 20;

/// Contents of `pack.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Name used on the command line (before `_<prompt>`).
    pub id: String,
    /// Family in the registry: `sam2`, `edgetam`.
    pub family: String,
    /// One or two sentences for listings.
    pub description: String,
    /// SPDX expression.
    pub licence: String,
    /// Where the graphs come from.
    pub provenance: Provenance,
    /// The image the encoder wants.
    pub input: Input,
    /// The memory bank; left out by families without memory.
    pub memory: Option<Memory>,
    /// The prompts it takes.
    pub prompts: Prompts,
    /// The graphs.
    #[serde(rename = "graph")]
    pub graphs: Vec<Graph>,
    /// Tensors that a graph takes in and gives back changed.
    #[serde(rename = "state", default)]
    pub states: Vec<State>,
    /// Reference outputs for `jetbench verify`.
    pub golden: Option<Golden>,
}

/// Where the graphs come from.
#[derive(Clone, Debug, PartialEq, Deserialize)]
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
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Side of the square input in pixels.
    pub size: u32,
    /// How a frame becomes that square.
    pub resize: Resize,
    /// Channel order.
    pub colour: Colour,
    /// Per channel, for values in 0..1.
    pub mean: [f32; 3],
    /// Per channel, for values in 0..1.
    pub std: [f32; 3],
}

/// Resize filters a pack can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// Antialiased bilinear on 8-bit values, rounded to 8 bits, aspect ratio not kept (Pillow, torchvision).
    BilinearAntialiasU8,
}

/// Channel orders a pack can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Colour {
    /// Red, green, blue.
    Rgb,
}

/// The memory bank.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
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

impl Memory {
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
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// f32 tensors that hold values rounded to bf16.
    Bf16Rounded,
    /// Plain f32.
    Fp32,
}

/// The prompts a pack takes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompts {
    /// Kinds.
    pub kinds: Vec<PromptKind>,
    /// Slots for points; a box takes two of them. One slot is the model's own padding point, so that at most
    /// `point_slots` clicks fit when the graph adds that point itself.
    pub point_slots: u32,
}

/// One graph.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Graph {
    /// Name, e.g. `image_encoder`.
    pub name: String,
    /// File per precision, relative to the pack directory.
    pub files: BTreeMap<Precision, String>,
    /// SHA-256 per precision, hexadecimal.
    pub sha256: BTreeMap<Precision, String>,
    /// Its form for ONNX Runtime's CPU provider, where it has one.
    pub cpu: Option<CpuForm>,
    /// Inputs.
    pub inputs: Vec<Tensor>,
    /// Outputs.
    pub outputs: Vec<Tensor>,
}

/// A graph in the form for ONNX Runtime's CPU provider: the same function in fp32, from the same inputs to the same outputs,
/// on that provider's own operators. Other providers get the file of the precision. In this form `memory_attention` wants
/// all objects of a batch to be of one age.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuForm {
    /// File, relative to the pack directory.
    pub file: String,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
}

/// One tensor of a graph.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tensor {
    /// Name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape: sizes, and names for axes that are decided at run time (`"objects"`).
    pub shape: Vec<Axis>,
}

/// Element types of graph inputs and outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit float.
    F32,
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
}

impl Dtype {
    fn onnx(self) -> ElementType {
        match self {
            Dtype::F32 => ElementType::F32,
            Dtype::I32 => ElementType::I32,
            Dtype::I64 => ElementType::I64,
        }
    }
}

/// A tensor that a graph takes in and gives back changed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Input name.
    pub input: String,
    /// Output name.
    pub output: String,
}

/// Reference outputs for `jetbench verify`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Index file, relative to the pack directory.
    pub index: String,
    /// Largest absolute difference allowed.
    pub tolerance: f64,
}

/// A manifest with the directory it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Pack {
    /// Pack directory.
    pub dir: PathBuf,
    /// SHA-256 of `pack.toml`, hexadecimal.
    pub digest: String,
    /// Its contents.
    pub manifest: Manifest,
}

/// A graph file that agrees with its manifest.
pub struct CheckedGraph {
    /// The file.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
}

/// SHA-256 as lower-case hexadecimal text.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads the manifest's text.
///
/// # Errors
/// [`RunnerError::Pack`] when there is no readable manifest of sane size.
pub(crate) fn read_text(dir: &Path) -> Result<String, RunnerError> {
    let path = dir.join(FILE_NAME);
    let fail = |e: std::io::Error| {
        RunnerError::Pack(format!("{}: {e}; a model pack is a directory with a {FILE_NAME}", path.display()))
    };
    let size = std::fs::metadata(&path).map_err(fail)?.len();
    if size > LARGEST_MANIFEST {
        return Err(RunnerError::Pack(format!("{}: {size} bytes is too large for a manifest", path.display())));
    }
    std::fs::read_to_string(&path).map_err(fail)
}

impl Pack {
    /// Reads and checks `pack.toml` in `dir`; graph files are not opened yet.
    ///
    /// # Errors
    /// [`RunnerError::Pack`] naming the file, the line or field, and what is wrong.
    pub fn read(dir: &Path) -> Result<Self, RunnerError> {
        let text = read_text(dir)?;
        let at = dir.join(FILE_NAME);
        let manifest: Manifest =
            toml::from_str(&text).map_err(|e| RunnerError::Pack(format!("{}: {e}", at.display())))?;
        manifest.check().map_err(|e| RunnerError::Pack(format!("{}: {e}", at.display())))?;
        Ok(Pack { dir: dir.to_path_buf(), digest: sha256_hex(text.as_bytes()), manifest })
    }

    /// Reads the file of `graph` in `precision` and compares it with the manifest: digest, names, types and shapes of
    /// inputs and outputs.
    ///
    /// # Errors
    /// [`RunnerError::Pack`] naming the file, the tensor, what was expected and what was found.
    pub fn check_graph(&self, graph: &Graph, precision: Precision) -> Result<CheckedGraph, RunnerError> {
        let file = graph.files.get(&precision).ok_or_else(|| {
            let known: Vec<&str> = graph.files.keys().map(|p| p.as_str()).collect();
            RunnerError::Pack(format!(
                "{}: graph `{}` has no file for {precision}; it has: {}",
                self.dir.join(FILE_NAME).display(),
                graph.name,
                known.join(", ")
            ))
        })?;
        let expected = graph.sha256.get(&precision).map_or("", String::as_str);
        self.check_file(graph, file, expected, precision.as_str())
    }

    /// As [`Pack::check_graph`] for the form for the CPU provider; `None` where the graph has none.
    ///
    /// # Errors
    /// As [`Pack::check_graph`].
    pub fn check_cpu_form(&self, graph: &Graph) -> Result<Option<CheckedGraph>, RunnerError> {
        graph.cpu.as_ref().map(|form| self.check_file(graph, &form.file, &form.sha256, "cpu")).transpose()
    }

    fn check_file(&self, graph: &Graph, file: &str, expected: &str, what: &str) -> Result<CheckedGraph, RunnerError> {
        let path = self.dir.join(file);
        let wrong = |text: String| RunnerError::Pack(format!("{}: {text}", path.display()));
        let bytes = std::fs::read(&path)
            .map_err(|e| wrong(format!("{e}; {FILE_NAME} names it for graph `{}`, {what}", graph.name)))?;
        let sha256 = sha256_hex(&bytes);
        // A broken file is named as such; a whole but different one by its digest.
        let model = Model::parse(&bytes).map_err(|e| {
            wrong(format!("no usable ONNX file ({} bytes): {e}; fetch or export the pack again", bytes.len()))
        })?;
        if !expected.eq_ignore_ascii_case(&sha256) {
            return Err(wrong(format!(
                "SHA-256 is {sha256}, {FILE_NAME} says {expected}; the file or the manifest was changed: fetch or \
                 export the pack again"
            )));
        }
        if let Some(name) = model.external() {
            return Err(wrong(format!(
                "constant `{name}` is kept in another file, which the digest does not cover; export as one file"
            )));
        }
        compare(&graph.inputs, &model.inputs, "input").map_err(wrong)?;
        compare(&graph.outputs, &model.outputs, "output").map_err(wrong)?;
        Ok(CheckedGraph { path, bytes, sha256 })
    }

    /// Checks every graph of `precision`, and of fp32 also the forms for the CPU provider.
    ///
    /// # Errors
    /// As [`Pack::check_graph`].
    pub fn check(&self, precision: Precision) -> Result<(), RunnerError> {
        self.manifest.graphs.iter().try_for_each(|graph| {
            self.check_graph(graph, precision)?;
            if precision == Precision::Fp32 {
                self.check_cpu_form(graph)?;
            }
            Ok(())
        })
    }
}

fn compare(expected: &[Tensor], found: &[ValueInfo<'_>], kind: &str) -> Result<(), String> {
    for tensor in expected {
        let Some(value) = found.iter().find(|value| value.name == tensor.name) else {
            let names: Vec<&str> = found.iter().map(|v| v.name).collect();
            return Err(format!("{kind} `{}` expected, found only: {}", tensor.name, names.join(", ")));
        };
        let stated = value.dtype.map_or("no tensor type".to_string(), |t| t.to_string());
        if value.dtype != Some(tensor.dtype.onnx()) {
            return Err(format!(
                "{kind} `{}`: element type {} expected, found {stated}",
                tensor.name,
                tensor.dtype.onnx()
            ));
        }
        // `?` in the manifest stands for an axis without a name.
        let agrees = |(found, stated): (&Axis, &Axis)| {
            found == stated || (*stated == Axis::Dynamic("?".into()) && *found == Axis::Dynamic(String::new()))
        };
        let same = value
            .shape
            .as_ref()
            .is_some_and(|shape| shape.len() == tensor.shape.len() && shape.iter().zip(&tensor.shape).all(agrees));
        if !same {
            let found = value.shape.as_ref().map_or("none stated".to_string(), |shape| shape_text(shape));
            let expected = shape_text(&tensor.shape);
            return Err(format!("{kind} `{}`: shape {expected} expected, found {found}", tensor.name));
        }
    }
    match found.iter().find(|value| !expected.iter().any(|tensor| tensor.name == value.name)) {
        Some(extra) => Err(format!("{kind} `{}` found, not in {FILE_NAME}", extra.name)),
        None => Ok(()),
    }
}

/// A relative path that stays inside the pack; symbolic links are the pack owner's business.
fn stays_inside(file: &str) -> bool {
    let path = Path::new(file);
    !file.is_empty() && !file.contains('\\') && path.components().all(|c| matches!(c, Component::Normal(_)))
}

impl Manifest {
    /// Graph by name.
    pub fn graph(&self, name: &str) -> Option<&Graph> {
        self.graphs.iter().find(|graph| graph.name == name)
    }

    /// Precisions for which every graph has a file, in [`Precision::ALL`]'s order.
    pub fn precisions(&self) -> Vec<Precision> {
        Precision::ALL.into_iter().filter(|p| self.graphs.iter().all(|g| g.files.contains_key(p))).collect()
    }

    fn check(&self) -> Result<(), String> {
        if self.schema != SCHEMA {
            return Err(format!("schema = {}, this program reads schema {SCHEMA}", self.schema));
        }
        check_id(&self.id)?;
        if !(16..=4096).contains(&self.input.size) || !self.input.size.is_multiple_of(16) {
            return Err(format!("input.size = {}: a multiple of 16 from 16 to 4096 expected", self.input.size));
        }
        for (field, values) in [("mean", self.input.mean), ("std", self.input.std)] {
            if values.iter().any(|v| !v.is_finite()) || (field == "std" && values.iter().any(|&v| v <= 0.0)) {
                return Err(format!("input.{field} = {values:?}: finite numbers expected, std above 0"));
            }
        }
        for (field, value) in self.memory.iter().flat_map(Memory::sizes) {
            if !(1..=65536).contains(&value) {
                return Err(format!("memory.{field} = {value}: 1 to 65536 expected"));
            }
        }
        if self.prompts.kinds.is_empty() || !(2..=64).contains(&self.prompts.point_slots) {
            return Err("prompts: at least one kind and 2 to 64 point_slots expected".to_string());
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

/// Exporters name axes as they like, with dots and formulas; the name must only be fit to print.
fn is_axis_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 128 && name.chars().all(|c| c.is_ascii_graphic() || c == ' ')
}

fn escape(field: &str, file: &str) -> String {
    format!("{field} = {file:?}: a relative path inside the pack expected (no `..`, not absolute)")
}

impl Graph {
    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        let plain = self.files.iter().map(|(precision, file)| {
            let digest = self.sha256.get(precision).map_or("", String::as_str);
            (format!("files.{precision}"), format!("sha256.{precision}"), file, digest)
        });
        let cpu =
            self.cpu.iter().map(|form| ("cpu.file".into(), "cpu.sha256".into(), &form.file, form.sha256.as_str()));
        for (of_file, of_digest, file, digest) in plain.chain(cpu) {
            if !stays_inside(file) {
                return Err(escape(&format!("graph `{name}`: {of_file}"), file));
            }
            if digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(format!("graph `{name}`: {of_digest} = {digest:?}: 64 hexadecimal digits expected"));
            }
        }
        if self.cpu.is_some() && !self.files.contains_key(&Precision::Fp32) {
            return Err(format!("graph `{name}`: cpu: a form of the fp32 graph, which has no file"));
        }
        if self.files.is_empty() {
            return Err(format!("graph `{name}` has no files"));
        }
        for tensors in [&self.inputs, &self.outputs] {
            for (i, tensor) in tensors.iter().enumerate() {
                if tensors[..i].iter().any(|other| other.name == tensor.name) {
                    return Err(format!("graph `{name}`: tensor `{}` is described twice", tensor.name));
                }
                let elements = tensor.shape.iter().try_fold(1i64, |n, axis| match axis {
                    Axis::Size(size) if *size >= 1 => n.checked_mul(*size),
                    Axis::Dynamic(name) if is_axis_name(name) => Some(n),
                    _ => None,
                });
                if tensor.shape.len() > 8 || elements.is_none_or(|n| n > 1 << 30) {
                    return Err(format!(
                        "graph `{name}`: tensor `{}` has shape {}: up to 8 axes, each a size from 1 or a name, at most \
                         2^30 elements expected",
                        tensor.name,
                        shape_text(&tensor.shape)
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::onnx::build;
    use proptest::prelude::*;

    /// A pack with one graph `y = x MatMul w`.
    pub fn write_pack(dir: &Path, edit: impl Fn(String) -> String) {
        let onnx = build::matmul(ElementType::F32);
        std::fs::create_dir_all(dir.join("fp32")).unwrap();
        std::fs::write(dir.join("fp32/g.onnx"), &onnx).unwrap();
        let text = format!(
            r#"
schema = 1
id = "tiny"
family = "sam2"
description = "d"
licence = "Apache-2.0"
[provenance]
checkpoint_sha256 = "00"
exporter = "e"
command = "c"
[input]
size = 256
resize = "bilinear_antialias_u8"
colour = "rgb"
mean = [0.5, 0.5, 0.5]
std = [0.2, 0.2, 0.2]
[memory]
frames = 7
tokens_per_frame = 256
channels = 64
pointers = 16
storage = "bf16_rounded"
[prompts]
kinds = ["points", "bbox", "mask"]
point_slots = 4
[[graph]]
name = "g"
files = {{ fp32 = "fp32/g.onnx" }}
sha256 = {{ fp32 = "{}" }}
inputs = [{{ name = "x", dtype = "f32", shape = [2, 2] }}]
outputs = [{{ name = "y", dtype = "f32", shape = [2, 2] }}]
[[state]]
input = "bank"
output = "bank_out"
[golden]
index = "reference/golden.json"
tolerance = 1e-3
"#,
            sha256_hex(&onnx)
        );
        std::fs::write(dir.join(FILE_NAME), edit(text)).unwrap();
    }

    fn outcome(edit: impl Fn(String) -> String, break_file: impl Fn(&Path)) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        write_pack(dir.path(), edit);
        break_file(&dir.path().join("fp32/g.onnx"));
        let pack = Pack::read(dir.path()).map_err(|e| e.to_string())?;
        pack.check(Precision::Fp32).map_err(|e| e.to_string())
    }

    fn refused(from: &str, to: &str, expected: &[&str]) {
        let error = outcome(|text| text.replacen(from, to, 1), |_| {}).expect_err(to);
        for part in expected {
            assert!(error.contains(part), "{to}: {error:?} does not say {part:?}");
        }
    }

    #[test]
    fn a_good_pack_passes() {
        outcome(|text| text, |_| {}).unwrap();
    }

    #[test]
    fn mismatches_name_file_tensor_expected_and_found() {
        refused(
            "name = \"x\", dtype = \"f32\", shape = [2, 2]",
            "name = \"x\", dtype = \"f32\", shape = [2, 3]",
            &["fp32/g.onnx", "input `x`", "[2, 3] expected", "found [2, 2]"],
        );
        refused(
            "name = \"x\", dtype = \"f32\"",
            "name = \"x\", dtype = \"i32\"",
            &["`x`", "i32 expected", "found f32"],
        );
        refused("name = \"y\"", "name = \"z\"", &["output `z` expected", "found only: y"]);
        refused("inputs = [{ name = \"x\", dtype = \"f32\", shape = [2, 2] }]", "inputs = []", &["input `x` found"]);
    }

    #[test]
    fn manifest_faults_name_the_field() {
        refused("schema = 1", "schema = 2", &["pack.toml", "schema = 2"]);
        refused("id = \"tiny\"", "id = \"../x\"", &["id = "]);
        refused("point_slots", "point_slot", &["point_slot", "line"]);
        refused("fp32/g.onnx", "../g.onnx", &["files.fp32", "inside the pack"]);
        refused("fp32/g.onnx", "/etc/passwd", &["files.fp32", "inside the pack"]);
        refused("reference/golden.json", "../golden.json", &["golden.index"]);
        refused("size = 256", "size = 100", &["input.size"]);
        refused("std = [0.2,", "std = [0.0,", &["input.std"]);
        refused("command = \"c\"", "command = \"c\"\nfollows = \"me\"", &["follows", "me", "official"]);
        refused("shape = [2, 2]", "shape = [0, 2]", &["shape [0, 2]"]);
        refused("shape = [2, 2]", "shape = [\"objects\", 2]", &["[objects, 2] expected", "found [2, 2]"]);
        refused("shape = [2, 2]", "shape = [\"\", 2]", &["each a size from 1 or a name"]);
        refused("shape = [2, 2]", "shape = [2.5, 2]", &["the size of an axis or its name"]);
        refused("shape = [2, 2]", "shape = [1000000000, 1000000000]", &["2^30"]);
        refused("bilinear_antialias_u8", "nearest", &["nearest", "bilinear_antialias_u8"]);
        refused("{ fp32 = \"fp32/g.onnx\" }", "{ bf16 = \"fp32/g.onnx\" }", &["sha256.bf16"]);
    }

    #[test]
    fn file_faults_are_told_apart() {
        let missing = outcome(|t| t, |file| std::fs::remove_file(file).unwrap()).unwrap_err();
        assert!(missing.contains("g.onnx") && missing.contains("graph `g`"), "{missing}");
        let cut = outcome(
            |t| t,
            |file| {
                let bytes = std::fs::read(file).unwrap();
                std::fs::write(file, &bytes[..60]).unwrap();
            },
        )
        .unwrap_err();
        assert!(cut.contains("no usable ONNX file (60 bytes)"), "{cut}");
        let changed =
            outcome(|t| t, |file| std::fs::write(file, build::matmul(ElementType::BF16)).unwrap()).unwrap_err();
        assert!(changed.contains("SHA-256 is") && changed.contains("pack.toml says"), "{changed}");
        let absent = Pack::read(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(absent.contains("/nonexistent/pack.toml"), "{absent}");
    }

    proptest! {
        #[test]
        fn damaged_manifests_never_panic(
            at in any::<proptest::sample::Index>(),
            text in "[ -~\\n]{0,12}",
        ) {
            let dir = tempfile::tempdir().unwrap();
            write_pack(dir.path(), |good| {
                let at = at.index(good.len());
                format!("{}{text}{}", &good[..at], &good[(at + text.len()).min(good.len())..])
            });
            if let Ok(pack) = Pack::read(dir.path()) {
                let _ = pack.check(Precision::Fp32);
            }
        }
    }
}
