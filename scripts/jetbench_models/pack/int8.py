"""int8 versions of the fp32 graphs, with explicit quantisation: QuantizeLinear and DequantizeLinear around products (QDQ).

What TensorRT asks of such a graph is what every engine gets: int8 with a zero point of 0 everywhere, weights with a scale per output
channel, activations with one. Of a product (Conv, MatMul, Gemm) with a stored weight, the activation operand is quantised and the
weight is stored in int8. A bias is added in fp32 behind it, so that no engine needs int32 constants. The result of a convolution is
quantised too, before the bias: ONNX Runtime's CPU provider has no int8 convolution without. Products of two activations
(attention) stay fp32, as all else does, and as inputs and outputs do.

The graph holds float operators between DequantizeLinear and QuantizeLinear. Whether an engine computes them in int8 is its own
affair: ONNX Runtime's CPU provider and TensorRT do, others compute the same values in float.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .half import HALF_OPERATORS

Array = np.ndarray
LARGEST = 127             # either way: -128 has no opposite
PRODUCTS = ("Conv", "MatMul", "Gemm")
# Shares of the largest magnitude that are tried as the end of an activation's range: a few large values are worth cutting off where
# the others gain more by finer steps.
SHARES = (1.0, 0.85, 0.7, 0.55, 0.4, 0.3)
# Steps of ONNX Runtime's optimiser that hide a quantised product from the step that makes it int8: the first lets two products share
# one DequantizeLinear, the second makes Gemm with a float bias of MatMul and Add.
HIDING = ("CommonSubexpressionElimination", "MatMulAddFusion")
# For readers of a pack, beside half.RULES; to_int8 does it.
RULES = (
    "int8 graphs are quantised explicitly (QuantizeLinear, DequantizeLinear): zero points are 0, weights have a scale per output",
    "channel, activations one. Operands of Conv, MatMul and Gemm with stored weights are int8, and results of Conv; biases, products",
    "of two activations (attention) and all else stay fp32. So do products that cost too much, and whole graphs: see provenance.notes.",
)


@dataclass(frozen=True)
class Product:
    """A product that can be quantised: its activation operand, its weight, the axis of the weight's output channels, its bias (""
    where it has none), its result, and whether it is a convolution."""

    operand: str
    weight: str
    axis: int
    bias: str
    result: str
    convolution: bool


def _attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def products(model: onnx.ModelProto) -> tuple[dict[int, Product], int]:
    """The products that can be quantised, by their place among the nodes, and how many products that depend on an input there are."""
    weights = {t.name: t for t in model.graph.initializer}
    varying = {port.name for port in model.graph.input}
    found, count = {}, 0
    for at, node in enumerate(model.graph.node):
        if varying.isdisjoint(node.input):
            continue
        varying.update(node.output)
        count += node.op_type in HALF_OPERATORS
        if node.op_type not in PRODUCTS or node.input[0] not in varying or node.input[1] not in weights:
            continue
        weight, convolution = weights[node.input[1]], node.op_type == "Conv"
        bias = node.input[2] if len(node.input) > 2 else ""
        factors = _attribute(node, "alpha", 1), _attribute(node, "beta", 1), _attribute(node, "transA", 0)
        plain = node.op_type != "Gemm" or factors == (1, 1, 0)
        flat = convolution or len(weight.dims) == 2
        if weight.data_type != TensorProto.FLOAT or not plain or not flat or (bias and bias not in weights):
            continue
        rows = convolution or (node.op_type == "Gemm" and _attribute(node, "transB", 0))
        found[at] = Product(node.input[0], node.input[1], 0 if rows else 1, bias, node.output[0], convolution)
    return found, count


def quantised(weight: Array, axis: int) -> tuple[Array, Array]:
    """int8 values and a float32 scale per channel of ``axis``; a channel of zeros has scale 1."""
    most = np.abs(weight).max(tuple(i for i in range(weight.ndim) if i != axis))
    scales = np.where(most > 0, most / LARGEST, 1).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    return np.clip(np.rint(weight / scales.reshape(shape)), -LARGEST, LARGEST).astype(np.int8), scales


@dataclass
class _Writer:
    """A graph under construction."""

    weights: Mapping[str, TensorProto]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    stored: dict[str, TensorProto] = field(default_factory=dict)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)

    def constant(self, name: str, value: Array) -> str:
        self.stored.setdefault(name, numpy_helper.from_array(value, name))
        return name

    def add(self, op: str, inputs: Iterable[str], result: str, **attributes: int) -> str:
        made = helper.make_node(op, list(inputs), [result], name=result)
        made.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
        self.nodes.append(made)
        return result

    def through(self, name: str, end: float, result: str) -> None:
        """``name`` quantised to a range of ``end`` either way, and back again."""
        scale = np.array((end or 1.0) / LARGEST, np.float32)
        steps = [self.constant(f"{result}_scale", scale), self.constant("int8_zero", np.array(0, np.int8))]
        self.add("DequantizeLinear", [self.add("QuantizeLinear", [name, *steps], f"{result}_int8"), *steps], result)

    def weight(self, product: Product) -> str:
        """The weight, stored in int8, and back again."""
        name = f"{product.weight}_by_{product.axis}"
        if f"{name}_int8" not in self.stored:
            value, scales = quantised(numpy_helper.to_array(self.weights[product.weight]), product.axis)
            parts = {"int8": value, "scales": scales, "zeros": np.zeros(len(scales), np.int8)}
            self.add("DequantizeLinear", [self.constant(f"{name}_{kind}", part) for kind, part in parts.items()], name, axis=product.axis)
        return name

    def output(self, name: str, size: int) -> None:
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [size]))

    def product(self, node: onnx.NodeProto, product: Product, pass_: Callable[[_Writer, str, str], str], stored: bool) -> None:
        """A product without its bias, whose operand, and as a convolution its result, go through ``pass_``; and the sum with the bias."""
        alone = onnx.NodeProto()
        alone.CopyFrom(node)
        del alone.input[2:]
        alone.input[0] = pass_(self, product.operand, f"{product.result}_operand")
        alone.input[1] = self.weight(product) if stored else product.weight
        alone.output[0] = f"{product.result}_sums"
        self.nodes.append(alone)
        sums = pass_(self, alone.output[0], f"{product.result}_result") if product.convolution else alone.output[0]
        bias = product.bias
        if bias and product.convolution:
            value = numpy_helper.to_array(self.weights[bias])
            bias = self.constant(f"{bias}_map", value.reshape(1, -1, *[1] * (len(self.weights[product.weight].dims) - 2)))
        self.add(*(("Add", [sums, bias]) if bias else ("Identity", [sums])), product.result)


def _rewritten(model: onnx.ModelProto, chosen: Mapping[int, Product], pass_: Callable[[_Writer, str, str], str],
               stored: bool) -> onnx.ModelProto:
    out = onnx.ModelProto()
    out.CopyFrom(model)
    graph = out.graph
    writer = _Writer({t.name: t for t in graph.initializer})
    for at, node in enumerate(model.graph.node):
        if at in chosen:
            writer.product(node, chosen[at], pass_, stored)
        else:
            writer.nodes.append(node)
    graph.ClearField("node")
    graph.node.extend(writer.nodes)
    graph.output.extend(writer.outputs)
    used = {name for node in writer.nodes for name in node.input} | {o.name for o in graph.output}
    needed = [t for t in [*graph.initializer, *writer.stored.values()] if t.name in used]
    graph.ClearField("initializer")
    graph.initializer.extend(needed)
    return out


MOST, ERRORS = "_most", "_errors"      # endings of the outputs of ``watched`` and ``tried``


def watched(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with a further output per value that would be quantised: its largest magnitude, ``VALUE_most`` [1]."""
    seen: set[str] = set()

    def pass_(writer: _Writer, name: str, _: str) -> str:
        if name not in seen:
            seen.add(name)
            most = writer.add("ReduceMax", [writer.add("Abs", [name], f"{name}_abs")], f"{name}_greatest", keepdims=0)
            writer.output(writer.add("Reshape", [most, writer.constant("one", np.array([1]))], name + MOST), 1)
        return name

    return _rewritten(model, products(model)[0], pass_, False)


