//! Detectors drawn by hand, in every layout: what comes out is known beforehand. The tests need ONNX Runtime.

use super::contract::DFINE;
use super::*;
use crate::digest::sha256_hex;
use crate::manifest::FILE_NAME;
use crate::onnx::{ElementType, build};
use crate::runner::RunnerError;
use crate::types::{Device, Dtype, Frame, OpenRequest, Options};
use std::path::Path;

/// Boxes of the three queries of [`write`]: shares.
pub const BOXES: [f32; 12] = [0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.5, 0.5, 0.75, 0.5, 0.25, 0.5];
/// Logits of its queries on a black frame, two classes each; red adds as much to the first class as its share of white.
pub const LOGITS: [f32; 6] = [-2.0, 1.0, 0.0, -0.5, -3.0, -4.0];

fn raw(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn longs(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A graph whose logits follow the mean red of the image; `names` of image, logits and boxes.
fn graph(names: [&str; 3]) -> Vec<u8> {
    let [image, logits, boxes] = names;
    build::model(
        8,
        17,
        &[
            (1, build::node("GlobalAveragePool", &[image], &["mean"], &[])),
            (1, build::node("Reshape", &["mean", "row"], &["colour"], &[])),
            (1, build::node("MatMul", &["colour", "weights"], &["moved"], &[])),
            (1, build::node("Add", &["moved", "offsets"], &[logits], &[])),
            (1, build::node("MatMul", &["colour", "nothing"], &["still"], &[])),
            (1, build::node("Add", &["still", "places"], &[boxes], &[])),
            (5, build::initializer("row", ElementType::I64, &[3], &longs(&[1, 1, 3]))),
            (5, build::initializer("weights", ElementType::F32, &[3, 2], &raw(&[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]))),
            (5, build::initializer("nothing", ElementType::F32, &[3, 4], &raw(&[0.0; 12]))),
            (5, build::initializer("offsets", ElementType::F32, &[1, 3, 2], &raw(&LOGITS))),
            (5, build::initializer("places", ElementType::F32, &[1, 3, 4], &raw(&BOXES))),
            (11, build::value_info(image, ElementType::F32, &[1, 3, 16, 16])),
            (12, build::value_info(logits, ElementType::F32, &[1, 3, 2])),
            (12, build::value_info(boxes, ElementType::F32, &[1, 3, 4])),
        ],
    )
}

/// The same boxes and scores of 0.5 as the official exporter gives them; classes 0, 1 and `last`.
fn official(last: i64) -> Vec<u8> {
    build::model(
        8,
        17,
        &[
            (1, build::node("GlobalAveragePool", &["images"], &["mean"], &[])),
            (1, build::node("Reshape", &["mean", "row"], &["colour"], &[])),
            (1, build::node("MatMul", &["colour", "nothing"], &["still"], &[])),
            (1, build::node("Sigmoid", &["still"], &["scores"], &[])),
            (1, build::node("Cast", &["orig_target_sizes"], &["size"], &[("to", 1)])),
            (1, build::node("Concat", &["size", "size"], &["scale"], &[("axis", 1)])),
            (1, build::node("Mul", &["places", "scale"], &["boxes"], &[])),
            (1, build::node("Identity", &["numbers"], &["labels"], &[])),
            (5, build::initializer("row", ElementType::I64, &[2], &longs(&[1, 3]))),
            (5, build::initializer("nothing", ElementType::F32, &[3, 3], &raw(&[0.0; 9]))),
            (5, build::initializer("places", ElementType::F32, &[1, 3, 4], &raw(&BOXES))),
            (5, build::initializer("numbers", ElementType::I64, &[1, 3], &longs(&[0, 1, last]))),
            (11, build::value_info("images", ElementType::F32, &[1, 3, 16, 16])),
            (11, build::value_info("orig_target_sizes", ElementType::I64, &[1, 2])),
            (12, build::value_info("labels", ElementType::I64, &[1, 3])),
            (12, build::value_info("boxes", ElementType::F32, &[1, 3, 4])),
            (12, build::value_info("scores", ElementType::F32, &[1, 3])),
        ],
    )
}

/// Writes a pack of layout `raw` with tensors of these names, after `edit` of its manifest.
pub fn write(dir: &Path, names: [&str; 3], edit: impl Fn(String) -> String) {
    let [image, logits, boxes] = names;
    let inputs = format!("{{ name = \"{image}\", dtype = \"f32\", shape = [1, 3, 16, 16] }}");
    let outputs = format!(
        "{{ name = \"{logits}\", dtype = \"f32\", shape = [1, 3, 2] }}, {{ name = \"{boxes}\", dtype = \"f32\", shape = [1, 3, 4] }}"
    );
    write_graph(dir, "raw", &graph(names), [&inputs, &outputs], edit);
}

/// Writes a pack of layout `official`; the last of its classes is `last`.
pub fn write_official(dir: &Path, last: i64) {
    let inputs = "{ name = \"images\", dtype = \"f32\", shape = [1, 3, 16, 16] }, \
                  { name = \"orig_target_sizes\", dtype = \"i64\", shape = [1, 2] }";
    let outputs = "{ name = \"scores\", dtype = \"f32\", shape = [1, 3] }, { name = \"labels\", dtype = \"i64\", shape = [1, 3] }, \
                   { name = \"boxes\", dtype = \"f32\", shape = [1, 3, 4] }";
    write_graph(dir, "official", &official(last), [inputs, outputs], |text| text);
}

fn write_graph(dir: &Path, layout: &str, onnx: &[u8], tensors: [&str; 2], edit: impl Fn(String) -> String) {
    let [inputs, outputs] = tensors;
    let text = format!(
        "schema = 1\nid = \"drawn\"\nfamily = \"dfine\"\ndescription = \"\"\nlicence = \"\"\n[provenance]\ncheckpoint_sha256 = \"\"\n\
         exporter = \"\"\ncommand = \"\"\n[input]\nsize = 16\nresize = \"bilinear_antialias_u8\"\ncolour = \"rgb\"\nmean = [0.0, 0.0, 0.0]\n\
         std = [1.0, 1.0, 1.0]\n[detector]\nlayout = \"{layout}\"\nqueries = 3\nclasses = [\"cat\", \"dog\"]\n[[graph]]\n\
         name = \"detector\"\nfiles = {{ fp32 = \"d.onnx\" }}\nsha256 = {{ fp32 = \"{}\" }}\ninputs = [{inputs}]\noutputs = [{outputs}]\n",
        sha256_hex(onnx)
    );
    std::fs::write(dir.join("d.onnx"), onnx).unwrap();
    std::fs::write(dir.join(FILE_NAME), edit(text)).unwrap();
}

/// A request for the pack in `dir` on the CPU.
pub fn request(dir: &Path) -> OpenRequest {
    OpenRequest {
        options: Options { threads: Some(1), ..Options::default() },
        ..OpenRequest::new(dir, Dtype::Fp32, Device::Cpu)
    }
}

/// Is there an ONNX Runtime? Else the test says that it is skipped.
pub fn can_run(test: &str) -> bool {
    use std::io::Write;
    crate::host::runtime::load(None).map_err(|e| writeln!(std::io::stderr(), "skipped {test}: {e}")).is_ok()
}

fn found(dir: &Path, red: u8) -> Result<Vec<Detection>, RunnerError> {
    let mut detector = Detector::open(dir, &request(dir), None, None)?;
    let rgb: Vec<u8> = [red, 0, 0].repeat(40 * 20);
    let mut found = vec![Detection { bbox: [0.0; 4], score: 9.0, label: 9 }];
    detector.detect(Frame { width: 40, height: 20, rgb: &rgb }, &mut found)?;
    Ok(found)
}

/// Names that [`write`] is called with.
pub const NAMES: [[&str; 3]; 3] = [
    ["image", "logits", "pred_boxes"],
    ["pixel_values", "logits", "pred_boxes"],
    ["images", "pred_logits", "pred_boxes"],
];

#[test]
fn every_raw_layout_gives_the_boxes_of_the_frame() {
    if !can_run("every_raw_layout_gives_the_boxes_of_the_frame") {
        return;
    }
    for names in NAMES {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), names, |text| text);
        for (red, labels, first) in [(0, [1, 0, 0], 0.731_058_6), (255, [1, 0, 0], 0.731_058_6)] {
            let found = found(dir.path(), red).unwrap();
            assert_eq!(found.iter().map(|d| d.label).collect::<Vec<_>>(), labels, "{names:?}");
            assert_eq!(found[0].bbox, [10.0, 7.5, 30.0, 12.5]);
            assert_eq!(found[2].bbox, [25.0, 5.0, 35.0, 15.0]);
            assert!((found[0].score - first).abs() < 1e-6, "{found:?}");
            // 0 and, of white's red, 1.
            let second = 1.0 / (1.0 + (-f64::from(red) / 255.0).exp());
            assert!((found[1].score - second).abs() < 1e-6, "{found:?}");
        }
        assert_eq!(crate::packs::describe(dir.path(), Device::Cpu).unwrap().classes, ["cat", "dog"]);
        crate::packs::check(dir.path(), Dtype::Fp32).unwrap();
    }
}

