//! How is attention computed where its weights are the largest values of a graph? Plain graphs write them out as one matrix
//! of queries times keys: 0.5 GB in fp32 for one object of SAM 2.1 at 1024 px. Here such products become ONNX Runtime's own
//! fused operator or ONNX's, neither of which holds that matrix, or the same operators on strips of queries, which hold a part of it.
//!
//! The pattern: `MatMul(queries, keys^T)`, times a constant where there is one, its sum with one row of biases per object where there is one,
//! `Softmax` over the keys, `MatMul(weights, values)`; casts may stand between them. Nothing else may read what lies inside.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::build;
use super::dtype::ElementType;
use super::facts::RUNTIME_DOMAIN;
use super::model::{Model, Node};
use super::shapes::Shapes;
use super::wire::{FieldReader, OnnxError, put_bytes, put_integer};

/// How attention is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// As the file says.
    Whole,
    /// By ONNX Runtime's fused operator.
    Fused,
    /// By ONNX's own operator (opset 23), which TensorRT has a kernel for. `spread`: its mask has a row for each query, as ONNX Runtime's
    /// CPU provider wants it; else one row for all of them.
    Standard { spread: bool },
    /// Of at most so many queries at a time.
    Strips(usize),
}

impl fmt::Display for Attention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attention::Whole => f.write_str("as in the file"),
            Attention::Fused => f.write_str("fused"),
            Attention::Standard { .. } => f.write_str("by ONNX's Attention"),
            Attention::Strips(most) => write!(f, "for {most} queries at a time"),
        }
    }
}

/// A graph whose attention is computed in another way.
pub struct Attended {
    /// The whole model file.
    pub bytes: Vec<u8>,
    /// How many attentions were changed.
    pub changed: usize,
    /// Are weights kept in other files, named relative to the model's folder?
    pub has_weights_elsewhere: bool,
}

/// Weights (queries times keys) from which on attention is worth a fused operator.
const LEAST_FUSED: i64 = 1 << 16;
/// Channels that carry a bias into the fused operator: its kernels want widths that are multiples of eight.
const BIAS_CHANNELS: i64 = 8;
/// ONNX's operator: the set that has it, and the widest heads that NVIDIA's compiler takes.
const STANDARD_OPSET: i64 = 23;
const WIDEST_HEAD: i64 = 256;
/// Weights below which NVIDIA's compiler (TensorRT for RTX 1.7) has no kernel for one head of one object: 4096 x 4096 were taken, 4096 x 3648
/// and 5184 x 2048 refused. Two heads of half as many queries, which share their keys, are the same attention, and are taken.
const LEAST_OF_ONE_HEAD: i64 = 1 << 24;
/// The least bias that becomes part of a mask in a half type: fp16 holds 65504, and nothing is left of a weight 60000 below another.
const LEAST_BIAS: f32 = -60_000.0;
/// The first set whose graphs stay what they are under [`STANDARD_OPSET`], but for these operators, which changed since.
const STEADY_OPSET: i64 = 18;
const CHANGED_SINCE: [&str; 3] = ["GridSample", "GroupNormalization", "DFT"];
/// The set from which on these are as under [`STANDARD_OPSET`], too.
const SETTLED_OPSET: i64 = 21;

/// One attention of a graph.
struct Found<'m, 'a> {
    /// Places of its operators, in the order of the graph; the last is the product with the values.
    nodes: Vec<usize>,
    queries: &'a str,
    keys: &'a str,
    bias: Option<&'a str>,
    values: &'a str,
    result: &'a str,
    /// The constant that scores are multiplied with: its name and its value.
    scale: Option<(&'a str, f32)>,
    /// The casts of scores and weights.
    scores_cast: Option<&'m Node<'a>>,
    weights_cast: Option<&'m Node<'a>>,
    /// Of queries `[..., n, d]`, keys `[..., d, m]` and values `[..., m, v]`, with two objects.
    shapes: [Vec<i64>; 3],
}

impl Found<'_, '_> {
    /// Both operators take a scale of 0 for none at all, and ONNX Runtime refuses negative ones.
    fn is_scaled_up(&self) -> Option<()> {
        (self.factor() > 0.0 && self.factor().is_finite()).then_some(())
    }

