//! What shape do the inner values of a graph have? Inferred for the operators that exporters of these models emit (files
//! state them rarely); what cannot be inferred stays unknown and is never guessed.

use std::collections::HashMap;

use super::dtype::Dimension;
use super::model::{Model, Node};

/// Shapes of all values with every named axis filled in, and the values of short integer tensors (shapes, axes).
pub struct Shapes<'a> {
    shapes: HashMap<&'a str, Vec<i64>>,
    pub values: HashMap<&'a str, Vec<i64>>,
    /// Short f32 constants: scales of Resize.
    scales: HashMap<&'a str, Vec<f32>>,
    opset: i64,
}

/// Most elements of a value that is believed; beyond it a forged file could overflow sums.
const MOST_ELEMENTS: u64 = 1 << 40;

impl<'a> Shapes<'a> {
    pub fn new(model: &Model<'a>, axis: &dyn Fn(&str) -> Option<i64>) -> Self {
        let mut shapes =
            Shapes { shapes: HashMap::new(), values: HashMap::new(), scales: HashMap::new(), opset: model.opset() };
        for constant in &model.initializers {
            shapes.put(constant.name, constant.dims.clone());
            if let Some(scales) = constant.floats().filter(|list| (1..=16).contains(&list.len())) {
                shapes.scales.insert(constant.name, scales);
            }
            if let Some(values) = constant.integers() {
                shapes.values.insert(constant.name, values);
            }
        }
        for info in model.inputs.iter().chain(&model.values) {
            let sizes = info.shape.iter().flatten().map(|a| match a {
                Dimension::Size(n) => Some(*n),
                Dimension::Dynamic(name) => axis(name),
            });
            if let (true, Some(sizes)) = (info.shape.is_some(), sizes.collect::<Option<Vec<i64>>>()) {
                shapes.put(info.name, sizes);
            }
        }
        shapes
    }

    pub fn get(&self, name: &str) -> Option<&[i64]> {
        self.shapes.get(name).map(Vec::as_slice)
    }

    pub fn elements(&self, name: &str) -> Option<u64> {
        Some(self.get(name)?.iter().map(|&n| n as u64).product())
    }

