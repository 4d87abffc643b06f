//! What is in the file? An ONNX model, borrowed from its bytes: operators, constants, inputs and outputs. Field numbers are
//! those of the ONNX standard's `onnx.proto`.

use std::collections::HashSet;

use super::dtype::{Dimension, ElementType};
use crate::lfs::{LFS_POINTER, is_lfs_pointer};

use super::wire::{FieldReader, MOST_AXES, OnnxError, Wire, error, push};

/// Name, element type and shape of a graph input, output or inner value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueInfo<'a> {
    /// Name.
    pub name: &'a str,
    /// Element type; `None` when it is no tensor or not stated.
    pub dtype: Option<ElementType>,
    /// Shape; `None` when not stated.
    pub shape: Option<Vec<Dimension>>,
}

/// A constant of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initializer<'a> {
    /// Name.
    pub name: &'a str,
    /// Element type.
    pub dtype: ElementType,
    /// Shape.
    pub dims: Vec<i64>,
    /// Are the values in another file?
    pub external: bool,
    pub(super) raw: &'a [u8],
}

/// Most values of an integer constant that are read: shapes, axes, starts and ends are short.
const MOST_CONSTANTS: usize = 1024;

impl<'a> Initializer<'a> {
    /// The values' bytes, where this file keeps them as such.
    pub fn raw_values(&self) -> Option<&'a [u8]> {
        FieldReader::new("a tensor", self.raw).filter_map(Result::ok).find_map(|field| {
            match (field.number, field.value) {
                (9, Wire::Bytes(bytes)) => Some(bytes),
                _ => None,
            }
        })
    }

    /// Number of elements; 0 when a size is negative or the product is out of range.
    pub fn elements(&self) -> u64 {
        self.dims.iter().try_fold(1u64, |n, &d| n.checked_mul(u64::try_from(d).ok()?)).unwrap_or(0)
    }

    /// Values of a short f32 constant kept in this file, as scales are; `None` for anything else.
    pub fn floats(&self) -> Option<Vec<f32>> {
        let count = usize::try_from(self.elements()).ok().filter(|&n| n <= MOST_CONSTANTS)?;
        if self.external || self.dtype != ElementType::F32 {
            return None;
        }
        let mut values = Vec::with_capacity(count);
        for field in FieldReader::new("a tensor", self.raw) {
            let field = field.ok()?;
            if let (4 | 9, Wire::Bytes(bytes)) = (field.number, field.value) {
                values.extend(
                    bytes.chunks_exact(4).take(count).filter_map(|b| Some(f32::from_le_bytes(b.try_into().ok()?))),
                );
            }
        }
        (values.len() == count).then_some(values)
    }

    /// Values of a short integer constant kept in this file, as shapes and axes are; `None` for anything else.
    pub fn integers(&self) -> Option<Vec<i64>> {
        let count = usize::try_from(self.elements()).ok().filter(|&n| n <= MOST_CONSTANTS)?;
        if self.external || !matches!(self.dtype, ElementType::I64 | ElementType::I32) {
            return None;
        }
        let mut values = Vec::with_capacity(count);
        for field in FieldReader::new("a tensor", self.raw) {
            let field = field.ok()?;
            match (field.number, field.value) {
                (5 | 7, Wire::Varint(value)) => values.push(value as i64),
                (5 | 7, Wire::Bytes(bytes)) => {
                    let mut packed = FieldReader::new("a tensor's values", bytes);
                    while packed.at < bytes.len() && values.len() <= count {
                        values.push(packed.varint().ok()? as i64);
                    }
                }
                (9, Wire::Bytes(bytes)) if self.dtype == ElementType::I64 => values.extend(
                    bytes.chunks_exact(8).take(count).filter_map(|b| Some(i64::from_le_bytes(b.try_into().ok()?))),
                ),
                (9, Wire::Bytes(bytes)) => values.extend(
                    bytes
                        .chunks_exact(4)
                        .take(count)
                        .filter_map(|b| Some(i64::from(i32::from_le_bytes(b.try_into().ok()?)))),
                ),
                _ => {}
            }
        }
        (values.len() == count).then_some(values)
    }
}

