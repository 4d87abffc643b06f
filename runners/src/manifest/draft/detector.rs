//! The manifest of a detector from its ONNX file: exporters call it as they like, so the only graph is taken whatever its name.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::{Draft, Forms, put_graph, quoted};
use crate::detect::contract::{DETECTOR, DFINE, Signature};
use crate::files;
use crate::manifest::Manifest;
use crate::onnx::Dimension;
use crate::requirements;

/// Names of the graph where there are several.
const USUAL: [&str; 2] = [DETECTOR, "model"];
/// What released models have, where the file leaves it open.
const SIZE: i64 = 640;
const QUERIES: i64 = 300;
const CLASSES: i64 = 80;
/// The index of a reference, as the exporter writes it.
const INDEX: &str = "reference/index.json";

pub(super) fn draft(
    dir: &Path,
    id: &str,
    mut graphs: BTreeMap<String, Forms>,
    mut faults: Vec<String>,
    mut unknown: Vec<String>,
) -> Draft {
    let forms = only(&mut graphs, "a detector", &USUAL, &mut faults, &mut unknown);
    let first = forms.plain.values().next();
    let tensors = || first.iter().flat_map(|found| found.inputs.iter().chain(&found.outputs));
    let official = tensors().any(|tensor| tensor.name == "orig_target_sizes");
    let mut open = Vec::new();
    let mut size = |names: &[&str], axis: usize, field: &str, usual: i64| {
        let tensor = tensors().find(|tensor| names.contains(&tensor.name.as_str()));
        match tensor.and_then(|tensor| tensor.shape.get(axis)) {
            Some(Dimension::Size(n)) => *n,
            _ => {
                open.push(format!("{field}: the file leaves it open; {usual} is written, as released models have it"));
                usual
            }
        }
    };
    let side = size(&["image", "pixel_values", "images"], 3, "input.size", SIZE);
    let queries = size(&["logits", "pred_logits", "labels"], 1, "detector.queries", QUERIES);
    let classes = size(&["logits", "pred_logits"], 2, "detector.classes", CLASSES);
    unknown.extend(open);
    let classes = class_names(dir, classes, "detector.classes", &mut unknown);
    unknown.push("input: no normalisation is written, as transformers' D-FINE has it".to_string());
    let mut text = format!(
        "schema = 1\nid = {}\nfamily = \"{}\"\ndescription = \"\"\nlicence = \"\"\n\n[provenance]\ncheckpoint_sha256 = \"\"\nexporter = \"\"\n\
         command = \"\"\n\n[input]\nsize = {side}\nresize = \"bilinear_antialias_u8\"\ncolour = \"rgb\"\nmean = [0.0, 0.0, 0.0]\n\
         std = [1.0, 1.0, 1.0]\n\n[detector]\nlayout = \"{}\"\nqueries = {queries}\nclasses = [{}]\n",
        quoted(id),
        DFINE.family,
        if official { "official" } else { "raw" },
        list(&classes)
    );
    put_graph(&mut text, DETECTOR, &forms);
    put_golden(dir, &mut text, &mut unknown);
    faults.extend(faults_of(&text));
    Draft { text, faults, unknown }
}

/// The forms of the only graph of a pack, whatever its name; of several, that with a usual name.
pub(super) fn only(
    graphs: &mut BTreeMap<String, Forms>,
    what: &str,
    usual: &[&str],
    faults: &mut Vec<String>,
    unknown: &mut Vec<String>,
) -> Forms {
    let name = match graphs.keys().next() {
        Some(only) if graphs.len() == 1 => only.clone(),
        _ => usual.iter().find(|name| graphs.contains_key(**name)).copied().unwrap_or_default().to_string(),
    };
    let names: Vec<&String> = graphs.keys().collect();
    if name.is_empty() {
        faults.push(format!("{what} is one graph, and none of {names:?} is called {}", usual.join(" or ")));
    } else if names.len() > 1 {
        unknown.push(format!("graph: `{name}` of {names:?} is taken, the other files are left out"));
    }
    graphs.remove(&name).unwrap_or_default()
}

/// Names of so many classes; numbers where no configuration names them.
pub(super) fn class_names(dir: &Path, count: i64, field: &str, unknown: &mut Vec<String>) -> Vec<String> {
    named(dir, count).unwrap_or_else(|| {
        unknown.push(format!("{field}: names; numbers are written, because there is no config.json with id2label"));
        (0..count.clamp(0, 65_536)).map(|n| format!("class {n}")).collect()
    })
}

