"""Writes a pack: the five graphs of a trained model in fp32, fp16 and bf16, with the manifest that describes them.

The weights come from ``train`` (a safetensors file whose header names architecture and image size). Graphs have
fixed shapes, opset 20 (bf16: 22), real-arithmetic rotary embedding and no custom operators. What the exporter leaves
in them about the machine they were made on (stack traces, source paths) is removed, and nothing in them depends on the
time or the directory, so that the same weights and library versions give the same bytes.

Example:
    python -m jetbench_models export --weights out/sam2.safetensors --out assets/packs/sam2_mini
"""
from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from onnxscript import optimizer
from torch import nn

from . import precision, weights
from .graphs import COND_OBJECTS, OBJECTS, Geometry, POINT_SLOTS, Port, Signature, example_inputs, is_edgetam, signatures

VERSION = "0.1.0"
PRECISIONS = ("fp32", "fp16", "bf16")
FOLD_LIMIT = 1024         # elements
LIBRARIES = ("torch", "torchvision", "transformers", "timm", "onnx", "onnxscript", "numpy")
LICENCE = """\
The graphs, weights and reference outputs in this directory are part of this project and are licensed under the Apache
License, Version 2.0 (https://www.apache.org/licenses/LICENSE-2.0).

The weights were trained by this project from random numbers, on synthetic clips that its own script draws. No
downloaded weights and no third-party images were used. They are smoke-test models: they exercise the SAM 2 and EdgeTAM
video architectures and say nothing about the quality of the released models of those names.
"""


def library_versions(names: tuple[str, ...] = LIBRARIES) -> dict[str, str]:
    return {name: metadata.version(name) for name in names}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fuse(model: nn.Module) -> nn.Module:
    """Merges RepViT's parallel training branches into single convolutions (same function, fewer operators)."""
    if is_edgetam(model):
        from timm.utils.model import reparameterize_model
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
        same[tensor.name] = first.setdefault((tensor.data_type, value.shape, value.tobytes()), tensor.name)
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = same.get(name, name)
    used = {name for node in graph.node for name in node.input}
    kept = [t for t in graph.initializer if t.name in used]
    graph.ClearField("initializer")
    graph.initializer.extend(kept)


