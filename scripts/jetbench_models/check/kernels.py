"""Which releases of ONNX Runtime have a CUDA kernel for every node of a graph? From their published lists, with no device.

Source: docs/OperatorKernels.md of ONNX Runtime, CUDAExecutionProvider, domain ai.onnx, as it stood on the main branch when the
work on the next release began (1.18: 2024-04-29, 1.19: 2024-08-04, 1.20: 2024-10-17, 1.21: 2025-02-22, 1.22: 2025-04-24,
1.24: 2026-01-21; 1.23, which came out before that day: 2025-09-24). A release may have a change more or less than its day.
Later lists were not read, but for one, which stands here as that of 1.31: a list of the main branch after 1.24 that has GridSample
for the sets 20 and 22. In which release in between it came was not found out. That a later list loses a kernel is not to be
expected. What depends on no input is computed when the graph is loaded, and needs none.

A kernel "from 13 on" serves the version of the operator that came with set 13, and not one of a later set: ONNX Runtime does
not know whether it could (VerifyVersion in kernel_registry.cc). A kernel "13 to 20" serves all versions in between.
"""
from __future__ import annotations

import re
from collections.abc import Iterator

import onnx
from onnx import NodeProto, TensorProto

from .placement import types_of

RELEASES = ("1.18", "1.19", "1.20", "1.21", "1.22", "1.23", "1.24", "1.31")
# b bfloat16, f float, h float16, i int32, l int64, ? bool: what the operator's main type may be.
TYPES = {"b": TensorProto.BFLOAT16, "f": TensorProto.FLOAT, "h": TensorProto.FLOAT16, "i": TensorProto.INT32,
         "l": TensorProto.INT64, "?": TensorProto.BOOL}
# Operator, then from which release on: operator sets of the kernels from 13 on, and their types.
KERNELS = """
Abs | 1.18: 13+ fhil; 1.22: 13+ bfhil
Add | 1.18: 14+ bfhil
Cast | 1.18: 19+ ?bfhil, 13-18 ?bfhil; 1.23: 23+ ?bfhil, 21-22 ?bfhil, 19-20 ?bfhil, 13-18 ?bfhil
Clip | 1.18: 13+ fhl
Concat | 1.18: 13+ ?bfhil
Conv | 1.18: 11+ fh; 1.24: 22+ bfh, 11-21 fh
ConvTranspose | 1.18: 11+ fh
Cos | 1.18: 7+ fh
DepthToSpace | 1.18: 13+ fh
Div | 1.18: 14+ bfhil
Equal | 1.18: 13+ ?fhil
Erf | 1.18: 13+ bfh
Expand | 1.18: 13+ ?bfhil
Gather | 1.18: 13+ ?bfhil
GatherElements | 1.18: 13+ ?bfhil
Gelu | 1.18: 20+ fh; 1.23: 20+ bfh
Gemm | 1.18: 13+ bfh
Greater | 1.18: 13+ fhil
GreaterOrEqual | 1.18: 16+ fhil, 12-15 fhil
GridSample | 1.18: 16+ f; 1.31: 22+ f, 20-21 f, 16-19 f
LayerNormalization | 1.18: 17+ bfh
Less | 1.18: 13+ fhil
Log | 1.18: 13+ fh
MatMul | 1.18: 13+ bfh
Max | 1.18: 13+ bfhil
MaxPool | 1.18: 12+ fh
Mul | 1.18: 14+ bfhil
Neg | 1.18: 13+ bfhil
Pad | 1.18: 18+ ?fh, 13-17 ?fh
ReduceMax | 1.18: 18+ fhil, 1-17 fhil
ReduceMean | 1.18: 18+ fhi, 1-17 fhi
ReduceSum | 1.18: 13+ bfhil
Relu | 1.18: 14+ bfh
Reshape | 1.18: 19+ ?bfhil, 14-18 ?bfhil; 1.24: 23+ ?bfhil, 21-22 ?bfhil, 19-20 ?bfhil, 14-18 ?bfhil
Resize | 1.18: 18+ fhi, 13-17 fhi
Sigmoid | 1.18: 13+ bfh
Sin | 1.18: 7+ fh
Slice | 1.18: 13+ ?bfhil
Softmax | 1.18: 13+ bfh
Split | 1.18: 18+ ?bfhil, 13-17 ?bfhil
Sqrt | 1.18: 13+ bfh
Squeeze | 1.18: 13+ ?bfhil; 1.24: 23+ ?bfhil, 21-22 ?bfhil, 13-20 ?bfhil
Sub | 1.18: 14+ bfhil
Tile | 1.18: 13+ fhil; 1.19: 13+ bfhil
TopK | 1.18: 11+ fhil
Transpose | 1.18: 13+ ?bfhil; 1.24: 23+ ?bfhil, 21-22 ?bfhil, 13-20 ?bfhil
Unsqueeze | 1.18: 13+ ?bfhil; 1.24: 23+ ?bfhil, 21-22 ?bfhil, 13-20 ?bfhil
Where | 1.18: 16+ bfhil, 9-15 fhil
"""


