//! Does a pack directory hold what its manifest says? Everything that can be wrong with a pack is found here, before a
//! runtime is loaded or a device touched, and named by file, tensor, expected and found value.

pub(crate) mod weights;

use std::path::{Path, PathBuf};

use crate::digest::sha256_hex;
use crate::files;
use crate::manifest::{FILE_NAME, Form, GraphSpec, Manifest, TensorSpec};
use crate::onnx::{Dimension, Model, ValueInfo, shape_text};
use crate::runner::RunnerError;
use crate::types::Dtype;

/// A manifest larger than this is refused unread.
const LARGEST_MANIFEST: u64 = 4 << 20;

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
    /// Files beside it that hold weights, and agree too.
    pub weights: usize,
    /// [`Form::identity`]: its SHA-256, hexadecimal, or what names all its files.
    pub sha256: String,
    /// The same of the graph in fp32, as the manifest says; `None` where there is none.
    pub fp32_sha256: Option<String>,
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
    files::read_text(&path, LARGEST_MANIFEST).map_err(fail)
}

impl Pack {
    /// Reads and checks `pack.toml` in `dir`; graph files are not opened yet.
    ///
    /// # Errors
    /// [`RunnerError::Pack`] naming the file, the line or field, and what is wrong.
    pub fn read(dir: &Path) -> Result<Self, RunnerError> {
        let text = read_text(dir)?;
        let at = dir.join(FILE_NAME);
        let manifest: Manifest = toml::from_str(&text).map_err(|e| {
            // A scripted runner's pack lacks every field of a manifest; the first of them says nothing.
            let bare = toml::from_str::<toml::Table>(&text).is_ok_and(|table| !table.contains_key("graph"));
            let why = if bare { "this pack has no graphs ([[graph]])".to_string() } else { e.to_string() };
            RunnerError::Pack(format!("{}: {why}", at.display()))
        })?;
        manifest.check().map_err(|e| RunnerError::Pack(format!("{}: {e}", at.display())))?;
        Ok(Pack { dir: dir.to_path_buf(), digest: sha256_hex(text.as_bytes()), manifest })
    }

    /// An error about this pack's manifest.
    pub fn wrong(&self, text: impl std::fmt::Display) -> RunnerError {
        RunnerError::Pack(format!("{}: {text}", self.dir.join(FILE_NAME).display()))
    }

    /// Reads the file of `graph` in `precision` and compares it with the manifest: digest, names, types and shapes of
    /// inputs and outputs.
    ///
    /// # Errors
    /// [`RunnerError::Pack`] naming the file, the tensor, what was expected and what was found.
    pub fn check_graph(&self, graph: &GraphSpec, precision: Dtype) -> Result<CheckedGraph, RunnerError> {
        let form = graph.form(precision).ok_or_else(|| {
            let known: Vec<&str> = graph.files.keys().map(|p| p.as_str()).collect();
            self.wrong(format!("graph `{}` has no file for {precision}; it has: {}", graph.name, known.join(", ")))
        })?;
        self.check_form(graph, form)
    }

    /// As [`Pack::check_graph`] for the form for the CPU provider; `None` where the graph has none.
    ///
    /// # Errors
    /// As [`Pack::check_graph`].
    pub fn check_cpu_form(&self, graph: &GraphSpec) -> Result<Option<CheckedGraph>, RunnerError> {
        graph.cpu_form().map(|form| self.check_form(graph, form)).transpose()
    }