    /// What scores are multiplied with.
    fn factor(&self) -> f32 {
        self.scale.map_or(1.0, |(_, value)| value)
    }
}

/// Looks values up by name.
struct Lookup<'m, 'a> {
    model: &'m Model<'a>,
    makers: HashMap<&'a str, usize>,
    readers: HashMap<&'a str, Vec<usize>>,
    outputs: HashSet<&'a str>,
    types: HashMap<&'a str, ElementType>,
    shapes: Shapes<'a>,
}

impl<'m, 'a> Lookup<'m, 'a> {
    fn new(model: &'m Model<'a>) -> Self {
        let mut shapes = Shapes::new(model, &|_| Some(2));
        let (mut makers, mut readers) = (HashMap::new(), HashMap::<_, Vec<usize>>::new());
        for (place, node) in model.nodes.iter().enumerate() {
            shapes.infer(node);
            makers.extend(node.outputs.iter().map(|name| (*name, place)));
            node.inputs.iter().for_each(|name| readers.entry(*name).or_default().push(place));
        }
        let outputs = model.outputs.iter().map(|output| output.name).collect();
        Lookup { model, makers, readers, outputs, types: model.types(), shapes }
    }

    fn maker(&self, name: &str) -> Option<(usize, &'m Node<'a>)> {
        let place = *self.makers.get(name)?;
        Some((place, &self.model.nodes[place]))
    }

    /// The maker of a value that one operator reads and nobody else.
    fn inner(&self, name: &str, op: &str) -> Option<(usize, &'m Node<'a>)> {
        let private = self.readers.get(name).is_some_and(|r| r.len() == 1) && !self.outputs.contains(name);
        self.maker(name).filter(|(_, node)| private && node.is_standard() && node.op == op)
    }

    /// The only reader of the result of an operator.
    fn reader(&self, node: &Node<'a>, op: &str) -> Option<(usize, &'m Node<'a>)> {
        let name = node.outputs.first()?;
        let [place] = self.readers.get(name)?.as_slice() else { return None };
        let reader = &self.model.nodes[*place];
        let fits = reader.is_standard() && reader.op == op && !self.outputs.contains(name);
        fits.then_some((*place, reader))
    }

    /// What no name of the graph begins with.
    fn free_prefix(&self) -> String {
        let model = self.model;
        let constants = model.initializers.iter().map(|constant| constant.name);
        let edges = model.inputs.iter().chain(&model.outputs).map(|edge| edge.name);
        let names: Vec<&str> =
            self.makers.keys().chain(self.readers.keys()).copied().chain(constants).chain(edges).collect();
        let mut prefix = "attention.".to_string();
        while names.iter().any(|name| name.starts_with(&prefix)) {
            prefix.insert(0, '_');
        }
        prefix
    }

    fn shape(&self, name: &str) -> Option<&[i64]> {
        self.shapes.get(name)
    }

    /// A constant of one f32.
    fn scalar(&self, name: &str) -> Option<f32> {
        let values = self.model.initializers.iter().find(|constant| constant.name == name)?.floats()?;
        <[f32; 1]>::try_from(values).ok().map(|[value]| value)
    }

