//! A manifest from the ONNX files that are found: what the files say is taken from them, and all that a person still has to say, or that is
//! wrong with the files, is listed at once.

mod detector;
mod segmenter;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::{Manifest, OBJECTS, TensorSpec, TensorType, WeightFile};
use crate::detect::contract::DFINE;
use crate::digest::sha256_hex;
use crate::files;
use crate::onnx::{Dimension, ElementType, Model, ValueInfo};
use crate::pack::weights;
use crate::requirements;
use crate::runner::RunnerError;
use crate::sam::contract::{
    COARSE_FAMILY, IMAGE_ENCODER, MASK_DECODER, MASK_PROMPT, MEMORY_ATTENTION, SAM3_FAMILY, TensorSizes,
    requirements as graphs_of,
};
use crate::segment::contract::VIDEOMT;
use crate::study::whole;
use crate::types::Dtype;

/// Families whose manifests can be drafted.
pub const FAMILIES: [&str; 6] = ["sam2", "edgetam", COARSE_FAMILY, SAM3_FAMILY, DFINE.family, VIDEOMT.family];

/// A drafted manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Text of `pack.toml`.
    pub text: String,
    /// What keeps the pack from running, in words.
    pub faults: Vec<String>,
    /// What only a person knows: the manifest has a value that says nothing.
    pub unknown: Vec<String>,
}

/// One ONNX file.
struct Found {
    file: String,
    sha256: String,
    weights: Vec<WeightFile>,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
}

/// The files of one graph: per precision, and the form for the CPU provider.
#[derive(Default)]
struct Forms {
    plain: BTreeMap<Dtype, Found>,
    cpu: Option<Found>,
}

/// Drafts the manifest of the pack in `dir`, whose graphs are found by their names: `NAME.onnx`, in a folder or with an ending of their precision
/// (`fp16/NAME.onnx`, `NAME.fp16.onnx`, `NAME_fp16.onnx`; fp32 where neither says one), and `NAME.cpu.onnx`.
///
/// # Errors
/// [`RunnerError::Usage`] for a family that cannot be drafted; [`RunnerError::Pack`] when there are no ONNX files, or the folder cannot be read.
pub fn draft(dir: &Path, family: &str, id: &str) -> Result<Draft, RunnerError> {
    if !FAMILIES.contains(&family) {
        return Err(RunnerError::Usage(format!(
            "family {family:?}: manifests are drafted for {}",
            FAMILIES.join(", ")
        )));
    }
    super::check_id(id).map_err(RunnerError::Usage)?;
    let mut faults = Vec::new();
    let graphs = find(dir, &mut faults)?;
    if graphs.is_empty() {
        let text = if faults.is_empty() { "no .onnx file".to_string() } else { faults.join("; ") };
        return Err(RunnerError::Pack(format!("{}: {text}", dir.display())));
    }
    let mut unknown = vec![
        "licence: of the weights, as an SPDX expression".to_string(),
        "description: one or two sentences".to_string(),
        "provenance: checkpoint_sha256, exporter, command".to_string(),
    ];
    if family == DFINE.family {
        return Ok(detector::draft(dir, id, graphs, faults, unknown));
    }
    if family == VIDEOMT.family {
        return Ok(segmenter::draft(dir, id, graphs, faults, unknown));
    }
    let sizes = sizes(&graphs, family);
    unknown.extend([
        format!("input.mean, input.std: {} are written; the encoder may want others", normalisation(family).0),
        format!("memory.storage: {:?} is written, as released models of family {family} have it", storage(family)),
    ]);
    let golden = golden(dir);
    if golden.is_none() {
        unknown.push("golden: there is no reference/golden.json, so `jetbench verify` has nothing to compare with but the pack itself".to_string());
    }
    let text = text(&graphs, family, id, &sizes, golden);
    let manifest: Result<Manifest, _> = toml::from_str(&text);
    match manifest {
        Ok(manifest) => {
            faults.extend(manifest.check().err());
            let wanted = graphs_of(&sizes);
            let takes_masks = manifest.graph(MASK_PROMPT).is_some();
            faults.extend(requirements::faults(&manifest, if takes_masks { &wanted } else { &wanted[..4] }));
            if manifest.dtypes().is_empty() {
                faults.push("no precision has a file of every graph".to_string());
            }
        }
        Err(error) => faults.push(error.to_string()),
    }
    Ok(Draft { text, faults, unknown })
}

