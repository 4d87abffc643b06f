use std::io::Write;

use super::*;
use crate::onnx::ElementType;
use crate::types::Options;

fn options(extra: &[(&str, &str)]) -> Options {
    let extra = extra.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    Options { extra, ..Options::default() }
}

/// ONNX Runtime; `None` without one, which is said.
fn runtime() -> Option<&'static Runtime> {
    crate::host::runtime::load(None)
        .inspect_err(|e| {
            let _ = writeln!(std::io::stderr(), "skipped a test of graphs: {e}");
        })
        .ok()
}

/// The model y = x MatMul w, with both square of `side`, and the bytes of w.
fn by_weights(side: i64, raw: &[u8]) -> Vec<u8> {
    let shape = [side, side];
    crate::onnx::build::model(
        9,
        20,
        &[
            (1, crate::onnx::build::node("MatMul", &["x", "w"], &["y"], &[])),
            (5, crate::onnx::build::initializer("w", ElementType::F32, &shape, raw)),
            (11, crate::onnx::build::value_info("x", ElementType::F32, &shape)),
            (12, crate::onnx::build::value_info("y", ElementType::F32, &shape)),
        ],
    )
}

/// A graph that no pack holds, on the CPU; `None` without ONNX Runtime.
fn opened(bytes: Vec<u8>, settings: &SessionSettings) -> Option<GraphSession> {
    attempted(bytes, settings).map(Result::unwrap)
}

/// The same, or why it cannot be had.
fn attempted(bytes: Vec<u8>, settings: &SessionSettings) -> Option<Result<GraphSession, RunnerError>> {
    let runtime = runtime()?;
    let (path, sha256) = (PathBuf::from("test.onnx"), crate::digest::sha256_hex(&bytes));
    let file = CheckedGraph { path, sha256, bytes, weights: 0, fp32_sha256: None };
    Some(GraphSession::open("g", file, settings, runtime, false, None))
}

/// Runs `y = x MatMul w` with w = [[1, 1 + 2^-9], [0, 1]] in a precision; `None` without ONNX Runtime.
fn product(precision: Dtype, dtype: ElementType, x: [f32; 4], level: &str) -> Option<([f32; 4], StagePrecision)> {
    let settings = SessionSettings::new(Device::Cpu, precision, &options(&[("optimization", level)])).unwrap();
    let mut graph = opened(crate::onnx::build::matmul(dtype), &settings)?;
    let host = Allocator::default();
    let mut input = crate::host::tensor::tensor(&host, &[2, 2]).unwrap();
    input.extract_tensor_mut().1.copy_from_slice(&x);
    let mut result = crate::host::tensor::tensor(&host, &[2, 2]).unwrap();
    let mut binding = graph.binding().unwrap();
    crate::host::tensor::input(&mut binding, "x", &input).unwrap();
    crate::host::tensor::output(&mut binding, "y", &mut result).unwrap();
    graph.run(&binding).unwrap();
    let y = result.extract_tensor().1;
    Some(([y[0], y[1], y[2], y[3]], graph.precision.clone()))
}

/// A graph that ONNX Runtime does not take is the pack's fault in every precision; of int8 it is also looked at before it is loaded.
#[test]
fn what_onnx_runtime_refuses_is_told_as_the_packs_fault() {
    let floats = ElementType::F32;
    let graph = [
        (1, crate::onnx::build::node("NoSuchOperator", &["x"], &["y"], &[])),
        (11, crate::onnx::build::value_info("x", floats, &[2, 2])),
        (12, crate::onnx::build::value_info("y", floats, &[2, 2])),
    ];
    for precision in [Dtype::Fp32, Dtype::Int8] {
        let settings = SessionSettings::new(Device::Cpu, precision, &Options::default()).unwrap();
        let Some(attempt) = attempted(crate::onnx::build::model(9, 18, &graph), &settings) else { return };
        let fault = attempt.map(drop).unwrap_err();
        assert!(
            matches!(&fault, RunnerError::Pack(text) if text.contains("cannot load graph `g` on the CPU")),
            "{precision}: {fault}"
        );
    }
}

