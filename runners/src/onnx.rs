//! Reads ONNX files, so that a pack can be checked against its manifest and the precision of a graph can be proven
//! before (and without) loading ONNX Runtime, and rewrites half-typed graphs for providers that have no half kernels.
//! It works on the protobuf wire format itself: what it does not understand it copies byte for byte, so a rewrite
//! cannot lose a field, known or unknown. Field numbers are those of the ONNX standard's `onnx.proto`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use serde::Deserialize;

/// Why bytes are not an ONNX model this program can work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OnnxError(pub String);

fn error<T>(text: impl Into<String>) -> Result<T, OnnxError> {
    Err(OnnxError(text.into()))
}

/// Upper bound on the entries of one repeated field; far above real graphs, it stops a forged file from asking for
/// many times its own size in memory.
const MOST_ENTRIES: usize = 1 << 20;

/// Most axes of a tensor that are read.
const MOST_AXES: usize = 64;

// ---------------------------------------------------------------------------------------------------------------
// Wire format

/// One protobuf field as found: number, value and all its bytes (tag included).
#[derive(Clone, Copy, Debug)]
struct Field<'a> {
    number: u32,
    value: Wire<'a>,
    raw: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
enum Wire<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// 32- or 64-bit fixed value; no field read here has this type.
    Fixed,
}

/// Iterates over the fields of one message.
struct Fields<'a> {
    message: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn new(message: &'static str, bytes: &'a [u8]) -> Self {
        Fields { message, bytes, at: 0 }
    }

    fn varint(&mut self) -> Result<u64, OnnxError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let Some(&byte) = self.bytes.get(self.at) else {
                return error(format!("{} ends in the middle of a number", self.message));
            };
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        error(format!("{} holds a number of more than 64 bits", self.message))
    }

    fn take(&mut self, count: u64, number: u32) -> Result<&'a [u8], OnnxError> {
        let left = self.bytes.len() - self.at;
        match usize::try_from(count) {
            Ok(count) if count <= left => {
                let slice = &self.bytes[self.at..self.at + count];
                self.at += count;
                Ok(slice)
            }
            _ => error(format!("field {number} of {} needs {count} bytes, {left} are left", self.message)),
        }
    }

    fn read(&mut self) -> Result<Field<'a>, OnnxError> {
        let start = self.at;
        let tag = self.varint()?;
        let number = match u32::try_from(tag >> 3) {
            Ok(number) if number != 0 && number < 1 << 29 => number,
            _ => return error(format!("{} holds an impossible field number", self.message)),
        };
        let value = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                self.take(8, number)?;
                Wire::Fixed
            }
            2 => {
                let length = self.varint()?;
                Wire::Bytes(self.take(length, number)?)
            }
            5 => {
                self.take(4, number)?;
                Wire::Fixed
            }
            other => return error(format!("field {number} of {} has unknown wire type {other}", self.message)),
        };
        Ok(Field { number, value, raw: &self.bytes[start..self.at] })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, OnnxError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.at = self.bytes.len(); // a broken message has no further fields
        }
        Some(field)
    }
}

impl<'a> Field<'a> {
    fn bytes(&self, what: &str) -> Result<&'a [u8], OnnxError> {
        match self.value {
            Wire::Bytes(bytes) => Ok(bytes),
            _ => error(format!("{what} is a number where text or a message is expected")),
        }
    }

    fn text(&self, what: &str) -> Result<&'a str, OnnxError> {
        std::str::from_utf8(self.bytes(what)?).or_else(|_| error(format!("{what} is not UTF-8 text")))
    }

    fn integer(&self, what: &str) -> Result<i64, OnnxError> {
        match self.value {
            Wire::Varint(value) => Ok(value as i64), // protobuf int64: two's complement in 64 bits
            _ => error(format!("{what} is not a number")),
        }
    }

    /// Integers of a repeated field, packed or not.
    fn integers(&self, what: &'static str, into: &mut Vec<i64>) -> Result<(), OnnxError> {
        match self.value {
            Wire::Varint(value) => into.push(value as i64),
            Wire::Bytes(bytes) => {
                let mut packed = Fields::new(what, bytes);
                while packed.at < bytes.len() && into.len() <= MOST_AXES {
                    into.push(packed.varint()? as i64);
                }
            }
            Wire::Fixed => return error(format!("{what} is not a number")),
        }
        if into.len() > MOST_AXES { error(format!("{what} has more than {MOST_AXES} entries")) } else { Ok(()) }
    }
}