fn storage(family: &str) -> &'static str {
    if family == "edgetam" { "fp32" } else { "bf16_rounded" }
}

/// What released models of the family normalise pixels with: in words, mean, deviation.
fn normalisation(family: &str) -> (&'static str, [f64; 3], [f64; 3]) {
    match family {
        SAM3_FAMILY => ("0.5 and 0.5", [0.5; 3], [0.5; 3]),
        _ => ("those of ImageNet", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    }
}

/// Graph name, precision and form by a file's path; no precision is said by a plain name.
fn named(file: &str) -> (String, Option<Dtype>, bool) {
    let stem = file.rsplit('/').next().unwrap_or(file).trim_end_matches(".onnx");
    if let Some(name) = stem.strip_suffix(".cpu") {
        return (name.to_string(), Some(Dtype::Fp32), true);
    }
    for dtype in Dtype::ALL {
        for mark in ['.', '_', '-'] {
            if let Some(name) = stem.strip_suffix(&format!("{mark}{dtype}")) {
                return (name.to_string(), Some(dtype), false);
            }
        }
    }
    let folder = Dtype::ALL.into_iter().find(|dtype| file.split('/').rev().skip(1).any(|part| part == dtype.as_str()));
    (stem.to_string(), folder, false)
}

fn find(dir: &Path, faults: &mut Vec<String>) -> Result<BTreeMap<String, Forms>, RunnerError> {
    let mut graphs: BTreeMap<String, Forms> = BTreeMap::new();
    for path in whole::files_in(dir)? {
        let Some(file) = path.to_str().filter(|file| file.ends_with(".onnx")) else { continue };
        let found = match read(dir, file) {
            Ok(found) => found,
            Err(text) => {
                faults.push(format!("{file}: {text}"));
                continue;
            }
        };
        let (name, dtype, cpu) = named(file);
        let forms = graphs.entry(name.clone()).or_default();
        let other = match cpu {
            true => forms.cpu.replace(found),
            false => forms.plain.insert(dtype.unwrap_or(Dtype::Fp32), found),
        };
        if let Some(other) = other {
            faults.push(format!("{file} and {}: two files of graph `{name}` in one precision", other.file));
        }
    }
    for (name, forms) in &graphs {
        let Some(first) = forms.plain.values().next() else {
            faults.push(format!("graph `{name}`: there is only a form for the CPU"));
            continue;
        };
        for other in forms.plain.values().chain(&forms.cpu).skip(1) {
            if (&other.inputs, &other.outputs) != (&first.inputs, &first.outputs) {
                faults.push(format!(
                    "{} and {}: inputs or outputs differ, which all forms of a graph share",
                    first.file, other.file
                ));
            }
        }
    }
    graphs.retain(|_, forms| !forms.plain.is_empty());
    faults.extend(Dtype::ALL.into_iter().filter_map(|dtype| incomplete(&graphs, dtype)));
    Ok(graphs)
}

/// The graphs that lack a file of a precision which others have.
fn incomplete(graphs: &BTreeMap<String, Forms>, dtype: Dtype) -> Option<String> {
    let (has, lacks): (Vec<_>, Vec<_>) = graphs.iter().partition(|(_, forms)| forms.plain.contains_key(&dtype));
    let names: Vec<String> = lacks.iter().map(|(name, _)| format!("`{name}`")).collect();
    (!has.is_empty() && !names.is_empty()).then(|| {
        format!("{dtype}: no file of {}; a pack runs in a precision of which every graph has one", names.join(", "))
    })
}

fn read(dir: &Path, file: &str) -> Result<Found, String> {
    let bytes = files::read(&dir.join(file), files::LARGE).map_err(|e| e.to_string())?;
    let model = Model::parse(&bytes).map_err(|e| format!("no usable ONNX file: {e}"))?;
    let specs = |values: &[ValueInfo<'_>]| values.iter().map(spec).collect::<Result<Vec<_>, _>>();
    Ok(Found {
        file: file.to_string(),
        sha256: sha256_hex(&bytes),
        weights: weights::found(dir, file, &model)?,
        inputs: specs(&model.inputs)?,
        outputs: specs(&model.outputs)?,
    })
}

fn spec(value: &ValueInfo<'_>) -> Result<TensorSpec, String> {
    let name = value.name.to_string();
    let dtype = match value.dtype {
        Some(ElementType::F32) => TensorType::F32,
        Some(ElementType::I32) => TensorType::I32,
        Some(ElementType::I64) => TensorType::I64,
        other => {
            return Err(format!(
                "tensor `{name}` has type {other:?}: inputs and outputs are F32, I32 or I64, in half precisions too"
            ));
        }
    };
    let shape = value.shape.clone().ok_or_else(|| format!("tensor `{name}` has no stated shape"))?;
    Ok(TensorSpec { name, dtype, shape })
}

/// The sizes of the contract, each from the tensor that has it; where that is missing, those of the released models.
fn sizes(graphs: &BTreeMap<String, Forms>, family: &str) -> TensorSizes {
    let tensor = |graph: &str, name: &str| {
        let found = graphs.get(graph)?.plain.values().next()?;
        found.inputs.iter().chain(&found.outputs).find(|t| t.name == name)
    };
    let size =
        |graph: &str, name: &str, axis: usize, else_: i64| match tensor(graph, name).and_then(|t| t.shape.get(axis)) {
            Some(Dimension::Size(n)) => *n,
            _ => else_,
        };
    let bank = tensor(MEMORY_ATTENTION, "bank").and_then(|t| t.shape.first());
    let (image, patch) = if family == SAM3_FAMILY { (1008, 14) } else { (1024, 16) };
    let image = size(IMAGE_ENCODER, "image", 3, image);
    let grid = size(IMAGE_ENCODER, "image_embed", 2, image / patch);
    TensorSizes {
        image,
        grid,
        hidden: size(IMAGE_ENCODER, "image_embed", 1, 256),
        frames: size(MEMORY_ATTENTION, "bank", 1, 7),
        tokens: size(MEMORY_ATTENTION, "bank", 2, grid * grid),
        channels: size(MEMORY_ATTENTION, "bank", 3, 64),
        pointers: size(MEMORY_ATTENTION, "ptrs", 1, 16),
        points: size(MASK_DECODER, "point_coords", 1, 4),
        batched: bank.is_none_or(|axis| *axis == Dimension::Dynamic(OBJECTS.to_string())),
        finer: family != COARSE_FAMILY,
    }
}

/// Tolerance of the golden reference that lies in the pack.
fn golden(dir: &Path) -> Option<f64> {
    let text = files::read_text(&dir.join("reference/golden.json"), files::SMALL).ok()?;
    serde_json::from_str::<serde_json::Value>(&text).ok()?["tolerance"]["low_res"].as_f64()
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_string()).to_string()
}

fn text(graphs: &BTreeMap<String, Forms>, family: &str, id: &str, s: &TensorSizes, golden: Option<f64>) -> String {
    let kinds =
        if graphs.contains_key(MASK_PROMPT) { r#"["points", "bbox", "mask"]"# } else { r#"["points", "bbox"]"# };
    let (_, mean, std) = normalisation(family);
    let mut text = format!(
        "schema = 1\nid = {}\nfamily = {}\ndescription = \"\"\nlicence = \"\"\n\n[provenance]\ncheckpoint_sha256 = \"\"\nexporter = \"\"\n\
         command = \"\"\n\n[input]\nsize = {}\nresize = \"bilinear_antialias_u8\"\ncolour = \"rgb\"\nmean = {mean:?}\n\
         std = {std:?}\n\n[memory]\nframes = {}\ntokens_per_frame = {}\nchannels = {}\npointers = {}\nstorage = \"{}\"\n\n\
         [prompts]\nkinds = {kinds}\npoint_slots = {}\n",
        quoted(id),
        quoted(family),
        s.image,
        s.frames,
        s.tokens,
        s.channels,
        s.pointers,
        storage(family),
        s.points
    );
    graphs.iter().for_each(|(name, forms)| put_graph(&mut text, name, forms));
    for name in ["bank", "ptrs", "age"] {
        let _ = write!(text, "\n[[state]]\ninput = \"{name}\"\noutput = \"{name}_out\"\n");
    }
    if let Some(tolerance) = golden {
        let _ = write!(text, "\n[golden]\nindex = \"reference/golden.json\"\ntolerance = {tolerance:?}\n");
    }
    text
}

/// Writes a graph with its files.
fn put_graph(text: &mut String, name: &str, forms: &Forms) {
    let Some(first) = forms.plain.values().next() else { return };
    let table = |of: fn(&Found) -> &str| {
        let items: Vec<String> =
            forms.plain.iter().map(|(dtype, found)| format!("{dtype} = {}", quoted(of(found)))).collect();
        items.join(", ")
    };
    let _ = write!(
        text,
        "\n[[graph]]\nname = {}\nfiles = {{ {} }}\nsha256 = {{ {} }}\n",
        quoted(name),
        table(|f| &f.file),
        table(|f| &f.sha256)
    );
    let apart: Vec<String> = forms
        .plain
        .iter()
        .filter(|(_, found)| !found.weights.is_empty())
        .map(|(dtype, found)| format!("{dtype} = {}", weight_files(&found.weights)))
        .collect();
    if !apart.is_empty() {
        let _ = writeln!(text, "weights = {{ {} }}", apart.join(", "));
    }
    if let Some(cpu) = &forms.cpu {
        let weights = match cpu.weights.is_empty() {
            true => String::new(),
            false => format!(", weights = {}", weight_files(&cpu.weights)),
        };
        let (file, sha256) = (quoted(&cpu.file), quoted(&cpu.sha256));
        let _ = writeln!(text, "cpu = {{ file = {file}, sha256 = {sha256}{weights} }}");
    }
    let _ = writeln!(text, "inputs = [\n{}]\noutputs = [\n{}]", tensors(&first.inputs), tensors(&first.outputs));
}

fn weight_files(list: &[WeightFile]) -> String {
    let one = |w: &WeightFile| format!("{{ file = {}, sha256 = {} }}", quoted(&w.file), quoted(&w.sha256));
    format!("[{}]", list.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn tensors(list: &[TensorSpec]) -> String {
    let axis = |axis: &Dimension| match axis {
        Dimension::Size(n) => n.to_string(),
        Dimension::Dynamic(name) => quoted(name),
    };
    let one = |t: &TensorSpec| {
        let shape: Vec<String> = t.shape.iter().map(axis).collect();
        let dtype = format!("{:?}", t.dtype).to_lowercase();
        format!("    {{ name = {}, dtype = \"{dtype}\", shape = [{}] }},\n", quoted(&t.name), shape.join(", "))
    };
    list.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::Pack;

    fn shipped(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/packs").join(name)
    }

    /// A copy of a shipped pack's graphs, with an edit of where they lie.
    fn copy(name: &str, edit: impl Fn(&str) -> Option<String>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in whole::files_in(&shipped(name)).unwrap() {
            let file = file.to_str().unwrap();
            if let Some(to) = edit(file) {
                let to = root.path().join(to);
                std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                std::fs::copy(shipped(name).join(file), to).unwrap();
            }
        }
        root
    }

    #[test]
    fn the_draft_of_a_shipped_pack_says_what_its_manifest_says() {
        for (name, family) in [("sam2_mini", "sam2"), ("edgetam_mini", "edgetam")] {
            let made = draft(&shipped(name), family, name).unwrap();
            assert_eq!(made.faults, Vec::<String>::new());
            let found: Manifest = toml::from_str(&made.text).unwrap();
            let wanted = Pack::read(&shipped(name)).unwrap().manifest;
            let mut graphs = wanted.graphs.clone();
            graphs.sort_by(|a, b| a.name.cmp(&b.name));
            assert_eq!(found.graphs, graphs);
            assert_eq!((found.input, found.memory, found.prompts), (wanted.input, wanted.memory, wanted.prompts));
            assert_eq!((found.states, found.golden.map(|g| g.index)), (wanted.states, wanted.golden.map(|g| g.index)));
            assert!(made.unknown.iter().any(|text| text.starts_with("licence")));
            assert!(!made.unknown.iter().any(|text| text.starts_with("golden")));
        }
    }

    #[test]
    fn a_draft_has_the_normalisation_of_its_family() {
        for (family, mean, words) in [("sam2", 0.485, "of ImageNet"), ("sam3_tracker", 0.5, "0.5 and 0.5")] {
            let made = draft(&shipped("sam2_mini"), family, "p").unwrap();
            let found: Manifest = toml::from_str(&made.text).unwrap();
            assert_eq!((found.input.mean[0], found.input.size), (mean, 256), "{family}");
            assert!(made.unknown.iter().any(|line| line.contains(words)), "{:?}", made.unknown);
        }
    }

    #[test]
    fn weights_beside_graphs_are_stated_with_their_digests() {
        let root = copy("edgetam_mini", |file| file.ends_with(".onnx").then(|| file.to_string()));
        let (mut apart, mut lost) = (0, String::new());
        // The CPU form of memory attention takes weights from the plain graph's file, as it was.
        let form = root.path().join("fp32/memory_attention.cpu.onnx");
        for file in whole::files_in(root.path()).unwrap() {
            if root.path().join(&file) == form {
                continue;
            }
            let (at, name) = (root.path().join(&file), file.file_name().unwrap().to_str().unwrap().to_string());
            let whole = std::fs::read(&at).unwrap();
            let Some(light) = Model::parse(&whole).unwrap().with_references(&format!("{name}.data")).unwrap() else {
                continue;
            };
            std::fs::rename(&at, root.path().join(format!("{}.data", file.display()))).unwrap();
            std::fs::write(&at, light).unwrap();
            apart += 1;
            lost = file.display().to_string();
        }
        assert!(apart > 5, "{apart}");
        let moved = draft(root.path(), "edgetam", "apart").unwrap().faults.concat();
        assert!(moved.contains("of memory_attention.onnx, where that graph has no constant of its length"), "{moved}");
        std::fs::remove_file(form).unwrap();
        let made = draft(root.path(), "edgetam", "apart").unwrap();
        assert_eq!(made.faults, Vec::<String>::new());
        std::fs::write(root.path().join("pack.toml"), &made.text).unwrap();
        let pack = Pack::read(root.path()).unwrap();
        let stated = pack.manifest.graphs.iter().flat_map(|g| g.forms()).map(|form| form.weights.len()).sum::<usize>();
        assert_eq!(stated, apart);
        pack.manifest.dtypes().into_iter().for_each(|dtype| pack.check(dtype).unwrap());
        std::fs::remove_file(root.path().join(format!("{lost}.data"))).unwrap();
        let fault = draft(root.path(), "edgetam", "apart").unwrap().faults.concat();
        assert!(fault.contains(&format!("is kept in {lost}.data: No such file")), "{fault}");
    }

    #[test]
    fn names_tell_the_precision_as_folders_do() {
        let flat = copy("edgetam_mini", |file| {
            let (dtype, name) = file.split_once('/')?;
            let name = name.strip_suffix(".onnx")?;
            Some(match dtype {
                "fp32" => format!("{name}.onnx"),
                "fp16" => format!("{name}_fp16.onnx"),
                _ => format!("{name}.bf16.onnx"),
            })
        });
        let made = draft(flat.path(), "edgetam", "flat").unwrap();
        assert_eq!(made.faults, Vec::<String>::new());
        let manifest: Manifest = toml::from_str(&made.text).unwrap();
        assert_eq!(manifest.dtypes(), [Dtype::Fp32, Dtype::Fp16, Dtype::Bf16]);
        assert!(made.unknown.iter().any(|text| text.starts_with("golden")));
    }

    #[test]
    fn everything_that_is_missing_is_listed_at_once() {
        let odd = copy("edgetam_mini", |file| match file {
            "fp32/image_encoder.onnx" | "fp32/mask_decoder.onnx" => Some(file.to_string()),
            "fp32/memory_encoder.onnx" => Some("fp32/encoder_of_memory.onnx".to_string()),
            "fp32/mask_prompt.onnx" => Some("fp16/mask_decoder.onnx".to_string()),
            _ => None,
        });
        std::fs::write(odd.path().join("broken.onnx"), "broken").unwrap();
        let made = draft(odd.path(), "edgetam", "odd").unwrap();
        for part in [
            "broken.onnx: no usable ONNX file",
            "graph `memory_attention` is missing",
            "graph `memory_encoder` is missing",
            "graph `encoder_of_memory` has no place in family `edgetam`",
            "inputs or outputs differ",
        ] {
            assert!(made.faults.iter().any(|fault| fault.contains(part)), "{part}: {:#?}", made.faults);
        }
        assert!(draft(odd.path(), "mock", "odd").is_err());
        assert!(draft(odd.path(), "sam2", "../odd").is_err());
        assert!(
            draft(tempfile::tempdir().unwrap().path(), "sam2", "x").unwrap_err().to_string().contains("no .onnx file")
        );
    }
}
