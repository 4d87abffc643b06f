"""Trains the miniature DVIS-DAQ from random weights: ``train dvis``.

Segmenter and tracker learn together, on the same clips as the miniature VidEoMT: single frames first, of which the tracker sees the first
frame of a clip, then clips of three and of six. A known track is told its object, or "no object" and an empty mask where that is away;
an object without a track is one new row's, the cheapest, and is tracked from there on. Tracks are lost now and then, so that their
objects have to be found again, and rows that wrongly look like objects are carried on, so that their end is learnt too.
"""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..clips.boxes import SMALLEST
from ..clips.tubes import Tubes
from ..models import dvis
from ..models.dvis_tracker import Seen, Track, Tracker, sureness
from . import segmenter
from .segmenter import AUXILIARY, CLASS, DICE, MASK, RENEWED, as_input, assign, dice, draw_batch, textures

STEPS = 5600
PLAN = ((0.0, 1, 16), (0.25, 3, 6), (0.6, 6, 3))      # from this share of the steps on: frames per clip, clips per step
NOTHING = 0.3             # weight of the class "no object"
LOST, NOISE = 0.25, 2     # chance per frame that a track is lost; most rows without an object that a frame makes tracks of
DOUBT = 0.3               # score above which they look like objects
KEPT = 0.8                # chance per frame that a track without an object goes on
IGNORED = -100            # class of rows of which nothing is wanted


@dataclass
class Wanted:
    """What is wanted of answers [B,n]: their classes, the masks [P] of some rows, (clip, row), and the rows whose mask is to be empty."""

    classes: Tensor
    rows: list[tuple[int, int]] = field(default_factory=list)
    masks: list[Tensor] = field(default_factory=list)
    gone: list[tuple[int, int]] = field(default_factory=list)

    def object(self, place: tuple[int, int], label: int, mask: Tensor) -> None:
        self.classes[place] = label
        self.rows.append(place)
        self.masks.append(mask)


def loss_of(classes: Tensor, masks: Tensor, wanted: Wanted) -> tuple[Tensor, list[float]]:
    """Loss of class logits [D,B,n,K+1] and mask logits [D,B,n,h,w] of D layers, the last one first; and the last layer's overlaps."""
    depth, nothing = len(classes), classes.shape[-1] - 1
    of_depth = torch.tensor([1.0] + [AUXILIARY] * (depth - 1))
    weight = torch.ones(nothing + 1)
    weight[nothing] = NOTHING
    target = wanted.classes.flatten()
    each = F.cross_entropy(classes.flatten(0, 2), target.repeat(depth), weight, reduction="none", ignore_index=IGNORED)
    norm = weight[target.clamp(min=0)].where(target >= 0, torch.zeros(())).sum().clamp(min=NOTHING)
    total = CLASS * (each.unflatten(0, (depth, -1)).sum(1) / norm * of_depth).sum()
    flat, overlaps = masks.flatten(-2), []
    if wanted.rows:
        b, row = torch.tensor(wanted.rows).T
        picked, truth = flat[:, b, row], torch.stack(wanted.masks)
        bce = F.binary_cross_entropy_with_logits(picked, truth.expand_as(picked), reduction="none").mean(-1)
        total = total + ((MASK * bce + DICE * dice(picked, truth)).mean(1) * of_depth).sum()
        with torch.no_grad():
            found, true = picked[0] > 0, truth > 0.5
            overlaps = ((found & true).sum(1) / (found | true).sum(1).clamp(min=1)).tolist()
    if wanted.gone:
        b, row = torch.tensor(wanted.gone).T
        total = total + MASK * F.softplus(flat[0, b, row]).mean()
    return total, overlaps


@dataclass
class Known:
    """A track of a training clip, and the object that it follows; none: it is a mistake."""

    track: Track
    owner: int | None


