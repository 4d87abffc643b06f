"""Weights that a CPU form takes out of the file of the plain graph, so that a pack holds them once.

The CPU form computes as convolutions what the plain form computes as matrix products: the same weights, transposed. ONNX lets a graph
name a place in another file of its folder for a constant; ONNX Runtime transposes it while it loads the graph, so what runs is what
would run with the weights inside. Only what is transposed is borrowed: the result is memory of the session's own, so that nothing
computes from a file that may change under it, or from an address that is not a multiple of four.
"""
from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

SMALLEST = 1024           # elements; a smaller weight is not worth a node


def _digest(value: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(value).data).digest()


def _places(plain: onnx.GraphProto, content: bytes) -> dict[bytes, int]:
    """Where each matrix of a graph lies in its serialised form, by the digest of its values."""
    found: dict[bytes, int] = {}
    at = 0
    for tensor in plain.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2 and tensor.raw_data:
            at = content.index(tensor.raw_data, at)
            found[hashlib.sha256(tensor.raw_data).digest()] = at
            at += len(tensor.raw_data)
    return found


def borrow(form: onnx.ModelProto, plain: Path) -> int:
    """Replaces weights of a CPU form that the plain graph, a file in the same folder, has transposed; returns how many bytes."""
    content = plain.read_bytes()
    places, turns, saved = _places(onnx.load_model_from_string(content).graph, content), [], 0
    for tensor in form.graph.initializer:
        shape = tuple(tensor.dims)
        if tensor.data_type != onnx.TensorProto.FLOAT or len(shape) < 2 or np.prod(shape) < SMALLEST or any(n != 1 for n in shape[2:]):
            continue
        at = places.get(_digest(numpy_helper.to_array(tensor).reshape(shape[:2]).T))
        if at is None:
            continue
        name, length, order = tensor.name, int(np.prod(shape)) * 4, [1, 0, *range(2, len(shape))]
        tensor.Clear()
        tensor.name, tensor.data_type, tensor.data_location = f"{name}_plain", onnx.TensorProto.FLOAT, onnx.TensorProto.EXTERNAL
        tensor.dims.extend(shape[i] for i in order)
        for key, value in (("location", plain.name), ("offset", at), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        turns.append(helper.make_node("Transpose", [tensor.name], [name], f"Transpose_{name}", perm=order))
        saved += length
    nodes = [*turns, *form.graph.node]
    form.graph.ClearField("node")
    form.graph.node.extend(nodes)
    return saved
