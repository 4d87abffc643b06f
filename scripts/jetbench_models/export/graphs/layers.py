"""Layers that several graphs are built of, and how graphs say yes and no.

No graph holds a boolean tensor but comparisons that a Where reads: WebGPU has booleans in few operators and would put the others
on the CPU. What is decided from several facts is a product of flags, 0 or 1 in fp32; see ``flag``.
"""
from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...pack.loop import triangle_taps


def constant(module: nn.Module, name: str, value: Tensor) -> None:
    module.register_buffer(name, value.detach().clone().contiguous(), persistent=False)


def flag(fact: Tensor) -> Tensor:
    """1 where a comparison holds, else 0."""
    return torch.where(fact, 1.0, 0.0)


def as_bfloat16(x: Tensor) -> Tensor:
    """x rounded to the 8 binary digits of bfloat16, ties to even, in fp32 alone: neither WebGPU nor TensorRT before 9 has the type.

    Veltkamp's splitting: a product with 2^16 + 1 whose rounding leaves 8 digits when 2^16 times x is taken away again. Equal to a
    cast for every normal number below 2^111, which a memory never reaches. The limits keep a compiler from making the product
    and the differences one operator that rounds once: then nothing would be rounded.
    """
    raised = (x * 65537.0).clamp(-3e38, 3e38)
    return raised - (raised - x)


def rotate_pairs(x: Tensor) -> Tensor:
    """(x0, x1, x2, x3, ...) -> (-x1, x0, -x3, x2, ...): rotary embedding without complex numbers."""
    pairs = x.reshape(*x.shape[:-1], -1, 2)
    return torch.stack((-pairs[..., 1], pairs[..., 0]), -1).flatten(-2)


def windows(x: Tensor, side: int) -> Tensor:
    """[1, h, w, C] -> [windows, side, side, C], zeros where a window goes over the edge."""
    _, h, w, c = x.shape
    if h % side or w % side:
        x = F.pad(x, (0, 0, 0, -w % side, 0, -h % side))
    return x.unflatten(1, (-1, side)).unflatten(3, (-1, side)).transpose(2, 3).reshape(-1, side, side, c)


def from_windows(x: Tensor, side: int, height: int, width: int) -> Tensor:
    """What ``windows`` made, as a map [1, height, width, C] again."""
    rows, columns = (-(-n // side) for n in (height, width))
    x = x.reshape(1, rows, columns, side, side, -1).transpose(2, 3).reshape(1, rows * side, columns * side, -1)
    return x[:, :height, :width] if (rows * side, columns * side) != (height, width) else x


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


class Doubled(nn.Module):
    """A transposed convolution of two pixels in steps of two, on maps [B, h, w, C] -> [B, 2 h, 2 w, C'], without its bias.

    No two of its pixels overlap, so that each pixel of the map becomes 2 x 2 by one matrix product to 4 C' values, which are
    then put in place in rows of 2 C'. NVIDIA's compiler has no transposed convolution in bfloat16.
    """

    def __init__(self, plain: nn.ConvTranspose2d):
        super().__init__()
        sizes = (plain.kernel_size, plain.stride, plain.padding, plain.output_padding, plain.dilation, plain.groups)
        if sizes != ((2, 2), (2, 2), (0, 0), (0, 0), (1, 1), 1):
            raise ValueError("a transposed convolution of two pixels in steps of two is expected")
        self.channels = plain.out_channels
        constant(self, "weight", plain.weight.permute(0, 2, 3, 1).reshape(plain.in_channels, -1))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        rows = torch.matmul(x, self.weight).reshape(-1, width, 2, 2 * self.channels)       # of each row of pixels: [w, 2, 2 C']
        return rows.transpose(1, 2).reshape(-1, 2 * height, 2 * width, self.channels)


class Resized(nn.Module):
    """Maps [O,1,n,n] -> [O,1,m,m], as PyTorch's bilinear interpolation with antialiasing, which is the plain one where m > n.

    Written with sums of shifted rows because an antialiased Resize is missing from several providers, and because a Resize has its
    scale in fp32: of sizes like 7 to 8 the places of pixels would be inexact.
    """

    def __init__(self, source: int, target: int):
        super().__init__()
        taps = triangle_taps(source, target, np.float32)       # as PyTorch computes them
        self.count = max(len(weights) for _, weights in taps)
        first = np.array([min(start, source - self.count) for start, _ in taps])
        weight = np.zeros((self.count, target), np.float32)
        for i, (start, weights) in enumerate(taps):
            weight[start - first[i]:start - first[i] + len(weights), i] = weights
        constant(self, "first", torch.from_numpy(first))
        constant(self, "weight", torch.from_numpy(weight))

    def _columns(self, x: Tensor) -> Tensor:
        out = x.index_select(3, self.first) * self.weight[0]
        for i in range(1, self.count):
            out = out + x.index_select(3, self.first + i) * self.weight[i]
        return out

    def forward(self, x: Tensor) -> Tensor:
        return self._columns(self._columns(x).transpose(2, 3)).transpose(2, 3)


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