#[test]
fn weights_mapped_from_the_file_are_the_weights() {
    let Some(runtime) = runtime() else { return };
    let side = 32usize;
    let values: Vec<f32> = (0..side * side).map(|i| i as f32 * 0.25 - 100.0).collect();
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let shape = [side as i64, side as i64];
    let bytes = by_weights(side as i64, &raw);
    let dir = tempfile::tempdir().unwrap();
    // A link into another folder, as download caches have them.
    let (path, blob) = (dir.path().join("snapshot/g.onnx"), dir.path().join("blob"));
    std::fs::write(&blob, &bytes).unwrap();
    std::fs::create_dir(dir.path().join("snapshot")).unwrap();
    std::os::unix::fs::symlink(&blob, &path).unwrap();
    let file = CheckedGraph { path, sha256: crate::digest::sha256_hex(&bytes), bytes, weights: 0, fp32_sha256: None };
    let settings = SessionSettings::new(Device::Cpu, Dtype::Fp32, &options(&[])).unwrap();
    let mut graph = GraphSession::open("g", file, &settings, runtime, false, None).unwrap();
    let mapped = graph.notes.iter().any(|note| note == "weights of `g`: mapped from its file");
    assert_eq!(mapped, runtime.maps_weights());
    let host = Allocator::default();
    let mut unit = crate::host::tensor::tensor(&host, &shape).unwrap();
    let identity = |i: usize| f32::from(u8::from(i.is_multiple_of(side + 1)));
    unit.extract_tensor_mut().1.iter_mut().enumerate().for_each(|(i, v)| *v = identity(i));
    let mut result = crate::host::tensor::tensor(&host, &shape).unwrap();
    let mut binding = graph.binding().unwrap();
    crate::host::tensor::input(&mut binding, "x", &unit).unwrap();
    crate::host::tensor::output(&mut binding, "y", &mut result).unwrap();
    graph.run(&binding).unwrap();
    assert_eq!(result.extract_tensor().1, values);
}

#[test]
fn weights_of_other_files_come_inside_for_a_runtime_that_does_not_find_them() {
    let Some(runtime) = runtime() else { return };
    let raw: Vec<u8> = (0..4096u32).map(|i| i as u8).collect();
    let bytes = by_weights(32, &raw);
    let dir = tempfile::tempdir().unwrap();
    let light_bytes = Model::parse(&bytes).unwrap().with_references("other.bin").unwrap().unwrap();
    let (path, other) = (dir.path().join("g.onnx"), dir.path().join("other.bin"));
    std::fs::write(&other, &bytes).unwrap();
    let settings = SessionSettings::new(Device::Cpu, Dtype::Fp32, &options(&[])).unwrap();
    let read = Read { name: "g", path: &path, settings: &settings, runtime, weights: 1 };
    let inside = read.with_weights(&light_bytes).unwrap();
    let model = Model::parse(&inside).unwrap();
    assert_eq!((model.external().unwrap(), model.initializers[0].raw_values()), (vec![], Some(raw.as_slice())));
    // Where they are links to elsewhere, ONNX Runtime would refuse to map them.
    let light = Model::parse(&light_bytes).unwrap();
    assert!(read.holds_weights(&light));
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::rename(&other, elsewhere.path().join("w")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("w"), &other).unwrap();
    assert!(!read.holds_weights(&light));
    let file = CheckedGraph {
        path: path.clone(),
        sha256: String::new(),
        bytes: light_bytes.clone(),
        weights: 1,
        fp32_sha256: None,
    };
    let graph = GraphSession::open("g", file, &settings, runtime, false, None).unwrap();
    assert_eq!(graph.notes, ["weights of `g`: read into the graph from a file beside it"]);
    // Cut off, or not there: said with its name.
    for length in [Some(2000), None] {
        match length {
            Some(length) => std::fs::write(&other, &bytes[..length]).unwrap(),
            None => std::fs::remove_file(&other).unwrap(),
        }
        let text = read.with_weights(&light_bytes).unwrap_err().to_string();
        assert!(text.contains("constant `w` is kept in") && text.contains("other.bin"), "{text}");
    }
    // More than protobuf can count, in a file without contents: a constant of no stated length goes on to its end.
    std::fs::File::create(&other).unwrap().set_len(1 << 32).unwrap();
    let mut huge = light_bytes.clone();
    let at = huge.windows(6).position(|word| word == b"length").unwrap();
    huge[at..at + 6].copy_from_slice(b"unsaid");
    let text = read.with_weights(&huge).unwrap_err().to_string();
    assert!(text.contains("larger than 2 GiB") && text.contains("1.23") && text.contains("packs copy"), "{text}");
}

