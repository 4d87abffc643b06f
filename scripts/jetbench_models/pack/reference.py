"""The files of a golden reference: mask logits, scores, pointers and masks of tracks, packed small. numpy only.

``golden`` writes them and the Rust tests read them; ``verify`` and ``precision`` read them here. ``reference/golden.json`` of a
pack is the index; its clips are PNG frames.
"""
from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..clips.prompts import TrackPrompt, from_run_lengths, run_lengths
from ..command import Refused

Array = np.ndarray
QUANTUM = 2.0 ** -12      # step of the stored logits; their error, half of it, is an eighth of the tolerance


@dataclass(frozen=True)
class Expected:
    """Reference of one track: shapes as in ``session.Reference``."""

    clip: str
    object: int
    prompt: TrackPrompt
    low_res: Array
    object_score: Array
    obj_ptr: Array
    masks: Array
    chosen: Array | None


# --------------------------------------------------------------------------------------------------- compact encoding
def shuffled(values: np.ndarray) -> bytes:
    """zlib stream of little-endian 4-byte values, all first bytes, then all second bytes, and so on."""
    flat = np.ascontiguousarray(values).reshape(-1)
    flat = flat.astype(flat.dtype.newbyteorder("<"))
    return zlib.compress(flat.view(np.uint8).reshape(-1, 4).T.tobytes(), 9)


def unshuffled(data: bytes, dtype: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(data), np.uint8).reshape(4, -1).T.copy().view(dtype).reshape(-1)


def encode_logits(low_res: np.ndarray) -> bytes:
    steps = np.rint(low_res.astype(np.float64) / QUANTUM).astype(np.int32)
    return shuffled(np.diff(steps, axis=-1, prepend=np.int32(0)).astype(np.int32))


def decode_logits(data: bytes, shape: list[int], quantum: float) -> np.ndarray:
    return np.cumsum(unshuffled(data, "<i4").reshape(shape), axis=-1, dtype=np.int64) * quantum


def encode_masks(masks: np.ndarray) -> bytes:
    parts = []
    for mask in masks:
        runs = run_lengths(mask)
        parts += [np.array([len(runs)], "<u4"), runs.astype("<u4")]
    return zlib.compress(np.concatenate(parts).tobytes(), 9)


# ------------------------------------------------------------------------------------------------------------- reading
def _read_masks(data: bytes, count: int, height: int, width: int) -> Array:
    words, masks, at = np.frombuffer(zlib.decompress(data), "<u4"), [], 0
    for _ in range(count):
        runs = int(words[at])
        masks.append(from_run_lengths(words[at + 1:at + 1 + runs], height, width))
        at += 1 + runs
    return np.stack(masks)


def read_frames(folder: Path, count: int) -> Array:
    """uint8 [count,h,w,3] from 00000.png and on."""
    paths = [folder / f"{t:05d}.png" for t in range(count)]
    if absent := [p.name for p in paths if not p.is_file()]:
        raise Refused(f"{folder}: {count} frames expected, {absent[0]} is not there")
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])


def shared_frames(pack: Path, paths: Iterable[Path]) -> list[tuple[str, Array]]:
    """Frames that several packs share: file relative to the reference of ``pack``, pixels uint8 [h,w,3]."""
    reference = (pack / "reference").absolute()
    return [(Path(os.path.relpath(path.absolute(), reference)).as_posix(), np.asarray(Image.open(path).convert("RGB"))) for path in paths]


def own_frames(pack: Path, frames: Iterable[Array]) -> list[tuple[str, Array]]:
    """Stores frames in the reference of ``pack``; as ``shared_frames``."""
    folder, images = pack / "reference/frames", []
    folder.mkdir(parents=True, exist_ok=True)
    for i, pixels in enumerate(frames):
        Image.fromarray(pixels).save(folder / f"{i:05d}.png", optimize=True)
        images.append((f"frames/{i:05d}.png", pixels))
    return images


def read_golden(root: Path) -> tuple[dict, list[tuple[Array, list[Expected]]]]:
    """(index, [(frames uint8 [T,h,w,3], tracks)]) of a pack's reference folder."""
    folder = root / "reference"
    if not (folder / "golden.json").is_file():
        raise Refused(f"{root}: no golden reference; export writes one, or golden for the miniature packs")
    index = json.loads((folder / "golden.json").read_text())
    clips = []
    for clip in index["clips"]:
        frames, tracks = read_frames(folder / clip["frames"], clip["count"]), []
        for track in clip["tracks"]:
            low_res, obj_ptr, masks = ((folder / track[name]["file"]).read_bytes() for name in ("low_res", "obj_ptr", "masks"))
            tracks.append(Expected(
                clip["name"], track["object"], TrackPrompt.from_json(track["prompt"], clip["height"], clip["width"]),
                decode_logits(low_res, track["low_res"]["shape"], index["quantum"]),
                np.array(track["object_score"]), unshuffled(obj_ptr, "<f4").reshape(track["obj_ptr"]["shape"]),
                _read_masks(masks, clip["count"], clip["height"], clip["width"]),
                np.array(track["chosen_mask"]) if "chosen_mask" in track else None))
        clips.append((frames, tracks))
    return index, clips
