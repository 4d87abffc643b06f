//! What a graph costs, counted from its ONNX file without running it: arithmetic, bytes that must move, memory that is
//! live at once. Shapes of inner values are inferred here for the operators that exporters of these models emit (files
//! state them rarely); an operator whose result cannot be inferred is counted and named, never guessed.
//!
//! One multiplication with its addition counts as two operations, as device data sheets count. Formulas:
//!
//! | operator | floating-point operations |
//! |---|---|
//! | MatMul, Gemm | 2 x result elements x inner size |
//! | Conv | 2 x result elements x input channels / groups x kernel elements |
//! | ConvTranspose | 2 x input elements x output channels / groups x kernel elements |
//! | Attention, MultiHeadAttention | 2 x queries x keys x (width of queries + width of values), per batch entry |
//! | everything else that computes | counted apart: 1 per result element, for reductions and normalisations per input element |
//!
//! What is computed from constants alone costs nothing here: a runtime does it once, when it loads the graph.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use crate::onnx::{ElementType, Model, Node, Shapes};

/// What one run of a graph costs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Operators.
    pub nodes: usize,
    /// Numbers in the file's floating-point constants.
    pub parameters: u64,
    /// Floating-point operations in sums of products, by operator.
    pub flops: BTreeMap<String, u64>,
    /// Element-wise and reducing operations, one per element; kept apart because they are bound by memory.
    pub elementwise: u64,
    /// Bytes of all constants.
    pub weight_bytes: u64,
    /// Bytes of the inputs.
    pub input_bytes: u64,
    /// Bytes of the outputs.
    pub output_bytes: u64,
    /// Largest sum of bytes of inner values that are live at once when operators run in file order, views shared.
    /// Computed from the graph, not measured: a runtime that fuses operators needs less, one that keeps copies more.
    pub peak_activation_bytes: u64,
    /// Operator counts by type of their first floating-point or quantised operand: `MatMul` -> `bf16` -> 40.
    pub precision: BTreeMap<String, BTreeMap<String, usize>>,
    /// Operators whose result shape could not be inferred, with their number; their cost and the cost of what depends on
    /// them is missing from the figures above.
    pub unknown: BTreeMap<String, usize>,
}

impl Cost {
    /// All floating-point operations in sums of products.
    pub fn total_flops(&self) -> u64 {
        self.flops.values().fold(0, |n, &flops| n.saturating_add(flops))
    }

    /// Operators that are missing from the figures.
    pub fn uncounted(&self) -> usize {
        self.unknown.values().sum()
    }

    /// Bytes that must move at the least: every constant, input and output once.
    pub fn minimal_bytes(&self) -> u64 {
        self.weight_bytes.saturating_add(self.input_bytes).saturating_add(self.output_bytes)
    }
}

