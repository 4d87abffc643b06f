"""The golden reference of a video segmenter: what PyTorch says of a clip, frame by frame, with its state carried. numpy only.

``reference/index.json`` of a pack is the index; its frames are files beside it, or the miniatures' shared PNG frames. Of the mask
logits every n-th row and column is kept, from row and column n // 2 on; class logits and queries are kept whole. The label map of a
frame, at the size of the frame, is a PNG: 0 where there is nothing, else the query's number from 1.
"""
from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..command import Refused
from .reference import shuffled

Array = np.ndarray
INDEX = "reference/index.json"
KEPT_SIDE = 16            # most rows and columns of mask logits that are kept


@dataclass(frozen=True)
class Answer:
    """What a segmenter says of one frame: logits [Q,C+1], masks [Q,s,s], queries [Q,D], label map uint16 [h,w], scores of the queries
    in the map, by query; and the frame as the library's processor resized it, uint8 [S,S,3]."""

    seen: Array
    logits: Array
    masks: Array
    queries: Array
    labels: Array
    scores: dict[int, float]


def step_of(side: int) -> int:
    return -(-side // KEPT_SIDE)


def sampled(masks: Array, step: int) -> Array:
    return masks[:, step // 2::step, step // 2::step]


def write(folder: Path, frames: list[tuple[str, Array, Answer]], about: dict) -> None:
    """Writes the index and the answers; ``frames``: image file relative to ``folder``, its pixels, the answer."""
    folder.mkdir(parents=True, exist_ok=True)
    entries, step = [], step_of(frames[0][2].masks.shape[-1])
    for i, (image, pixels, answer) in enumerate(frames):
        entry: dict = dict(image=image, width=pixels.shape[1], height=pixels.shape[0],
                           resized_sha256=hashlib.sha256(answer.seen.tobytes()).hexdigest())
        for name, values in (("logits", answer.logits), ("masks", sampled(answer.masks, step)), ("queries", answer.queries)):
            file = f"{i:03d}_{name}.z"
            (folder / file).write_bytes(shuffled(values.astype(np.float32)))
            entry[name] = dict(file=file, shape=list(values.shape))
        entry["labels"] = f"{i:03d}_labels.png"
        if answer.labels.max() > 255:
            raise Refused(f"{image}: object {answer.labels.max()}: a reference holds objects 1 to 255")
        Image.fromarray(answer.labels.astype(np.uint8)).save(folder / entry["labels"], optimize=True)
        entry["scores"] = {str(query): round(score, 6) for query, score in answer.scores.items()}
        entries.append(entry)
    (folder / "index.json").write_text(json.dumps({"schema": 1, **about, "mask_step": step, "frames": entries}, indent=1) + "\n",
                                       encoding="utf-8")
