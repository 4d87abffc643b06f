"""The image encoder: one frame becomes feature maps of three sizes, or of one."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...models import PATCH
from .layers import constant


def one_after_the_other(first: nn.Conv2d, second: nn.Conv2d) -> nn.Conv2d:
    """A convolution and one of one pixel after it as one, merged in double precision. Between them the finest maps would have C
    channels, 67 MB at 1024 px, of which C/8 remain."""
    a, b = first.weight.detach().double(), second.weight.detach().double()[:, :, 0, 0]
    merged = nn.Conv2d(a.shape[1], b.shape[0], a.shape[2:], padding=first.padding)
    merged.weight = nn.Parameter((b @ a.flatten(1)).float().unflatten(1, a.shape[1:]), requires_grad=False)
    merged.bias = nn.Parameter((b @ first.bias.double() + second.bias.double()).float().detach(), requires_grad=False)
    return merged


class Backbone(nn.Module):
    """A model's image encoder and the positions that it adds to its first tokens, of which a side of the image has ``side``.

    Hiera enlarges a small table of positions with bicubic weights. TensorRT has no bicubic Resize, so the same weights stand
    here as a matrix that multiplies the table from both sides. No input enters the product: it is done once, at load.
    """

    def __init__(self, model: nn.Module, side: int):
        super().__init__()
        self.encoder, self.side = model.vision_encoder, side
        table = getattr(self.encoder.backbone, "pos_embed", None)
        if table is not None:
            units = torch.eye(table.shape[-1]).reshape(table.shape[-1], 1, -1, 1).to(table)
            spread = F.interpolate(units, size=(self.side, 1), mode="bicubic")
            constant(self, "spread", spread[:, 0, :, 0].t())

    def positions(self) -> Tensor:
        """[1, side, side, channels]: transformers' _get_pos_embed."""
        backbone = self.encoder.backbone
        wide = torch.matmul(torch.matmul(self.spread, backbone.pos_embed), self.spread.t())
        window = backbone.pos_embed_window
        if window.shape[2:] != (1, 1):      # else there is none
            wide = wide + window.repeat(1, 1, *(self.side // n for n in window.shape[2:]))
        return wide.permute(0, 2, 3, 1)


class PlainImageEncoder(Backbone):
    """EfficientTAM: image [1,3,S,S] -> image_embed [1,C,f,f]."""

    def __init__(self, model: nn.Module):
        super().__init__(model, model.config.image_size // PATCH)

    def forward(self, image: Tensor) -> Tensor:
        backbone = self.encoder.backbone
        x = backbone.patch_embed(image) + self.positions()
        for block in backbone.blocks:
            x = block(x)
        return self.encoder.neck.embed(x)


class ImageEncoder(Backbone):
    """image [1,3,S,S] -> image_embed [1,C,f,f], high_res_0 [1,C/8,S/4,S/4], high_res_1 [1,C/4,S/8,S/8]."""

    def __init__(self, model: nn.Module):
        super().__init__(model, model.config.image_size // 4)
        neck, decoder = self.encoder.neck, model.mask_decoder
        if not {0, 1}.isdisjoint(neck.fpn_top_down_levels):
            raise ValueError("the two finest levels are expected to get nothing from the coarser ones")
        self.fine = one_after_the_other(neck.convs[-1], decoder.conv_s0)
        self.middle = one_after_the_other(neck.convs[-2], decoder.conv_s1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        backbone = self.encoder.backbone
        hiera = hasattr(self, "spread")
        if hiera:
            backbone._get_pos_embed = lambda _size: self.positions()
        try:
            out = backbone(image, return_dict=True)
        finally:
            if hiera:
                del backbone._get_pos_embed
        # levels from fine to coarse, [1,h,w,C']; RepViT gives them as [1,C',h,w]
        levels = out.intermediate_hidden_states if hiera else [level.permute(0, 2, 3, 1) for level in out.last_hidden_state]
        coarse_to_fine, _ = self.encoder.neck(levels)
        fine, middle = (level.permute(0, 3, 1, 2) for level in levels[:2])
        return coarse_to_fine[1], self.fine(fine), self.middle(middle)
