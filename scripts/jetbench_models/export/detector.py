"""Writes the pack of a detector: its graph in every precision, manifest, licence, and the golden reference."""
from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from ..clips.synth import TextureBank, make_clip
from ..command import Refused
from ..models import detector
from ..models.released import Checkpoint
from ..pack import DTYPES, detections, half, reference
from ..pack.detections import Answer
from ..pack.ports import Port, as_toml
from . import channels, manifest
from .convert import trace, write_single
from .graphs.detector import Detector, traceable
from .graphs.signatures import Signature

NAME = "detector"         # of its only graph
LIBRARIES = ("torch", "transformers", "onnx", "onnxscript", "numpy")
CLIP_SEED, SHARED = 550_000, ("g0", "g1", "g2")     # of the frames of a reference; the miniatures' own
RULES = (
    "fp16 and bf16 graphs have the numerics of torch.autocast: operands and results of MatMul, Gemm and Conv are half precision. All",
    "else stays fp32: the choice of queries (TopK, Gather), places and values of GridSample, Softmax and the expectation of",
    "the edges' distributions, LayerNormalization, inputs and outputs.",
)


def size_of(model: nn.Module) -> int:
    """Input side in pixels."""
    return model.config.anchor_image_size[0]


def signature(model: nn.Module) -> Signature:
    size, queries = model.config.anchor_image_size[0], model.config.num_queries
    return Signature(Detector, (Port("image", "f32", (1, 3, size, size)),),
                     (Port("logits", "f32", (1, queries, model.config.num_labels)), Port("pred_boxes", "f32", (1, queries, 4))))


def pools_of_padding(graph: onnx.GraphProto) -> list[str]:
    """MaxPool nodes that alone read a Pad: ONNX Runtime's Pad_Fusion computes them as if the zeros were minus infinity."""
    read_by: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            read_by.setdefault(name, []).append(node)
    return [readers[0].name for node in graph.node if node.op_type == "Pad"
            for readers in [read_by.get(node.output[0], [])] if len(readers) == 1 and readers[0].op_type == "MaxPool"]


def gather_rows(model: onnx.ModelProto) -> int:
    """Rows that GatherElements picks by an index which is the same for all their values are picked by Gather, which ONNX Runtime's
    WebGPU provider has. Batch 1. Returns how many there were."""
    graph, changed = model.graph, 0
    made_by = {name: node for node in graph.node for name in node.output}
    for node in list(graph.node):
        if node.op_type != "GatherElements" or [a.i for a in node.attribute if a.name == "axis"] != [1]:
            continue
        kinds, name = ["Tile", "Expand", "Unsqueeze"], node.input[1]
        while kinds and name in made_by and made_by[name].op_type == kinds[0]:
            name = made_by[name].input[0]
            del kinds[0]
        if kinds:
            continue
        at, picked = list(graph.node).index(node), f"{node.output[0]}_picked"
        if not changed:
            graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "batch_axis"))
        graph.node.insert(at, helper.make_node("Gather", [node.input[0], name], [picked], f"{picked}_gather", axis=1))
        graph.node.insert(at + 1, helper.make_node("Squeeze", [picked, "batch_axis"], [node.output[0]], node.name))
        graph.node.remove(node)
        changed += 1
    if changed:
        _drop_unread(graph)
    return changed