    /// Stores a shape of sane size.
    fn put(&mut self, name: &'a str, shape: Vec<i64>) -> bool {
        let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(u64::try_from(d).ok()?));
        let fine = elements.is_some_and(|n| n <= MOST_ELEMENTS) && shape.len() <= 16;
        if fine {
            self.shapes.insert(name, shape);
        }
        fine
    }

    /// Infers the results of a node; false when its first result stays unknown.
    pub fn infer(&mut self, node: &Node<'a>) -> bool {
        let Some(first) = node.outputs.iter().position(|name| !name.is_empty()) else { return true };
        if let Some(results) = self.results(node) {
            for (name, shape) in node.outputs.iter().zip(results) {
                if !name.is_empty() && !self.shapes.contains_key(name) {
                    self.put(name, shape);
                }
            }
        }
        if let (Some(values), Some(name)) = (self.propagate(node), node.outputs.first()) {
            self.values.insert(name, values);
        }
        self.shapes.contains_key(node.outputs[first])
    }

    /// An integer argument: the input `i`, or the attribute `name` that older operator sets have in its place.
    fn argument(&self, node: &Node<'a>, i: usize, name: &str) -> Option<Vec<i64>> {
        match node.inputs.get(i).filter(|input| !input.is_empty()) {
            Some(input) => self.values.get(input).cloned(),
            None => node.integers(name),
        }
    }

    /// Shape of input `i`.
    fn input(&self, node: &Node<'a>, i: usize) -> Option<&[i64]> {
        self.get(node.inputs.get(i)?)
    }

    /// First value of input `i`, a short integer tensor.
    fn value(&self, node: &Node<'a>, i: usize) -> Option<i64> {
        self.values.get(node.inputs.get(i)?)?.first().copied()
    }

    /// Axes that a node names by input or attribute; `all` where it names none.
    fn axes(&self, node: &Node<'a>, rank: usize, all: impl FnOnce() -> Vec<usize>) -> Option<Vec<usize>> {
        match self.argument(node, 1, "axes") {
            Some(axes) => axes.iter().map(|&a| axis_of(a, rank)).collect(),
            None if given(node, 1) => None,
            None => Some(all()),
        }
    }

    /// Shapes of a node's results, as far as its operator is known.
    fn results(&self, node: &Node<'a>) -> Option<Vec<Vec<i64>>> {
        match node.op {
            "Split" if node.is_standard() => {
                let x = self.input(node, 0)?;
                let axis = axis_of(node.integer("axis", 0), x.len())?;
                let parts = node.outputs.len() as i64;
                let sizes = match self.argument(node, 1, "split") {
                    Some(sizes) => sizes,
                    None if given(node, 1) => return None,
                    None => {
                        let each = (x[axis] + parts - 1).checked_div(parts)?;
                        (0..parts).map(|i| (x[axis] - i * each).clamp(0, each)).collect()
                    }
                };
                let part = |&n: &i64| x.iter().enumerate().map(|(i, &d)| if i == axis { n } else { d }).collect();
                Some(sizes.iter().map(part).collect())
            }
            "TopK" if node.is_standard() => {
                let mut shape = self.input(node, 0)?.to_vec();
                let axis = axis_of(node.integer("axis", -1), shape.len())?;
                shape[axis] = self.value(node, 1)?;
                Some(vec![shape.clone(), shape])
            }
            _ if node.is_standard() => self.computed(node).map(|shape| vec![shape]),
            _ => self.of_runtime(node).map(|shape| vec![shape]),
        }
    }

    /// Result of an operator of ONNX Runtime's own set.
    fn of_runtime(&self, node: &Node<'a>) -> Option<Vec<i64>> {
        match node.op {
            // Three separate inputs of rank 3: the result has the queries' length and the values' width.
            "MultiHeadAttention" if given(node, 2) => match (self.input(node, 0)?, self.input(node, 2)?) {
                ([b, n, _], [_, _, width]) => Some(vec![*b, *n, *width]),
                _ => None,
            },
            "FastGelu" | "QuickGelu" | "BiasGelu" | "RotaryEmbedding" => Some(self.input(node, 0)?.to_vec()),
            _ => None,
        }
    }

    /// Result of an operator that computes: element by element, sums of products, reductions.
    fn computed(&self, node: &Node<'a>) -> Option<Vec<i64>> {
        let input = |i: usize| self.input(node, i);
        match node.op {
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Mod" | "Min" | "Max" | "Where" | "Equal" | "Greater" | "Less"
            | "GreaterOrEqual" | "LessOrEqual" | "And" | "Or" | "Xor" | "Sum" | "Mean" => {
                let mut shape: Vec<i64> = input(0)?.to_vec();
                for i in 1..node.inputs.len() {
                    shape = broadcast(&shape, input(i)?)?;
                }
                Some(shape)
            }
            "Relu" | "Gelu" | "Sigmoid" | "Tanh" | "Erf" | "Exp" | "Log" | "Sqrt" | "Reciprocal" | "Neg" | "Abs"
            | "Sin" | "Cos" | "Not" | "Cast" | "Clip" | "Softmax" | "LogSoftmax" | "Identity" | "Floor" | "Ceil"
            | "Round" | "LeakyRelu" | "Elu" | "HardSigmoid" | "HardSwish" | "Softplus" | "Sign" | "IsNaN" | "IsInf"
            | "CumSum" | "Trilu" | "Dropout" | "LpNormalization" | "QuantizeLinear" | "DequantizeLinear" => {
                Some(input(0)?.to_vec())
            }
            "InstanceNormalization" | "LayerNormalization" | "GroupNormalization" | "BatchNormalization" => {
                Some(input(0)?.to_vec())
            }
            "MatMul" => matmul(input(0)?, input(1)?),
            "Gemm" => {
                let (a, b) = (input(0)?, input(1)?);
                let rows = if node.integer("transA", 0) == 0 { a.first()? } else { a.get(1)? };
                let columns = if node.integer("transB", 0) == 0 { b.get(1)? } else { b.first()? };
                Some(vec![*rows, *columns])
            }
            "Attention" => {
                let (q, v) = (input(0)?, input(2)?);
                let mut shape = q.to_vec();
                *shape.last_mut()? = *v.last()?;
                Some(shape)
            }
            "Conv" | "MaxPool" | "AveragePool" | "ConvTranspose" => window(node, input(0)?, input(1)),
            "GlobalAveragePool" | "GlobalMaxPool" => {
                let x = input(0)?;
                Some(x.iter().enumerate().map(|(i, &n)| if i < 2 { n } else { 1 }).collect())
            }
            "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceL2" | "ReduceSumSquare" => {
                let x = input(0)?;
                let axes = self.axes(node, x.len(), || (0..x.len()).collect())?;
                Some(reduced(x, &axes, node.integer("keepdims", 1) != 0))
            }
            "ArgMax" | "ArgMin" => {
                let x = input(0)?;
                let axis = axis_of(node.integer("axis", 0), x.len())?;
                Some(reduced(x, &[axis], node.integer("keepdims", 1) != 0))
            }
            "Resize" => self.resized(node),
            _ => self.rearranged(node),
        }
    }

    fn resized(&self, node: &Node<'a>) -> Option<Vec<i64>> {
        let x = self.input(node, 0)?;
        let axes = node.integers("axes").unwrap_or_else(|| (0..x.len() as i64).collect());
        let sizes = if given(node, 3) {
            self.values.get(node.inputs.get(3)?)?.clone()
        } else {
            let scaled = |(&axis, &scale): (&i64, &f32)| {
                Some((x[axis_of(axis, x.len())?] as f64 * f64::from(scale)).floor() as i64)
            };
            axes.iter().zip(self.scales.get(node.inputs.get(2)?)?).map(scaled).collect::<Option<Vec<_>>>()?
        };
        if sizes.len() != axes.len() {
            return None;
        }
        let mut shape = x.to_vec();
        for (&axis, &n) in axes.iter().zip(&sizes) {
            shape[axis_of(axis, x.len())?] = n;
        }
        Some(shape)
    }

    /// Result of an operator that gives its input back in another arrangement.
    fn rearranged(&self, node: &Node<'a>) -> Option<Vec<i64>> {
        let input = |i: usize| self.input(node, i);
        match node.op {
            "Transpose" => {
                let x = input(0)?;
                let order = node.integers("perm").unwrap_or_else(|| (0..x.len() as i64).rev().collect());
                order.iter().map(|&i| x.get(usize::try_from(i).ok()?).copied()).collect()
            }
            "Reshape" => {
                let x = input(0)?;
                let wanted = self.argument(node, 1, "shape")?;
                let keep = node.integer("allowzero", 0) == 0;
                let mut shape = Vec::with_capacity(wanted.len());
                for (i, &n) in wanted.iter().enumerate() {
                    shape.push(if n == 0 && keep { *x.get(i)? } else { n });
                }
                let all = checked_product(x)?;
                if let Some(free) = shape.iter().position(|&n| n == -1) {
                    let known = checked_product(shape.iter().filter(|&&n| n != -1))?;
                    shape[free] = all.checked_div(known)?;
                }
                (checked_product(&shape)? == all).then_some(shape)
            }
            "Flatten" => {
                let x = input(0)?;
                let axis = node.integer("axis", 1);
                let axis = if axis == x.len() as i64 { x.len() } else { axis_of(axis, x.len())? };
                Some(vec![x[..axis].iter().product(), x[axis..].iter().product()])
            }
            "Squeeze" => {
                let x = input(0)?;
                let axes = self.axes(node, x.len(), || (0..x.len()).filter(|&i| x[i] == 1).collect())?;
                Some(x.iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, &n)| n).collect())
            }
            "Unsqueeze" => {
                let x = input(0)?;
                let axes = self.argument(node, 1, "axes")?;
                let rank = x.len() + axes.len();
                let axes = axes.iter().map(|&a| axis_of(a, rank)).collect::<Option<Vec<_>>>()?;
                let mut rest = x.iter();
                (0..rank).map(|i| if axes.contains(&i) { Some(1) } else { rest.next().copied() }).collect()
            }
            "Concat" => {
                let mut shape = input(0)?.to_vec();
                let axis = axis_of(node.integer("axis", 0), shape.len())?;
                for i in 1..node.inputs.len() {
                    shape[axis] = shape[axis].checked_add(*input(i)?.get(axis)?)?;
                }
                Some(shape)
            }
            "Pad" => {
                let x = input(0)?;
                let pads = self.argument(node, 1, "pads")?;
                let axes = if given(node, 3) { self.argument(node, 3, "")? } else { (0..x.len() as i64).collect() };
                let mut shape = x.to_vec();
                for (i, &axis) in axes.iter().enumerate() {
                    let axis = axis_of(axis, x.len())?;
                    shape[axis] = shape[axis].checked_add(*pads.get(i)?)?.checked_add(*pads.get(i + axes.len())?)?;
                }
                Some(shape)
            }
            "Tile" => {
                let repeats = self.argument(node, 1, "repeats")?;
                input(0)?.iter().zip(&repeats).map(|(n, r)| n.checked_mul(*r)).collect()
            }
            "Expand" => broadcast(input(0)?, &self.argument(node, 1, "shape")?),
            _ => self.selected(node),
        }
    }

    /// Result of an operator that takes a part of its input, or makes values from sizes.
    fn selected(&self, node: &Node<'a>) -> Option<Vec<i64>> {
        let input = |i: usize| self.input(node, i);
        match node.op {
            "Slice" => {
                let x = input(0)?;
                let starts = self.argument(node, 1, "starts")?;
                let ends = self.argument(node, 2, "ends")?;
                let axes = if given(node, 3) || self.opset < 10 { self.argument(node, 3, "axes") } else { None };
                let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
                let steps = if given(node, 4) { self.argument(node, 4, "")? } else { vec![1; starts.len()] };
                let mut shape = x.to_vec();
                for (((start, end), axis), step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
                    let axis = axis_of(*axis, x.len())?;
                    shape[axis] = sliced(x[axis], *start, *end, *step)?.1;
                }
                Some(shape)
            }
            "Gather" => {
                let (x, indices) = (input(0)?, input(1)?);
                let axis = axis_of(node.integer("axis", 0), x.len())?;
                Some([&x[..axis], indices, &x[axis + 1..]].concat())
            }
            "GatherElements" => Some(input(1)?.to_vec()),
            "GridSample" => {
                let (x, [_, places @ .., _]) = (input(0)?, input(1)?) else { return None };
                Some([x.get(..2)?, places].concat())
            }
            "GatherND" => {
                let (x, indices) = (input(0)?, input(1)?);
                let batch = usize::try_from(node.integer("batch_dims", 0)).ok()?;
                let depth = usize::try_from(*indices.last()?).ok()?;
                Some([indices.get(..indices.len() - 1)?, x.get(batch + depth..)?].concat())
            }
            "ScatterND" | "ScatterElements" => Some(input(0)?.to_vec()),
            "ConstantOfShape" => self.argument(node, 0, "shape"),
            "Constant" => match node.tensor("value") {
                Some(tensor) => Some(tensor.dims),
                None => Some(node.integers("value_ints").map_or(Vec::new(), |list| vec![list.len() as i64])),
            },
            "Shape" => {
                let rank = input(0)?.len() as i64;
                Some(vec![sliced(rank, node.integer("start", 0), node.integer("end", rank), 1)?.1])
            }
            "Size" => Some(Vec::new()),
            "Range" => {
                let (start, limit, step) = (self.value(node, 0)?, self.value(node, 1)?, self.value(node, 2)?);
                Some(vec![limit.checked_sub(start)?.checked_add(step - step.signum())?.checked_div(step)?.max(0)])
            }
            "OneHot" => {
                let mut shape = input(0)?.to_vec();
                let depth = self.value(node, 1)?;
                let axis = node.integer("axis", -1);
                let at = if axis < 0 { axis + shape.len() as i64 + 1 } else { axis };
                let at = usize::try_from(at).ok().filter(|&a| a <= shape.len())?;
                shape.insert(at, depth);
                Some(shape)
            }
            _ => None,
        }
    }

    /// Values of short integer results, so that shapes computed in the graph are known.
    fn propagate(&self, node: &Node<'a>) -> Option<Vec<i64>> {
        let values = |i: usize| self.values.get(node.inputs.get(i)?).cloned();
        if !node.is_standard() {
            return None;
        }
        match node.op {
            "Shape" => {
                let x = self.get(node.inputs.first()?)?;
                slice_of(x, node.integer("start", 0), node.integer("end", x.len() as i64), 1)
            }
            "Constant" => match node.tensor("value") {
                Some(tensor) => tensor.integers(),
                None => node.integers("value_ints").or_else(|| node.integers("value_int")),
            },
            "Cast" | "Identity" | "Squeeze" | "Unsqueeze" | "Reshape" => values(0),
            "Concat" => (0..node.inputs.len()).map(values).collect::<Option<Vec<_>>>().map(|lists| lists.concat()),
            "Gather" => {
                let (list, at) = (values(0)?, values(1)?);
                let index = |i: i64| usize::try_from(if i < 0 { i + list.len() as i64 } else { i }).ok();
                at.iter().map(|&i| list.get(index(i)?).copied()).collect()
            }
            "Slice" => {
                let step = if node.inputs.len() > 4 { *values(4)?.first()? } else { 1 };
                slice_of(&values(0)?, *values(1)?.first()?, *values(2)?.first()?, step)
            }
            "Add" | "Sub" | "Mul" | "Div" | "Min" | "Max" if node.inputs.len() == 2 => {
                let (a, b) = (values(0)?, values(1)?);
                let operate = |x: i64, y: i64| match node.op {
                    "Min" => Some(x.min(y)),
                    "Max" => Some(x.max(y)),
                    "Add" => x.checked_add(y),
                    "Sub" => x.checked_sub(y),
                    "Mul" => x.checked_mul(y),
                    _ => x.checked_div(y),
                };
                match (a.as_slice(), b.as_slice()) {
                    (a, [y]) => a.iter().map(|&x| operate(x, *y)).collect(),
                    ([x], b) => b.iter().map(|&y| operate(*x, y)).collect(),
                    (a, b) if a.len() == b.len() => a.iter().zip(b).map(|(&x, &y)| operate(x, y)).collect(),
                    _ => None,
                }
            }
            "Equal" => {
                let (a, b) = (values(0)?, values(1)?);
                (a.len() == b.len()).then(|| a.iter().zip(&b).map(|(x, y)| i64::from(x == y)).collect())
            }
            "Where" => {
                let (which, a, b) = (values(0)?, values(1)?, values(2)?);
                let same = which.len() == a.len() && a.len() == b.len();
                same.then(|| {
                    which.iter().zip(a.iter().zip(&b)).map(|(&w, (&x, &y))| if w != 0 { x } else { y }).collect()
                })
            }
            "ConstantOfShape" => {
                let count = usize::try_from(checked_product(&values(0)?)?).ok().filter(|&n| n <= 64)?;
                let value = node.tensor("value").and_then(|t| t.integers()).and_then(|v| v.first().copied());
                value.map(|v| vec![v; count])
            }
            _ => None,
        }
    }
}

