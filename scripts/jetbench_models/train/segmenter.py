"""Trains the miniature VidEoMT from random weights: ``train videomt``.

Every step draws its clips anew: single frames first, then clips of three, six and twelve, over which the queries are carried as in use.
Short clips alone do not do: after those of three, tracks of 24 frames are worse than after single frames. An object takes a query on the
frame on which it is first seen, by the cheapest assignment among those that are free, and keeps it; where it is not visible, its query says
"no object" and its mask is empty. Seeded and step based; a run saves a checkpoint every few minutes and on SIGTERM, and the same command
continues from it.
"""
from __future__ import annotations

import functools
import json
import math
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from ..clips.boxes import SMALLEST
from ..clips.synth import TextureBank
from ..clips.tubes import Tubes, training_clip
from ..models import MEAN, STD, videomt, weights
from .optimise import Average

STEPS = 36000
PLAN = ((0.0, 1, 16), (0.3125, 3, 5), (0.5, 6, 3), (0.54, 12, 2))     # from this share of the steps on: frames per clip, clips per step
RATE, LAST_RATE = 2e-3, 2e-5
WARM, FALL = 100, 0.45    # steps over which the rate rises; last part of the run, over which it falls along a cosine
EASY, HARDER = 0.1, 0.25  # difficulty at the start, and the share of the steps over which it rises to 1
PAIRS, EVENTS = 0.4, 0.35
CLASS, MASK, DICE, AUXILIARY, GROUND = 2.0, 5.0, 5.0, 0.3, 1.0     # weights of the losses; the library's, and our own two
NOTHING = 0.3             # weight of the class "no object"
CLIP, WEIGHT_DECAY = 1.0, 0.02
BANK, RENEWED, DOTTED = 7, 100, 0.1    # seed of the first textures; steps after which others are drawn; share of dotted grounds
CHECKPOINT_SECONDS, LOG_STEPS = 120.0, 25


def rate_at(step: int, steps: int) -> float:
    """Learning rate of ``step``; it stands still for most of the run, so that until it falls the length of a run may be changed."""
    fallen = max(0.0, (step / steps - (1 - FALL)) / FALL)
    return (LAST_RATE + (RATE - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * fallen))) * min(1.0, (step + 1) / WARM)


@functools.lru_cache(maxsize=1)
def textures(number: int) -> TextureBank:
    """Those of ``RENEWED`` steps. Their seeds are far from the ones of held-out clips."""
    return TextureBank(BANK + number, dotted=DOTTED)


