"""SAM 3's image encoder: a plain vision transformer and a neck that enlarges its one map."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from .geometry import Geometry
from .image import one_after_the_other
from .layers import Doubled, GridTable, from_windows, rotate_pairs, windows


def _doubled_and_projected(conv: nn.ConvTranspose2d, project: nn.Conv2d) -> tuple[Doubled, Tensor]:
    """A transposed convolution and the convolution of one pixel after it as one, merged in double precision; and its bias."""
    weight = project.weight.detach().double()[:, :, 0, 0]
    merged = nn.ConvTranspose2d(conv.in_channels, project.out_channels, 2, 2)
    merged.weight = nn.Parameter(torch.einsum("om,imhw->iohw", weight, conv.weight.detach().double()).float(), requires_grad=False)
    return Doubled(merged), (weight @ conv.bias.detach().double() + project.bias.detach().double()).float()


class VitLayer(nn.Module):
    """One layer on a map [1,h,w,C]. Heads see a window of the map or all of it; queries and keys carry rotary positions, in a window
    those of the window."""

    def __init__(self, plain: nn.Module):
        super().__init__()
        self.norm1, self.norm2, self.mlp, self.side = plain.layer_norm1, plain.layer_norm2, plain.mlp, plain.window_size
        attention = plain.attention
        self.q, self.k, self.v, self.out = attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj
        self.heads, self.scale = attention.num_attention_heads, attention.scaling
        cos, sin = plain.rotary_emb(torch.zeros(1), plain.position_ids)
        self.cos, self.sin = GridTable.of(cos[0]), GridTable.of(sin[0])

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """[B, n, C] each, before they get their places."""
        q, k, v = map(self._split, (q, k, v))
        q, k = (x * self.cos() + rotate_pairs(x) * self.sin() for x in (q, k))
        scores = torch.softmax(torch.matmul(q * self.scale, k.transpose(2, 3)), -1)
        return torch.matmul(scores, v).transpose(1, 2).flatten(2)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        h = self.norm1(x)
        if self.side:
            h = windows(h, self.side)          # what goes over the edge is zero, and is seen
        rows, columns = h.shape[1:3]
        h = h.flatten(1, 2)
        h = self.out(self.attend(self.q(h), self.k(h), self.v(h))).unflatten(1, (rows, columns))
        x = x + (from_windows(h, self.side, height, width) if self.side else h)
        return x + self.mlp(self.norm2(x))


class VitImageEncoder(nn.Module):
    """image [1,3,S,S] -> image_embed [1,C,f,f], high_res_0 [1,C/8,4f,4f], high_res_1 [1,C/4,2f,2f].

    The neck's convolutions that follow each other without an activation are merged, so that the finest maps, 4f x 4f, have C
    channels once and not four times.
    """

    layer: type[VitLayer] = VitLayer

    def __init__(self, model: nn.Module):
        super().__init__()
        backbone, neck, decoder = model.vision_encoder.backbone, model.vision_encoder.neck, model.mask_decoder
        self.grid, embeddings = Geometry.of(model).grid, backbone.embeddings
        self.patches, self.norm = embeddings.patch_embeddings.projection, backbone.layer_norm
        self.places = embeddings.position_embeddings            # of a smaller map, repeated
        self.layers = nn.ModuleList(map(self.layer, backbone.layers))
        fine, middle, self.coarse, *_ = neck.fpn_layers
        if [level.scale_factor for level in neck.fpn_layers[:3]] != [4.0, 2.0, 1.0]:
            raise ValueError("levels of 4, 2 and 1 times the map are expected")
        first, self.activation, second = fine.scale_layers
        self.first = Doubled(first)
        self.second, second_bias = _doubled_and_projected(second, fine.proj1)
        self.only, only_bias = _doubled_and_projected(middle.scale_layers[0], middle.proj1)
        for name, value in (("first_bias", first.bias), ("second_bias", second_bias), ("only_bias", only_bias)):
            self.register_buffer(name, value.detach().clone(), persistent=False)
        self.fine, self.middle = (one_after_the_other(level.proj2, conv) for level, conv in
                                  ((fine, decoder.conv_s0), (middle, decoder.conv_s1)))

    def positions(self) -> Tensor:
        """[1, f, f, channels]: the table, again and again."""
        side = round(self.places.shape[1] ** 0.5)
        times = -(-self.grid // side)
        table = self.places.unflatten(1, (side, side)).repeat(1, times, times, 1)
        return table[:, :self.grid, :self.grid]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.norm(self.patches(image).permute(0, 2, 3, 1) + self.positions())
        for layer in self.layers:
            x = layer(x)
        fine = self.second(self.activation(self.first(x) + self.first_bias)) + self.second_bias
        middle = self.only(x) + self.only_bias
        return (self.coarse(x.permute(0, 3, 1, 2)), self.fine(fine.permute(0, 3, 1, 2)), self.middle(middle.permute(0, 3, 1, 2)))