/// One operator.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    /// Operator name, e.g. `MatMul`.
    pub op: &'a str,
    /// Operator set, empty for ONNX's own.
    pub domain: &'a str,
    /// Node name, often empty.
    pub name: &'a str,
    /// Names of its inputs; an empty name is an input left out.
    pub inputs: Vec<&'a str>,
    /// Names of its outputs.
    pub outputs: Vec<&'a str>,
    /// Element type its attributes state (`to` of Cast, the tensor of Constant and ConstantOfShape).
    pub stated: Option<ElementType>,
    /// Nodes inside its sub-graphs (If, Loop, Scan) that ask for care: their operators.
    pub(super) subgraph_ops: Vec<&'a str>,
    pub(super) raw: &'a [u8],
}

impl<'a> Node<'a> {
    /// Is this an operator of ONNX's own set?
    pub fn is_standard(&self) -> bool {
        self.domain.is_empty() || self.domain == "ai.onnx"
    }

    /// Integers of an attribute, one or several; `None` when it is not there or holds no integers.
    pub fn integers(&self, name: &str) -> Option<Vec<i64>> {
        let mut list = Vec::new();
        for field in FieldReader::new("an attribute", self.attribute(name)?) {
            let field = field.ok()?;
            match field.number {
                3 => list.push(field.integer("an attribute's number").ok()?),
                8 => field.integers("an attribute's numbers", &mut list).ok()?,
                _ => {}
            }
        }
        (!list.is_empty()).then_some(list)
    }

    /// One integer of an attribute, or what holds when it is left out.
    pub fn integer(&self, name: &str, default: i64) -> i64 {
        self.integers(name).and_then(|list| list.first().copied()).unwrap_or(default)
    }

    /// Text of an attribute.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        let mut fields = FieldReader::new("an attribute", self.attribute(name)?).flatten();
        fields.find(|field| field.number == 4)?.text("an attribute's text").ok()
    }

    /// Tensor of an attribute, e.g. the value of Constant.
    pub fn tensor(&self, name: &str) -> Option<Initializer<'a>> {
        let mut fields = FieldReader::new("an attribute", self.attribute(name)?).flatten();
        tensor(fields.find(|field| field.number == 5)?.bytes("an attribute's tensor").ok()?).ok()
    }

    fn attribute(&self, name: &str) -> Option<&'a [u8]> {
        let attributes = FieldReader::new("a node", self.raw).flatten().filter(|field| field.number == 5);
        attributes.filter_map(|field| field.bytes("an attribute").ok()).find(|bytes| {
            let mut fields = FieldReader::new("an attribute", bytes).flatten();
            fields.find(|f| f.number == 1).and_then(|f| f.text("an attribute's name").ok()) == Some(name)
        })
    }

    /// How error texts call this node.
    pub fn label(&self) -> String {
        let name = if self.name.is_empty() { self.outputs.first().copied().unwrap_or("") } else { self.name };
        format!("{} `{name}`", self.op)
    }
}

/// An ONNX model, borrowed from the bytes of its file.
#[derive(Clone, Debug)]
pub struct Model<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) graph_bytes: &'a [u8],
    /// Version of the file format.
    pub ir_version: i64,
    /// Program that wrote it.
    pub producer: String,
    /// Operator sets: domain (empty: ONNX) and version.
    pub opsets: Vec<(String, i64)>,
    /// Operators in order.
    pub nodes: Vec<Node<'a>>,
    /// Constants.
    pub initializers: Vec<Initializer<'a>>,
    /// Inputs without those that only give defaults to constants.
    pub inputs: Vec<ValueInfo<'a>>,
    /// Outputs.
    pub outputs: Vec<ValueInfo<'a>>,
    /// Inner values with a stated type.
    pub values: Vec<ValueInfo<'a>>,
    /// Model-local functions, as `domain::name`.
    pub functions: Vec<String>,
}

