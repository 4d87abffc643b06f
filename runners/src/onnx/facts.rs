//! What does a graph compute in? Element types that follow from the operators, what is computed once, and the counts that
//! stand in a record as evidence of its precision.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use super::dtype::ElementType;
use super::model::{Model, Node};

impl<'a> Model<'a> {
    /// Element type of every value whose type the file states or that follows from the operators.
    pub fn types(&self) -> HashMap<&'a str, ElementType> {
        let mut types: HashMap<&str, ElementType> = HashMap::new();
        types.extend(self.initializers.iter().map(|i| (i.name, i.dtype)));
        for value in self.values.iter().chain(&self.inputs).chain(&self.outputs) {
            types.extend(value.dtype.filter(|t| t.0 != 0).map(|t| (value.name, t)));
        }
        for node in &self.nodes {
            let of = |i: usize| node.inputs.get(i).and_then(|name| types.get(name).copied());
            let result = match node.op {
                "Cast" | "Constant" => node.stated,
                "ConstantOfShape" => node.stated.or(Some(ElementType::F32)),
                "Shape" | "Size" | "ArgMax" | "ArgMin" | "NonZero" => Some(ElementType::I64),
                "Equal" | "Greater" | "Less" | "GreaterOrEqual" | "LessOrEqual" | "Not" | "And" | "Or" | "Xor"
                | "IsNaN" | "IsInf" => Some(ElementType::BOOL),
                "Where" => of(1).or(of(2)),
                "OneHot" => of(2),
                "CastLike" => of(1),
                // Without a zero point that says otherwise.
                "QuantizeLinear" => of(2).or(Some(ElementType::U8)),
                "DequantizeLinear" => of(1),
                "If" | "Loop" | "Scan" | "DynamicQuantizeLinear" => None,
                "MultiHeadAttention" | "RotaryEmbedding" if node.domain == RUNTIME_DOMAIN => of(0),
                _ if node.domain.is_empty() || node.domain == "ai.onnx" => (0..node.inputs.len()).find_map(of),
                _ => None,
            };
            let mut outputs = node.outputs.iter().filter(|o| !o.is_empty());
            if let (Some(first), Some(result)) = (outputs.next(), result) {
                types.entry(first).or_insert(result);
            }
            match node.op {
                "Split" => {
                    for (output, result) in outputs.zip(std::iter::repeat(result)) {
                        result.map(|r| types.entry(output).or_insert(r));
                    }
                }
                "TopK" => {
                    outputs.next().map(|indices| types.entry(indices).or_insert(ElementType::I64));
                }
                _ => {}
            }
        }
        types
    }

    /// Values that depend on no input of the graph: constants and what is computed from constants alone, which a runtime
    /// computes once when it loads the graph.
    pub fn constants(&self) -> HashSet<&'a str> {
        let mut constants: HashSet<&str> = self.initializers.iter().map(|i| i.name).collect();
        for node in self.nodes.iter().filter(|node| node.subgraph_ops.is_empty()) {
            if node.inputs.iter().all(|name| name.is_empty() || constants.contains(name)) && !is_random(node) {
                constants.extend(node.outputs.iter().filter(|name| !name.is_empty()));
            }
        }
        constants
    }

    /// As [`Model::types`], but a value that DequantizeLinear makes has the type of what it is made of: an engine that can computes with
    /// that.
    pub fn operand_types(&self) -> HashMap<&'a str, ElementType> {
        let mut types = self.types();
        for node in self.nodes.iter().filter(|node| node.op == "DequantizeLinear" && node.is_standard()) {
            let stored = node.inputs.first().and_then(|name| types.get(name)).copied();
            if let (Some(output), Some(stored)) = (node.outputs.first(), stored) {
                types.insert(output, stored);
            }
        }
        types
    }

    /// Counts for the precision evidence. Products of constants are not counted: they are no part of a run.
    pub fn facts(&self) -> GraphFacts {
        let types = self.operand_types();
        let constants = self.constants();
        let mut facts = GraphFacts { opset: self.opset(), nodes: self.nodes.len(), ..GraphFacts::default() };
        for node in &self.nodes {
            let attention = node.domain == RUNTIME_DOMAIN && node.op == "MultiHeadAttention";
            if (is_contraction(node) || attention) && !node.outputs.first().is_some_and(|name| constants.contains(name))
            {
                let operands = node.inputs.iter().take(2).map(|name| types.get(name).copied());
                let names: Vec<String> = operands.map(|t| t.map_or("unknown".to_string(), |t| t.to_string())).collect();
                let name = match names.as_slice() {
                    [a, b] if a != b => format!("{a} x {b}"),
                    [a, ..] => a.clone(),
                    [] => "unknown".to_string(),
                };
                *facts.contractions.entry(node.op.to_string()).or_default().entry(name).or_default() += 1;
            }
            if node.op == "Cast" && node.stated.is_some_and(ElementType::is_half) {
                facts.casts_to_half += 1;
            }
        }
        facts
    }

    /// Sums of products in a graph that ONNX Runtime's CPU provider has optimised: by int8 kernels; by float kernels on operands that were
    /// quantised; by float kernels on others. Attention counts as one.
    pub fn computed(&self) -> [usize; 3] {
        let types = self.operand_types();
        let mut counts = [0; 3];
        for node in &self.nodes {
            // What a loop or a branch computes is not looked into: its products count as float.
            counts[2] +=
                node.subgraph_ops.iter().filter(|op| FLOAT_KERNELS.iter().any(|kernel| op.contains(kernel))).count();
            let operand = node.inputs.first().and_then(|name| types.get(name)).copied();
            match node.op {
                op if INT8_KERNELS.contains(&op) => counts[0] += 1,
                op if !FLOAT_KERNELS.iter().any(|kernel| op.contains(kernel)) => {}
                _ if matches!(operand, Some(ElementType::I8 | ElementType::U8)) => counts[1] += 1,
                _ => counts[2] += 1,
            }
        }
        counts
    }
}

