"""MobileCLIP as OpenCLIP publishes it: a directory with ``open_clip_config.json`` and its weights, or random numbers.

Other models of that layout are read, too, where the text feature is the row of the end-of-text token and the tokenizer is CLIP's own.
"""
from __future__ import annotations

import json
import pickle
from pathlib import Path

import open_clip
import torch
from safetensors import SafetensorError
from timm.utils.model import reparameterize_model
from torch import Tensor, nn

from . import DoesNotFit
from .clip import Source
from .released import licence_beside, sha256, state_digest

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
# Names in OpenCLIP, by ours; images of [0, 1], bilinear, as the published files of these two have them.
RANDOM = {"mobileclip2_s0": "MobileCLIP2-S0", "mobileclip2_b": "MobileCLIP2-B"}
PLAIN = ([0.0] * 3, [1.0] * 3)
FILTERS = {"bilinear": "bilinear_antialias_u8", "bicubic": "bicubic_antialias_u8"}


def is_open_clip(folder: Path) -> bool:
    return (folder / CONFIG).is_file()


def random(name: str, seed: int) -> Source:
    """Random weights in an architecture of ``RANDOM``; the tokenizer is the real one."""
    known = RANDOM[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.create_model(known, force_custom_text=True).eval()
    return Source(model, name, "random", state_digest(model), None, open_clip.get_tokenizer(known), *PLAIN, FILTERS["bilinear"])


def load(folder: Path) -> Source:
    """A directory of OpenCLIP's layout."""
    at = folder / CONFIG
    try:
        said = json.loads(at.read_text(encoding="utf-8"))
        text, images = said["model_cfg"]["text_cfg"], said.get("preprocess_cfg", {})
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise DoesNotFit(f"{at}: model_cfg with a text_cfg expected: {error!r}") from None
    if other := [name for name in ("hf_model_name", "hf_tokenizer_name") if text.get(name)]:
        raise DoesNotFit(f"{at}: text_cfg.{other[0]} = {text[other[0]]!r}: OpenCLIP would download it; with CLIP's own text tower and "
                         "tokenizer, as MobileCLIP's, it can be read")
    file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise DoesNotFit(f"{folder}: neither {' nor '.join(WEIGHTS)}")
    mean, std, resize = images.get("mean"), images.get("std"), images.get("interpolation", "bicubic")
    if not all(isinstance(v, list) and len(v) == 3 for v in (mean, std)) or resize not in FILTERS:
        raise DoesNotFit(f"{at}: preprocess_cfg: mean and std of three numbers and interpolation bilinear or bicubic expected")
    try:
        model = open_clip.create_model(f"local-dir:{folder}", force_custom_text=True).eval()
        tokens = open_clip.get_tokenizer(f"local-dir:{folder}")
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AssertionError, SafetensorError, pickle.UnpicklingError) as error:
        raise DoesNotFit(f"{folder}: {error}") from None
    if getattr(model, "logit_bias", None) is not None or model.text.pool_type != "argmax":
        raise DoesNotFit(f"{folder}: its text features are no rows of the end-of-text token, or its scores have a bias; is it SigLIP? Take "
                         "the directory that transformers reads")
    if len(sides := set(model.visual.image_size)) != 1:
        raise DoesNotFit(f"{at}: image_size {model.visual.image_size}: crops of tracks are squares")
    if images.get("size", sides.copy().pop()) not in (*sides, list(model.visual.image_size)):
        raise DoesNotFit(f"{at}: preprocess_cfg.size = {images['size']}, and the image tower takes {sides.pop()} px")
    licence = licence_beside(folder)
    return Source(model, folder.resolve().name, "hugging face", sha256(file), licence, tokens, mean, std, FILTERS[resize])


class Vision(nn.Module):
    """``pixel_values`` [n,3,S,S] -> the image's embedding [n,D], not normalised."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.tower = model.visual

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.tower(pixel_values)

    def merged(self) -> nn.Module:
        """A copy whose parallel branches of training are one convolution each: the same function, fewer operators."""
        return reparameterize_model(self)