impl<'a> Model<'a> {
    /// Reads a model.
    ///
    /// # Errors
    /// Says what is broken: a truncated or foreign file, text that is not UTF-8, a model without a graph.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, OnnxError> {
        if is_lfs_pointer(bytes) {
            return error(LFS_POINTER);
        }
        let mut model = Model {
            bytes,
            graph_bytes: &[],
            ir_version: 0,
            producer: String::new(),
            opsets: Vec::new(),
            nodes: Vec::new(),
            initializers: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            values: Vec::new(),
            functions: Vec::new(),
        };
        let mut graphs = 0;
        let mut producer = ("", "");
        for field in FieldReader::new("the model", bytes) {
            let field = field?;
            match field.number {
                1 => model.ir_version = field.integer("the model's ir_version")?,
                2 => producer.0 = field.text("the producer's name")?,
                3 => producer.1 = field.text("the producer's version")?,
                7 => {
                    graphs += 1;
                    model.graph_bytes = field.bytes("the graph")?;
                }
                8 => push(&mut model.opsets, opset(field.bytes("an opset")?)?, "opset_import")?,
                25 => push(&mut model.functions, function_name(field.bytes("a function")?)?, "functions")?,
                _ => {}
            }
        }
        if graphs != 1 || model.ir_version <= 0 {
            return error(format!(
                "no ONNX model: {graphs} graphs (expected 1), ir_version {} (expected 1 or more)",
                model.ir_version
            ));
        }
        model.producer = format!("{} {}", producer.0, producer.1).trim().to_string();
        model.read_graph()?;
        Ok(model)
    }

    fn read_graph(&mut self) -> Result<(), OnnxError> {
        for field in FieldReader::new("the graph", self.graph_bytes) {
            let field = field?;
            match field.number {
                1 => push(&mut self.nodes, node(field.bytes("a node")?)?, "node")?,
                5 => push(&mut self.initializers, tensor(field.bytes("an initializer")?)?, "initializer")?,
                11 => push(&mut self.inputs, value_info(field.bytes("a graph input")?)?, "input")?,
                12 => push(&mut self.outputs, value_info(field.bytes("a graph output")?)?, "output")?,
                13 => push(&mut self.values, value_info(field.bytes("a value_info")?)?, "value_info")?,
                15 => {
                    push(&mut self.initializers, sparse_tensor(field.bytes("a sparse initializer")?)?, "initializer")?
                }
                _ => {}
            }
        }
        let constants: HashSet<&str> = self.initializers.iter().map(|i| i.name).collect();
        self.inputs.retain(|input| !constants.contains(input.name));
        if self.nodes.is_empty() || self.outputs.is_empty() {
            return error(format!("the graph has {} nodes and {} outputs", self.nodes.len(), self.outputs.len()));
        }
        Ok(())
    }

    /// Version of ONNX's own operator set; 0 when not stated.
    pub fn opset(&self) -> i64 {
        self.opsets.iter().find(|(domain, _)| domain.is_empty() || domain == "ai.onnx").map_or(0, |&(_, v)| v)
    }
}

pub(super) fn opset(bytes: &[u8]) -> Result<(String, i64), OnnxError> {
    let mut opset = (String::new(), 0);
    for field in FieldReader::new("an opset", bytes) {
        let field = field?;
        match field.number {
            1 => opset.0 = field.text("an opset's domain")?.to_string(),
            2 => opset.1 = field.integer("an opset's version")?,
            _ => {}
        }
    }
    Ok(opset)
}

fn function_name(bytes: &[u8]) -> Result<String, OnnxError> {
    let (mut name, mut domain) = ("", "");
    for field in FieldReader::new("a function", bytes) {
        let field = field?;
        match field.number {
            1 => name = field.text("a function's name")?,
            10 => domain = field.text("a function's domain")?,
            _ => {}
        }
    }
    Ok(format!("{domain}::{name}"))
}

