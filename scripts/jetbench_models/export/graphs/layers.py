"""Layers that several graphs are built of."""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def constant(module: nn.Module, name: str, value: Tensor) -> None:
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
            constant(self, name, half[:, :1] if along_rows else half[:1])

    def forward(self) -> Tensor:
        """[rows * columns, n]"""
        first, second = (half.expand(self.rows, self.columns, -1) for half in (self.first, self.second))
        return torch.cat([first, second], -1).reshape(self.rows * self.columns, -1)

    @staticmethod
    def of(flat: Tensor) -> GridTable:
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
        constant(self, "weight", plain.weight[:, :, None, None])
        constant(self, "bias", plain.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x.permute(0, 3, 1, 2), self.weight, self.bias).permute(0, 2, 3, 1)
