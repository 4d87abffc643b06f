"""A label pack without PyTorch: its vectors, what may be wrong with them, and its golden reference. numpy only.

``labels.safetensors`` holds ``text_embeds`` f32 [C,D] (unit rows), ``logit_scale`` f32 [1] and, for sigmoid, ``logit_bias`` f32 [1].
"""
from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ..command import Refused
from .detections import manifest
from .reference import shuffled

Array = np.ndarray
VECTORS, INDEX = "labels.safetensors", "reference/index.json"
UNIT = 1e-3               # how far the length of a row may be from 1
SAME = 0.995              # cosine of two classes from which on they are one
CLOSE = 0.97              # and from which on they are said to be close
TOLERANCE = 1e-5          # of a unit embedding's values; more only where PyTorch is farther from itself
REMEDY = ("the vectors of these classes are one: were they pooled where the texts differ? CLIP's are read at the end-of-text token "
          "(--pooling eot); mean pooling of untuned texts, padding in place of text, or one prompt for all classes make them alike")


@dataclass(frozen=True)
class Finding:
    """One item of the report: what was looked at, what was found, and whether it is well; ``close`` is a warning."""

    item: str
    found: str
    state: str            # "ok", "close" or "ERROR"


def _judged(item: str, found: str, good: bool) -> Finding:
    return Finding(item, found, "ok" if good else "ERROR")


def write_vectors(path: Path, vectors: Array, scale: float, bias: float | None) -> str:
    """Writes the file and returns its SHA-256."""
    tensors = {"text_embeds": np.ascontiguousarray(vectors, np.float32), "logit_scale": np.array([scale], np.float32)}
    if bias is not None:
        tensors["logit_bias"] = np.array([bias], np.float32)
    save_file(tensors, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_vectors(path: Path) -> dict[str, Array]:
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise Refused(f"{path}: {error}") from None
    if found.get("text_embeds", np.zeros(0)).ndim != 2 or "logit_scale" not in found:
        raise Refused(f"{path}: text_embeds [C,D] and logit_scale [1] expected, found {', '.join(sorted(found)) or 'nothing'}")
    return found


def cosines(rows: Array) -> Array:
    """Cosines [C,C] of rows [C,D] of any length."""
    rows = rows.astype(np.float64)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
    return rows @ rows.T


def closest(rows: Array, most: int = 5) -> list[tuple[float, int, int]]:
    """The pairs of classes with the largest cosines: (cosine, class, class)."""
    table = cosines(rows)
    one, other = np.triu_indices(len(table), 1)
    order = np.argsort(-table[one, other], kind="stable")[:most]
    return [(float(table[one[i], other[i]]), int(one[i]), int(other[i])) for i in order]


def _distinct(rows: Array, names: list[str]) -> list[Finding]:
    pairs = closest(rows)
    if not pairs:
        return [Finding("classes distinct", "one class, nothing to tell apart", "close")]
    said = ", ".join(f"{names[i]} and {names[j]} {value:.4f}" for value, i, j in pairs[:3])
    worst = pairs[0][0]
    if worst >= SAME:
        return [Finding("classes distinct", f"cosines up to {worst:.4f} ({said}): {REMEDY}", "ERROR")]
    return [Finding("classes distinct", f"largest cosine {worst:.4f} ({said})", "close" if worst >= CLOSE else "ok")]


def examine(root: Path) -> list[Finding]:
    """The itemised report of a pack's vectors."""
    about = manifest(root)
    if "labels" not in about:
        raise Refused(f"{root}/pack.toml: no [labels] section; it is no label pack")
    said, path = about["labels"], root / about["labels"]["embeddings"]
    found = read_vectors(path)
    rows, names = found["text_embeds"], list(said["classes"])
    width = about["graph"][0]["outputs"][0]["shape"][-1]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    report = [_judged("digest", digest[:12], digest == said["sha256"])]
    twice = "" if len(set(names)) == len(names) else ", a name stands twice"
    report.append(_judged("classes", f"{len(rows)} rows, {len(names)} names{twice}", len(rows) == len(names) == len(set(names))))
    report.append(_judged("width", f"{rows.shape[1]} values a row, the image tower gives {width}", rows.shape[1] == width))
    finite = bool(np.isfinite(rows).all()) and all(np.isfinite(v).all() for v in found.values())
    report.append(_judged("finite", "every value is a number" if finite else "values that are no numbers", finite))
    if not finite or len(rows) != len(names):
        return report
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    report.append(_judged("unit rows", f"lengths {lengths.min():.6f} to {lengths.max():.6f}", bool(np.abs(lengths - 1).max() <= UNIT)))
    report += _distinct(rows, names)
    scale, bias = float(found["logit_scale"][0]), found.get("logit_bias")
    report.append(_judged("scale", f"x {math.exp(min(scale, 700)):.2f} (logit_scale {scale:.4f})", 0 <= scale <= math.log(1000)))
    sigmoid = said["activation"] == "sigmoid"
    report.append(_judged("activation", f"{said['activation']}, bias {'none' if bias is None else f'{float(bias[0]):.4f}'}",
                          sigmoid == (bias is not None)))
    report.append(_judged("pooling", f"{said['pooling']}; prompts: {', '.join(said['prompts'][:3])}", True))
    return report


def table(rows: Array, names: list[str], most: int = 12) -> list[str]:
    """The cosine of each class to each, as a table in Markdown; of the first ``most`` classes."""
    values, shown = cosines(rows), names[:most]
    lines = ["| |" + "|".join(shown) + "|", "|---|" + "---|" * len(shown)]
    lines += [f"| {name} |" + "|".join(f"{values[i, j]:.3f}" for j in range(len(shown))) + "|" for i, name in enumerate(shown)]
    return lines + ([f"{len(names) - most} more classes are left out"] if len(names) > most else [])


def probabilities(embeds: Array, found: dict[str, Array], activation: str) -> Array:
    """Probabilities [C] of a track whose crops have the embeddings [n,D]: the mean of unit embeddings, made a unit vector again."""
    z = embeds.astype(np.float64)
    z = (z / np.linalg.norm(z, axis=1, keepdims=True)).mean(0)
    scores = math.exp(float(found["logit_scale"][0])) * (found["text_embeds"].astype(np.float64) @ (z / np.linalg.norm(z)))
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-(scores + float(found["logit_bias"][0]))))
    scores = np.exp(scores - scores.max())
    return scores / scores.sum()


def write_reference(folder: Path, frames: list[tuple[str, Array, Array, Array]], about: dict) -> None:
    """Writes the index and the embeddings; ``frames``: image file relative to ``folder``, its pixels uint8 [h,w,3], those at the input's
    size, the image's embedding f32 [D] as the tower gives it."""
    entries = []
    for i, (image, pixels, resized, embedding) in enumerate(frames):
        file = f"{i:03d}_embeds.z"
        (folder / file).write_bytes(shuffled(embedding.astype(np.float32)))
        entries.append(dict(image=image, width=pixels.shape[1], height=pixels.shape[0],
                            resized_sha256=hashlib.sha256(resized.tobytes()).hexdigest(),
                            embeds=dict(file=file, shape=[len(embedding)])))
    (folder / "index.json").write_text(json.dumps({"schema": 1, **about, "frames": entries}, indent=1) + "\n", encoding="utf-8")
