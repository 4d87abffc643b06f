"""VidEoMT: the released sizes, the miniature, and every way to get weights into them.

All are the stock transformers class (``VideomtForUniversalSegmentation``). The miniature keeps every part of the architecture (a plain
vision transformer with register tokens, queries in its last blocks, query propagation, two upscaling blocks, mask head) at 0.19 M
parameters.
"""
from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import VideomtConfig, VideomtForUniversalSegmentation

from ..clips.tubes import CLASSES
from . import DoesNotFit, weights
from .released import Checkpoint, licence_beside, put, sha256, state_digest

FAMILY = "videomt"
MINIATURE = "videomt_mini"
MINIATURE_SIZE = 144      # input side of the miniature in pixels
IMAGE_SIZE = 640          # of the released models
STEP = 16                 # pixels per token of the released models; the runner takes multiples of it


@dataclass(frozen=True)
class Size:
    """One released size: channels, layers, heads, and the last layers, which see the queries."""

    hidden: int
    layers: int
    heads: int
    blocks: int


# From the public configurations on Hugging Face (tue-mps/videomt-dinov2-*-ytvis2019).
SIZES = {"videomt_s": Size(384, 12, 6, 3), "videomt_b": Size(768, 12, 12, 3), "videomt_l": Size(1024, 24, 16, 4)}
NAMES = tuple(SIZES)


def _labels(classes: tuple[str, ...]) -> dict:
    return dict(id2label=dict(enumerate(classes)), label2id={name: i for i, name in enumerate(classes)})


def _grid_waves(side: int, width: int) -> Tensor:
    """Sines and cosines of row and column, [side*side, width]: where the learnt places of patches start."""
    rates = torch.exp(torch.arange(width // 4) * (-math.log(100.0) / (width // 4)))
    angles = (torch.arange(side)[:, None] * rates).float()
    waves = torch.cat([angles.sin(), angles.cos()], 1)
    rows, columns = waves[:, None].expand(-1, side, -1), waves[None].expand(side, -1, -1)
    return torch.cat([rows, columns], -1).flatten(0, 1)


def build(seed: int = 0) -> nn.Module:
    """The miniature with random weights; places start as waves, and the no-object class as the likely one."""
    torch.manual_seed(seed)
    model = VideomtForUniversalSegmentation(VideomtConfig(
        hidden_size=48, num_hidden_layers=6, num_blocks=3, mlp_ratio=3, num_attention_heads=4, image_size=MINIATURE_SIZE, patch_size=12,
        num_queries=10, num_register_tokens=1, no_object_weight=0.3, **_labels(CLASSES)))
    with torch.no_grad():
        model.embeddings.position_embeddings.weight.copy_(0.5 * _grid_waves(MINIATURE_SIZE // 12, 48))
        model.class_predictor.bias[-1] += 2.0
        model.query_updater.weight.copy_(0.5 * torch.eye(48))
        model.query_updater.bias.zero_()
    return model


def classes_of(model: nn.Module) -> list[str]:
    """Names of the classes, in order; "no object" is none."""
    return [str(model.config.id2label[i]) for i in range(model.config.num_labels)]


def recognise(made: VideomtConfig) -> str:
    """Name of the released size with this configuration, else "videomt (own sizes)"."""
    shape = Size(made.hidden_size, made.num_hidden_layers, made.num_attention_heads, made.num_blocks)
    return next((name for name, size in SIZES.items() if size == shape), "videomt (own sizes)")


def _from_hugging_face(folder: Path, name: str | None, image_size: int | None) -> Checkpoint:
    file = folder / "model.safetensors"
    if not file.is_file():
        raise DoesNotFit(f"{folder}: a Hugging Face directory has config.json and model.safetensors")
    made = VideomtConfig.from_dict(json.loads((folder / "config.json").read_text()))
    found = recognise(made)
    if name and name != found:
        raise DoesNotFit(f"{folder}: its configuration is {found}, not {name}")
    if image_size not in (None, made.image_size):
        raise DoesNotFit(f"image size {image_size}: the places of these weights are for {made.image_size} pixels")
    if not isinstance(made.image_size, int) or made.image_size % STEP:
        raise DoesNotFit(f"{folder}: image size {made.image_size}: one number, a multiple of {STEP}, expected")
    try:
        model, report = VideomtForUniversalSegmentation.from_pretrained(folder, config=made, output_loading_info=True, dtype=torch.float32)
    except (SafetensorError, RuntimeError, OSError, ValueError) as error:
        raise DoesNotFit(f"{folder}: {str(error).splitlines()[0]}") from error
    wrong = [f"{len(report[kind])} {kind.replace('_', ' ')}: {sorted(map(str, report[kind]))[:6]}"
             for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if report.get(kind)]
    if wrong:
        raise DoesNotFit(f"{folder} does not fit its own configuration ({found}):\n  " + "\n  ".join(wrong))
    licence = licence_beside(folder)
    return Checkpoint(model.eval(), found, "hugging face", sha256(file), licence)


def _trained_here(path: Path, name: str | None, image_size: int | None) -> Checkpoint:
    if image_size not in (None, MINIATURE_SIZE) or name is not None:
        raise DoesNotFit(f"{path}: is {MINIATURE} at {MINIATURE_SIZE} px, which cannot be changed")
    model = build()
    put(model, load_file(path), f"{path} is not of this {MINIATURE}:")
    return Checkpoint(model.eval(), MINIATURE, "trained here", sha256(path), None)


def is_segmenter(path: Path) -> bool:
    """Are these the weights of a VidEoMT? What cannot be read is not, and is refused where it is loaded."""
    try:
        if path.is_dir():
            return json.loads((path / "config.json").read_text()).get("model_type") == FAMILY
        return path.suffix == ".safetensors" and weights.read_header(path).get("arch") == FAMILY
    except Exception:      # json and safetensors raise many kinds
        return False


def load(path: Path, name: str | None = None, image_size: int | None = None) -> Checkpoint:
    """The model of a checkpoint in evaluation mode. ``name``: size it must have (default: what it is)."""
    return (_from_hugging_face if path.is_dir() else _trained_here)(path, name, image_size)


@torch.no_grad()
def random(name: str, seed: int, image_size: int = IMAGE_SIZE) -> Checkpoint:
    """Random weights with which every part of the model does something: norms, scales and biases are drawn too."""
    if name not in SIZES:
        raise DoesNotFit(f"unknown segmenter {name!r}; known are {', '.join(NAMES)}")
    if image_size < STEP or image_size % STEP:
        raise DoesNotFit(f"image size {image_size}: VidEoMT takes multiples of {STEP} pixels")
    torch.manual_seed(seed)
    size = SIZES[name]
    model = VideomtForUniversalSegmentation(VideomtConfig(
        hidden_size=size.hidden, num_hidden_layers=size.layers, num_attention_heads=size.heads, num_blocks=size.blocks,
        image_size=image_size, **_labels(tuple(f"class {i}" for i in range(40))))).eval()
    for key, parameter in sorted(model.named_parameters()):
        if "norm" in key or "lambda" in key:
            parameter.copy_(float(key.endswith(("weight", "lambda1"))) + torch.randn(parameter.shape) * 0.1)
        elif key.endswith(("cls_token", "register_tokens")):
            parameter.copy_(torch.randn(parameter.shape))
    # answers that differ enough for some queries to be sure of their class and of their mask
    model.class_predictor.weight.mul_(8.0)
    model.mask_head.fc3.weight.mul_(8.0)
    return Checkpoint(model, name, "random", state_digest(model), None)
