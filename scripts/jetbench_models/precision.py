"""Half-precision versions of the fp32 graphs, with the numerics of torch.autocast, and their emulation on a CPU.

Native graphs are strongly typed: operands and results of MatMul, Gemm, Conv and ConvTranspose are float16 or bfloat16 (weights
and biases are stored so), a Cast stands before each activation operand and after each result, everything else stays
fp32. Inputs and outputs stay fp32, so that the tracking loop is the same in every precision.

A CPU has no kernels for such graphs (ONNX Runtime refuses bfloat16 and computes float16 without rounding the operands).
``emulate`` rewrites a native graph so that it runs there with the same operands: every half-typed operand is cast up, the
operator accumulates in fp32, its result is rounded by a Cast. The Rust runner applies the same rule when it loads a pack.

``main`` prints, for every output of every graph on inputs taken from a golden clip, the relative rms error against fp32 of
the emulated graph and of torch.autocast on the same weights, and how far the two are apart; then what the half
precisions do to the masks of whole clips.

Example:
    python -m jetbench_models.precision --weights out/sam2.safetensors --pack assets/packs/sam2_mini
"""
from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from torch import nn

    from .loop import Pack

HALF_OPERATORS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose"})
HALF_TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
OPSET = {"fp32": 20, "fp16": 20, "bf16": 22}            # Conv takes bfloat16 from opset 22 on
IR_VERSION = {"fp32": 9, "fp16": 9, "bf16": 10}
FP16_MAX = 65504.0
# What the half precisions change and what they leave, for readers of a pack; to_half does it.
RULES = (
    "fp16 and bf16 graphs have the numerics of torch.autocast. Operands and results of MatMul, Gemm, Conv and ConvTranspose are",
    "half precision: they hold nearly all of the arithmetic, and a device sums their products in fp32. All else stays fp32:",
    "- Softmax: its exponentials span more than half precision resolves, and the -1e4 of keys that do not exist must give",
    "  exactly zero; LayerNormalization: sums of squares over a row, which overflow fp16;",
    "- Sin, Cos and the coordinates of prompts: bf16 would move a click by pixels; positions and rotary embedding likewise;",
    "- residual sums, Gelu, Sigmoid: cheap, and errors there accumulate from layer to layer;",
    "- choices (best mask, stability, presence) and the memory state: a flip is a jump in the output, and state is kept for frames;",
    "- whatever depends on no input, such as position tables: it is computed once, when the graph is loaded;",
    "- inputs and outputs of every graph, so that the tracking loop is the same in every precision.",
)


def bf16_bits(x: np.ndarray) -> np.ndarray:
    """float32 -> bfloat16 bit patterns (uint16), round to nearest, ties to even. Finite input only."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def half_tensor(name: str, value: np.ndarray, precision: str) -> TensorProto:
    """Initializer of the given precision from float32 values."""
    if not np.isfinite(value).all():
        raise ValueError(f"{name}: weights are not finite")
    if precision == "fp16":
        if np.abs(value).max(initial=0.0) > FP16_MAX:
            raise ValueError(f"{name}: a weight is larger than float16 can hold ({FP16_MAX})")
        return numpy_helper.from_array(value.astype(np.float16), name)
    return helper.make_tensor(name, TensorProto.BFLOAT16, value.shape, bf16_bits(value).tobytes(), raw=True)


def to_half(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """Native fp16 or bf16 graph from an fp32 graph whose constants are initializers."""
    half = HALF_TYPES[precision]
    out = onnx.ModelProto()
    out.CopyFrom(model)
    graph = out.graph
    weights = {t.name: t for t in graph.initializer}
    ready: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    stored: list[TensorProto] = []
    varying = {port.name for port in graph.input}      # values that depend on an input
    for node in graph.node:
        constant = varying.isdisjoint(node.input)
        if not constant:
            varying.update(node.output)
        if node.op_type not in HALF_OPERATORS or constant:
            nodes.append(node)
            continue
        for i, name in enumerate(node.input):
            if not name:
                continue
            if name not in ready:
                ready[name] = f"{name}_{precision}"
                if name in weights:
                    stored.append(half_tensor(ready[name], numpy_helper.to_array(weights[name]), precision))
                else:
                    nodes.append(helper.make_node("Cast", [name], [ready[name]], name=f"{name}_to_{precision}", to=half))
            node.input[i] = ready[name]
        result = node.output[0]
        node.output[0] = f"{result}_{precision}_result"
        nodes.append(node)
        nodes.append(helper.make_node("Cast", [node.output[0]], [result], name=f"{result}_to_fp32", to=TensorProto.FLOAT))
    graph.ClearField("node")
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input} | {o.name for o in graph.output}
    kept = [t for t in [*graph.initializer, *stored] if t.name in used]
    graph.ClearField("initializer")
    graph.initializer.extend(kept)
    set_versions(out, precision)
    return out


def set_versions(model: onnx.ModelProto, precision: str) -> None:
    """Opset and IR version of a precision. The operators used mean the same from opset 20 to 22; only types were added."""
    model.ClearField("opset_import")
    model.opset_import.append(helper.make_opsetid("", OPSET[precision]))
    model.ir_version = IR_VERSION[precision]


def emulate(model: onnx.ModelProto) -> onnx.ModelProto:
    """The CPU form of a native half graph: half operands cast to fp32, fp32 operator, result cast back to half."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    graph = out.graph
    nodes: list[onnx.NodeProto] = []
    raised: dict[str, str] = {}
    half = half_of(model)
    for node in graph.node:
        if node.op_type not in HALF_OPERATORS or half is None:
            nodes.append(node)
            continue
        for i, name in enumerate(node.input):
            if not name:
                continue
            if name not in raised:
                raised[name] = f"{name}_raised"
                nodes.append(helper.make_node("Cast", [name], [raised[name]], name=raised[name], to=TensorProto.FLOAT))
            node.input[i] = raised[name]
        result = node.output[0]
        node.output[0] = f"{result}_accumulated"
        nodes.append(node)
        nodes.append(helper.make_node("Cast", [node.output[0]], [result], name=f"{result}_rounded", to=half))
    graph.ClearField("node")
    graph.node.extend(nodes)
    return out


