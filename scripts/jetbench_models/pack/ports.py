"""Inputs and outputs of a graph, as its ONNX file and pack.toml state them."""
from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

import onnx

DTYPES: dict[int, str] = {onnx.TensorProto.FLOAT: "f32", onnx.TensorProto.INT32: "i32", onnx.TensorProto.INT64: "i64"}


@dataclass(frozen=True)
class Port:
    """One graph input or output: name, "f32", "i32" or "i64", shape of sizes and of symbols for axes without a fixed size."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def sized(self, **sizes: int) -> tuple[int, ...]:
        """The shape with the symbols replaced."""
        return tuple(sizes[n] if isinstance(n, str) else n for n in self.shape)


def ports_of(values: Iterable[onnx.ValueInfoProto]) -> list[Port]:
    """The ports of a graph; ``?`` for an axis without a name and for an element type that no pack has."""
    return [Port(v.name, DTYPES.get(v.type.tensor_type.elem_type, "?"),
                 tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in v.type.tensor_type.shape.dim))
            for v in values]


def as_toml(ports: Iterable[Port]) -> str:
    """The list under ``inputs`` or ``outputs`` of a [[graph]] in pack.toml."""
    lines = [f'    {{ name = {json.dumps(p.name)}, dtype = "{p.dtype}", shape = {json.dumps(p.shape)} }},' for p in ports]
    return "[\n" + "\n".join(lines) + "\n]"