/// Operators of ONNX Runtime's CPU provider that multiply 8-bit integers.
const INT8_KERNELS: [&str; 9] = [
    "QLinearConv",
    "QLinearMatMul",
    "QGemm",
    "QAttention",
    "ConvInteger",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
    "QLinearConvTranspose",
];

/// Parts of the names of its other operators that sum products (FusedConv, FusedGemm, FusedMatMul, MultiHeadAttention, ...).
const FLOAT_KERNELS: [&str; 5] = ["MatMul", "Gemm", "Conv", "Attention", "Einsum"];

/// The domain of ONNX Runtime's own operators.
pub(super) const RUNTIME_DOMAIN: &str = "com.microsoft";

/// The operators whose operands are rounded in a half precision: sums of products.
pub(super) const CONTRACTIONS: [&str; 6] = ["MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum", "Attention"];

pub(super) fn is_contraction(node: &Node<'_>) -> bool {
    (node.domain.is_empty() || node.domain == "ai.onnx") && CONTRACTIONS.contains(&node.op)
}

/// Operators that give another result each time.
fn is_random(node: &Node<'_>) -> bool {
    node.op.starts_with("Random") || matches!(node.op, "Bernoulli" | "Multinomial")
}

/// What a graph file shows about the precision it computes in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphFacts {
    /// Version of ONNX's operator set.
    pub opset: i64,
    /// Number of operators.
    pub nodes: usize,
    /// Operators that sum products (MatMul, Gemm, Conv, ConvTranspose, Einsum), by name and operand type.
    pub contractions: BTreeMap<String, BTreeMap<String, usize>>,
    /// Casts to a 16-bit float.
    pub casts_to_half: usize,
}

