//! The program on small graphs that are written here. Needs NVIDIA's libraries: without `TENSORRT_RTX_LIBRARIES` these tests say that they
//! were skipped. `scripts/test-tensorrt.sh` sets it.

mod onnx;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::onnx::{BF16, FP32, deconvolution, rectifier};

/// Writes a pack of one graph, `g`, in one precision, and runs the program on it. None (with a word about it) without libraries.
fn check(name: &str, dtype: &str, graph: &[u8], more: &[&str]) -> Option<Output> {
    if std::env::var_os("TENSORRT_RTX_LIBRARIES").is_none() {
        eprintln!("skipped: TENSORRT_RTX_LIBRARIES does not name the directory of NVIDIA's libraries");
        return None;
    }
    let pack = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&pack).unwrap();
    fs::write(pack.join("g.onnx"), graph).unwrap();
    let manifest = format!("id = \"{name}\"\n[[graph]]\nname = \"g\"\nfiles = {{ {dtype} = \"g.onnx\" }}\n");
    fs::write(pack.join("pack.toml"), manifest).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tensorrt_check"));
    Some(command.arg(&pack).arg("--json").args(more).output().unwrap())
}

/// The exit code and the only graph of the answer.
fn answer(output: &Output) -> (Option<i32>, Value) {
    let text = String::from_utf8_lossy(&output.stdout);
    let mut json: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text} {output:?}"));
    (output.status.code(), json["graphs"][0].take())
}

#[test]
fn a_graph_that_the_compiler_takes_is_built() {
    let Some(output) = check("takes", "fp32", &rectifier(FP32), &[]) else { return };
    let (code, graph) = answer(&output);
    assert_eq!(code, Some(0), "{graph}");
    assert_eq!(graph["refusal"], Value::Null);
    assert_eq!(graph["network"]["output_types"]["fp32"], graph["network"]["layers"]);
    assert!(graph["engine"]["bytes"].as_u64().unwrap() > 0);
    // The listing is text of a log: where its form changes, this says so.
    let kinds = graph["engine"]["layers"].as_object().expect("the builder lists the engine's layers");
    assert!(kinds.values().any(|types| types["fp32"].as_u64() > Some(0)), "{kinds:?}");
    assert!(graph["engine"]["weight_bytes"].is_u64() && graph["engine"]["activation_bytes"].is_u64(), "{graph}");
}

#[test]
fn types_of_the_file_are_types_of_the_engine() {
    let Some(output) = check("bf16", "bf16", &rectifier(BF16), &[]) else { return };
    let (code, graph) = answer(&output);
    assert_eq!(code, Some(0), "{graph}");
    let kinds = graph["engine"]["layers"].as_object().unwrap();
    assert!(kinds.values().any(|types| types["bf16"].as_u64() > Some(0)), "{kinds:?}");
}

#[test]
fn a_transposed_convolution_in_bf16_is_refused_with_its_node() {
    let Some(output) = check("deconv", "bf16", &deconvolution(BF16), &[]) else { return };
    let (code, graph) = answer(&output);
    assert_eq!(code, Some(1), "{graph}");
    assert_eq!(graph["refusal"]["step"], "build");
    assert_eq!(graph["refusal"]["node"]["name"], "upscale");
    assert_eq!(graph["refusal"]["node"]["op"], "ConvTranspose");
    assert!(graph["refusal"]["text"].as_str().unwrap().contains("deconv"), "{graph}");
    assert_eq!(graph["engine"], Value::Null);
}

#[test]
fn the_same_in_fp32_is_built() {
    let Some(output) = check("deconv32", "fp32", &deconvolution(FP32), &[]) else { return };
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn parsing_alone_builds_nothing() {
    let Some(output) = check("parsed", "bf16", &deconvolution(BF16), &["--parse-only"]) else { return };
    let (code, graph) = answer(&output);
    assert_eq!(code, Some(0), "{graph}");
    assert!(graph["network"]["layers"].as_u64() > Some(0));
    assert_eq!(graph["engine"], Value::Null);
}

#[test]
fn what_is_no_onnx_file_is_refused_by_the_parser() {
    let Some(output) = check("text", "fp32", b"no protobuf", &[]) else { return };
    let (code, graph) = answer(&output);
    assert_eq!(code, Some(1), "{graph}");
    assert_eq!(graph["refusal"]["step"], "parse");
    assert_eq!(graph["network"], Value::Null);
}

#[test]
fn a_precision_that_no_pack_has_is_a_usage_error() {
    let Some(output) = check("none", "fp32", &rectifier(FP32), &["--dtype", "bf16"]) else { return };
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no pack has bf16"), "{output:?}");
}
