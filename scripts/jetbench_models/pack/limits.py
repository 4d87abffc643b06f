"""How far may outputs lie from a reference, and how much must a reference show?

Limits of a reference are what PyTorch differs from itself by on the same clips, in other kernels and with other numbers of
threads, with room: no comparison can be tighter. The runner reads them (``tolerance`` in golden.json), has ceilings for them and
judges by the same figures (runners/src/study/limits.rs).
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from .loop import FrameResult, upsample

Array = np.ndarray

# With less spread than this, these hold. The last three are what the program takes where a reference says nothing.
FLOORS = {"low_res": 1e-3, "object_score": 1e-3, "obj_ptr": 1e-3, "mask_pixels": 1e-4,
          "prompted": 2e-5, "typical": 2e-5, "systematic": 4e-7}
# Above these a comparison proves nothing, and the program refuses the reference.
CEILINGS = {"low_res": 2e-2, "object_score": 2e-2, "obj_ptr": 2e-2, "mask_pixels": 1e-3,
            "prompted": 1e-3, "typical": 1e-3, "systematic": 1e-4}
# Limits are so many times the spread. A largest difference of any frame hangs on single values at rounding ties, which are
# rare: on sam2_mini PyTorch shows 9.7e-4 and ONNX Runtime 1.20 to 1.23 5.3e-3. Figures of the middle vary little.
ROOM = {"low_res": 8, "object_score": 8, "obj_ptr": 8, "mask_pixels": 8, "prompted": 4, "typical": 4, "systematic": 4}

LEAST_WITH, LEAST_WITHOUT = 4, 2       # tracked frames with and without the object, of every kind of prompt


class Outputs(Protocol):
    """What one track gives: see ``models.session.Reference`` and ``reference.Expected``."""

    @property
    def low_res(self) -> Array: ...
    @property
    def object_score(self) -> Array: ...
    @property
    def obj_ptr(self) -> Array: ...
    @property
    def masks(self) -> Array: ...


def _relative(found: Array, expected: Array) -> float:
    """Root mean square of the difference over that of the expected."""
    wrong = np.linalg.norm(np.asarray(found, np.float64) - expected)
    return float(wrong / np.linalg.norm(np.asarray(expected, np.float64))) if wrong else 0.0


def spread(expected: Sequence[Outputs], found: Sequence[Outputs], kinds: Sequence[str]) -> dict[str, float]:
    """The figures that are judged, largest of all tracks: ``kinds`` is the kind of prompt of each."""
    worst = dict.fromkeys(FLOORS, 0.0)
    pointers: dict[str, list[Array]] = {}
    lengths: dict[str, list[float]] = {}

    def larger(name: str, value: float) -> None:
        worst[name] = max(worst[name], value)

    for e, f, kind in zip(expected, found, kinds):
        there = np.flatnonzero(e.object_score > 0)
        for name in ("object_score", "obj_ptr"):
            larger(name, float(np.abs(getattr(f, name) - getattr(e, name)).max()))
        larger("mask_pixels", float((f.masks != e.masks).mean()))
        for t in there:
            larger("low_res", float(np.abs(f.low_res[t] - e.low_res[t]).max()))
            if t:
                pointers.setdefault(kind, []).append(np.asarray(f.obj_ptr[t], np.float64) - e.obj_ptr[t])
                lengths.setdefault(kind, []).append(float(np.linalg.norm(e.obj_ptr[t])))
        for part, frames in (("low_res", there), ("obj_ptr", range(len(e.object_score)))):
            size = [_relative(getattr(f, part)[t], getattr(e, part)[t]) for t in frames]
            if size:
                larger("typical", sorted(size)[len(size) // 2])
            if 0 in frames:
                larger("prompted", size[0])
    for kind, rows in pointers.items():
        larger("systematic", float(np.linalg.norm(np.median(rows, 0)) / np.mean(lengths[kind])))
    return worst


def tolerance(found: dict[str, float]) -> dict[str, float]:
    """Limits for a spread: two digits, never below the floors or above the ceilings."""
    return {name: float(f"{min(max(floor, ROOM[name] * found.get(name, 0.0)), CEILINGS[name]):.1e}")
            for name, floor in FLOORS.items()}


def lacks(tracks: Sequence[tuple[str, str, Outputs]], kinds: Sequence[str]) -> list[str]:
    """What a reference of ``tracks`` (clip and object, kind of prompt, outputs) does not show of ``kinds``; empty: it is enough.

    A frame on which the object counts as absent has a constant mask and pointer, whatever the graphs compute.
    """
    missing = []
    for kind in kinds:
        of = [(name, outputs) for name, k, outputs in tracks if k == kind]
        present = np.concatenate([outputs.object_score[1:] > 0 for _, outputs in of]) if of else np.zeros(0, bool)
        for word, count, least in (("with", present.sum(), LEAST_WITH), ("without", (~present).sum(), LEAST_WITHOUT)):
            if count < least:
                missing.append(f"{kind}: {count} tracked frames {word} the object, at least {least} are needed")
        missing += [f"{name}, {kind}: the object is absent on the prompted frame" for name, outputs in of
                    if outputs.object_score[0] <= 0]
    for i, (name, kind, a) in enumerate(tracks):
        missing += [f"{name}, {kind} and {other}: one track, bit for bit" for again, other, b in tracks[i + 1:]
                    if again == name and np.array_equal(a.low_res[1:], b.low_res[1:])]
    return missing


# int8: what a pack's graphs differ from its own reference by, with room, and never tighter than for bfloat16. Above the ceilings a
# comparison proves nothing, and the program refuses the reference.
INT8_FLOORS = {"typical": 3e-2, "mask_pixels": 1e-3, "apart": 2e-2}
INT8_CEILINGS = {"typical": 0.5, "mask_pixels": 2e-2, "apart": 0.4}
INT8_ROOM = {"typical": 1.5, "mask_pixels": 2, "apart": 2}


def int8_figures(pairs: Sequence[tuple[Outputs, Sequence[FrameResult]]]) -> dict[str, float]:
    """The figures that are judged of int8, largest of all tracks: relative rms of logits and pointers on the median frame, share of
    mask pixels that differ, and 1 less the masks' IoU, all frames together (0 where at most 8 pixels differ)."""
    worst = dict.fromkeys(INT8_FLOORS, 0.0)
    for expected, found in pairs:
        height, width = expected.masks.shape[1:]
        masks = np.stack([upsample(f.low_res, height, width) > 0 for f in found])
        differing, union = int((masks != expected.masks).sum()), int((masks | expected.masks).sum())
        worst["mask_pixels"] = max(worst["mask_pixels"], differing / masks.size)
        if differing > 8:
            worst["apart"] = max(worst["apart"], differing / union)
        frames = range(len(expected.low_res))
        there = [t for t in frames if expected.object_score[t] > 0]
        for part, of in (("low_res", there), ("obj_ptr", list(frames))):
            size = sorted(_relative(getattr(found[t], part), getattr(expected, part)[t]) for t in of)
            if size:
                worst["typical"] = max(worst["typical"], size[len(size) // 2])
    return worst


def int8_limits(figures: dict[str, float]) -> dict[str, float]:
    """Limits of int8 in golden.json: two digits, never below the floors."""
    return {name: float(f"{max(floor, INT8_ROOM[name] * figures[name]):.1e}") for name, floor in INT8_FLOORS.items()}


def int8_beyond(limits: dict[str, float]) -> str:
    """Which limits lie above the ceilings, in words; empty: none."""
    return ", ".join(f"{name} {limits[name]:g}, at most {most:g}" for name, most in INT8_CEILINGS.items() if limits[name] > most)