impl GraphFacts {
    /// Contractions whose operands are all of this type, and all contractions.
    pub fn share(&self, dtype: ElementType) -> (usize, usize) {
        let name = dtype.to_string();
        let by_type = self.contractions.values();
        let of_type = by_type.clone().filter_map(|t| t.get(&name)).sum();
        (of_type, by_type.flat_map(|t| t.values()).sum())
    }
}

impl fmt::Display for GraphFacts {
    /// `opset 22, 300 nodes; operands: Conv 12 bf16, MatMul 40 bf16`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "opset {}, {} nodes; operands:", self.opset, self.nodes)?;
        if self.contractions.is_empty() {
            return f.write_str(" no MatMul, Gemm or Conv");
        }
        let parts = self.contractions.iter().flat_map(|(op, t)| t.iter().map(move |(t, n)| format!(" {op} {n} {t}")));
        f.write_str(&parts.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::build;

    /// `y = x MatMul w` with both quantised, the file as a pack has it and as ONNX Runtime leaves it.
    #[test]
    fn quantised_operands_are_8_bit_and_kernels_are_counted_by_what_they_compute_in() {
        let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let graph = [
            (1, build::node("QuantizeLinear", &["x", "s", "z"], &["xq"], &[])),
            (1, build::node("DequantizeLinear", &["xq", "s", "z"], &["xd"], &[])),
            (1, build::node("DequantizeLinear", &["w", "s", "z"], &["wd"], &[])),
            (1, build::node("MatMul", &["xd", "wd"], &["a"], &[])),
            (1, build::node("MatMul", &["a", "a"], &["b"], &[])),
            (1, build::node("MatMulIntegerToFloat", &["xq", "w", "s", "s"], &["c"], &[])),
            (1, build::node("FusedGemm", &["xd", "wd"], &["d"], &[])),
            (1, build::node("QLinearConv", &["xq", "s", "z", "w", "s", "z", "s", "z"], &["e"], &[])),
            (1, build::node("QLinearAdd", &["xq", "s", "z", "xq", "s", "z", "s", "z"], &["f"], &[])),
            (5, build::initializer("w", ElementType::I8, &[2, 2], &[1, 2, 3, 4])),
            (5, build::initializer("z", ElementType::I8, &[], &[0])),
            (5, build::initializer("s", ElementType::F32, &[], &floats(&[0.5]))),
            (11, build::value_info("x", ElementType::F32, &[2, 2])),
            (12, build::value_info("b", ElementType::F32, &[2, 2])),
        ];
        let bytes = build::model(9, 18, &graph);
        let model = Model::parse(&bytes).unwrap();
        let facts = model.facts();
        assert_eq!((facts.share(ElementType::I8), facts.share(ElementType::F32)), ((1, 2), (1, 2)));
        assert_eq!(model.types()["xd"], ElementType::F32, "in the graph it is a float");
        assert_eq!(model.computed(), [2, 2, 1]);
    }

    #[test]
    fn products_of_constants_are_no_part_of_a_run() {
        let raw = [0; 16];
        let graph = [
            (1, build::node("MatMul", &["a", "b"], &["ab"], &[])),
            (1, build::node("Relu", &["ab"], &["table"], &[])),
            (1, build::node("Cast", &["x"], &["xh"], &[("to", 16)])),
            (1, build::node("Cast", &["table"], &["th"], &[("to", 16)])),
            (1, build::node("MatMul", &["xh", "th"], &["y"], &[])),
            (5, build::initializer("a", ElementType::F32, &[2, 2], &raw)),
            (5, build::initializer("b", ElementType::F32, &[2, 2], &raw)),
            (11, build::value_info("x", ElementType::F32, &[2, 2])),
            (12, build::value_info("y", ElementType::BF16, &[2, 2])),
        ];
        let bytes = build::model(9, 22, &graph);
        let model = Model::parse(&bytes).unwrap();
        assert!(model.constants().contains("th") && !model.constants().contains("y"));
        assert_eq!(model.facts().share(ElementType::BF16), (1, 1));
    }
}
