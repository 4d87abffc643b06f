"""Operators that ONNX Runtime's CUDA provider has only for older operator sets, written with others: the same values.

A kernel that is registered "from 18 on" serves the version of 18 alone (see ``check.kernels``). fp32 and fp16 graphs keep to operator set
18, where all are there. Convolutions in bfloat16 need 22, where Pad, MaxPool, Resize and ReduceMax have no kernel up to
ONNX Runtime 1.24. A bfloat16 graph with convolutions gets

- for Pad with zeros: the end of the map times zero, joined to it;
- for MaxPool of 2 x 2 in steps of 2: the largest of four maps that take every second row and column;
- for Resize to twice the size by the nearest: each pixel repeated;
- for Resize to four times the size by linear weights: rows and columns of neighbours, weighted and put between each other. On maps
  whose values are small multiples of one step, as a binary mask reduced to a quarter is, all products and sums are exact;
- for ReduceMax along one axis: the first of TopK; along an axis of one place, nothing.

Whatever else there is of these four is refused.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

LACKING = ("Pad", "MaxPool", "Resize", "ReduceMax")


class _Close:
    """Nodes in place of those of one graph."""

    def __init__(self, model: onnx.ModelProto):
        self.graph = model.graph
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        # 0 for an axis without a fixed size
        self.shapes = {v.name: [d.dim_value if d.HasField("dim_value") else 0 for d in v.type.tensor_type.shape.dim] for v in
                       (*inferred.input, *inferred.value_info, *inferred.output)}
        self.constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type != onnx.TensorProto.BFLOAT16}
        self.stored: dict[str, str] = {}
        self.made = 0

    def store(self, value: np.ndarray) -> str:
        """Name of an initialiser with this value."""
        key = f"{value.dtype}{value.tolist()}"
        if key not in self.stored:
            self.stored[key] = f"gap{len(self.stored)}"
            self.graph.initializer.append(numpy_helper.from_array(value, self.stored[key]))
        return self.stored[key]

    def integers(self, *values: int) -> str:
        return self.store(np.array(values, np.int64))

    def node(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> NodeProto:
        self.made += 1
        return helper.make_node(op, list(inputs), [output or f"g{self.made}"], name=f"{op}_gap_{self.made}", **attributes)

    def pad(self, node: NodeProto) -> Iterator[NodeProto]:
        pads = self.constants.get(node.input[1])
        zero = len(node.input) < 3 or not node.input[2] or not self.constants.get(node.input[2], np.ones(1)).any()
        mode = next((a.s for a in node.attribute if a.name == "mode"), b"constant")
        shape = self.shapes.get(node.input[0])
        if pads is None or not zero or mode != b"constant" or len(node.input) > 3 or shape is None or (pads < 0).any():
            raise ValueError(f"{node.name}: only Pad with zeros, of known sizes, is expected")
        value = node.input[0]
        grows = [axis for axis in range(len(shape)) if pads[axis] or pads[axis + len(shape)]]
        for axis in grows:
            before, after = int(pads[axis]), int(pads[axis + len(shape)])
            if max(before, after) > shape[axis]:
                raise ValueError(f"{node.name}: pads more than there is along axis {axis}")
            parts = []
            for count in (before, after):
                if count:
                    cut = self.node("Slice", value, self.integers(0), self.integers(count), self.integers(axis))
                    blank = self.node("Mul", cut.output[0], self.store(np.array(0, np.float32)))
                    parts.append(blank.output[0])
                    yield from (cut, blank)
            joined = [*parts[:bool(before)], value, *parts[bool(before):]]
            last = self.node("Concat", *joined, output=node.output[0] if axis == grows[-1] else None, axis=axis)
            value = last.output[0]
            yield last

    def max_pool(self, node: NodeProto) -> Iterator[NodeProto]:
        attributes = {a.name: list(a.ints) for a in node.attribute if a.ints}
        shape = self.shapes.get(node.input[0], [])
        plain = attributes.get("kernel_shape") == attributes.get("strides") == [2, 2]
        plain &= not any(attributes.get("pads", [])) and set(attributes.get("dilations", [1])) == {1} and len(node.output) == 1
        if not plain or len(shape) != 4 or any(n < 2 or n % 2 for n in shape[2:]):
            raise ValueError(f"{node.name}: only MaxPool of 2 x 2 pixels in steps of 2 is expected")
        ends, axes, steps = self.integers(*shape[2:]), self.integers(2, 3), self.integers(2, 2)
        cuts = [self.node("Slice", node.input[0], self.integers(row, column), ends, axes, steps) for row in (0, 1) for column in (0, 1)]
        yield from cuts
        yield self.node("Max", *(cut.output[0] for cut in cuts), output=node.output[0])

    def _quadruple(self, value: str, shape: list[int], axis: int, output: str | None) -> Iterator[NodeProto]:
        """``value`` with each place along ``axis`` (2 or 3) replaced by four, by linear weights; beyond the ends are the ends."""
        n, at = shape[axis], self.integers(axis)
        cuts = {name: self.node("Slice", value, self.integers(start), self.integers(end), at) for name, (start, end) in
                {"first": (0, 1), "start": (0, n - 1), "end": (1, n), "last": (n - 1, n)}.items()}
        before = self.node("Concat", cuts["first"].output[0], cuts["start"].output[0], axis=axis)
        after = self.node("Concat", cuts["end"].output[0], cuts["last"].output[0], axis=axis)
        yield from (*cuts.values(), before, after)
        apart = [0, *shape[1:axis + 1], 1, *shape[axis + 1:]]
        parts = []
        for near, other in ((0.625, before), (0.875, before), (0.875, after), (0.625, after)):
            own = self.node("Mul", value, self.store(np.array(near, np.float32)))
            neighbour = self.node("Mul", other.output[0], self.store(np.array(1 - near, np.float32)))
            both = self.node("Add", own.output[0], neighbour.output[0])
            parts.append(self.node("Reshape", both.output[0], self.integers(*apart)))
            yield from (own, neighbour, both, parts[-1])
        joined = self.node("Concat", *(part.output[0] for part in parts), axis=axis + 1)
        yield joined
        yield self.node("Reshape", joined.output[0], self.integers(0, *shape[1:axis], 4 * n, *shape[axis + 1:]), output=output)

    def resize(self, node: NodeProto) -> Iterator[NodeProto]:
        attributes = {a.name: a.s for a in node.attribute if a.type == onnx.AttributeProto.STRING}
        scales = self.constants.get(node.input[2]) if len(node.input) > 2 else None
        shape = self.shapes.get(node.input[0], [])
        linear = attributes.get("mode") == b"linear" and scales is not None and scales.tolist() == [1, 1, 4, 4]
        linear &= attributes.get("coordinate_transformation_mode", b"half_pixel") in (b"half_pixel", b"pytorch_half_pixel")
        linear &= not any(a.name == "antialias" and a.i for a in node.attribute)
        if linear and len(shape) == 4 and 0 not in shape[1:] and min(shape[2:]) > 1:
            rows = list(self._quadruple(node.input[0], shape, 2, None))
            yield from rows
            yield from self._quadruple(rows[-1].output[0], [*shape[:2], 4 * shape[2], shape[3]], 3, node.output[0])
            return
        plain = attributes.get("mode", b"nearest") == b"nearest" and scales is not None and scales.tolist() == [1, 1, 2, 2]
        plain &= attributes.get("coordinate_transformation_mode") == b"asymmetric" and attributes.get("nearest_mode") == b"floor"
        if not plain or len(shape) != 4 or 0 in shape:
            raise ValueError(f"{node.name}: only Resize to twice the size by the nearest pixel, or to four times by linear weights, is "
                             "expected")
        n, c, h, w = shape
        apart = self.node("Reshape", node.input[0], self.integers(n, c, h, 1, w, 1))
        wide = self.node("Expand", apart.output[0], self.integers(n, c, h, 2, w, 2))
        yield from (apart, wide, self.node("Reshape", wide.output[0], self.integers(n, c, 2 * h, 2 * w), output=node.output[0]))


    def reduce_max(self, node: NodeProto) -> Iterator[NodeProto]:
        axes = self.constants.get(node.input[1]) if len(node.input) > 1 else None
        keeps = next((a.i for a in node.attribute if a.name == "keepdims"), 1)
        shape = self.shapes.get(node.input[0], [])
        if axes is None or axes.size != 1 or 0 in shape or not shape:
            raise ValueError(f"{node.name}: only ReduceMax along one axis of known size is expected")
        axis, value = int(axes.item()) % len(shape), node.input[0]
        if shape[axis] > 1:
            best = self.node("TopK", value, self.integers(1), axis=axis)
            best.output.append(f"{best.output[0]}_place")
            value = best.output[0]
            yield best
        left = [1 if i == axis else n for i, n in enumerate(shape) if keeps or i != axis]
        yield self.node("Reshape", value, self.integers(*left), output=node.output[0])


def close(model: onnx.ModelProto) -> None:
    """Replaces the operators that ``LACKING`` names, in place."""
    made = _Close(model)
    nodes: list[NodeProto] = []
    same: dict[str, str] = {}           # results of a Pad by nothing
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = same.get(name, name)
        if node.op_type not in LACKING:
            nodes.append(node)
            continue
        written = list({"Pad": made.pad, "MaxPool": made.max_pool, "Resize": made.resize, "ReduceMax": made.reduce_max}[node.op_type](node))
        if not written:
            same[node.output[0]] = node.input[0]
        nodes.extend(written)
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [t for t in model.graph.initializer if t.name in used]
    model.graph.ClearField("initializer")
    model.graph.initializer.extend(kept)
