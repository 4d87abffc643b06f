//! How does a graph that writes a memory leave it as it was? Each state that the graph gives out becomes a choice between
//! what the graph made and what came in, object by object and on the device: `memory=gated`. The graph before that choice stays
//! as it is.

use super::build;
use super::dtype::{Dimension, ElementType};
use super::edges::Gate;
use super::model::{Model, ValueInfo};
use super::wire::{FieldReader, OnnxError, error, put_bytes};

impl Model<'_> {
    /// The whole model file with a gate before its states; the predicted IoU becomes an input.
    pub(super) fn with_gate(&self, gate: &Gate) -> Result<Vec<u8>, OnnxError> {
        let mut graph = Vec::with_capacity(self.graph_bytes.len() + 4096);
        for field in FieldReader::new("the graph", self.graph_bytes) {
            let field = field?;
            match field.number {
                1 => put_bytes(&mut graph, 1, &renamed(field.bytes("a node")?, gate)?),
                _ => graph.extend_from_slice(field.raw),
            }
        }
        let find = |infos: &[ValueInfo<'_>], name: &str| -> Option<Vec<Dimension>> {
            let info = infos.iter().find(|info| info.name == name && info.dtype == Some(ElementType::F32));
            info.and_then(|info| info.shape.clone())
        };
        let Some(score) = find(&self.inputs, gate.score).filter(|axes| matches!(axes[..], [_, Dimension::Size(1)]))
        else {
            return error(format!("input `{}` is not f32 of shape [objects, 1]", gate.score));
        };
        if find(&self.inputs, gate.is_prompt).is_none_or(|axes| axes.len() != 1) {
            return error(format!("input `{}` is not f32 of shape [objects]", gate.is_prompt));
        }
        put_bytes(&mut graph, 11, &build::value_info_of(gate.iou, ElementType::F32, &score));
        let mut nodes = worth(gate);
        let constants =
            [("two", 2.0), ("one", 1.0), ("half", 0.5), ("always", f32::MAX), ("threshold", gate.threshold)];
        for (name, value) in constants {
            let bytes = build::initializer(&inner(name), ElementType::F32, &[], &f32::to_le_bytes(value));
            put_bytes(&mut graph, 5, &bytes);
        }
        put_bytes(&mut graph, 5, &shape("column", &[-1, 1]));
        for &(before, after) in gate.states {
            let Some(axes) =
                find(&self.outputs, after).filter(|axes| find(&self.inputs, before).as_ref() == Some(axes))
            else {
                return error(format!("`{before}` and `{after}` are not an f32 input and output of one shape"));
            };
            // [objects, 1] against a state of other axes: as many as it has, each of size 1.
            let of = |what: &str| inner(&format!("{after}_{what}"));
            let sizes: Vec<i64> = std::iter::once(-1).chain(axes.iter().skip(1).map(|_| 1)).collect();
            put_bytes(&mut graph, 5, &shape(&format!("{after}_shape"), &sizes));
            nodes.extend([
                build::node("Reshape", &[&inner("worth"), &of("shape")], &[&of("worth")], &[]),
                build::node("LessOrEqual", &[&of("worth"), &inner("threshold")], &[&of("kept")], &[]),
                build::node("Where", &[&of("kept"), before, &Gate::last(after)], &[after], &[]),
            ]);
            if gate.last {
                put_bytes(&mut graph, 12, &build::value_info_of(&Gate::last(after), ElementType::F32, &axes));
            }
        }
        nodes.iter().for_each(|node| put_bytes(&mut graph, 1, node));
        self.with_graph(&graph)
    }
}

/// Nodes that compute what a frame is worth, [objects, 1]: max(0, 2σ(score) − 1) × IoU; of a prompted frame, more than any threshold.
fn worth(gate: &Gate) -> Vec<Vec<u8>> {
    let step = |op: &str, inputs: &[&str], output: &str| build::node(op, inputs, &[&inner(output)], &[]);
    vec![
        step("Sigmoid", &[gate.score], "chance"),
        step("Mul", &[&inner("chance"), &inner("two")], "doubled"),
        step("Sub", &[&inner("doubled"), &inner("one")], "centred"),
        step("Relu", &[&inner("centred")], "presence"),
        step("Mul", &[&inner("presence"), gate.iou], "tracked"),
        step("Reshape", &[gate.is_prompt, &inner("column")], "prompt"),
        step("Greater", &[&inner("prompt"), &inner("half")], "prompted"),
        step("Where", &[&inner("prompted"), &inner("always"), &inner("tracked")], "worth"),
    ]
}