    /// Where a cast of f32 values to a half type comes from; else the value itself.
    fn before_cast(&self, name: &'a str) -> &'a str {
        let cast = self.maker(name).filter(|(_, node)| node.op == "Cast").map(|(_, node)| node.inputs[0]);
        cast.filter(|source| self.types.get(source) == Some(&ElementType::F32)).unwrap_or(name)
    }

    /// The attention around a softmax.
    fn attention(&self, place: usize) -> Option<Found<'m, 'a>> {
        let softmax = &self.model.nodes[place];
        let rank = self.shape(softmax.inputs[0])?.len() as i64;
        if softmax.op != "Softmax" || ![-1, rank - 1].contains(&softmax.integer("axis", -1)) {
            return None;
        }
        let mut nodes = vec![place];
        let (mut scores, mut bias) = (softmax.inputs[0], None);
        if let Some((place, add)) = self.inner(scores, "Add") {
            let rows = |name: &str| self.shape(name).and_then(|shape| shape.iter().rev().nth(1).copied());
            let [a, b] = add.inputs[..] else { return None };
            (scores, bias) = match (rows(a)?, rows(b)?) {
                (n, 1) if n > 1 => (a, Some(b)),
                (1, n) if n > 1 => (b, Some(a)),
                _ => return None,
            };
            nodes.push(place);
        }
        let mut scale = None;
        if let Some((place, product)) = self.inner(scores, "Mul") {
            let [a, b] = product.inputs[..] else { return None };
            let constant = |name: &'a str| Some((name, self.scalar(name)?));
            (scores, scale) = match (constant(a), constant(b)) {
                (None, Some(scale)) => (a, Some(scale)),
                (Some(scale), None) => (b, Some(scale)),
                _ => return None,
            };
            nodes.push(place);
        }
        let scores_cast = self.inner(scores, "Cast");
        if let Some((place, cast)) = scores_cast {
            nodes.push(place);
            scores = cast.inputs[0];
        }
        let (place, product) = self.inner(scores, "MatMul")?;
        nodes.push(place);
        let weights_cast = self.reader(softmax, "Cast");
        nodes.extend(weights_cast.map(|(place, _)| place));
        let weights = weights_cast.map_or(softmax, |(_, cast)| cast);
        let (place, last) = self.reader(weights, "MatMul").filter(|(_, last)| last.inputs[0] == weights.outputs[0])?;
        nodes.push(place);
        nodes.sort_unstable();
        let [queries, keys] = product.inputs[..] else { return None };
        let values = *last.inputs.get(1)?;
        let shapes = [queries, keys, values].map(|name| self.shape(name).map(<[i64]>::to_vec));
        let [Some(q), Some(k), Some(v)] = shapes else { return None };
        let ranks = [q.len(), k.len(), v.len(), rank as usize];
        (ranks == [q.len(); 4] && (3..=4).contains(&q.len())).then_some(Found {
            nodes,
            queries,
            keys,
            bias,
            values,
            result: last.outputs[0],
            scale,
            scores_cast: scores_cast.map(|(_, cast)| cast),
            weights_cast: weights_cast.map(|(_, cast)| cast),
            shapes: [q, k, v],
        })
    }
}

impl Attention {
    /// A whole model file with its attentions computed in this way; `None` where there is none that this would change.
    ///
    /// # Errors
    /// The bytes are broken.
    pub fn of(self, file: &[u8]) -> Result<Option<Attended>, OnnxError> {
        match self {
            Attention::Whole => Ok(None),
            how => Model::parse(file)?.with_attention(how),
        }
    }
}

impl Model<'_> {
    fn with_attention(&self, how: Attention) -> Result<Option<Attended>, OnnxError> {
        // What a sub-graph reads, nobody here sees.
        if self.nodes.iter().any(|node| !node.subgraph_ops.is_empty()) {
            return Ok(None);
        }
        let lookup = Lookup::new(self);
        let prefix = lookup.free_prefix();
        let found = (0..self.nodes.len()).filter(|&place| self.nodes[place].op == "Softmax");
        let mut written = HashMap::new(); // by the place of the last operator
        let mut gone = HashSet::new();
        let mut constants = Vec::new();
        let changed = |node: &Node<'_>| node.is_standard() && CHANGED_SINCE.contains(&node.op);
        let steady = (STEADY_OPSET..=STANDARD_OPSET).contains(&self.opset())
            && (self.opset() >= SETTLED_OPSET || !self.nodes.iter().any(changed));
        for found in found.filter_map(|place| lookup.attention(place)) {
            let mut writer = Writer {
                nodes: Vec::new(),
                constants: Vec::new(),
                prefix: format!("{prefix}{}", written.len()),
                lookup: &lookup,
            };
            let fits = match how {
                Attention::Whole => None,
                Attention::Fused => writer.fused(&found),
                Attention::Standard { spread } if steady => writer.standard(&found, spread),
                Attention::Standard { .. } => None,
                Attention::Strips(most) => writer.strips(&found, most),
            };
            if let (Some(()), Some(last)) = (fits, found.nodes.last()) {
                constants.append(&mut writer.constants);
                written.insert(*last, writer.nodes);
                gone.extend(found.nodes);
            }
        }
        if written.is_empty() {
            return Ok(None);
        }
        let mut graph = Vec::with_capacity(self.graph_bytes.len());
        let mut place = 0..;
        for field in FieldReader::new("the graph", self.graph_bytes) {
            let field = field?;
            let place = if field.number == 1 { place.next() } else { None };
            if let Some(nodes) = place.and_then(|place| written.get(&place)) {
                graph.extend_from_slice(nodes);
            } else if place.is_none_or(|place| !gone.contains(&place)) {
                graph.extend_from_slice(field.raw);
            }
        }
        graph.extend_from_slice(&constants);
        let mut bytes = self.with_graph(&graph)?;
        if how == Attention::Fused && !self.opsets.iter().any(|(domain, _)| domain == RUNTIME_DOMAIN) {
            let mut set = Vec::new();
            put_bytes(&mut set, 1, RUNTIME_DOMAIN.as_bytes());
            put_integer(&mut set, 2, 1);
            put_bytes(&mut bytes, 8, &set);
        }
        if matches!(how, Attention::Standard { .. }) {
            bytes = with_opset(&bytes, STANDARD_OPSET)?;
        }
        let has_weights_elsewhere = self.initializers.iter().any(|constant| constant.external);
        Ok(Some(Attended { bytes, changed: written.len(), has_weights_elsewhere }))
    }
}

/// The same model file under another version of ONNX's own operators.
fn with_opset(file: &[u8], version: i64) -> Result<Vec<u8>, OnnxError> {
    let mut bytes = Vec::with_capacity(file.len());
    for field in FieldReader::new("the model", file) {
        let field = field?;
        let own =
            field.number == 8 && matches!(super::model::opset(field.bytes("an opset")?)?.0.as_str(), "" | "ai.onnx");
        if !own {
            bytes.extend_from_slice(field.raw);
        }
    }
    let mut set = Vec::new();
    put_integer(&mut set, 2, version);
    put_bytes(&mut bytes, 8, &set);
    Ok(bytes)
}

/// Writes the operators that take the place of one attention.
struct Writer<'l, 'm, 'a> {
    nodes: Vec<u8>,
    constants: Vec<u8>,
    prefix: String,
    lookup: &'l Lookup<'m, 'a>,
}

