"""Weights that a CPU form takes out of the file of the plain graph, so that a pack holds them once.

The CPU form computes as convolutions what the plain form computes as matrix products: the same weights, mostly transposed. ONNX lets a
graph name a place in another file of its folder for a constant. ONNX Runtime transposes such a constant while it loads the graph, so
what runs is what would run with the weights inside.
"""
from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

SMALLEST = 1024           # elements; a smaller weight is not worth it


def _digest(value: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(value).data).digest()


def _places(plain: onnx.GraphProto, content: bytes) -> dict[bytes, int]:
    """Where each large weight of a graph lies in its serialised form, by the digest of its values."""
    found: dict[bytes, int] = {}
    at = 0
    for tensor in plain.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.raw_data) >= 4 * SMALLEST:
            at = content.index(tensor.raw_data, at)
            found[hashlib.sha256(tensor.raw_data).digest()] = at
            at += len(tensor.raw_data)
    return found


def _refer(tensor: onnx.TensorProto, name: str, shape: list[int], file: str, at: int) -> None:
    """Makes the tensor one whose values lie in ``file`` from byte ``at`` on."""
    tensor.Clear()
    tensor.name, tensor.data_type, tensor.data_location = name, onnx.TensorProto.FLOAT, onnx.TensorProto.EXTERNAL
    tensor.dims.extend(shape)
    for key, value in (("location", file), ("offset", at), ("length", 4 * int(np.prod(shape)))):
        tensor.external_data.add(key=key, value=str(value))


def borrow(form: onnx.ModelProto, plain: Path) -> int:
    """Replaces weights of a CPU form that the plain graph, a file in the same folder, has as they are or transposed; returns how many
    bytes."""
    content = plain.read_bytes()
    places, turns, saved = _places(onnx.load_model_from_string(content).graph, content), [], 0
    for tensor in form.graph.initializer:
        name, shape = tensor.name, list(tensor.dims)
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(shape) < SMALLEST:
            continue
        value = numpy_helper.to_array(tensor)
        at = places.get(_digest(value))
        if at is not None:
            _refer(tensor, name, shape, plain.name, at)
        elif len(shape) >= 2 and all(n == 1 for n in shape[2:]):
            at = places.get(_digest(value.reshape(shape[:2]).T))
            if at is None:
                continue
            _refer(tensor, f"{name}_plain", [shape[1], shape[0], *shape[2:]], plain.name, at)
            turns.append(helper.make_node("Transpose", [tensor.name], [name], f"Transpose_{name}", perm=[1, 0, *range(2, len(shape))]))
        else:
            continue
        saved += value.nbytes
    nodes = [*turns, *form.graph.node]
    form.graph.ClearField("node")
    form.graph.node.extend(nodes)
    return saved
