"""The five graphs of a pack as torch modules, built from the weights of a transformers SAM 2 or EdgeTAM video model.

transformers tracks with Python dictionaries of frames; a device runner wants fixed shapes and state that goes in and comes
out. These modules hold the same arithmetic with that interface: the memory bank and the pointers are ring-free shift
registers inside ``memory_encoder``, and slots that are not filled yet get an additive -1e4 in the attention of
``memory_attention``, whose exponential is exactly zero, so that the result equals the variable-length original.
``verify`` proves the equality frame by frame.

Symbols in the shape comments: O objects, S input size, C hidden channels, f = S/16, M memory tokens per frame, D = 64
memory channels, N = 7 memory slots, P = 16 pointer slots. Slot 0 is the prompted frame, slot j the frame j steps back.

``grows=True`` builds the form in which the state holds only what exists, as in the original: shapes change from frame to frame
until all slots are filled. It serves comparison; engines want fixed shapes.

``official=True`` builds the form that follows the official predictors where transformers' session differs from them and a graph
can: the pointer and the memory of a mask prompt, and EdgeTAM's memory as bfloat16. Names and shapes are the same.

Objects are a batch axis, the only one without a fixed size (``OBJECTS`` in the ONNX file). What belongs to the frame and
not to an object has a batch of 1 and is broadcast inside; what does not depend on the object, such as the first
self-attention of ``memory_attention``, is computed once.
"""
from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import partial
from typing import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

POINT_SLOTS = 4
PATCH = 16
OBJECTS = "objects"            # symbol of the batch axis
COND_OBJECTS = "cond_objects"  # of cond_embed in mask_decoder: the number of objects, or 1, which is broadcast
MEMORIES, POINTERS = "memories", "pointers"    # of the state in the form that grows: 0 before the prompt, up to N and P
NO_OBJECT = -1024.0       # mask logit that transformers writes where the object score is not positive
EXCLUDED = -1e4           # added to attention scores of keys that do not exist
UNUSED_POINT = -10        # label of a point slot that does not exist
LOGIT_SCALE, LOGIT_BIAS = 20.0, -10.0   # a mask prompt in {0, 1} as logits, transformers' _use_mask_as_output


@dataclass(frozen=True)
class Geometry:
    """Everything a pack says about sizes; read from the model's own configuration."""

    size: int                # S, pixels
    channels: int            # C
    grid: int                # f
    memory_tokens: int       # M
    memory_channels: int     # D
    slots: int               # N
    pointers: int            # P

    @staticmethod
    def of(model: nn.Module) -> "Geometry":
        config = model.config
        grid = config.image_size // PATCH
        tokens = grid * grid
        if is_edgetam(model):
            tokens = config.perceiver_resampler_num_latents + config.perceiver_resampler_num_latents_2d
        return Geometry(config.image_size, config.memory_attention_hidden_size, grid, tokens, model.mem_dim,
                        config.num_maskmem, config.max_object_pointers_in_encoder)


def is_edgetam(model: nn.Module) -> bool:
    return hasattr(model, "spatial_perceiver")


def _constant(module: nn.Module, name: str, value: Tensor) -> None:
    module.register_buffer(name, value.detach().clone().contiguous(), persistent=False)


