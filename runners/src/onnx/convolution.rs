//! Which convolutions does ONNX Runtime's WebGPU provider compute wrongly? Those it does for four results and three inputs at once: measured with
//! 1.27 (SwiftShader) for 1 to 54 inputs and 1 to 64 results.

use super::model::Model;

impl Model<'_> {
    /// Names of the convolutions with a kernel larger than one value, input channels that are a multiple of 3 above 3 and none of 4, and results
    /// that are a multiple of 4.
    pub fn convolutions_by_threes(&self) -> Vec<String> {
        let convolutions = self.nodes.iter().filter(|node| node.op == "Conv" && node.is_standard());
        let found = convolutions.filter(|node| {
            let weights = node.inputs.get(1).and_then(|name| self.initializers.iter().find(|i| i.name == *name));
            let Some([results, inputs, kernel @ ..]) = weights.map(|w| w.dims.as_slice()) else { return false };
            let threes = *inputs > 3 && inputs % 3 == 0 && inputs % 4 != 0;
            node.integer("group", 1) == 1 && threes && results % 4 == 0 && kernel.iter().any(|&side| side > 1)
        });
        found.map(|node| node.label()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{ElementType, build};

    #[test]
    fn convolutions_by_threes_are_found_and_no_others() {
        let found = |results: i64, inputs: i64, side: i64| {
            let weights = vec![0; (4 * results * inputs * side * side) as usize];
            let bytes = build::model(
                8,
                17,
                &[
                    (1, build::node("Conv", &["x", "w"], &["y"], &[])),
                    (5, build::initializer("w", ElementType::F32, &[results, inputs, side, side], &weights)),
                    (11, build::value_info("x", ElementType::F32, &[1, inputs, 8, 8])),
                    (12, build::value_info("y", ElementType::F32, &[1, results, 9 - side, 9 - side])),
                ],
            );
            Model::parse(&bytes).unwrap().convolutions_by_threes()
        };
        for (results, inputs, side) in [(12, 6, 2), (4, 9, 3), (64, 15, 3), (12, 54, 2)] {
            assert_eq!(found(results, inputs, side), ["Conv `y`"], "{results} {inputs} {side}");
        }
        for (results, inputs, side) in
            [(12, 6, 1), (6, 6, 3), (12, 3, 3), (12, 12, 3), (12, 8, 2), (12, 10, 2), (12, 36, 3)]
        {
            assert_eq!(found(results, inputs, side), Vec::<String>::new(), "{results} {inputs} {side}");
        }
    }
}