/// Counts what one run of `model` costs when every axis called `name` has the size that `axis` gives for it, and the inputs
/// on which shapes depend have these `values`.
pub fn count<'a>(model: &Model<'a>, axis: &dyn Fn(&str) -> Option<i64>, values: &[(&'a str, i64)]) -> Cost {
    let (types, operands) = (model.types(), model.operand_types());
    let mut shapes = Shapes::new(model, axis);
    for &(name, value) in values {
        let count = shapes.elements(name).unwrap_or(1).min(64) as usize;
        shapes.values.insert(name, vec![value; count]);
    }
    let mut cost = Cost { nodes: model.nodes.len(), ..Cost::default() };
    // Scales and zero points of quantised values are no parameters.
    let steps: BTreeSet<&str> = model
        .nodes
        .iter()
        .filter(|node| matches!(node.op, "QuantizeLinear" | "DequantizeLinear"))
        .flat_map(|node| node.inputs.iter().skip(1).copied())
        .collect();
    for constant in &model.initializers {
        cost.weight_bytes =
            cost.weight_bytes.saturating_add(constant.elements().saturating_mul(constant.dtype.bytes()));
        let weight =
            matches!(constant.dtype, ElementType::F32 | ElementType::F16 | ElementType::BF16 | ElementType::I8);
        if weight && !steps.contains(constant.name) {
            cost.parameters = cost.parameters.saturating_add(constant.elements());
        }
    }
    let bytes_of = |shapes: &Shapes<'_>, name: &str| {
        shapes.elements(name).zip(types.get(name)).map_or(0, |(n, t)| n.saturating_mul(t.bytes()))
    };
    let constants = model.constants();
    for node in &model.nodes {
        let inferred = shapes.infer(node);
        if node.outputs.first().is_some_and(|name| constants.contains(name)) {
            continue; // computed once, when the graph is loaded
        }
        if !inferred {
            *cost.unknown.entry(node.op.to_string()).or_default() += 1;
            continue;
        }
        match flops(node, &shapes) {
            Some(n) => {
                let sum = cost.flops.entry(node.op.to_string()).or_default();
                *sum = sum.saturating_add(n);
            }
            None => cost.elementwise = cost.elementwise.saturating_add(elementwise(node, &shapes)),
        }
        let counts = |t: &&ElementType| t.is_half() || [ElementType::F32, ElementType::I8].contains(*t);
        let float = node.inputs.iter().filter_map(|name| operands.get(name)).find(counts);
        if let Some(dtype) = float {
            *cost.precision.entry(node.op.to_string()).or_default().entry(dtype.to_string()).or_default() += 1;
        }
    }
    cost.input_bytes = model.inputs.iter().fold(0, |n, v| n.saturating_add(bytes_of(&shapes, v.name)));
    cost.output_bytes = model.outputs.iter().fold(0, |n, v| n.saturating_add(bytes_of(&shapes, v.name)));
    cost.peak_activation_bytes = peak(model, |name| bytes_of(&shapes, name));
    cost
}

/// Operators that give their first input back under another shape, and the one behind which an int8 kernel reads its input; no bytes of their
/// own.
const VIEWS: [&str; 7] = ["Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout", "DequantizeLinear"];

/// Largest sum of live inner values. A value lives from the operator that makes it to the last one that reads it; a view
/// lives in the value it looks at.
fn peak(model: &Model<'_>, bytes: impl Fn(&str) -> u64) -> u64 {
    let mut owner: HashMap<&str, &str> = HashMap::new();
    let mut last_use: HashMap<&str, usize> = HashMap::new();
    for (i, node) in model.nodes.iter().enumerate() {
        for name in node.inputs.iter().filter(|name| !name.is_empty()) {
            last_use.insert(owner.get(name).copied().unwrap_or(name), i);
        }
        if node.is_standard()
            && VIEWS.contains(&node.op)
            && let (Some(from), Some(to)) = (node.inputs.first(), node.outputs.first())
        {
            owner.insert(to, owner.get(from).copied().unwrap_or(from));
        }
    }
    for output in &model.outputs {
        last_use.insert(owner.get(output.name).copied().unwrap_or(output.name), usize::MAX);
    }
    let given: BTreeSet<&str> =
        model.inputs.iter().map(|v| v.name).chain(model.initializers.iter().map(|i| i.name)).collect();
    let (mut live, mut peak) = (0u64, 0u64);
    for (i, node) in model.nodes.iter().enumerate() {
        for name in node.outputs.iter().filter(|name| !name.is_empty() && !owner.contains_key(*name)) {
            live = live.saturating_add(bytes(name));
        }
        peak = peak.max(live);
        let read: BTreeSet<&str> = node.inputs.iter().map(|name| owner.get(name).copied().unwrap_or(name)).collect();
        let unread =
            node.outputs.iter().copied().filter(|name| !owner.contains_key(name) && !last_use.contains_key(name));
        let ended = read.into_iter().filter(|name| !given.contains(name) && last_use.get(name) == Some(&i));
        for name in ended.chain(unread) {
            live = live.saturating_sub(bytes(name));
        }
    }
    peak
}