fn node(bytes: &[u8]) -> Result<Node<'_>, OnnxError> {
    let mut node = Node {
        op: "",
        domain: "",
        name: "",
        inputs: Vec::new(),
        outputs: Vec::new(),
        stated: None,
        subgraph_ops: Vec::new(),
        raw: bytes,
    };
    for field in FieldReader::new("a node", bytes) {
        let field = field?;
        match field.number {
            1 => push(&mut node.inputs, field.text("a node's input")?, "node inputs")?,
            2 => push(&mut node.outputs, field.text("a node's output")?, "node outputs")?,
            3 => node.name = field.text("a node's name")?,
            4 => node.op = field.text("a node's operator")?,
            5 => attribute(field.bytes("an attribute")?, &mut node, 0)?,
            7 => node.domain = field.text("a node's domain")?,
            _ => {}
        }
    }
    if node.op.is_empty() { error(format!("a node has no operator (its name: `{}`)", node.name)) } else { Ok(node) }
}

/// Deepest nesting of sub-graphs that is read; the recursion must end on forged files too.
pub(super) const DEEPEST: usize = 16;

fn attribute<'a>(bytes: &'a [u8], node: &mut Node<'a>, depth: usize) -> Result<(), OnnxError> {
    let (mut name, mut integer, mut tensor_type) = ("", None, None);
    for field in FieldReader::new("an attribute", bytes) {
        let field = field?;
        match field.number {
            1 => name = field.text("an attribute's name")?,
            3 => integer = Some(field.integer("an attribute's number")?),
            5 => tensor_type = Some(tensor(field.bytes("an attribute's tensor")?)?.dtype),
            6 | 11 => subgraph(field.bytes("a sub-graph")?, node, depth)?,
            _ => {}
        }
    }
    if depth == 0 {
        match (node.op, name) {
            (_, "to") => node.stated = integer.map(ElementType),
            (_, "value") if tensor_type.is_some() => node.stated = tensor_type,
            _ => {}
        }
    }
    Ok(())
}

