"""Single drawn shapes with the name of their outline, cropped as a run crops its tracks: what the miniature label pack is trained on
and judged by. The outlines are those of the drawn clips. Ellipses and blobs, which blend into each other, are one class, and so are
rectangles and polygons, of which a quarter has four corners.
"""
from __future__ import annotations

import numpy as np

from .crops import cut
from .synth import OUTLINES, TextureBank, grain, outline_of, paint, random_body

CLASSES = ("round", "polygon", "star")
CLASS_OF = {"ellipse": 0, "blob": 0, "rectangle": 1, "polygon": 1, "star": 2}
SIDE = 144                # of the frame that a shape is drawn in, pixels
LEAST_SEEN = 0.9          # share of a shape that is not hidden by the one in front of it


def drawn_shape(rng: np.random.Generator, bank: TextureBank, label: int, contrast: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(frame uint8 [SIDE,SIDE,3], mask bool [SIDE,SIDE]) with a shape of class ``label`` in it and, half of the time, another one
    somewhere; ``contrast``: scales that of the textures."""
    frame = np.array([SIDE, SIDE], np.float64)
    kinds = [kind for kind, name in enumerate(OUTLINES) if CLASS_OF[name] == label]
    while True:
        ground = rng.uniform(0.05, 0.95, 3).astype(np.float32)
        image = paint(bank.tile(rng), rng.uniform(0.1, 0.6) * contrast, ground)[:SIDE, :SIDE].copy()
        body = random_body(rng, bank, frame, 0.01, 0.12, 0.42)
        body.outline = outline_of(kinds[int(rng.integers(0, len(kinds)))], rng)
        body.position = rng.uniform(0.3, 0.7, 2) * frame
        bodies = [body]
        if rng.random() < 0.5:
            bodies.insert(int(rng.integers(0, 2)), random_body(rng, bank, frame, 0.01, 0.12, 0.3))
        labels, whole = np.zeros((SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE), np.uint8)
        body.pixels = np.zeros((2, 2, 3), np.uint8)
        body.draw(np.zeros_like(image), whole, 1)
        for one in bodies:
            while np.abs(one.colour - ground).max() < 0.25:
                one.colour = rng.uniform(0.05, 0.95, 3).astype(np.float32)
            one.pixels = paint(one.tile, one.contrast * contrast, one.colour)
            one.draw(image, labels, 1 if one is body else 2)
        mask = labels == 1
        if mask.sum() >= LEAST_SEEN * whole.sum() > 0:
            return grain(rng, bank, image, rng.uniform(0, 6)), mask


def crops(rng: np.random.Generator, bank: TextureBank, count: int, size: int, fill: tuple[int, int, int],
          contrast: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(crops uint8 [count,size,size,3], class of each), the classes in equal numbers."""
    labels = np.arange(count) % len(CLASSES)
    return np.stack([cut(*drawn_shape(rng, bank, int(label), contrast), size, fill) for label in labels]), labels
