"""The tracker of DVIS-DAQ: its weights, and what it computes, with as many tracks as there are.

Written from a description of the arithmetic; names of parameters are those of the published checkpoints, so that these can be read.
Nothing here has a fixed size: this is what the graphs with a fixed number of slots (``export.graphs.dvis``) are compared with, and what
golden references come from. Works in any floating type.

A frame's tracks are queries. Known ones carry an embedding and a position, and each frame brings as many new ones as the segmenter has
queries, all with one learnt embedding and the position of the mask of one segmenter query.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

MEMORY = 9                # positions of earlier frames that a track's position is weighed with


@dataclass(frozen=True)
class Rules:
    """What decides who lives. Scores are the highest probability of a class, compared strictly."""

    select_score: float = 0.1            # of a row, for it to be a track on this frame
    first_score: float = 0.01            # of a segmenter query on the first frame
    keep_score: float = 0.01             # of a track's row in the slot branch
    slot_branch: bool = False
    kick_out_frames: int = 8             # on which a track is not seen, one after the other, until it is dead
    noise_frames: int = 5                # a track of fewer frames is noise, unless it lives to the end
    most: int = 20                       # entries of the result


# Of the published configurations of the online tracker.
RULES = {
    "ovis": Rules(slot_branch=True),
    "ytvis": Rules(select_score=0.01),
    "vipseg": Rules(select_score=0.01),
    "mose": Rules(slot_branch=True),
}


class Perceptron(nn.Module):
    """Linear layers with ReLU between."""

    def __init__(self, *widths: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(one, other) for one, other in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)


class Attending(nn.Module):
    """An attention whose result is added and normalised; ``name``: of the attention in the checkpoints."""

    def __init__(self, channels: int, heads: int, name: str):
        super().__init__()
        self.name = name
        self.add_module(name, nn.MultiheadAttention(channels, heads))
        self.norm = nn.LayerNorm(channels)

    @property
    def attention(self) -> nn.MultiheadAttention:
        return getattr(self, self.name)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, absent: Tensor | None = None) -> Tensor:
        """[...,n,C] to [...,m,C], with one dimension of a batch or none; ``absent``: keys that are none, bool [B,m]."""
        many = query.dim() == 3
        query, key, value = (x.transpose(0, 1) if many else x[:, None] for x in (query, key, value))
        mixed = self.attention(query, key, value, absent, need_weights=False)[0]
        return mixed.transpose(0, 1) if many else mixed[:, 0]


class Feeding(nn.Module):
    def __init__(self, channels: int, inner: int):
        super().__init__()
        self.linear1, self.linear2, self.norm = nn.Linear(channels, inner), nn.Linear(inner, channels), nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.linear2(self.linear1(x).relu()))


class Competing(nn.Module):
    """What lets slots compete for inputs."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm_inputs = nn.LayerNorm(channels)
        self.project_k, self.project_q = nn.Linear(channels, channels, bias=False), nn.Linear(channels, channels, bias=False)


class SlotAttending(Attending):
    def __init__(self, channels: int, heads: int):
        super().__init__(channels, heads, "multihead_attn")
        self.slot_attn = Competing(channels)


