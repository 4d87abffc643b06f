"""DVIS-DAQ as the two modules that are traced: a frame's segmenter, and a step of the tracker with a fixed number of slots.

The weights are those of the model, the arithmetic is written anew so that no size depends on a value. Tracks are packed at the front of the
slots, in their order; what fills the others never reaches them: as keys they get -1e4, which is exactly zero after a softmax, and as
inputs of the slot branch their rows are zero. Sums over pixels are taken in shares of 1/256, which is exact, so that they fit float16.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ...models.dvis import DvisDaq
from ...models.dvis_tracker import MEMORY, Attending, Perceptron, Tracker
from .layers import GridTable, constant, flag

NOWHERE = -1e4            # of a key that is none
DROPPED = 1e6             # added to the number of a row that goes
SHARE = 2.0 ** -8


def attend(weights: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention of rows [n,C] to rows [m,C]; ``bias``: added to the scores, [n,m] or [1,m]."""
    channels, heads = weights.embed_dim, weights.num_heads
    parts = zip((query, key, value), weights.in_proj_weight.chunk(3), weights.in_proj_bias.chunk(3), strict=True)
    q, k, v = (F.linear(x, weight, offset).reshape(-1, heads, channels // heads).transpose(0, 1) for x, weight, offset in parts)
    scores = torch.matmul(q * (channels // heads) ** -0.5, k.transpose(1, 2))
    if bias is not None:
        scores = scores + bias[None]
    mixed = torch.matmul(scores.softmax(-1), v).transpose(0, 1).reshape(-1, channels)
    return F.linear(mixed, weights.out_proj.weight, weights.out_proj.bias)


def pooled_position(embed: Perceptron, masks: Tensor, features: Tensor) -> Tensor:
    """As ``Tracker.pooled_position``; masks [n,hw] and features [C,hw]. A small number added to the area would not be there: the exporter
    takes additions of less than 1e-8 for none."""
    inside = flag(masks.sigmoid() > 0.5) * SHARE
    return embed(torch.matmul(inside, features.transpose(0, 1)) / inside.sum(1, keepdim=True).clamp(SHARE, 1e30))


def sureness(logits: Tensor) -> Tensor:
    return logits.softmax(-1)[:, :-1].amax(-1)


# ------------------------------------------------------------------------------------------------------------- segmenter
class Stem(nn.Module):
    """The first convolution of a residual network and its pool, as a maximum of shifted slices: what is pooled is never negative, so that a
    border of zeros is as good as none."""

    def __init__(self, plain: nn.Module):
        super().__init__()
        self.first = plain.embedder
        self.num_channels = plain.num_channels

    def forward(self, image: Tensor) -> Tensor:
        x = F.pad(self.first(image), (1, 0, 1, 0))
        rows = _largest(x[:, :, :-1:2], x[:, :, 1::2], x[:, :, 2::2])
        return _largest(rows[..., :-1:2], rows[..., 1::2], rows[..., 2::2])


def _largest(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    """ONNX Runtime's WebGPU provider has no Max; here the last is what a bfloat16 graph has no pool for."""
    both = torch.where(first > second, first, second)
    return torch.where(both > third, both, third)


def _fuse_norms(backbone: nn.Module) -> None:
    for module in backbone.modules():
        if isinstance(getattr(module, "normalization", None), nn.BatchNorm2d):
            module.convolution, module.normalization = fuse_conv_bn_eval(module.convolution, module.normalization), nn.Identity()


def _halved(x: Tensor, times: int) -> Tensor:
    """Maps [n,h,w] reduced by 2, 4 or 8 with bilinear weights: the mean of the two rows and columns in the middle of each piece."""
    at = times // 2 - 1
    rows = 0.5 * x[:, at::times] + 0.5 * x[:, at + 1::times]
    return 0.5 * rows[..., at::times] + 0.5 * rows[..., at + 1::times]


def _doubled(x: Tensor, axis: int) -> Tensor:
    """``x`` [1,C,h,w] with twice as many places along an axis, bilinear; beyond the ends are the ends."""
    count = x.shape[axis]
    before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, count - 1)], axis)
    after = torch.cat([x.narrow(axis, 1, count - 1), x.narrow(axis, count - 1, 1)], axis)
    return torch.stack([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], axis + 1).flatten(axis, axis + 1)


class GroupNorm(nn.Module):
    """A group norm of [1,C,h,w] as means over rows: as such every provider has it."""

    def __init__(self, plain: nn.GroupNorm):
        super().__init__()
        self.groups, self.eps = plain.num_groups, plain.eps
        constant(self, "weight", plain.weight[:, None, None])
        constant(self, "bias", plain.bias[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(self.groups, -1)
        rows = F.layer_norm(rows, rows.shape[1:], eps=self.eps)
        return rows.reshape(x.shape) * self.weight + self.bias


class Segmenter(nn.Module):
    """``image`` [1,3,H,W] -> ``frame_embeds`` [Q,C], ``frame_positions`` [Q,C] of the queries' masks, ``frame_scores`` [Q], and
    ``features`` [C,h,w]. Leaves ``model`` but for its backbone as it is, and so wants one of its own."""

    def __init__(self, model: DvisDaq):
        super().__init__()
        config, inner = model.config, model.segmenter.model
        self.backbone, self.pixels = inner.pixel_level_module.encoder, inner.pixel_level_module.decoder
        self.transformer = inner.transformer_module
        self.classes, self.place = model.segmenter.class_predictor, model.tracker.pos_embed
        if config.size.backbone == "resnet":
            self.backbone.embedder = Stem(self.backbone.embedder)
            _fuse_norms(self.backbone)
        else:
            model.segmenter.set_attn_implementation("eager")
        width, height = config.padded
        self.sizes = [(height // stride, width // stride) for stride in (32, 16, 8)]
        self.coarse = (height // 4, width // 4)
        for module in (self.pixels.input_projections, (self.pixels.adapter_1, self.pixels.layer_1)):
            for pair in module:
                if isinstance(pair[1], nn.GroupNorm):
                    pair[1] = GroupNorm(pair[1])
        channels, points = config.size.channels, []
        tables = []
        for rows, columns in self.sizes:
            waves = self.pixels.position_embedding(torch.Size((1, channels, rows, columns)), "cpu", torch.float32)
            tables.append(GridTable(waves[0].permute(1, 2, 0)))
            y, x = torch.meshgrid((torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij")
            points.append(torch.stack((x, y), -1).reshape(-1, 2))
        self.tables = nn.ModuleList(tables)
        constant(self, "points", torch.cat(points)[:, None, None, None])                                # [L,1,1,1,2]
        constant(self, "steps", torch.tensor([[1 / columns, 1 / rows] for rows, columns in self.sizes])[None, None, :, None])

    def _deform(self, layer: nn.Module, x: Tensor, places: Tensor) -> Tensor:
        """Multi-scale deformable attention of the maps [L,C] to themselves."""
        weights = layer.self_attn
        heads, levels, points, width = weights.n_heads, weights.n_levels, weights.n_points, weights.d_model // weights.n_heads
        asked = x + places
        values = weights.value_proj(x).transpose(0, 1)                                                  # [C,L]
        offsets = weights.sampling_offsets(asked).reshape(-1, heads, levels, points, 2)
        shares = weights.attention_weights(asked).reshape(-1, heads, levels * points).softmax(-1)
        grids = 2 * (self.points + offsets * self.steps) - 1
        taken, start = [], 0
        for level, (rows, columns) in enumerate(self.sizes):
            of_level = values[:, start:start + rows * columns].reshape(heads, width, rows, columns)
            taken.append(F.grid_sample(of_level, grids[:, :, level].transpose(0, 1), align_corners=False))    # [heads,width,L,points]
            start += rows * columns
        mixed = (torch.cat(taken, -1) * shares.transpose(0, 1)[:, None]).sum(-1)
        return weights.output_proj(mixed.reshape(heads * width, -1).transpose(0, 1))

    def _maps(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """The three encoded maps [n,C], coarse first, and the mask features [C,hw]."""
        features = self.backbone(image).feature_maps
        pixels = self.pixels
        projected = [project(feature)[0].flatten(1).transpose(0, 1)
                     for project, feature in zip(pixels.input_projections, features[:0:-1], strict=True)]
        places = torch.cat([table() + pixels.level_embed[i] for i, table in enumerate(self.tables)])
        x = torch.cat(projected)
        for layer in pixels.encoder.layers:
            x = layer.self_attn_layer_norm(x + self._deform(layer, x, places))
            x = layer.final_layer_norm(x + layer.fc2(layer.fc1(x).relu()))
        maps = list(x.split([rows * columns for rows, columns in self.sizes]))
        finest = maps[-1].transpose(0, 1).reshape(1, -1, *self.sizes[-1])
        finest = pixels.adapter_1(features[0]) + _doubled(_doubled(finest, 2), 3)
        return maps, pixels.mask_projection(pixels.layer_1(finest))[0].flatten(1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        maps, features = self._maps(image)
        transformer, decoder = self.transformer, self.transformer.decoder
        values = [x + transformer.level_embed.weight[i] for i, x in enumerate(maps)]
        keys = [value + table() for value, table in zip(values, self.tables, strict=True)]
        x, places = transformer.queries_features.weight, transformer.queries_embedder.weight
        for i in range(len(decoder.layers) + 1):
            told = decoder.layernorm(x)
            masks = torch.matmul(decoder.mask_predictor.mask_embedder(told), features)
            if i == len(decoder.layers):
                break
            level, layer = i % 3, decoder.layers[i]
            blocked = flag(_halved(masks.reshape(-1, *self.coarse), (8, 4, 2)[level]).flatten(1).sigmoid() < 0.5)
            # what is blocked everywhere is blocked nowhere
            some = flag(blocked.sum(-1, keepdim=True) < blocked.shape[1] - 0.5)
            x = layer.cross_attn_layer_norm(x + attend(layer.cross_attn, x + places, keys[level], values[level], blocked * some * NOWHERE))
            x = layer.self_attn_layer_norm(x + self._among(layer.self_attn, x, places))
            x = layer.final_layer_norm(x + layer.fc2(layer.fc1(x).relu()))
        return told, pooled_position(self.place, masks, features), sureness(self.classes(told)), features.reshape(-1, *self.coarse)

    @staticmethod
    def _among(weights: nn.Module, x: Tensor, places: Tensor) -> Tensor:
        heads, width = weights.num_heads, weights.head_dim
        q, k, v = (part.reshape(-1, heads, width).transpose(0, 1) for part in
                   (weights.q_proj(x + places) * width ** -0.5, weights.k_proj(x + places), weights.v_proj(x)))
        mixed = torch.matmul(torch.matmul(q, k.transpose(1, 2)).softmax(-1), v)
        return weights.out_proj(mixed.transpose(0, 1).reshape(-1, heads * width))


# --------------------------------------------------------------------------------------------------------------- tracker
class Step(nn.Module):
    """A frame of the tracker; see docs/dvis_daq.md for its tensors. ``branch``: with the slot branch, which wants ``match`` and gives
    ``similarity``."""

    def __init__(self, model: DvisDaq, slots: int, branch: bool):
        super().__init__()
        self.tracker, self.slots, self.branch = model.tracker, slots, branch
        size, (width, height) = model.config.size, model.config.padded
        self.queries, self.coarse, self.channels = size.queries, (height // 4, width // 4), size.channels
        constant(self, "asked", model.segmenter_queries)
        constant(self, "numbers", torch.arange(slots + size.queries, dtype=torch.float32))
        constant(self, "ages", torch.arange(MEMORY, dtype=torch.float32))
        constant(self, "project", model.tracker.mask_feature_proj.weight[:, :, 0, 0])
        unit = model.segmenter_queries / (model.segmenter_queries.norm(dim=1, keepdim=True) + 1e-6)
        constant(self, "directions", unit.T)
        constant(self, "blank", torch.zeros(size.queries, MEMORY, size.channels))

    def _slot_scores(self, embeds: Tensor, queries: Tensor, positions: Tensor, live: Tensor, match: Tensor) -> Tensor:
        tracker: Tracker = self.tracker
        background = tracker.bg_slots.weight
        known, places = torch.cat([queries, background]), torch.cat([positions, background])
        real = torch.cat([live, torch.ones(len(background))])
        y, nowhere = self.asked.index_select(0, match), ((1 - real) * NOWHERE)[None]
        for attending, feeding in zip(tracker.slot_cross_attention_layers, tracker.slot_ffn_layers, strict=True):
            taken, compete = attend(attending.attention, y + known, embeds, embeds), attending.slot_attn
            keys, asked = compete.project_k(compete.norm_inputs(y + taken)), compete.project_q(places)
            shares = (self.channels ** -0.5 * torch.matmul(keys, asked.transpose(0, 1)) + nowhere).softmax(1) + 1e-6
            shares = shares * real[:, None]
            shares = shares / shares.sum(0, keepdim=True)
            y = feeding(attending.norm(y + torch.matmul(shares.transpose(0, 1), taken)))
        return sureness(tracker.class_embed(tracker.decoder_norm(y)))[:self.slots]

    def _rows(self, embeds: Tensor, positions: Tensor, first: Tensor, queries: Tensor, places: Tensor, live: Tensor) -> Tensor:
        """Outputs of all rows, the slots before the new ones."""
        tracker: Tracker = self.tracker
        new = first * embeds + (1 - first) * tracker.new_ins_embeds.weight
        anchors = (1 - first) * positions
        x, at, keys = torch.cat([queries, new]), torch.cat([places, anchors]), embeds + anchors
        nowhere = ((1 - torch.cat([live, torch.ones(self.queries)])) * NOWHERE)[None]
        across: Attending
        for across, among, feeding in zip(tracker.transformer_cross_attention_layers, tracker.transformer_self_attention_layers,
                                          tracker.transformer_ffn_layers, strict=True):
            x = across.norm(x + attend(across.attention, x + at, keys, embeds))
            x = among.norm(x + attend(among.attention, x, x, x, nowhere))
            x = feeding(x)
        return x

    def _remember(self, source: Tensor, fresh: Tensor, seen: Tensor, now: Tensor, positions: Tensor, ring: Tensor,
                  count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Position, ring and count of what the slots hold from now on. ``source``: row of each slot; ``fresh``: 1 for a birth; ``now``: the
        rows' positions on this frame."""
        place, held, before = (torch.cat([old, blank]).index_select(0, source) for old, blank in
                               ((positions, self.blank[:, 0]), (count, self.blank[:, 0, 0]), (ring, self.blank)))
        unit = [x / (x * x).sum(-1, keepdim=True).sqrt().clamp(1e-12, 1e30) for x in (before, now)]
        valid = flag(self.ages[None] > MEMORY - 0.5 - held[:, None])
        alike = ((unit[0] * unit[1][:, None]).sum(-1) * valid).sum(-1) / held.clamp(1.0, float(MEMORY))
        share = alike.relu()[:, None]
        mixed = (1 - share) * place + share * now
        mixed = fresh[:, None] * now + (1 - fresh)[:, None] * mixed
        yes, no = seen[:, None], (1 - seen)[:, None]
        moved = torch.cat([before[:, 1:], now[:, None]], 1)
        return yes * mixed + no * place, yes[..., None] * moved + no[..., None] * before, (held + seen).clamp(0.0, float(MEMORY))

    def forward(self, embeds: Tensor, frame_positions: Tensor, frame_scores: Tensor, features: Tensor, first: Tensor, rules: Tensor,
                queries: Tensor, positions: Tensor, ring: Tensor, count: Tensor, missed: Tensor, tracks: Tensor,
                match: Tensor | None = None) -> tuple[Tensor, ...]:
        tracker, slots = self.tracker, self.slots
        numbers = self.numbers
        live = flag(numbers[:slots] < tracks)
        x = self._rows(embeds, frame_positions, first, queries, positions, live)
        told, features = tracker.decoder_norm(x), features.flatten(1)
        logits = tracker.class_embed(told)
        projected = torch.matmul(self.project, features) + tracker.mask_feature_proj.bias[:, None]
        masks = torch.matmul(tracker.mask_embed(told), projected)
        scores = sureness(logits)
        select, first_score, keep, kick_out = rules.split(1)
        alive = flag(scores[:slots] > select) * live
        if self.branch:
            alive = alive * flag(self._slot_scores(embeds, queries, positions, live, match) > keep)
        born = first * flag(frame_scores > first_score) + (1 - first) * flag(scores[slots:] > select)
        gone = (1 - alive) * (missed + 1)
        stays = torch.cat([live * flag(gone < kick_out), born])
        total = stays.sum()[None]
        kept, source = torch.topk((stays - 1) * DROPPED - numbers, slots, sorted=True)
        kept = -kept
        real = flag(numbers[:slots] < total)
        fresh = flag(kept > slots - 0.5)
        seen = torch.cat([alive, born]).index_select(0, source) * real
        now = pooled_position(tracker.pos_embed, masks, features).index_select(0, source)
        place, memory, held = self._remember(source, fresh, seen, now, positions, ring, count)
        absent = torch.cat([gone, torch.zeros(self.queries)]).index_select(0, source)
        query = x.index_select(0, source) * real[:, None]
        out = (logits.index_select(0, source), masks.index_select(0, source).reshape(slots, *self.coarse), kept, seen, total,
               query, place * real[:, None], memory * real[:, None, None], held * real, absent * real, total.clamp(0.0, float(slots)))
        if not self.branch:
            return out
        known = torch.cat([query, tracker.bg_slots.weight])
        known = known / ((known * known).sum(1, keepdim=True).sqrt() + 1e-6)
        return (*out, torch.matmul(known, self.directions))
