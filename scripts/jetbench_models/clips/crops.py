"""The crop of a track: what a label pack sees of an object. The runner's rule (runners/src/label/crop.rs), in numpy.

The tight box of the mask, 10 % longer on every side, made square by extending the shorter side; what lies outside the frame has the
mean colour of the pack.
"""
from __future__ import annotations

import numpy as np
from PIL import Image

RESAMPLING = {"bilinear_antialias_u8": Image.Resampling.BILINEAR, "bicubic_antialias_u8": Image.Resampling.BICUBIC}


def window(mask: np.ndarray) -> tuple[int, int, int]:
    """(left, top, side) of the crop in pixels of the frame; the mask is not empty."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    spans = [(int(found[0]), int(found[-1]) + 1) for found in (columns, rows)]
    side = -(-12 * max(end - start for start, end in spans) // 10)
    left, top = ((start + end - side) // 2 for start, end in spans)
    return left, top, side


def square(frame: np.ndarray, mask: np.ndarray, fill: tuple[int, int, int]) -> np.ndarray:
    """The crop as it lies in the frame, uint8 [side,side,3]; ``fill``: colour of what lies outside."""
    left, top, side = window(mask)
    height, width = frame.shape[:2]
    crop = np.empty((side, side, 3), np.uint8)
    crop[:] = fill
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    crop[y0 - top:y1 - top, x0 - left:x1 - left] = frame[y0:y1, x0:x1]
    return crop


def cut(frame: np.ndarray, mask: np.ndarray, size: int, fill: tuple[int, int, int], resize: str = "bicubic_antialias_u8") -> np.ndarray:
    """The crop at the size of the model's input, uint8 [size,size,3]."""
    return np.asarray(Image.fromarray(square(frame, mask, fill)).resize((size, size), RESAMPLING[resize]))
