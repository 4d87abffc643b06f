"""Training losses: the tracker is run over a batch of clips and every frame is compared with its ground truth.

Besides the usual losses of video segmentation (mask, predicted IoU, object score) there is a dense auxiliary head. The
decoder alone learns figure from ground long before it learns to listen to the prompt; asking the encoder for pixel
embeddings that tell objects apart, and the mask tokens to pick them, gets it past that plateau. The head is not saved.
"""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..clips.synth import Batch, Prompt
from ..models.miniature import HIDDEN
from .tracker import Memory, Tracker, normalise, resize

BCE, DICE, ALL_MASKS, IOU = 5.0, 1.0, 0.2, 0.5
SCORE_ABSENT, EMPTY_MASK = 2.0, 0.2
MASK_PROMPT = 0.5          # weight of the prompted frame where the prompt is the mask itself
SURE = 12 / 128 ** 2       # smallest share of the frame for which an object counts as clearly visible
FAR = 0.5                  # share of batches that pretend the prompt lies up to 40 frames further back


@dataclass
class Meter:
    """Sums of named values, averaged for the log."""

    sums: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float, weight: float = 1.0) -> None:
        entry = self.sums.setdefault(name, [0.0, 0.0])
        entry[0] += value * weight
        entry[1] += weight

    def means(self) -> dict[str, float]:
        return {name: round(total / max(weight, 1e-9), 4) for name, (total, weight) in sorted(self.sums.items())}


