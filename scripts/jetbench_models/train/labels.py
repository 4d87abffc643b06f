"""Trains the miniature label model: ``train labels``. Shapes are drawn once and seen turned, mirrored, shifted and in other colours;
the loss is the cross-entropy of the cosines to the class vectors, which are free parameters. Seeded and step based; 4 minutes of CPU.
"""
from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ..clips import shapes
from ..clips.synth import TextureBank
from ..models import label_mini, weights
from .optimise import Average

STEPS, BATCH = 2250, 96
SHAPES = 14_000           # drawn
MARGIN = 3                # pixels that a crop may be shifted
RATE, WEIGHT_DECAY, WARM = 4e-3, 1e-2, 100
BANK, HELD_OUT, HELD_OUT_COUNT = 7, 670_000, 2000        # textures of training; seed and number of held-out shapes, with other textures
LOG_STEPS = 100
FILL = (round(255 * label_mini.MEAN[0]),) * 3


def drawn(seed: int, bank: int, count: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    crops, labels = shapes.crops(np.random.default_rng(seed), TextureBank(bank), count, size, FILL)
    return torch.from_numpy(crops), torch.from_numpy(labels)


def seen(crops: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """A batch of crops [n,S,S,3] as it is shown: shifted, turned, mirrored, in other colours and brightness; normalised."""
    crops = F.pad(crops, (0, 0, *(MARGIN,) * 4), value=FILL[0])
    top, left = (int(n) for n in rng.integers(0, 2 * MARGIN + 1, 2))
    crops = crops[:, top:top + label_mini.SIZE, left:left + label_mini.SIZE][..., rng.permutation(3)]
    crops = torch.rot90(crops, int(rng.integers(0, 4)), (1, 2))
    crops = crops.flip(1) if rng.random() < 0.5 else crops
    gain, lift = rng.uniform(0.8, 1.2), rng.uniform(-0.3, 0.3)
    return label_mini.normalised(crops) * float(gain) + float(lift)


@torch.no_grad()
def accuracy(model: label_mini.LabelMini, crops: torch.Tensor, labels: torch.Tensor) -> tuple[float, np.ndarray]:
    """(share of crops uint8 [n,S,S,3] that get their class, counts [class, class said])"""
    said = model.eval()(label_mini.normalised(crops)).argmax(1)
    table = np.zeros((len(shapes.CLASSES),) * 2, int)
    np.add.at(table, (labels.numpy(), said.numpy()), 1)
    return float((said == labels).float().mean()), table


def train(out: Path, seed: int, steps: int) -> bool:
    """Trains, judges on held-out shapes and writes ``final.safetensors``."""
    began = time.process_time()
    torch.manual_seed(seed)
    crops, labels = drawn(seed, BANK, SHAPES, label_mini.SIZE)
    model = label_mini.LabelMini(len(shapes.CLASSES)).to(memory_format=torch.channels_last)
    average = Average(model.state_dict())
    optimiser = torch.optim.AdamW(model.parameters(), RATE, weight_decay=WEIGHT_DECAY, fused=True)
    rng, losses = np.random.default_rng([seed, 1]), []
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARM) * 0.5 * (1 + np.cos(np.pi * step / steps))
        chosen = torch.from_numpy(rng.integers(0, len(crops), BATCH))
        loss = F.cross_entropy(model.train()(seen(crops[chosen], rng)), labels[chosen])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        average.update(model, step + 1)
        losses.append(float(loss.detach()))
        if (step + 1) % LOG_STEPS == 0 or step + 1 == steps:
            record = dict(step=step + 1, steps=steps, cpu=round(time.process_time() - began, 1), loss=round(float(np.mean(losses)), 4))
            print(json.dumps(record), file=sys.stderr, flush=True)
            losses = []
    model.load_state_dict(average.state)
    share, table = accuracy(model, *drawn(HELD_OUT, HELD_OUT + 5, HELD_OUT_COUNT, label_mini.SIZE))
    cpu = time.process_time() - began
    print(f"held-out shapes: {share:.2%} of {HELD_OUT_COUNT} get their class; rows: truth, columns: said, "
          f"{', '.join(shapes.CLASSES)}\n{table}\n{cpu:.0f} s of CPU", flush=True)
    weights.save(out / "final.safetensors", model.state_dict(), label_mini.ARCH, label_mini.SIZE,
                 f"seed {seed}, {steps} steps, {cpu:.0f} s of CPU time", classes=",".join(shapes.CLASSES))
    return True