fn subgraph<'a>(bytes: &'a [u8], owner: &mut Node<'a>, depth: usize) -> Result<(), OnnxError> {
    if depth >= DEEPEST {
        return error(format!("sub-graphs are nested more than {DEEPEST} deep"));
    }
    for field in FieldReader::new("a sub-graph", bytes) {
        let field = field?;
        if field.number != 1 {
            continue;
        }
        for inner in FieldReader::new("a node of a sub-graph", field.bytes("a node")?) {
            let inner = inner?;
            match inner.number {
                4 => push(&mut owner.subgraph_ops, inner.text("a node's operator")?, "nodes of sub-graphs")?,
                5 => attribute(inner.bytes("an attribute")?, owner, depth + 1)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn tensor(bytes: &[u8]) -> Result<Initializer<'_>, OnnxError> {
    let mut tensor = Initializer { name: "", dtype: ElementType(0), dims: Vec::new(), external: false, raw: bytes };
    for field in FieldReader::new("a tensor", bytes) {
        let field = field?;
        match field.number {
            1 => field.integers("a tensor's dims", &mut tensor.dims)?,
            2 => tensor.dtype = ElementType(field.integer("a tensor's data_type")?),
            8 => tensor.name = field.text("a tensor's name")?,
            13 => tensor.external = true,
            14 => tensor.external |= field.integer("a tensor's data_location")? == 1,
            _ => {}
        }
    }
    Ok(tensor)
}

fn sparse_tensor(bytes: &[u8]) -> Result<Initializer<'_>, OnnxError> {
    let mut values = None;
    let mut dims = Vec::new();
    for field in FieldReader::new("a sparse tensor", bytes) {
        let field = field?;
        match field.number {
            1 => values = Some(tensor(field.bytes("a sparse tensor's values")?)?),
            3 => field.integers("a sparse tensor's dims", &mut dims)?,
            _ => {}
        }
    }
    match values {
        Some(values) => Ok(Initializer { dims, ..values }),
        None => error("a sparse tensor has no values"),
    }
}

pub(super) fn value_info(bytes: &[u8]) -> Result<ValueInfo<'_>, OnnxError> {
    let mut info = ValueInfo { name: "", dtype: None, shape: None };
    for field in FieldReader::new("a value_info", bytes) {
        let field = field?;
        match field.number {
            1 => info.name = field.text("a value's name")?,
            2 => {
                for kind in FieldReader::new("a type", field.bytes("a value's type")?) {
                    let kind = kind?;
                    if kind.number == 1 {
                        tensor_type(kind.bytes("a tensor type")?, &mut info)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(info)
}

fn tensor_type(bytes: &[u8], info: &mut ValueInfo<'_>) -> Result<(), OnnxError> {
    for field in FieldReader::new("a tensor type", bytes) {
        let field = field?;
        match field.number {
            1 => info.dtype = Some(ElementType(field.integer("an element type")?)),
            2 => {
                let mut shape = Vec::new();
                for dim in FieldReader::new("a shape", field.bytes("a shape")?) {
                    let dim = dim?;
                    if dim.number == 1 {
                        let mut axis = Dimension::Dynamic(String::new());
                        for part in FieldReader::new("an axis", dim.bytes("an axis")?) {
                            let part = part?;
                            match part.number {
                                1 => axis = Dimension::Size(part.integer("an axis size")?),
                                2 => axis = Dimension::Dynamic(part.text("an axis name")?.to_string()),
                                _ => {}
                            }
                        }
                        if shape.len() >= MOST_AXES {
                            return error(format!("a shape has more than {MOST_AXES} axes"));
                        }
                        shape.push(axis);
                    }
                }
                info.shape = Some(shape);
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::build;
    use crate::onnx::wire::put_varint;
    use proptest::prelude::*;

    #[test]
    fn reads_a_model() {
        let bytes = build::matmul(ElementType::BF16);
        let model = Model::parse(&bytes).unwrap();
        assert_eq!((model.ir_version, model.opset(), model.producer.as_str()), (9, 20, "jetbench"));
        assert_eq!(model.inputs[0].shape, Some(vec![Dimension::Size(2), Dimension::Size(2)]));
        assert_eq!(model.initializers[0].dims, [2, 2]);
        let facts = model.facts();
        assert_eq!(facts.share(ElementType::BF16), (1, 1));
        assert_eq!(facts.to_string(), "opset 20, 3 nodes; operands: MatMul 1 bf16");
    }

    #[test]
    fn every_truncation_is_an_error_or_a_shorter_model() {
        let bytes = build::matmul(ElementType::F16);
        let whole = Model::parse(&bytes).unwrap().nodes.len();
        for length in 0..bytes.len() {
            if let Ok(model) = Model::parse(&bytes[..length]) {
                // only the opset after the graph may be cut off
                assert_eq!((model.nodes.len(), model.opset()), (whole, 0), "at {length}");
            }
        }
        let text = Model::parse(&bytes[..40]).unwrap_err().0;
        assert!(text.contains("needs") && text.contains("are left"), "{text}");
        assert!(Model::parse(b"not a model at all").is_err());
        assert!(Model::parse(b"").is_err());
    }

    #[test]
    fn a_forged_length_allocates_nothing() {
        let mut bytes = vec![0x08, 0x09, 0x3a];
        put_varint(&mut bytes, u64::MAX >> 1);
        assert!(Model::parse(&bytes).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Model::parse(&bytes).map(|m| (m.facts(), m.emulate_half().is_ok()));
        }

        #[test]
        fn damaged_models_never_panic(
            damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
            cut in any::<proptest::sample::Index>(),
        ) {
            let mut bytes = build::matmul(ElementType::BF16);
            for (at, value) in damage {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let _ = Model::parse(&bytes).map(|m| (m.facts(), m.emulate_half().is_ok()));
            let cut = cut.index(bytes.len());
            let _ = Model::parse(&bytes[..cut]);
        }
    }
}