impl<'a> Writer<'_, '_, 'a> {
    /// Adds an operator; its result gets the name of this part.
    fn node(&mut self, op: &str, inputs: &[&str], part: &str, attributes: &[(&str, i64)]) -> String {
        let name = format!("{}.{part}", self.prefix);
        put_bytes(&mut self.nodes, 1, &build::node(op, inputs, &[&name], attributes));
        name
    }

    /// Adds an operator with a list of numbers as its attribute.
    fn transposed(&mut self, input: &str, part: &str, order: &[i64]) -> String {
        let name = format!("{}.{part}", self.prefix);
        put_bytes(&mut self.nodes, 1, &build::transpose(input, &name, order));
        name
    }

    fn constant(&mut self, part: &str, dtype: ElementType, dims: &[i64], values: &[u8]) -> String {
        let name = format!("{}.{part}", self.prefix);
        put_bytes(&mut self.constants, 5, &build::initializer(&name, dtype, dims, values));
        name
    }

    fn numbers(&mut self, part: &str, numbers: &[i64]) -> String {
        let values: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        self.constant(part, ElementType::I64, &[numbers.len() as i64], &values)
    }

    fn floats(&mut self, part: &str, dims: &[i64], each: f32) -> String {
        let values = each.to_le_bytes().repeat(dims.iter().product::<i64>() as usize);
        self.constant(part, ElementType::F32, dims, &values)
    }

