"""Clips in which every object has a class, the name of its outline: what a video instance segmenter is trained on.

Ellipses and blobs, which blend into each other, are one class. Bars that hide objects are never targets.
"""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .synth import TextureBank, draw_clip

CLASSES = ("round", "rectangle", "polygon", "star")
CORNERS = 6               # most of a polygon; a star has more, and what is round many more
ROUND = 48


@dataclass(frozen=True)
class Tubes:
    """A clip: frames uint8 [T,S,S,3], visible shares of its objects float32 [n,T,s,s] at the model's own size, their classes [n]."""

    frames: np.ndarray
    masks: np.ndarray
    labels: np.ndarray


def class_of(outline: np.ndarray) -> int:
    """Place in ``CLASSES`` of an outline that ``synth`` drew; a rectangle's corners have one distance from either axis."""
    if len(outline) == ROUND:
        return 0
    if len(outline) > CORNERS:
        return 3
    straight = len(outline) == 4 and np.all(np.ptp(np.abs(outline), 0) < 1e-6)
    return 1 if straight else 2


def training_clip(rng: np.random.Generator, bank: TextureBank, frames: int, size: int, coarse: int, difficulty: float, pairs: float,
                  events: float) -> Tubes:
    """A clip of another size and aspect ratio, reduced to ``size``; turned, mirrored, its channels permuted. ``pairs``: chance of
    look-alikes; ``events``: chance per object of being absent for a while; ``coarse``: side of the masks."""
    height, width = (int(n) for n in rng.integers(size, int(1.6 * size), 2))
    mode = "pairs" if rng.random() < pairs else "train"
    images, masks, outlines = draw_clip(rng, frames, height, width, mode, bank=bank, difficulty=difficulty, events=events)
    seen = np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in images])
    shares = np.stack([[cv2.resize(mask, (coarse, coarse), interpolation=cv2.INTER_AREA) for mask in masks_of]
                       for masks_of in masks.astype(np.float32)])
    if rng.random() < 0.5:
        seen, shares = seen[:, :, ::-1], shares[..., ::-1]
    if rng.random() < 0.5:
        seen, shares = seen.transpose(0, 2, 1, 3), shares.swapaxes(2, 3)
    seen = seen[..., rng.permutation(3)]
    return Tubes(np.ascontiguousarray(seen), np.ascontiguousarray(shares), np.array([class_of(o) for o in outlines]))
