"""Trains one miniature model from random weights to final weights: ``train sam2``, then ``train edgetam``; ``train dfine``;
``train videomt``; ``train dvis``; or ``train labels``.

The SAM 2 model goes through a curriculum of stages (one frame, two frames, short clips at 128 px, then 256 px). The
EdgeTAM model starts from it: its convolutional encoder learns to reproduce the SAM 2 encoder's feature maps, the shared
modules are copied, the perceiver starts as a near identity, and the last stages are repeated. Everything is seeded and
step based. A run saves a checkpoint every few minutes and on SIGTERM; the same command continues from it. The detector
(``dfine``), the segmenters (``videomt``, ``dvis``) and the label model have schedules of their own: ``detector``, ``segmenter``, ``dvis``,
``labels``.
"""
from __future__ import annotations

import json
import math
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..clips.synth import Batch
from ..command import existing_file, not_negative, parser, positive
from ..models import miniature, weights
from . import detector, dvis, labels, segmenter
from .feed import BatchPlan, Feed, generator
from .losses import AuxiliaryHead, Meter, clip_loss
from .optimise import Average, tune_process
from .tracker import Tracker, normalise

FEW = ((1, 12, 3), (4, 5, 2))                  # (frames, clips, objects per clip)
LONG = ((1, 12, 3), (4, 5, 2), (8, 3, 2))
BOTH = ((1, 12, 3), (4, 5, 2), (1, 12, 3), (8, 3, 2))
CHECKPOINT_SECONDS, LATEST_SECONDS, LOG_STEPS = 150.0, 600.0, 50


@dataclass(frozen=True)
class Stage:
    """One row of the schedule. The learning rate falls from ``rate[0]`` to ``rate[1]`` along a cosine."""

    name: str
    plan: BatchPlan
    rate: tuple[float, float]
    warm: int = 40             # steps over which the rate rises at the start of the stage
    aux: float = 0.1           # weight of the auxiliary losses
    score: float = 1.5         # weight of the object score
    own_score: float = 0.0     # share of frames remembered with the predicted instead of the true presence
    distil: bool = False       # encoder distillation instead of clips


SCHEDULES: dict[str, tuple[Stage, ...]] = {
    "sam2": (
        Stage("point", BatchPlan(128, 500, ((1, 12, 3),), (0.05, 0.35)), (5e-4, 5e-4), warm=150, aux=0.5),
        Stage("pair", BatchPlan(128, 400, ((2, 8, 2),), (0.35, 0.6)), (5e-4, 4.8e-4), aux=0.5),
        Stage("track", BatchPlan(128, 1200, FEW, (0.6, 1.0), 0.1, 0.25), (4.8e-4, 4e-4), aux=0.2),
        Stage("mixed", BatchPlan(128, 1100, LONG, pairs=0.4, events=0.35), (4e-4, 2.5e-4), score=2.5, own_score=0.3),
        Stage("fine", BatchPlan(256, 415, BOTH, pairs=0.4, events=0.35), (2.5e-4, 2.4e-4), score=2.5, own_score=0.5),
        Stage("final", BatchPlan(256, 780, BOTH, pairs=0.4, events=0.35), (2.4e-4, 2e-6), warm=1, score=2.5,
              own_score=0.5),
    ),
    "edgetam": (
        Stage("distil", BatchPlan(128, 1600, ((1, 14, 1),)), (1.2e-3, 6e-5), distil=True),
        Stage("mixed", BatchPlan(128, 850, LONG, pairs=0.4, events=0.35), (4e-4, 2.5e-4), score=2.5, own_score=0.3),
        Stage("fine", BatchPlan(256, 270, BOTH, pairs=0.4, events=0.35), (2.5e-4, 2.4e-4), score=2.5, own_score=0.5),
        Stage("final", BatchPlan(256, 780, BOTH, pairs=0.4, events=0.35), (2.4e-4, 2e-6), warm=1, score=2.5,
              own_score=0.5),
    ),
}
TEACHER_STAGE = "track"    # the SAM 2 weights that EdgeTAM starts from: tracking works by then, at 128 px


def rate_at(stage: Stage, step: int) -> float:
    high, low = stage.rate
    cosine = 0.5 * (1 + math.cos(math.pi * step / stage.plan.steps))
    return (low + (high - low) * cosine) * min(1.0, (step + 1) / stage.warm)