fn push<T>(list: &mut Vec<T>, item: T, what: &str) -> Result<(), OnnxError> {
    if list.len() >= MOST_ENTRIES {
        return error(format!("more than {MOST_ENTRIES} entries of {what}"));
    }
    list.push(item);
    Ok(())
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_integer(out: &mut Vec<u8>, number: u32, value: i64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value as u64);
}

// ---------------------------------------------------------------------------------------------------------------
// Model

/// Element type of a tensor, with ONNX's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ElementType(pub i64);

impl ElementType {
    /// 32-bit float.
    pub const F32: Self = ElementType(1);
    /// 32-bit integer.
    pub const I32: Self = ElementType(6);
    /// 64-bit integer.
    pub const I64: Self = ElementType(7);
    /// Truth value.
    pub const BOOL: Self = ElementType(9);
    /// IEEE binary16.
    pub const F16: Self = ElementType(10);
    /// bfloat16.
    pub const BF16: Self = ElementType(16);

    /// Bytes per element; 0 for text and unknown types.
    pub fn bytes(self) -> u64 {
        match self.0 {
            2 | 3 | 9 => 1,
            4 | 5 | 10 | 16 => 2,
            1 | 6 | 12 => 4,
            7 | 11 | 13 | 14 => 8,
            15 => 16,
            _ => 0,
        }
    }

    /// Is it one of the two 16-bit floats?
    pub fn is_half(self) -> bool {
        self == Self::F16 || self == Self::BF16
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            "undefined",
            "f32",
            "u8",
            "i8",
            "u16",
            "i16",
            "i32",
            "i64",
            "string",
            "bool",
            "f16",
            "f64",
            "u32",
            "u64",
            "c64",
            "c128",
            "bf16",
        ];
        match usize::try_from(self.0).ok().and_then(|n| names.get(n)) {
            Some(name) => f.pad(name),
            None => f.pad(&format!("type {}", self.0)),
        }
    }
}

/// Size of one axis. In a manifest a number or a name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "the size of an axis or its name")]
pub enum Axis {
    /// Fixed.
    Size(i64),
    /// Named or unknown: decided at run time.
    Dynamic(String),
}

/// A shape as it is written in messages: `[objects, 7, 512, 64]`.
pub fn shape_text(shape: &[Axis]) -> String {
    format!("[{}]", shape.iter().map(Axis::to_string).collect::<Vec<_>>().join(", "))
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Axis::Size(n) => write!(f, "{n}"),
            Axis::Dynamic(name) if name.is_empty() => f.write_str("?"),
            Axis::Dynamic(name) => f.write_str(name),
        }
    }
}

/// Name, element type and shape of a graph input, output or inner value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueInfo<'a> {
    /// Name.
    pub name: &'a str,
    /// Element type; `None` when it is no tensor or not stated.
    pub dtype: Option<ElementType>,
    /// Shape; `None` when not stated.
    pub shape: Option<Vec<Axis>>,
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
    raw: &'a [u8],
}

/// Most values of an integer constant that are read: shapes, axes, starts and ends are short.
const MOST_CONSTANTS: usize = 1024;