class GridTable(nn.Module):
    """A constant table [rows, columns, n] of which one half of the channels depends on the row only and the other half
    on the column only, kept as its two strips.

    All sine and rotary position tables are of this kind. Kept whole they would take a tenth of a pack; ONNX Runtime
    puts them together once, when it loads the graph.
    """

    def __init__(self, table: Tensor):
        super().__init__()
        self.rows, self.columns, width = table.shape
        for name, half in (("first", table[..., :width // 2]), ("second", table[..., width // 2:])):
            along_rows = bool((half == half[:, :1]).all())
            if not along_rows and not bool((half == half[:1]).all()):
                raise ValueError("table is not separable into rows and columns")
            _constant(self, name, half[:, :1] if along_rows else half[:1])

    def forward(self) -> Tensor:
        """[rows * columns, n]"""
        first, second = (half.expand(self.rows, self.columns, -1) for half in (self.first, self.second))
        return torch.cat([first, second], -1).reshape(self.rows * self.columns, -1)

    @staticmethod
    def of(flat: Tensor) -> "GridTable":
        """From a square table [rows * columns, n]."""
        side = math.isqrt(flat.shape[0])
        return GridTable(flat.reshape(side, side, -1))


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A linear layer of these weights [out, in] and biases [out], which may be of any precision."""
    made = nn.Linear(weight.shape[1], weight.shape[0])
    made.weight, made.bias = (nn.Parameter(x.detach().float().contiguous(), False) for x in (weight, bias))
    return made


class Pointwise(nn.Module):
    """A linear layer on maps [B, h, w, C] as a convolution of one pixel.

    ONNX Runtime's CPU provider computes convolutions in blocks of channels and is a third faster at it than at the same
    matrix product; it joins the transposes with the change of layout.
    """

    def __init__(self, plain: nn.Linear):
        super().__init__()
        _constant(self, "weight", plain.weight[:, :, None, None])
        _constant(self, "bias", plain.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x.permute(0, 3, 1, 2), self.weight, self.bias).permute(0, 2, 3, 1)


def _one_after_the_other(first: nn.Conv2d, second: nn.Conv2d) -> nn.Conv2d:
    """Two convolutions of one pixel as one, merged in double precision. Between them the finest maps would have C channels,
    67 MB at 1024 px, of which C/8 remain."""
    a, b = first.weight.detach().double()[:, :, 0, 0], second.weight.detach().double()[:, :, 0, 0]
    merged = nn.Conv2d(a.shape[1], b.shape[0], 1)
    merged.weight = nn.Parameter((b @ a).float()[:, :, None, None], requires_grad=False)
    merged.bias = nn.Parameter((b @ first.bias.double() + second.bias.double()).float().detach(), requires_grad=False)
    return merged


# ------------------------------------------------------------------------------------------------------ image encoder
class ImageEncoder(nn.Module):
    """image [1,3,S,S] -> image_embed [1,C,f,f], high_res_0 [1,C/8,S/4,S/4], high_res_1 [1,C/4,S/8,S/8].

    Hiera enlarges a small table of positions with bicubic weights. TensorRT has no bicubic Resize, so the same weights stand
    here as a matrix that multiplies the table from both sides. No input enters the product: it is done once, at load.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.encoder = model.vision_encoder
        neck, decoder = self.encoder.neck, model.mask_decoder
        if not {0, 1}.isdisjoint(neck.fpn_top_down_levels):
            raise ValueError("the two finest levels are expected to get nothing from the coarser ones")
        self.fine = _one_after_the_other(neck.convs[-1], decoder.conv_s0)
        self.middle = _one_after_the_other(neck.convs[-2], decoder.conv_s1)
        self.side = model.config.image_size // 4
        table = getattr(self.encoder.backbone, "pos_embed", None)
        if table is not None:
            units = torch.eye(table.shape[-1]).reshape(table.shape[-1], 1, -1, 1).to(table)
            spread = F.interpolate(units, size=(self.side, 1), mode="bicubic")
            _constant(self, "spread", spread[:, 0, :, 0].t())

    def positions(self) -> Tensor:
        """[1, S/4, S/4, channels]: transformers' _get_pos_embed."""
        backbone = self.encoder.backbone
        wide = torch.matmul(torch.matmul(self.spread, backbone.pos_embed), self.spread.t())
        window = backbone.pos_embed_window
        return (wide + window.repeat(1, 1, *(self.side // n for n in window.shape[2:]))).permute(0, 2, 3, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        backbone = self.encoder.backbone
        hiera = hasattr(self, "spread")
        if hiera:
            backbone._get_pos_embed = lambda _size: self.positions()
        try:
            out = backbone(image, return_dict=True)
        finally:
            if hiera:
                del backbone._get_pos_embed
        # levels from fine to coarse, [1,h,w,C']; RepViT gives them as [1,C',h,w]
        levels = out.intermediate_hidden_states if hiera else [level.permute(0, 2, 3, 1) for level in out.last_hidden_state]
        coarse_to_fine, _ = self.encoder.neck(levels)
        fine, middle = (level.permute(0, 3, 1, 2) for level in levels[:2])
        return coarse_to_fine[1], self.fine(fine), self.middle(middle)


# ------------------------------------------------------------------------------------------------------- mask prompt
def _quarter_last(x: Tensor, share: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Antialiased bilinear /4 along the last axis of [O,1,a,b]: a triangle of 8 taps, cut off at the border and
    renormalised.

    Two taps of the 8 lie left of the block of four and two right of it. Written with sums because an antialiased
    Resize is missing from several providers.
    """
    blocks = F.pad(x, (2, 2)).reshape(-1, 1, x.shape[2], x.shape[3] // 4 + 1, 4)
    first, second = (blocks * left).sum(-1), (blocks * right).sum(-1)
    return (first[..., :-1] + second[..., 1:]) * share


class MaskPrompt(nn.Module):
    """mask [O,1,S,S] of {0,1} -> dense_prompt [O,C,f,f], low_res_mask [O,1,S/4,S/4], mask_for_memory [O,1,S,S],
    object_score [O,1] (+10 if the mask has any pixel, else -10).

    The memory is made of the mask as it is given; in the official code of the mask reduced to a quarter, enlarged again and
    cut at zero.
    """

    def __init__(self, model: nn.Module, official: bool = False):
        super().__init__()
        self.official = official
        self.down, self.embed = model.mask_downsample, model.prompt_encoder.mask_embed
        config = model.config
        self.scale, self.bias = config.sigmoid_scale_for_mem_enc, config.sigmoid_bias_for_mem_enc
        weights = torch.tensor([1.0, 3.0, 5.0, 7.0, 7.0, 5.0, 3.0, 1.0]) / 32
        share = torch.ones(config.image_size // 4)
        share[0] = share[-1] = 1 / (1 - 4 / 32)
        _constant(self, "left", weights[:4])
        _constant(self, "right", weights[4:])
        _constant(self, "share", share)

    def forward(self, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dense = self.embed(self.down(mask))
        logits = mask * LOGIT_SCALE + LOGIT_BIAS
        low = _quarter_last(logits, self.share, self.left, self.right).transpose(2, 3)
        low = _quarter_last(low, self.share, self.left, self.right).transpose(2, 3)
        present = (mask.amax((2, 3)) > 0).to(mask.dtype)
        remembered = mask
        if self.official:
            full = F.interpolate(low, scale_factor=4.0, mode="bilinear", align_corners=False)
            remembered = (full > 0).to(mask.dtype)
        return dense, low, remembered * self.scale + self.bias, present * LOGIT_SCALE + LOGIT_BIAS


# ------------------------------------------------------------------------------------------------------ mask decoder
def _attend(attention: nn.Module, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """Sam2VideoAttention on [O, n, C] with an optional additive bias [O,1,1,keys]."""
    heads, width = attention.num_attention_heads, attention.head_dim

    def split(x: Tensor) -> Tensor:
        return x.reshape(-1, x.shape[1], heads, width).transpose(1, 2)

    q, k, v = split(attention.q_proj(query)), split(attention.k_proj(key)), split(attention.v_proj(value))
    scores = torch.matmul(q * attention.scaling, k.transpose(2, 3))
    if bias is not None:
        scores = scores + bias
    out = torch.matmul(torch.softmax(scores, -1), v).transpose(1, 2)
    return attention.o_proj(out.reshape(-1, query.shape[1], heads * width))


class MaskDecoder(nn.Module):
    """Prompt encoder, mask decoder, choice of one mask, object pointer and the mask that the memory encoder wants.

    cond_embed [O or 1,C,f,f], high_res_0 and high_res_1 (batch 1), point_coords [O,4,2] in model pixels, point_labels
    [O,4] int32 (1/0 click, 2/3 box corners, -1 not a point, -10 no such slot), dense_prompt [O,C,f,f], has_mask [O],
    is_prompt [O], multimask [O] -> low_res_mask [O,1,S/4,S/4], mask_for_memory [O,1,S,S], predicted_iou [O,1],
    object_score [O,1], obj_ptr [O,C].

    ``multimask`` holds for mask prompts too, as in transformers; the official code takes the first mask's token then.
    """

    def __init__(self, model: nn.Module, official: bool = False):
        super().__init__()
        self.official = official
        self.prompts, self.decoder, self.pointer = model.prompt_encoder, model.mask_decoder, model.object_pointer_proj
        config = model.config
        self.size = config.image_size
        self.scale, self.bias = config.sigmoid_scale_for_mem_enc, config.sigmoid_bias_for_mem_enc
        decoder = model.mask_decoder
        centres = (torch.arange(config.image_size // PATCH) + 0.5) * (2 * PATCH / config.image_size) - 1
        _constant(self, "centre_x", centres.reshape(1, -1, 1))
        _constant(self, "centre_y", centres.reshape(-1, 1, 1))
        _constant(self, "image_fourier", model.shared_image_embedding.positional_embedding)
        _constant(self, "no_memory", model.no_memory_embedding.reshape(1, -1, 1, 1))
        _constant(self, "no_pointer", model.no_object_pointer)
        _constant(self, "no_mask", model.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1))
        _constant(self, "fourier", model.prompt_encoder.shared_embedding.positional_embedding)
        _constant(self, "out_tokens", torch.cat([decoder.obj_score_token.weight, decoder.iou_token.weight,
                                                 decoder.mask_tokens.weight], 0)[None])

    def image_positions(self) -> Tensor:
        """Fourier features of the token centres [f*f, C]: get_image_wide_positional_embeddings, from its matrix."""
        angle = 2 * math.pi * (self.centre_x * self.image_fourier[0] + self.centre_y * self.image_fourier[1])
        return torch.cat([angle.sin(), angle.cos()], -1).flatten(0, 1)

    def embed_points(self, coords: Tensor, labels: Tensor) -> Tensor:
        """Prompt tokens [O, 4, C] of the slots.

        The Fourier features are written as a sum of two products, not as a matrix product, so that coordinates keep
        their fp32 resolution in the half-precision graphs.
        """
        unit = 2 * ((coords + 0.5) / self.size) - 1
        angle = 2 * math.pi * (unit[..., 0:1] * self.fourier[0] + unit[..., 1:2] * self.fourier[1])
        tokens = torch.cat([angle.sin(), angle.cos()], -1)
        kind = labels.unsqueeze(-1)
        tokens = torch.where(kind == -1, self.prompts.not_a_point_embed.weight, tokens)
        for label in range(4):
            tokens = tokens + torch.where(kind == label, self.prompts.point_embed.weight[label], 0.0)
        return tokens

    def two_way(self, tokens: Tensor, image: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Sam2VideoTwoWayTransformer: tokens [O, 11, C], image [O, C, f, f] -> tokens, image as [O, f*f, C]."""
        transformer = self.decoder.transformer
        keys, queries, place = image.flatten(2).transpose(1, 2), tokens, self.image_positions()
        for layer in transformer.layers:
            if layer.skip_first_layer_pe:
                queries = _attend(layer.self_attn, queries, queries, queries, bias)
            else:
                query = queries + tokens
                queries = queries + _attend(layer.self_attn, query, query, queries, bias)
            queries = layer.layer_norm1(queries)
            queries = layer.layer_norm2(queries + _attend(layer.cross_attn_token_to_image, queries + tokens,
                                                          keys + place, keys))
            queries = layer.layer_norm3(queries + layer.mlp(queries))
            keys = keys + _attend(layer.cross_attn_image_to_token, keys + place, queries + tokens, queries, bias)
            # as a map: ONNX Runtime has a kernel for "add, then normalise" of rows, which is the slower way on its CPU provider
            keys = layer.layer_norm4(keys.unflatten(1, image.shape[2:])).flatten(1, 2)
        queries = queries + _attend(transformer.final_attn_token_to_image, queries + tokens, keys + place, keys)
        return transformer.layer_norm_final_attn(queries), keys

    def forward(self, cond_embed: Tensor, high_res_0: Tensor, high_res_1: Tensor, point_coords: Tensor,
                point_labels: Tensor, dense_prompt: Tensor, has_mask: Tensor, is_prompt: Tensor,
                multimask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        decoder = self.decoder
        channels, grid = cond_embed.shape[1], cond_embed.shape[2]

        def each(x: Tensor) -> Tensor:
            """One value per object, ready to meet a map."""
            return x.reshape(-1, 1, 1, 1)

        masked, prompted, multi = has_mask > 0.5, is_prompt > 0.5, multimask.unsqueeze(1) > 0.5
        if self.official:
            multi = multi & ~masked.unsqueeze(1)
        no_prompt = self.no_mask + torch.where(each(prompted), self.no_memory, 0.0)      # [O, C, 1, 1]
        image = cond_embed + torch.where(each(masked), dense_prompt, no_prompt)
        slots = self.embed_points(point_coords, point_labels)

        def repeated(tokens: Tensor) -> Tensor:
            """The same tokens [1, n, C] for every object. A choice between equals: ``expand`` would ask for the number of
            objects, and CUDA sessions put the Shape operator that answers on the CPU."""
            return torch.where(masked.reshape(-1, 1, 1), tokens, tokens)

        fixed = repeated(self.out_tokens)
        # transformers and the official code always add one "not a point"
        padding = repeated(self.prompts.not_a_point_embed.weight.unsqueeze(0))
        absent_slot = torch.where(point_labels == UNUSED_POINT, EXCLUDED, 0.0)
        bias = F.pad(absent_slot, (self.out_tokens.shape[1], 1)).unsqueeze(1).unsqueeze(1)
        tokens, keys = self.two_way(torch.cat([fixed, slots, padding], 1), image, bias)

        fine = keys.transpose(1, 2).reshape(-1, channels, grid, grid)
        fine = decoder.activation(decoder.upscale_layer_norm(decoder.upscale_conv1(fine) + high_res_1))
        fine = decoder.activation(decoder.upscale_conv2(fine) + high_res_0)
        mask_tokens = tokens[:, 2:6]
        weights = torch.stack([mlp(mask_tokens[:, i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)], 1)
        masks = torch.matmul(weights, fine.flatten(2)).reshape(-1, 4, 4 * grid, 4 * grid)
        ious = decoder.iou_prediction_head(tokens[:, 1])
        score = decoder.pred_obj_score_head(tokens[:, 0])

        best = torch.argmax(ious[:, 1:], -1)

        def chosen(one: Tensor, two: Tensor, three: Tensor, shape: tuple[int, ...]) -> Tensor:
            """Per object the candidate with the best predicted IoU."""
            return torch.where((best == 0).reshape(shape), one, torch.where((best == 1).reshape(shape), two, three))

        best_mask = chosen(*masks[:, 1:].split(1, 1), (-1, 1, 1, 1))
        best_iou = chosen(*ious[:, 1:].split(1, 1), (-1, 1))
        best_token = chosen(*mask_tokens[:, 1:].unbind(1), (-1, 1))
        first = masks[:, :1]
        delta = decoder.dynamic_multimask_stability_delta
        inner = (first > delta).to(first.dtype).sum((2, 3))
        outer = (first > -delta).to(first.dtype).sum((2, 3))
        ratio = inner / outer.clamp(min=1.0)     # an empty mask counts as stable
        stable = (ratio >= decoder.dynamic_multimask_stability_thresh) | (outer == 0)
        use_best = multi | ~stable
        mask = torch.where(each(use_best), best_mask, first)
        iou = torch.where(use_best, best_iou, ious[:, :1])
        token = torch.where(multi, best_token, mask_tokens[:, 0])

        present = score > 0
        mask = torch.where(each(present), mask, NO_OBJECT)
        pointer = torch.where(present, self.pointer(token), self.no_pointer)
        full = F.interpolate(mask, scale_factor=4.0, mode="bilinear", align_corners=False)
        memory = torch.where(each(prompted), (full > 0).to(full.dtype), torch.sigmoid(full)) * self.scale + self.bias
        return mask, memory, iou, score, pointer


# -------------------------------------------------------------------------------------------------- memory attention
def _rotate_pairs(x: Tensor) -> Tensor:
    """(x0, x1, x2, x3, ...) -> (-x1, x0, -x3, x2, ...): rotary embedding without complex numbers."""
    pairs = x.reshape(*x.shape[:-1], -1, 2)
    return torch.stack((-pairs[..., 1], pairs[..., 0]), -1).flatten(-2)


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
            _constant(self, "no_place", torch.zeros(self.unplaced, d))
        else:
            self.unplaced, self.key_cos, self.key_sin = 0, self.cos, self.sin
            place = model.memory_encoder.position_encoding((1, d, f, f), "cpu", torch.float32)
        self.memory_pe = GridTable(place[0].permute(1, 2, 0))
        table = model.memory_temporal_positional_encoding.reshape(-1, d)
        _constant(self, "temporal", torch.cat([table[-1:], table[:-1]], 0).unsqueeze(1))    # in slot order
        index = torch.arange(c // 2, dtype=torch.float32)
        _constant(self, "frequency", 10000 ** (2 * (index // 2) / (c // 2)))
        _constant(self, "slot_number", torch.arange(geometry.slots, dtype=torch.float32))
        _constant(self, "pointer_number", torch.arange(geometry.pointers, dtype=torch.float32))

    def _attend(self, attention: nn.Module, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        scores = torch.matmul(q * attention.scaling, k.transpose(-1, -2))
        if bias is not None:
            scores = scores + bias
        return attention.o_proj(torch.matmul(torch.softmax(scores, -1), v))

    def _place(self, x: Tensor) -> Tensor:
        """Rotary positions of image tokens [1, f*f, C]."""
        return x * self.cos() + _rotate_pairs(x) * self.sin()

    def _place_keys(self, x: Tensor) -> Tensor:
        """Rotary positions of memory keys [O, N, M, C]; the first ``unplaced`` of each frame stay as they are."""
        rest = x[:, :, self.unplaced:] if self.unplaced else x
        rest = rest * self.key_cos() + _rotate_pairs(rest) * self.key_sin()
        return torch.cat([x[:, :, :self.unplaced], rest], 2) if self.unplaced else rest

    def _keys(self, bank: Tensor, ptrs: Tensor, age: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the cross-attentions look at: memories with their places in image and time [O, N, M, D], pointers
        [O, P * C / D, D], pointers with their places in time. ``age`` [O, 1]."""
        g = self.geometry
        pieces = g.channels // g.memory_channels
        pointers = ptrs.reshape(-1, ptrs.shape[1], pieces, g.memory_channels)      # [O, P, pieces, D]
        temporal, pointer_number = self.temporal, self.pointer_number
        if self.grows:
            temporal, pointer_number = temporal[:bank.shape[1]], pointer_number[:ptrs.shape[1]]
        place = torch.cat([self.no_place, self.memory_pe()], 0) if self.unplaced else self.memory_pe()
        memory_keys = (bank + place) + temporal                                    # [O, N, M, D]
        pointer_keys = pointers
        if self.time is not None:
            elapsed = torch.where(pointer_number == 0, age, pointer_number) / (g.pointers - 1)
            angle = elapsed.unsqueeze(2) / self.frequency
            when = self.time(torch.cat([angle.sin(), angle.cos()], -1).flatten(0, 1))
            pointer_keys = pointers + when.reshape(-1, ptrs.shape[1], 1, g.memory_channels)
        return memory_keys, pointers.flatten(1, 2), pointer_keys.flatten(1, 2)

    def forward(self, image_embed: Tensor, bank: Tensor, ptrs: Tensor, age: Tensor) -> Tensor:
        g = self.geometry
        # the batch is 1 until the first memories are added: what comes before is the same for every object
        x = image_embed.flatten(2).transpose(1, 2) + self.image_pe()               # [1, f*f, C]
        age = age.unsqueeze(1)                                                     # [O, 1]
        memory_keys, pointers, pointer_keys = self._keys(bank, ptrs, age)
        bias = None
        if not self.grows:
            number = torch.cat([self.slot_number.unsqueeze(1).expand(-1, g.memory_tokens).reshape(-1),
                                self.pointer_number.unsqueeze(1).expand(-1, g.channels // g.memory_channels).reshape(-1)])
            exists = (number == 0) | (number < age)
            bias = torch.where(exists, 0.0, EXCLUDED).unsqueeze(1)                 # [O, 1, keys]
        for layer in self.attention.layers:
            attention = layer.self_attn
            h = layer.layer_norm1(x)
            x = x + self._attend(attention, self._place(attention.q_proj(h)), self._place(attention.k_proj(h)),
                                 attention.v_proj(h), None)
            attention = layer.cross_attn_image
            q = self._place(attention.q_proj(layer.layer_norm2(x)))
            k = torch.cat([self._place_keys(attention.k_proj(memory_keys)).flatten(1, 2),
                           attention.k_proj(pointer_keys)], 1)
            v = torch.cat([attention.v_proj(bank).flatten(1, 2), attention.v_proj(pointers)], 1)
            x = x + self._attend(attention, q, k, v, bias)
            h = layer.layer_norm3(x)
            x = x + (layer.mlp(h) if self.edgetam else layer.linear2(layer.activation(layer.linear1(h))))
        x = self.attention.layer_norm(x)
        return x.transpose(1, 2).reshape(-1, g.channels, g.grid, g.grid)


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
        _constant(self, "weight", (weight - weight.mean(0, keepdim=True)).float())
        _constant(self, "bias", (bias - bias.mean()).float())
        _constant(self, "gain", norm.weight.reshape(-1, 1, 1))
        _constant(self, "shift", norm.bias.reshape(-1, 1, 1))

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
    """image_embed (raw) [1,C,f,f], mask_for_memory [O,1,S,S], object_score [O,1], obj_ptr [O,C], is_prompt [O],
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
        self.perceiver = getattr(model, "spatial_perceiver", None)
        g = Geometry.of(model)
        self.occlusion = None       # SAM 2.0 does not mark memories of frames without the object
        if model.occlusion_spatial_embedding_parameter is not None:
            del self.occlusion
            _constant(self, "occlusion", model.occlusion_spatial_embedding_parameter.reshape(1, -1, 1, 1))
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
            x = x.to(torch.bfloat16).to(torch.float32)
        return x if self.perceiver is not None else x.flatten(2).transpose(1, 2)

    def forward(self, image_embed: Tensor, mask_for_memory: Tensor, object_score: Tensor, obj_ptr: Tensor,
                is_prompt: Tensor, bank: Tensor, ptrs: Tensor, age: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        new = self.new_memory(image_embed, mask_for_memory, object_score)
        start = is_prompt > 0.5

        def shift(kept: Tensor, latest: Tensor) -> Tensor:
            first = start.reshape(-1, *[1] * (kept.dim() - 1))
            past = torch.cat([latest, kept[:, 1:-1]], 1)
            return torch.cat([torch.where(first, latest, kept[:, :1]), torch.where(first, 0.0, past)], 1)

        return shift(bank, new.unsqueeze(1)), shift(ptrs, obj_ptr.unsqueeze(1)), torch.where(start, 1.0, age + 1.0)


class GrowingMemoryEncoder(MemoryEncoder):
    """As MemoryEncoder, with a state of n memories and p pointers that becomes one longer, up to N and P. A track starts
    with a state of none; there is no is_prompt."""

    def __init__(self, model: nn.Module, official: bool = False):
        super().__init__(model, official)
        self.geometry = Geometry.of(model)

    def forward(self, image_embed: Tensor, mask_for_memory: Tensor, object_score: Tensor, obj_ptr: Tensor, bank: Tensor,
                ptrs: Tensor, age: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        new = self.new_memory(image_embed, mask_for_memory, object_score)

        def shift(kept: Tensor, latest: Tensor, most: int) -> Tensor:
            return torch.cat([kept[:, :1], latest, kept[:, 1:]], 1)[:, :most]

        g = self.geometry
        return (shift(bank, new.unsqueeze(1), g.slots), shift(ptrs, obj_ptr.unsqueeze(1), g.pointers), age + 1.0)


# -------------------------------------------------------------------------------------------------------- signatures
@dataclass(frozen=True)
class Port:
    """One graph input or output: name, "f32" or "i32", shape of sizes and of symbols for axes without a fixed size."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def sized(self, **sizes: int) -> tuple[int, ...]:
        """The shape with the symbols replaced."""
        return tuple(sizes[n] if isinstance(n, str) else n for n in self.shape)


@dataclass(frozen=True)
class Signature:
    """One graph of a pack: how to build its module and what goes in and comes out, in order."""

    module: Callable[[nn.Module], nn.Module]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def signatures(g: Geometry, grows: bool = False, official: bool = False) -> dict[str, Signature]:
    """Graphs of a pack in the order in which they are written to pack.toml; ``grows``: with a state of changing length;
    ``official``: as the official predictors do it, not transformers."""
    def port(name: str, *shape: int | str, dtype: str = "f32") -> Port:
        return Port(name, dtype, shape)

    s, c, f, o = g.size, g.channels, g.grid, OBJECTS
    embed, dense = port("image_embed", 1, c, f, f), port("dense_prompt", o, c, f, f)
    conditioned = port("cond_embed", o, c, f, f)
    fine, middle = port("high_res_0", 1, c // 8, s // 4, s // 4), port("high_res_1", 1, c // 4, s // 8, s // 8)
    low, for_memory = port("low_res_mask", o, 1, s // 4, s // 4), port("mask_for_memory", o, 1, s, s)
    score, iou, pointer = port("object_score", o, 1), port("predicted_iou", o, 1), port("obj_ptr", o, c)
    has_mask, is_prompt, multimask = (port(n, o) for n in ("has_mask", "is_prompt", "multimask"))
    slots, pointers = (MEMORIES, POINTERS) if grows else (g.slots, g.pointers)
    state = [("bank", (o, slots, g.memory_tokens, g.memory_channels)), ("ptrs", (o, pointers, c)), ("age", (o,))]
    before = tuple(port(name, *shape) for name, shape in state)
    after = tuple(port(f"{name}_out", *(f"{n}_out" if n in (MEMORIES, POINTERS) else n for n in shape))
                  for name, shape in state)
    attention, encoder = MemoryAttention, MemoryEncoder
    to_remember = (embed, for_memory, score, pointer, is_prompt, *before)
    if grows:
        attention, encoder = partial(MemoryAttention, grows=True), GrowingMemoryEncoder
        to_remember = tuple(p for p in to_remember if p is not is_prompt)
    points = (port("point_coords", o, POINT_SLOTS, 2), port("point_labels", o, POINT_SLOTS, dtype="i32"))
    to_decode = (port("cond_embed", COND_OBJECTS, c, f, f), fine, middle, *points, dense, has_mask, is_prompt, multimask)
    return {
        "image_encoder": Signature(ImageEncoder, (port("image", 1, 3, s, s),), (embed, fine, middle)),
        "mask_prompt": Signature(partial(MaskPrompt, official=official), (port("mask", o, 1, s, s),), (dense, low, for_memory, score)),
        "mask_decoder": Signature(partial(MaskDecoder, official=official), to_decode, (low, for_memory, iou, score, pointer)),
        "memory_attention": Signature(attention, (embed, *before), (conditioned,)),
        "memory_encoder": Signature(partial(encoder, official=official), to_remember, after),
    }


def example_inputs(signature: Signature, objects: int = 1, cond_objects: int = 1, seed: int = 0) -> dict[str, Tensor]:
    """Plausible random inputs, one tensor object per input (torch.export silently merges inputs that share one)."""
    generator = torch.Generator().manual_seed(seed)
    values: dict[str, Tensor] = {}
    for port in signature.inputs:
        shape = port.sized(**{OBJECTS: objects, COND_OBJECTS: cond_objects, MEMORIES: 3, POINTERS: 5})
        value = torch.randn(shape, generator=generator)
        if port.name == "point_coords":
            value = torch.rand(shape, generator=generator) * 100
        elif port.name == "point_labels":
            value = torch.tensor([[1] + [UNUSED_POINT] * (POINT_SLOTS - 1)] * objects, dtype=torch.int32)
        elif port.name == "mask":
            value = (torch.nn.functional.avg_pool2d(value, 31, 1, 15) > 0).float()
        elif port.name == "mask_for_memory":
            value = torch.sigmoid(torch.nn.functional.avg_pool2d(value, 31, 1, 15) * 50) * 20 - 10
        elif port.name in ("has_mask", "is_prompt"):
            value = torch.zeros(shape)
        elif port.name == "multimask":
            value = torch.ones(shape)
        elif port.name == "age":
            value = torch.full(shape, 5.0)
        elif port.name == "object_score":
            value = torch.full(shape, 4.0)
        values[port.name] = value
    return values