/// Operations of sums of products; `None` for operators of another kind.
fn flops(node: &Node<'_>, shapes: &Shapes<'_>) -> Option<u64> {
    let shape = |i: usize| node.inputs.get(i).and_then(|name| shapes.get(name));
    let result = node.outputs.first().and_then(|name| shapes.elements(name))?;
    let product = |sizes: &[i64]| sizes.iter().map(|&n| n.max(0) as u64).fold(1u64, u64::saturating_mul);
    let doubled = |n: u64, per: u64| n.saturating_mul(per).saturating_mul(2);
    match node.op {
        "MatMul" if node.is_standard() => Some(doubled(result, *shape(0)?.last()? as u64)),
        "Gemm" => {
            let a = shape(0)?;
            let inner = if node.integer("transA", 0) == 0 { a.get(1)? } else { a.first()? };
            Some(doubled(result, *inner as u64))
        }
        "Conv" => Some(doubled(result, product(shape(1)?.get(1..)?))),
        "ConvTranspose" => Some(doubled(product(shape(0)?), product(shape(1)?.get(1..)?))),
        "Attention" | "MultiHeadAttention" => {
            let (q, k, v) = (shape(0)?, shape(1)?, shape(2)?);
            let (last, second) = (|s: &[i64]| s.last().copied(), |s: &[i64]| s.len().checked_sub(2).map(|i| s[i]));
            let batch = product(&q[..q.len().checked_sub(2)?]);
            let pairs = (second(q)? as u64).saturating_mul(second(k)? as u64);
            Some(doubled(batch.saturating_mul(pairs), (last(q)? + last(v)?) as u64))
        }
        _ => None,
    }
}

/// Operators that move values or look at shapes, and compute nothing.
const MOVERS: [&str; 18] = [
    "Constant",
    "ConstantOfShape",
    "Shape",
    "Transpose",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Identity",
    "Concat",
    "Slice",
    "Split",
    "Gather",
    "GatherND",
    "Expand",
    "Tile",
    "Pad",
    "Cast",
];

