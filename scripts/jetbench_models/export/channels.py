"""Which convolutions does a device compute wrongly, and how are they written so that it does not?

ONNX Runtime's WebGPU provider (1.27) is wrong for convolutions with a kernel above 1 whose input channels are a multiple of 3 above 3 and
none of 4, and whose results are a multiple of 4. Channels of zero weights, in the convolution before and in this one, change no value.
The same rule in Rust: runners/src/onnx/convolution.rs.
"""
from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

MULTIPLE = 4
PER_CHANNEL = frozenset({"Relu", "Sigmoid", "Mul", "Add"})     # with a number for all channels, where there are two operands


def by_threes(weights: np.ndarray) -> bool:
    """Is a convolution (one group) with these weights [out,in,...] one of them?"""
    results, inputs = weights.shape[:2]
    return inputs > 3 and inputs % 3 == 0 and inputs % MULTIPLE != 0 and results % MULTIPLE == 0 and max(weights.shape[2:]) > 1


def _one_group(node: onnx.NodeProto) -> bool:
    return all(a.i == 1 for a in node.attribute if a.name == "group")


class _Graph:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self.weights = {t.name: t for t in graph.initializer}
        self.made_by = {name: node for node in graph.node for name in node.output}
        self.read_by: dict[str, int] = {}
        for name in [*(name for node in graph.node for name in node.input), *(port.name for port in graph.output)]:
            self.read_by[name] = self.read_by.get(name, 0) + 1

    def values(self, name: str) -> np.ndarray:
        return numpy_helper.to_array(self.weights[name])

    def put(self, name: str, value: np.ndarray) -> None:
        self.weights[name].CopyFrom(numpy_helper.from_array(value, name))

    def source(self, name: str) -> onnx.NodeProto | None:
        """The convolution whose channels reach ``name`` one by one and nothing else; None where there is no such."""
        while self.read_by[name] == 1 and (node := self.made_by.get(name)) is not None:
            if node.op_type == "Conv":
                known = _one_group(node) and all(name in self.weights and self.read_by[name] == 1 for name in node.input[1:])
                return node if known else None
            constants = [i for i in node.input if i in self.weights]
            through = [i for i in node.input if i not in self.weights]
            if node.op_type not in PER_CHANNEL or len(through) != 1 or any(self.values(c).size != 1 for c in constants):
                return None
            name = through[0]
        return None


def pad(model: onnx.ModelProto) -> list[str]:
    """Gives such convolutions input channels of zero weights, up to a multiple of 4, and returns their outputs' names. One whose input does
    not come from a convolution, channel by channel, stays as it is: on a device that computes it wrongly, jetbench refuses the graph."""
    graph, padded = _Graph(model.graph), []
    for node in model.graph.node:
        if node.op_type != "Conv" or node.input[1] not in graph.weights or graph.read_by[node.input[1]] != 1 or not _one_group(node):
            continue
        weights = graph.values(node.input[1])
        source = graph.source(node.input[0]) if by_threes(weights) else None
        if source is None:
            continue
        more = -weights.shape[1] % MULTIPLE
        graph.put(node.input[1], np.pad(weights, [(0, 0), (0, more), *[(0, 0)] * (weights.ndim - 2)]))
        for name in source.input[1:]:
            value = graph.values(name)
            graph.put(name, np.pad(value, [(0, more), *[(0, 0)] * (value.ndim - 1)]))
        padded.append(node.output[0])
    if padded:
        del model.graph.value_info[:]      # shapes of before
    return padded
