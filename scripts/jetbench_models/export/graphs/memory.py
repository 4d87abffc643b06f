"""The memory: attention to what was seen, and the encoder that remembers a frame."""
from __future__ import annotations

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...command import Refused
from ...models.efficienttam import MORE, POOL
from .geometry import Geometry, is_edgetam
from .layers import (
    GridTable,
    Pointwise,
    as_bfloat16,
    constant,
    linear,
    rotate_pairs,
)

EXCLUDED = -1e4           # added to attention scores of slots that do not exist: its exponential is exactly zero


# -------------------------------------------------------------------------------------------------- memory attention
class MemoryAttention(nn.Module):
    """image_embed [1,C,f,f], bank [O,N,M,D], ptrs [O,P,C], age [O] -> cond_embed [O,C,f,f].

    age = frames since the prompted frame, 1 on the first tracked one. Slot j >= 1 of bank and ptrs exists if j < age;
    slot 0 always. Temporal row of memory slot 0 is the last of the table, of slot j row j-1. The time difference of
    pointer slot 0 is age, of slot j it is j, both divided by P-1; SAM 2.0 gives pointers no place in time.
    """

    def __init__(self, model: nn.Module, grows: bool = False):
        super().__init__()
        self.grows = grows
        config, geometry = model.config, Geometry.of(model)
        self.attention, self.time = model.memory_attention, None
        if config.enable_temporal_pos_encoding_for_object_pointers:
            self.time = model.temporal_positional_encoding_projection_layer
        self.geometry, self.edgetam = geometry, is_edgetam(model)
        c, f, d = geometry.channels, geometry.grid, geometry.memory_channels
        grid_pe = model.vision_encoder.neck.position_encoding((1, c, f, f), "cpu", torch.float32)
        self.image_pe = GridTable((0.1 * grid_pe)[0].permute(1, 2, 0))
        cos, sin = self.attention.rotary_emb(torch.zeros(1), self.attention.position_ids)
        self.cos, self.sin = GridTable.of(cos.reshape(-1, c)), GridTable.of(sin.reshape(-1, c))
        if self.edgetam:
            # only the 2-D latents, the last rows of a frame's memory, have a place in the image
            self.unplaced = config.perceiver_resampler_num_latents
            cos, sin = self.attention.rotary_emb(torch.zeros(1), self.attention.position_ids_k)
            self.key_cos, self.key_sin = GridTable.of(cos.reshape(-1, c)), GridTable.of(sin.reshape(-1, c))
            side = math.isqrt(config.perceiver_resampler_num_latents_2d)
            place = model.spatial_perceiver.positional_encoding((1, d, side, side), "cpu", torch.float32)
            constant(self, "no_place", torch.zeros(self.unplaced, d))
        else:
            self.unplaced, self.key_cos, self.key_sin = 0, self.cos, self.sin
            place = model.memory_encoder.position_encoding((1, d, f, f), "cpu", torch.float32)
        self.memory_pe = GridTable(place[0].permute(1, 2, 0))
        table = model.memory_temporal_positional_encoding.reshape(-1, d)
        constant(self, "temporal", torch.cat([table[-1:], table[:-1]], 0).unsqueeze(1))    # in slot order
        index = torch.arange(c // 2, dtype=torch.float32)
        constant(self, "frequency", 10000 ** (2 * (index // 2) / (c // 2)))
        slot, pointer = (torch.arange(count, dtype=torch.float32) for count in (geometry.slots, geometry.pointers))
        constant(self, "pointer_number", pointer)
        constant(self, "is_first", (pointer == 0).float())
        for name, number in (("slot", slot), ("pointer", pointer)):
            constant(self, f"{name}_birth", torch.where(number == 0, -1.0, number))     # it exists if age is greater

    def _attend(self, attention: nn.Module, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        scores = torch.matmul(q * attention.scaling, k.transpose(-1, -2))
        if bias is not None:
            scores = scores + bias
        return attention.o_proj(torch.matmul(torch.softmax(scores, -1), v))

    def _place(self, x: Tensor) -> Tensor:
        """Rotary positions of image tokens [1, f*f, C]."""
        return x * self.cos() + rotate_pairs(x) * self.sin()

    def _place_keys(self, x: Tensor) -> Tensor:
        """Rotary positions of memory keys [O, N, M, C]; the first ``unplaced`` of each frame stay as they are."""
        rest = x[:, :, self.unplaced:] if self.unplaced else x
        rest = rest * self.key_cos() + rotate_pairs(rest) * self.key_sin()
        return torch.cat([x[:, :, :self.unplaced], rest], 2) if self.unplaced else rest

    def _keys(self, bank: Tensor, ptrs: Tensor, age: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the cross-attentions look at: memories with their places in image and time [O, N, M, D], pointers
        [O, P * C / D, D], pointers with their places in time. ``age`` [O, 1]."""
        g = self.geometry
        pieces = g.channels // g.memory_channels
        pointers = ptrs.reshape(-1, ptrs.shape[1], pieces, g.memory_channels)      # [O, P, pieces, D]
        temporal, pointer_number, is_first = self.temporal, self.pointer_number, self.is_first
        if self.grows:
            temporal, pointer_number, is_first = temporal[:bank.shape[1]], pointer_number[:ptrs.shape[1]], is_first[:ptrs.shape[1]]
        place = torch.cat([self.no_place, self.memory_pe()], 0) if self.unplaced else self.memory_pe()
        memory_keys = (bank + place) + temporal                                    # [O, N, M, D]
        pointer_keys = pointers
        if self.time is not None:
            elapsed = (is_first * age + pointer_number) / (g.pointers - 1)         # the first one's number is 0
            angle = elapsed.unsqueeze(2) / self.frequency
            when = self.time(torch.cat([angle.sin(), angle.cos()], -1).flatten(0, 1))
            pointer_keys = pointers + when.reshape(-1, ptrs.shape[1], 1, g.memory_channels)
        return memory_keys, pointers.flatten(1, 2), pointer_keys.flatten(1, 2)

    def _bias(self, age: Tensor) -> Tensor:
        """What is added to the scores of every key, [O, 1, keys]."""
        g = self.geometry
        birth = torch.cat([self.slot_birth.unsqueeze(1).expand(-1, g.memory_tokens).reshape(-1),
                           self.pointer_birth.unsqueeze(1).expand(-1, g.channels // g.memory_channels).reshape(-1)])
        return torch.where(birth < age, 0.0, EXCLUDED).unsqueeze(1)

    def _seen(self, keys: Tensor, age: Tensor) -> Tensor:
        """The keys of memories [O, N, M, C] that are looked at: here all."""
        return keys

    def _kept(self, bank: Tensor, age: Tensor) -> Tensor:
        """The memories that values are made of, in the order of ``_seen``."""
        return bank

    def forward(self, image_embed: Tensor, bank: Tensor, ptrs: Tensor, age: Tensor) -> Tensor:
        g = self.geometry
        # the batch is 1 until the first memories are added: what comes before is the same for every object
        x = image_embed.flatten(2).transpose(1, 2) + self.image_pe()               # [1, f*f, C]
        age = age.unsqueeze(1)                                                     # [O, 1]
        memory_keys, pointers, pointer_keys = self._keys(bank, ptrs, age)
        bias, values = None if self.grows else self._bias(age), self._kept(bank, age)
        for layer in self.attention.layers:
            attention = layer.self_attn
            h = layer.layer_norm1(x)
            x = x + self._attend(attention, self._place(attention.q_proj(h)), self._place(attention.k_proj(h)),
                                 attention.v_proj(h), None)
            attention = layer.cross_attn_image
            q = self._place(attention.q_proj(layer.layer_norm2(x)))
            k = torch.cat([self._seen(self._place_keys(attention.k_proj(memory_keys)), age).flatten(1, 2),
                           attention.k_proj(pointer_keys)], 1)
            v = torch.cat([attention.v_proj(values).flatten(1, 2), attention.v_proj(pointers)], 1)
            x = x + self._attend(attention, q, k, v, bias)
            h = layer.layer_norm3(x)
            x = x + (layer.mlp(h) if self.edgetam else layer.linear2(layer.activation(layer.linear1(h))))
        x = self.attention.layer_norm(x)
        return x.transpose(1, 2).reshape(-1, g.channels, g.grid, g.grid)


class PooledMemoryAttention(MemoryAttention):
    """As MemoryAttention, for EfficientTAM's ``_1`` and ``_2``: four neighbours of a memory are one key and one value.

    A track of one memory, age 1, looks at all its tokens. The pooled form has room for them: slots 1 to 4 are empty then and hold
    a quarter of the tokens each, so that both cases are one attention of the same length.
    """

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self.in_keys = model.config.pooled == "keys"
        number = torch.arange(self.geometry.slots)
        constant(self, "alone", torch.where((number >= 1) & (number <= POOL ** 2), 0.0, EXCLUDED))       # of the slots, at age 1

    def _pool(self, x: Tensor) -> Tensor:
        """Means of squares of tokens, [O, N, M, n] -> [O, N, M / 4, n]; two sums, because few engines pool rows of channels."""
        half, slots, width = self.geometry.grid // POOL, x.shape[1], x.shape[3]
        rows = x.reshape(-1, half, POOL, self.geometry.grid * width)
        pairs = (rows[:, :, 0] + rows[:, :, 1]).reshape(-1, half * half, POOL, width)
        return ((pairs[:, :, 0] + pairs[:, :, 1]) * (1 / POOL ** 2)).reshape(-1, slots, half * half, width)

    def _either(self, x: Tensor, pooled: Tensor, age: Tensor) -> Tensor:
        """``pooled``, or while there is one memory its tokens in slots 1 to 4."""
        quarters = x[:, 0].reshape(-1, POOL ** 2, pooled.shape[2], x.shape[3])
        middle = torch.where(age.reshape(-1, 1, 1, 1) < 1.5, quarters, pooled[:, 1:1 + POOL ** 2])
        return torch.cat([pooled[:, :1], middle, pooled[:, 1 + POOL ** 2:]], 1)

    def _seen(self, keys: Tensor, age: Tensor) -> Tensor:
        return self._either(keys, self._pool(keys) + (MORE if self.in_keys else 0.0), age)

    def _kept(self, bank: Tensor, age: Tensor) -> Tensor:
        return self._either(bank, self._pool(bank), age)

    def _bias(self, age: Tensor) -> Tensor:
        g = self.geometry
        of_slot = torch.where(self.slot_birth < age, 0.0 if self.in_keys else MORE, EXCLUDED)
        of_slot = torch.where(age < 1.5, self.alone, of_slot)                      # [O, N]
        of_pointer = torch.where(self.pointer_birth < age, 0.0, EXCLUDED)
        parts = ((of_slot, g.memory_tokens // POOL ** 2), (of_pointer, g.channels // g.memory_channels))
        return torch.cat([part.unsqueeze(2).expand(-1, -1, n).flatten(1) for part, n in parts], 1).unsqueeze(1)


def memory_attention(model: nn.Module, grows: bool = False) -> MemoryAttention:
    """The form of memory attention that a model has."""
    if not getattr(model.config, "pooled", ""):
        return MemoryAttention(model, grows)
    if grows:
        raise Refused("pooled memories have no form that grows: --variant fixed")
    return PooledMemoryAttention(model)


# ---------------------------------------------------------------------------------------------------- memory encoder
class _Downsample(nn.Module):
    """Sam2VideoMaskDownSamplerLayer without turning the map: the normalisation is over few channels of many pixels.

    Its subtraction of the mean is linear, so it is done to the weights of the convolution before it.
    """

    def __init__(self, plain: nn.Module):
        super().__init__()
        conv, norm = plain.conv, plain.layer_norm
        self.stride, self.padding, self.epsilon, self.activation = conv.stride, conv.padding, norm.eps, plain.activation
        weight, bias = conv.weight.double(), conv.bias.double()
        constant(self, "weight", (weight - weight.mean(0, keepdim=True)).float())
        constant(self, "bias", (bias - bias.mean()).float())
        constant(self, "gain", norm.weight.reshape(-1, 1, 1))
        constant(self, "shift", norm.bias.reshape(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        return self.activation(x / ((x * x).mean(1, keepdim=True) + self.epsilon).sqrt() * self.gain + self.shift)


class _Fuse(nn.Module):
    """Sam2VideoMemoryFuserCXBlock with its two linear layers as convolutions, the second one scaled."""

    def __init__(self, plain: nn.Module):
        super().__init__()
        self.across, self.norm, self.activation = plain.depthwise_conv, plain.layer_norm, plain.activation
        self.up = Pointwise(plain.pointwise_conv1)
        scale, down = plain.scale.double(), plain.pointwise_conv2
        self.down = Pointwise(linear(scale[:, None] * down.weight.double(), scale * down.bias.double()))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.across(x)).permute(0, 2, 3, 1)
        return x + self.down(self.activation(self.up(h))).permute(0, 3, 1, 2)


class MemoryEncoder(nn.Module):
    """image_embed (raw) [1,C,f,f], mask_for_memory [O,1,16f,16f], object_score [O,1], obj_ptr [O,C], is_prompt [O],
    bank [O,N,M,D], ptrs [O,P,C], age [O] -> bank_out, ptrs_out, age_out of the same shapes.

    is_prompt = 1 starts a track: slot 0 is the new memory, every other slot zero, age 1. Else slot 0 stays, the others
    move one step back in time (the oldest is dropped), slot 1 is the new memory, and age grows by one.
    """

    def __init__(self, model: nn.Module, official: bool = False):
        super().__init__()
        self.encoder = copy.deepcopy(model.memory_encoder)
        masks, fuser = self.encoder.mask_downsampler, self.encoder.memory_fuser
        masks.layers = nn.ModuleList(_Downsample(layer) if layer.conv.out_channels <= 64 else layer for layer in masks.layers)
        fuser.layers = nn.ModuleList(_Fuse(layer) for layer in fuser.layers)
        # transformers keeps SAM 2's memories as bfloat16, the official code EdgeTAM's too; the rounding stays, the type does not
        self.rounds = official or not is_edgetam(model)
        self.perceiver: Any = getattr(model, "spatial_perceiver", None)
        g = Geometry.of(model)
        self.occlusion: Tensor | None = None       # SAM 2.0 does not mark memories of frames without the object
        if model.occlusion_spatial_embedding_parameter is not None:
            del self.occlusion
            constant(self, "occlusion", model.occlusion_spatial_embedding_parameter.reshape(1, -1, 1, 1))
        if self.perceiver is not None:
            shape = (1, g.memory_channels, g.grid, g.grid)
            self.place = GridTable(self.encoder.position_encoding(shape, "cpu", torch.float32)[0].permute(1, 2, 0))

    def _attend(self, attention: nn.Module, query: Tensor, source: Tensor, place: Tensor | None) -> Tensor:
        """The perceiver's attention of one head; ``place`` is added to keys and to values."""
        q, k, v = attention.q_proj(query), attention.k_proj(source), attention.v_proj(source)
        if place is not None:
            k, v = k + place, v + place
        scores = torch.matmul(q * attention.scaling, k.transpose(-1, -2))
        return attention.o_proj(torch.matmul(torch.softmax(scores, -1), v))

    def _latents(self, latents: Tensor, source: Tensor, place: Tensor | None) -> Tensor:
        for layer in self.perceiver.layers:
            latents = latents + self._attend(layer.cross_attention, layer.layer_norm_latents(latents),
                                             layer.layer_norm_input(source), place)
            latents = latents + layer.mlp(latents)
            h = layer.layer_norm_self(latents)
            latents = latents + self._attend(layer.self_attention, h, h, None)
            latents = latents + layer.self_mlp(latents)
        return self.perceiver.layer_norm(latents)

    def perceive(self, x: Tensor) -> Tensor:
        """EdgeTAM's spatial perceiver, [O, D, f, f] -> [O, M, D]: latents that see the whole map, then one latent for
        each window of it. The latents meet the objects by broadcasting."""
        perceiver, d, side = self.perceiver, x.shape[1], math.isqrt(self.perceiver.num_latents_2d)
        window = x.shape[2] // side
        everywhere = self._latents(perceiver.latents_1d, x.flatten(2).transpose(1, 2), self.place())
        windows = x.permute(0, 2, 3, 1).reshape(-1, side, window, side, window, d).transpose(2, 3)
        local = self._latents(perceiver.latents_2d.unsqueeze(1), windows.reshape(-1, side * side, window * window, d), None)
        return torch.cat([everywhere, local.reshape(-1, side * side, d)], 1)

    def new_memory(self, image_embed: Tensor, mask_for_memory: Tensor, object_score: Tensor) -> Tensor:
        """Memory of one frame, [O, M, D]."""
        encoder = self.encoder
        x = encoder.feature_projection(image_embed) + encoder.mask_downsampler(mask_for_memory)
        x = encoder.projection(encoder.memory_fuser(x))
        if self.occlusion is not None:
            x = x + torch.where(object_score.reshape(-1, 1, 1, 1) > 0, 0.0, self.occlusion)
        if self.perceiver is not None:
            x = self.perceive(x)
        if self.rounds:
            x = as_bfloat16(x)
        return x if self.perceiver is not None else x.flatten(2).transpose(1, 2)

    def forward(self, image_embed: Tensor, mask_for_memory: Tensor, object_score: Tensor, obj_ptr: Tensor,
                is_prompt: Tensor, bank: Tensor, ptrs: Tensor, age: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        new = self.new_memory(image_embed, mask_for_memory, object_score)

        def shift(kept: Tensor, latest: Tensor) -> Tensor:
            first = is_prompt.reshape(-1, *[1] * (kept.dim() - 1)) > 0.5
            past = torch.cat([latest, kept[:, 1:-1]], 1)
            return torch.cat([torch.where(first, latest, kept[:, :1]), torch.where(first, 0.0, past)], 1)

        return shift(bank, new.unsqueeze(1)), shift(ptrs, obj_ptr.unsqueeze(1)), torch.where(is_prompt > 0.5, 1.0, age + 1.0)


class GrowingMemoryEncoder(MemoryEncoder):
    """As MemoryEncoder, with a state of n memories and p pointers that becomes one longer, up to N and P. A track starts
    with a state of none; there is no is_prompt."""

    def __init__(self, model: nn.Module, official: bool = False):
        super().__init__(model, official)
        self.geometry = Geometry.of(model)

    def forward(self, image_embed: Tensor, mask_for_memory: Tensor, object_score: Tensor, obj_ptr: Tensor,   # type: ignore[override]
                bank: Tensor, ptrs: Tensor, age: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        new = self.new_memory(image_embed, mask_for_memory, object_score)

        def shift(kept: Tensor, latest: Tensor, most: int) -> Tensor:
            return torch.cat([kept[:, :1], latest, kept[:, 1:]], 1)[:, :most]

        g = self.geometry
        return (shift(bank, new.unsqueeze(1), g.slots), shift(ptrs, obj_ptr.unsqueeze(1), g.pointers), age + 1.0)
