"""Proves that the exported graphs with the reference loop equal the transformers session, frame by frame.

With ``--checkpoint`` the session is run now; without, the stored golden references are read, which needs no torch. Every
clip, object and prompt kind of the golden set is compared: mask logits, object score, object pointer, which of the
decoder's masks was taken, and masks at source size. ``--batch`` tracks all objects and prompts of a clip as one batch,
``--plain`` takes the graphs that engines other than ONNX Runtime's CPU provider get. ``--negative`` shows that the comparison
can fail: it corrupts one slot of the memory bank or of the pointers, or removes the temporal encoding from the graph; each
must break the tolerance.

Example:
    python -m jetbench_models verify --pack assets/packs/sam2_mini --negative

A detector's pack is compared as ``detections`` says: sets of logits and boxes; --checkpoint, --images, --negative and --threads apply.
"""
from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from ..clips import KINDS
from ..command import existing_pack, finite, not_negative, parser, positive, some_of
from ..pack.detections import manifest
from ..pack.loop import FrameResult, Pack, run_clip, upsample
from ..pack.reference import Expected, read_golden
from . import detections

Array = np.ndarray


@dataclass(frozen=True)
class Gap:
    """Largest differences of one track; ``pixels`` is the share of wrong mask pixels of the worst frame, ``choices`` the
    number of frames on which another mask was taken (None if the reference does not say)."""

    low_res: float
    object_score: float
    obj_ptr: float
    pixels: float
    choices: int | None

    def within(self, tolerance: dict[str, float]) -> bool:
        return (self.low_res <= tolerance["low_res"] and self.object_score <= tolerance["object_score"]
                and self.obj_ptr <= tolerance["obj_ptr"] and self.pixels <= tolerance["mask_pixels"] and not self.choices)


def compare(expected: Expected, found: list[FrameResult]) -> Gap:
    height, width = expected.masks.shape[1:]
    wrong = [float(((upsample(f.low_res, height, width) > 0) != m).mean()) for f, m in zip(found, expected.masks)]
    choices = None
    if expected.chosen is not None and found[0].chosen is not None:
        choices = int(sum(f.chosen != e for f, e in zip(found, expected.chosen)))
    return Gap(max(float(np.abs(f.low_res - e).max()) for f, e in zip(found, expected.low_res)),
               max(abs(f.object_score - float(e)) for f, e in zip(found, expected.object_score)),
               max(float(np.abs(f.obj_ptr - e).max()) for f, e in zip(found, expected.obj_ptr)), max(wrong), choices)


def corrupt_slot(state: dict[str, Array]) -> None:
    """The memory of the frame two steps back is lost."""
    state["bank"] = state["bank"].copy()
    state["bank"][:, 2] = 0.0


def corrupt_pointer(state: dict[str, Array]) -> None:
    """The object pointers of the last frame and of the one before it change places."""
    if state["age"][0] > 2:
        state["ptrs"] = state["ptrs"].copy()
        state["ptrs"][:, [1, 2]] = state["ptrs"][:, [2, 1]]


def drop_temporal_encoding(pack: Pack, root: Path, objects: int | None = 1) -> Pack:
    """The same pack without time in memory_attention: zeros in the table of memory slots and in the projection of the
    pointers' time differences, which is the only Gemm of that graph (SAM 2.0 and EdgeTAM as released have none). ``objects``: as
    for ``Pack``."""
    about = next(g for g in pack.about["graph"] if g["name"] == "memory_attention")
    model = onnx.load(root / about["files"]["fp32"])
    slots, channels = pack.about["memory"]["frames"], pack.about["memory"]["channels"]
    projections = [n for n in model.graph.node if n.op_type == "Gemm"]
    tables = [t for t in model.graph.initializer if list(t.dims) == [slots, 1, channels]]
    if len(tables) != 1 or len(projections) > 1:
        raise RuntimeError(f"memory_attention: expected at most one Gemm and one initializer of shape [{slots}, 1, {channels}], "
                           f"found {len(projections)} and {len(tables)}")
    doomed = {tables[0].name, *(name for node in projections for name in node.input[1:])}
    for tensor in model.graph.initializer:
        if tensor.name in doomed:
            zeros = np.zeros_like(onnx.numpy_helper.to_array(tensor))
            tensor.CopyFrom(onnx.numpy_helper.from_array(zeros, tensor.name))
    changed = Pack(root, objects=objects)
    changed.sessions["memory_attention"] = ort.InferenceSession(model.SerializeToString(),
                                                                providers=["CPUExecutionProvider"])
    return changed