#[test]
fn emulation_rounds_operands_and_results_and_nothing_else() {
    use half::{bf16, f16};
    let e = 2f32.powi(-9);
    let x = [1.0 + e, 300.25, 1.0 / 3.0, 7.0];
    let exact = |round: fn(f32) -> f32| {
        let (a, b, c, d, w) = (round(x[0]), round(x[1]), round(x[2]), round(x[3]), round(1.0 + e));
        // sums in f32, one rounding at the end
        [round(a), round(a * w + b), round(c), round(c * w + d)]
    };
    let plain = exact(|v| v);
    for level in ["all", "disable"] {
        let Some((y, stage)) = product(Dtype::Fp32, ElementType::F32, x, level) else { return };
        assert_eq!((y, stage.effective.as_str(), stage.kind), (plain, "fp32", Effective::Native));
        for (precision, dtype, round) in [
            (Dtype::Bf16, ElementType::BF16, (|v| bf16::from_f32(v).to_f32()) as fn(f32) -> f32),
            (Dtype::Fp16, ElementType::F16, |v| f16::from_f32(v).to_f32()),
        ] {
            let (y, stage) = product(precision, dtype, x, level).unwrap();
            assert_eq!(y, exact(round), "{precision}, optimisation {level}");
            assert_ne!(y, plain, "the case must tell the precisions apart");
            assert_eq!(stage.effective, format!("{precision} operands, fp32 accumulation, emulated"));
            assert_eq!(stage.kind, Effective::Emulated);
            assert!(stage.evidence[2].contains("2 casts to f32 before operands, 1 casts back"), "{stage:?}");
        }
    }
    // A file that is not what its folder says is reported as what it is.
    let (y, stage) = product(Dtype::Bf16, ElementType::F32, x, "all").unwrap();
    assert_eq!(y, plain);
    assert!(stage.effective.starts_with("fp32 (bf16 requested"), "{}", stage.effective);
    assert_eq!(stage.kind, Effective::Other);
}

