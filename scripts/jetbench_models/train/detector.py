"""Trains the miniature D-FINE from random weights: ``train dfine``.

Every step draws its frames anew, so no frame is seen twice; their textures and colours get harder over the first part of the
run. The loss is the library's own (varifocal, box distances, refined distributions, denoising). Seeded and step based; a
run saves a checkpoint every few minutes and on SIGTERM, and the same command continues from it.
"""
from __future__ import annotations

import functools
import importlib
import json
import math
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..clips.boxes import training_frame
from ..clips.synth import TextureBank
from ..models import detector, weights
from .optimise import Average

STEPS = 5500
BATCH, WEIGHT_DECAY, CLIP = 16, 1e-4, 0.1
RATE, LAST_RATE = 1e-3, 1e-5
WARM, FALL = 100, 0.3     # steps over which the rate rises; last part of the run, over which it falls along a cosine
EASY, HARDER = 0.1, 600   # difficulty at the start, and the steps over which it rises to 1
SMALL, GROWN = 192, 1000  # input side of the first steps, in pixels: half the work; and how many they are
PAIRS, SINGLE = 0.35, 0.25  # shares of frames with look-alikes, and with one object
DOTTED = 0.35             # share of grounds with dots, which look like flat round objects
BANK, RENEWED = 7, 100    # textures of the first steps; after so many steps others are drawn, so that none is learnt by heart
CHECKPOINT_SECONDS, LOG_STEPS = 150.0, 25
Batch = tuple[torch.Tensor, list[dict[str, torch.Tensor]]]


def rate_at(step: int, steps: int) -> float:
    """Learning rate of ``step``. It stands still for most of the run, so that until it falls the length of a run may be changed."""
    fallen = max(0.0, (step / steps - (1 - FALL)) / FALL)
    return (LAST_RATE + (RATE - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * fallen))) * min(1.0, (step + 1) / WARM)


def draw_batch(seed: int, step: int, bank: TextureBank) -> Batch:
    """Images float32 [BATCH,3,S,S] in 0..1 and what the library's loss wants of each: boxes (cx, cy, w, h) and classes."""
    rng = np.random.default_rng([seed, step])
    difficulty, size = min(1.0, EASY + (1 - EASY) * step / HARDER), SMALL if step < GROWN else detector.MINIATURE_SIZE
    images: list[np.ndarray] = []
    targets: list[dict[str, torch.Tensor]] = []
    while len(images) < BATCH:
        level = difficulty if rng.random() < 0.8 else float(rng.random())
        drawn = training_frame(rng, bank, size, level, PAIRS, SINGLE)
        low, high = drawn.boxes[:, :2], drawn.boxes[:, 2:]
        images.append(drawn.image[..., rng.permutation(3)])
        targets.append(dict(class_labels=torch.zeros(len(low), dtype=torch.long),
                            boxes=torch.from_numpy(np.concatenate([(low + high) / 2, high - low], 1))))
        if len(images) == BATCH and not any(len(t["boxes"]) for t in targets):      # the denoising group would be None
            images, targets = [], []
    # permuted and not copied: channels last in memory, with which the convolutions are a quarter faster
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255, targets


@functools.lru_cache(maxsize=1)
def textures(number: int) -> TextureBank:
    """Those of ``RENEWED`` steps. Their seeds are far from the ones of held-out frames."""
    return TextureBank(BANK + number, dotted=DOTTED)


def optimiser_of(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW; only matrices and kernels decay."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [dict(params=[p for p in trained if p.ndim > 1], weight_decay=WEIGHT_DECAY),
              dict(params=[p for p in trained if p.ndim < 2], weight_decay=0.0)]
    return torch.optim.AdamW(groups, betas=(0.9, 0.999), fused=True)


class Run:
    """State of one training run and its files under ``out``."""

    def __init__(self, out: Path, seed: int, steps: int):
        importlib.import_module("scipy.optimize")      # the library's matcher needs it, and says so only in the first step
        self.out, self.seed, self.steps = out, seed, steps
        self.step, self.cpu, self.stop = 0, 0.0, False
        self.model = detector.build(seed).train().to(memory_format=torch.channels_last)
        self.optimiser = optimiser_of(self.model)
        self.average = Average(self.model.state_dict())

    def save_weights(self, name: str) -> None:
        weights.save(self.out / f"{name}.safetensors", self.average.state, "dfine", detector.MINIATURE_SIZE,
                     f"seed {self.seed}, step {self.step} of {self.steps}, {self.cpu:.0f} s of CPU time")

    def save_checkpoint(self) -> None:
        state = dict(step=self.step, cpu=self.cpu, model=self.model.state_dict(), average=self.average.state,
                     optimiser=self.optimiser.state_dict())
        temporary = self.out / "checkpoint.tmp"
        torch.save(state, temporary)
        temporary.replace(self.out / "checkpoint.pt")
        self.save_weights("latest")

    def resume(self) -> bool:
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return False
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average = Average(state["average"])
        self.step, self.cpu = state["step"], state["cpu"]
        return True

    def update(self) -> tuple[float, bool]:
        """One step: its loss, and whether the gradient was finite; where it was not, nothing changes."""
        torch.manual_seed(self.seed * 1_000_003 + self.step)       # noise of the denoising queries
        images, targets = draw_batch(self.seed, self.step, textures(self.step // RENEWED))
        loss = self.model(images, labels=targets).loss
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        good = bool(torch.isfinite(torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)))
        if good:
            for group in self.optimiser.param_groups:
                group["lr"] = rate_at(self.step, self.steps)
            self.optimiser.step()
        self.step += 1
        self.average.update(self.model, self.step)
        return float(loss.detach()), good

    def log(self, record: dict) -> None:
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        print(json.dumps(record), file=sys.stderr, flush=True)

    def train(self) -> bool:
        """Runs the remaining steps; False if it was asked to stop."""
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stop", True))
        saved, started, cpu = time.monotonic(), time.monotonic(), time.process_time()
        losses: list[float] = []
        skipped = 0
        while self.step < self.steps and not self.stop:
            loss, good = self.update()
            losses.append(loss)
            skipped += not good
            spent, cpu = time.process_time() - cpu, time.process_time()
            self.cpu += spent
            if self.step % LOG_STEPS == 0 or self.step == self.steps:
                self.log(dict(step=self.step, steps=self.steps, cpu=round(self.cpu, 1), loss=round(float(np.mean(losses)), 3),
                              pace=round((time.monotonic() - started) / len(losses), 3), skipped=skipped))
                started, losses = time.monotonic(), []
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                self.save_checkpoint()
                saved = time.monotonic()
        self.save_checkpoint()
        if not self.stop:
            self.save_weights("final")
        return not self.stop
