"""References of random weights that show something: the object is there on the prompted frame and comes and goes after it.

Random weights see no objects. Their object score has one sign from start to end; where it is negative the mask and the
pointer are constants, so that a click and a box on such a frame give one track, bit for bit. Two things are changed until the
reference shows enough (``limits.lacks``), both in the last layer of the object score and both written into the pack's notes: its
sign, which is as random as that of any weight, and its bias.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..clips import KINDS
from ..command import Refused, progress
from ..models.session import Reference
from ..pack.limits import LEAST_WITH, LEAST_WITHOUT, lacks
from .golden import Clip, object_prompts, run_clips

CERTAIN = 50.0        # added to the bias: above every score of random weights, so that the object is there on every frame
ATTEMPTS = 8


@dataclass(frozen=True)
class Balance:
    """What was done to the last layer of the object score."""

    shift: float
    negated: bool = False

    def words(self) -> str:
        sign = "its weights were negated and " if self.negated else ""
        return f"{sign}its bias was moved by {self.shift:.4f}"


@torch.no_grad()
def apply(model: nn.Module, balance: Balance) -> None:
    """Changes the last layer of the object score; the shift comes after the change of sign."""
    last = model.mask_decoder.pred_obj_score_head.proj_out
    if balance.negated:
        last.weight.neg_()
        last.bias.neg_()
    last.bias.add_(balance.shift)


def choose(scores: Sequence[tuple[str, np.ndarray]]) -> tuple[float, float] | None:
    """(threshold, distance to the nearest score) for tracks of (kind of prompt, score per frame): prompted frames lie above it, and
    every kind has enough frames on either side. The one farthest from all scores; None if there is none.

    On the frame of a mask prompt the score is a constant, which says nothing.
    """
    values = np.unique(np.concatenate([s[kind == "mask":] for kind, s in scores]))
    found: list[tuple[float, float]] = []
    for threshold, gap in zip((values[1:] + values[:-1]) / 2, np.diff(values) / 2):
        tracked: dict[str, list[np.ndarray]] = {}
        for kind, s in scores:
            tracked.setdefault(kind, []).append(s[1:] > threshold)
        there = [np.concatenate(rows) for rows in tracked.values()]
        if (all(s[0] > threshold for kind, s in scores if kind != "mask")
                and all(t.sum() >= LEAST_WITH and (~t).sum() >= LEAST_WITHOUT for t in there)):
            found.append((float(threshold), float(gap)))
    return max(found, key=lambda f: f[1]) if found else None


def balance_presence(model: nn.Module, clips: list[Clip], kinds: tuple[str, ...] = KINDS, official: bool = False,
                     features: dict[str, dict] | None = None) -> tuple[Balance, list[list[Reference]]]:
    """Changes the object score until the references of ``clips`` show enough; what was done, and those references.

    The first run has the object on every frame. A threshold between its scores takes it from some, whose memories then
    move the scores of later ones: the search goes on from there. ``features``: see ``run_session``; they stay the same.
    """
    names = [[f"{clip.name} object {number}" for number, _ in object_prompts(clip, kinds)] for clip in clips]
    of_kind = [[prompt.kind for _, prompt in object_prompts(clip, kinds)] for clip in clips]
    done = Balance(CERTAIN)
    apply(model, done)
    tried: set[Balance] = set()
    for attempt in range(1, ATTEMPTS + 1):
        progress.stage = f"object score, attempt {attempt} of at most {ATTEMPTS}"
        references = run_clips(model, clips, kinds, official, features)
        tracks = [(name, kind, r) for row, kind_row, found in zip(names, of_kind, references)
                  for name, kind, r in zip(row, kind_row, found)]
        missing = lacks(tracks, kinds)
        if not missing:
            return done, references
        options: list[tuple[float, Balance, Balance]] = []         # distance to the nearest score, change, all changes so far
        for sign in (1, -1):
            picked = choose([(kind, sign * r.object_score) for _, kind, r in tracks])
            if picked:
                change = Balance(round(-picked[0], 4), sign < 0)
                total = Balance(round(sign * done.shift + change.shift, 4), done.negated != change.negated)
                options += [(picked[1], change, total)] if total not in tried else []
        if not options:
            break
        _, change, done = max(options, key=lambda option: option[0])
        apply(model, change)
        tried.add(done)
    raise Refused(f"the object score cannot be balanced on this clip: {'; '.join(missing)}; take another --seed or --clip-seed")