def draw_batch(seed: int, step: int, steps: int, bank: TextureBank, size: int = videomt.MINIATURE_SIZE, coarse: int = 3,
               plan: tuple[tuple[float, int, int], ...] = PLAN) -> list[Tubes]:
    """The clips of ``step``, a pure function of (seed, step): ``size`` pixels wide and high, their masks ``coarse`` times smaller."""
    rng = np.random.default_rng([seed, step])
    _, frames, clips = [row for row in plan if row[0] <= step / steps][-1]
    drawn: list[Tubes] = []
    while len(drawn) < clips:
        difficulty = min(1.0, EASY + (1 - EASY) * step / (HARDER * steps)) if rng.random() < 0.8 else float(rng.random())
        drawn.append(training_clip(rng, bank, frames, size, size // coarse, difficulty, PAIRS, EVENTS))
    return drawn


def as_input(clips: list[Tubes]) -> Tensor:
    """float32 [B,T,3,S,S], normalised."""
    pixels = torch.from_numpy(np.stack([clip.frames for clip in clips])).permute(0, 1, 4, 2, 3).float() / 255
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


class Trained(nn.Module):
    """The library's model with what only training needs: its answers after every block with queries, and a map of all objects."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.ground = nn.Linear(model.config.hidden_size, 1)

    def forward(self, pixels: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """[B,T,3,S,S] -> per frame: class logits [D,B,Q,C+1] and mask logits [D,B,Q,s,s] after each of D blocks, the last one first,
        and the logits of being on any object [B,s,s]."""
        model, (batch, frames) = self.model, pixels.shape[:2]
        start = len(model.layers) - model.config.num_blocks
        hidden = model.embeddings(pixels.flatten(0, 1))
        for layer in model.layers[:start]:
            hidden = layer(hidden)
        hidden = hidden.unflatten(0, (batch, frames))
        learnt = model.query.weight.expand(batch, -1, -1)
        queries, answers = learnt, []
        for t in range(frames):
            tokens, states = torch.cat([queries, hidden[:, t]], 1), []
            for layer in model.layers[start:]:
                tokens = layer(tokens)
                states.append(tokens[:, :learnt.shape[1]])
            queries = learnt + model.query_updater(states[-1])
            of_blocks = model.layernorm(torch.stack(states[::-1]))
            patches = model.layernorm(tokens)[:, learnt.shape[1] + model.embeddings.num_prefix_tokens:]
            features = model.upscale_block(patches.transpose(1, 2).unflatten(2, model.grid_size))
            masks = (model.mask_head(of_blocks) @ features.flatten(2)).unflatten(-1, features.shape[-2:])
            ground = self.ground(features.permute(0, 2, 3, 1)).squeeze(-1)
            answers.append((model.class_predictor(of_blocks), masks, ground))
        return answers


def dice(logits: Tensor, wanted: Tensor) -> Tensor:
    """1 - Dice of each pair of maps [..., s*s]."""
    shares = logits.sigmoid()
    return 1 - (2 * (shares * wanted).sum(-1) + 1) / (shares.sum(-1) + wanted.sum(-1) + 1)


@torch.no_grad()
def assign(classes: Tensor, masks: Tensor, labels: Tensor, wanted: Tensor) -> list[tuple[int, int]]:
    """Cheapest (query, object) pairs: classes [Q,C+1], masks [Q,P], labels [n], wanted [n,P]."""
    bce = (F.softplus(masks).sum(-1)[:, None] - masks @ wanted.T) / masks.shape[-1]
    shares = masks.sigmoid()
    overlap = 1 - (2 * shares @ wanted.T + 1) / (shares.sum(-1)[:, None] + wanted.sum(-1) + 1)
    cost = MASK * bce + DICE * overlap - CLASS * classes.softmax(-1)[:, labels]
    rows, columns = linear_sum_assignment(cost.numpy())
    return list(zip(rows.tolist(), columns.tolist()))


def clip_loss(answers: list[tuple[Tensor, Tensor, Tensor]], clips: list[Tubes]) -> tuple[Tensor, dict[str, float]]:
    """Loss of a batch, and what to log."""
    nothing = answers[0][0].shape[-1] - 1
    class_weight = torch.ones(nothing + 1)
    class_weight[nothing] = NOTHING
    totals = {name: torch.zeros(()) for name in ("class", "mask", "dice", "empty", "ground")}
    overlaps: list[float] = []
    owners: list[dict[int, int]] = [{} for _ in clips]        # object -> query
    for t, (classes, masks, ground) in enumerate(answers):
        depth, batch, queries = classes.shape[:3]
        target = torch.full((batch, queries), nothing)
        flat = masks.flatten(-2)
        rows, wanted, gone = [], [], []
        for b, clip in enumerate(clips):
            shares = torch.from_numpy(clip.masks[:, t]).flatten(1)
            areas, owner = shares.mean(1), owners[b]
            free = [q for q in range(queries) if q not in owner.values()]
            new = [i for i in range(len(shares)) if i not in owner and areas[i] >= SMALLEST]
            if new and free:
                chosen = assign(classes[0, b, free].detach(), flat[0, b, free].detach(), torch.from_numpy(clip.labels[new]), shares[new])
                owner.update({new[n]: free[q] for q, n in chosen})
            for i, q in owner.items():
                if areas[i] >= SMALLEST:
                    target[b, q] = int(clip.labels[i])
                    rows.append((b, q))
                    wanted.append(shares[i])
                elif areas[i] > 0:
                    target[b, q] = -100
                else:
                    gone.append((b, q))
            of_ground = F.binary_cross_entropy_with_logits(ground[b].flatten(), shares.sum(0).clamp(max=1))
            totals["ground"] = totals["ground"] + of_ground / batch
        depth_weight = torch.tensor([1.0] + [AUXILIARY] * (depth - 1))
        of_class = F.cross_entropy(classes.flatten(0, 2), target.expand(depth, -1, -1).flatten(), class_weight, reduction="none",
                                   ignore_index=-100).unflatten(0, (depth, -1)).sum(1)
        norm = class_weight[target.clamp(min=0)].where(target >= 0, torch.zeros(())).sum()
        totals["class"] = totals["class"] + (of_class / norm * depth_weight).sum()
        if rows:
            b, q = torch.tensor(rows).T
            picked, truth = flat[:, b, q], torch.stack(wanted)
            bce = F.binary_cross_entropy_with_logits(picked, truth.expand_as(picked), reduction="none").mean(-1)
            totals["mask"] = totals["mask"] + (bce.mean(1) * depth_weight).sum()
            totals["dice"] = totals["dice"] + (dice(picked, truth).mean(1) * depth_weight).sum()
            with torch.no_grad():
                found, true = picked[0] > 0, truth > 0.5
                overlaps += ((found & true).sum(1) / (found | true).sum(1).clamp(min=1)).tolist()
        if gone:
            b, q = torch.tensor(gone).T
            totals["empty"] = totals["empty"] + F.softplus(flat[0, b, q]).mean()
    totals = {name: value / len(answers) for name, value in totals.items()}
    loss = CLASS * totals["class"] + MASK * (totals["mask"] + totals["empty"]) + DICE * totals["dice"] + GROUND * totals["ground"]
    logged = {name: float(value.detach()) for name, value in totals.items()}
    return loss, dict(logged, iou=float(np.mean(overlaps)) if overlaps else 0.0)


SPECIAL = ("query.", "position", "token", "ground", "class_predictor")


def optimisers_of(model: nn.Module, special_names: tuple[str, ...] = SPECIAL) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the network, AdamW for all else, and for what has one of the special names in its own."""
    matrices, decayed, plain = [], [], []
    for name, parameter in model.named_parameters():
        special = parameter.ndim < 2 or any(word in name for word in special_names)
        if special:
            plain.append(parameter)
        elif parameter.ndim == 2:
            matrices.append(parameter)
        else:
            decayed.append(parameter)
    return [torch.optim.AdamW([dict(params=decayed, weight_decay=WEIGHT_DECAY), dict(params=plain, weight_decay=0.0)],
                              betas=(0.9, 0.99), fused=True),
            torch.optim.Muon(matrices, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw")]


class Run:
    """State of one training run and its files under ``out``. Another model's run says what it trains, and its loss."""

    family, size = videomt.FAMILY, videomt.MINIATURE_SIZE
    special_names: tuple[str, ...] = SPECIAL

    def __init__(self, out: Path, seed: int, steps: int):
        self.out, self.seed, self.steps = out, seed, steps
        self.step, self.cpu, self.stop = 0, 0.0, False
        self.trained = self.start().train()
        self.optimisers = optimisers_of(self.trained, self.special_names)
        self.average = Average(self.trained.model.state_dict())

    def start(self) -> nn.Module:
        """What is trained: a module whose ``model`` is kept as the result."""
        return Trained(videomt.build(self.seed))

    def loss(self) -> tuple[Tensor, dict[str, float]]:
        """Loss of this step's clips, and what to log."""
        clips = draw_batch(self.seed, self.step, self.steps, textures(self.step // RENEWED))
        return clip_loss(self.trained(as_input(clips)), clips)

    def save_weights(self, name: str) -> None:
        weights.save(self.out / f"{name}.safetensors", self.average.state, self.family, self.size,
                     f"seed {self.seed}, step {self.step} of {self.steps}, {self.cpu:.0f} s of CPU time")

    def save_checkpoint(self) -> None:
        state = dict(step=self.step, cpu=self.cpu, model=self.trained.state_dict(), average=self.average.state,
                     optimisers=[one.state_dict() for one in self.optimisers])
        temporary = self.out / "checkpoint.tmp"
        torch.save(state, temporary)
        temporary.replace(self.out / "checkpoint.pt")
        self.save_weights("latest")

    def resume(self) -> bool:
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return False
        state = torch.load(path, weights_only=True)
        self.trained.load_state_dict(state["model"])
        for one, kept in zip(self.optimisers, state["optimisers"], strict=True):
            one.load_state_dict(kept)
        self.average = Average(state["average"])
        self.step, self.cpu = state["step"], state["cpu"]
        return True

    def update(self) -> tuple[dict[str, float], bool]:
        """One step: what to log, and whether the gradient was finite; where it was not, nothing changes."""
        loss, logged = self.loss()
        for one in self.optimisers:
            one.zero_grad(set_to_none=True)
        loss.backward()
        good = bool(torch.isfinite(torch.nn.utils.clip_grad_norm_(self.trained.parameters(), CLIP)))
        for one in self.optimisers if good else []:
            for group in one.param_groups:
                group["lr"] = rate_at(self.step, self.steps)
            one.step()
        self.step += 1
        self.average.update(self.trained.model, self.step)
        return dict(logged, loss=float(loss.detach())), good

    def log(self, record: dict) -> None:
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        print(json.dumps(record), file=sys.stderr, flush=True)

    def train(self) -> bool:
        """Runs the remaining steps; False if it was asked to stop."""
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stop", True))
        saved, cpu = time.monotonic(), time.process_time()
        rows: list[dict[str, float]] = []
        skipped = 0
        while self.step < self.steps and not self.stop:
            row, good = self.update()
            rows.append(row)
            skipped += not good
            spent, cpu = time.process_time() - cpu, time.process_time()
            self.cpu += spent
            if self.step % LOG_STEPS == 0 or self.step == self.steps:
                means = {name: round(float(np.mean([r[name] for r in rows])), 4) for name in rows[0]}
                self.log(dict(step=self.step, steps=self.steps, cpu=round(self.cpu, 1), skipped=skipped, **means))
                rows = []
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                self.save_checkpoint()
                saved = time.monotonic()
        self.save_checkpoint()
        if not self.stop:
            self.save_weights("final")
        return not self.stop
