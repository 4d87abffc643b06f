//! How is a graph changed for a provider? Half-typed graphs get casts where there are no half kernels, large constants become
//! references into the file, or what is referred to comes inside. What is not rewritten is copied byte for byte.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::dtype::ElementType;
use super::external::{self, ExternalTensor};
use super::facts::{CONTRACTIONS, is_contraction};
use super::model::{Model, Node};
use super::wire::{FieldReader, OnnxError, Wire, error, put_bytes, put_integer};

/// A graph rewritten for a provider without half kernels.
#[derive(Clone, Debug)]
pub struct Emulated {
    /// The whole model file.
    pub bytes: Vec<u8>,
    /// Casts to f32 put before operands.
    pub casts_in: usize,
    /// Casts back to the half type put after results.
    pub casts_out: usize,
    /// Rewritten nodes by operator.
    pub rewritten: BTreeMap<String, usize>,
}

/// Operators that only move or convert values and have kernels for 16-bit floats on the CPU: left as they are.
const MOVERS: [&str; 10] = [
    "Cast",
    "Constant",
    "ConstantOfShape",
    "Identity",
    "Transpose",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Shape",
];

impl Model<'_> {
    /// Puts a Cast to f32 on every half operand of every computing node and a Cast back on its half results: operands
    /// keep their rounding, sums are f32, results are rounded. This is what tensor cores do with half operands and
    /// f32 accumulation, on a provider that has no half kernels (ONNX Runtime's CPU provider refuses bf16 arithmetic
    /// and silently computes fp16 graphs in f32 without rounding the activations).
    ///
    /// All other bytes of the file are copied unchanged.
    ///
    /// # Errors
    /// When half arithmetic may hide where this rewrite does not look: model-local functions, sub-graphs with
    /// contractions, operands of unknown type, operators of other domains with half operands.
    pub fn emulate_half(&self) -> Result<Emulated, OnnxError> {
        if let Some(function) = self.functions.first() {
            return error(format!(
                "cannot emulate half precision: the model has a local function ({function}); export it inlined"
            ));
        }
        let types = self.types();
        let half = |name: &str| types.get(name).copied().filter(|t| t.is_half());
        let mut taken: HashSet<&str> = types.keys().copied().collect();
        taken.extend(self.nodes.iter().flat_map(|n| n.inputs.iter().chain(&n.outputs).copied()));
        let mut work = Rewriter { graph: Vec::with_capacity(self.graph_bytes.len() * 5 / 4), casts: 0, taken };
        let mut in_f32: HashMap<&str, String> = HashMap::new();
        let mut emulated = Emulated { bytes: Vec::new(), casts_in: 0, casts_out: 0, rewritten: BTreeMap::new() };

        let mut nodes = self.nodes.iter();
        for field in FieldReader::new("the graph", self.graph_bytes) {
            let field = field?;
            let Some(node) = (field.number == 1).then(|| nodes.next()).flatten() else {
                work.graph.extend_from_slice(field.raw);
                continue;
            };
            if let Some(op) = node.subgraph_ops.iter().find(|op| CONTRACTIONS.contains(*op)) {
                return error(format!("cannot emulate half precision: {} holds a sub-graph with {op}", node.label()));
            }
            if is_contraction(node)
                && let Some(name) = node.inputs.iter().find(|n| !n.is_empty() && !types.contains_key(*n))
            {
                return error(format!(
                    "cannot emulate half precision: the type of operand `{name}` of {} is not stated; export with \
                     shape inference",
                    node.label()
                ));
            }
            let touches_half = node.inputs.iter().chain(&node.outputs).any(|name| half(name).is_some());
            if !touches_half || MOVERS.contains(&node.op) {
                work.graph.extend_from_slice(field.raw);
                continue;
            }
            if !(node.domain.is_empty() || node.domain == "ai.onnx") {
                return error(format!(
                    "cannot emulate half precision: {} is an operator of `{}` with half operands",
                    node.label(),
                    node.domain
                ));
            }
            let mut inputs: Vec<String> = Vec::with_capacity(node.inputs.len());
            for &name in &node.inputs {
                if half(name).is_none() {
                    inputs.push(name.to_string());
                    continue;
                }
                if !in_f32.contains_key(name) {
                    let fresh = work.fresh(name);
                    work.cast(name, &fresh, ElementType::F32);
                    emulated.casts_in += 1;
                    in_f32.insert(name, fresh);
                }
                inputs.push(in_f32[name].clone());
            }
            let mut outputs: Vec<(String, Option<ElementType>)> = Vec::with_capacity(node.outputs.len());
            for &name in &node.outputs {
                let dtype = half(name);
                outputs.push((if dtype.is_some() { work.fresh(name) } else { name.to_string() }, dtype));
            }
            work.node(node, &inputs, &outputs)?;
            for (&name, (fresh, dtype)) in node.outputs.iter().zip(&outputs) {
                if let Some(dtype) = dtype {
                    work.cast(fresh, name, *dtype);
                    emulated.casts_out += 1;
                }
            }
            *emulated.rewritten.entry(node.op.to_string()).or_default() += 1;
        }

        emulated.bytes = self.with_graph(&work.graph)?;
        Ok(emulated)
    }

    /// The whole model file with another graph in it.
    pub(super) fn with_graph(&self, graph: &[u8]) -> Result<Vec<u8>, OnnxError> {
        let mut bytes = Vec::with_capacity(self.bytes.len() - self.graph_bytes.len() + graph.len() + 16);
        for field in FieldReader::new("the model", self.bytes) {
            let field = field?;
            if field.number == 7 {
                put_bytes(&mut bytes, 7, graph);
            } else {
                bytes.extend_from_slice(field.raw);
            }
        }
        Ok(bytes)
    }

    /// The same model with every large constant of its graph as a reference into `file`, a file that holds exactly the bytes
    /// this model was read from: ONNX Runtime then maps the weights instead of copying them twice. `None` when no constant is large.
    ///
    /// # Errors
    /// When the bytes are broken.
    pub fn with_references(&self, file: &str) -> Result<Option<Vec<u8>>, OnnxError> {
        let (mut graph, mut any) = (Vec::new(), false);
        for field in FieldReader::new("the graph", self.graph_bytes) {
            let field = field?;
            let constant = if field.number == 5 { self.reference(field.bytes("an initializer")?, file)? } else { None };
            any |= constant.is_some();
            match constant {
                Some(tensor) => put_bytes(&mut graph, 5, &tensor),
                None => graph.extend_from_slice(field.raw),
            }
        }
        if any { self.with_graph(&graph).map(Some) } else { Ok(None) }
    }

    /// The same model with the values of its constants that lie in other files inside, for an ONNX Runtime that finds no file for a model
    /// in memory. `values` reads what a constant refers to.
    ///
    /// # Errors
    /// A constant of a sub-graph or an attribute lies in another file, `values` fails, or the bytes are broken.
    pub fn with_values(
        &self,
        mut values: impl FnMut(&ExternalTensor) -> Result<Vec<u8>, OnnxError>,
    ) -> Result<Vec<u8>, OnnxError> {
        let mut graph = Vec::new();
        for field in FieldReader::new("the graph", self.graph_bytes) {
            let field = field?;
            let tensor = if field.number == 5 { field.bytes("an initializer")? } else { &[] };
            let Some(place) = external::tensor(tensor, "")? else {
                graph.extend_from_slice(field.raw);
                continue;
            };
            let (mut inside, mut own, mut elsewhere) = (Vec::new(), Vec::new(), false);
            for part in FieldReader::new("a tensor", tensor) {
                let part = part?;
                match part.number {
                    13 => {}
                    14 => elsewhere = part.integer("a tensor's data_location")? == 1,
                    4..=7 | 9..=11 => own.extend_from_slice(part.raw), // values
                    _ => inside.extend_from_slice(part.raw),
                }
            }
            // Only where the tensor says so do its values lie elsewhere, whatever place it names.
            if elsewhere {
                put_bytes(&mut inside, 9, &values(&place)?);
            } else {
                inside.extend_from_slice(&own);
            }
            put_bytes(&mut graph, 5, &inside);
        }
        let bytes = self.with_graph(&graph)?;
        match Model::parse(&bytes)?.external()?.first() {
            Some(left) => error(format!(
                "constant `{}` lies in {:?} and is one of a node or a sub-graph, which ONNX Runtime finds from 1.23 on only, and through no link \
                 to another folder",
                left.name, left.location
            )),
            None => Ok(bytes),
        }
    }

    /// A constant as a reference to where its values lie in `file`; `None` when it is small or not kept as plain bytes.
    fn reference(&self, tensor: &[u8], file: &str) -> Result<Option<Vec<u8>>, OnnxError> {
        let (mut reference, mut values) = (Vec::new(), None);
        for field in FieldReader::new("a tensor", tensor) {
            let field = field?;
            match (field.number, field.value) {
                (9, Wire::Bytes(raw)) if raw.len() >= LEAST_REFERENCE => values = Some(raw),
                (13 | 14, _) => return Ok(None),
                _ => reference.extend_from_slice(field.raw),
            }
        }
        let Some(values) = values else { return Ok(None) };
        // Both are parts of one slice.
        let offset = values.as_ptr() as usize - self.bytes.as_ptr() as usize;
        let place =
            [("location", file.to_string()), ("offset", offset.to_string()), ("length", values.len().to_string())];
        for (key, value) in place {
            let mut entry = Vec::new();
            put_bytes(&mut entry, 1, key.as_bytes());
            put_bytes(&mut entry, 2, value.as_bytes());
            put_bytes(&mut reference, 13, &entry);
        }
        put_integer(&mut reference, 14, 1); // TensorProto.EXTERNAL
        Ok(Some(reference))
    }
}

