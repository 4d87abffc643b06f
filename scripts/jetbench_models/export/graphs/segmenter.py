"""VidEoMT on one frame, as the module that is traced: the library's layers, with the queries as state.

``queries`` is what the last frame says of this one, after the library's ``query_updater``; the learnt queries are added within. Zeros
are the first frame of a clip: nothing is added, as in the library, so that there is no flag and no choice in the graph.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Doubled, constant


class Upscaled(nn.Module):
    """The library's ``VideomtScaleLayer`` on maps [B,h,w,C]; see ``Doubled``."""

    def __init__(self, plain: nn.Module):
        super().__init__()
        self.doubled, self.activation, self.mix, self.norm = Doubled(plain.conv1), plain.activation, plain.conv2, plain.layernorm2d
        constant(self, "bias", plain.conv1.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.doubled(x) + self.bias)
        x = self.mix(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return F.layer_norm(x, self.norm.normalized_shape, self.norm.weight, self.norm.bias, self.norm.eps)


class Segmenter(nn.Module):
    """``image`` [1,3,S,S] and ``queries`` [1,Q,D] -> ``logits`` [1,Q,C+1], "no object" last, ``masks`` [1,Q,s,s] and ``queries_out``
    [1,Q,D]. Leaves ``model`` as it is."""

    def __init__(self, model: nn.Module):
        super().__init__()
        model.set_attn_implementation("eager")
        self.model, self.start = model.eval(), len(model.layers) - model.config.num_blocks
        self.upscaled = nn.ModuleList(Upscaled(layer) for layer in model.upscale_block.block)

    def forward(self, image: Tensor, queries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        model = self.model
        tokens = model.embeddings(image)
        for layer in model.layers[:self.start]:
            tokens = layer(tokens)
        tokens = torch.cat([queries + model.query.weight[None], tokens], 1)
        for layer in model.layers[self.start:]:
            tokens = layer(tokens)
        count = model.config.num_queries
        answers = model.layernorm(tokens)
        features = answers[:, count + model.embeddings.num_prefix_tokens:].reshape(1, *model.grid_size, -1)
        for layer in self.upscaled:
            features = layer(features)
        side = features.shape[1]
        asked = model.mask_head(answers[:, :count])
        masks = torch.matmul(asked, features.reshape(1, side * side, -1).transpose(1, 2)).reshape(1, count, side, side)
        return model.class_predictor(answers[:, :count]), masks, model.query_updater(tokens[:, :count])
