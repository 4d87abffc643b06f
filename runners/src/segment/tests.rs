//! Segmenters drawn by hand, whose answers are known beforehand. The tests that run them need ONNX Runtime.

use std::path::Path;

use super::Segmenter;
use super::contract::sizes;
use crate::digest::sha256_hex;
use crate::manifest::FILE_NAME;
use crate::onnx::{ElementType, build};
use crate::pack::Pack;
use crate::runner::{Runner, RunnerError};
use crate::types::{Device, Dtype, Frame, Mask, OpenRequest, Options, Prompt, PromptKind, PromptShape};

/// Side of the drawn frames, of the input and of the mask logits.
pub const SIDE: u32 = 16;
/// Two queries with two classes and "no object": the first is sure of class 1, the second of nothing, until its state has grown.
const FIRST: [f32; 6] = [0.0, 8.0, 0.0, 0.0, 0.0, 2.0];
/// What a frame adds to the state, which is added to the logits of the next.
const GROWS: [f32; 6] = [0.0, 0.0, 0.0, 4.0, 0.0, 0.0];

fn raw(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Added to what the colours give, so that a mask is where its colour is above one half.
const OFFSETS: [f32; 2] = [-10.0, -10.0];

/// A graph whose masks are where red and where green is above one half, and whose classes follow the state.
fn graph(offsets: [f32; 2], grows: [f32; 6]) -> Vec<u8> {
    let (side, floats) = (i64::from(SIDE), ElementType::F32);
    build::model(
        8,
        17,
        &[
            (1, build::node("Add", &["queries", "first"], &["logits"], &[])),
            (1, build::node("Add", &["queries", "grows"], &["queries_out"], &[])),
            (1, build::node("Conv", &["image", "colours", "offsets"], &["masks"], &[])),
            (5, build::initializer("first", floats, &[1, 2, 3], &raw(&FIRST))),
            (5, build::initializer("grows", floats, &[1, 2, 3], &raw(&grows))),
            (5, build::initializer("colours", floats, &[2, 3, 1, 1], &raw(&[20.0, 0.0, 0.0, 0.0, 20.0, 0.0]))),
            (5, build::initializer("offsets", floats, &[2], &raw(&offsets))),
            (11, build::value_info("image", floats, &[1, 3, side, side])),
            (11, build::value_info("queries", floats, &[1, 2, 3])),
            (12, build::value_info("logits", floats, &[1, 2, 3])),
            (12, build::value_info("masks", floats, &[1, 2, side, side])),
            (12, build::value_info("queries_out", floats, &[1, 2, 3])),
        ],
    )
}

/// Writes a pack with that graph, after `edit` of its manifest.
pub fn write(dir: &Path, edit: impl Fn(String) -> String) {
    write_graph(dir, graph(OFFSETS, GROWS), edit);
}

fn write_graph(dir: &Path, onnx: Vec<u8>, edit: impl Fn(String) -> String) {
    let tensor = |name, shape| format!("{{ name = \"{name}\", dtype = \"f32\", shape = {shape} }}");
    let text = format!(
        "schema = 1\nid = \"drawn\"\nfamily = \"videomt\"\ndescription = \"\"\nlicence = \"\"\n[provenance]\ncheckpoint_sha256 = \"\"\n\
         exporter = \"\"\ncommand = \"\"\n[input]\nsize = 16\nresize = \"bilinear_antialias_u8\"\ncolour = \"rgb\"\nmean = [0.0, 0.0, 0.0]\n\
         std = [1.0, 1.0, 1.0]\n[segmenter]\nqueries = 2\nclasses = [\"cat\", \"dog\"]\n[[graph]]\nname = \"segmenter\"\n\
         files = {{ fp32 = \"s.onnx\" }}\nsha256 = {{ fp32 = \"{}\" }}\ninputs = [{}, {}]\noutputs = [{}, {}, {}]\n\
         [[state]]\ninput = \"queries\"\noutput = \"queries_out\"\n",
        sha256_hex(&onnx),
        tensor("image", "[1, 3, 16, 16]"),
        tensor("queries", "[1, 2, 3]"),
        tensor("logits", "[1, 2, 3]"),
        tensor("masks", "[1, 2, 16, 16]"),
        tensor("queries_out", "[1, 2, 3]"),
    );
    std::fs::write(dir.join("s.onnx"), onnx).unwrap();
    std::fs::write(dir.join(FILE_NAME), edit(text)).unwrap();
}

fn request(dir: &Path, options: &[(&str, &str)]) -> OpenRequest {
    let mut all = Options::default();
    for (name, value) in options {
        all.set(name, value).unwrap();
    }
    OpenRequest { options: all, ..OpenRequest::new(dir, Dtype::Fp32, Device::Cpu) }
}

fn opened(dir: &Path, options: &[(&str, &str)]) -> Option<Segmenter> {
    match Segmenter::open(&request(dir, options), None) {
        Ok(segmenter) => Some(segmenter),
        Err(RunnerError::Environment(text)) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "skipped a test of segmenters: {text}");
            None
        }
        Err(other) => panic!("{other}"),
    }
}