    /// The same operators for strips of at most `most` queries; `None` where one strip holds them all.
    fn strips(&mut self, found: &Found<'_, 'a>, most: usize) -> Option<()> {
        let rank = found.shapes[0].len();
        let axis = rank as i64 - 2;
        let (n, most) = (found.shapes[0][rank - 2], i64::try_from(most).ok()?);
        if n <= most || self.lookup.model.opset() < 13 {
            return None;
        }
        let count = (n + most - 1) / most;
        let sizes: Vec<i64> = (0..count).map(|i| (n - i * most).min(most)).collect();
        let split = self.numbers("sizes", &sizes);
        let parts: Vec<String> = (0..count).map(|i| format!("{}.queries.{i}", self.prefix)).collect();
        let names: Vec<&str> = parts.iter().map(String::as_str).collect();
        put_bytes(&mut self.nodes, 1, &build::node("Split", &[found.queries, &split], &names, &[("axis", axis)]));
        let mut results = Vec::new();
        for (i, queries) in names.iter().enumerate() {
            let mut x = self.node("MatMul", &[queries, found.keys], &format!("scores.{i}"), &[]);
            let cast = |cast: Option<&Node<'_>>| cast.and_then(|cast| cast.stated).map(|to| [("to", to.0)]);
            if let Some(to) = cast(found.scores_cast) {
                x = self.node("Cast", &[&x], &format!("wide.{i}"), &to);
            }
            if let Some((scale, _)) = found.scale {
                x = self.node("Mul", &[&x, scale], &format!("scaled.{i}"), &[]);
            }
            if let Some(bias) = found.bias {
                x = self.node("Add", &[&x, bias], &format!("biased.{i}"), &[]);
            }
            x = self.node("Softmax", &[&x], &format!("weights.{i}"), &[("axis", -1)]);
            if let Some(to) = cast(found.weights_cast) {
                x = self.node("Cast", &[&x], &format!("narrow.{i}"), &to);
            }
            results.push(self.node("MatMul", &[&x, found.values], &format!("result.{i}"), &[]));
        }
        let names: Vec<&str> = results.iter().map(String::as_str).collect();
        put_bytes(&mut self.nodes, 1, &build::node("Concat", &names, &[found.result], &[("axis", axis)]));
        Some(())
    }

    /// One fused operator in the place of the attention; `None` where it is small or of another form.
    ///
    /// A bias goes in as more channels, because the kernels that never write the weights out take no other: ones beside the
    /// queries and an eighth of the bias in eight channels beside the keys add up to it in the product.
    fn fused(&mut self, found: &Found<'_, 'a>) -> Option<()> {
        found.is_scaled_up()?;
        let [q, k, v] = &found.shapes;
        let rank = q.len();
        let (n, d, m, wide) = (q[rank - 2], q[rank - 1], k[rank - 1], v[rank - 1]);
        let [queries, values] = [found.queries, found.values].map(|name| self.lookup.types.get(name).copied());
        if n * m < LEAST_FUSED || d % 8 != 0 || wide % 8 != 0 || queries != values || k[0] != v[0] {
            return None;
        }
        let dtype = queries?;
        let (heads, [q_name, k_name, v_name]) = match (rank, found.bias) {
            (3, None) if q[0] == k[0] => {
                let keys = self.transposed(found.keys, "keys", &[0, 2, 1]);
                (1, [found.queries.to_string(), keys, found.values.to_string()])
            }
            (3, Some(bias)) if found.scale.is_none() => {
                let [queries, keys] = self.with_bias(found, bias, dtype)?;
                (1, [queries, keys, found.values.to_string()])
            }
            (4, None) if q[0] == k[0] && q[1] == k[1] && k[1] == v[1] => (q[1], self.one_row_per_token(found)),
            _ => return None,
        };
        let attention = |result: &str| build::attention([&q_name, &k_name, &v_name], result, heads, found.factor());
        if rank == 3 {
            put_bytes(&mut self.nodes, 1, &attention(found.result));
            return Some(());
        }
        let rows = format!("{}.rows", self.prefix);
        put_bytes(&mut self.nodes, 1, &attention(&rows));
        let shape = self.numbers("by_head", &[-1, n, heads, wide]);
        let by_head = self.node("Reshape", &[&rows, &shape], "heads", &[]);
        put_bytes(&mut self.nodes, 1, &build::transpose(&by_head, found.result, &[0, 2, 1, 3]));
        Some(())
    }