/// Bytes from which on a constant is worth a reference instead of a copy.
const LEAST_REFERENCE: usize = 4096;

/// Collects the bytes of the rewritten graph.
struct Rewriter<'a> {
    graph: Vec<u8>,
    casts: usize,
    taken: HashSet<&'a str>,
}

impl Rewriter<'_> {
    /// A value name that the graph does not use yet.
    fn fresh(&mut self, name: &str) -> String {
        loop {
            let fresh = format!("{name}__f32_{}", self.casts);
            self.casts += 1;
            if !self.taken.contains(fresh.as_str()) {
                return fresh;
            }
        }
    }

    fn cast(&mut self, from: &str, to: &str, dtype: ElementType) {
        let mut attribute = Vec::new();
        put_bytes(&mut attribute, 1, b"to");
        put_integer(&mut attribute, 3, dtype.0);
        put_integer(&mut attribute, 20, 2); // AttributeProto.INT
        let mut node = Vec::new();
        put_bytes(&mut node, 1, from.as_bytes());
        put_bytes(&mut node, 2, to.as_bytes());
        put_bytes(&mut node, 3, format!("emulate_half_{}", self.casts).as_bytes());
        put_bytes(&mut node, 4, b"Cast");
        put_bytes(&mut node, 5, &attribute);
        self.casts += 1;
        put_bytes(&mut self.graph, 1, &node);
    }

    /// The node with other inputs and outputs, everything else as it was.
    fn node(
        &mut self,
        node: &Node<'_>,
        inputs: &[String],
        outputs: &[(String, Option<ElementType>)],
    ) -> Result<(), OnnxError> {
        let mut bytes = Vec::with_capacity(node.raw.len() + 64);
        for input in inputs {
            put_bytes(&mut bytes, 1, input.as_bytes());
        }
        for (output, _) in outputs {
            put_bytes(&mut bytes, 2, output.as_bytes());
        }
        for field in FieldReader::new("a node", node.raw) {
            let field = field?;
            if field.number != 1 && field.number != 2 {
                bytes.extend_from_slice(field.raw);
            }
        }
        put_bytes(&mut self.graph, 1, &bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::build;

    #[test]
    fn rewrite_keeps_every_other_byte() {
        let bytes = build::matmul(ElementType::BF16);
        let emulated = Model::parse(&bytes).unwrap().emulate_half().unwrap();
        assert_eq!((emulated.casts_in, emulated.casts_out), (2, 1));
        let model = Model::parse(&emulated.bytes).unwrap();
        assert_eq!(model.facts().share(ElementType::F32), (1, 1), "the MatMul now has f32 operands");
        let ops: Vec<&str> = model.nodes.iter().map(|n| n.op).collect();
        assert_eq!(ops, ["Cast", "Cast", "Cast", "MatMul", "Cast", "Cast"]);
        for kept in [&b"from the future"[..], b"\x0a\x01y", b"jetbench"] {
            assert!(emulated.bytes.windows(kept.len()).any(|w| w == kept), "{kept:?} is lost");
        }
        let fields = |bytes: &[u8]| -> Vec<(u32, Vec<u8>)> {
            let model = Model::parse(bytes).unwrap();
            let fields = FieldReader::new("graph", model.graph_bytes).map(|f| f.unwrap());
            fields.filter(|f| f.number != 1).map(|f| (f.number, f.raw.to_vec())).collect()
        };
        assert_eq!(fields(&bytes), fields(&emulated.bytes));
    }

    #[test]
    fn large_constants_become_references_to_where_they_lie() {
        let large: Vec<u8> = (0..LEAST_REFERENCE).map(|i| i as u8).collect();
        let bytes = build::model(
            9,
            20,
            &[
                (5, build::initializer("small", ElementType::F32, &[1], &[1, 2, 3, 4])),
                (1, build::node("MatMul", &["x", "large"], &["y"], &[])),
                (5, build::initializer("large", ElementType::F32, &[32, 32], &large)),
                (12, build::value_info("y", ElementType::F32, &[32, 32])),
                (9999, b"from the future".to_vec()),
            ],
        );
        let light = Model::parse(&bytes).unwrap().with_references("g.onnx").unwrap().unwrap();
        assert!(light.len() < bytes.len() - large.len() + 100);
        let model = Model::parse(&light).unwrap();
        let external = model.external().unwrap();
        assert_eq!((external.len(), external[0].name.as_str(), model.nodes.len()), (1, "large", 1));
        assert_eq!(model.initializers[0].floats(), Some(vec![f32::from_le_bytes([1, 2, 3, 4])]), "small ones stay");
        assert_eq!(
            (model.initializers[1].dtype, model.initializers[1].dims.as_slice()),
            (ElementType::F32, &[32, 32][..])
        );
        let entries: Vec<(String, String)> = FieldReader::new("a tensor", model.initializers[1].raw)
            .map(Result::unwrap)
            .filter(|field| field.number == 13)
            .map(|field| {
                let part = |n| {
                    let mut fields = FieldReader::new("an entry", field.bytes("an entry").unwrap()).map(Result::unwrap);
                    fields.find(|f| f.number == n).unwrap().text("a part").unwrap().to_string()
                };
                (part(1), part(2))
            })
            .collect();
        let number = |i: usize| entries[i].1.parse::<usize>().unwrap();
        assert_eq!((entries[0].0.as_str(), entries[0].1.as_str()), ("location", "g.onnx"));
        assert_eq!((entries[1].0.as_str(), entries[2].0.as_str()), ("offset", "length"));
        assert_eq!(bytes[number(1)..number(1) + number(2)], large);
        assert!(light.windows(15).any(|w| w == b"from the future"));
        // What already refers to a file, or has nothing to gain, stays.
        assert_eq!(model.with_references("h.onnx"), Ok(None));

        // And back.
        let mut read = Vec::new();
        let whole = model.with_values(|place| {
            read.push((place.name.clone(), place.location.clone()));
            let from = place.offset as usize;
            Ok(bytes[from..from + place.length.unwrap() as usize].to_vec())
        });
        let whole = whole.unwrap();
        assert_eq!(read, [("large".to_string(), "g.onnx".to_string())]);
        let back = Model::parse(&whole).unwrap();
        assert_eq!((back.external().unwrap(), back.initializers[1].raw_values()), (vec![], Some(large.as_slice())));
        assert_eq!((whole.len(), back.initializers[1].dims.as_slice()), (bytes.len(), &[32, 32][..]));
        let refused = model.with_values(|_| error("no such file")).unwrap_err();
        assert_eq!(refused.0, "no such file");

        // A place that is named and not meant.
        let mut tensor = build::initializer("w", ElementType::F32, &[1], &[1, 2, 3, 4]);
        let mut entry = Vec::new();
        put_bytes(&mut entry, 1, b"location");
        put_bytes(&mut entry, 2, b"g.onnx");
        put_bytes(&mut tensor, 13, &entry);
        let relu = build::node("Relu", &["w"], &["y"], &[]);
        let output = build::value_info("y", ElementType::F32, &[1]);
        let bytes = build::model(9, 20, &[(1, relu), (5, tensor), (12, output)]);
        let own = Model::parse(&bytes).unwrap().with_values(|_| error("not asked for")).unwrap();
        assert_eq!(Model::parse(&own).unwrap().initializers[0].raw_values(), Some(&[1, 2, 3, 4][..]));
    }

    #[test]
    fn a_constant_of_a_node_that_lies_elsewhere_is_not_left_there_unsaid() {
        let entry = |key: &[u8], value: &[u8]| {
            let mut entry = Vec::new();
            put_bytes(&mut entry, 1, key);
            put_bytes(&mut entry, 2, value);
            entry
        };
        let outside = |offset: &[u8]| {
            let mut tensor = build::initializer("w", ElementType::F32, &[1], &[]);
            put_bytes(&mut tensor, 13, &entry(b"location", b"w.bin"));
            put_bytes(&mut tensor, 13, &entry(b"offset", offset));
            put_integer(&mut tensor, 14, 1);
            tensor
        };
        let mut attribute = Vec::new();
        put_bytes(&mut attribute, 1, b"value");
        put_bytes(&mut attribute, 5, &outside(b"0"));
        let mut node = build::node("Constant", &[], &["w"], &[]);
        put_bytes(&mut node, 5, &attribute);
        let bytes = build::model(9, 20, &[(1, node), (12, build::value_info("w", ElementType::F32, &[1]))]);
        let left = Model::parse(&bytes).unwrap().with_values(|_| Ok(vec![0; 4])).unwrap_err();
        assert!(left.0.contains("constant `w` lies in \"w.bin\""), "{left}");
        let relu = build::node("Relu", &["w"], &["y"], &[]);
        let bytes = build::model(
            9,
            20,
            &[(1, relu), (5, outside(b"-4")), (12, build::value_info("y", ElementType::F32, &[1]))],
        );
        let wrong = Model::parse(&bytes).and_then(|model| model.with_values(|_| Ok(vec![0; 4]))).unwrap_err();
        assert!(wrong.0.contains("offset \"-4\": a number of bytes expected"), "{wrong}");
    }

    #[test]
    fn a_plain_graph_is_not_changed() {
        let bytes = build::matmul(ElementType::F32);
        let emulated = Model::parse(&bytes).unwrap().emulate_half().unwrap();
        assert_eq!(emulated.bytes, bytes);
        assert_eq!((emulated.casts_in, emulated.casts_out), (0, 0));
    }

    #[test]
    fn refuses_what_it_cannot_see_through() {
        let mut bytes = build::matmul(ElementType::BF16);
        let mut function = Vec::new();
        put_bytes(&mut function, 1, b"f");
        put_bytes(&mut bytes, 25, &function);
        let text = Model::parse(&bytes).unwrap().emulate_half().unwrap_err().0;
        assert!(text.contains("local function"), "{text}");

        // an operand whose type nothing tells
        let graph = [
            (1, build::node("Mystery", &["x"], &["m"], &[])),
            (1, build::node("If", &["m"], &["c"], &[])),
            (1, build::node("MatMul", &["c", "x"], &["y"], &[])),
            (11, build::value_info("x", ElementType::F32, &[2, 2])),
            (12, build::value_info("y", ElementType::F32, &[2, 2])),
        ];
        let bytes = build::model(9, 20, &graph);
        let text = Model::parse(&bytes).unwrap().emulate_half().unwrap_err().0;
        assert!(text.contains("operand `c` of MatMul"), "{text}");

        // half operands of a foreign operator
        let mut foreign = build::node("Fused", &["xh"], &["y"], &[]);
        put_bytes(&mut foreign, 7, b"com.example");
        let graph = [
            (1, build::node("Cast", &["x"], &["xh"], &[("to", 16)])),
            (1, foreign),
            (11, build::value_info("x", ElementType::F32, &[2, 2])),
            (12, build::value_info("y", ElementType::F32, &[2, 2])),
        ];
        let bytes = build::model(9, 20, &graph);
        let text = Model::parse(&bytes).unwrap().emulate_half().unwrap_err().0;
        assert!(text.contains("com.example"), "{text}");
    }
}
