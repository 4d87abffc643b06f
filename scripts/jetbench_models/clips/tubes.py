"""Clips of objects that are all of one class: what the miniature video instance segmenter is trained on.

A network of this size learns to find and follow drawn shapes in a quarter of an hour of one core, and not to tell their outlines
apart: the label pack does that. Bars that hide objects are never targets.
"""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .synth import TextureBank, draw_clip

CLASSES = ("object",)


@dataclass(frozen=True)
class Tubes:
    """A clip: frames uint8 [T,S,S,3], visible shares of its objects float32 [n,T,s,s] at the model's own size, their classes [n], places in
    ``CLASSES``."""

    frames: np.ndarray
    masks: np.ndarray
    labels: np.ndarray


def training_clip(rng: np.random.Generator, bank: TextureBank, frames: int, size: int, coarse: int, difficulty: float, pairs: float,
                  events: float) -> Tubes:
    """A clip of another size and aspect ratio, reduced to ``size``; turned, mirrored, its channels permuted. ``pairs``: chance of
    look-alikes; ``events``: chance per object of being absent for a while; ``coarse``: side of the masks."""
    height, width = (int(n) for n in rng.integers(size, int(1.6 * size), 2))
    mode = "pairs" if rng.random() < pairs else "train"
    images, masks, _ = draw_clip(rng, frames, height, width, mode, bank=bank, difficulty=difficulty, events=events)
    seen = np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in images])
    shares = np.stack([[cv2.resize(mask, (coarse, coarse), interpolation=cv2.INTER_AREA) for mask in masks_of]
                       for masks_of in masks.astype(np.float32)])
    if rng.random() < 0.5:
        seen, shares = seen[:, :, ::-1], shares[..., ::-1]
    if rng.random() < 0.5:
        seen, shares = seen.transpose(0, 2, 1, 3), shares.swapaxes(2, 3)
    seen = seen[..., rng.permutation(3)]
    return Tubes(np.ascontiguousarray(seen), np.ascontiguousarray(shares), np.zeros(len(masks), np.int64))
