//! Which nodes does an ONNX file hold? Only their names and operators, so that a refusal can name both.

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message;

/// `ModelProto` of onnx.proto, the fields that are read.
#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
}

/// `GraphProto`.
#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
}

/// `NodeProto`.
#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
}

/// Name -> operator of every named node; empty where the file cannot be read, because the compiler's own text says so.
pub fn operators(file: &Path) -> BTreeMap<String, String> {
    let bytes = std::fs::read(file).unwrap_or_default();
    let nodes = Model::decode(bytes.as_slice()).ok().and_then(|model| model.graph).unwrap_or_default().node;
    nodes.into_iter().filter(|node| !node.name.is_empty()).map(|node| (node.name, node.op_type)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_operators_of_a_shipped_graph() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/packs/sam2_mini/bf16/mask_prompt.onnx");
        let nodes = operators(Path::new(file));
        assert_eq!(nodes["Conv_0"], "Conv");
        assert!(operators(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))).is_empty());
    }
}
