"""The CPU form of graphs: the same function on ONNX Runtime's fused attention, with only the memories that exist.

The plain graphs keep to operators that every engine takes and hold a full matrix of attention scores: 470 MB for one
SAM 2 cross-attention at 1024 px. ONNX Runtime's own ``com.microsoft.MultiHeadAttention`` computes the same without that
matrix, but only without a mask. So this form
- cuts the state down to the slots that exist (the first min(age, N), all objects of a batch being of one age), where the plain
  form gives the others -1e4;
- attends over the 64-wide memories themselves and projects the result: the rows of a softmax sum to 1, so that
  softmax(S) (m Wv + bv) Wo + bo = (softmax(S) m) (Wv Wo) + (bv Wo + bo), exactly; self-attention merges Wv and Wo likewise;
- computes what treats every pixel alike as convolutions (see ``graphs.layers.Pointwise``), outside Hiera's windows where it can;
- takes Hiera's first two stages, whose maps are the largest, through all their layers in strips of windows;
- places keys and queries by ``com.microsoft.RotaryEmbedding``, one pass in the place of six. Keys without a place, pointers and
  EdgeTAM's first latents, get the angle 0.

It has the same weights, of which it takes what it can from the plain graph's file (``borrowed``), and is proven like the plain form;
engines other than ONNX Runtime's CPU provider get the plain one.
"""
from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import helper
from torch import Tensor, nn
from transformers.models.sam2.modeling_sam2 import do_pool

from ..models import sam3
from .graphs.geometry import Geometry, is_edgetam, is_efficienttam
from .graphs.image import ImageEncoder, PlainImageEncoder
from .graphs.layers import Pointwise, constant, from_windows, linear, windows
from .graphs.memory import MemoryAttention
from .graphs.vit import VitImageEncoder, VitLayer

DOMAIN = "com.microsoft"
NARROWEST = 96            # channels of the first stage of the smallest released Hiera


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int, scale: float) -> Tensor:
    """Attention of [B, n, heads * d] to keys and values of m rows. It exists in the exported graph only."""
    return torch.onnx.ops.symbolic(f"{DOMAIN}::MultiHeadAttention", (query, key, value), {"num_heads": heads, "scale": scale},
                                   dtype=query.dtype, shape=(*query.shape[:2], value.shape[2]), version=1)