/// `y` [1, 2, 4, 4] of a quantised `x` [1, 2, 4, 4] from: two convolutions of one value, their sum, a product and its bias; every scale is 1/8, all
/// weights are 3. `whole`: the product is quantised, too.
fn quantised(whole: bool) -> Vec<u8> {
    use crate::onnx::build::{initializer, model, node, value_info};
    let f32s = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let steps = |name: &str, from: &str| {
        let stored = format!("{name}_int8");
        [
            (1, node("QuantizeLinear", &[from, "step", "zero"], &[&stored], &[])),
            (1, node("DequantizeLinear", &[&stored, "step", "zero"], &[name], &[])),
        ]
    };
    let mut graph = Vec::new();
    for i in ["0", "1"] {
        let [x, w, sums, y] = ["xd", "wd", "s", "c"].map(|name| format!("{name}{i}"));
        graph.extend(steps(&x, "x"));
        graph.push((1, node("DequantizeLinear", &["w", "steps", "zeros"], &[&w], &[("axis", 0)])));
        graph.push((1, node("Conv", &[&x, &w], &[&sums], &[])));
        graph.extend(steps(&y, &sums));
    }
    graph.push((1, node("Add", &["c0", "c1"], &["sum"], &[])));
    if whole {
        graph.extend(steps("sumd", "sum"));
        graph.push((1, node("DequantizeLinear", &["m", "step", "zero"], &["md"], &[])));
        graph.push((1, node("MatMul", &["sumd", "md"], &["product"], &[])));
    } else {
        graph.push((1, node("MatMul", &["sum", "mf"], &["product"], &[])));
    }
    graph.push((1, node("Add", &["product", "bias"], &["y"], &[])));
    graph.extend([
        (5, initializer("w", ElementType::I8, &[2, 2, 1, 1], &[3; 4])),
        (5, initializer("m", ElementType::I8, &[4, 4], &[3; 16])),
        (5, initializer("mf", ElementType::F32, &[4, 4], &f32s(&[0.375; 16]))),
        (5, initializer("bias", ElementType::F32, &[4], &f32s(&[0.5; 4]))),
        (5, initializer("step", ElementType::F32, &[], &f32s(&[0.125]))),
        (5, initializer("steps", ElementType::F32, &[2], &f32s(&[0.125; 2]))),
        (5, initializer("zero", ElementType::I8, &[], &[0])),
        (5, initializer("zeros", ElementType::I8, &[2], &[0; 2])),
        (11, value_info("x", ElementType::F32, &[1, 2, 4, 4])),
        (12, value_info("y", ElementType::F32, &[1, 2, 4, 4])),
    ]);
    model(9, 18, &graph)
}

/// The numbers are the same in every case; what computed them is not, and the record says so.
#[test]
fn int8_is_called_native_only_where_the_optimised_graph_has_int8_kernels() {
    for (whole, level, effective, kind) in [
        (true, "all", "int8", Effective::Native),
        (true, "disable", "int8 operands, fp32 arithmetic, emulated", Effective::Emulated),
        (false, "all", "int8 and fp32 (2 of 3 MatMul, Gemm and Conv in int8)", Effective::Other),
    ] {
        let settings = SessionSettings::new(Device::Cpu, Dtype::Int8, &options(&[("optimization", level)])).unwrap();
        let Some(mut graph) = opened(quantised(whole), &settings) else { return };
        let host = Allocator::default();
        let [mut x, mut y] = [(); 2].map(|()| crate::host::tensor::tensor(&host, &[1, 2, 4, 4]).unwrap());
        // Rounds to 0.25 in steps of 1/8; a convolution gives 2 x 0.25 x 0.375, which rounds to 0.25.
        x.extract_tensor_mut().1.fill(0.27);
        let mut binding = graph.binding().unwrap();
        crate::host::tensor::input(&mut binding, "x", &x).unwrap();
        crate::host::tensor::output(&mut binding, "y", &mut y).unwrap();
        graph.run(&binding).unwrap();
        assert_eq!(y.extract_tensor().1, [4.0 * 0.5 * 0.375 + 0.5; 32], "{whole} {level}");
        let stage = &graph.precision;
        assert_eq!((stage.effective.as_str(), stage.kind), (effective, kind), "{whole} {level}: {stage:?}");
        let proof = "optimised by ONNX Runtime: ";
        assert!(stage.evidence.iter().any(|line| line.starts_with(proof)), "{stage:?}");
        assert!(
            graph.notes.iter().any(|note| note.starts_with("`CommonSubexpressionElimination` and ")),
            "{:?}",
            graph.notes
        );
    }
    // A graph that was left in fp32 as a whole.
    let settings = SessionSettings::new(Device::Cpu, Dtype::Int8, &options(&[])).unwrap();
    let Some(graph) = opened(crate::onnx::build::matmul(ElementType::F32), &settings) else { return };
    assert!(graph.precision.effective.starts_with("fp32 (int8 requested"), "{:?}", graph.precision);
    assert_eq!(graph.precision.kind, Effective::Other);
}

