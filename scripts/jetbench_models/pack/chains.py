"""The golden reference of a video segmenter whose tracks are born and die: what PyTorch says of a clip, frame by frame. numpy only.

``reference/index.json`` of a pack is the index. Of every frame it holds the numbers of the tracks that are alive, in their order, whether
each was seen, its class logits, every n-th row and column of its mask logits (from n // 2 on), and its mask at the size of the frame: the
masks of a frame are one PNG, one below the other. The tracks that are kept at the end of the clip stand with their class and score.
"""
from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .reference import shuffled

Array = np.ndarray
INDEX = "reference/index.json"
KEPT_SIDE = 24            # most columns of mask logits that are kept


@dataclass(frozen=True)
class Answer:
    """What the tracker says of one frame: numbers of the live tracks, whether they were seen, logits [n,K+1], mask logits [n,h,w], masks
    bool [n,H,W] at the frame's size; and the frame as it was resized, uint8 [h',w',3]."""

    resized: Array
    ids: list[int]
    seen: list[bool]
    logits: Array
    masks: Array
    outlines: Array


@dataclass(frozen=True)
class Kept:
    """A track at the end of the clip: number, first frame, entries, class, and the class's probability in the mean of its logits."""

    track: int
    birth: int
    entries: int
    label: int
    score: float


def step_of(width: int) -> int:
    return -(-width // KEPT_SIDE)


def sampled(masks: Array, step: int) -> Array:
    return masks[:, step // 2::step, step // 2::step]


def write(folder: Path, frames: list[tuple[str, Array, Answer]], tracks: list[Kept], about: dict) -> None:
    """Writes the index and the answers; ``frames``: image file relative to ``folder``, its pixels, the answer."""
    folder.mkdir(parents=True, exist_ok=True)
    entries, step = [], step_of(frames[0][2].masks.shape[-1])
    for i, (image, pixels, answer) in enumerate(frames):
        entry: dict = dict(image=image, width=pixels.shape[1], height=pixels.shape[0], tracks=answer.ids, seen=answer.seen,
                           resized_sha256=hashlib.sha256(np.ascontiguousarray(answer.resized).tobytes()).hexdigest())
        for name, values in (("logits", answer.logits), ("masks", sampled(answer.masks, step))):
            file = f"{i:03d}_{name}.z"
            (folder / file).write_bytes(shuffled(values.astype(np.float32)))
            entry[name] = dict(file=file, shape=list(values.shape))
        if answer.ids:
            entry["outlines"] = f"{i:03d}_outlines.png"
            stacked = answer.outlines.reshape(-1, answer.outlines.shape[-1]).astype(np.uint8)
            Image.fromarray(stacked).save(folder / entry["outlines"], optimize=True)
        entries.append(entry)
    kept = [dict(track=t.track, birth=t.birth, entries=t.entries, label=t.label, score=round(t.score, 6)) for t in tracks]
    index = {"schema": 1, **about, "mask_step": step, "frames": entries, "kept": kept}
    (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
