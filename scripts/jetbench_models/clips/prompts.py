"""Prompts of a track as the benchmark derives them from a ground-truth mask, and the run lengths that files hold masks in."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .synth import deepest_pixel, tight_box


@dataclass(frozen=True)
class TrackPrompt:
    """One prompt in source pixels: ``points`` of (x, y, label), ``box`` of inclusive pixel indices, or ``mask``."""

    kind: str
    points: tuple[tuple[int, int, int], ...] = ()
    box: tuple[int, int, int, int] = (0, 0, 0, 0)
    mask: np.ndarray | None = None

    def full_mask(self) -> np.ndarray:
        """The mask of a mask prompt."""
        if self.mask is None:
            raise ValueError(f"a prompt of kind {self.kind} has no mask")
        return self.mask

    def as_json(self) -> dict:
        if self.kind == "points":
            return {"kind": "points", "points": [list(p) for p in self.points]}
        if self.kind == "bbox":
            return {"kind": "bbox", "box": list(self.box)}
        return {"kind": "mask", "runs": run_lengths(self.full_mask()).tolist()}

    @staticmethod
    def from_json(value: dict, height: int, width: int) -> TrackPrompt:
        kind = value["kind"]
        if kind == "points":
            return TrackPrompt(kind, points=tuple(tuple(p) for p in value["points"]))
        if kind == "bbox":
            return TrackPrompt(kind, box=tuple(value["box"]))
        return TrackPrompt(kind, mask=from_run_lengths(np.array(value["runs"]), height, width))


def derive(mask: np.ndarray, kind: str) -> TrackPrompt:
    """Deepest pixel, tight box or the mask itself; ``mask`` bool or 0/1 [h, w], not empty."""
    mask = mask.astype(np.uint8)
    if kind == "points":
        return TrackPrompt(kind, points=((*deepest_pixel(mask), 1),))
    if kind == "bbox":
        return TrackPrompt(kind, box=tight_box(mask))
    return TrackPrompt(kind, mask=mask.astype(bool))


def run_lengths(mask: np.ndarray) -> np.ndarray:
    """bool [h, w] -> uint32 lengths of runs in row-major order, background first (0 if the first pixel is set)."""
    flat = mask.reshape(-1).astype(np.int8)
    bounds = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1, [flat.size]])
    runs = np.diff(bounds)
    return np.concatenate([[0], runs] if flat[0] else [runs]).astype(np.uint32)


def from_run_lengths(runs: np.ndarray, height: int, width: int) -> np.ndarray:
    """Inverse of ``run_lengths``: bool [height, width]."""
    values = np.arange(len(runs)) % 2 == 1
    flat = np.repeat(values, runs)
    if flat.size != height * width:
        raise ValueError(f"run lengths add up to {flat.size} pixels, expected {height}x{width}")
    return flat.reshape(height, width)