/// On negative numbers a pool over padded zeros gives 0 at the edge; ONNX Runtime left alone gives minus numbers there (1.31).
#[test]
fn zeros_padded_for_a_max_pool_stay_zeros() {
    let bytes = crate::onnx::padding::tests::padded(0.0, None, &["MaxPool"]);
    let settings = SessionSettings::new(Device::Cpu, Dtype::Fp32, &options(&[])).unwrap();
    let Some(ours) = opened(bytes.clone(), &settings) else { return };
    let runtime = crate::host::runtime::load(None).unwrap();
    let theirs = GraphSession::open_built("g", &bytes, &settings, runtime).unwrap();
    let pooled = |mut graph: GraphSession| {
        let host = Allocator::default();
        let [mut x, mut y] = [(); 2].map(|()| crate::host::tensor::tensor(&host, &[1, 1, 3, 3]).unwrap());
        x.extract_tensor_mut().1.copy_from_slice(&[-1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0, -8.0, -9.0]);
        let mut binding = graph.binding().unwrap();
        crate::host::tensor::input(&mut binding, "x", &x).unwrap();
        crate::host::tensor::output(&mut binding, "y0", &mut y).unwrap();
        graph.run(&binding).unwrap();
        y.extract_tensor().1.to_vec()
    };
    let right = [-1.0, -2.0, 0.0, -4.0, -5.0, 0.0, 0.0, 0.0, 0.0];
    if pooled(theirs) == right {
        let _ = writeln!(std::io::stderr(), "ONNX Runtime {} has no such fault", runtime.version);
    }
    assert!(ours.notes.iter().any(|note| note.starts_with("`Pad_Fusion` of `g`: off")), "{:?}", ours.notes);
    assert_eq!(pooled(ours), right);
}

/// Weights of attention: small whole numbers in a fixed order that looks like none.
fn noise(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729) % 1999) as f32 / 500.0 - 2.0).collect()
}

/// What a graph of one attention gives for two objects, and what its record says of it.
fn attended(
    graph: &[(u32, Vec<u8>)],
    inputs: &[(&str, &[i64])],
    result: &[i64],
    how: &str,
) -> Option<(Vec<f32>, String)> {
    let settings = SessionSettings::new(Device::Cpu, Dtype::Fp32, &options(&[("attention", how)])).unwrap();
    let mut graph = opened(crate::onnx::build::model(9, 18, graph), &settings)?;
    let host = Allocator::default();
    let mut binding = graph.binding().unwrap();
    for (seed, (name, shape)) in inputs.iter().enumerate() {
        let mut tensor = crate::host::tensor::tensor(&host, shape).unwrap();
        let values = tensor.extract_tensor_mut().1;
        match *name {
            // Of the first object every third key exists, of the second all but the last ten.
            "bias" => values.iter_mut().enumerate().for_each(|(i, bias)| {
                let exists = if i < 300 { i % 3 == 1 } else { i < 590 };
                *bias = if exists { 0.0 } else { f32::NEG_INFINITY };
            }),
            _ => values.copy_from_slice(&noise(values.len(), seed)),
        }
        crate::host::tensor::input(&mut binding, name, &tensor).unwrap();
    }
    let mut made = crate::host::tensor::tensor(&host, result).unwrap();
    crate::host::tensor::output(&mut binding, "y", &mut made).unwrap();
    graph.run(&binding).unwrap();
    let said = graph.notes.iter().find(|note| note.starts_with("attention of `g`")).cloned().unwrap_or_default();
    Some((made.extract_tensor().1.to_vec(), said))
}