/// Red from column 0 to 7, green from column 4 to 11.
pub fn rgb() -> Vec<u8> {
    (0..SIDE * SIDE)
        .flat_map(|i| {
            let x = i % SIDE;
            [if x < 8 { 255 } else { 0 }, if (4..12).contains(&x) { 255 } else { 0 }, 0]
        })
        .collect()
}

#[test]
fn a_query_is_an_object_as_long_as_it_is_sure_and_the_state_starts_anew() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), |text| text);
    let Some(mut runner) = opened(dir.path(), &[("overlaps", "exclusive")]) else { return };
    let pixels = rgb();
    let frame = Frame { width: SIDE, height: SIDE, rgb: &pixels };
    let columns = |mask: &Mask| (0..SIDE).filter(|x| mask.get(*x, 5)).collect::<Vec<_>>();
    for pass in 0..2 {
        let first = runner.step(frame, &[]).unwrap().objects;
        assert_eq!(first.iter().map(|o| o.object).collect::<Vec<_>>(), [1], "pass {pass}");
        assert_eq!(columns(&first[0].mask), (0..8).collect::<Vec<_>>());
        // Class 1 of the first query: 1 / (1 + 2 e^-8); its mask is as good as sure.
        let score = 1.0 / (1.0 + 2.0 * (-8f64).exp()) / (1.0 + (-10f64).exp());
        let logit = (score / (1.0 - score)).ln();
        assert!((f64::from(first[0].object_score) - logit).abs() < 1e-3, "{} is not {logit}", first[0].object_score);
        let second = runner.step(frame, &[]).unwrap().objects;
        assert_eq!(second.iter().map(|o| o.object).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(columns(&second[1].mask), (4..12).collect::<Vec<_>>(), "the last query is painted last");
        assert_eq!(columns(&second[0].mask), (0..4).collect::<Vec<_>>());
        let dark = vec![0; pixels.len()];
        let third = runner.step(Frame { rgb: &dark, ..frame }, &[]).unwrap().objects;
        assert!(third.iter().all(|o| o.mask.is_empty() && !o.claimed), "sure of their classes, and nowhere");
        let found = runner.take_tracks().unwrap();
        let tracks: Vec<_> =
            found.tracks.iter().map(|t| (t.id, t.birth, t.end, t.hits, t.label, t.confirmed)).collect();
        assert_eq!(tracks, [(1, 0, 2, 2, 1, true), (2, 1, 2, 1, 0, true)]);
        // The mean logits of the second over three frames: 0 + 4 + 8 is 12, and 2 of no object.
        let score = 4f64.exp() / (4f64.exp() + 1.0 + 2f64.exp());
        assert!((found.tracks[1].score - score).abs() < 1e-9);
        assert_eq!((found.counts.detector_frames, found.counts.detections), (3, 3));
    }
}

#[test]
fn what_the_options_say_holds() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), |text| text);
    let pixels = rgb();
    let frame = Frame { width: SIDE, height: SIDE, rgb: &pixels };
    let Some(mut kept) = opened(dir.path(), &[("overlaps", "keep"), ("query_score", "0.05")]) else { return };
    let objects = kept.step(frame, &[]).unwrap().objects;
    // 1 / (2 + e^2) of the second query's classes is 0.106.
    assert_eq!(objects.iter().map(|o| o.mask.area()).collect::<Vec<_>>(), [8 * 16, 8 * 16]);
    let prompt = Prompt { object: 1, shape: PromptShape::Bbox([0.0, 0.0, 3.0, 3.0]) };
    let text = kept.step(frame, &[prompt]).unwrap_err().to_string();
    assert!(text.contains("nobody prompts"), "{text}");
    let text = kept.step(Frame { width: 3, ..frame }, &[]).unwrap_err().to_string();
    assert!(text.contains("bytes of RGB expected"), "{text}");
}

