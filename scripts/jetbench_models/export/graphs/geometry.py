"""The sizes of a model, as its graphs and its pack state them."""
from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ...models import PATCH, sam3
from ...models.efficienttam import EfficientTamModel


@dataclass(frozen=True)
class Geometry:
    """Everything a pack says about sizes; read from the model's own configuration."""

    size: int                # S, pixels
    channels: int            # C
    grid: int                # f: S/16, of SAM 3 S/14
    memory_tokens: int       # M
    memory_channels: int     # D
    slots: int               # N
    pointers: int            # P
    finer: bool = True       # are there feature maps of 4f and 2f?

    @staticmethod
    def of(model: nn.Module) -> Geometry:
        config = model.config
        grid = config.image_size // (sam3.PATCH if sam3.is_tracker(model) else PATCH)
        tokens = grid * grid
        if is_edgetam(model):
            tokens = config.perceiver_resampler_num_latents + config.perceiver_resampler_num_latents_2d
        return Geometry(config.image_size, config.memory_attention_hidden_size, grid, tokens, model.mem_dim,
                        config.num_maskmem, config.max_object_pointers_in_encoder, not is_efficienttam(model))


def is_efficienttam(model: nn.Module) -> bool:
    return isinstance(model, EfficientTamModel)


def is_edgetam(model: nn.Module) -> bool:
    return hasattr(model, "spatial_perceiver")