/// Is there an input `i`? An empty name is one left out.
fn given(node: &Node<'_>, i: usize) -> bool {
    node.inputs.get(i).is_some_and(|name| !name.is_empty())
}

/// An axis counted from the front; negative ones count from the end.
fn axis_of(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(axis).ok().filter(|&a| a < rank)
}

/// Numpy's rule: sizes are aligned at the end, 1 stretches.
fn broadcast(a: &[i64], b: &[i64]) -> Option<Vec<i64>> {
    let rank = a.len().max(b.len());
    let at = |shape: &[i64], i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y || y == 1 => Some(x),
            (1, y) => Some(y),
            _ => None,
        })
        .collect()
}

fn matmul(a: &[i64], b: &[i64]) -> Option<Vec<i64>> {
    match (a, b) {
        ([k], [.., l, n]) => (k == l).then(|| [&b[..b.len() - 2], &[*n]].concat()),
        ([.., m, k], [l]) => (k == l).then(|| [&a[..a.len() - 2], &[*m]].concat()),
        ([.., m, k], [.., l, n]) if k == l => {
            Some([broadcast(&a[..a.len() - 2], &b[..b.len() - 2])?, vec![*m, *n]].concat())
        }
        _ => None,
    }
}

fn reduced(x: &[i64], axes: &[usize], keep: bool) -> Vec<i64> {
    let sizes = x.iter().enumerate();
    if keep {
        sizes.map(|(i, &n)| if axes.contains(&i) { 1 } else { n }).collect()
    } else {
        sizes.filter(|(i, _)| !axes.contains(i)).map(|(_, &n)| n).collect()
    }
}