    fn check_form(&self, graph: &GraphSpec, form: Form<'_>) -> Result<CheckedGraph, RunnerError> {
        let path = self.dir.join(form.file);
        let wrong = |text: String| RunnerError::Pack(format!("{}: {text}", path.display()));
        let bytes = files::read(&path, files::LARGE)
            .map_err(|e| wrong(format!("{e}; {FILE_NAME} names it for graph `{}`, {}", graph.name, form.name)))?;
        let sha256 = sha256_hex(&bytes);
        // A broken file is named as such; a whole but different one by its digest.
        let model = Model::parse(&bytes).map_err(|e| {
            wrong(format!("no usable ONNX file ({} bytes): {e}; fetch or export the pack again", bytes.len()))
        })?;
        agrees(form.sha256, &sha256).map_err(wrong)?;
        weights::check(&self.dir, form, &model)?;
        compare(&graph.inputs, &model.inputs, "input").map_err(wrong)?;
        compare(&graph.outputs, &model.outputs, "output").map_err(wrong)?;
        let fp32_sha256 = graph.form(Dtype::Fp32).map(|fp32| fp32.identity());
        let weights = form.weights.len();
        Ok(CheckedGraph { path, bytes, weights, sha256: form.identity(), fp32_sha256 })
    }

    /// Checks every graph of `precision`, and of fp32 also the forms for the CPU provider; of a label pack the file of its vectors, too.
    ///
    /// # Errors
    /// As [`Pack::check_graph`].
    pub fn check(&self, precision: Dtype) -> Result<(), RunnerError> {
        self.manifest.graphs.iter().try_for_each(|graph| {
            self.check_graph(graph, precision)?;
            if precision == Dtype::Fp32 {
                self.check_cpu_form(graph)?;
            }
            Ok(())
        })?;
        let Some(labels) = &self.manifest.labels else { return Ok(()) };
        let path = self.dir.join(&labels.embeddings);
        let wrong = |text: String| RunnerError::Pack(format!("{}: {text}", path.display()));
        let bytes = files::read(&path, files::LARGE).map_err(|e| wrong(e.to_string()))?;
        agrees(&labels.sha256, &sha256_hex(&bytes)).map_err(wrong)
    }
}

/// Is a file's digest what the manifest says?
fn agrees(stated: &str, found: &str) -> Result<(), String> {
    match stated.eq_ignore_ascii_case(found) {
        true => Ok(()),
        false => Err(format!(
            "SHA-256 is {found}, {FILE_NAME} says {stated}; the file or the manifest was changed: fetch or export the pack again"
        )),
    }
}