def half_of(model: onnx.ModelProto) -> int | None:
    """Element type of a native half graph: that of its first half-typed Cast; None for an fp32 graph."""
    for node in model.graph.node:
        if node.op_type == "Cast":
            to = next(a.i for a in node.attribute if a.name == "to")
            if to in HALF_TYPES.values() and any(
                    n.op_type in HALF_OPERATORS and node.output[0] in n.input for n in model.graph.node):
                return to
    return None


def check(model: onnx.ModelProto) -> None:
    """onnx's own checks with strict type and shape inference; raises on the first fault."""
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)


# -------------------------------------------------------------------------------------------------------- measurement
CAPTURED_FRAMES = (0, 4, 8)      # the prompted one, one with a short memory, one with all slots filled; object visible


def accepted(root: Path, about: dict, precision: str) -> dict[str, str]:
    """What ONNX Runtime's CPU provider says to each native graph: "loads", or its refusal.

    A type error in a graph is reported before kernels are looked for, so a refusal for want of a kernel
    (NOT_IMPLEMENTED) means that the types are right.
    """
    import onnxruntime as ort
    answers, options = {}, ort.SessionOptions()
    options.log_severity_level = 4
    for graph in about["graph"]:
        try:
            ort.InferenceSession((root / graph["files"][precision]).read_bytes(), options,
                                 providers=["CPUExecutionProvider"])
            answers[graph["name"]] = "loads"
        except Exception as error:      # onnxruntime's exception classes are not public
            answers[graph["name"]] = "no CPU kernel" if "NOT_IMPLEMENTED" in str(error) else f"REFUSED: {error}"
    return answers


