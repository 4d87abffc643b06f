"""D-FINE as the module that is traced: the library's, with the parts exchanged that training needs and a graph does not.

Batch norms and the second branch of RepVGG blocks become part of the convolutions. The pool of the stem is a maximum of shifted
slices: ONNX Runtime's Pad_Fusion moves a zero padding that feeds only a MaxPool into it, where it means minus infinity, and
computes another model without a word wherever an affine block makes the values at the edge negative. Border anchors, the largest
float32 as the library has them, are finite in float16. What decides box edges stays in fp32 in every precision.
"""
from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers.models.d_fine import modeling_d_fine as library

from .layers import constant

BORDER = 6e4              # logit of an anchor that is none: its sigmoid is 1, as that of the largest float32


def _larger(a: Tensor, b: Tensor) -> Tensor:
    """The maximum of finite values; ONNX Runtime's WebGPU provider has no Max."""
    return torch.where(a > b, a, b)


class Stem(nn.Module):
    """HGNetV2's first layers; see the module's text for the pool."""

    def __init__(self, plain: nn.Module):
        super().__init__()
        self.stem1, self.stem2a, self.stem2b = plain.stem1, plain.stem2a, plain.stem2b
        self.stem3, self.stem4 = plain.stem3, plain.stem4

    def forward(self, pixels: Tensor) -> Tensor:
        padded = F.pad(self.stem1(pixels), (0, 1, 0, 1))
        convolved = self.stem2b(F.pad(self.stem2a(padded), (0, 1, 0, 1)))
        rows = _larger(padded[:, :, :-1], padded[:, :, 1:])
        pooled = _larger(rows[..., :-1], rows[..., 1:])
        return self.stem4(self.stem3(torch.cat([pooled, convolved], 1)))


class Expected(nn.Module):
    """Expectation of the edges' distributions as products and a sum, not as a matrix product, which would be halved."""

    def __init__(self, plain: nn.Module):
        super().__init__()
        self.bins = plain.max_num_bins + 1

    def forward(self, corners: Tensor, project: Tensor) -> Tensor:
        batch, queries, _ = corners.shape
        return (corners.reshape(batch, queries, 4, self.bins).softmax(-1) * project).sum(-1)


def _frozen_as_norm(frozen: nn.Module) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(len(frozen.weight), eps=1e-5).eval()      # the library's constant
    norm.load_state_dict(frozen.state_dict(), strict=False)
    return norm


def _fuse(convolution: nn.Module, norm: nn.Module) -> nn.Module:
    return fuse_conv_bn_eval(convolution, norm if isinstance(norm, nn.BatchNorm2d) else _frozen_as_norm(norm))


def _fuse_norms(model: nn.Module) -> None:
    """Every convolution that a batch norm follows takes it in."""
    for module in model.modules():
        for first, second in (("convolution", "normalization"), ("conv", "norm")):
            if isinstance(getattr(module, first, None), nn.Conv2d) and not isinstance(getattr(module, second, None), nn.Identity | None):
                setattr(module, first, _fuse(getattr(module, first), getattr(module, second)))
                setattr(module, second, nn.Identity())
    for projections in (model.model.encoder_input_proj, model.model.decoder_input_proj):
        for i, pair in enumerate(projections):
            if isinstance(pair, nn.Sequential):
                projections[i] = _fuse(pair[0], pair[1])


def _merge_branches(model: nn.Module) -> None:
    """A RepVGG block becomes one convolution of 3 x 3; its branch of 1 x 1 is the middle of it. After ``_fuse_norms``."""
    for module in model.modules():
        for name, block in list(module.named_children()):
            if isinstance(block, library.DFineRepVggBlock):
                wide, narrow = block.conv1.conv, block.conv2.conv
                wide.weight = nn.Parameter(wide.weight + F.pad(narrow.weight, (1, 1, 1, 1)))
                wide.bias = nn.Parameter(wide.bias + narrow.bias)
                setattr(module, name, nn.Sequential(wide, block.activation))


class Detector(nn.Module):
    """``image`` [1,3,S,S] -> ``logits`` [1,Q,C] and ``pred_boxes`` [1,Q,4] (cx, cy, w, h in 0..1). Leaves ``model`` as it is."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = copy.deepcopy(model).eval()
        with torch.no_grad():
            _fuse_norms(self.model)
            _merge_branches(self.model)
        inner = self.model.model
        inner.backbone.model.embedder = Stem(inner.backbone.model.embedder)
        inner.decoder.integral = Expected(inner.decoder.integral)
        del inner.anchors, inner.valid_mask
        anchors, valid = inner.generate_anchors()
        constant(inner, "anchors", anchors.clamp(max=BORDER))
        constant(inner, "valid_mask", valid.float())

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        found = self.model(image)
        return found.logits, found.pred_boxes


@contextmanager
def traceable() -> Iterator[None]:
    """Without the library's check of shapes, which has no ONNX operator."""
    kept = library.torch_compilable_check
    library.torch_compilable_check = lambda *_, **__: None
    try:
        yield
    finally:
        library.torch_compilable_check = kept
