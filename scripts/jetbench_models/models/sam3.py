"""SAM 3's tracker: transformers' ``Sam3TrackerVideoModel``, SAM 2.1's tracker behind another image encoder.

The released model is a detector and a tracker that share a vision encoder. The tracker alone is what a pack holds: the published
weights are read from a file of the whole model, and what belongs to the detector stays there.
"""
from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from safetensors import safe_open
from torch import Tensor, nn
from transformers import Sam3TrackerVideoConfig, Sam3TrackerVideoModel

FAMILY = "sam3_tracker"
TERMS = "LicenseRef-SAM"                    # of the published weights, as an SPDX expression: the list has no name for Meta's SAM License
PATCH = 14                                  # pixels per token
# name: input size in pixels, what differs from the published configuration. The small one is nobody's: it serves tests.
SIZES: dict[str, tuple[int, dict, dict]] = {
    "sam3_tracker": (1008, {}, {}),
    "sam3_tracker_small": (112, dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, window_size=3,
                                     global_attn_indexes=[1], pretrain_image_size=56), dict(memory_attention_num_layers=2)),
}
NAMES = tuple(SIZES)
MODEL_TYPES = ("sam3_video", "sam3_tracker_video")      # in config.json: of the whole model, of its tracker


def config(name: str) -> Sam3TrackerVideoConfig:
    """Configuration of one of NAMES."""
    size, encoder, rest = SIZES[name]
    vision = dict(model_type="sam3_vision_model", backbone_config=dict(model_type="sam3_vit_model", **encoder))
    return Sam3TrackerVideoConfig(vision_config=vision, prompt_encoder_config={}, mask_decoder_config={}, image_size=size, **rest)


def name_of(made: Sam3TrackerVideoConfig) -> str:
    """The one of NAMES that has this image encoder, else what it is."""
    for name in NAMES:
        known, found = (c.vision_config.backbone_config for c in (config(name), made))
        if all(getattr(known, key) == getattr(found, key) for key in ("hidden_size", "num_hidden_layers", "num_attention_heads")):
            return name
    return f"{FAMILY} (own sizes)"


def is_tracker(model: nn.Module) -> bool:
    return isinstance(model, Sam3TrackerVideoModel)


def own_name(key: str) -> str | None:
    """The tracker's name of one weight of the whole model's file; None for what it does not have. A file of the tracker alone has its
    names already."""
    for pattern, target in ((r"detector_model\.vision_encoder\.backbone\.", "vision_encoder.backbone."),
                            (r"tracker_neck\.", "vision_encoder.neck."), (r"tracker_model\.", "")):
        if match := re.match(pattern, key):
            return target + key[match.end():]
    return None if key.startswith("detector_model.") else key


def read(files: Iterable[Path]) -> dict[str, Tensor]:
    """The tracker's weights out of safetensors files, one by one: the detector's are not loaded."""
    state: dict[str, Tensor] = {}
    for file in files:
        with safe_open(file, framework="pt") as weights:
            for key in weights.keys():          # noqa: SIM118 (no dictionary)
                if name := own_name(key):
                    state[name] = weights.get_tensor(key)
    return state
