"""Single frames with the boxes of their objects: what a detector is trained on and judged by.

A box is tight around the visible pixels of an object, from the edge of the first to the edge of the last; an object with
fewer visible pixels than ``SMALLEST`` is no target, and a detection of it is no error. Bars that hide objects are never targets.
"""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .synth import TextureBank, make_clip

SMALLEST = 0.002          # least visible share of a frame that makes an object a target
HELD_OUT_SEED = 660_000
MODES = ("easy", "hard", "gone")


@dataclass(frozen=True)
class Drawn:
    """A frame and its boxes float32 [n,4] (x0, y0, x1, y1 in 0..1): of targets, and of objects too small to be one."""

    image: np.ndarray     # uint8 [S,S,3]
    boxes: np.ndarray
    small: np.ndarray


def boxes_of(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of masks [n,H,W]: (targets, too small to be one); what is not visible has none."""
    height, width = masks.shape[1:]
    found: tuple[list, list] = ([], [])
    for mask in masks:
        columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
        if len(columns):
            box = (columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height)
            found[bool(np.count_nonzero(mask) < SMALLEST * height * width)].append(box)
    targets, small = (np.array(boxes, np.float32).reshape(-1, 4) for boxes in found)
    return targets, small


def training_frame(rng: np.random.Generator, bank: TextureBank, size: int, difficulty: float, pairs: float,
                   single: float = 0.0) -> Drawn:
    """A frame of a drawn clip, seen through a window that cuts objects and changes the aspect ratio, turned and mirrored.

    ``pairs``, ``single``: shares of frames with look-alikes, and with one object; ``difficulty``: see ``make_clip``.
    """
    height, width = (int(n) for n in rng.integers(size, int(1.25 * size), 2))
    kind = rng.random()
    mode = "pairs" if kind < pairs else "easy" if kind < pairs + single else "train"
    images, clips = make_clip(rng, 1, height, width, mode, bank=bank, difficulty=difficulty)
    rows, columns = (int(n * rng.uniform(0.75, 1)) if rng.random() < 0.5 else n for n in (height, width))
    top, left = int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width - columns + 1))
    image, masks = (a[:, top:top + rows, left:left + columns] for a in (images[0][None], clips[:, 0]))
    seen, (boxes, small) = cv2.resize(image[0], (size, size), interpolation=cv2.INTER_AREA), boxes_of(masks)
    if rng.random() < 0.5:
        seen, boxes, small = seen[:, ::-1], *(np.stack([1 - b[:, 2], b[:, 1], 1 - b[:, 0], b[:, 3]], 1) for b in (boxes, small))
    if rng.random() < 0.5:
        seen, boxes, small = seen.transpose(1, 0, 2), *(b[:, [1, 0, 3, 2]] for b in (boxes, small))
    return Drawn(np.ascontiguousarray(seen), boxes, small)


def held_out_frames(mode: str, clips: int, size: int, seed: int) -> list[Drawn]:
    """Four frames of each of ``clips`` clips of ``mode``, none of whose seeds or textures training has seen."""
    bank, frames = TextureBank(seed + 5), []
    for clip in range(clips):
        images, masks = make_clip(np.random.default_rng([seed, MODES.index(mode), clip]), 24, size, size, mode, bank=bank)
        frames += [Drawn(images[t], *boxes_of(masks[:, t])) for t in (0, 7, 14, 21)]
    return frames