/// First index and number of indices that a slice takes from an axis of size `n`.
fn sliced(n: i64, start: i64, end: i64, step: i64) -> Option<(i64, i64)> {
    if step == 0 || n < 0 {
        return None;
    }
    let place = |i: i64, low: i64, high: i64| (if i < 0 { i.saturating_add(n) } else { i }).clamp(low, high.max(low));
    let stride = i64::try_from(step.unsigned_abs()).unwrap_or(i64::MAX);
    let (start, length) = if step > 0 {
        let start = place(start, 0, n);
        (start, place(end, 0, n) - start)
    } else {
        let start = place(start, -1, n - 1);
        (start, start - if end < -n { -1 } else { place(end, -1, n - 1) })
    };
    Some((start, if length > 0 { (length - 1) / stride + 1 } else { 0 }))
}

/// The entries that a slice takes from a short list.
fn slice_of(list: &[i64], start: i64, end: i64, step: i64) -> Option<Vec<i64>> {
    let (first, count) = sliced(list.len() as i64, start, end, step)?;
    (0..count).map(|i| list.get(usize::try_from(first + i * step).ok()?).copied()).collect()
}

/// Product of sizes that may be anything.
fn checked_product<'a>(sizes: impl IntoIterator<Item = &'a i64>) -> Option<i64> {
    sizes.into_iter().try_fold(1i64, |n, &d| n.checked_mul(d))
}