def _strip(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Removes everything that does not compute: traces, documentation, intermediate shapes, module-path names.

    Values are renumbered in order of appearance, so that names neither grow with the depth of the Python classes nor
    depend on it.
    """
    graph = model.graph
    _constants_to_initializers(graph)
    _fold_weight_transposes(graph)
    _merge_equal_initializers(graph)
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
    model.producer_name, model.producer_version = "jetbench_models", VERSION
    return model


def _ports_of(values) -> list[Port]:
    kinds = {onnx.TensorProto.FLOAT: "f32", onnx.TensorProto.INT32: "i32"}
    return [Port(v.name, kinds.get(v.type.tensor_type.elem_type, "?"),
                 tuple(d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim)) for v in values]


def _check_signature(model: onnx.ModelProto, name: str, signature: Signature) -> None:
    """The exporter may drop, merge or rename inputs; a pack must have exactly the ones it declares."""
    for what, found, wanted in (("inputs", _ports_of(model.graph.input), signature.inputs),
                                ("outputs", _ports_of(model.graph.output), signature.outputs)):
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
            if size == OBJECTS and dim.dim_param or size == COND_OBJECTS and dim.dim_value == 1:
                dim.Clear()
                dim.dim_param = size


def export_graph(model: nn.Module, name: str, signature: Signature) -> onnx.ModelProto:
    """One fp32 graph, stripped and checked."""
    module = signature.module(model).eval()
    examples = example_inputs(signature, objects=2)
    objects = torch.export.Dim(OBJECTS, min=1)
    free = tuple({i: objects for i, size in enumerate(port.shape) if size == OBJECTS} for port in signature.inputs)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(module, tuple(examples.values()), dynamo=True, optimize=False, verbose=False,
                                    opset_version=precision.OPSET["fp32"], input_names=[p.name for p in signature.inputs],
                                    output_names=[p.name for p in signature.outputs], dynamic_shapes=free)
    # constants larger than this stay an expression: position tables are put together when the graph is loaded
    optimizer.optimize(program.model, output_size_limit=FOLD_LIMIT)
    graph = _strip(program.model_proto, name)
    custom = sorted({f"{n.domain}.{n.op_type}" for n in graph.graph.node if n.domain})
    if custom:
        raise RuntimeError(f"{name}: needs custom operators {custom}")
    precision.set_versions(graph, "fp32")
    _declare_shapes(graph.graph, signature)
    _check_signature(graph, name, signature)
    precision.check(graph)
    return graph


# ----------------------------------------------------------------------------------------------------------- manifest
def _toml_ports(ports: tuple[Port, ...]) -> str:
    lines = [f'    {{ name = "{p.name}", dtype = "{p.dtype}", shape = {json.dumps(p.shape)} }},' for p in ports]
    return "[\n" + "\n".join(lines) + "\n]"


def _inline(table: dict[str, str]) -> str:
    return "{ " + ", ".join(f"{k} = {json.dumps(v)}" for k, v in table.items()) + " }"


def manifest(identity: str, arch: str, g: Geometry, provenance: dict, digests: dict[str, dict[str, str]]) -> str:
    """Text of pack.toml. ``digests``: graph name -> precision -> sha256."""
    title = {"sam2": "SAM 2.1 video", "edgetam": "EdgeTAM video"}[arch]
    lines = [
        "schema = 1", f'id = "{identity}"', f'family = "{arch}"',
        f'description = "{title} architecture in miniature ({g.size} px, {g.channels} channels), trained from random '
        'weights on synthetic clips: a smoke-test model"',
        'licence = "Apache-2.0"', "", "[provenance]",
        f'checkpoint_sha256 = "{provenance["checkpoint_sha256"]}"', f'exporter = "jetbench_models {VERSION}"',
        f'command = {json.dumps(provenance["command"])}', f'libraries = {_inline(provenance["libraries"])}',
        f'notes = {json.dumps(provenance["notes"])}',
        "", "[input]", f"size = {g.size}", 'resize = "bilinear_antialias_u8"', 'colour = "rgb"',
        "mean = [0.485, 0.456, 0.406]", "std = [0.229, 0.224, 0.225]",
        "", "[memory]", f"frames = {g.slots}", f"tokens_per_frame = {g.memory_tokens}", f"channels = {g.memory_channels}",
        f"pointers = {g.pointers}", f'storage = "{"bf16_rounded" if arch == "sam2" else "fp32"}"',
        "", "[prompts]", 'kinds = ["points", "bbox", "mask"]', f"point_slots = {POINT_SLOTS}",
    ]
    for name, signature in signatures(g).items():
        lines += ["", "[[graph]]", f'name = "{name}"',
                  f"files = {_inline({p: f'{p}/{name}.onnx' for p in PRECISIONS})}", f"sha256 = {_inline(digests[name])}",
                  f"inputs = {_toml_ports(signature.inputs)}", f"outputs = {_toml_ports(signature.outputs)}"]
    for state in ("bank", "ptrs", "age"):
        lines += ["", "[[state]]", f'input = "{state}"', f'output = "{state}_out"']
    lines += ["", "[golden]", 'index = "reference/golden.json"', "tolerance = 1e-3"]
    return "\n".join(lines) + "\n"


def write_pack(model: nn.Module, arch: str, out: Path, *, identity: str, checkpoint_sha256: str, command: str,
               notes: str) -> dict[str, dict[str, int]]:
    """Writes the graphs, pack.toml and LICENSE; returns the file sizes in bytes, graph -> precision."""
    fuse(model)
    geometry = Geometry.of(model)
    digests: dict[str, dict[str, str]] = {}
    sizes: dict[str, dict[str, int]] = {}
    for name, signature in signatures(geometry).items():
        single = export_graph(model, name, signature)
        digests[name], sizes[name] = {}, {}
        for kind in PRECISIONS:
            graph = single if kind == "fp32" else precision.to_half(single, kind)
            precision.check(graph)
            path = out / kind / f"{name}.onnx"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(graph.SerializeToString(deterministic=True))
            digests[name][kind], sizes[name][kind] = sha256(path), path.stat().st_size
    provenance = dict(checkpoint_sha256=checkpoint_sha256, command=command, libraries=library_versions(), notes=notes)
    (out / "pack.toml").write_text(manifest(identity, arch, geometry, provenance, digests))
    (out / "LICENSE").write_text(LICENCE)
    return sizes


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="jetbench_models export", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="safetensors file written by train")
    parser.add_argument("--out", type=Path, required=True, help="pack directory to write")
    parser.add_argument("--id", help="name of the pack (default: name of the directory)")
    parser.add_argument("--notes", default="", help="free text for the manifest's provenance")
    args = parser.parse_args(argv)
    logging.disable(logging.WARNING)      # torch.onnx reports every step
    torch.set_num_threads(1)
    model, arch, _ = weights.load(args.weights)
    identity = args.id or args.out.resolve().name
    sizes = write_pack(model, arch, args.out, identity=identity, checkpoint_sha256=sha256(args.weights),
                       command=f"python -m jetbench_models export --weights {args.weights.name} --out {identity}",
                       notes=args.notes)
    for name, row in sizes.items():
        print(f"{name:18s}" + "".join(f"{kind:>8s}{row[kind] / 1e6:7.2f} MB" for kind in PRECISIONS))
    print(f"{args.out}: {sum(sum(row.values()) for row in sizes.values()) / 1e6:.2f} MB of graphs")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