class Lesson:
    """Clips being followed as ``Following`` does, with the truth at hand: it says who lives. ``truth``: for each clip visible shares
    [n,T,P]."""

    def __init__(self, tracker: Tracker, clips: list[Tubes], rng: np.random.Generator):
        self.tracker, self.clips, self.rng = tracker, clips, rng
        self.truth = [torch.from_numpy(clip.masks).flatten(2) for clip in clips]
        self.areas = [shares.mean(2).tolist() for shares in self.truth]
        self.known: list[list[Known]] = [[] for _ in clips]
        self.frames = 0

    def segmenter_wanted(self, classes: Tensor, masks: Tensor) -> tuple[Wanted, list[dict[int, int]]]:
        """Of the segmenter on all frames of all clips, in order: [B*T,Q,K+1], [B*T,Q,h,w]; and for each clip the query of each object on
        the first frame."""
        nothing, flat = classes.shape[-1] - 1, masks.flatten(-2)
        wanted, first = Wanted(torch.full(classes.shape[:2], nothing)), []
        for b, shares in enumerate(self.truth):
            frames = shares.shape[1]
            for t in range(frames):
                at, seen = b * frames + t, [i for i in range(len(shares)) if self.areas[b][i][t] >= SMALLEST]
                pairs = assign(classes[at], flat[at], torch.from_numpy(self.clips[b].labels[seen]), shares[seen, t]) if seen else []
                for row, n in pairs:
                    wanted.object((at, row), int(self.clips[b].labels[seen[n]]), shares[seen[n], t])
                if t == 0:
                    first.append({seen[n]: row for row, n in pairs})
        return wanted, first

    def _rows(self, seen: Seen, slots: int) -> list[Tensor]:
        tracker = self.tracker
        if self.frames == 0:
            return tracker.rows(seen.embeds, torch.zeros_like(seen.embeds), seen.embeds, seen.embeds)
        anchors = tracker.pooled_position(seen.masks.detach(), seen.features)
        new = tracker.new_ins_embeds.weight.expand_as(anchors)
        if not slots:
            return tracker.rows(new, anchors, seen.embeds + anchors, seen.embeds)
        blank = torch.zeros(anchors.shape[2])
        queries, places = (torch.stack([torch.stack([getattr(k.track, name) for k in known] + [blank] * (slots - len(known)))
                                        for known in self.known]) for name in ("query", "position"))
        absent = torch.tensor([[slot >= len(known) for slot in range(slots)] + [False] * anchors.shape[1] for known in self.known])
        return tracker.rows(torch.cat([queries, new], 1), torch.cat([places, anchors], 1), seen.embeds + anchors, seen.embeds, absent)

    def _wanted(self, classes: Tensor, masks: Tensor, slots: int, first: list[dict[int, int]]) -> tuple[Wanted, list[dict[int, int]]]:
        """Of rows [B,n], and the row of each object that gets a track, for each clip."""
        t, nothing, flat = self.frames, classes.shape[-1] - 1, masks.flatten(-2)
        wanted, born = Wanted(torch.full(classes.shape[:2], nothing)), []
        for b, (known, shares) in enumerate(zip(self.known, self.truth, strict=True)):
            labels, areas = self.clips[b].labels, [of_object[t] for of_object in self.areas[b]]
            wanted.classes[b, len(known):slots] = IGNORED
            for slot, owner in enumerate(k.owner for k in known):
                if owner is not None and areas[owner] >= SMALLEST:
                    wanted.object((b, slot), int(labels[owner]), shares[owner, t])
                elif owner is not None and areas[owner] > 0:
                    wanted.classes[b, slot] = IGNORED
                elif owner is not None:
                    wanted.gone.append((b, slot))
            found = first[b] if t == 0 else {}
            free = [i for i in range(len(shares)) if areas[i] >= SMALLEST and i not in {k.owner for k in known}] if t else []
            if free:
                pairs = assign(classes[b, slots:], flat[b, slots:], torch.from_numpy(labels[free]), shares[free, t])
                found = {free[n]: slots + row for row, n in pairs}
            for i, row in found.items():
                wanted.object((b, row), int(labels[i]), shares[i, t])
            born.append(found)
        return wanted, born

    def _carry(self, x: Tensor, positions: Tensor, scores: Tensor, slots: int, born: list[dict[int, int]]) -> None:
        """The tracks that the next frame knows. ``scores`` [B,n]: of the rows being an object."""
        for b, found in enumerate(born):
            going = []
            for slot, known in enumerate(self.known[b]):
                known.track.query = x[b, slot]
                if known.owner is None or self.areas[b][known.owner][self.frames] >= SMALLEST:
                    known.track.place(positions[b, slot])
                going.append(known)
            doubtful = [row for row in scores[b, slots:].argsort(descending=True)[:NOISE + len(found)].tolist()
                        if scores[b, slots + row] > DOUBT and slots + row not in found.values()]
            for owner, row in [*found.items(), *((None, slots + row) for row in doubtful[:NOISE])]:
                track = Track(0, self.frames, x[b, row], positions[b, row])
                track.place(positions[b, row])
                going.append(Known(track, owner))
            self.known[b] = [k for k in going if self.rng.random() >= (1 - KEPT if k.owner is None else LOST)]

    def frame(self, seen: Seen, first: list[dict[int, int]]) -> tuple[Tensor, list[float]]:
        """Loss of the tracker on the next frame of every clip, and overlaps. ``first``: what ``segmenter_wanted`` says of first frames."""
        slots = max(map(len, self.known))
        states = torch.stack(self._rows(seen, slots)[::-1])
        classes, masks = self.tracker.told(states, seen.features)
        wanted, born = self._wanted(classes[0].detach(), masks[0].detach(), slots, first)
        positions = self.tracker.pooled_position(masks[0].detach(), seen.features)
        self._carry(states[0], positions, sureness(classes[0].detach()), slots, born)
        self.frames += 1
        return loss_of(classes, masks, wanted)