/// Result of a convolution or pooling.
fn window(node: &Node<'_>, x: &[i64], weight: Option<&[i64]>) -> Option<Vec<i64>> {
    let space = x.len().checked_sub(2)?;
    let kernel = match (node.integers("kernel_shape"), weight) {
        (Some(kernel), _) => kernel,
        (None, Some(weight)) => weight.get(2..)?.to_vec(),
        (None, None) => return None,
    };
    let list = |name: &str, fill: i64, count: usize| node.integers(name).unwrap_or_else(|| vec![fill; count]);
    let (strides, dilations) = (list("strides", 1, space), list("dilations", 1, space));
    let mut pads = list("pads", 0, 2 * space);
    let transposed = node.op == "ConvTranspose";
    let automatic = node.text("auto_pad").unwrap_or("NOTSET");
    if automatic == "VALID" {
        pads = vec![0; 2 * space];
    }
    let channels = match (node.op, weight) {
        ("Conv", Some(weight)) => *weight.first()?,
        ("ConvTranspose", Some(weight)) => weight.get(1)?.checked_mul(node.integer("group", 1))?,
        _ => *x.get(1)?,
    };
    let extra = list("output_padding", 0, space);
    let mut shape = vec![*x.first()?, channels];
    for i in 0..space {
        let (n, stride) = (x[i + 2], *strides.get(i)?);
        let reach = dilations.get(i)?.checked_mul(kernel.get(i)?.checked_sub(1)?)?.checked_add(1)?;
        let padded = pads.get(i)?.checked_add(*pads.get(i + space)?)?;
        if stride < 1 {
            return None;
        }
        let same = automatic.starts_with("SAME");
        shape.push(match (transposed, same) {
            (false, true) => n.checked_add(stride - 1)? / stride,
            (true, true) => n.checked_mul(stride)?,
            (true, false) => {
                let spread = (n - 1).checked_mul(stride)?.checked_add(*extra.get(i)?)?;
                spread.checked_add(reach)?.checked_sub(padded)?
            }
            (false, false) => {
                let room = n.checked_add(padded)?.checked_sub(reach)?;
                let up = if node.integer("ceil_mode", 0) != 0 { stride - 1 } else { 0 };
                room.checked_add(up)?.div_euclid(stride).checked_add(1)?
            }
        });
    }
    Some(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_count_as_numpy_counts() {
        let len = |n, start, end, step| sliced(n, start, end, step).map(|(_, count)| count);
        assert_eq!(len(10, 0, i64::MAX, 1), Some(10));
        assert_eq!(len(10, -3, i64::MAX, 1), Some(3));
        assert_eq!(len(10, 2, -2, 3), Some(2));
        assert_eq!(len(10, 9, i64::MIN, -1), Some(10));
        assert_eq!(len(10, 5, 5, 1), Some(0));
        assert_eq!(len(10, 0, 1, 0), None);
        assert_eq!(slice_of(&[7, 8, 9], -1, i64::MIN, -1), Some(vec![9, 8, 7]));
        assert_eq!(slice_of(&[7, 8, 9], 1, i64::MAX, i64::MAX), Some(vec![8]));
        assert_eq!(broadcast(&[4, 1, 3], &[5, 1]), Some(vec![4, 5, 3]));
        assert_eq!(broadcast(&[4], &[3]), None);
    }
}