    /// ONNX's operator in the place of the attention; `None` where it is small, or of a form that NVIDIA's compiler has no kernel for.
    ///
    /// A bias becomes the mask, rounded as the operands are. Of one head with few weights half of the queries become a second head.
    fn standard(&mut self, found: &Found<'_, 'a>, spread: bool) -> Option<()> {
        found.is_scaled_up()?;
        let [q, k, v] = &found.shapes;
        let rank = q.len();
        let (n, d, m, wide) = (q[rank - 2], q[rank - 1], k[rank - 1], v[rank - 1]);
        let type_of = |name: &str| self.lookup.types.get(name).copied();
        let dtype = type_of(found.queries)?;
        if n * m < LEAST_FUSED || d % 8 != 0 || d > WIDEST_HEAD || d != wide || type_of(found.values) != Some(dtype) {
            return None;
        }
        if rank == 4 {
            if found.bias.is_some() || q[..2] != k[..2] || k[..2] != v[..2] || (q[1] == 1 && n * m < LEAST_OF_ONE_HEAD)
            {
                return None;
            }
            let keys = self.transposed(found.keys, "keys", &[0, 1, 3, 2]);
            let attention =
                build::standard_attention(&[found.queries, &keys, found.values], found.result, found.factor());
            put_bytes(&mut self.nodes, 1, &attention);
            return Some(());
        }
        let heads = if n * m < LEAST_OF_ONE_HEAD { 2 } else { 1 };
        if n % heads != 0 || k[0] != v[0] {
            return None;
        }
        let mut queries = found.queries.to_string();
        let mut mask = None;
        if let Some(bias) = found.bias {
            if self.lookup.shape(bias)? != [k[0], 1, m] || type_of(bias) != Some(ElementType::F32) {
                return None;
            }
            let half = dtype != ElementType::F32;
            let cast = [("to", dtype.0)];
            if q[0] != k[0] {
                if q[0] != 1 {
                    return None;
                }
                let mut zeros = self.zeros(bias);
                if half {
                    zeros = self.node("Cast", &[&zeros], "zeros.cast", &cast);
                }
                queries = self.node("Add", &[&queries, &zeros], "of_each", &[]);
            }
            let mut bias = bias.to_string();
            if half {
                bias = self.held(&bias, "bias");
                bias = self.node("Cast", &[&bias], "bias", &cast);
            }
            let shape = self.numbers("mask.shape", &[-1, 1, 1, m]);
            let mut row = self.node("Reshape", &[&bias, &shape], "mask", &[]);
            if spread {
                let rows = self.numbers("mask.rows", &[1, 1, n / heads, 1]);
                row = self.node("Expand", &[&row, &rows], "mask.spread", &[]);
            }
            mask = Some(row);
        } else if q[0] != k[0] {
            return None;
        }
        let keys = self.transposed(found.keys, "keys.turned", &[0, 2, 1]);
        let parts =
            [("queries", queries, heads, n / heads), ("keys", keys, 1, m), ("values", found.values.into(), 1, m)];
        let parts = parts.map(|(part, name, heads, rows)| {
            let shape = self.numbers(&format!("{part}.shape"), &[-1, heads, rows, d]);
            self.node("Reshape", &[&name, &shape], part, &[])
        });
        let inputs: Vec<&str> = parts.iter().chain(&mask).map(String::as_str).collect();
        let by_head = format!("{}.by_head", self.prefix);
        put_bytes(&mut self.nodes, 1, &build::standard_attention(&inputs, &by_head, found.factor()));
        let shape = self.numbers("shape", &[-1, n, d]);
        put_bytes(&mut self.nodes, 1, &build::node("Reshape", &[&by_head, &shape], &[found.result], &[]));
        Some(())
    }