def batch_loss(model: dvis.DvisDaq, clips: list[Tubes], rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
    """Loss of a batch of clips of one length, and what to log."""
    frames = clips[0].masks.shape[1]
    seen, earlier = model.look(as_input(clips).flatten(0, 1))
    lesson = Lesson(model.tracker, clips, rng)
    wanted, first = lesson.segmenter_wanted(seen.logits.detach(), seen.masks.detach())
    classes, masks = (torch.stack(layers) for layers in zip((seen.logits, seen.masks), *earlier, strict=True))
    of_segmenter, overlaps = loss_of(classes, masks, wanted)
    by_frame = [value.unflatten(0, (len(clips), frames)) for value in vars(seen).values()]
    of_tracker, tracked = torch.zeros(()), []
    for t in range(frames):
        of_frame, found = lesson.frame(Seen(*(value[:, t] for value in by_frame)), first)
        of_tracker = of_tracker + of_frame / frames
        tracked += found
    logged = dict(segmenter=float(of_segmenter.detach()), tracker=float(of_tracker.detach()), iou=float(np.mean(overlaps or 0)),
                  tracked=float(np.mean(tracked or 0)))
    return of_segmenter + of_tracker, logged


class Trained(nn.Module):
    def __init__(self, model: dvis.DvisDaq):
        super().__init__()
        self.model = model


class Run(segmenter.Run):
    family, size = dvis.FAMILY, dvis.MINIATURE_SIZE
    special_names = ("queries_", "level_embed", "new_ins_embeds", "bg_slots", "class_", "sampling_offsets", "attention_weights")

    def start(self) -> nn.Module:
        return Trained(dvis.build(self.seed))

    def loss(self) -> tuple[Tensor, dict[str, float]]:
        clips = draw_batch(self.seed, self.step, self.steps, textures(self.step // RENEWED), self.size, 4, PLAN)
        return batch_loss(self.trained.model, clips, np.random.default_rng([self.seed, self.step, 1]))
