"""From prompts to masks: the mask prompt and the mask decoder."""
from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...models import NO_OBJECT, NOT_A_POINT, UNUSED_POINT, sam3
from .geometry import Geometry
from .layers import Doubled, Resized, constant, flag

EXCLUDED = -1e4           # added to attention scores of keys that do not exist
LOGIT_SCALE, LOGIT_BIAS = 20.0, -10.0   # a mask prompt in {0, 1} as logits, transformers' _use_mask_as_output


def _quarter_last(x: Tensor, share: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Antialiased bilinear /4 along the last axis of [O,1,a,b]: a triangle of 8 taps, cut off at the border and
    renormalised.

    Two taps of the 8 lie left of the block of four and two right of it. Written with sums because an antialiased
    Resize is missing from several providers.
    """
    border = x[..., :2] * 0.0
    blocks = torch.cat([border, x, border], -1).reshape(-1, 1, x.shape[2], x.shape[3] // 4 + 1, 4)
    first, second = (blocks * left).sum(-1), (blocks * right).sum(-1)
    return (first[..., :-1] + second[..., 1:]) * share


class MaskPrompt(nn.Module):
    """mask [O,1,S,S] of {0,1} -> dense_prompt [O,C,f,f], low_res_mask [O,1,4f,4f], mask_for_memory [O,1,16f,16f],
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
        constant(self, "left", weights[:4])
        constant(self, "right", weights[4:])
        constant(self, "share", share)

    def forward(self, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dense = self.embed(self.down(mask))
        logits = mask * LOGIT_SCALE + LOGIT_BIAS
        low = _quarter_last(logits, self.share, self.left, self.right).transpose(2, 3)
        low = _quarter_last(low, self.share, self.left, self.right).transpose(2, 3)
        present = flag(mask.sum((2, 3)) > 0)
        remembered = mask
        if self.official:
            full = F.interpolate(low, scale_factor=4.0, mode="bilinear", align_corners=False)
            remembered = flag(full > 0)
        return dense, low, remembered * self.scale + self.bias, present * LOGIT_SCALE + LOGIT_BIAS


class ResizedMaskPrompt(MaskPrompt):
    """As MaskPrompt, of SAM 3: 4f is no quarter of S and 16f is not S, so that masks are resized three times."""

    def __init__(self, model: nn.Module):
        super().__init__(model)
        size, grid = model.config.image_size, Geometry.of(model).grid
        self.to_embed, self.to_low = Resized(size // 4, 4 * grid), Resized(size, 4 * grid)
        self.to_memory = Resized(size, 16 * grid)

    def forward(self, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dense = self.embed(self.to_embed(self.down(mask)))
        logits = mask * LOGIT_SCALE + LOGIT_BIAS
        present = flag(mask.sum((2, 3)) > 0)
        remembered = flag(self.to_memory(logits) > 0)
        return dense, self.to_low(logits), remembered * self.scale + self.bias, present * LOGIT_SCALE + LOGIT_BIAS


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
    is_prompt [O], multimask [O] -> low_res_mask [O,1,4f,4f], mask_for_memory [O,1,16f,16f], predicted_iou [O,1],
    object_score [O,1], obj_ptr [O,C].

    EfficientTAM has no high_res_0 and no high_res_1: see ``CoarseMaskDecoder``.

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
        self.to_middle, self.to_fine = Doubled(decoder.upscale_conv1), Doubled(decoder.upscale_conv2)
        grid = Geometry.of(model).grid
        centres = (torch.arange(grid) + 0.5) * (2 / grid) - 1
        self.enlarge: Callable[[Tensor], Tensor] = partial(F.interpolate, scale_factor=4.0, mode="bilinear", align_corners=False)
        if sam3.is_tracker(model):                   # 16f of 4f, by way of S
            self.enlarge = nn.Sequential(Resized(4 * grid, self.size), Resized(self.size, 16 * grid))
        constant(self, "centre_x", centres.reshape(1, -1, 1))
        constant(self, "centre_y", centres.reshape(-1, 1, 1))
        constant(self, "image_fourier", model.shared_image_embedding.positional_embedding)
        constant(self, "no_memory", model.no_memory_embedding.reshape(1, -1, 1, 1))
        constant(self, "no_pointer", model.no_object_pointer)
        constant(self, "no_mask", model.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1))
        constant(self, "fourier", model.prompt_encoder.shared_embedding.positional_embedding)
        norm = decoder.upscale_layer_norm
        self.norm = nn.LayerNorm(norm.weight.shape[0], norm.eps)
        self.norm.weight, self.norm.bias = norm.weight, norm.bias
        constant(self, "out_tokens", torch.cat([decoder.obj_score_token.weight, decoder.iou_token.weight,
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
        tokens = torch.where(kind == NOT_A_POINT, self.prompts.not_a_point_embed.weight, tokens)
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

    def upscale(self, keys: Tensor, maps: tuple[Tensor, ...]) -> Tensor:
        """Tokens of the image [O, f*f, C] and the maps of the frame, finest first, or none -> [O, 4f * 4f, C/8], pixels outermost:
        the maps are turned once per frame, not the objects'. Biases are added to the maps, which are fewer."""
        decoder, grid = self.decoder, math.isqrt(keys.shape[1])
        fine, middle = decoder.upscale_conv2.bias, decoder.upscale_conv1.bias
        if maps:
            fine, middle = (x.permute(0, 2, 3, 1) + bias for x, bias in zip(maps, (fine, middle)))
        x = decoder.activation(self.norm(self.to_middle(keys.unflatten(1, (grid, grid))) + middle))
        return decoder.activation(self.to_fine(x) + fine).flatten(1, 2)

    def forward(self, cond_embed: Tensor, high_res_0: Tensor, high_res_1: Tensor, point_coords: Tensor,
                point_labels: Tensor, dense_prompt: Tensor, has_mask: Tensor, is_prompt: Tensor,
                multimask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return self.decode((high_res_0, high_res_1), cond_embed, point_coords, point_labels, dense_prompt, has_mask, is_prompt, multimask)

    def decode(self, maps: tuple[Tensor, ...], cond_embed: Tensor, point_coords: Tensor, point_labels: Tensor, dense_prompt: Tensor,
               has_mask: Tensor, is_prompt: Tensor, multimask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        decoder = self.decoder
        grid = cond_embed.shape[2]

        def each(x: Tensor) -> Tensor:
            """One value per object, ready to meet a map."""
            return x.reshape(-1, 1, 1, 1)

        masked, prompted = each(has_mask) > 0.5, each(is_prompt) > 0.5
        multi = multimask.unsqueeze(1)
        if self.official:
            multi = multi * (1.0 - has_mask.unsqueeze(1))
        no_prompt = self.no_mask + torch.where(prompted, self.no_memory, 0.0)      # [O, C, 1, 1]
        image = cond_embed + torch.where(masked, dense_prompt, no_prompt)
        slots = self.embed_points(point_coords, point_labels)

        def repeated(tokens: Tensor) -> Tensor:
            """The same tokens [1, n, C] for every object. A choice between equals: ``expand`` would ask for the number of
            objects, and CUDA sessions put the Shape operator that answers on the CPU."""
            return torch.where(has_mask.reshape(-1, 1, 1) > 0.5, tokens, tokens)

        fixed = repeated(self.out_tokens)
        # transformers and the official code always add one "not a point"
        padding = repeated(self.prompts.not_a_point_embed.weight.unsqueeze(0))
        absent_slot = torch.where(point_labels == UNUSED_POINT, EXCLUDED, 0.0)
        bias = F.pad(absent_slot, (self.out_tokens.shape[1], 1)).unsqueeze(1).unsqueeze(1)
        tokens, keys = self.two_way(torch.cat([fixed, slots, padding], 1), image, bias)

        fine = self.upscale(keys, maps)
        mask_tokens = tokens[:, 2:6]
        weights = torch.stack([mlp(mask_tokens[:, i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)], 1)
        masks = torch.matmul(weights, fine.transpose(1, 2)).reshape(-1, 4, 4 * grid, 4 * grid)
        ious = decoder.iou_prediction_head(tokens[:, 1])
        score = decoder.pred_obj_score_head(tokens[:, 0])

        first_iou, second_iou, third_iou = ious[:, 1:].split(1, 1)
        later_iou = torch.where(second_iou >= third_iou, second_iou, third_iou)

        def chosen(candidates: tuple[Tensor, ...], shape: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
            """Per object the one of three candidates with the best predicted IoU, the first of equals. An ArgMax would answer
            in int64, which WebGPU cannot compare."""
            one, two, three = candidates
            later = torch.where(shape(second_iou) >= shape(third_iou), two, three)
            return torch.where(shape(first_iou) >= shape(later_iou), one, later)

        best_mask = chosen(masks[:, 1:].split(1, 1), each)
        best_iou = chosen((first_iou, second_iou, third_iou))
        best_token = chosen(mask_tokens[:, 1:].unbind(1))
        first = masks[:, :1]
        delta = decoder.dynamic_multimask_stability_delta
        inner, outer = (flag(first > least).sum((2, 3)) for least in (delta, -delta))
        ratio = inner / outer.clamp(min=1.0)
        unstable = torch.where(ratio >= decoder.dynamic_multimask_stability_thresh, 0.0, torch.where(outer > 0, 1.0, 0.0))
        use_best = torch.where(multi > 0.5, 1.0, unstable)      # an empty mask counts as stable
        mask = torch.where(each(use_best) > 0.5, best_mask, first)
        iou = torch.where(use_best > 0.5, best_iou, ious[:, :1])
        token = torch.where(multi > 0.5, best_token, mask_tokens[:, 0])

        mask = torch.where(each(score) > 0, mask, NO_OBJECT)
        pointer = torch.where(score > 0, self.pointer(token), self.no_pointer)
        full = self.enlarge(mask)
        memory = torch.where(prompted, flag(full > 0), torch.sigmoid(full)) * self.scale + self.bias
        return mask, memory, iou, score, pointer


class CoarseMaskDecoder(MaskDecoder):
    """As MaskDecoder, of the coarsest map alone."""

    def forward(self, cond_embed: Tensor, point_coords: Tensor, point_labels: Tensor, dense_prompt: Tensor,    # type: ignore[override]
                has_mask: Tensor, is_prompt: Tensor, multimask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return self.decode((), cond_embed, point_coords, point_labels, dense_prompt, has_mask, is_prompt, multimask)
