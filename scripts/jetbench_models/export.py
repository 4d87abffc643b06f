"""Writes a pack: the five graphs of a model in fp32, fp16 and bf16, with the manifest that describes them, and for models
of released size the golden reference.

Weights come from a Hugging Face directory (Sam2VideoModel, EdgeTamVideoModel), an official .pt file, a file that
``train`` wrote, or from random numbers; ``released`` reads them. Graphs have fixed shapes but for the number of objects,
opset 20 (bf16: 22), real-arithmetic rotary embedding and no custom operators; ``check`` proves it. What the exporter
leaves in them about the machine they were made on (stack traces, source paths) is removed, and nothing in them depends
on the time or the directory, so that the same weights and library versions give the same bytes.

Examples:
    python -m jetbench_models export --checkpoint sam2.1_hiera_tiny.pt --out packs/sam2.1_tiny
    python -m jetbench_models export --checkpoint facebook/sam2.1-hiera-tiny/ --out packs/sam2.1_tiny
    python -m jetbench_models export --model edgetam --random-init --seed 0 --out packs/edgetam_random
"""
from __future__ import annotations

import argparse
import hashlib
import json
import logging
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Callable

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from onnxscript import optimizer
from torch import nn

from . import fused, half, released
from . import golden as reference
from .golden import library_versions
from .graphs import COND_OBJECTS, MEMORIES, OBJECTS, POINTERS, Geometry, POINT_SLOTS, Port, Signature, example_inputs, is_edgetam, signatures
from .reference import tolerance

VERSION = "0.1.0"
PRECISIONS = ("fp32", "fp16", "bf16")
CPU = "cpu"               # the form for ONNX Runtime's CPU provider, fp32: see fused
FOLD_LIMIT = 1024         # elements
LIBRARIES = ("torch", "torchvision", "transformers", "timm", "onnx", "onnxscript", "numpy")
MINI_LICENCE = """\
The graphs, weights and reference outputs in this directory are part of this project and are licensed under the Apache
License, Version 2.0 (https://www.apache.org/licenses/LICENSE-2.0).

The weights were trained by this project from random numbers, on synthetic clips that its own script draws. No
downloaded weights and no third-party images were used. They are smoke-test models: they exercise the SAM 2 and EdgeTAM
video architectures and say nothing about the quality of the released models of those names.
"""

RANDOM_LICENCE = """\
The graphs and reference outputs in this directory hold random numbers in the architecture of a released model. They are
licensed under the Apache License, Version 2.0 (https://www.apache.org/licenses/LICENSE-2.0). No released weights were
used. They show that graphs and runner compute what the PyTorch model computes, and say nothing about its quality.
"""
RELEASED_LICENCE = """\
The graphs in this directory hold the weights of the checkpoint named in pack.toml, converted and otherwise unchanged. They
stay under the licence of that checkpoint. The SAM 2, SAM 2.1 and EdgeTAM checkpoints are published by Meta under the
Apache License, Version 2.0 (https://www.apache.org/licenses/LICENSE-2.0); weights that were trained further may have other terms.
"""
FOLLOWS = ("transformers", "official")     # the implementation whose masks a pack gives where the two differ
TITLES = {"sam2": "SAM 2.0 video", "sam2.1": "SAM 2.1 video", "edgetam": "EdgeTAM video"}


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
        digest = hashlib.sha256(np.ascontiguousarray(value)).digest()
        same[tensor.name] = first.setdefault((tensor.data_type, value.shape, digest), tensor.name)
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
            if isinstance(size, str) and (dim.dim_param or size == COND_OBJECTS and dim.dim_value == 1):
                dim.Clear()
                dim.dim_param = size


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
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(module, tuple(examples.values()), dynamo=True, optimize=False, verbose=False,
                                    opset_version=half.OPSET["fp32"], input_names=[p.name for p in sources.inputs],
                                    output_names=[p.name for p in sources.outputs], dynamic_shapes=free)
    # constants larger than this stay an expression: position tables are put together when the graph is loaded
    optimizer.optimize(program.model, output_size_limit=FOLD_LIMIT)
    graph = _strip(program.model_proto, name)
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