    /// A bias that no half type makes infinite: rows without any key stay finite, and times 0 it is 0.
    fn held(&mut self, bias: &str, part: &str) -> String {
        let least = self.floats(&format!("{part}.least"), &[1], LEAST_BIAS);
        self.node("Max", &[bias, &least], &format!("{part}.held"), &[])
    }

    /// Zeros `[objects, 1, 1]` out of a bias `[objects, 1, keys]`: added to what all objects share, they make a batch of it.
    fn zeros(&mut self, bias: &str) -> String {
        let [from, to, axis] =
            [("first", 0), ("end", 1), ("axis", 2)].map(|(part, number)| self.numbers(part, &[number]));
        let one = self.node("Slice", &[bias, &from, &to, &axis], "one_bias", &[]);
        let held = self.held(&one, "one_bias");
        let zero = self.floats("zero", &[1], 0.0);
        self.node("Mul", &[&held, &zero], "zeros", &[])
    }

    /// Queries, keys and values of several heads side by side: `[batch, tokens, heads x width]`.
    fn one_row_per_token(&mut self, found: &Found<'_, 'a>) -> [String; 3] {
        let [q, k, v] = &found.shapes;
        let parts = [
            ("queries", found.queries, [0, 2, 1, 3], [-1, q[2], q[1] * q[3]]),
            ("keys", found.keys, [0, 3, 1, 2], [-1, k[3], k[1] * k[2]]),
            ("values", found.values, [0, 2, 1, 3], [-1, v[2], v[1] * v[3]]),
        ];
        parts.map(|(part, name, order, shape)| {
            let turned = self.transposed(name, &format!("{part}.turned"), &order);
            let shape = self.numbers(&format!("{part}.shape"), &shape);
            self.node("Reshape", &[&turned, &shape], part, &[])
        })
    }

    /// Queries and keys of one head with the bias `[objects, 1, keys]` in more channels. All of it in f32, then rounded once as
    /// before.
    fn with_bias(&mut self, found: &Found<'_, 'a>, bias: &'a str, dtype: ElementType) -> Option<[String; 2]> {
        let [q, k, _] = &found.shapes;
        let sources = [found.queries, found.keys].map(|name| self.lookup.before_cast(name));
        let f32s = sources.iter().chain([&bias]).all(|name| self.lookup.types.get(name) == Some(&ElementType::F32));
        if !f32s || self.lookup.shape(bias)? != [k[0], 1, k[2]] || (q[0] != k[0] && q[0] != 1) {
            return None;
        }
        let zeros = self.zeros(bias);
        let ones = self.floats("ones", &[1, q[1], BIAS_CHANNELS], 1.0);
        let ones = self.node("Add", &[&ones, &zeros], "ones_of_each", &[]);
        let queries =
            if q[0] == k[0] { sources[0].to_string() } else { self.node("Add", &[sources[0], &zeros], "of_each", &[]) };
        let queries = self.node("Concat", &[&queries, &ones], "queries", &[("axis", 2)]);
        let keys = self.transposed(sources[1], "keys.turned", &[0, 2, 1]);
        let bias = self.transposed(bias, "bias.turned", &[0, 2, 1]);
        let share = self.floats("share", &[1, 1, BIAS_CHANNELS], 1.0 / BIAS_CHANNELS as f32);
        let bias = self.node("Mul", &[&bias, &share], "bias", &[]);
        let keys = self.node("Concat", &[&keys, &bias], "keys", &[("axis", 2)]);
        Some([("queries.cast", queries), ("keys.cast", keys)].map(|(part, name)| match dtype {
            ElementType::F32 => name,
            half => self.node("Cast", &[&name], part, &[("to", half.0)]),
        }))
    }
}

#[cfg(test)]
mod tests;