/// Names as items of a list in TOML.
pub(super) fn list(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

/// The reference that lies in the pack.
pub(super) fn put_golden(dir: &Path, text: &mut String, unknown: &mut Vec<String>) {
    match tolerance(dir) {
        Some(tolerance) => {
            let _ = write!(text, "\n[golden]\nindex = \"{INDEX}\"\ntolerance = {tolerance:?}\n");
        }
        None => unknown.push(format!("golden: there is no {INDEX}, so `jetbench verify` has nothing to compare with")),
    }
}

/// Names of the classes, from the configuration that lies beside the weights or one folder up.
fn named(dir: &Path, count: i64) -> Option<Vec<String>> {
    let places = [dir.join("config.json"), dir.join("../config.json")];
    let text = places.iter().find_map(|path| files::read_text(path, files::SMALL).ok())?;
    let config: serde_json::Value = serde_json::from_str(&text).ok()?;
    let names: Option<Vec<String>> =
        (0..count).map(|n| Some(config["id2label"][n.to_string()].as_str()?.to_string())).collect();
    names.filter(|names| !names.is_empty() && names.len() == config["id2label"].as_object().map_or(0, |all| all.len()))
}

/// Tolerance of the reference that lies in the pack.
fn tolerance(dir: &Path) -> Option<f64> {
    let text = files::read_text(&dir.join(INDEX), files::SMALL).ok()?;
    serde_json::from_str::<serde_json::Value>(&text).ok()?["tolerance"].as_f64()
}

/// What keeps a drafted detector from running.
fn faults_of(text: &str) -> Vec<String> {
    let manifest: Manifest = match toml::from_str(text) {
        Ok(manifest) => manifest,
        Err(error) => return vec![error.to_string()],
    };
    let mut faults: Vec<String> = manifest.check().err().into_iter().collect();
    if let (Some(graph), Some(detector)) = (manifest.graph(DETECTOR), &manifest.detector) {
        let wanted = Signature::of(graph, detector, manifest.input.size).requirement();
        faults.extend(requirements::faults(&manifest, &[wanted]));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::super::draft;
    use super::*;
    use crate::detect::tests::{NAMES, write, write_official};
    use crate::manifest::DetectorLayout;
    use crate::pack::Pack;
    use crate::types::Dtype;

    /// The draft for the graph of a drawn pack, which is found under another name.
    fn drafted(put: impl Fn(&Path), name: &str, config: Option<&str>) -> (tempfile::TempDir, Draft) {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path());
        std::fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
        std::fs::rename(dir.path().join("d.onnx"), dir.path().join(name)).unwrap();
        std::fs::remove_file(dir.path().join("pack.toml")).unwrap();
        if let Some(text) = config {
            std::fs::write(dir.path().join("config.json"), text).unwrap();
        }
        let made = draft(dir.path(), "dfine", "mine").unwrap();
        std::fs::write(dir.path().join("pack.toml"), &made.text).unwrap();
        (dir, made)
    }

    #[test]
    fn detectors_of_every_layout_become_packs() {
        let labels = r#"{"id2label": {"0": "cat", "1": "dog"}}"#;
        for names in NAMES {
            let (dir, made) = drafted(|dir| write(dir, names, |text| text), "onnx/model.onnx", Some(labels));
            assert_eq!(made.faults, Vec::<String>::new(), "{names:?}");
            let info = crate::packs::describe(dir.path(), crate::types::Device::Cpu).unwrap();
            assert_eq!((info.detects, info.classes), (true, vec!["cat".to_string(), "dog".to_string()]));
            crate::packs::check(dir.path(), Dtype::Fp32).unwrap();
            let manifest = Pack::read(dir.path()).unwrap().manifest;
            assert_eq!((manifest.input.size, manifest.detector.unwrap().queries), (16, 3));
            assert!(!made.unknown.iter().any(|text| text.starts_with("detector.classes")), "{:?}", made.unknown);
        }
        let (dir, made) = drafted(|dir| write_official(dir, 1), "dfine_n_coco.onnx", None);
        assert_eq!(made.faults, Vec::<String>::new());
        assert!(made.unknown.iter().any(|text| text.starts_with("detector.classes: the file leaves it open; 80")));
        crate::packs::check(dir.path(), Dtype::Fp32).unwrap();
        assert_eq!(Pack::read(dir.path()).unwrap().manifest.detector.unwrap().layout, DetectorLayout::Official);
    }

    #[test]
    fn what_is_no_detector_is_said_at_once() {
        let (_, made) = drafted(|dir| write(dir, ["x", "logits", "boxes"], |text| text), "a.onnx", None);
        for part in ["input `image` is missing", "`x` has no place", "output `pred_boxes` is missing"] {
            assert!(made.faults.iter().any(|fault| fault.contains(part)), "{part}: {:?}", made.faults);
        }
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), NAMES[0], |text| text);
        std::fs::copy(dir.path().join("d.onnx"), dir.path().join("e.onnx")).unwrap();
        let made = draft(dir.path(), "dfine", "mine").unwrap();
        assert!(made.faults[0].contains("none of [\"d\", \"e\"] is called detector or model"), "{:?}", made.faults);
    }
}
