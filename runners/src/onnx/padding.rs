//! Where does ONNX Runtime's optimiser compute something else than the graph says? Its `Pad_Fusion` moves a pad by zeros into the max pool
//! that it feeds. There padding counts as minus infinity, so wherever all values under the pool's window are negative the result is wrong
//! (microsoft/onnxruntime issue 24737, not mended in 1.32).

use std::collections::HashMap;

use super::dtype::ElementType;
use super::model::{Initializer, Model, Node};

/// ONNX Runtime's name of that step of its optimiser.
pub const PAD_FUSION: &str = "Pad_Fusion";

impl Model<'_> {
    /// Names of the values that are padded by zeros for a max pool and for nothing else: where that fusion happens.
    pub fn pads_for_max_pools(&self) -> Vec<&str> {
        let mut consumers: HashMap<&str, Vec<&str>> = HashMap::new();
        for node in &self.nodes {
            let op = if node.is_standard() { node.op } else { "" };
            node.inputs.iter().for_each(|input| consumers.entry(input).or_default().push(op));
        }
        let is_output = |name: &str| self.outputs.iter().any(|output| output.name == name);
        let padded = self.nodes.iter().filter(|node| node.op == "Pad" && node.is_standard());
        let fused = padded.filter(|node| {
            let Some(result) = node.outputs.first() else { return false };
            consumers.get(result).is_some_and(|ops| ops == &["MaxPool"])
                && !is_output(result)
                && self.pads_by_zeros(node)
        });
        fused.filter_map(|node| node.inputs.first().copied()).collect()
    }

    /// Does it pad by a constant, and is that 0, as it is where none is stated? What is computed, or not kept here in fp32, may be 0.
    fn pads_by_zeros(&self, pad: &Node<'_>) -> bool {
        let zero = |constant: &Initializer<'_>| {
            constant.dtype != ElementType::F32 || constant.floats().is_none_or(|values| values == [0.0])
        };
        let value = match pad.inputs.get(2).copied().unwrap_or_default() {
            "" => true,
            name => match self.initializers.iter().find(|constant| constant.name == name) {
                Some(constant) => zero(constant),
                None => (self.nodes.iter().find(|node| node.op == "Constant" && node.outputs.contains(&name)))
                    .and_then(|node| node.tensor("value"))
                    .is_none_or(|constant| zero(&constant)),
            },
        };
        value && pad.text("mode").is_none_or(|mode| mode == "constant")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::onnx::build;

    /// A pad of the last row and column of `x` `[1, 1, 3, 3]`, and the operators that use it: outputs `y0`, `y1`, …
    pub fn padded(value: f32, mode: Option<&str>, users: &[&str]) -> Vec<u8> {
        let mut pad = build::node("Pad", &["x", "pads", "value"], &["padded"], &[]);
        if let Some(mode) = mode {
            build::put_text(&mut pad, "mode", mode);
        }
        let pads: Vec<u8> = [0i64, 0, 0, 0, 0, 0, 1, 1].iter().flat_map(|n| n.to_le_bytes()).collect();
        let mut fields = vec![
            (1, pad),
            (5, build::initializer("pads", ElementType::I64, &[8], &pads)),
            (5, build::initializer("value", ElementType::F32, &[], &value.to_le_bytes())),
            (11, build::value_info("x", ElementType::F32, &[1, 1, 3, 3])),
        ];
        for (i, op) in users.iter().enumerate() {
            let (output, pools) = (format!("y{i}"), *op == "MaxPool");
            let mut node = build::node(op, &["padded"], &[&output], &[]);
            if pools {
                build::put_integers(&mut node, "kernel_shape", &[2, 2]);
            }
            fields.push((1, node));
            let side = if pools { 3 } else { 4 };
            fields.push((12, build::value_info(&output, ElementType::F32, &[1, 1, side, side])));
        }
        build::model(8, 17, &fields)
    }

    /// Each case was run through ONNX Runtime 1.31 with and without its optimiser: it errs in those that are found, and in no other.
    #[test]
    fn the_pattern_is_found_where_the_optimiser_errs_and_only_there() {
        let found = |bytes: Vec<u8>| Model::parse(&bytes).unwrap().pads_for_max_pools().len();
        assert_eq!(found(padded(0.0, None, &["MaxPool"])), 1);
        assert_eq!(found(padded(0.0, Some("constant"), &["MaxPool"])), 1);
        for (value, mode, users) in [
            (-5.0, None, &["MaxPool"][..]),
            (0.0, Some("edge"), &["MaxPool"]),
            (0.0, None, &["MaxPool", "MaxPool"]),
            (0.0, None, &["MaxPool", "Neg"]),
            (0.0, None, &["Neg"]),
        ] {
            assert_eq!(found(padded(value, mode, users)), 0, "{value} {mode:?} {users:?}");
        }
    }
}