class Tracker(nn.Module):
    """The weights."""

    def __init__(self, channels: int, heads: int, layers: int, inner: int, classes: int, background: int):
        super().__init__()

        def several(make: type, *arguments: object) -> nn.ModuleList:
            return nn.ModuleList(make(channels, *arguments) for _ in range(layers))

        self.transformer_cross_attention_layers = several(Attending, heads, "multihead_attn")
        self.transformer_self_attention_layers = several(Attending, heads, "self_attn")
        self.transformer_ffn_layers = several(Feeding, inner)
        self.slot_cross_attention_layers = several(SlotAttending, heads)
        self.slot_ffn_layers = several(Feeding, inner)
        self.decoder_norm = nn.LayerNorm(channels)
        self.class_embed = nn.Linear(channels, classes + 1)
        self.mask_embed, self.pos_embed = (Perceptron(channels, channels, channels, channels) for _ in range(2))
        self.mask_feature_proj = nn.Conv2d(channels, channels, 1)
        self.new_ins_embeds, self.bg_slots = nn.Embedding(1, channels), nn.Embedding(background, channels)

    @property
    def heads(self) -> int:
        return self.transformer_cross_attention_layers[0].attention.num_heads

    def pooled_position(self, masks: Tensor, features: Tensor) -> Tensor:
        """Position of each mask (logits [...,Q,h,w]): of the mean of the features [...,C,h,w] where its probability is above one half; zero
        where it is so nowhere."""
        inside = (masks.sigmoid() > 0.5).to(features.dtype).flatten(-2)
        # the published code adds 1e-8 to the area, which is nothing in fp32 but where there is none
        mean = inside @ features.flatten(-2).mT / inside.sum(-1, keepdim=True).clamp(min=1)
        return self.pos_embed(mean)

    def rows(self, x: Tensor, places: Tensor, keys: Tensor, embeds: Tensor, absent: Tensor | None = None) -> list[Tensor]:
        """What each layer makes of the rows ``x`` [...,n,C], known tracks and new ones, at ``places``, from a frame's ``embeds`` [...,Q,C]
        and their ``keys``; ``absent``: rows that are none, bool [B,n]."""
        states = []
        for across, among, feeding in zip(self.transformer_cross_attention_layers, self.transformer_self_attention_layers,
                                          self.transformer_ffn_layers, strict=True):
            x = across.norm(x + across.attend(x + places, keys, embeds))
            x = among.norm(x + among.attend(x, x, x, absent))
            x = feeding(x)
            states.append(x)
        return states

    def told(self, rows: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits [...,n,K+1] and mask logits [...,n,h,w] of rows, with the frame's mask features [...,C,h,w]."""
        normed = self.decoder_norm(rows)
        projected = F.conv2d(features, self.mask_feature_proj.weight, self.mask_feature_proj.bias)
        masks = (self.mask_embed(normed) @ projected.flatten(-2)).unflatten(-1, projected.shape[-2:])
        return self.class_embed(normed), masks


@dataclass
class Seen:
    """What the segmenter makes of a frame: embeddings [Q,C], class logits [Q,K+1], mask logits [Q,h,w], mask features [C,h,w]."""

    embeds: Tensor
    logits: Tensor
    masks: Tensor
    features: Tensor


@dataclass
class Track:
    """One object: its state, and an entry per frame from its birth on."""

    identity: int
    birth: int
    query: Tensor
    position: Tensor
    memory: list[Tensor] = field(default_factory=list)
    missed: int = 0
    logits: list[Tensor] = field(default_factory=list)
    masks: list[Tensor] = field(default_factory=list)
    seen: list[bool] = field(default_factory=list)

    def place(self, position: Tensor) -> None:
        """Takes the position on a frame where the track is seen."""
        if not self.memory:
            self.position = position
        else:
            alike = F.normalize(torch.stack(self.memory[-MEMORY:]), dim=1) @ F.normalize(position, dim=0)
            share = alike.mean().clamp_min(0)
            self.position = (1 - share) * self.position + share * position
        self.memory.append(position)


def sureness(logits: Tensor) -> Tensor:
    """Highest probability of a class, "no object" left out."""
    return logits.softmax(-1)[..., :-1].amax(-1)


def cosines(one: Tensor, other: Tensor) -> Tensor:
    unit = [x / (x.norm(dim=-1, keepdim=True) + 1e-6) for x in (one, other)]
    return unit[0] @ unit[1].T


class Following:
    """A clip being followed, frame by frame. ``live``: the tracks in their order; ``tracks``: all that ever were, by birth."""

    def __init__(self, tracker: Tracker, segmenter_queries: Tensor, rules: Rules):
        self.tracker, self.segmenter_queries, self.rules = tracker, segmenter_queries, rules
        self.frames = 0
        self.live: list[Track] = []
        self.tracks: list[Track] = []

    def _slot_scores(self, embeds: Tensor) -> Tensor:
        """Whether the known tracks are on this frame, from slots that compete for its embeddings."""
        tracker, background = self.tracker, self.tracker.bg_slots.weight
        known, places = (torch.cat([torch.stack([getattr(t, name) for t in self.live]), background]) for name in ("query", "position"))
        cost = 1 - cosines(known, self.segmenter_queries)
        nearest = cost.argmin(1)
        rows, columns = linear_sum_assignment(cost.detach().numpy())
        nearest[torch.from_numpy(rows)] = torch.from_numpy(columns)
        y = self.segmenter_queries[nearest]
        for attending, feeding in zip(tracker.slot_cross_attention_layers, tracker.slot_ffn_layers, strict=True):
            taken, compete = attending.attend(y + known, embeds, embeds), attending.slot_attn
            keys, queries = compete.project_k(compete.norm_inputs(y + taken)), compete.project_q(places)
            shares = (y.shape[1] ** -0.5 * keys @ queries.T).softmax(1) + 1e-6
            shares = shares / shares.sum(0, keepdim=True)
            y = feeding(attending.norm(y + shares.T @ taken))
        return sureness(tracker.class_embed(tracker.decoder_norm(y)))[:len(self.live)]

    @torch.no_grad()
    def frame(self, seen: Seen) -> list[Track]:
        """The tracks that are alive after this frame, each with an entry for it as its last."""
        tracker, rules, known, first = self.tracker, self.rules, len(self.live), self.frames == 0
        if first:
            x, keys = seen.embeds, seen.embeds
            places = torch.zeros_like(x)
        else:
            anchors = tracker.pooled_position(seen.masks, seen.features)
            new = tracker.new_ins_embeds.weight.expand(len(anchors), -1)
            x, places = (torch.cat([*(getattr(t, name)[None] for t in self.live), more])
                         for name, more in (("query", new), ("position", anchors)))
            keys = seen.embeds + anchors
        x = tracker.rows(x, places, keys, seen.embeds)[-1]
        logits, masks = tracker.told(x, seen.features)
        positions = tracker.pooled_position(masks, seen.features)
        lives = sureness(seen.logits) > rules.first_score if first else sureness(logits) > rules.select_score
        if known and rules.slot_branch:
            lives[:known] &= self._slot_scores(seen.embeds) > rules.keep_score
        live = []
        for row, alive in enumerate(lives.tolist()):
            if row < known:
                track = self.live[row]
                track.missed = 0 if alive else track.missed + 1
                if track.missed >= rules.kick_out_frames:
                    continue
            elif alive:
                track = Track(len(self.tracks), self.frames, x[row], positions[row])
                self.tracks.append(track)
            else:
                continue
            track.query = x[row]
            if alive:
                track.place(positions[row])
            track.logits.append(logits[row])
            track.masks.append(masks[row])
            track.seen.append(alive)
            live.append(track)
        self.live, self.frames = live, self.frames + 1
        return live

    def kept(self) -> list[Track]:
        """The tracks that are no noise, by birth."""
        return [t for t in self.tracks if len(t.logits) >= self.rules.noise_frames or t.birth + len(t.logits) == self.frames]

    def named(self) -> list[tuple[Track, int, float]]:
        """The result of instance segmentation: the ``most`` likely pairs of a track and a class, the likeliest first, with their
        probability in the mean of the track's class logits. All of them where there are fewer."""
        kept = self.kept()
        if not kept:
            return []
        shares = torch.stack([torch.stack(t.logits).mean(0) for t in kept]).softmax(-1)[:, :-1]
        values, places = shares.flatten().topk(min(self.rules.most, shares.numel()))
        return [(kept[place // shares.shape[1]], place % shares.shape[1], value)
                for value, place in zip(values.tolist(), places.tolist(), strict=True)]
