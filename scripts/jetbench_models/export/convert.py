"""A torch module as an ONNX graph: exported, stripped of everything that does not compute, checked, and written in every type.

Graphs have fixed shapes but for the number of objects, opset 18 (bf16 with convolutions: 22), real-arithmetic rotary embedding
and no custom operators. What the exporter leaves in them about the machine they were made on (stack traces, source paths) is
removed, and nothing in them depends on the time or the directory, so that the same weights and library versions give the same bytes.
"""
from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from onnxscript import optimizer
from timm.utils.model import reparameterize_model
from torch import nn

from .. import __version__
from ..models import released
from ..pack import half
from ..pack.ports import ports_of
from . import fused, gaps
from .borrowed import borrow
from .graphs.geometry import Geometry, is_edgetam
from .graphs.signatures import (
    COND_OBJECTS,
    MEMORIES,
    OBJECTS,
    POINTERS,
    Signature,
    example_inputs,
    signatures,
)
from .manifest import BORROWS, CPU

FOLD_LIMIT = 1024         # elements


def fuse(model: nn.Module) -> nn.Module:
    """Merges RepViT's parallel training branches into single convolutions (same function, fewer operators)."""
    if is_edgetam(model):
        backbone = model.vision_encoder.backbone
        backbone.timm_model = reparameterize_model(backbone.timm_model)
    return model


# ------------------------------------------------------------------------------------------------------------- graphs
def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    for node in [n for n in graph.node if n.op_type == "Constant"]:
        value = node.attribute[0]
        if value.name == "value":
            tensor = onnx.TensorProto()
            tensor.CopyFrom(value.t)
        else:
            kind = np.float32 if "float" in value.name else np.int64
            tensor = numpy_helper.from_array(np.array(onnx.helper.get_attribute_value(value), kind))
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
        graph.node.remove(node)


def _fold_weight_transposes(graph: onnx.GraphProto) -> None:
    """Transposes weights here; the optimiser leaves those alone that are used twice, and half precision would then
    cast activations of the wrong kind. Equal results are stored once."""
    weights_by_name = {t.name: t for t in graph.initializer}
    made: dict[tuple[str, tuple[int, ...]], str] = {}
    replaced: dict[str, str] = {}
    for node in [n for n in graph.node if n.op_type == "Transpose" and n.input[0] in weights_by_name]:
        order = tuple(node.attribute[0].ints)
        key = (node.input[0], order)
        if key not in made:
            made[key] = node.output[0]
            value = numpy_helper.to_array(weights_by_name[node.input[0]]).transpose(order)
            graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), node.output[0]))
        replaced[node.output[0]] = made[key]
        graph.node.remove(node)
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = replaced.get(name, name)


def _merge_equal_initializers(graph: onnx.GraphProto) -> None:
    """Stores equal constants once and drops unused ones."""
    first: dict[tuple, str] = {}
    same: dict[str, str] = {}
    for tensor in graph.initializer:
        value = numpy_helper.to_array(tensor)
        digest = hashlib.sha256(np.ascontiguousarray(value).data).digest()
        same[tensor.name] = first.setdefault((tensor.data_type, value.shape, digest), tensor.name)
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = same.get(name, name)
    used = {name for node in graph.node for name in node.input}
    kept = [t for t in graph.initializer if t.name in used]
    graph.ClearField("initializer")
    graph.initializer.extend(kept)


def _order_gelu(graph: onnx.GraphProto) -> None:
    """x (0.5 (1 + erf)) becomes 0.5 (x (1 + erf)), the order in which ONNX Runtime knows it as one operator: half of a sum is exact."""
    made_by = {output: node for node in graph.node for output in node.output}
    halves = {t.name for t in graph.initializer if np.array_equal(numpy_helper.to_array(t), np.float32(0.5))}
    for last in [n for n in graph.node if n.op_type == "Mul"]:
        for x, halved in (last.input, reversed(last.input)):
            first = made_by.get(halved)
            if first is None or first.op_type != "Mul" or halves.isdisjoint(first.input):
                continue
            half, total = first.input if first.input[0] in halves else reversed(first.input)
            adding = made_by.get(total)
            if adding and adding.op_type == "Add" and any(i in made_by and made_by[i].op_type == "Erf" for i in adding.input):
                first.input[:], last.input[:] = [x, total], [halved, half]
                break