fn elementwise(node: &Node<'_>, shapes: &Shapes<'_>) -> u64 {
    if MOVERS.contains(&node.op) {
        return 0;
    }
    let of = |names: &[&str]| names.iter().filter_map(|name| shapes.elements(name)).max().unwrap_or(0);
    // A reduction reads more than it writes, an upsampling writes more than it reads.
    of(&node.inputs[..node.inputs.len().min(1)]).max(of(&node.outputs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{Dimension, build};

    fn infer(fields: &[(u32, Vec<u8>)], objects: i64) -> Cost {
        let bytes = build::model(9, 20, fields);
        count(&Model::parse(&bytes).unwrap(), &|name| (name == "objects").then_some(objects), &[])
    }

    /// `y = x MatMul w`, [64, 64] each, with both operands quantised.
    #[test]
    fn a_quantised_product_has_weights_of_a_byte_and_its_steps_are_no_parameters() {
        let cost = infer(
            &[
                (1, build::node("QuantizeLinear", &["x", "s", "z"], &["xq"], &[])),
                (1, build::node("DequantizeLinear", &["xq", "s", "z"], &["xd"], &[])),
                (1, build::node("DequantizeLinear", &["w", "ss", "zz"], &["wd"], &[("axis", 1)])),
                (1, build::node("MatMul", &["xd", "wd"], &["y"], &[])),
                (5, build::initializer("w", ElementType::I8, &[64, 64], &[1; 4096])),
                (5, build::initializer("z", ElementType::I8, &[], &[0])),
                (5, build::initializer("zz", ElementType::I8, &[64], &[0; 64])),
                f32s("ss", &[64]),
                f32s("s", &[]),
                value(11, "x", &[64, 64]),
                value(12, "y", &[64, 64]),
            ],
            1,
        );
        assert_eq!((cost.flops["MatMul"], cost.parameters, cost.uncounted()), (2 * 64 * 64 * 64, 4096, 0));
        assert_eq!(cost.weight_bytes, 4096 + 1 + 64 + 4 * 65);
        assert_eq!(cost.precision["MatMul"].iter().collect::<Vec<_>>(), [(&"i8".to_string(), &1)]);
        assert_eq!(cost.peak_activation_bytes, 4096 + 4 * 4096, "the quantised operand and the result");
    }

    fn i64s(name: &str, values: &[i64]) -> (u32, Vec<u8>) {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        (5, build::initializer(name, ElementType::I64, &[values.len() as i64], &raw))
    }

    fn f32s(name: &str, dims: &[i64]) -> (u32, Vec<u8>) {
        let raw = vec![0; dims.iter().product::<i64>() as usize * 4];
        (5, build::initializer(name, ElementType::F32, dims, &raw))
    }

    fn value(field: u32, name: &str, shape: &[i64]) -> (u32, Vec<u8>) {
        (field, build::value_info(name, ElementType::F32, shape))
    }

    /// Operations of one operator from `x` [1, 4, 8, 8] with a weight.
    fn of(op: &str, attributes: &[(&str, i64)], weight: &[i64]) -> Cost {
        infer(
            &[
                (1, build::node(op, &["x", "w"], &["y"], attributes)),
                f32s("w", weight),
                value(11, "x", &[1, 4, 8, 8]),
                value(12, "y", &[0]),
            ],
            1,
        )
    }

    #[test]
    fn sums_of_products_follow_the_table() {
        assert_eq!(of("Conv", &[], &[6, 4, 3, 3]).flops["Conv"], 2 * (6 * 6 * 6) * (4 * 9));
        assert_eq!(of("Conv", &[("group", 2)], &[6, 2, 1, 1]).flops["Conv"], 2 * (6 * 64) * 2);
        assert_eq!(of("ConvTranspose", &[], &[4, 5, 2, 2]).flops["ConvTranspose"], 2 * (4 * 64) * (5 * 4));
        assert_eq!(of("MatMul", &[], &[8, 3]).flops["MatMul"], 2 * (4 * 8 * 3) * 8);
        let cost = of("MatMul", &[], &[8, 3]);
        assert_eq!((cost.parameters, cost.weight_bytes, cost.input_bytes, cost.output_bytes), (24, 96, 1024, 384));
        assert_eq!(cost.precision["MatMul"]["f32"], 1);
        let gemm = infer(
            &[
                (1, build::node("Gemm", &["x", "w"], &["y"], &[("transB", 1)])),
                f32s("w", &[7, 5]),
                value(11, "x", &[3, 5]),
                value(12, "y", &[3, 7]),
            ],
            1,
        );
        assert_eq!(gemm.flops["Gemm"], 2 * 3 * 7 * 5);
    }

    #[test]
    fn named_axes_scale_the_cost() {
        let graph = |objects| {
            let x = build::value_info_of(
                "x",
                ElementType::F32,
                &[Dimension::Dynamic("objects".into()), Dimension::Size(8)],
            );
            infer(
                &[
                    (1, build::node("MatMul", &["x", "w"], &["y"], &[])),
                    f32s("w", &[8, 3]),
                    (11, x),
                    value(12, "y", &[0]),
                ],
                objects,
            )
        };
        assert_eq!(graph(5).total_flops(), 5 * graph(1).total_flops());
        let bytes = build::model(
            9,
            20,
            &[
                (1, build::node("Relu", &["x"], &["y"], &[])),
                (11, build::value_info_of("x", ElementType::F32, &[Dimension::Dynamic("other".into())])),
                value(12, "y", &[0]),
            ],
        );
        let cost = count(&Model::parse(&bytes).unwrap(), &|_| None, &[]);
        assert_eq!(cost.unknown["Relu"], 1, "an axis of unknown size is not guessed");
    }

    #[test]
    fn shapes_computed_in_the_graph_are_followed() {
        // y = Expand(w [1, 3], Concat(Shape(x)[:1], [3])) with x [5, 8]
        let cost = infer(
            &[
                (1, build::node("Shape", &["x"], &["s"], &[("start", 0), ("end", 1)])),
                (1, build::node("Concat", &["s", "three"], &["t"], &[("axis", 0)])),
                (1, build::node("Expand", &["w", "t"], &["e"], &[])),
                (1, build::node("Relu", &["e"], &["y"], &[])),
                i64s("three", &[3]),
                f32s("w", &[1, 3]),
                value(11, "x", &[5, 8]),
                value(12, "y", &[0]),
            ],
            1,
        );
        assert!(cost.unknown.is_empty(), "{cost:?}");
        assert_eq!(cost.elementwise, 15, "Relu alone computes");
        assert_eq!(cost.output_bytes, 60);
    }

    #[test]
    fn resizing_by_scales_and_by_sizes() {
        let scales: Vec<u8> = [1.0f32, 1.0, 2.0, 2.5].iter().flat_map(|v| v.to_le_bytes()).collect();
        let by_scales = infer(
            &[
                (1, build::node("Resize", &["x", "", "s"], &["y"], &[])),
                (5, build::initializer("s", ElementType::F32, &[4], &scales)),
                value(11, "x", &[1, 2, 4, 4]),
                value(12, "y", &[0]),
            ],
            1,
        );
        assert_eq!(by_scales.output_bytes, 2 * 8 * 10 * 4);
        let by_sizes = infer(
            &[
                (1, build::node("Resize", &["x", "", "", "n"], &["y"], &[])),
                i64s("n", &[1, 2, 8, 6]),
                value(11, "x", &[1, 2, 4, 4]),
                value(12, "y", &[0]),
            ],
            1,
        );
        assert_eq!(by_sizes.output_bytes, 2 * 8 * 6 * 4);
    }

    #[test]
    fn what_cannot_be_inferred_is_named_and_counted() {
        let cost = infer(
            &[
                (1, build::node("Mystery", &["x"], &["m"], &[])),
                (1, build::node("Relu", &["m"], &["n"], &[])),
                (1, build::node("Sin", &["x"], &["y"], &[])),
                value(11, "x", &[4]),
                value(12, "y", &[4]),
            ],
            1,
        );
        assert_eq!(cost.unknown, BTreeMap::from([("Mystery".to_string(), 1), ("Relu".to_string(), 1)]));
        assert_eq!(cost.elementwise, 4);
    }

    #[test]
    fn live_memory_counts_views_once_and_frees_what_is_done() {
        // a = x+x (64 B), b = view of a, c = b*b (64 B), a and b end, d = c+c (64 B)
        let cost = infer(
            &[
                (1, build::node("Add", &["x", "x"], &["a"], &[])),
                (1, build::node("Reshape", &["a", "flat"], &["b"], &[])),
                (1, build::node("Mul", &["b", "b"], &["c"], &[])),
                (1, build::node("Add", &["c", "c"], &["y"], &[])),
                i64s("flat", &[-1]),
                value(11, "x", &[4, 4]),
                value(12, "y", &[16]),
            ],
            1,
        );
        assert!(cost.unknown.is_empty());
        assert_eq!(cost.peak_activation_bytes, 128);
    }

    proptest::proptest! {
        #[test]
        fn damaged_graphs_never_panic(
            damage in proptest::collection::vec((proptest::prelude::any::<proptest::sample::Index>(), proptest::prelude::any::<u8>()), 1..8),
        ) {
            let mut bytes = build::model(9, 20, &[
                (1, build::node("Shape", &["x"], &["s"], &[("start", 0), ("end", 1)])),
                (1, build::node("Concat", &["s", "three"], &["t"], &[("axis", 0)])),
                (1, build::node("Conv", &["x", "w"], &["c"], &[("group", 1)])),
                (1, build::node("Slice", &["c", "three", "three"], &["y"], &[])),
                i64s("three", &[3]),
                f32s("w", &[1, 3, 2, 2]),
                value(11, "x", &[1, 3, 8, 8]),
                value(12, "y", &[4]),
            ]);
            for (at, value) in damage {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Ok(model) = Model::parse(&bytes) {
                let _ = count(&model, &|_| Some(2), &[("age", 5)]);
            }
        }
    }
}