/// A node with the gated states under the names of what the graph made of them.
fn renamed(node: &[u8], gate: &Gate) -> Result<Vec<u8>, OnnxError> {
    let mut bytes = Vec::with_capacity(node.len() + 32);
    for field in FieldReader::new("a node", node) {
        let field = field?;
        let name = if matches!(field.number, 1 | 2) { Some(field.text("a name")?) } else { None };
        match name.filter(|name| gate.states.iter().any(|(_, after)| after == name)) {
            Some(name) => put_bytes(&mut bytes, field.number, Gate::last(name).as_bytes()),
            None => bytes.extend_from_slice(field.raw),
        }
    }
    Ok(bytes)
}

/// A name of the gate's own; [`Model::with_edge`] refuses graphs that have such names.
fn inner(name: &str) -> String {
    format!("jetbench_{name}")
}

fn shape(name: &str, sizes: &[i64]) -> Vec<u8> {
    let raw: Vec<u8> = sizes.iter().flat_map(|size| size.to_le_bytes()).collect();
    build::initializer(&inner(name), ElementType::I64, &[sizes.len() as i64], &raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::Edge;

    const GATE: Gate = Gate {
        states: &[("bank", "bank_out"), ("age", "age_out")],
        score: "score",
        iou: "iou",
        is_prompt: "is_prompt",
        threshold: 0.01,
        last: false,
    };

    /// A graph whose states are those of before; `age_out` is used inside, too.
    fn graph(bank: &[i64], score: &[i64]) -> Vec<u8> {
        let value = |name, shape: &[i64]| build::value_info(name, ElementType::F32, shape);
        build::model(
            8,
            17,
            &[
                (1, build::node("Identity", &["age"], &["age_out"], &[])),
                (1, build::node("Identity", &["age_out"], &["copy"], &[])),
                (1, build::node("Identity", &["bank"], &["bank_out"], &[])),
                (11, value("score", score)),
                (11, value("is_prompt", &[2])),
                (11, value("bank", &[2, 7, 3])),
                (11, value("age", &[2])),
                (12, value("bank_out", bank)),
                (12, value("age_out", &[2])),
            ],
        )
    }

    #[test]
    fn a_state_is_chosen_under_its_own_name() {
        let bytes = graph(&[2, 7, 3], &[2, 1]);
        let changed = Model::parse(&bytes).unwrap().with_edge(&Edge::Gate(GATE)).unwrap();
        let model = Model::parse(&changed).unwrap();
        let inputs: Vec<&str> = model.inputs.iter().map(|input| input.name).collect();
        assert_eq!(inputs, ["score", "is_prompt", "bank", "age", "iou"]);
        let outputs: Vec<&str> = model.outputs.iter().map(|output| output.name).collect();
        assert_eq!(outputs, ["bank_out", "age_out"], "what the loop binds stays");
        let with_last = Edge::Gate(Gate { last: true, ..GATE });
        let with_last = Model::parse(&bytes).unwrap().with_edge(&with_last).unwrap();
        let outputs: Vec<String> =
            Model::parse(&with_last).unwrap().outputs.iter().map(|output| output.name.to_string()).collect();
        assert_eq!(outputs[2..], [Gate::last("bank_out"), Gate::last("age_out")]);
        let maker = |name: &str| {
            let makers: Vec<_> = model.nodes.iter().filter(|node| node.outputs.contains(&name)).collect();
            assert_eq!(makers.len(), 1, "{name} has one maker");
            makers[0]
        };
        for &(before, after) in GATE.states {
            let choice = maker(after);
            assert_eq!((choice.op, choice.inputs[1]), ("Where", before));
            assert_eq!(maker(choice.inputs[2]).inputs, [before], "the other side is what the graph made");
        }
        assert_eq!(maker("copy").inputs, ["jetbench_age_out_made"], "inside, the graph is as it was");
        let again = model.with_edge(&Edge::Gate(GATE)).unwrap_err();
        assert!(again.to_string().contains("taken"), "{again}");
    }

    #[test]
    fn what_cannot_be_gated_is_named() {
        let refused = |bytes: &[u8], gate: Gate| {
            Model::parse(bytes).unwrap().with_edge(&Edge::Gate(gate)).unwrap_err().to_string()
        };
        assert!(refused(&graph(&[2, 6, 3], &[2, 1]), GATE).contains("`bank` and `bank_out`"));
        assert!(refused(&graph(&[2, 7, 3], &[2]), GATE).contains("`score`"));
        let plain = graph(&[2, 7, 3], &[2, 1]);
        assert!(refused(&plain, Gate { is_prompt: "flag", ..GATE }).contains("`flag`"));
    }
}
