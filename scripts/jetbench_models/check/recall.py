"""Recall and false positives of a detector's pack on held-out drawn frames, through ONNX Runtime.

Seeds and textures differ from training. After the threshold, boxes that overlap a better one by more than ``--nms`` are left
out, as jetbench does before it associates. A detection of IoU 0.5 or more with an object that no better detection has is a hit;
one of an object too small to be a target counts neither way; every other one is a false positive.

Example:
    python -m jetbench_models recall --pack assets/packs/dfine_mini
"""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..clips.boxes import HELD_OUT_SEED, MODES, Drawn, held_out_frames
from ..command import existing_pack, finite, not_negative, parser, positive
from ..pack import DTYPES
from ..pack.detections import Answer, overlap
from .detections import Detector

IOU = 0.5                 # from which a detection is of an object
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
ALLOWED = 1 / 20          # false positives per frame


@dataclass(frozen=True)
class Judged:
    """Detections of one frame, best first: scores, and what each is: 1 a hit, 0 neither, -1 a false positive."""

    scores: np.ndarray
    kinds: np.ndarray
    targets: int


def corners(boxes: np.ndarray) -> np.ndarray:
    """Boxes [n,4] (cx, cy, w, h) as (x0, y0, x1, y1)."""
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], -1)


def judge(frame: Drawn, answer: Answer, nms: float) -> Judged:
    """Which detections of a frame are hits. Greedy, best first, so that a threshold only cuts the list short."""
    scores, boxes = 1 / (1 + np.exp(-answer.logits.max(-1))), corners(answer.boxes)
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    for at in order.tolist():
        if not kept or overlap(boxes[at:at + 1], boxes[kept]).max() <= nms:
            kept.append(at)
    taken = np.zeros(len(frame.boxes), bool)
    kinds = []
    for at in kept:
        shared = np.where(taken, 0, overlap(boxes[at:at + 1], frame.boxes)[0])
        small = overlap(boxes[at:at + 1], frame.small)[0]
        if len(shared) and shared.max() >= IOU:
            taken[int(shared.argmax())] = True
            kinds.append(1)
        else:
            kinds.append(0 if len(small) and small.max() >= IOU else -1)
    return Judged(scores[kept], np.array(kinds), len(frame.boxes))


def figures(judged: list[Judged], threshold: float) -> tuple[float, float]:
    """(recall, false positives per frame) of what lies above ``threshold``."""
    hits = sum(int((j.kinds[j.scores > threshold] == 1).sum()) for j in judged)
    wrong = sum(int((j.kinds[j.scores > threshold] == -1).sum()) for j in judged)
    return hits / max(sum(j.targets for j in judged), 1), wrong / len(judged)


def lowest_threshold(judged: list[Judged], allowed: float) -> float:
    """The lowest threshold with at most ``allowed`` false positives per frame."""
    wrong = np.sort(np.concatenate([j.scores[j.kinds == -1] for j in judged]))[::-1]
    most = int(allowed * len(judged))
    return float(wrong[most]) if most < len(wrong) else 0.0


def rows(by_mode: dict[str, list[Judged]], thresholds: tuple[float, ...]) -> list[dict]:
    """For every mode and all together: recall and false positives per 20 frames."""
    every = [j for judged in by_mode.values() for j in judged]
    found = []
    for mode, judged in (*by_mode.items(), ("all", every)):
        for threshold in (*thresholds, lowest_threshold(judged, ALLOWED)):
            recall, wrong = figures(judged, threshold)
            found.append(dict(mode=mode, frames=len(judged), objects=sum(j.targets for j in judged), threshold=round(threshold, 4),
                              recall=round(recall, 4), false_positives_per_20_frames=round(20 * wrong, 2)))
    return found


def main(argv: list[str]) -> int:
    options = parser("recall", __doc__)
    options.add_argument("--pack", type=existing_pack, required=True, help="pack directory of a detector")
    options.add_argument("--dtype", choices=DTYPES, default="fp32")
    options.add_argument("--clips", type=positive, default=60, help="clips per mode, four frames of each (default: 60)")
    options.add_argument("--seed", type=not_negative, default=HELD_OUT_SEED)
    options.add_argument("--nms", type=finite, default=0.7, help="largest IoU of two detections (default: 0.7)")
    options.add_argument("--json", type=Path, help="also write the rows to this file")
    args = options.parse_args(argv)
    detector = Detector(args.pack, args.dtype)
    by_mode = {mode: [judge(frame, detector.answer(frame.image), args.nms)
                      for frame in held_out_frames(mode, args.clips, detector.size, args.seed)] for mode in MODES}
    found = rows(by_mode, THRESHOLDS)
    for row in found:
        print(json.dumps(row))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0