#[test]
fn the_official_layout_scales_to_width_and_height() {
    if !can_run("the_official_layout_scales_to_width_and_height") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    write_official(dir.path(), 1);
    let seen = found(dir.path(), 0).unwrap();
    assert_eq!(seen.iter().map(|d| (d.label, d.score)).collect::<Vec<_>>(), [(0, 0.5), (1, 0.5), (1, 0.5)]);
    assert_eq!(seen[0].bbox, [20.0, 10.0, 20.0, 5.0]);
    for wrong in [2, -1] {
        write_official(dir.path(), wrong);
        let text = found(dir.path(), 0).unwrap_err().to_string();
        assert!(text.contains(&format!("class {wrong}")) && text.contains("names 2 classes"), "{text}");
    }
}

#[test]
fn what_does_not_fit_the_family_is_named() {
    let refused = |from: &str, to: &str, parts: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), NAMES[0], |text| {
            assert!(text.contains(from), "the edit {from:?} must hit");
            text.replacen(from, to, 1)
        });
        let text = (DFINE.check)(dir.path(), Dtype::Fp32).expect_err(to).to_string();
        assert!(parts.iter().all(|part| text.contains(part)), "{from} -> {to}: {text}");
    };
    refused("queries = 3", "queries = 4", &["output `logits`", "[1, 4, 2] expected", "[1, 3, 2]"]);
    refused("\"cat\", ", "", &["output `logits`", "[1, 3, 1] expected", "[1, 3, 2]"]);
    refused("layout = \"raw\"", "layout = \"official\"", &["input `orig_target_sizes` is missing"]);
    refused("name = \"detector\"", "name = \"yolo\"", &["graph `detector` is missing"]);
    refused("\"pred_boxes\", dtype = \"f32\"", "\"pred_boxes\", dtype = \"i64\"", &["`pred_boxes`", "F32", "I64"]);
    refused("\"pred_boxes\"", "\"bboxes\"", &["output `pred_boxes` is missing"]);
    refused("\"image\"", "\"input\"", &["input `image` is missing"]);
    refused("size = 16", "size = 32", &["input `image`", "[1, 3, 32, 32] expected"]);
    let text = |edit: fn(String) -> String| {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), NAMES[0], edit);
        (DFINE.describe)(dir.path(), Device::Cpu).unwrap_err().to_string()
    };
    let without = text(|text| {
        let (head, rest) = text.split_once("[detector]").unwrap();
        let kinds = "[prompts]\nkinds = [\"bbox\"]\npoint_slots = 2\n";
        format!("{head}{kinds}{}", &rest[rest.find("[[graph]]").unwrap()..])
    });
    assert!(without.contains("pack.toml") && without.contains("[detector] is missing"), "{without}");
    let state = text(|text| text + "[[state]]\ninput = \"a\"\noutput = \"b\"\n");
    assert!(state.contains("[[state]]"), "{state}");
}

#[test]
fn alone_a_detector_tracks_nothing_and_says_how_it_is_run() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), NAMES[0], |text| text);
    let error = crate::packs::open(&request(dir.path())).err().unwrap();
    assert!(matches!(&error, RunnerError::Usage(text) if text.contains("--models sam2_drawn")), "{error}");
}