def table(clips: list[tuple[Array, list[Expected]]], pack: Pack, tolerance: dict[str, float],
          tamper: Callable[[dict[str, Array]], None] | None = None, noise: float = 0.0,
          batch: bool = False) -> tuple[bool, list[str]]:
    """(all within tolerance, one line per track)."""
    lines = ["| clip | object | prompt | mask logits | object score | pointer | other mask taken | wrong mask pixels | "
             "frames absent |", "|---|---|---|---|---|---|---|---|---|"]
    good = True
    for frames, tracks in clips:
        found = run_clip(pack, frames, [t.prompt for t in tracks], tamper, noise, batch=batch)
        for expected, results in zip(tracks, found):
            gap = compare(expected, results)
            good &= gap.within(tolerance)
            choices = "not known" if gap.choices is None else f"{gap.choices} of {len(results)} frames"
            lines.append(f"| {expected.clip} | {expected.object} | {expected.prompt.kind} | {gap.low_res:.1e} | "
                         f"{gap.object_score:.1e} | {gap.obj_ptr:.1e} | {choices} | {100 * gap.pixels:.4f} % | "
                         f"{int((expected.object_score <= 0).sum())} |")
    return good, lines


def _verify_detector(args: argparse.Namespace) -> int:
    answer = None
    if args.checkpoint:
        from . import session
        answer = session.detector(args.checkpoint, args.model, int(manifest(args.pack)["input"]["size"]), args.threads)
    return 0 if detections.verify(args.pack, answer, args.images, args.threads, args.negative) else 1


def main(argv: list[str]) -> int:
    options = parser("verify", __doc__)
    options.add_argument("--pack", type=existing_pack, required=True, help="pack directory with reference/golden.json")
    options.add_argument("--checkpoint", "--weights", type=Path, metavar="PATH",
                        help="run the session of these weights instead of reading the stored outputs")
    options.add_argument("--model", help="architecture of an official checkpoint, as for export")
    options.add_argument("--batch", action="store_true", help="track all objects and prompts of a clip as one batch")
    options.add_argument("--plain", action="store_true", help="not the forms for the CPU where the pack has them")
    options.add_argument("--prompts", type=some_of(KINDS), metavar="LIST", help="only these prompt kinds, comma-separated")
    options.add_argument("--threads", type=positive, default=1)
    options.add_argument("--noise", type=finite, default=0.0, metavar="SIGMA",
                        help="disturb the normalised pixels by this much (1e-6 is the size of rounding differences "
                             "between machines) to see how far the tracks hang on it")
    options.add_argument("--negative", action="store_true", help="also show that a corrupted memory is noticed")
    options.add_argument("--images", type=not_negative, default=50, metavar="N",
                         help="with --checkpoint of a detector: as many drawn frames beside those of the reference (default: 50)")
    options.add_argument("--own-spread", action="store_true",
                        help="also show how far the session of --weights is from itself in other convolution kernels")
    args = options.parse_args(argv)
    if args.own_spread and not args.checkpoint:
        options.error("--own-spread runs the session, so it needs --checkpoint")
    if args.model and not args.checkpoint:
        options.error("--model names the architecture of --checkpoint, which is missing")
    if detections.is_detector(args.pack):
        return _verify_detector(args)
    index, clips = read_golden(args.pack)
    if args.prompts:
        clips = [(frames, [t for t in tracks if t.prompt.kind in args.prompts]) for frames, tracks in clips]
    objects = None if args.batch else 1
    pack = Pack(args.pack, threads=args.threads, objects=objects, reveal=True, plain=args.plain)
    if args.checkpoint:
        from . import session
        model = session.load(args.checkpoint, args.model, pack.size, args.threads)
        clips = session.rerun(model, clips, pack.official)
    good, lines = table(clips, pack, index["tolerance"], noise=args.noise, batch=args.batch)
    print(f"{args.pack.name} against {'the running session' if args.checkpoint else 'the stored references'}"
          f"{', all tracks of a clip in one batch' if args.batch else ''}: {'pass' if good else 'FAIL'}")
    print("\n".join(lines))
    if args.own_spread:
        print("the session against itself with oneDNN off:\n" + "\n".join(session.spread(model, clips, pack.official)))
    if args.negative:
        for what, other, tamper in (("memory slot 2 emptied", pack, corrupt_slot),
                                    ("pointer slots 1 and 2 exchanged", pack, corrupt_pointer),
                                    ("temporal encoding removed", drop_temporal_encoding(pack, args.pack, objects), None)):
            passed, lines = table(clips, other, index["tolerance"], tamper, batch=args.batch)
            print(f"{what}: {'passed, so the comparison is blind: FAIL' if passed else 'noticed, as it must be'}")
            print("\n".join(lines))
            good &= not passed
    return 0 if good else 1