# ----------------------------------------------------------------------------------------------------------- manifest
def _toml_ports(ports: tuple[Port, ...]) -> str:
    lines = [f'    {{ name = "{p.name}", dtype = "{p.dtype}", shape = {json.dumps(p.shape)} }},' for p in ports]
    return "[\n" + "\n".join(lines) + "\n]"


def _inline(table: dict[str, str]) -> str:
    return "{ " + ", ".join(f"{k} = {json.dumps(v)}" for k, v in table.items()) + " }"


def describe(checkpoint: released.Checkpoint, g: Geometry) -> str:
    """One line about the model, for the manifest."""
    if checkpoint.source == "trained here":
        title = {"sam2": "SAM 2.1 video", "edgetam": "EdgeTAM video"}[checkpoint.family]
        return (f"{title} architecture in miniature ({g.size} px, {g.channels} channels), trained from random weights on "
                "synthetic clips: a smoke-test model")
    version, _, size = checkpoint.name.partition("_")
    what = " ".join(filter(None, (TITLES.get(version, checkpoint.name), size.replace("_", " "))))
    if checkpoint.source == "random":
        return f"{what} at {g.size} px with RANDOM weights: right in size, speed and arithmetic, it segments nothing"
    return f"{what} at {g.size} px, from {'a Hugging Face directory' if checkpoint.source == 'hugging face' else 'the official checkpoint'}"


def manifest(identity: str, family: str, description: str, g: Geometry, provenance: dict,
             digests: dict[str, dict[str, str]], golden: bool, grows: bool = False, follows: str = FOLLOWS[0]) -> str:
    """Text of pack.toml. ``digests``: graph name -> precision or "cpu" -> sha256; ``follows``: one of FOLLOWS."""
    kinds = [kind for kind in PRECISIONS if kind in next(iter(digests.values()))]
    lines = [
        "schema = 1", f'id = "{identity}"', f'family = "{family}"', f"description = {json.dumps(description)}",
        'licence = "Apache-2.0"', "", "[provenance]",
        f'checkpoint_sha256 = "{provenance["checkpoint_sha256"]}"', f'exporter = "jetbench_models {VERSION}"',
        f'command = {json.dumps(provenance["command"])}', f'libraries = {_inline(provenance["libraries"])}',
        f'follows = "{follows}"', f'notes = {json.dumps(provenance["notes"])}',
        "", "[input]", f"size = {g.size}", 'resize = "bilinear_antialias_u8"', 'colour = "rgb"',
        "mean = [0.485, 0.456, 0.406]", "std = [0.229, 0.224, 0.225]",
        "", "[memory]", f"frames = {g.slots}", f"tokens_per_frame = {g.memory_tokens}", f"channels = {g.memory_channels}",
        f"pointers = {g.pointers}", f'storage = "{"bf16_rounded" if family == "sam2" or follows == "official" else "fp32"}"',
        "", "[prompts]", 'kinds = ["points", "bbox", "mask"]', f"point_slots = {POINT_SLOTS}",
        "", *(f"# {line}" for line in half.RULES),
    ]
    for name, signature in signatures(g, grows).items():
        lines += ["", "[[graph]]", f'name = "{name}"',
                  f"files = {_inline({p: f'{p}/{name}.onnx' for p in kinds})}",
                  f"sha256 = {_inline({p: digests[name][p] for p in kinds})}"]
        if CPU in digests[name]:
            lines.append(f"cpu = {_inline({'file': f'fp32/{name}.{CPU}.onnx', 'sha256': digests[name][CPU]})}")
        lines += [f"inputs = {_toml_ports(signature.inputs)}", f"outputs = {_toml_ports(signature.outputs)}"]
    for state in ("bank", "ptrs", "age"):
        lines += ["", "[[state]]", f'input = "{state}"', f'output = "{state}_out"']
    if golden:
        lines += ["", "[golden]", 'index = "reference/golden.json"', f"tolerance = {tolerance(family)['low_res']}"]
    return "\n".join(lines) + "\n"