#[test]
fn what_does_not_fit_the_family_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), |text| text);
    let info = crate::packs::describe(dir.path(), Device::Cpu).unwrap();
    assert!(info.finds_and_tracks() && !info.detects);
    let prompts = [vec![PromptKind::Detector], PromptKind::ALL.to_vec()].concat();
    assert_eq!((info.capabilities.prompts, info.capabilities.max_objects), (prompts, Some(2)));
    assert_eq!(info.classes, ["cat", "dog"]);
    assert!(info.capabilities.options.contains(&"query_score".to_string()));
    for (from, to, part) in [
        ("[segmenter]", "[detector]\nlayout = \"raw\"", "[segmenter] is missing"),
        ("queries = 2", "queries = 3", "[1, 3, 3] expected"),
        ("queries = 2", "queries = 0", "segmenter.queries = 0"),
        ("\"dog\"", "\"\"", "segmenter.classes"),
        ("output = \"queries_out\"", "output = \"q\"", "queries -> queries_out expected"),
        ("shape = [1, 2, 16, 16]", "shape = [1, 2, 16, 8]", "`masks`: F32 [1, 2, 8, 8] expected"),
        ("name = \"segmenter\"", "name = \"detector\"", "graph `segmenter` is missing"),
    ] {
        write(dir.path(), |text| {
            assert!(text.contains(from), "the edit {from:?} must hit");
            text.replacen(from, to, 1)
        });
        let text = Pack::read(dir.path()).and_then(|pack| sizes(&pack)).unwrap_err().to_string();
        assert!(text.contains(part), "{from} -> {to}: {text:?} does not say {part:?}");
    }
}

/// A mask that is no number is said of its object, and harms no other; classes that are none end the sequence, and the next starts anew.
#[test]
fn what_is_no_number_is_named_and_ends_no_other_sequence() {
    let dir = tempfile::tempdir().unwrap();
    let pixels = rgb();
    let frame = Frame { width: SIDE, height: SIDE, rgb: &pixels };
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        write_graph(dir.path(), graph([wrong, -10.0], GROWS), |text| text);
        let Some(mut runner) = opened(dir.path(), &[("overlaps", "keep")]) else { return };
        let told = |runner: &mut Segmenter| {
            let objects = runner.step(frame, &[]).unwrap().objects;
            objects.iter().map(|o| (o.object, o.finite, o.mask.area())).collect::<Vec<_>>()
        };
        assert_eq!(told(&mut runner).iter().map(|o| (o.0, o.1)).collect::<Vec<_>>(), [(1, false)], "{wrong}");
        let second = told(&mut runner);
        assert!(!second[0].1 && second[1] == (2, true, 8 * 16), "{wrong}: {second:?}");
        // What it is called and how sure that is are of its classes, which are numbers.
        assert!(runner.take_tracks().unwrap().tracks.iter().all(|track| (0.0..=1.0).contains(&track.score)));
    }
    for wrong in [f32::NAN, f32::INFINITY] {
        write_graph(dir.path(), graph(OFFSETS, [wrong; 6]), |text| text);
        let Some(mut runner) = opened(dir.path(), &[]) else { return };
        for _ in 0..2 {
            assert_eq!(runner.step(frame, &[]).unwrap().objects.len(), 1, "its state is not used yet");
            let fault = runner.step(frame, &[]).unwrap_err();
            assert!(matches!(&fault, RunnerError::Inference(text) if text.contains("no numbers")), "{fault}");
            runner.reset();
        }
    }
}

/// Frames of one pixel, of one row and of one column.
#[test]
fn masks_have_the_size_of_any_frame() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), |text| text);
    let Some(mut runner) = opened(dir.path(), &[]) else { return };
    for (width, height) in [(1, 1), (5_000, 1), (1, 5_000), (3, 2)] {
        let rgb: Vec<u8> = [255, 0, 0].repeat(width * height);
        let frame = Frame { width: width as u32, height: height as u32, rgb: &rgb };
        for _ in 0..2 {
            let mask = &runner.step(frame, &[]).unwrap().objects[0].mask;
            assert_eq!((mask.width(), mask.height(), mask.is_full()), (frame.width, frame.height, true));
        }
        runner.reset();
    }
}
