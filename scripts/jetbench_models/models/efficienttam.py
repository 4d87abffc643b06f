"""EfficientTAM out of transformers' parts, which has no class for it: SAM 2.0 with another image encoder.

What it shares with SAM 2.0 (prompts, decoder, memory, session) is transformers' own. Written here is what differs:

- The image encoder is a plain vision transformer: Hiera of one stage, patches of 16 pixels, twelve blocks of which four see the
  whole image and the others windows of 14 x 14 tokens. A neck of two convolutions makes one map of it.
- The mask decoder gets no finer maps. transformers' session wants them: they are zero, and nothing is projected to them.
- ``_1`` and ``_2`` look at memories whose keys and values are pooled 2 x 2 (``PooledAttention``).

The arithmetic is that of the public code (yformer/EfficientTAM at abcd061); the command ``official`` compares with it.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Sam2VideoConfig, Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import (
    Sam2VideoRoPEAttention,
    apply_rotary_pos_emb_2d,
)

POOL = 2                                    # side of the squares of memory tokens that become one
MORE = 2 * math.log(POOL)                   # what makes one token count as much as the four that it stands for
TABLE = 14                                  # side of the table of positions
ADDITIONS = ("", "scores", "keys")          # no pooling; MORE is added to the scores (_1); to every value of the keys (_2)


@dataclass(frozen=True)
class Sizes:
    """Widths of the image encoder."""

    width: int
    heads: int
    depth: int = 12
    window: int = TABLE


SIZES = {"ti": Sizes(192, 3), "s": Sizes(384, 6)}
# ending of a name: input size in pixels, ADDITIONS
FORMS = {"": (1024, ""), "_512x512": (512, ""), "_1": (1024, "scores"), "_2": (1024, "keys")}
NAMES = tuple(f"efficienttam_{size}{form}" for size in SIZES for form in FORMS)


class EfficientTamConfig(Sam2VideoConfig):
    """SAM 2's configuration; ``pooled``, one of ADDITIONS, is set on it by ``config``."""

    model_type = "efficienttam_video"


def parts(name: str) -> tuple[Sizes, str]:
    """Sizes and form of one of NAMES."""
    size, _, form = name.removeprefix("efficienttam_").partition("_")
    return SIZES[size], form and f"_{form}"


def config(sizes: Sizes, pooled: str = "", **shared: dict | int) -> EfficientTamConfig:
    """Configuration of EfficientTAM with an image encoder of ``sizes``. ``shared``: what is said of the other parts."""
    windowed_but = [i for i in range(sizes.depth) if i % 3 == 2]
    backbone = dict(model_type="sam2_hiera_det_model", hidden_size=sizes.width, num_attention_heads=sizes.heads,
                    patch_kernel_size=[16, 16], patch_stride=[16, 16], patch_padding=[0, 0], num_query_pool_stages=0,
                    blocks_per_stage=[sizes.depth], embed_dim_per_stage=[sizes.width], window_size_per_stage=[sizes.window],
                    num_attention_heads_per_stage=[sizes.heads], global_attention_blocks=windowed_but,
                    window_positional_embedding_background_size=[TABLE, TABLE])
    hidden = shared.pop("fpn_hidden_size", 256)
    made = EfficientTamConfig(
        vision_config=dict(model_type="sam2_vision_model", backbone_config=backbone, backbone_channel_list=[sizes.width],
                           fpn_hidden_size=hidden, num_feature_levels=3),
        enable_occlusion_spatial_embedding=False, enable_temporal_pos_encoding_for_object_pointers=False, **shared)
    made.pooled = pooled
    return made


def table(rows: Tensor) -> Tensor:
    """The official positions [1, 1 + n * n, width], whose first row is a class token's that nothing reads, as a map [1,width,n,n]."""
    return rows[:, 1:].transpose(1, 2).unflatten(2, (math.isqrt(rows.shape[1] - 1), -1))


def rows(table: Tensor) -> Tensor:
    """The official form of a map of positions; zeros in place of the class token's."""
    return F.pad(table.flatten(2).transpose(1, 2), (0, 0, 1, 0))