def write_graphs(model: nn.Module, out: Path, kinds: tuple[str, ...], say: Callable[[str], None],
                 grows: bool = False, official: bool = False) -> dict[str, dict[str, str]]:
    """Writes the graphs; returns their digests, graph -> precision or "cpu" -> sha256. RepViT in ``model`` is fused on
    the way. ``grows`` and ``official`` as for ``signatures``."""
    fuse(model)
    cpu = {} if grows else fused.forms(model)
    digests: dict[str, dict[str, str]] = {}
    for name, signature in signatures(Geometry.of(model), grows, official).items():
        single = export_graph(model, name, signature)
        digests[name], row = {}, []
        for kind in kinds:
            graph = single if kind == "fp32" else half.to_half(single, kind)
            if kind != "fp32":
                half.check(graph)
            path = out / kind / f"{name}.onnx"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(graph.SerializeToString(deterministic=True))
            digests[name][kind] = released.sha256(path)
            row.append(f"{kind} {path.stat().st_size / 1e6:8.2f} MB {digests[name][kind][:12]}")
            del graph
        if name in cpu and "fp32" in kinds:
            graph = export_graph(model, name, signature, cpu[name])
            path = out / f"fp32/{name}.{CPU}.onnx"
            path.write_bytes(graph.SerializeToString(deterministic=True))
            digests[name][CPU] = released.sha256(path)
            row.append(f"{CPU} {path.stat().st_size / 1e6:8.2f} MB {digests[name][CPU][:12]}")
            del graph
        say(f"{name:17s} {len(single.graph.node):4d} operators  " + "  ".join(row))
    return digests