def _strip(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Removes everything that does not compute: traces, documentation, intermediate shapes, module-path names.

    Values are renumbered in order of appearance, so that names neither grow with the depth of the Python classes nor
    depend on it.
    """
    graph = model.graph
    _constants_to_initializers(graph)
    _fold_weight_transposes(graph)
    _merge_equal_initializers(graph)
    _order_gelu(graph)
    ports = {p.name for p in [*graph.input, *graph.output]}
    names: dict[str, str] = {}
    for i, tensor in enumerate(graph.initializer):
        names[tensor.name] = f"w{i}"
        tensor.name = f"w{i}"
        tensor.ClearField("doc_string")
        tensor.ClearField("metadata_props")
    for i, node in enumerate(graph.node):
        for j, output in enumerate(node.output):
            if output and output not in ports:
                names[output] = f"v{i}" if j == 0 else f"v{i}_{j}"
    for i, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{i}"
        for values in (node.input, node.output):
            for j, value in enumerate(values):
                values[j] = names.get(value, value)
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    for values in (graph.input, graph.output):
        for value in values:
            value.ClearField("doc_string")
            value.ClearField("metadata_props")
    for field in ("value_info", "doc_string", "metadata_props", "quantization_annotation"):
        graph.ClearField(field)
    for field in ("doc_string", "metadata_props", "functions", "domain", "model_version"):
        model.ClearField(field)
    graph.name = name
    model.producer_name, model.producer_version = "jetbench_models", __version__
    return model


def _check_signature(model: onnx.ModelProto, name: str, signature: Signature) -> None:
    """The exporter may drop, merge or rename inputs; a pack must have exactly the ones it declares."""
    for what, found, wanted in (("inputs", ports_of(model.graph.input), signature.inputs),
                                ("outputs", ports_of(model.graph.output), signature.outputs)):
        if found != list(wanted):
            raise RuntimeError(f"{name}: {what} are {found}, expected {list(wanted)}")


def _declare_shapes(graph: onnx.GraphProto, signature: Signature) -> None:
    """Writes the symbols of the signature into the graph.

    torch cannot say "as many as there are objects, or one": it exports cond_embed with a batch of one, and every
    operator that follows broadcasts, so that the same graph takes both.
    """
    declared = {port.name: port for port in (*signature.inputs, *signature.outputs)}
    for value in (*graph.input, *graph.output):
        for i, size in enumerate(declared[value.name].shape if value.name in declared else ()):
            dim = value.type.tensor_type.shape.dim[i]
            if isinstance(size, str) and (dim.dim_param or (size == COND_OBJECTS and dim.dim_value == 1)):
                dim.Clear()
                dim.dim_param = size


def trace(module: nn.Module, name: str, signature: Signature, examples: tuple[torch.Tensor, ...],
          free: tuple[dict, ...] | None = None) -> onnx.ModelProto:
    """The stripped graph of a module that was run on ``examples``; ``free``: axes without a fixed size, for each input."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(module, examples, dynamo=True, optimize=False, verbose=False,
                                    opset_version=half.OPSET, input_names=[p.name for p in signature.inputs],
                                    output_names=[p.name for p in signature.outputs], dynamic_shapes=free)
    # constants larger than this stay an expression: position tables are put together when the graph is loaded
    optimizer.optimize(program.model, output_size_limit=FOLD_LIMIT)
    return _strip(program.model_proto, name)


