"""Training batches, drawn ahead of the trainer in a process of its own.

The batch of step i is a pure function of (seed, stage, i): a resumed run continues with exactly the batches that an
uninterrupted one would have seen. This module must not import torch, so that the drawing process stays small.
"""
from __future__ import annotations

import multiprocessing as mp
from dataclasses import dataclass

import numpy as np

from ..clips.synth import Batch, TextureBank, make_batch

TRAINING_BANK = 7     # seed of the textures seen in training


@dataclass(frozen=True)
class BatchPlan:
    """What a stage's batches look like; ``mix`` holds (frames, clips, objects per clip) and is cycled through."""

    size: int
    steps: int
    mix: tuple[tuple[int, int, int], ...]
    difficulty: tuple[float, float] = (1.0, 1.0)     # at the first and the last step
    pairs: float = 0.0                               # share of clips with separated look-alikes
    events: float = 0.0                              # chance per object of being absent for a while


def generator(seed: int, stage: int, step: int, stream: int) -> np.random.Generator:
    """Independent random stream of one training step."""
    return np.random.default_rng([seed, stage, step, stream])


def draw(plan: BatchPlan, seed: int, stage: int, step: int, bank: TextureBank) -> Batch:
    frames, clips, per_clip = plan.mix[step % len(plan.mix)]
    low, high = plan.difficulty
    return make_batch(generator(seed, stage, step, 0), clips=clips, frames=frames, size=plan.size, per_clip=per_clip,
                      bank=bank, difficulty=low + (high - low) * step / plan.steps, pairs=plan.pairs,
                      events=plan.events)


def _produce(queue: mp.Queue, plan: BatchPlan, seed: int, stage: int, start: int) -> None:
    bank = TextureBank(TRAINING_BANK)
    for step in range(start, plan.steps):
        queue.put(draw(plan, seed, stage, step, bank))


class Feed:
    """Context manager that yields the batches ``start`` .. ``plan.steps - 1`` of a stage, in order."""

    def __init__(self, plan: BatchPlan, seed: int, stage: int, start: int, ahead: int = 6):
        context = mp.get_context("spawn")
        self._queue = context.Queue(ahead)
        self._process = context.Process(target=_produce, args=(self._queue, plan, seed, stage, start), daemon=True)

    def __enter__(self) -> Feed:
        self._process.start()
        return self

    def next(self) -> Batch:
        return self._queue.get(timeout=300)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()
