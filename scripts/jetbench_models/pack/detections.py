"""A detector's answers: how they are compared as sets, what they mean in pixels, and the files of a golden reference. numpy only.

A detector picks the best tokens of a frame as its queries; two of them whose scores differ by less than rounding change places
from one runtime to another. So rows are matched before they are compared. ``reference/index.json`` of a pack is the index; its
images are files beside it, or the miniatures' shared PNG frames.
"""
from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..command import Refused
from .reference import shuffled, unshuffled

Array = np.ndarray
INDEX = "reference/index.json"
TOLERANCE = 1e-4          # of logits and boxes; more only where PyTorch is farther from itself
THRESHOLD = 0.5           # of the final detections that are compared


@dataclass(frozen=True)
class Answer:
    """What a detector says about one frame: logits [Q,C], boxes [Q,4] (cx, cy, w, h in 0..1)."""

    logits: Array
    boxes: Array


@dataclass(frozen=True)
class Expected:
    """A frame of the reference: its file, its pixels uint8 [h,w,3], and what PyTorch says about it."""

    name: str
    pixels: Array
    answer: Answer


@dataclass(frozen=True)
class Gap:
    """Largest differences of matched rows, and how many rows lie in another place."""

    logits: float
    boxes: float
    moved: int

    @property
    def largest(self) -> float:
        return max(self.logits, self.boxes)


def manifest(root: Path) -> dict:
    return tomllib.loads((root / "pack.toml").read_text())


def resized(pixels: Array, size: int) -> Array:
    """uint8 [S,S,3]: bilinear with antialiasing, the aspect ratio not kept."""
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))


def network_input(pixels: Array, size: int) -> Array:
    """float32 [1,3,S,S] in 0..1 of a frame uint8 [h,w,3]."""
    return (resized(pixels, size).astype(np.float32) * np.float32(1 / 255)).transpose(2, 0, 1)[None].copy()


def match(expected: Answer, found: Answer) -> Array:
    """Row of ``found`` for each row of ``expected``: pairs are taken in the order of their largest difference."""
    one, other = (np.concatenate([a.logits, a.boxes], -1) for a in (expected, found))
    distance = np.stack([np.abs(row - other).max(-1) for row in one])
    distance[np.isnan(distance)] = np.inf
    rows = np.full(len(one), -1)
    taken = np.zeros(len(other), bool)
    for at in np.argsort(distance, axis=None, kind="stable"):
        i, j = divmod(int(at), len(other))
        if rows[i] < 0 and not taken[j]:
            rows[i], taken[j] = j, True
    return rows


def compare(expected: Answer, found: Answer) -> Gap:
    """The sets of rows against each other; what is not a number is infinitely far."""
    rows = match(expected, found)
    logits, boxes = (float(np.nan_to_num(np.abs(a - b[rows]), nan=np.inf).max())
                     for a, b in ((expected.logits, found.logits), (expected.boxes, found.boxes)))
    return Gap(logits, boxes, int((rows != np.arange(len(rows))).sum()))


def final(answer: Answer, width: int, height: int, threshold: float = THRESHOLD) -> list[tuple[int, float, tuple[float, ...]]]:
    """(label, score, (x0, y0, x1, y1) in pixels), best first: sigmoid, the best Q pairs of query and class, those above the threshold."""
    scores = 1 / (1 + np.exp(-answer.logits.astype(np.float64)))
    best = np.argsort(-scores, axis=None, kind="stable")[:len(scores)]
    found: list[tuple[int, float, tuple[float, ...]]] = []
    for query, label in (divmod(int(at), scores.shape[1]) for at in best):
        x, y, w, h = answer.boxes[query].astype(np.float64)
        if scores[query, label] > threshold:
            box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
            found.append((label, float(scores[query, label]), box))
    return found


def overlap(one: Array, other: Array) -> Array:
    """IoU [n,m] of boxes [n,4] and [m,4] (x0, y0, x1, y1)."""
    low, high = np.maximum(one[:, None, :2], other[None, :, :2]), np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = [np.clip(b[:, 2:] - b[:, :2], 0, None).prod(-1) for b in (one, other)]
    return shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-12)


# ------------------------------------------------------------------------------------------------------------ reference
def write(folder: Path, size: int, frames: list[tuple[str, Array, Answer]], about: dict) -> None:
    """Writes the index and the answers; ``size``: input side of the model; ``frames``: image file relative to ``folder``, its pixels,
    the answer."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for i, (image, pixels, answer) in enumerate(frames):
        entry: dict = dict(image=image, width=pixels.shape[1], height=pixels.shape[0],
                           resized_sha256=hashlib.sha256(resized(pixels, size).tobytes()).hexdigest())
        for name, values in (("logits", answer.logits), ("boxes", answer.boxes)):
            file = f"{i:03d}_{name}.z"
            (folder / file).write_bytes(shuffled(values.astype(np.float32)))
            entry[name] = dict(file=file, shape=list(values.shape))
        entries.append(entry)
    (folder / "index.json").write_text(json.dumps({"schema": 1, **about, "frames": entries}, indent=1) + "\n", encoding="utf-8")


def read(root: Path) -> tuple[dict, list[Expected]]:
    """(index, frames) of a detector pack's reference."""
    path = root / INDEX
    if not path.is_file():
        raise Refused(f"{root}: no golden reference; export writes one, or golden for the miniature packs")
    index = json.loads(path.read_text())
    frames = []
    for entry in index["frames"]:
        image = path.parent / entry["image"]
        if not image.is_file():
            raise Refused(f"{path}: {entry['image']} is not there")
        logits, boxes = (unshuffled((path.parent / entry[name]["file"]).read_bytes(), "<f4").reshape(entry[name]["shape"])
                         for name in ("logits", "boxes"))
        frames.append(Expected(entry["image"], np.asarray(Image.open(image).convert("RGB")), Answer(logits, boxes)))
    return index, frames