class _MapNorm(nn.LayerNorm):
    """Normalises the channels of a map [B,C,h,w]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Neck(nn.Module):
    """Tokens of the last block [B,f,f,width] -> the one map [B,C,f,f]; in the session's form, with finer maps of zeros."""

    def __init__(self, plain: nn.Module, width: int, channels: int):
        super().__init__()
        self.position_encoding, self.channels = plain.position_encoding, channels
        self.conv1, self.layer_norm1 = nn.Conv2d(width, channels, 1, bias=False), _MapNorm(channels, eps=1e-6)
        self.conv2, self.layer_norm2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), _MapNorm(channels, eps=1e-6)

    def embed(self, tokens: Tensor) -> Tensor:
        x = self.layer_norm1(self.conv1(tokens.permute(0, 3, 1, 2)))
        return self.layer_norm2(self.conv2(x))

    def forward(self, levels: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        embed = self.embed(levels[-1])
        count, _, side, _ = embed.shape
        finer = (embed.new_zeros(count, self.channels // n, k * side, k * side) for n, k in ((4, 2), (8, 4)))
        maps = (embed, *finer)
        return maps, tuple(self.position_encoding(x.shape, x.device, x.dtype) for x in maps)


def pool(x: Tensor, side: int) -> Tensor:
    """Means of squares of POOL x POOL tokens: [..., n * side * side, C] -> [..., n * side * side / POOL ** 2, C]."""
    squares = x.unflatten(-2, (-1, side // POOL, POOL, side // POOL, POOL))
    return squares.mean((-4, -2)).flatten(-4, -2)


class PooledAttention(Sam2VideoRoPEAttention):
    """Cross-attention of ``_1`` and ``_2``: after the rotary embedding the keys and values of memories are pooled, those of object
    pointers are not. While there is one memory, on the frame after the prompted one, nothing is pooled."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, position_embeddings: tuple[Tensor, Tensor],
                num_k_exclude_rope: int = 0, **_kwargs) -> tuple[Tensor, None]:
        shape = query.shape
        q, k, v = (part(x).flatten(0, 1).unsqueeze(1) for part, x in
                   ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value)))           # [B, 1, n, C]
        q, k = apply_rotary_pos_emb_2d(q, k, *position_embeddings, repeat_freqs_k=True, num_k_exclude_rope=num_k_exclude_rope)
        tokens, memory = q.shape[2], k.shape[2] - num_k_exclude_rope
        bias = None
        if memory > tokens:
            side = math.isqrt(tokens)
            kept = pool(k[:, :, :memory], side)
            if self.config.pooled == "scores":
                bias = F.pad(torch.full((1, kept.shape[2]), MORE), (0, num_k_exclude_rope))
            else:
                kept = kept + MORE
            k = torch.cat([kept, k[:, :, memory:]], 2)
            v = torch.cat([pool(v[:, :, :memory], side), v[:, :, memory:]], 2)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=self.scaling)
        return self.o_proj(out.reshape(shape)), None


class EfficientTamModel(Sam2VideoModel):
    """``Sam2VideoModel`` with EfficientTAM's parts in place of SAM 2's."""

    config_class = EfficientTamConfig

    def __init__(self, config: EfficientTamConfig):
        super().__init__(config)
        vision = config.vision_config
        backbone = self.vision_encoder.backbone
        # Hiera adds a second table, which this encoder does not have
        del backbone.pos_embed_window
        backbone.register_buffer("pos_embed_window", torch.zeros(1, 1, 1, 1), persistent=False)
        self.vision_encoder.neck = Neck(self.vision_encoder.neck, vision.backbone_channel_list[0], vision.fpn_hidden_size)
        self.mask_decoder.conv_s0 = self.mask_decoder.conv_s1 = nn.Identity()
        if config.pooled:
            for layer in self.memory_attention.layers:
                layer.cross_attn_image = PooledAttention(config, kv_in_dim=config.memory_encoder_output_channels, rope_k_repeat=True)