def _release(name: str) -> tuple[int, ...]:
    return tuple(map(int, name.split(".")))


Kernel = tuple[int, int | None, set[int]]      # first set, last set or None, types


def _read() -> dict[str, list[tuple[str, list[Kernel]]]]:
    """Operator -> (first release, kernels), in order of the releases."""
    table: dict[str, list[tuple[str, list[Kernel]]]] = {}
    for line in KERNELS.strip().splitlines():
        operator, history = line.split(" | ")
        table[operator] = []
        for part in history.split("; "):
            release, kernels = part.split(": ")
            rows: list[Kernel] = []
            for first, last, types in re.findall(r"(\d+)(?:\+|-(\d+)) ([bfhil?]+)", kernels):
                rows.append((int(first), int(last) if last else None, {TYPES[letter] for letter in types}))
            table[operator].append((release, rows))
    return table


TABLE = _read()


def has_kernel(operator: str, version: int, kind: int, release: str) -> bool:
    """Does the release's list have a kernel for this version of the operator (the set that it came with) and element type?"""
    rows = [rows for since, rows in TABLE.get(operator, []) if _release(since) <= _release(release)]
    return bool(rows) and any(kind in types and (version == first if last is None else first <= version <= last)
                              for first, last, types in rows[-1])


def _at_run_time(model: onnx.ModelProto) -> Iterator[NodeProto]:
    """Nodes that depend on an input. (Packs have no inner graphs: ``placement`` walks them.)"""
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if all(not name or name in constants for name in node.input):
            constants.update(node.output)
        else:
            yield node


def missing(model: onnx.ModelProto, release: str) -> list[str]:
    """The nodes that this release's CUDA provider would leave to the CPU or refuse: operator, version and type, each once."""
    types, (opset,) = types_of(model), (o.version for o in model.opset_import if not o.domain)
    found: dict[str, None] = {}
    for node in _at_run_time(model):
        version = onnx.defs.get_schema(node.op_type, opset, node.domain).since_version
        for name in {node.input[1 if node.op_type == "Where" else 0], *(node.output if node.op_type == "Cast" else ())}:
            kind = types.get(name, 0)
            if node.domain or not has_kernel(node.op_type, version, kind, release):
                found[f"{node.op_type} (version {version}) in {TensorProto.DataType.Name(kind).lower()}"] = None
    return list(found)


def first_release(model: onnx.ModelProto) -> str | None:
    """The first of ``RELEASES`` from which on none lacks a kernel; None if the last one does."""
    whole = [not missing(model, release) for release in RELEASES]
    return RELEASES[len(whole) - next((i for i, ok in enumerate(reversed(whole)) if not ok), len(whole))] if whole[-1] else None