fn compare(expected: &[TensorSpec], found: &[ValueInfo<'_>], kind: &str) -> Result<(), String> {
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
        let agrees = |(found, stated): (&Dimension, &Dimension)| {
            found == stated
                || (*stated == Dimension::Dynamic("?".into()) && *found == Dimension::Dynamic(String::new()))
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::onnx::ElementType;
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

    /// As [`write_pack`], with `y = x MatMul w` of [`SIDE`]² values in fp32 and bf16, and the weights in files beside the graphs. Each of
    /// those is the graph as it was before.
    pub fn write_pack_with_weights_apart(dir: &Path, edit: impl Fn(String) -> String) {
        let shape = [SIDE as i64; 2];
        let graph = |dtype: ElementType, raw: &[u8]| {
            build::model(
                9,
                20,
                &[
                    (1, build::node("Cast", &["x"], &["xh"], &[("to", dtype.0)])),
                    (1, build::node("MatMul", &["xh", "w"], &["yh"], &[])),
                    (1, build::node("Cast", &["yh"], &["y"], &[("to", 1)])),
                    (5, build::initializer("w", dtype, &shape, raw)),
                    (11, build::value_info("x", ElementType::F32, &shape)),
                    (12, build::value_info("y", ElementType::F32, &shape)),
                ],
            )
        };
        let values = WEIGHTS.map(half::bf16::from_f32);
        let forms = [
            (
                "fp32",
                graph(ElementType::F32, &values.iter().flat_map(|v| v.to_f32().to_le_bytes()).collect::<Vec<_>>()),
            ),
            ("bf16", graph(ElementType::BF16, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())),
        ];
        let mut tables = [const { Vec::new() }; 3];
        for (name, whole) in forms {
            std::fs::create_dir_all(dir.join(name)).unwrap();
            let light = Model::parse(&whole).unwrap().with_references("g.onnx.data").unwrap().unwrap();
            std::fs::write(dir.join(name).join("g.onnx"), &light).unwrap();
            std::fs::write(dir.join(name).join("g.onnx.data"), &whole).unwrap();
            tables[0].push(format!("{name} = \"{name}/g.onnx\""));
            tables[1].push(format!("{name} = \"{}\"", sha256_hex(&light)));
            let sha256 = sha256_hex(&whole);
            tables[2].push(format!("{name} = [{{ file = \"{name}/g.onnx.data\", sha256 = \"{sha256}\" }}]"));
        }
        let [files, digests, weights] = tables.map(|table| table.join(", "));
        write_pack(&dir.join("plain"), |text| text);
        let text = std::fs::read_to_string(dir.join("plain").join(FILE_NAME)).unwrap();
        std::fs::remove_dir_all(dir.join("plain")).unwrap();
        let rest = text.find("inputs = ").unwrap();
        let start = text.find("files = ").unwrap();
        let text = format!(
            "{}files = {{ {files} }}\nsha256 = {{ {digests} }}\nweights = {{ {weights} }}\n{}",
            &text[..start],
            text[rest..].replace("shape = [2, 2]", &format!("shape = [{SIDE}, {SIDE}]"))
        );
        std::fs::write(dir.join(FILE_NAME), edit(text)).unwrap();
    }

    /// Large enough for half values to be kept apart.
    pub const SIDE: usize = 64;

    /// Weights of [`write_pack_with_weights_apart`]; bf16 holds them exactly.
    pub const WEIGHTS: [f32; SIDE * SIDE] = {
        let mut values = [0.0; SIDE * SIDE];
        let mut i = 0;
        while i < values.len() {
            values[i] = (i % 128) as f32 - 64.0;
            i += 1;
        }
        values
    };

    fn outcome(edit: impl Fn(String) -> String, break_file: impl Fn(&Path)) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        write_pack(dir.path(), edit);
        break_file(&dir.path().join("fp32/g.onnx"));
        let pack = Pack::read(dir.path()).map_err(|e| e.to_string())?;
        pack.check(Dtype::Fp32).map_err(|e| e.to_string())
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
    fn weights_in_other_files_are_stated_and_compared() {
        let outcome = |edit: &dyn Fn(String) -> String, change: &dyn Fn(&Path)| {
            let dir = tempfile::tempdir().unwrap();
            write_pack_with_weights_apart(&dir.path().join("pack"), edit);
            change(&dir.path().join("pack"));
            let pack = Pack::read(&dir.path().join("pack")).map_err(|e| e.to_string())?;
            pack.check(Dtype::Fp32).and_then(|()| pack.check(Dtype::Bf16)).map_err(|e| e.to_string())
        };
        let (same, keep) = (|text: String| text, |_: &Path| ());
        outcome(&same, &keep).unwrap();
        let data = |pack: &Path| pack.join("bf16/g.onnx.data");
        let changed = |pack: &Path| {
            let mut bytes = std::fs::read(data(pack)).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            std::fs::write(data(pack), bytes).unwrap();
        };
        let link = |pack: &Path| {
            std::fs::rename(data(pack), pack.join("../w.bin")).unwrap();
            std::os::unix::fs::symlink("../../w.bin", data(pack)).unwrap();
        };
        let without = |text: String| text.lines().filter(|l| !l.starts_with("weights")).collect::<Vec<_>>().join("\n");
        let named = |to: &'static str| move |text: String| text.replace("bf16/g.onnx.data", to);
        type Attack<'a> = (&'a dyn Fn(String) -> String, &'a dyn Fn(&Path), &'a [&'a str]);
        let attacks: [Attack<'_>; 7] = [
            (
                &without,
                &keep,
                &["fp32/g.onnx: constant `w` is kept in fp32/g.onnx.data, which pack.toml does not state"],
            ),
            (&named("bf16/other.data"), &keep, &["bf16/g.onnx: constant `w` is kept in bf16/g.onnx.data, which"]),
            (&named("../g.onnx.data"), &keep, &["weights.file", "inside the pack"]),
            (
                &|text: String| text.replace("{ fp32 = [", "{ fp16 = ["),
                &keep,
                &["weights.fp16", "no file of that precision"],
            ),
            (
                &|text: String| {
                    text.replace("[{ file = \"bf16", "[{ file = \"w\", sha256 = \"@\" }, { file = \"bf16")
                        .replace('@', &"0".repeat(64))
                },
                &keep,
                &["/w: pack.toml states it as weights of bf16/g.onnx"],
            ),
            (&same, &changed, &["bf16/g.onnx.data: SHA-256 is", "pack.toml says"]),
            (&same, &|pack| std::fs::remove_file(data(pack)).unwrap(), &["bf16/g.onnx.data", "No such file"]),
        ];
        for (edit, change, parts) in attacks {
            let fault = outcome(edit, change).unwrap_err();
            assert!(parts.iter().all(|part| fault.contains(part)), "{parts:?}: {fault}");
        }
        // As download caches have them.
        outcome(&same, &link).unwrap();
        // What an engine is kept under follows the weights.
        let dir = tempfile::tempdir().unwrap();
        let identity = || {
            let pack = Pack::read(dir.path()).unwrap();
            pack.check_graph(&pack.manifest.graphs[0], Dtype::Bf16).unwrap().sha256
        };
        write_pack_with_weights_apart(dir.path(), |text| text);
        let first = identity();
        changed(dir.path());
        let sha256 = sha256_hex(&std::fs::read(data(dir.path())).unwrap());
        let text = std::fs::read_to_string(dir.path().join(FILE_NAME)).unwrap();
        let at = text.find("bf16/g.onnx.data\", sha256 = \"").unwrap() + "bf16/g.onnx.data\", sha256 = \"".len();
        std::fs::write(dir.path().join(FILE_NAME), format!("{}{sha256}{}", &text[..at], &text[at + 64..])).unwrap();
        assert_ne!(identity(), first);
    }

    #[test]
    fn names_of_weights_that_leave_the_folder_of_their_graph_are_refused() {
        for location in ["../w.bin", "/etc/passwd", "a/../../w", "", "a\\b"] {
            let dir = tempfile::tempdir().unwrap();
            write_pack_with_weights_apart(dir.path(), |text| text);
            let whole = std::fs::read(dir.path().join("fp32/g.onnx.data")).unwrap();
            let light = Model::parse(&whole).unwrap().with_references(location).unwrap().unwrap();
            let old = sha256_hex(&std::fs::read(dir.path().join("fp32/g.onnx")).unwrap());
            std::fs::write(dir.path().join("fp32/g.onnx"), &light).unwrap();
            let text = std::fs::read_to_string(dir.path().join(FILE_NAME)).unwrap();
            std::fs::write(dir.path().join(FILE_NAME), text.replace(&old, &sha256_hex(&light))).unwrap();
            let fault = Pack::read(dir.path()).unwrap().check(Dtype::Fp32).unwrap_err().to_string();
            assert!(fault.contains("a file in the folder of its graph, or below, expected"), "{location}: {fault}");
        }
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
        let pointer =
            |file: &Path| std::fs::write(file, "version https://git-lfs.github.com/spec/v1\noid x\n").unwrap();
        let pointer = outcome(|t| t, |file| pointer(file)).unwrap_err();
        assert!(pointer.contains("a Git LFS pointer") && pointer.contains("git lfs pull"), "{pointer}");
        let changed =
            outcome(|t| t, |file| std::fs::write(file, build::matmul(ElementType::BF16)).unwrap()).unwrap_err();
        assert!(changed.contains("SHA-256 is") && changed.contains("pack.toml says"), "{changed}");
        let scripted = outcome(|_| "id = \"m\"\nfamily = \"mock\"\n".to_string(), |_| ()).unwrap_err();
        assert!(scripted.contains("this pack has no graphs"), "{scripted}");
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
                let _ = pack.check(Dtype::Fp32);
            }
        }
    }
}