def mask_losses(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and dice loss [N, K] of logits [N, K, h, w] against soft targets of the same shape."""
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((-1, -2))
    p = logits.sigmoid()
    dice = 1 - (2 * (p * target).sum((-1, -2)) + 1) / (p.sum((-1, -2)) + target.sum((-1, -2)) + 1)
    return bce, dice


@dataclass
class FrameResult:
    loss: Tensor      # scalar
    chosen: Tensor    # int64 [N], the mask token that inference would use
    overlap: Tensor   # [N], IoU of that mask
    visible: Tensor   # [N], 1 where the object has any visible pixel


def frame_loss(masks: Tensor, iou: Tensor, score: Tensor, truth: Tensor, multi: Tensor, score_weight: float,
               meter: Meter) -> FrameResult:
    """Loss of one frame.

    Args:
        masks [N, 4, h, h], iou [N, 4], score [N, 1]: outputs of ``Tracker.decode``.
        truth: [N, S, S] of 0/1. multi: bool [N], whether tokens 1-3 (else token 0) give the mask.
        score_weight: weight of the object score's loss.
    """
    count, tokens, side = masks.shape[:3]
    size = truth.shape[-1]
    area = truth.sum((1, 2))
    visible = (area > 0).float()
    low = F.avg_pool2d(truth[:, None], size // side)
    bce, dice = mask_losses(masks, low.expand(-1, tokens, -1, -1))
    every = BCE * bce + DICE * dice
    rows = torch.arange(count)
    with torch.no_grad():
        guess, real = masks > 0, low > 0.5
        union = (guess | real).sum((-1, -2)).float()
        overlap = (guess & real).sum((-1, -2)).float() / union.clamp(min=1)
        first = torch.zeros(count, dtype=torch.long)
        best = torch.where(multi, every[:, 1:].argmin(1) + 1, first)
        chosen = torch.where(multi, iou[:, 1:].argmax(1) + 1, first)
    bce_best, dice_best = mask_losses(resize(masks[rows, best][:, None], size // 2), F.avg_pool2d(truth[:, None], 2))
    shape = (BCE * bce_best + DICE * dice_best)[:, 0] + ALL_MASKS * every.mean(1)
    seen = visible.sum().clamp(min=1)
    loss = (shape * visible).sum() / seen + IOU * ((iou - overlap).abs().mean(1) * visible).sum() / seen
    loss = loss + EMPTY_MASK * BCE * (bce.mean(1) * (1 - visible)).sum() / count
    sure = ((area == 0) | (area >= SURE * size ** 2)).float() * torch.where(area == 0, SCORE_ABSENT, 1.0)
    score_loss = (F.binary_cross_entropy_with_logits(score[:, 0], visible, reduction="none") * sure).mean()
    meter.add("score_loss", float(score_loss.detach()))
    absent = float((area == 0).sum())
    if absent:
        meter.add("absent_negative", float(((score[:, 0] <= 0) & (area == 0)).sum()) / absent, absent)
    meter.add("visible_positive", float(((score[:, 0] > 0) & (visible > 0)).sum()) / float(seen), float(seen))
    return FrameResult(loss + score_weight * score_loss, chosen, overlap[rows, chosen], visible)


class AuxiliaryHead(nn.Module):
    """Pixel embeddings from all three feature maps, and mask tokens projected onto them. Training only."""

    def __init__(self, width: int = 24, max_labels: int = 6):
        super().__init__()
        self.maps = nn.ModuleList([nn.Conv2d(c, width, 1) for c in (HIDDEN // 8, HIDDEN // 4, HIDDEN)])
        self.query = nn.Linear(HIDDEN, width + 1)
        self.width, self.max_labels = width, max_labels

    def embed(self, features: list[Tensor]) -> Tensor:
        """Features of B images -> embeddings [B, P, width] of the P stride-4 pixels."""
        side = features[0].shape[-1]
        dense = sum(resize(conv(f), side) for conv, f in zip(self.maps, features))
        return dense.flatten(2).transpose(1, 2)

    def instance_loss(self, embeddings: Tensor, labels: np.ndarray) -> Tensor:
        """Prototype cross-entropy: each pixel must be nearest to the mean of its own object, in its own frame and in
        frame 0. embeddings [B, T, P, width]; labels uint8 [B, T, S, S]."""
        batch, time, pixels, _ = embeddings.shape
        step = labels.shape[-1] // int(pixels ** 0.5)
        y = torch.from_numpy(labels[:, :, step // 2::step, step // 2::step].astype(np.int64)).reshape(batch, time, -1)
        member = F.one_hot(y, self.max_labels).float()
        size = member.sum(2)
        centre = torch.einsum("btpk,btpd->btkd", member, embeddings) / size.clamp(min=1)[..., None]
        balance = (member / size.clamp(min=1)[:, :, None]).sum(-1) / (size > 0).sum(-1)[..., None]
        references = [(centre, size)]
        if time > 1:
            references.append((centre[:, :1].expand(-1, time, -1, -1), size[:, :1].expand(-1, time, -1)))
        total = embeddings.new_zeros(())
        for point, present in references:
            logits = 2 * embeddings @ point.transpose(2, 3) - (point ** 2).sum(-1)[:, :, None]
            logits = logits.masked_fill((present == 0)[:, :, None], -1e4)
            known = torch.gather(present > 0, 2, y).float()
            entropy = F.cross_entropy(logits.reshape(-1, self.max_labels), y.reshape(-1), reduction="none")
            total = total + (entropy.view_as(balance) * balance * known).sum(-1).mean()
        return total / len(references)

    def token_loss(self, tokens: Tensor, embeddings: Tensor, truth: Tensor) -> Tensor:
        """The mask tokens [N, 4, C], projected onto embeddings [N, P, width], must give truth [N, S, S]."""
        side = int(embeddings.shape[1] ** 0.5)
        query = self.query(tokens)
        logits = query[..., :-1] @ embeddings.transpose(1, 2) * (2 / self.width ** 0.5) + query[..., -1:] - 1
        low = F.avg_pool2d(truth[:, None], truth.shape[-1] // side).expand(-1, tokens.shape[1], -1, -1)
        bce, dice = mask_losses(logits.view(*tokens.shape[:2], side, side), low)
        visible = (truth.sum((1, 2)) > 0).float()
        return ((BCE * bce + DICE * dice).mean(1) * visible).sum() / visible.sum().clamp(min=1)


def _clicks(prompts: list[Prompt]) -> tuple[Tensor, Tensor]:
    """Points [N, n, 2] and labels [N, n] of prompts with as many points each."""
    points, labels = (torch.from_numpy(np.stack(rows)) for rows in zip(*((p.points, p.labels) for p in prompts)))
    return points, labels.int()


def clip_loss(tracker: Tracker, head: AuxiliaryHead, batch: Batch, rng: np.random.Generator, *, aux: float,
              score_weight: float, own_score: float, meter: Meter) -> Tensor:
    """Loss of a batch of clips.

    Args:
        rng: decides per batch how far back the prompt pretends to be and per frame whose presence flag is believed.
        aux, score_weight: weights of the auxiliary losses and of the object score.
        own_score: chance per frame that the memory is written with the predicted instead of the true presence of the
            object, as in inference.
    """
    clips, time, size = batch.frames.shape[:3]
    count = len(batch.masks)
    owner = torch.arange(clips).repeat_interleave(count // clips)
    features, positions = tracker.encode(normalise(batch.frames.reshape(-1, size, size, 3)))
    embeddings = head.embed(features).unflatten(0, (clips, time))
    instance = head.instance_loss(embeddings, batch.labels)
    meter.add("instance", float(instance.detach()))
    features = [f.unflatten(0, (clips, time)) for f in features]
    truth = torch.from_numpy(batch.masks).float()

    # frame 0, one pass per kind of prompt
    start, start_truth = [f[:, 0][owner] for f in features], truth[:, 0]
    groups = {"one": ("point",), "corners": ("box", "two"), "mask": ("mask",)}
    total, shadow = torch.zeros(()), torch.zeros(())
    rows_seen, tokens_seen, masks_seen = [], [], []
    for group, kinds in groups.items():
        rows = torch.tensor([i for i, p in enumerate(batch.prompts) if p.kind in kinds], dtype=torch.long)
        if len(rows) == 0:
            continue
        fine, target, share = [start[0][rows], start[1][rows]], start_truth[rows], len(rows) / count
        if group == "mask":
            whole = target[:, None]
            out = tracker.decode(start[2][rows], fine, mask=tracker.model.mask_downsample(whole))
        else:
            out = tracker.decode(tracker.no_memory(start[2][rows]), fine, *_clicks([batch.prompts[i] for i in rows]))
        masks, iou, tokens, score = out
        multi = torch.full((len(rows),), group != "corners")
        result = frame_loss(masks, iou, score, target, multi, score_weight, meter)
        total = total + result.loss * share * (MASK_PROMPT if group == "mask" else 1.0)
        shadow = shadow + head.token_loss(tokens, embeddings[:, 0][owner][rows], target) * share
        each = torch.arange(len(rows))
        if group == "mask":
            masks_seen.append(whole)
        else:
            meter.add("J0", float(result.overlap.mean()), len(rows))
            soft = resize(masks[each, result.chosen][:, None], size).sigmoid()
            masks_seen.append(soft + ((soft > 0.5).float() - soft).detach())   # inference writes a hard mask here
        tokens_seen.append(tokens[each, result.chosen])
        rows_seen.append(rows)

    if time > 1:
        order = torch.cat(rows_seen).argsort()
        present = torch.ones(count, 1)
        prompted = tracker.memorise(start[2], torch.cat(masks_seen)[order], present)
        first_pointer = tracker.pointer(torch.cat(tokens_seen)[order], present)
        away = int(rng.integers(1, 41)) if rng.random() < FAR else 0
        every = torch.ones(count, dtype=torch.bool)
        recent: list[tuple[int, Memory]] = []
        pointers: list[tuple[int, Tensor]] = []
        for t in range(1, time):
            now, target = [f[:, t][owner] for f in features], truth[:, t]
            near = [(t - s, memory) for s, memory in recent if t - s < tracker.model.num_maskmem]
            known = [(t + away, first_pointer)] + [(t - s, p) for s, p in pointers]
            image = tracker.condition(now[2], positions, prompted, near, known)
            masks, iou, tokens, score = tracker.decode(image, now[:2])
            result = frame_loss(masks, iou, score, target, every, score_weight, meter)
            total = total + result.loss
            shadow = shadow + head.token_loss(tokens, embeddings[:, t][owner], target)
            seen = float(result.visible.sum())
            meter.add(f"J{t}", float((result.overlap * result.visible).sum()) / max(seen, 1.0), seen)
            if t == time - 1:
                break
            present = (score.detach() > 0).float() if rng.random() < own_score else result.visible[:, None]
            each = torch.arange(count)
            soft = resize(masks[each, result.chosen][:, None], size).sigmoid() * present[:, :, None, None]
            recent.append((t, tracker.memorise(now[2], soft, present)))
            pointers.append((t, tracker.pointer(tokens[each, result.chosen], present)))
    shadow = shadow / time
    meter.add("token", float(shadow.detach()))
    return total / time + aux * (instance + shadow)
