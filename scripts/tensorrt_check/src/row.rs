//! What came of one graph?

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::pack::Task;

/// How many layers have outputs of which type: `fp32`, `fp16`, `bf16`, `bool`, `i32`, `i64`; several types with `+` between.
pub type ByType = BTreeMap<String, usize>;

/// One graph of one pack in one precision, and its outcome.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The pack's id.
    pub pack: String,
    /// The graph's name.
    pub graph: String,
    /// Precision.
    pub dtype: String,
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Row {
    pub fn new(task: &Task, outcome: Outcome) -> Row {
        Row { pack: task.pack.clone(), graph: task.graph.clone(), dtype: task.dtype.clone(), outcome }
    }
}

/// What the compiler made of a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// How many attentions were changed beforehand; none: the file was taken as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attentions: Option<usize>,
    /// The network as the parser made it; none where it refused the file.
    pub network: Option<Network>,
    /// The engine; none where nothing was built.
    pub engine: Option<Engine>,
    /// Why there is none.
    pub refusal: Option<Refusal>,
    /// Most memory that the process had in use, bytes.
    pub peak_memory_bytes: Option<u64>,
}

/// A parsed graph. Networks of TensorRT for RTX are strongly typed: the types of tensors are those of the ONNX file, and the
/// compiler may not change them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Network {
    pub layers: usize,
    /// By the type of the first output.
    pub output_types: ByType,
    pub parse_seconds: f64,
}

/// A built engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Engine {
    /// Size of the serialised engine, bytes. Much of it is code and text, the same in every precision.
    pub bytes: u64,
    /// What the builder says that its weights take, bytes.
    pub weight_bytes: Option<u64>,
    /// What the builder says that it needs for intermediate values with the most objects, bytes.
    pub activation_bytes: Option<u64>,
    pub build_seconds: f64,
    /// Kind of layer -> how many of them by types of outputs; from the builder's listing of the engine, none where it printed
    /// none. Layers without an output (synchronisation) are not counted.
    pub layers: Option<BTreeMap<String, ByType>>,
}

/// Kinds of layers that multiply matrices or convolve, by the names in the builder's listing. Fused ones (`runtime_fusion`) may
/// hold a product and other work; they are not among them.
const PRODUCTS: [&str; 3] = ["correlation", "deconv", "gemm"];

impl Engine {
    /// Layers by types of outputs: (all, products only). None without a listing.
    pub fn output_types(&self) -> Option<(ByType, ByType)> {
        let (mut all, mut products) = (ByType::new(), ByType::new());
        for (kind, types) in self.layers.as_ref()? {
            for (name, count) in types {
                *all.entry(name.clone()).or_default() += count;
                if PRODUCTS.contains(&kind.as_str()) {
                    *products.entry(name.clone()).or_default() += count;
                }
            }
        }
        Some((all, products))
    }
}

/// Why a graph was not compiled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub step: Step,
    /// The ONNX node, where the compiler names one.
    pub node: Option<Node>,
    /// The compiler's words.
    pub text: String,
}

/// An ONNX node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name; empty where it has none.
    pub name: String,
    /// Its operator; empty where it is not known.
    pub op: String,
}

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Reading the ONNX file.
    Parse,
    /// Building the engine.
    Build,
    /// The process ended without an answer.
    Crash,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_counted_beside_all() {
        let types = |list: &[(&str, usize)]| list.iter().map(|(t, n)| (t.to_string(), *n)).collect::<ByType>();
        let layers = BTreeMap::from([
            ("gemm".to_string(), types(&[("bf16", 3), ("fp32", 1)])),
            ("kgen".to_string(), types(&[("bf16", 2), ("bf16+fp32", 4)])),
        ]);
        let (all, products) = Engine { layers: Some(layers), ..Engine::default() }.output_types().unwrap();
        assert_eq!(all, types(&[("bf16", 5), ("bf16+fp32", 4), ("fp32", 1)]));
        assert_eq!(products, types(&[("bf16", 3), ("fp32", 1)]));
        assert_eq!(Engine::default().output_types(), None);
    }
}