#[test]
fn attention_is_the_same_however_it_is_computed() {
    use crate::onnx::build::{initializer, node, value_info, value_info_of};
    let softmax = |from: &str| node("Softmax", &[from], &["weights"], &[("axis", -1)]);
    // One head; queries that all objects share, keys of each, of which some do not exist. Rows: 300 queries, 300 keys.
    let objects = |rest: &[i64]| {
        let rest = rest.iter().map(|&n| Dimension::Size(n));
        std::iter::once(Dimension::Dynamic("objects".into())).chain(rest).collect::<Vec<_>>()
    };
    let shared = |wide: i64| {
        [
            (1, node("MatMul", &["queries", "keys"], &["scores"], &[])),
            (1, node("Add", &["scores", "bias"], &["biased"], &[])),
            (1, softmax("biased")),
            (1, node("MatMul", &["weights", "values"], &["y"], &[])),
            (11, value_info("queries", ElementType::F32, &[1, 300, 16])),
            (11, value_info_of("keys", ElementType::F32, &objects(&[16, 300]))),
            (11, value_info_of("bias", ElementType::F32, &objects(&[1, 300]))),
            (11, value_info_of("values", ElementType::F32, &objects(&[300, wide]))),
            (12, value_info_of("y", ElementType::F32, &objects(&[300, wide]))),
        ]
    };
    let (narrow, square) = (shared(8), shared(16));
    let shared_inputs: [(&str, &[i64]); 4] =
        [("queries", &[1, 300, 16]), ("keys", &[2, 16, 300]), ("bias", &[2, 1, 300]), ("values", &[2, 300, 8])];
    let mut square_inputs = shared_inputs;
    square_inputs[3].1 = &[2, 300, 16];
    // Two heads, a scale, no bias.
    let heads = [
        (1, node("MatMul", &["queries", "keys"], &["scores"], &[])),
        (1, node("Mul", &["scale", "scores"], &["scaled"], &[])),
        (1, softmax("scaled")),
        (5, initializer("scale", ElementType::F32, &[], &0.3f32.to_le_bytes())),
        (1, node("MatMul", &["weights", "values"], &["y"], &[])),
        (11, value_info("queries", ElementType::F32, &[1, 2, 256, 8])),
        (11, value_info("keys", ElementType::F32, &[1, 2, 8, 256])),
        (11, value_info("values", ElementType::F32, &[1, 2, 256, 8])),
        (12, value_info("y", ElementType::F32, &[1, 2, 256, 8])),
    ];
    let heads_inputs: [(&str, &[i64]); 3] =
        [("queries", &[1, 2, 256, 8]), ("keys", &[1, 2, 8, 256]), ("values", &[1, 2, 256, 8])];
    for (graph, inputs, result) in [
        (&narrow[..], &shared_inputs[..], &[2, 300, 8][..]),
        (&square[..], &square_inputs[..], &[2, 300, 16][..]),
        (&heads[..], &heads_inputs[..], &[1, 2, 256, 8][..]),
    ] {
        let Some((whole, said)) = attended(graph, inputs, result, "whole") else { return };
        assert_eq!(said, "");
        let spread = whole.iter().fold(0f32, |most, y| most.max(y.abs()));
        assert!(spread > 0.1, "the case must not average to nothing: {spread}");
        for (how, expected) in
            [("fused", "fused"), ("128", "for 128 queries at a time"), ("onnx", "by ONNX's Attention")]
        {
            let (y, said) = attended(graph, inputs, result, how).unwrap();
            // NVIDIA's kernels want keys and values of one width.
            let taken = how != "onnx" || result != [2, 300, 8];
            assert_eq!(
                said,
                if taken {
                    format!("attention of `g`: 1 {expected}")
                } else {
                    "attention of `g`: as in the file; attention=onnx changes nothing in it".to_string()
                }
            );
            assert!(y.iter().all(|y| y.is_finite()), "{how}: {y:?}"); // the largest of several leaves out what is no number
            let apart = whole.iter().zip(&y).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(apart < 1e-5, "{how}: {apart} apart");
        }
        // As TensorRT gets it, one row of the mask for all queries, ONNX Runtime takes the graph too; only its CPU kernel refuses to run it.
        let file = crate::onnx::build::model(9, 18, graph);
        if let Some(attended) = (Attention::Standard { spread: false }).of(&file).unwrap() {
            opened(attended.bytes, &SessionSettings::new(Device::Cpu, Dtype::Fp32, &options(&[])).unwrap()).unwrap();
        }
        // One strip holds them all: nothing is changed, and nothing is said.
        assert_eq!(attended(graph, inputs, result, "300").unwrap(), (whole, String::new()));
    }
}