def tried(model: onnx.ModelProto, most: Mapping[str, float]) -> onnx.ModelProto:
    """The graph with a further output per value that would be quantised: the sums of squared errors of quantising it to each of
    ``SHARES`` of its largest magnitude, ``VALUE_errors`` [shares]."""
    seen: set[str] = set()

    def pass_(writer: _Writer, name: str, _: str) -> str:
        if name in seen:
            return name
        seen.add(name)
        one, sums = writer.constant("one", np.array([1])), []
        for i, share in enumerate(SHARES):
            writer.through(name, share * most[name], f"{name}_try{i}")
            wrong = writer.add("Sub", [name, f"{name}_try{i}"], f"{name}_wrong{i}")
            wrong = writer.add("ReduceSumSquare", [wrong], f"{name}_square{i}", keepdims=0)
            sums.append(writer.add("Reshape", [wrong, one], f"{name}_sum{i}"))
        writer.output(writer.add("Concat", sums, name + ERRORS, axis=0), len(SHARES))
        return name

    return _rewritten(model, products(model)[0], pass_, False)


def to_int8(model: onnx.ModelProto, ends: Mapping[str, float], only: Iterable[str]) -> onnx.ModelProto:
    """The graph with some products quantised. ``ends``: range of every value, either way; ``only``: results of those products. Without
    any, the graph itself."""
    wanted = set(only)

    def pass_(writer: _Writer, name: str, result: str) -> str:
        writer.through(name, ends[name], result)
        return result

    chosen = {at: product for at, product in products(model)[0].items() if product.result in wanted}
    return _rewritten(model, chosen, pass_, True) if chosen else model