def fold_waves(model: onnx.ModelProto) -> int:
    """Computes what follows from weights alone where there is a Sin or Cos among it: the places of the released models, which are too
    large for the tracer to compute. ONNX Runtime's WebGPU provider leaves such a node without a provider and refuses the graph. Returns how
    many nodes went."""
    graph = model.graph
    if not any(node.op_type in ("Sin", "Cos") for node in graph.node):
        return 0
    known, before = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}, len(graph.node)
    opset = helper.make_opsetid("", next(o.version for o in model.opset_import if not o.domain))
    for node in list(graph.node):
        if node.input and all(name in known for name in node.input if name):
            given = {name: known[name] for name in node.input if name}
            ports = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for name, v in given.items()]
            alone = helper.make_graph([node], "alone", ports, [helper.make_empty_tensor_value_info(name) for name in node.output])
            values = ReferenceEvaluator(helper.make_model(alone, opset_imports=[opset])).run(None, given)
            for name, value in zip(node.output, values):
                known[name] = np.asarray(value)
                graph.initializer.append(numpy_helper.from_array(known[name], name))
            graph.node.remove(node)
    _drop_unread(graph)
    return before - len(graph.node)


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Removes nodes and weights that nothing reads."""
    while True:
        read = {name for node in graph.node for name in node.input} | {port.name for port in graph.output}
        unread = [node for node in graph.node if not any(name in read for name in node.output)]
        for node in unread:
            graph.node.remove(node)
        if not unread:
            break
    for weight in [w for w in graph.initializer if w.name not in read]:
        graph.initializer.remove(weight)


def export_graph(model: nn.Module) -> onnx.ModelProto:
    """The fp32 graph, stripped and checked."""
    wanted = signature(model)
    with traceable():
        graph = trace(Detector(model), NAME, wanted, (torch.zeros(wanted.inputs[0].shape),))
    if found := [n.name for n in graph.graph.node if n.op_type in ("Shape", "Size") or n.domain] + pools_of_padding(graph.graph):
        raise RuntimeError(f"{NAME}: {found} must not be in the graph")
    channels.pad(graph)
    gather_rows(graph)
    fold_waves(graph)
    half.set_versions(graph, "fp32")
    half.check(graph)
    return graph


def write_graphs(model: nn.Module, out: Path, kinds: tuple[str, ...], say: Callable[[str], None]) -> dict[str, str]:
    """Writes the graph in every precision and returns the digests."""
    return write_single(export_graph(model), NAME, out, kinds, say)


# ------------------------------------------------------------------------------------------------------------ reference
@torch.no_grad()
def answer(model: nn.Module, pixels: np.ndarray) -> Answer:
    """What PyTorch says in fp32 about a frame uint8 [h,w,3]."""
    found = model(torch.from_numpy(detections.network_input(pixels, model.config.anchor_image_size[0])))
    return Answer(found.logits[0].numpy().copy(), found.pred_boxes[0].numpy().copy())


def drawn_frames(count: int, seed: int) -> list[np.ndarray]:
    """Frames of drawn clips, 320 x 240, uint8 [h,w,3]; each of another clip."""
    bank = TextureBank(seed)
    return [make_clip(np.random.default_rng([seed, i]), 1, 240, 320, "hard", bank=bank)[0][0] for i in range(count)]


def tolerance_of(model: nn.Module, frames: list[tuple[str, np.ndarray, Answer]]) -> tuple[float, float]:
    """(tolerance, how far PyTorch is from itself with other convolution kernels)."""
    with torch.backends.mkldnn.flags(enabled=False):
        spread = max(detections.compare(known, answer(model, pixels)).largest for _, pixels, known in frames)
    return max(detections.TOLERANCE, float(f"{8 * spread:.1e}")), spread


def write_reference(model: nn.Module, pack: Path, images: list[tuple[str, np.ndarray]], about: dict) -> float:
    """Writes the reference of ``images`` (file relative to the reference's folder, pixels) and returns its tolerance."""
    frames = [(name, pixels, answer(model, pixels)) for name, pixels in images]
    tolerance, spread = tolerance_of(model, frames)
    if not math.isfinite(spread):
        raise Refused("PyTorch gives values that are no numbers on these weights")
    about = {**about, "tolerance": tolerance, "spread": float(f"{spread:.1e}")}
    detections.write(pack / "reference", model.config.anchor_image_size[0], frames, about)
    return tolerance


def shared_frames(pack: Path, folder: Path) -> list[tuple[str, np.ndarray]]:
    """Every sixth of the miniatures' shared golden frames, named relative to the reference of ``pack``."""
    return reference.shared_frames(pack, (folder / clip / f"{t:05d}.png" for clip in SHARED for t in (0, 6, 12, 18)))


def own_frames(pack: Path, count: int, seed: int) -> list[tuple[str, np.ndarray]]:
    """Frames drawn for this pack, stored in it."""
    return reference.own_frames(pack, drawn_frames(count, seed))


# ------------------------------------------------------------------------------------------------------------- manifest
def _describe(checkpoint: Checkpoint) -> str:
    size = checkpoint.model.config.anchor_image_size[0]
    if checkpoint.source == "trained here":
        return (f"D-FINE detector in miniature ({size} px, one class, {checkpoint.model.config.num_queries} queries), trained from random "
                "weights on synthetic frames: a smoke-test model")
    what = f"{checkpoint.name.replace('dfine', 'D-FINE').replace('_', ' ')} detector at {size} px"
    if checkpoint.source == "random":
        return f"{what} with RANDOM weights: right in size, speed and arithmetic, it finds nothing"
    return f"{what}, from {'a Hugging Face directory' if checkpoint.source == 'hugging face' else 'the official checkpoint'}"


def _manifest(identity: str, checkpoint: Checkpoint, provenance: dict, digests: dict[str, str], golden: float | None) -> str:
    model, ports = checkpoint.model, signature(checkpoint.model)
    kinds = [kind for kind in DTYPES if kind in digests]
    stands_in = ['test_model_of = "D-FINE"'] if checkpoint.source in ("trained here", "random") else []
    lines = [
        "schema = 1", f'id = "{identity}"', f'family = "{detector.FAMILY}"', f"description = {json.dumps(_describe(checkpoint))}",
        'licence = "Apache-2.0"', *stands_in, "", *manifest.provenance_lines(provenance, "transformers"),
        "", *manifest.input_lines(ports.inputs[0].shape[-1], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]),
        "", "[detector]", 'layout = "raw"', f"queries = {model.config.num_queries}", f"classes = {json.dumps(detector.classes_of(model))}",
        "", *(f"# {line}" for line in RULES),
        "", "[[graph]]", f'name = "{NAME}"', f"files = {manifest.inline({k: f'{k}/{NAME}.onnx' for k in kinds})}",
        f"sha256 = {manifest.inline({k: digests[k] for k in kinds})}",
        f"inputs = {as_toml(ports.inputs)}", f"outputs = {as_toml(ports.outputs)}"]
    if golden is not None:
        lines += manifest.golden_lines(detections.INDEX, golden)
    return "\n".join(lines) + "\n"


def write(checkpoint: Checkpoint, out: Path, identity: str, kinds: tuple[str, ...], frames: int, seed: int, command: str, notes: str,
          say: Callable[[str], None]) -> None:
    """The whole pack. ``frames``: of the reference, 0 for none; the miniature's is written by ``golden``."""
    digests = write_graphs(checkpoint.model, out, kinds, say)
    golden = None
    if checkpoint.source == "trained here":
        golden = detections.TOLERANCE
    elif frames:
        about = dict(command=command, libraries=manifest.library_versions(LIBRARIES))
        golden = write_reference(checkpoint.model, out, own_frames(out, frames, seed), about)
        say(f"reference: {frames} frames, tolerance {golden:.1e}")
    provenance = dict(checkpoint_sha256=checkpoint.sha256, command=command, libraries=manifest.library_versions(LIBRARIES), notes=notes)
    (out / "pack.toml").write_text(_manifest(identity, checkpoint, provenance, digests, golden))
    (out / "LICENSE").write_text(manifest.licence(checkpoint))
