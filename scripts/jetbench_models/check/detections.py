"""Does a detector's pack compute what PyTorch computes? Sets of logits and boxes, and the detections that come of them.

Without weights, the stored reference is read, which needs no torch. With ``--checkpoint`` PyTorch runs now, on the reference's
frames and on as many drawn ones as ``--images`` says; final detections must then be the same: the same classes of the same queries
above the threshold, in the same order, but for scores that differ by less than the tolerance. ``--negative`` shows that the
comparison can fail: one kernel of the stem is moved by a hundredth of its size.
"""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from ..clips.synth import TextureBank, make_clip
from ..pack import detections, half
from ..pack.detections import Answer, Expected, Gap, manifest

Array = np.ndarray
IMAGES_SEED = 551_000
# Of the reference's rows, how far half of them may lie in half precision: medians, because a query may be another one.
HALF_LIMITS = {"fp16": 0.05, "bf16": 0.3}


def is_detector(root: Path) -> bool:
    return "detector" in manifest(root)


class Detector:
    """The graph of a pack in ONNX Runtime; half precision by emulation. ``tamper``: changes the graph before."""

    def __init__(self, root: Path, kind: str = "fp32", threads: int = 1, tamper: Callable[[onnx.ModelProto], None] | None = None):
        about = manifest(root)
        self.size = int(about["input"]["size"])
        model = onnx.load(root / about["graph"][0]["files"][kind])
        if tamper:
            tamper(model)
        if kind != "fp32":
            model = half.emulate(model)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self.image = self.session.get_inputs()[0].name

    def answer(self, pixels: Array) -> Answer:
        """What it says about a frame uint8 [h,w,3]."""
        logits, boxes = self.session.run(None, {self.image: detections.network_input(pixels, self.size)})
        return Answer(logits[0], boxes[0])


def spoil(model: onnx.ModelProto) -> None:
    """The first kernel of the graph, with a hundredth more."""
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    kernel = next(t for t in model.graph.initializer if t.name == first.input[1])
    kernel.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(kernel) * np.float32(1.01), kernel.name))


def drawn(count: int) -> list[tuple[str, Array]]:
    """Frames of drawn clips, 480 x 360 uint8."""
    bank = TextureBank(IMAGES_SEED)
    return [(f"drawn {i}", make_clip(np.random.default_rng([IMAGES_SEED, i]), 1, 360, 480, "hard", bank=bank)[0][0]) for i in range(count)]


def same_detections(expected: Answer, found: Answer, tolerance: float) -> bool:
    """The same pairs of query and class above the threshold, in the same order; scores nearer than ``tolerance`` are ties."""
    rows = detections.match(expected, found)
    scores = [1 / (1 + np.exp(-a.astype(np.float64))) for a in (expected.logits, found.logits[rows])]
    best = [np.sort(s, axis=None)[::-1] for s in scores]
    # of the best pair that does not come out
    edges = [max([detections.THRESHOLD, *b[len(s):len(s) + 1].tolist()]) for s, b in zip(scores, best)]
    for one, other, edge, limit in ((*scores, *edges), (*scores[::-1], *edges[::-1])):
        sure = one > edge + tolerance
        if (other[sure] <= limit - tolerance).any():
            return False
        order = np.argsort(-one[sure], kind="stable")
        if (np.diff(other[sure][order]) > 2 * tolerance).any():
            return False
    return True


def table(frames: list[Expected], detector: Detector, tolerance: float) -> tuple[list[Gap], list[str]]:
    """(gaps, a line per frame)."""
    gaps = [detections.compare(frame.answer, detector.answer(frame.pixels)) for frame in frames]
    lines = ["| frame | logits | boxes | rows in another place |", "|---|---|---|---|"]
    lines += [f"| {f.name} | {g.logits:.1e} | {g.boxes:.1e} | {g.moved} |" for f, g in zip(frames, gaps)]
    return gaps, lines


def typical(frames: list[Expected], detector: Detector) -> float:
    """Median difference of matched logits, over all frames: what half precision is judged by."""
    found = []
    for frame in frames:
        answer = detector.answer(frame.pixels)
        found.append(np.abs(frame.answer.logits - answer.logits[detections.match(frame.answer, answer)]).ravel())
    return float(np.median(np.concatenate(found)))


def verify(root: Path, answer: Callable[[Array], Answer] | None, images: int, threads: int, negative: bool) -> bool:
    """Prints the comparison; True if it holds. ``answer``: PyTorch now, instead of the stored answers."""
    index, frames = detections.read(root)
    tolerance = float(index["tolerance"])
    detector = Detector(root, threads=threads)
    if answer:
        frames = [Expected(f.name, f.pixels, answer(f.pixels)) for f in frames]
        frames += [Expected(name, pixels, answer(pixels)) for name, pixels in drawn(images)]
    gaps, lines = table(frames, detector, tolerance)
    good = all(gap.largest <= tolerance for gap in gaps)
    print(f"{root.name} against {'PyTorch now' if answer else 'the stored reference'}, sets of rows, tolerance {tolerance:.1e}: "
          f"{'pass' if good else 'FAIL'}; largest {max(g.largest for g in gaps):.1e}, frames with moved rows "
          f"{sum(g.moved > 0 for g in gaps)} of {len(gaps)}")
    print("\n".join(lines))
    if answer:
        same = [same_detections(f.answer, detector.answer(f.pixels), tolerance) for f in frames]
        above = sum(len(detections.final(f.answer, 1, 1)) for f in frames)
        print(f"final detections the same on {sum(same)} of {len(same)} frames ({above} above {detections.THRESHOLD})")
        good &= all(same)
    for kind in (k for k in HALF_LIMITS if k in manifest(root)["graph"][0]["files"]):
        middle = typical(frames, Detector(root, kind, threads))
        near = middle <= HALF_LIMITS[kind]
        print(f"{kind}: half of the logits within {middle:.1e}, limit {HALF_LIMITS[kind]}: {'pass' if near else 'FAIL'}")
        good &= near
    if negative:
        gaps, _ = table(frames, Detector(root, threads=threads, tamper=spoil), tolerance)
        blind = all(gap.largest <= tolerance for gap in gaps)
        print(f"first kernel moved by a hundredth: {'passed, so the comparison is blind: FAIL' if blind else 'noticed, as it must be'}")
        good &= not blind
    return good