def export_graph(model: nn.Module, name: str, signature: Signature, form: Callable | None = None) -> onnx.ModelProto:
    """One fp32 graph, stripped and checked. ``form``: the module of its CPU form, which may use ONNX Runtime's own operators."""
    g, sources = Geometry.of(model), signature
    if form and name == "memory_attention":
        sources = signatures(g, grows=True)[name]      # exported with a state of any length, which is cut to what exists
    module = (form or signature.module)(model).eval()
    examples = example_inputs(sources, objects=2)
    axes = {OBJECTS: torch.export.Dim(OBJECTS, min=1), MEMORIES: torch.export.Dim(MEMORIES, min=1, max=g.slots if form else 64),
            POINTERS: torch.export.Dim(POINTERS, min=1, max=g.pointers if form else 64)}
    free = tuple({i: axes[size] for i, size in enumerate(port.shape) if size in axes} for port in sources.inputs)
    graph = trace(module, name, sources, tuple(examples.values()), free)
    asking = [n.name for n in graph.graph.node if n.op_type in ("Shape", "Size")]
    if asking and not form and {MEMORIES, POINTERS}.isdisjoint(size for port in signature.inputs for size in port.shape):
        raise RuntimeError(f"{name}: {asking} would run on the CPU in a CUDA session; write the sizes as constants")
    custom = sorted({f"{n.domain}.{n.op_type}" for n in graph.graph.node if n.domain and not (form and n.domain == fused.DOMAIN)})
    if custom:
        raise RuntimeError(f"{name}: needs custom operators {custom}")
    half.set_versions(graph, "fp32")
    if form:
        graph.opset_import.append(onnx.helper.make_opsetid(fused.DOMAIN, 1))
        if sources is not signature:
            fused.cut_state(graph.graph, g)
    _declare_shapes(graph.graph, signature)
    _check_signature(graph, name, signature)
    half.check(graph)
    return graph


def in_precision(single: onnx.ModelProto, kind: str, kept: tuple[str, ...] = ()) -> onnx.ModelProto:
    """The graph of an fp32 graph in one of ``half.DTYPES``. ``kept``: outputs whose last products stay fp32."""
    if kind == "fp32":
        return single
    graph = half.to_half(single, kind, half.last_products(single.graph, kept))
    if graph.opset_import[0].version > half.OPSET:
        gaps.close(graph)
    half.check(graph)
    return graph


def write_single(single: onnx.ModelProto, name: str, out: Path, kinds: tuple[str, ...], say: Callable[[str], None],
                 kept: tuple[str, ...] = ()) -> dict[str, str]:
    """Writes the only graph of a pack, given in fp32, in every precision and returns the digests. ``kept``: outputs whose last products
    stay fp32."""
    digests = {}
    for kind in kinds:
        path = out / kind / f"{name}.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(in_precision(single, kind, kept).SerializeToString(deterministic=True))
        digests[kind] = released.sha256(path)
        say(f"{name}: {len(single.graph.node)} operators in fp32; {kind} {path.stat().st_size / 1e6:.2f} MB {digests[kind][:12]}")
    return digests


def write_graphs(model: nn.Module, out: Path, kinds: tuple[str, ...], say: Callable[[str], None],
                 grows: bool = False, official: bool = False) -> dict[str, dict[str, str]]:
    """Writes the graphs; returns their digests as ``manifest.manifest`` takes them. RepViT in ``model`` is fused on
    the way. ``grows`` and ``official`` as for ``signatures``."""
    fuse(model)
    cpu = {} if grows else fused.forms(model)
    digests: dict[str, dict[str, str]] = {}
    for name, signature in signatures(Geometry.of(model), grows, official).items():
        say(f"{name}: tracing and writing")
        single = export_graph(model, name, signature)
        digests[name], row = {}, []
        for kind in kinds:
            graph = in_precision(single, kind)
            path = out / kind / f"{name}.onnx"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(graph.SerializeToString(deterministic=True))
            digests[name][kind] = released.sha256(path)
            row.append(f"{kind} {path.stat().st_size / 1e6:8.2f} MB {digests[name][kind][:12]}")
            del graph
        if name in cpu and "fp32" in kinds:
            graph = export_graph(model, name, signature, cpu[name])
            if borrow(graph, out / f"fp32/{name}.onnx"):
                digests[name][BORROWS] = digests[name]["fp32"]
            path = out / f"fp32/{name}.{CPU}.onnx"
            path.write_bytes(graph.SerializeToString(deterministic=True))
            digests[name][CPU] = released.sha256(path)
            row.append(f"{CPU} {path.stat().st_size / 1e6:8.2f} MB {digests[name][CPU][:12]}")
            del graph
        say(f"{name:17s} {len(single.graph.node):4d} operators  " + "  ".join(row))
    return digests