impl Initializer<'_> {
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
        for field in Fields::new("a tensor", self.raw) {
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
        for field in Fields::new("a tensor", self.raw) {
            let field = field.ok()?;
            match (field.number, field.value) {
                (5 | 7, Wire::Varint(value)) => values.push(value as i64),
                (5 | 7, Wire::Bytes(bytes)) => {
                    let mut packed = Fields::new("a tensor's values", bytes);
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
    subgraph_ops: Vec<&'a str>,
    raw: &'a [u8],
}

impl<'a> Node<'a> {
    /// Is this an operator of ONNX's own set?
    pub fn is_standard(&self) -> bool {
        self.domain.is_empty() || self.domain == "ai.onnx"
    }

    /// Integers of an attribute, one or several; `None` when it is not there or holds no integers.
    pub fn integers(&self, name: &str) -> Option<Vec<i64>> {
        let mut list = Vec::new();
        for field in Fields::new("an attribute", self.attribute(name)?) {
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
        let mut fields = Fields::new("an attribute", self.attribute(name)?).flatten();
        fields.find(|field| field.number == 4)?.text("an attribute's text").ok()
    }

    /// Tensor of an attribute, e.g. the value of Constant.
    pub fn tensor(&self, name: &str) -> Option<Initializer<'a>> {
        let mut fields = Fields::new("an attribute", self.attribute(name)?).flatten();
        tensor(fields.find(|field| field.number == 5)?.bytes("an attribute's tensor").ok()?).ok()
    }

    fn attribute(&self, name: &str) -> Option<&'a [u8]> {
        let attributes = Fields::new("a node", self.raw).flatten().filter(|field| field.number == 5);
        attributes.filter_map(|field| field.bytes("an attribute").ok()).find(|bytes| {
            let mut fields = Fields::new("an attribute", bytes).flatten();
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
    bytes: &'a [u8],
    graph_bytes: &'a [u8],
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
        for field in Fields::new("the model", bytes) {
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
        for field in Fields::new("the graph", self.graph_bytes) {
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

    /// First constant kept in another file, if any.
    pub fn external(&self) -> Option<&str> {
        self.initializers.iter().find(|i| i.external).map(|i| i.name)
    }

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
                "If" | "Loop" | "Scan" | "QuantizeLinear" | "DequantizeLinear" | "DynamicQuantizeLinear" => None,
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

    /// Counts for the precision evidence. Products of constants are not counted: they are no part of a run.
    pub fn facts(&self) -> GraphFacts {
        let types = self.types();
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
}

/// The domain of ONNX Runtime's own operators.
const RUNTIME_DOMAIN: &str = "com.microsoft";

/// The operators whose operands are rounded in a half precision: sums of products.
const CONTRACTIONS: [&str; 5] = ["MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum"];

fn is_contraction(node: &Node<'_>) -> bool {
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

fn opset(bytes: &[u8]) -> Result<(String, i64), OnnxError> {
    let mut opset = (String::new(), 0);
    for field in Fields::new("an opset", bytes) {
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
    for field in Fields::new("a function", bytes) {
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
    for field in Fields::new("a node", bytes) {
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
const DEEPEST: usize = 16;

fn attribute<'a>(bytes: &'a [u8], node: &mut Node<'a>, depth: usize) -> Result<(), OnnxError> {
    let (mut name, mut integer, mut tensor_type) = ("", None, None);
    for field in Fields::new("an attribute", bytes) {
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
    for field in Fields::new("a sub-graph", bytes) {
        let field = field?;
        if field.number != 1 {
            continue;
        }
        for inner in Fields::new("a node of a sub-graph", field.bytes("a node")?) {
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
    for field in Fields::new("a tensor", bytes) {
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
    for field in Fields::new("a sparse tensor", bytes) {
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

fn value_info(bytes: &[u8]) -> Result<ValueInfo<'_>, OnnxError> {
    let mut info = ValueInfo { name: "", dtype: None, shape: None };
    for field in Fields::new("a value_info", bytes) {
        let field = field?;
        match field.number {
            1 => info.name = field.text("a value's name")?,
            2 => {
                for kind in Fields::new("a type", field.bytes("a value's type")?) {
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
    for field in Fields::new("a tensor type", bytes) {
        let field = field?;
        match field.number {
            1 => info.dtype = Some(ElementType(field.integer("an element type")?)),
            2 => {
                let mut shape = Vec::new();
                for dim in Fields::new("a shape", field.bytes("a shape")?) {
                    let dim = dim?;
                    if dim.number == 1 {
                        let mut axis = Axis::Dynamic(String::new());
                        for part in Fields::new("an axis", dim.bytes("an axis")?) {
                            let part = part?;
                            match part.number {
                                1 => axis = Axis::Size(part.integer("an axis size")?),
                                2 => axis = Axis::Dynamic(part.text("an axis name")?.to_string()),
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

// ---------------------------------------------------------------------------------------------------------------
// Emulation of half precision

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
        for field in Fields::new("the graph", self.graph_bytes) {
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
    fn with_graph(&self, graph: &[u8]) -> Result<Vec<u8>, OnnxError> {
        let mut bytes = Vec::with_capacity(self.bytes.len() - self.graph_bytes.len() + graph.len() + 16);
        for field in Fields::new("the model", self.bytes) {
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
        for field in Fields::new("the graph", self.graph_bytes) {
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

    /// A constant as a reference to where its values lie in `file`; `None` when it is small or not kept as plain bytes.
    fn reference(&self, tensor: &[u8], file: &str) -> Result<Option<Vec<u8>>, OnnxError> {
        let (mut reference, mut values) = (Vec::new(), None);
        for field in Fields::new("a tensor", tensor) {
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
        for field in Fields::new("a node", node.raw) {
            let field = field?;
            if field.number != 1 && field.number != 2 {
                bytes.extend_from_slice(field.raw);
            }
        }
        put_bytes(&mut self.graph, 1, &bytes);
        Ok(())
    }
}

/// Writes small ONNX files: the graph that joins two memories, and those of tests.
pub(crate) mod build {
    use super::{Axis, ElementType, put_bytes, put_integer};

    /// A ValueInfoProto with fixed sizes.
    pub fn value_info(name: &str, dtype: ElementType, shape: &[i64]) -> Vec<u8> {
        let axes: Vec<Axis> = shape.iter().map(|&size| Axis::Size(size)).collect();
        value_info_of(name, dtype, &axes)
    }

    /// A ValueInfoProto; axes may have names.
    pub fn value_info_of(name: &str, dtype: ElementType, shape: &[Axis]) -> Vec<u8> {
        let mut dims = Vec::new();
        for size in shape {
            let mut axis = Vec::new();
            match size {
                Axis::Size(size) => put_integer(&mut axis, 1, *size),
                Axis::Dynamic(name) => put_bytes(&mut axis, 2, name.as_bytes()),
            }
            put_bytes(&mut dims, 1, &axis);
        }
        let mut tensor = Vec::new();
        put_integer(&mut tensor, 1, dtype.0);
        put_bytes(&mut tensor, 2, &dims);
        let mut kind = Vec::new();
        put_bytes(&mut kind, 1, &tensor);
        let mut info = Vec::new();
        put_bytes(&mut info, 1, name.as_bytes());
        put_bytes(&mut info, 2, &kind);
        info
    }

    /// A NodeProto of ONNX's own operator set with integer attributes.
    pub fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[(&str, i64)]) -> Vec<u8> {
        let mut node = Vec::new();
        for input in inputs {
            put_bytes(&mut node, 1, input.as_bytes());
        }
        for output in outputs {
            put_bytes(&mut node, 2, output.as_bytes());
        }
        put_bytes(&mut node, 4, op.as_bytes());
        for (name, value) in attributes {
            let mut attribute = Vec::new();
            put_bytes(&mut attribute, 1, name.as_bytes());
            put_integer(&mut attribute, 3, *value);
            put_integer(&mut attribute, 20, 2);
            put_bytes(&mut node, 5, &attribute);
        }
        node
    }

    /// A TensorProto with raw little-endian values.
    #[cfg(test)]
    pub fn initializer(name: &str, dtype: ElementType, dims: &[i64], raw: &[u8]) -> Vec<u8> {
        let mut tensor = Vec::new();
        for &size in dims {
            put_integer(&mut tensor, 1, size);
        }
        put_integer(&mut tensor, 2, dtype.0);
        put_bytes(&mut tensor, 8, name.as_bytes());
        put_bytes(&mut tensor, 9, raw);
        tensor
    }

    /// A ModelProto from the fields of its graph, as (number, bytes).
    pub fn model(ir: i64, opset: i64, graph: &[(u32, Vec<u8>)]) -> Vec<u8> {
        let mut body = Vec::new();
        put_bytes(&mut body, 2, b"g");
        for (number, bytes) in graph {
            put_bytes(&mut body, *number, bytes);
        }
        let mut version = Vec::new();
        put_integer(&mut version, 2, opset);
        let mut model = Vec::new();
        put_integer(&mut model, 1, ir);
        put_bytes(&mut model, 2, b"jetbench");
        put_bytes(&mut model, 7, &body);
        put_bytes(&mut model, 8, &version);
        model
    }

    /// y = (x cast to `dtype`) MatMul weight, cast back: 2x2 with weight [[1, 1 + 2^-9], [0, 1]].
    #[cfg(test)]
    pub fn matmul(dtype: ElementType) -> Vec<u8> {
        let values = [1.0f32, 1.0 + 2f32.powi(-9), 0.0, 1.0];
        let raw: Vec<u8> = match dtype {
            ElementType::BF16 => values.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect(),
            ElementType::F16 => values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        model(
            9,
            20,
            &[
                (1, node("Cast", &["x"], &["xh"], &[("to", dtype.0)])),
                (1, node("MatMul", &["xh", "w"], &["yh"], &[])),
                (1, node("Cast", &["yh"], &["y"], &[("to", 1)])),
                (5, initializer("w", dtype, &[2, 2], &raw)),
                (11, value_info("x", ElementType::F32, &[2, 2])),
                (12, value_info("y", ElementType::F32, &[2, 2])),
                (14, b"\x0a\x01y".to_vec()),         // quantization_annotation: must survive
                (9999, b"from the future".to_vec()), // an unknown field: must survive
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_a_model() {
        let bytes = build::matmul(ElementType::BF16);
        let model = Model::parse(&bytes).unwrap();
        assert_eq!((model.ir_version, model.opset(), model.producer.as_str()), (9, 20, "jetbench"));
        assert_eq!(model.inputs[0].shape, Some(vec![Axis::Size(2), Axis::Size(2)]));
        assert_eq!(model.initializers[0].dims, [2, 2]);
        let facts = model.facts();
        assert_eq!(facts.share(ElementType::BF16), (1, 1));
        assert_eq!(facts.to_string(), "opset 20, 3 nodes; operands: MatMul 1 bf16");
    }

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
            let fields = Fields::new("graph", model.graph_bytes).map(|f| f.unwrap());
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
        assert_eq!((model.external(), model.nodes.len()), (Some("large"), 1));
        assert_eq!(model.initializers[0].floats(), Some(vec![f32::from_le_bytes([1, 2, 3, 4])]), "small ones stay");
        assert_eq!(
            (model.initializers[1].dtype, model.initializers[1].dims.as_slice()),
            (ElementType::F32, &[32, 32][..])
        );
        let entries: Vec<(String, String)> = Fields::new("a tensor", model.initializers[1].raw)
            .map(Result::unwrap)
            .filter(|field| field.number == 13)
            .map(|field| {
                let part = |n| {
                    let mut fields = Fields::new("an entry", field.bytes("an entry").unwrap()).map(Result::unwrap);
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
    }

    #[test]
    fn a_plain_graph_is_not_changed() {
        let bytes = build::matmul(ElementType::F32);
        let emulated = Model::parse(&bytes).unwrap().emulate_half().unwrap();
        assert_eq!(emulated.bytes, bytes);
        assert_eq!((emulated.casts_in, emulated.casts_out), (0, 0));
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
