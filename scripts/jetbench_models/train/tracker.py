"""Differentiable, batched tracker built from the sub-modules of the transformers models.

The session API of transformers tracks one clip at a time under ``no_grad``. Training needs many objects of many clips
at once, with gradients through the memory. This module repeats the same computation, in the same order, for N objects:
encode -> memory attention (or the no-memory embedding) -> prompt encoder and mask decoder -> memory encoder.
``track`` runs it as inference; ``evaluate --parity`` checks that it equals the session API.

Symbols: N objects, S image size, g = S/16 token grid, C = 128 channels, M = 64 memory channels.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.sam2.modeling_sam2 import window_partition
from transformers.models.sam2_video.modeling_sam2_video import get_1d_sine_pe

from ..clips.synth import Prompt
from ..models import MAX_POINTERS, MEAN, NO_OBJECT, PATCH, STD
from ..models.miniature import HIDDEN, MEMORY

Memory = tuple[Tensor, Tensor]      # tokens [L, N, M] and their positions [L, 1, M]


def normalise(frames: np.ndarray) -> Tensor:
    """uint8 [B, S, S, 3] -> float [B, 3, S, S], ImageNet statistics."""
    x = torch.from_numpy(frames).permute(0, 3, 1, 2).float().div_(255)
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (MEAN, STD))
    return (x - mean) / std


def resize(x: Tensor, size: int) -> Tensor:
    """Bilinear resize of [N, K, h, w] to [N, K, size, size]."""
    return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)


def _cached_positions(module: nn.Module) -> None:
    """The sine embedding is rebuilt on every call, because its one-entry cache thrashes over the levels: keep all."""
    original: Callable[..., Tensor] = module.forward
    cache: dict[tuple[int, ...], Tensor] = {}

    def forward(shape: torch.Size, device: torch.device, dtype: torch.dtype, mask: Tensor | None = None) -> Tensor:
        key = tuple(shape[1:])
        if key not in cache:
            cache[key] = original(torch.Size((1, *key)), device, torch.float32)
        return cache[key].expand(shape[0], -1, -1, -1).to(dtype)

    module.forward = forward


def _batched_latents_2d(perceiver: nn.Module, hidden_states: Tensor) -> Memory:
    """``EdgeTamVideoPerceiverResampler._forward_2d`` for any batch size (the stock code calls view on an expansion)."""
    batch, channels, height, _ = hidden_states.shape
    side = int(perceiver.num_latents_2d ** 0.5)
    latents = perceiver.latents_2d.unsqueeze(0).expand(batch, -1, -1).reshape(-1, 1, channels)
    windows, _ = window_partition(hidden_states.permute(0, 2, 3, 1), height // side)
    windows = windows.flatten(1, 2)
    for layer in perceiver.layers:
        latents = layer(latents, windows, positional_encoding=None)
    latents = latents.view(batch, side, side, channels)
    shape = torch.Size((batch, channels, side, side))
    positions = perceiver.positional_encoding(shape, latents.device, latents.dtype)
    return perceiver.layer_norm(latents.flatten(1, 2)), positions.permute(0, 2, 3, 1).flatten(1, 2)


class Tracker:
    """Functional view of one model; holds no state of a clip. Patches the model for batched training, which leaves its
    results unchanged."""

    def __init__(self, model: nn.Module, arch: str):
        self.model, self.arch = model, arch
        self.size = model.image_size
        self.grid = self.size // PATCH
        _cached_positions(model.vision_encoder.neck.position_encoding)
        _cached_positions(model.memory_encoder.position_encoding)
        if arch == "edgetam":
            perceiver = model.spatial_perceiver
            _cached_positions(perceiver.positional_encoding)
            perceiver._forward_2d = lambda hidden: _batched_latents_2d(perceiver, hidden)

    def encode(self, pixels: Tensor) -> tuple[list[Tensor], Tensor]:
        """Images [B, 3, S, S] -> features at strides 4, 8, 16 ([B, C/8 | C/4 | C, h, w]) and positions [g*g, 1, C]."""
        out = self.model.get_image_features(pixels, return_dict=True)
        batch = pixels.shape[0]
        maps = [feature.permute(1, 2, 0).reshape(batch, -1, k * self.grid, k * self.grid)
                for feature, k in zip(out.fpn_hidden_states, (4, 2, 1))]
        return maps, out.fpn_position_encoding[-1][:, :1]

    def no_memory(self, image: Tensor) -> Tensor:
        """Image features [N, C, g, g] as the decoder expects them on a prompted frame."""
        return image + self.model.no_memory_embedding.view(1, -1, 1, 1)

    def decode(self, image: Tensor, high_resolution: list[Tensor], points: Tensor | None = None,
               labels: Tensor | None = None, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All four mask tokens at once.

        Args:
            image: [N, C, g, g]; high_resolution: stride-4 and stride-8 features of the same N objects.
            points: [N, n, 2] pixels with ``labels`` [N, n]; none = the tracking prompt. mask: [N, 1, 4g, 4g].
        Returns:
            mask logits [N, 4, 4g, 4g], predicted IoU [N, 4], mask tokens [N, 4, C], object score logit [N, 1].
        """
        model, decoder, count = self.model, self.model.mask_decoder, image.shape[0]
        if points is None or labels is None:
            points, labels = torch.zeros(count, 1, 2), -torch.ones(count, 1, dtype=torch.int32)
        sparse, dense = model.prompt_encoder(input_points=points[:, None], input_labels=labels[:, None],
                                             input_boxes=None, input_masks=mask)
        tokens = torch.cat([decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight], 0)
        tokens = torch.cat((tokens.repeat(count, 1, 1, 1), sparse), 2)
        positions = model.get_image_wide_positional_embeddings().repeat(count, 1, 1, 1)
        tokens, keys = decoder.transformer(point_embeddings=tokens, image_embeddings=image + dense,
                                           image_positional_embeddings=positions, attention_similarity=None,
                                           target_embedding=None)
        tokens = tokens[:, 0]
        fine = keys.transpose(2, 3).reshape(count, HIDDEN, self.grid, self.grid)
        fine = decoder.activation(decoder.upscale_layer_norm(decoder.upscale_conv1(fine) + high_resolution[1]))
        fine = decoder.activation(decoder.upscale_conv2(fine) + high_resolution[0])
        weights = [mlp(tokens[:, 2 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)]
        masks = (torch.stack(weights, 1) @ fine.flatten(2)).view(count, 4, *fine.shape[2:])
        iou, score = decoder.iou_prediction_head(tokens[:, 1]), decoder.pred_obj_score_head(tokens[:, 0])
        return masks, iou, tokens[:, 2:6], score

    def pointer(self, token: Tensor, present: Tensor) -> Tensor:
        """Chosen mask token [N, C] and presence [N, 1] in 0..1 -> object pointer [N, C]."""
        return present * self.model.object_pointer_proj(token) + (1 - present) * self.model.no_object_pointer

    def memorise(self, image: Tensor, mask: Tensor, present: Tensor) -> Memory:
        """Image features [N, C, g, g] and mask [N, 1, S, S] in 0..1 -> memory of one frame."""
        model = self.model
        scaled = mask * model.config.sigmoid_scale_for_mem_enc + model.config.sigmoid_bias_for_mem_enc
        feature, positions = model.memory_encoder(image, scaled)
        absent = (1 - present)[..., None, None]
        feature = feature + absent * model.occlusion_spatial_embedding_parameter[..., None, None]
        if self.arch == "edgetam":
            feature, positions = model.spatial_perceiver(feature, positions.to(feature.dtype))
            return feature.permute(1, 0, 2), positions[:1].permute(1, 0, 2)
        return feature.flatten(2).permute(2, 0, 1), positions[:1].flatten(2).permute(2, 0, 1)

    def condition(self, image: Tensor, positions: Tensor, prompted: Memory, recent: list[tuple[int, Memory]],
                  pointers: list[tuple[int, Tensor]], max_pointers: int = MAX_POINTERS) -> Tensor:
        """Memory attention.

        Args:
            image, positions: from ``encode``. prompted: memory of the prompted frame.
            recent: (age in frames, memory) of tracked frames, age < 7. pointers: (age, pointer [N, C]).
        Returns:
            conditioned features [N, C, g, g].
        """
        model, count = self.model, image.shape[0]
        temporal = model.memory_temporal_positional_encoding
        tokens, places = [prompted[0]], [prompted[1] + temporal[-1]]
        for age, (token, place) in sorted(recent, key=lambda item: -item[0]):
            tokens.append(token)
            places.append(place + temporal[age - 1])
        spatial = len(tokens)
        ages = torch.tensor([float(age) for age, _ in pointers]) / float(max_pointers - 1)
        pointer_places = model.temporal_positional_encoding_projection_layer(get_1d_sine_pe(ages, dim=HIDDEN))
        pieces = HIDDEN // MEMORY
        pointer_tokens = torch.stack([pointer for _, pointer in pointers], 0)
        pointer_tokens = pointer_tokens.reshape(-1, count, pieces, MEMORY).permute(0, 2, 1, 3).flatten(0, 1)
        pointer_places = pointer_places.unsqueeze(1).repeat_interleave(pieces, 0)
        memory = torch.cat([*tokens, pointer_tokens], 0)
        places = torch.cat([place.expand(-1, count, -1) for place in (*places, pointer_places)], 0)
        extra = dict(num_spatial_memory_tokens=spatial) if self.arch == "edgetam" else {}
        out = model.memory_attention(current_vision_features=image.flatten(2).permute(2, 0, 1),
                                     current_vision_position_embeddings=positions.expand(-1, count, -1),
                                     memory=memory, memory_posision_embeddings=places,
                                     num_object_pointer_tokens=pointer_tokens.shape[0], **extra)[0]
        return out.transpose(1, 2).reshape(count, HIDDEN, self.grid, self.grid)


@torch.no_grad()
def track(tracker: Tracker, frames: np.ndarray, prompt: Prompt, mask: np.ndarray) -> tuple[list[Tensor], list[float]]:
    """Tracks one object through frames uint8 [T, S, S, 3] from a prompt on frame 0, as the session API does.

    Returns the mask logits [1, 1, 4g, 4g] and the object score logit of every frame.
    """
    model, size, count = tracker.model, tracker.size, len(frames)
    limit = min(count, MAX_POINTERS)
    logits, scores = [], []
    recent: list[tuple[int, Memory]] = []
    pointers: list[tuple[int, Tensor]] = []
    prompted: Memory | None = None
    for t in range(count):
        features, positions = tracker.encode(normalise(frames[t:t + 1]))
        if t == 0 and prompt.kind == "mask":
            full = torch.from_numpy(mask)[None, None].float()
            _, iou, tokens, score = tracker.decode(features[2], features[:2], mask=model.mask_downsample(full))
            chosen = int(iou[0, 1:].argmax()) + 1
            low = F.interpolate(full * 20 - 10, size=(size // 4, size // 4), mode="bilinear", antialias=True)
            pointer = tracker.pointer(tokens[:, chosen], (score > 0).float())
            present, soft, score = torch.ones(1, 1), full, torch.full((1, 1), 10.0)
        else:
            if t == 0:
                image = tracker.no_memory(features[2])
                points, labels = torch.from_numpy(prompt.points)[None], torch.from_numpy(prompt.labels)[None].int()
            else:
                assert prompted is not None, "frame 0 sets it"
                near = [(t - s, memory) for s, memory in recent if t - s < model.num_maskmem]
                known = [(t - s, p) for s, p in pointers if s == 0 or t - s < limit]
                image = tracker.condition(features[2], positions, prompted, near, known, limit)
                points = labels = None
            masks, iou, tokens, score = tracker.decode(image, features[:2], points, labels)
            present = (score > 0).float()
            if t == 0 and prompt.kind != "point":
                low = model.mask_decoder._dynamic_multimask_via_stability(masks[:, None], iou[:, None])[0][:, 0]
                chosen = 0
            else:
                chosen = int(iou[0, 1:].argmax()) + 1
                low = masks[:, chosen:chosen + 1]
            low = torch.where(present[..., None, None] > 0, low, torch.tensor(NO_OBJECT))
            pointer = tracker.pointer(tokens[:, chosen], present)
            full = resize(low, size)
            soft = (full > 0).float() if t == 0 else full.sigmoid()
        memory = tracker.memorise(features[2], soft, present)
        if tracker.arch == "sam2":   # the session stores SAM 2 memories as bfloat16
            memory = (memory[0].bfloat16().float(), memory[1])
        if t == 0:
            prompted = memory
        else:
            recent.append((t, memory))
        pointers.append((t, pointer))
        logits.append(low)
        scores.append(float(score))
    return logits, scores