class Optimiser:
    """Muon for the matrices inside the network, AdamW for all other parameters, one learning rate for both."""

    def __init__(self, model: nn.Module, head: nn.Module):
        matrices, decayed, plain = [], list(head.parameters()), []
        for name, parameter in model.named_parameters():
            # embeddings, and the decoder's attentions between tokens and image with their structured start
            special = any(word in name for word in ("embed", "token", "latents", "position"))
            if parameter.ndim < 2 or special:
                plain.append(parameter)
            elif parameter.ndim == 2 and min(parameter.shape) >= 16:
                matrices.append(parameter)
            else:
                decayed.append(parameter)
        self.parameters = matrices + decayed + plain
        self.parts = [torch.optim.AdamW([dict(params=decayed, weight_decay=0.02), dict(params=plain, weight_decay=0.0)],
                                        betas=(0.9, 0.99), fused=True),
                      torch.optim.Muon(matrices, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")]

    def step(self, loss: Tensor, rate: float) -> bool:
        """One update; returns False and changes nothing if the gradient is not finite."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, 2.0)
        if not torch.isfinite(norm):
            return False
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
        return True

    def state(self) -> list[dict]:
        return [part.state_dict() for part in self.parts]

    def restore(self, states: list[dict]) -> None:
        for part, state in zip(self.parts, states):
            part.load_state_dict(state)


def distillation_loss(student: Tracker, teacher: Tracker, frames: Tensor, meter: Meter) -> Tensor:
    """Mean squared error of the three feature maps, each relative to the variance of the teacher's map."""
    with torch.no_grad():
        wanted, _ = teacher.encode(frames)
    total = torch.zeros(())
    for stride, ours, theirs in zip((4, 8, 16), student.encode(frames)[0], wanted):
        spread = (theirs - theirs.mean((0, 2, 3), keepdim=True)).pow(2).mean()
        error = (ours - theirs).pow(2).mean() / spread
        meter.add(f"error{stride}", float(error.detach()))
        total = total + error
    return total


@torch.no_grad()
def inherit(model: nn.Module, teacher: nn.Module) -> None:
    """Copies every module that EdgeTAM shares with SAM 2 and makes the perceiver start as a near identity."""
    ours, theirs = model.state_dict(), teacher.state_dict()
    for name, value in ours.items():
        if name.startswith("vision_encoder"):
            continue
        if not name.startswith("spatial_perceiver"):
            if name.startswith("memory_attention"):
                value.copy_(theirs[name.replace("mlp.up_proj", "linear1").replace("mlp.down_proj", "linear2")])
            else:
                value.copy_(theirs[name])
        elif "latents" in name:
            value.copy_(0.1 * torch.randn_like(value))
        elif "cross_attention.v_proj" in name or "cross_attention.o_proj" in name:
            value.copy_(torch.eye(len(value)) + 0.05 * torch.randn_like(value))
        elif "down_proj" in name or "self_attention.o_proj" in name:
            value.mul_(0.2)


class Run:
    """State of one training run and its files under ``out``."""

    def __init__(self, arch: str, out: Path, seed: int, teacher: Path | None):
        self.arch, self.out, self.seed = arch, out, seed
        self.schedule = SCHEDULES[arch]
        self.stage, self.step, self.updates, self.cpu, self.stop = 0, 0, 0, 0.0, False
        self.teacher_path = teacher
        self.teacher: Tracker | None = None
        torch.manual_seed(seed)
        self.head = AuxiliaryHead()
        model = miniature.initialise(miniature.build(arch, self.schedule[0].plan.size))
        if teacher:
            inherit(model, weights.load(teacher)[0])
        self.average = Average(model.state_dict())
        self.adopt(model)

    def adopt(self, model: nn.Module) -> None:
        """Makes ``model`` the one that is trained."""
        self.model = model.train()
        if self.arch == "edgetam":      # its convolutions are faster channels-last
            model.vision_encoder.backbone.to(memory_format=torch.channels_last)
        self.tracker = Tracker(model, self.arch)
        self.optimiser = Optimiser(model, self.head)

    # ------------------------------------------------------------------------------------------------------- files
    def save_weights(self, name: str) -> None:
        note = f"stage {self.schedule[self.stage].name} step {self.step}"
        weights.save(self.out / f"{name}.safetensors", self.average.state, self.arch, self.tracker.size, note)
        self.model.config.save_pretrained(self.out)

    def save_checkpoint(self) -> None:
        state = dict(stage=self.stage, step=self.step, updates=self.updates, cpu=self.cpu, size=self.tracker.size,
                     model=self.model.state_dict(), average=self.average.state, head=self.head.state_dict(),
                     optimiser=self.optimiser.state())
        temporary = self.out / "checkpoint.tmp"
        torch.save(state, temporary)
        temporary.replace(self.out / "checkpoint.pt")

    def resume(self) -> bool:
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return False
        state = torch.load(path, weights_only=True)
        self.head.load_state_dict(state["head"])
        model = miniature.build(self.arch, state["size"])
        model.load_state_dict(state["model"])
        self.adopt(model)
        self.optimiser.restore(state["optimiser"])
        self.average = Average(state["average"])
        self.stage, self.step, self.updates, self.cpu = (state[k] for k in ("stage", "step", "updates", "cpu"))
        return True

    def log(self, record: dict) -> None:
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    # ---------------------------------------------------------------------------------------------------- training
    def enter(self, stage: Stage) -> None:
        """Changes the image size if the stage asks for it; optimiser statistics survive where shapes do."""
        size = stage.plan.size
        if size == self.tracker.size:
            return
        model = miniature.build(self.arch, size)
        model.load_state_dict(miniature.adapt(self.model.state_dict(), model))
        self.average = Average(miniature.adapt(self.average.state, model))
        old = self.optimiser
        self.adopt(model)
        for before, after in zip(old.parts, self.optimiser.parts):
            for p, q in zip((p for g in before.param_groups for p in g["params"]),
                            (q for g in after.param_groups for q in g["params"])):
                if p.shape == q.shape:
                    after.state[q] = before.state[p]

    def loss(self, stage: Stage, batch: Batch, meter: Meter) -> Tensor:
        if stage.distil:
            if self.teacher is None:
                if self.teacher_path is None:
                    raise ValueError(f"stage {stage.name} learns from a teacher, and there is none")
                self.teacher = Tracker(weights.load(self.teacher_path)[0], "sam2")
            frames = normalise(batch.frames.reshape(-1, *batch.frames.shape[2:]))
            return distillation_loss(self.tracker, self.teacher, frames, meter)
        return clip_loss(self.tracker, self.head, batch, generator(self.seed, self.stage, self.step, 1),
                         aux=stage.aux, score_weight=stage.score, own_score=stage.own_score, meter=meter)

    def train_stage(self) -> None:
        stage = self.schedule[self.stage]
        self.enter(stage)
        meter, logged, logged_step = Meter(), time.monotonic(), self.step
        checkpointed = published = logged
        cpu = time.process_time()
        with Feed(stage.plan, self.seed, self.stage, self.step) as feed:
            while self.step < stage.plan.steps and not self.stop:
                batch = feed.next()
                loss = self.loss(stage, batch, meter)
                meter.add("loss", float(loss.detach()))
                if not self.optimiser.step(loss, rate_at(stage, self.step)):
                    meter.add("skipped", 1.0)
                self.step += 1
                self.updates += 1
                self.average.update(self.model, self.updates)
                now = time.monotonic()
                if self.step % LOG_STEPS == 0 or self.step == stage.plan.steps:
                    self.cpu += time.process_time() - cpu
                    cpu = time.process_time()
                    pace = (now - logged) / (self.step - logged_step)
                    record = dict(stage=stage.name, step=self.step, steps=stage.plan.steps, cpu=round(self.cpu, 1),
                                  pace=round(pace, 3), rate=rate_at(stage, self.step), **meter.means())
                    self.log(record)
                    shown = {k: v for k, v in record.items() if k[0] in "Jle" or k.endswith(("tive", "stance"))}
                    left = (stage.plan.steps - self.step) * pace / 60
                    print(f"{self.arch} {stage.name} {self.step}/{stage.plan.steps} {pace:.2f} s/step, stage ends in "
                          f"{left:.0f} min, {shown}", file=sys.stderr, flush=True)
                    meter, logged, logged_step = Meter(), now, self.step
                if now - checkpointed > CHECKPOINT_SECONDS:
                    self.save_checkpoint()
                    checkpointed = now
                if now - published > LATEST_SECONDS:
                    self.save_weights("latest")
                    published = now
        self.cpu += time.process_time() - cpu

    def train(self) -> bool:
        """Runs the remaining stages; False if it was asked to stop."""
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stop", True))
        while self.stage < len(self.schedule):
            self.train_stage()
            if self.stop:
                self.save_checkpoint()
                return False
            self.save_weights(self.schedule[self.stage].name)
            self.save_weights("latest")
            self.stage, self.step = self.stage + 1, 0
            self.save_checkpoint()
        return True


def main(argv: list[str]) -> int:
    options = parser("train", __doc__)
    options.add_argument("arch", choices=(*miniature.ARCHITECTURES, "dfine", "videomt", "dvis", "labels"))
    options.add_argument("--out", type=Path, required=True, help="folder for weights, checkpoint and log")
    options.add_argument("--seed", type=not_negative, default=0)
    options.add_argument("--teacher", type=existing_file, help="SAM 2 weights that EdgeTAM starts from (default: train them "
                                                     "first, into a folder named sam2 beside --out)")
    options.add_argument("--steps", type=positive,
                         help="of dfine, videomt, dvis or labels, whose learning rates fall over them or the last part of them "
                              f"(default: {detector.STEPS}, {segmenter.STEPS}, {dvis.STEPS}, {labels.STEPS})")
    args = options.parse_args(argv)
    tune_process()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.arch == "labels":
        return 0 if labels.train(args.out, args.seed, args.steps or labels.STEPS) else 130
    if args.arch in ("dfine", "videomt", "dvis"):
        schedule = dict(dfine=detector, videomt=segmenter, dvis=dvis)[args.arch]
        single = schedule.Run(args.out, args.seed, args.steps or schedule.STEPS)
        if single.resume():
            print(f"continuing at step {single.step}", file=sys.stderr)
        return 0 if single.train() else 130
    teacher = None
    if args.arch == "edgetam":
        teacher = args.teacher or args.out.parent / "sam2" / f"{TEACHER_STAGE}.safetensors"
        if not teacher.exists():
            first = Run("sam2", teacher.parent, args.seed, None)
            first.out.mkdir(parents=True, exist_ok=True)
            first.resume()
            if not first.train():
                return 130
    run = Run(args.arch, args.out, args.seed, teacher)
    if run.resume():
        print(f"continuing at stage {run.stage}, step {run.step}", file=sys.stderr)
    return 0 if run.train() else 130
