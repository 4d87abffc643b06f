"""Which graphs a pack has, and what goes in and comes out of each."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ...models import UNUSED_POINT
from ...pack.ports import Port
from .decoder import (
    CoarseMaskDecoder,
    MaskDecoder,
    MaskPrompt,
    ResizedMaskPrompt,
)
from .geometry import Geometry
from .image import ImageEncoder, PlainImageEncoder
from .memory import GrowingMemoryEncoder, MemoryEncoder, memory_attention
from .vit import VitImageEncoder

POINT_SLOTS = 4
OBJECTS = "objects"            # symbol of the batch axis
COND_OBJECTS = "cond_objects"  # of cond_embed in mask_decoder: the number of objects, or 1, which is broadcast
MEMORIES, POINTERS = "memories", "pointers"    # of the state in the form that grows: 0 before the prompt, up to N and P


Build = Callable[[nn.Module], nn.Module]      # a model of transformers -> the module of one of its graphs


@dataclass(frozen=True)
class Signature:
    """One graph of a pack: how to build its module and what goes in and comes out, in order."""

    module: Build
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
    fine, middle = port("high_res_0", 1, c // 8, 4 * f, 4 * f), port("high_res_1", 1, c // 4, 2 * f, 2 * f)
    low, for_memory = port("low_res_mask", o, 1, 4 * f, 4 * f), port("mask_for_memory", o, 1, 16 * f, 16 * f)
    score, iou, pointer = port("object_score", o, 1), port("predicted_iou", o, 1), port("obj_ptr", o, c)
    has_mask, is_prompt, multimask = (port(n, o) for n in ("has_mask", "is_prompt", "multimask"))
    slots, pointers = (MEMORIES, POINTERS) if grows else (g.slots, g.pointers)
    state = [("bank", (o, slots, g.memory_tokens, g.memory_channels)), ("ptrs", (o, pointers, c)), ("age", (o,))]
    before = tuple(port(name, *shape) for name, shape in state)
    after = tuple(port(f"{name}_out", *(f"{n}_out" if n in (MEMORIES, POINTERS) else n for n in shape))
                  for name, shape in state)
    attention: Build = memory_attention
    encoder: Callable[..., nn.Module] = MemoryEncoder
    to_remember = (embed, for_memory, score, pointer, is_prompt, *before)
    if grows:
        attention, encoder = partial(memory_attention, grows=True), GrowingMemoryEncoder
        to_remember = tuple(p for p in to_remember if p is not is_prompt)
    points = (port("point_coords", o, POINT_SLOTS, 2), port("point_labels", o, POINT_SLOTS, dtype="i32"))
    image, decoder, maps = (ImageEncoder, MaskDecoder, (fine, middle)) if g.finer else (PlainImageEncoder, CoarseMaskDecoder, ())
    mask_prompt: Build = partial(MaskPrompt, official=official)
    if s != 16 * f:                # SAM 3
        image, mask_prompt = VitImageEncoder, ResizedMaskPrompt
    to_decode = (port("cond_embed", COND_OBJECTS, c, f, f), *maps, *points, dense, has_mask, is_prompt, multimask)
    return {
        "image_encoder": Signature(image, (port("image", 1, 3, s, s),), (embed, *maps)),
        "mask_prompt": Signature(mask_prompt, (port("mask", o, 1, s, s),), (dense, low, for_memory, score)),
        "mask_decoder": Signature(partial(decoder, official=official), to_decode, (low, for_memory, iou, score, pointer)),
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
