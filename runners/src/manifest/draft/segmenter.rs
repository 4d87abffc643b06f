//! The manifest of a video segmenter from its ONNX file: every size is read from the graph's tensors, by their names.

use std::collections::BTreeMap;
use std::path::Path;

use super::detector::{class_names, list, only, put_golden};
use super::{Draft, Forms, put_graph, quoted};
use crate::manifest::Manifest;
use crate::onnx::Dimension;
use crate::requirements;
use crate::segment::contract::{IMAGE, LOGITS, QUERIES, SEGMENTER, VIDEOMT, requirement, sizes_of};

/// Names of the graph where there are several.
const USUAL: [&str; 2] = [SEGMENTER, "model"];

pub(super) fn draft(
    dir: &Path,
    id: &str,
    mut graphs: BTreeMap<String, Forms>,
    mut faults: Vec<String>,
    mut unknown: Vec<String>,
) -> Draft {
    let forms = only(&mut graphs, "a video segmenter", &USUAL, &mut faults, &mut unknown);
    let first = forms.plain.values().next();
    let size = |name: &str, axis: usize| {
        let tensor = first.iter().flat_map(|found| found.inputs.iter().chain(&found.outputs)).find(|t| t.name == name);
        match tensor.and_then(|tensor| tensor.shape.get(axis)) {
            Some(Dimension::Size(n)) => (*n).max(0),
            _ => 0,
        }
    };
    // What the graph leaves open is 0 here and a fault below: its axes are fixed, so there is nothing to guess.
    let (side, queries, classes) = (size(IMAGE, 3), size(QUERIES.0, 1), (size(LOGITS, 2) - 1).max(0));
    let classes = class_names(dir, classes, "segmenter.classes", &mut unknown);
    unknown.push("input.mean, input.std: those of ImageNet are written, as released models have them".to_string());
    let mut text = format!(
        "schema = 1\nid = {}\nfamily = \"{}\"\ndescription = \"\"\nlicence = \"\"\n\n[provenance]\ncheckpoint_sha256 = \"\"\nexporter = \"\"\n\
         command = \"\"\n\n[input]\nsize = {side}\nresize = \"bilinear_antialias_u8\"\ncolour = \"rgb\"\nmean = [0.485, 0.456, 0.406]\n\
         std = [0.229, 0.224, 0.225]\n\n[segmenter]\nqueries = {queries}\nclasses = [{}]\n",
        quoted(id),
        VIDEOMT.family,
        list(&classes)
    );
    put_graph(&mut text, SEGMENTER, &forms);
    text.push_str(&format!("\n[[state]]\ninput = \"{}\"\noutput = \"{}\"\n", QUERIES.0, QUERIES.1));
    put_golden(dir, &mut text, &mut unknown);
    faults.extend(faults_of(&text));
    Draft { text, faults, unknown }
}

/// What keeps a drafted video segmenter from running.
fn faults_of(text: &str) -> Vec<String> {
    let manifest: Manifest = match toml::from_str(text) {
        Ok(manifest) => manifest,
        Err(error) => return vec![error.to_string()],
    };
    let mut faults: Vec<String> = manifest.check().err().into_iter().collect();
    if let (Some(graph), Some(segmenter)) = (manifest.graph(SEGMENTER), &manifest.segmenter) {
        let wanted = requirement(&sizes_of(graph, segmenter, manifest.input.size));
        faults.extend(requirements::faults(&manifest, &[wanted]));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::super::draft;
    use super::*;
    use crate::pack::Pack;
    use crate::segment::tests::write;
    use crate::types::{Device, Dtype};

    /// The draft for the graph of a drawn pack, which is found under another name.
    fn drafted(edit: impl Fn(Vec<u8>) -> Vec<u8>, config: Option<&str>) -> (tempfile::TempDir, Draft) {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), |text| text);
        std::fs::remove_file(dir.path().join("pack.toml")).unwrap();
        let graph = edit(std::fs::read(dir.path().join("s.onnx")).unwrap());
        std::fs::remove_file(dir.path().join("s.onnx")).unwrap();
        std::fs::write(dir.path().join("model.onnx"), graph).unwrap();
        if let Some(text) = config {
            std::fs::write(dir.path().join("config.json"), text).unwrap();
        }
        let made = draft(dir.path(), "videomt", "mine").unwrap();
        std::fs::write(dir.path().join("pack.toml"), &made.text).unwrap();
        (dir, made)
    }

    #[test]
    fn a_graph_of_the_family_becomes_a_pack() {
        let labels = r#"{"id2label": {"0": "cat", "1": "dog"}}"#;
        let (dir, made) = drafted(|graph| graph, Some(labels));
        assert_eq!(made.faults, Vec::<String>::new());
        let info = crate::packs::describe(dir.path(), Device::Cpu).unwrap();
        assert!(info.finds_and_tracks());
        assert_eq!(info.classes, ["cat", "dog"]);
        crate::packs::check(dir.path(), Dtype::Fp32).unwrap();
        let manifest = Pack::read(dir.path()).unwrap().manifest;
        assert_eq!((manifest.input.size, manifest.segmenter.unwrap().queries), (16, 2));
        assert!(made.unknown.iter().any(|text| text.starts_with("golden: there is no reference/index.json")));
        let (_, made) = drafted(|graph| graph, None);
        assert!(made.unknown.iter().any(|text| text.starts_with("segmenter.classes: names; numbers")));
        assert!(made.text.contains("classes = [\"class 0\", \"class 1\"]"), "{}", made.text);
    }

    #[test]
    fn what_is_no_video_segmenter_is_said_at_once() {
        let renamed = |graph: Vec<u8>| {
            let text: Vec<u8> = graph;
            let at = |from: &[u8], bytes: &[u8]| bytes.windows(from.len()).position(|part| part == from);
            let (from, to) = (b"queries_out", b"queries_new");
            let mut bytes = text;
            while let Some(place) = at(from, &bytes) {
                bytes[place..place + from.len()].copy_from_slice(to);
            }
            bytes
        };
        let (_, made) = drafted(renamed, None);
        for part in ["output `queries_out` is missing", "`queries_new` has no place"] {
            assert!(made.faults.iter().any(|fault| fault.contains(part)), "{part}: {:?}", made.faults);
        }
    }
}