def _rotate(x: Tensor, first: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of pairs of neighbours in x [B, n, C] by tables [places, C / 2], from row ``first`` [1] on."""
    return torch.onnx.ops.symbolic(f"{DOMAIN}::RotaryEmbedding", (x, first, cos, sin), {"interleaved": 1},
                                   dtype=x.dtype, shape=x.shape, version=1)


def _merged(value: nn.Linear, out: nn.Linear) -> nn.Linear:
    """x -> out(value(x)) as one projection, merged in double precision."""
    first, second = value.weight.double(), out.weight.double()
    return linear(second @ first, second @ value.bias.double() + out.bias.double())


class FusedMemoryAttention(MemoryAttention):
    """As MemoryAttention with ``grows``: bank [O,n,M,D] and ptrs [O,p,C] hold what exists."""

    def __init__(self, model: nn.Module):
        super().__init__(model, grows=True)
        g, layers = self.geometry, self.attention.layers
        self.parts = nn.ModuleList()
        for layer in layers:
            own, cross = layer.self_attn, layer.cross_attn_image
            up, down = (layer.mlp.up_proj, layer.mlp.down_proj) if self.edgetam else (layer.linear1, layer.linear2)
            self.parts.append(nn.ModuleList([
                *map(Pointwise, (own.q_proj, own.k_proj, _merged(own.v_proj, own.o_proj), cross.q_proj)), cross.k_proj,
                *map(Pointwise, (_merged(cross.v_proj, cross.o_proj), up, down))]))
        self.each = g.channels // g.memory_channels      # keys of one pointer
        constant(self, "start", torch.zeros(1, dtype=torch.long))

    def _tables(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Cosines and sines [keys, C / 2] of the queries, and of all keys: pointers first, then memories."""
        g = self.geometry
        free = g.pointers * self.each
        tables = []
        for table, still in ((self.cos, 1.0), (self.sin, 0.0)):
            query = table()[:, ::2]
            memory = query
            if self.unplaced:
                placed = (self.key_cos if still else self.key_sin)()[:, ::2]
                memory = torch.cat([torch.full((self.unplaced, g.channels // 2), still), placed])
            tables.append((query, torch.cat([torch.full((free, g.channels // 2), still), memory.repeat(g.slots, 1)])))
        (cos, all_cos), (sin, all_sin) = tables
        return (cos, sin), (all_cos, all_sin)

    def forward(self, image_embed: Tensor, bank: Tensor, ptrs: Tensor, age: Tensor) -> Tensor:
        g = self.geometry
        x = image_embed.permute(0, 2, 3, 1) + self.image_pe().reshape(1, g.grid, g.grid, -1)         # [1, f, f, C]
        memory_keys, pointers, pointer_keys = self._keys(bank, ptrs, age.unsqueeze(1))
        keys, values = torch.cat([pointer_keys, memory_keys.flatten(1, 2)], 1), torch.cat([pointers, bank.flatten(1, 2)], 1)
        here, there = self._tables()
        first = self.start + (g.pointers - ptrs.shape[1]) * self.each       # row of the first key that exists

        def rows(x: Tensor) -> Tensor:
            return x.flatten(1, 2)

        def grid(x: Tensor) -> Tensor:
            return x.unflatten(1, (g.grid, g.grid))

        for layer, (q1, k1, v1, q2, k2, v2, up, down) in zip(self.attention.layers, self.parts):
            activation = layer.mlp.act_fn if self.edgetam else layer.activation
            attention = layer.self_attn
            h = layer.layer_norm1(x)
            q, k = (_rotate(rows(part(h)), self.start, *here) for part in (q1, k1))
            x = x + grid(_attend(q, k, rows(v1(h)), 1, attention.scaling))
            attention = layer.cross_attn_image
            q = _rotate(rows(q2(layer.layer_norm2(x))), self.start, *here)
            if q.shape[0] != bank.shape[0]:
                q = q.expand(bank.shape[0], -1, -1)
            k = _rotate(k2(keys), first, *there)
            x = x + v2(grid(_attend(q, k, values, 1, attention.scaling)))
            x = x + down(activation(up(layer.layer_norm3(x))))
        return self.attention.layer_norm(x).permute(0, 3, 1, 2)


def _thirds(plain: nn.Linear) -> tuple[nn.Linear, ...]:
    """Hiera's one projection as those of queries, keys and values, so that nothing is split or turned."""
    return tuple(linear(weight, bias) for weight, bias in zip(plain.weight.chunk(3), plain.bias.chunk(3)))


class _HieraBlock(nn.Module):
    """Sam2MultiScaleBlock on maps [1, h, w, C]. What treats every pixel alike is done outside the windows, where there is no
    padding."""

    def __init__(self, plain: nn.Module):
        super().__init__()
        attention, mlp = plain.attn, plain.mlp
        self.norm1, self.norm2, self.activation = plain.layer_norm1, plain.layer_norm2, mlp.activation
        self.heads, self.scale, self.stride = attention.num_attention_heads, attention.scale, attention.query_stride
        self.window = plain.window_size
        self.q, self.k, self.v, self.out = map(self._layer, (*_thirds(attention.qkv), attention.proj))
        self.up, self.down = Pointwise(mlp.proj_in), Pointwise(mlp.proj_out)
        self.widen = self._layer(plain.proj) if plain.dim != plain.dim_out else None
        if mlp.layers or mlp.sigmoid_output:
            raise ValueError("a Hiera block with a network of two layers is expected")

    def _layer(self, plain: nn.Linear) -> nn.Module:
        return Pointwise(plain)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        if self.widen is not None:
            x = do_pool(self.widen(h), self.stride)
        height, width = x.shape[1:3]
        side = self.window
        if side:
            h = windows(h, side)
        q, k, v = self.q(h), self.k(h), self.v(h)
        if self.stride:
            q = do_pool(q, self.stride)
            side //= self.stride[0]
        h = _attend(q.flatten(1, 2), k.flatten(1, 2), v.flatten(1, 2), self.heads, self.scale).unflatten(1, q.shape[1:3])
        if side:
            h = from_windows(h, side, height, width)
        x = x + self.out(h)
        return x + self.down(self.activation(self.up(self.norm2(x))))


class _EarlyBlock(_HieraBlock):
    """The same on windows [windows, n, C] whose tokens are in Z order: whatever four neighbours pool to one stand in a row."""

    def _layer(self, plain: nn.Linear) -> nn.Module:
        return plain         # so few channels do not repay two changes of layout

    def _pooled(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (-1, 4)).amax(2) if self.stride else x

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        if self.widen is not None:
            x = self._pooled(self.widen(h))
        x = x + self.out(_attend(self._pooled(self.q(h)), self.k(h), self.v(h), self.heads, self.scale))
        return x + self.down(self.activation(self.up(self.norm2(x).unsqueeze(0)))).squeeze(0)


def _z_windows(x: Tensor, side: int) -> Tensor:
    """[1, h, w, C] -> [windows, side * side, C], the tokens of a window in Z order; side a power of two."""
    _, h, w, c = x.shape
    bits = side.bit_length() - 1
    x = x.reshape(h // side, *[2] * bits, w // side, *[2] * bits, c)
    inside = [axis for i in range(1, bits + 1) for axis in (i, bits + 1 + i)]
    return x.permute(0, bits + 1, *inside, 2 * bits + 2).reshape(-1, side * side, c)


def _from_z_windows(x: Tensor, grid: int) -> Tensor:
    """[windows, n, C] -> [1, grid, grid, C]"""
    side = math.isqrt(x.shape[1])
    bits = side.bit_length() - 1
    x = x.reshape(grid // side, grid // side, *[2] * 2 * bits, x.shape[2])
    rows, columns = range(2, 2 * bits + 2, 2), range(3, 2 * bits + 2, 2)
    return x.permute(0, *rows, 1, *columns, 2 * bits + 2).reshape(1, grid, grid, -1)


class FusedImageEncoder(ImageEncoder):
    """As ImageEncoder, for Hiera.

    The windows of its first two stages fit into one another: 8 x 8 pool to 4 x 4, which are the next windows. So these
    stages need a map only where they begin and end, and no window needs another: they go through all of them in strips
    whose widest values stay in the caches (100 MB at once, at 1024 px, otherwise).
    """

    STRIP = 8192             # tokens of the first stage

    def __init__(self, model: nn.Module):
        super().__init__(model)
        backbone, neck = self.encoder.backbone, self.encoder.neck
        self.ends, side, early = backbone.stage_ends, backbone.blocks[0].window_size, 0
        self.window = side
        for block in backbone.blocks:
            if block.window_size != side:
                break
            side, early = (side // 2 if block.query_stride else side), early + 1
        if early <= self.ends[1] + 1 or self.side % self.window or self.window & (self.window - 1):
            raise ValueError("windows of Hiera's first two stages are expected to fit into one another")
        if list(neck.fpn_top_down_levels) != [2, 3]:
            raise ValueError("the third level is expected to get something from the fourth")
        self.early = nn.ModuleList(map(_EarlyBlock, backbone.blocks[:early]))
        self.late = nn.ModuleList(map(_HieraBlock, backbone.blocks[early:]))
        self.fine, self.middle = (linear(conv.weight[:, :, 0, 0], conv.bias) for conv in (self.fine, self.middle))

    def _strip(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Windows through the first two stages: what the two finest levels become, and what goes on."""
        made = []
        for i, block in enumerate(self.early):
            x = block(x)
            for end, level in zip(self.ends, (self.fine, self.middle)):
                if i == end:
                    made.append(level(x))
        return *made, x

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        backbone, neck = self.encoder.backbone, self.encoder.neck
        x = _z_windows(backbone.patch_embed(image) + self.positions(), self.window)
        strips = [self._strip(x) for x in x.chunk(max(1, self.side * self.side // self.STRIP))]
        fine, middle, x = (_from_z_windows(torch.cat(parts), self.side // n) for parts, n in zip(zip(*strips), (1, 2, 4)))
        levels = []
        for i, block in enumerate(self.late, len(self.early)):
            x = block(x)
            if i in self.ends[2:]:
                levels.append(x.permute(0, 3, 1, 2))
        embed, coarse = (conv(level) for conv, level in zip((neck.convs[1], neck.convs[0]), levels))
        return embed + F.interpolate(coarse, scale_factor=2.0), fine.permute(0, 3, 1, 2), middle.permute(0, 3, 1, 2)


class FusedPlainEncoder(PlainImageEncoder):
    """As PlainImageEncoder, whose blocks are Hiera's."""

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self.blocks = nn.ModuleList(map(_HieraBlock, self.encoder.backbone.blocks))

    def forward(self, image: Tensor) -> Tensor:
        x = self.encoder.backbone.patch_embed(image) + self.positions()
        for block in self.blocks:
            x = block(x)
        return self.encoder.neck.embed(x)


class _FusedVitLayer(VitLayer):
    def __init__(self, plain: nn.Module):
        super().__init__(plain)
        constant(self, "start", torch.zeros(1, dtype=torch.long))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        cos, sin = self.cos()[:, ::2], self.sin()[:, ::2]
        q, k = (_rotate(x, self.start, cos, sin) for x in (q, k))
        return _attend(q, k, v, self.heads, self.scale)


class FusedVitEncoder(VitImageEncoder):
    """As VitImageEncoder."""

    layer = _FusedVitLayer


def is_narrow(model: nn.Module) -> bool:
    """Is it a Hiera with a first stage narrower than that of every released one?"""
    backbone = getattr(model.config.vision_config, "backbone_config", None)
    return getattr(backbone, "model_type", "") == "sam2_hiera_det_model" and getattr(backbone, "hidden_size", NARROWEST) < NARROWEST


def forms(model: nn.Module) -> dict[str, Callable[[nn.Module], nn.Module]]:
    """The graphs that have a CPU form, with the module of each. A form has most weights a second time, so the encoder of the miniature,
    which it makes 3 % faster, has none."""
    found: dict[str, Callable[[nn.Module], nn.Module]] = {}
    if not getattr(model.config, "pooled", ""):          # the fused attention takes no mask, which tells pooled memories from others
        found["memory_attention"] = FusedMemoryAttention
    if not is_edgetam(model) and not is_narrow(model):      # RepViT is all convolutions
        found["image_encoder"] = FusedPlainEncoder if is_efficienttam(model) else FusedImageEncoder
    if sam3.is_tracker(model):
        found["image_encoder"] = FusedVitEncoder
    return found


def cut_state(graph: onnx.GraphProto, g: Geometry) -> None:
    """Gives a graph whose state grows the interface of the fixed form: slots that do not exist are cut off first."""
    cut = [helper.make_node("Slice", ["age", "first", "second", "first"], ["frames"]),
           helper.make_node("Cast", ["frames"], ["passed"], to=onnx.TensorProto.INT64)]
    _constants = {"first": 0, "second": 1}
    for value in graph.input:
        if value.name not in ("bank", "ptrs"):
            continue
        size, most = value.type.tensor_type.shape.dim[1], {"bank": g.slots, "ptrs": g.pointers}[value.name]
        size.Clear()
        size.dim_value = _constants[f"most_{value.name}"] = most
        cut += [helper.make_node("Min", ["passed", f"most_{value.name}"], [f"count_{value.name}"]),
                helper.make_node("Slice", [value.name, "first", f"count_{value.name}", "second"], [f"known_{value.name}"])]
        for node in graph.node:
            for i, name in enumerate(node.input):
                node.input[i] = f"known_{value.name}" if name == value.name else name
    graph.initializer.extend(onnx.numpy_helper.from_array(np.array([v]), n) for n, v in _constants.items())
    nodes = [*cut, *graph.node]
    graph.ClearField("node")
    graph.node.extend(nodes)
