"""What half precision changes: every output of every graph, and the masks of whole clips.

For every output, on inputs taken from a golden clip: the relative rms error against fp32 of the emulated graph and of
torch.autocast on the same weights, and how far the two are apart. Then the masks of whole clips in half precision against fp32.
``half`` has the rules that the graphs follow.

Example:
    python -m jetbench_models precision --weights out/sam2.safetensors --pack assets/packs/sam2_mini
"""
from __future__ import annotations

import tomllib
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

from ..command import existing_pack, parser
from ..export.convert import fuse
from ..export.graphs.geometry import Geometry
from ..export.graphs.signatures import signatures
from ..models import released
from ..pack.half import HALF_TYPES
from ..pack.loop import Pack, Track, run_clip, upsample
from ..pack.reference import read_golden

CAPTURED_FRAMES = (0, 4, 8)      # the prompted one, one with a short memory, one with all slots filled; object visible


def accepted(root: Path, about: dict, precision: str) -> dict[str, str]:
    """What ONNX Runtime's CPU provider says to each native graph: "loads", or its refusal.

    A type error in a graph is reported before kernels are looked for, so a refusal for want of a kernel
    (NOT_IMPLEMENTED) means that the types are right.
    """
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


def real_inputs(pack: Pack, clip: tuple) -> dict[str, list[dict[str, np.ndarray]]]:
    """Inputs that the fp32 graphs get on some frames of a golden clip, from all prompt kinds of its first object."""
    frames, tracks = clip
    seen: dict[str, list[dict[str, np.ndarray]]] = defaultdict(list)
    run = pack.run
    keep = False

    def record(graph: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        if keep:
            seen[graph].append(inputs)
        return run(graph, **inputs)

    pack.run = record      # type: ignore[method-assign]
    height, width = frames.shape[1:3]
    started = [(Track(pack), t.prompt) for t in tracks if t.object == 1]
    for t, frame in enumerate(frames[:max(CAPTURED_FRAMES) + 1]):
        keep = t in CAPTURED_FRAMES
        features = pack.run("image_encoder", image=pack.pixels(frame))
        for track, prompt in started:
            track.begin(features, prompt, width, height) if t == 0 else track.track(features)
    pack.run = run      # type: ignore[method-assign]
    return seen


def _relative_rms(found: list[np.ndarray], reference: list[np.ndarray]) -> float:
    difference = sum(float(((a.astype(np.float64) - b) ** 2).sum()) for a, b in zip(found, reference))
    return float(np.sqrt(difference / sum(float((b.astype(np.float64) ** 2).sum()) for b in reference)))


def autocast_outputs(model: nn.Module, seen: dict, precision: str, official: bool) -> dict[str, list[list[np.ndarray]]]:
    """Outputs of the torch modules under torch.autocast: graph -> call -> output."""
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


def error_table(model: nn.Module, root: Path, clip: tuple) -> list[str]:
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
    options = parser("precision", __doc__)
    options.add_argument("--checkpoint", "--weights", dest="weights", type=Path, required=True,
                        help="what the pack was exported from")
    options.add_argument("--model", help="architecture of an official checkpoint, as for export")
    options.add_argument("--pack", type=existing_pack, required=True, help="pack directory with golden references")
    options.add_argument("--out", type=Path, help="also write the tables to this file")
    args = options.parse_args(argv)
    torch.set_num_threads(1)
    about = tomllib.loads((args.pack / "pack.toml").read_text())
    model = released.load(args.weights, args.model, about["input"]["size"]).model
    _, clips = read_golden(args.pack)
    return report(fuse(model), args.pack, clips, args.out)


def report(model: nn.Module, root: Path, clips: list, out: Path | None) -> int:
    """Prints all tables; 1 if a native graph is refused for any other reason than a missing CPU kernel."""
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