def _command(argv: list[str], identity: str) -> str:
    """The command line with names in place of paths, so that a pack says nothing about the machine it was made on."""
    words = []
    for previous, word in zip(["", *argv], argv):
        named = {"--out": identity, "--checkpoint": Path(word).name, "--weights": Path(word).name}
        words.append(named.get(previous, word))
    return " ".join(["python -m jetbench_models export", *words])


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="jetbench_models export", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", "--weights", type=Path, metavar="PATH",
                        help="Hugging Face directory, official .pt file, or safetensors file written by train")
    parser.add_argument("--random-init", action="store_true", help="random weights in the architecture of --model")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights (default: 0)")
    parser.add_argument("--model", choices=released.NAMES, metavar="NAME",
                        help=f"architecture that the weights must have: {', '.join(released.NAMES)} (default: what they are)")
    parser.add_argument("--image-size", type=int, metavar="PIXELS",
                        help="input size (default: the checkpoint's, 1024); SAM 2 takes multiples of 32, EdgeTAM of 256")
    parser.add_argument("--out", type=Path, required=True, help="pack directory to write")
    parser.add_argument("--id", help="name of the pack (default: name of the directory)")
    parser.add_argument("--notes", default="", help="free text for the manifest's provenance")
    parser.add_argument("--precision", default=",".join(PRECISIONS), help="comma-separated (default: fp32,fp16,bf16)")
    parser.add_argument("--frames", type=int, default=12,
                        help="length of the golden clip, at least 8 (default: 12); 0 leaves the golden reference out")
    parser.add_argument("--prompts", default="points,bbox,mask", help="prompt kinds of the golden reference")
    parser.add_argument("--variant", choices=("fixed", "dynamic"), default="fixed",
                        help="dynamic: memory grows as in the original, for comparison (see variants); the runner wants fixed")
    parser.add_argument("--follow", choices=FOLLOWS,
                        help="whose masks the pack gives where transformers' session and the official predictors differ (default: "
                             "official for an official .pt file, else transformers; docs/exporting.md lists the differences)")
    parser.add_argument("--score-shift", type=float, metavar="X",
                        help="with --random-init: added to the bias of the object score (default: searched for, so that the "
                             "object counts as absent on some frames of the golden clip)")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    if args.random_init == bool(args.checkpoint):
        parser.error("give either --checkpoint PATH or --random-init")
    if args.random_init and not args.model:
        parser.error("--random-init needs --model NAME")
    if 0 < args.frames < 8:
        parser.error("--frames: at least 8, so that the object can leave and return and all memory slots fill; or 0")
    kinds = tuple(dict.fromkeys(args.half.split(",")))
    if not set(kinds) <= set(PRECISIONS):
        parser.error(f"--precision: {args.precision!r} is not a list of {', '.join(PRECISIONS)}")
    logging.disable(logging.WARNING)      # torch.onnx reports every step
    torch.set_num_threads(args.threads)
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:6.1f} s] {text}", flush=True)

    try:
        if args.random_init:
            checkpoint = released.random(args.model, args.seed, args.image_size or released.IMAGE_SIZE)
        else:
            checkpoint = released.load(args.checkpoint, args.model, args.image_size)
    except released.DoesNotFit as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    model, identity = checkpoint.model, args.id or args.out.resolve().name
    geometry = Geometry.of(model)
    follows = args.follow or ("official" if checkpoint.source == "official" else "transformers")
    official = follows == "official"
    say(f"{checkpoint.name}: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {geometry.size} px, "
        f"weights {checkpoint.source} {checkpoint.sha256[:12]}, follows {follows}")
    notes, digest = [args.notes], checkpoint.sha256
    golden = args.frames > 0 and checkpoint.source != "trained here"     # the miniature packs share their clips: see golden
    clips = [reference.leaving_clip(geometry.size, args.frames)] if golden else []
    features: dict[str, dict] = {clip.name: {} for clip in clips}        # each frame goes through the image encoder once
    if checkpoint.source == "random" and (golden or args.score_shift is not None):
        shift = args.score_shift
        if shift is None:
            shift = reference.balance_presence(model, clips[0], features[clips[0].name])
        else:
            reference.shift_score(model, shift)
        digest = released.state_digest(model)
        notes.append(f"Random weights of seed {args.seed}; the bias of the object score was moved by {shift:.4f} so that "
                     "the object counts as absent on some frames of the golden clip.")
        say(f"object score moved by {shift:+.4f}")
    if golden:
        command = _command(argv, identity)
        for line in reference.write_golden(model, args.out / "reference", args.out / "reference" / "frames", clips, command,
                                           library_versions(reference.LIBRARIES), tuple(args.prompts.split(",")), official,
                                           features):
            say(line)
    features.clear()
    grows = args.variant == "dynamic"
    digests = write_graphs(model, args.out, kinds, say, grows, official)
    provenance = dict(checkpoint_sha256=digest, command=_command(argv, identity), libraries=library_versions(LIBRARIES),
                      notes=" ".join(filter(None, notes)))
    (args.out / "pack.toml").write_text(manifest(identity, checkpoint.family, describe(checkpoint, geometry), geometry,
                                                 provenance, digests, golden or checkpoint.source == "trained here", grows,
                                                 follows))
    licence = {"random": RANDOM_LICENCE, "trained here": MINI_LICENCE}.get(checkpoint.source, RELEASED_LICENCE)
    (args.out / "LICENSE").write_text(licence + (f"\n{checkpoint.licence}" if checkpoint.licence else ""))
    total = sum(f.stat().st_size for f in args.out.rglob("*") if f.is_file())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    say(f"{args.out}: {total / 1e6:.1f} MB in all; peak memory of this process {peak:.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