def real_inputs(pack: "Pack", clip: tuple) -> dict[str, list[dict[str, np.ndarray]]]:
    """Inputs that the fp32 graphs get on some frames of a golden clip, from all prompt kinds of its first object."""
    from .loop import Track
    frames, tracks = clip
    seen: dict[str, list[dict[str, np.ndarray]]] = defaultdict(list)
    run = pack.run
    keep = False

    def record(graph: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        if keep:
            seen[graph].append(inputs)
        return run(graph, **inputs)

    pack.run = record
    height, width = frames.shape[1:3]
    started = [(Track(pack), t.prompt) for t in tracks if t.object == 1]
    for t, frame in enumerate(frames[:max(CAPTURED_FRAMES) + 1]):
        keep = t in CAPTURED_FRAMES
        features = pack.run("image_encoder", image=pack.pixels(frame))
        for track, prompt in started:
            track.begin(features, prompt, width, height) if t == 0 else track.track(features)
    pack.run = run
    return seen


def _relative_rms(found: list[np.ndarray], reference: list[np.ndarray]) -> float:
    difference = sum(float(((a.astype(np.float64) - b) ** 2).sum()) for a, b in zip(found, reference))
    return float(np.sqrt(difference / sum(float((b.astype(np.float64) ** 2).sum()) for b in reference)))


def autocast_outputs(model: "nn.Module", seen: dict, precision: str, official: bool) -> dict[str, list[list[np.ndarray]]]:
    """Outputs of the torch modules under torch.autocast: graph -> call -> output."""
    import torch

    from .graphs import Geometry, signatures
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    results: dict[str, list[list[np.ndarray]]] = {}
    with torch.inference_mode(), torch.autocast("cpu", dtype=half):
        for name, signature in signatures(Geometry.of(model), official=official).items():
            module = signature.module(model).eval()
            results[name] = []
            for inputs in seen[name]:
                out = module(*[torch.from_numpy(inputs[p.name]) for p in signature.inputs])
                results[name].append([x.float().numpy() for x in (out if isinstance(out, tuple) else (out,))])
    return results


def error_table(model: "nn.Module", root: Path, clip: tuple) -> list[str]:
    from .graphs import Geometry, signatures
    from .loop import Pack
    single = Pack(root)
    seen = real_inputs(single, clip)
    lines = ["| graph | output | precision | emulated against fp32 | torch.autocast against fp32 | emulated against autocast |",
             "|---|---|---|---|---|---|"]
    for precision in HALF_TYPES:
        emulated, cast = Pack(root, precision), autocast_outputs(model, seen, precision, single.official)
        for name, signature in signatures(Geometry.of(model)).items():
            if not seen[name]:
                continue     # no track with a mask prompt
            plain = [single.run(name, **inputs) for inputs in seen[name]]
            ours = [emulated.run(name, **inputs) for inputs in seen[name]]
            for i, port in enumerate(signature.outputs):
                a, b = [o[port.name] for o in ours], [o[port.name] for o in plain]
                c = [o[i] for o in cast[name]]
                lines.append(f"| {name} | {port.name} | {precision} | {_relative_rms(a, b):.1e} | {_relative_rms(c, b):.1e} | "
                             f"{_relative_rms(a, c):.1e} |")
    return lines


def loop_table(root: Path, clips: list) -> list[str]:
    """Masks of whole clips: mean IoU with the fp32 masks, over all tracks and frames with any mask in either."""
    from .loop import Pack, run_clip, upsample
    lines = ["| precision | mean IoU with fp32 masks | worst track | presence differs on |", "|---|---|---|---|"]
    single = Pack(root)
    packs = {precision: Pack(root, precision) for precision in HALF_TYPES}
    ious: dict[str, list[list[float]]] = {p: [] for p in packs}
    flips = dict.fromkeys(packs, 0)
    total = 0
    for frames, tracks in clips:
        height, width = frames.shape[1:3]
        prompts = [t.prompt for t in tracks]
        base = run_clip(single, frames, prompts)
        total += sum(len(row) for row in base)
        for precision, pack in packs.items():
            for row, other in zip(base, run_clip(pack, frames, prompts)):
                ious[precision].append([])
                for a, b in zip(row, other):
                    flips[precision] += (a.object_score > 0) != (b.object_score > 0)
                    m, n = (upsample(x.low_res, height, width) > 0 for x in (a, b))
                    if m.any() or n.any():
                        ious[precision][-1].append(float((m & n).sum() / (m | n).sum()))
    for precision, rows in ious.items():
        every = [v for row in rows for v in row]
        lines.append(f"| {precision} | {np.mean(every):.4f} | {min(np.mean(row) for row in rows if row):.4f} | "
                     f"{flips[precision]} of {total} frames |")
    return lines


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="jetbench_models.precision", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", "--weights", dest="weights", type=Path, required=True,
                        help="what the pack was exported from")
    parser.add_argument("--pack", type=Path, required=True, help="pack directory with golden references")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    args = parser.parse_args(argv)
    import torch

    from . import released
    from .export import fuse
    from .verify import read_golden
    torch.set_num_threads(1)
    model = released.load(args.weights).model
    _, clips = read_golden(args.pack)
    return report(fuse(model), args.pack, clips, args.out)


def report(model: "nn.Module", root: Path, clips: list, out: Path | None) -> int:
    """Prints all tables; 1 if a native graph is refused for any other reason than a missing CPU kernel."""
    from .loop import Pack
    lines, bad = [f"## {root.name}", ""], False
    about = Pack(root).about
    for precision in HALF_TYPES:
        answers = accepted(root, about, precision)
        bad |= any(answer.startswith("REFUSED") for answer in answers.values())
        lines.append(f"ONNX Runtime CPU on the native {precision} graphs: "
                     + ", ".join(f"{name} {answer}" for name, answer in answers.items()))
    lines += ["", f"Relative rms error, inputs from frames {CAPTURED_FRAMES} of {clips[0][1][0].clip}:", ""]
    lines += [*error_table(model, root, clips[0]), "", "Whole loop on the golden clips:", "", *loop_table(root, clips), ""]
    text = "\n".join(lines)
    print(text)
    if out:
        out.write_text(text)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
