"""The model of transformers that a pack is compared with, run now instead of read from stored references."""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..export.detector import answer
from ..models import detector as models
from ..models import released
from ..models.session import run_session
from ..pack.detections import Answer
from ..pack.reference import Expected

Array = np.ndarray


def load(path: Path, name: str | None, size: int, threads: int) -> nn.Module:
    """The model of a checkpoint; ``name`` and ``size`` as for ``released.load``."""
    torch.set_num_threads(threads)
    return released.load(path, name, size).model


def detector(path: Path, name: str | None, size: int, threads: int) -> Callable[[Array], Answer]:
    """What the detector of a checkpoint says about a frame; ``name`` and ``size`` as for ``models.detector.load``."""
    torch.set_num_threads(threads)
    return partial(answer, models.load(path, name, None if path.suffix == ".safetensors" else size).model)


def rerun(model: nn.Module, clips: list[tuple[Array, list[Expected]]],
                 official: bool = False) -> list[tuple[Array, list[Expected]]]:
    """The same tracks as in ``clips``, from a session that runs now; ``official``: see ``session.run_session``."""
    found = []
    for frames, tracks in clips:
        references = run_session(model, frames, [t.prompt for t in tracks], official)
        found.append((frames, [Expected(t.clip, t.object, t.prompt, r.low_res, r.object_score, r.obj_ptr, r.masks, r.chosen)
                               for t, r in zip(tracks, references)]))
    return found


def spread(model: nn.Module, clips: list[tuple[Array, list[Expected]]], official: bool = False) -> list[str]:
    """How far the session is from itself when its convolutions run in other kernels (oneDNN off): no comparison with it
    can be tighter. SAM 2 keeps memories as bfloat16, where a value that lies on a rounding tie falls to either side."""
    lines = ["| clip | object | prompt | mask logits | object score | pointer |", "|---|---|---|---|---|---|"]
    with torch.backends.mkldnn.flags(enabled=False):
        for frames, tracks in clips:
            for t, r in zip(tracks, run_session(model, frames, [t.prompt for t in tracks], official)):
                lines.append(f"| {t.clip} | {t.object} | {t.prompt.kind} | {np.abs(r.low_res - t.low_res).max():.1e} | "
                             f"{np.abs(r.object_score - t.object_score).max():.1e} | {np.abs(r.obj_ptr - t.obj_ptr).max():.1e} |")
    return lines
