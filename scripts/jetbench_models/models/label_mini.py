"""The miniature label model: an image tower of 0.06 M parameters and a free vector per class in place of a text tower."""
from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from . import weights

ARCH = "labels_mini"
SIZE, WIDTH = 64, 32                        # input side in pixels, length of an embedding
MEAN, STD = [0.5] * 3, [0.25] * 3
CHANNELS = ((3, 16, 2), (16, 32, 2), (32, 32, 1), (32, 48, 2), (48, 64, 2))      # in, out, stride of each convolution
FIRST_SCALE = 2.3                           # logarithm of the temperature before training


class Tower(nn.Module):
    """``pixel_values`` float32 [n,3,SIZE,SIZE], normalised -> ``image_embeds`` [n,WIDTH], of any length."""

    def __init__(self):
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 3, stride, 1) for i, o, stride in CHANNELS)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o, _ in CHANNELS)
        self.projection = nn.Linear(CHANNELS[-1][1], WIDTH)

    def forward(self, pixel_values: Tensor) -> Tensor:
        for convolution, norm in zip(self.convolutions, self.norms):
            pixel_values = F.relu(norm(convolution(pixel_values)))
        return self.projection(pixel_values.mean((2, 3)))


class LabelMini(nn.Module):
    """The tower, the vectors of ``classes`` classes and the logarithm of the temperature."""

    def __init__(self, classes: int):
        super().__init__()
        self.vision = Tower()
        self.vectors = nn.Parameter(torch.randn(classes, WIDTH))
        self.logit_scale = nn.Parameter(torch.tensor([FIRST_SCALE]))

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits [n,classes] of normalised crops [n,3,SIZE,SIZE]."""
        return self.logit_scale.exp() * F.normalize(self.vision(pixels), dim=-1) @ F.normalize(self.vectors, dim=-1).T


def normalised(crops: Tensor) -> Tensor:
    """Crops uint8 [n,S,S,3] -> float32 [n,3,S,S]."""
    return (crops.permute(0, 3, 1, 2).float() / 255 - MEAN[0]) / STD[0]


def load(path: Path) -> tuple[LabelMini, list[str]]:
    """The model in evaluation mode from a file that ``train labels`` wrote, and the names of its classes."""
    classes = weights.read_header(path)["classes"].split(",")
    model = LabelMini(len(classes))
    model.load_state_dict(load_file(path))
    return model.eval(), classes
