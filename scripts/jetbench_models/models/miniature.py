"""Architectures and initialisation of the two miniature models.

Both are the stock transformers classes (``Sam2VideoModel``, ``EdgeTamVideoModel``) at about 1.4 M parameters, so that
everything the benchmark learns to do with them (graphs, memory bank, prompts) carries over to the released checkpoints.
A few sizes are not free: the memory cross-attention has its 64 key channels hard-coded, and object pointers are split
into 64-channel tokens only when the hidden size is a larger multiple of 64, hence ``HIDDEN = 128`` and ``MEMORY = 64``.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import (
    EdgeTamVideoConfig,
    EdgeTamVideoModel,
    Sam2VideoConfig,
    Sam2VideoModel,
)

from . import PATCH

ARCHITECTURES = ("sam2", "edgetam")
IMAGE_SIZE = 256   # final input size in pixels (square)
HIDDEN = 128       # channels of the image features
MEMORY = 64        # channels of a memory token

HIERA_DIMS, HIERA_HEADS, HIERA_BLOCKS = (32, 64, 80, 96), (1, 2, 2, 3), (1, 1, 2, 1)
REPVIT_DIMS, REPVIT_DEPTH = (24, 48, 64, 64), (1, 1, 2, 1)


def _shared(image_size: int) -> tuple[dict, dict, dict]:
    """Prompt encoder, mask decoder and memory settings that both architectures share."""
    grid = image_size // PATCH
    prompt = dict(hidden_size=HIDDEN, image_size=image_size, patch_size=PATCH, mask_input_channels=16)
    decoder = dict(hidden_size=HIDDEN, mlp_dim=64, num_hidden_layers=2, num_attention_heads=4,
                   attention_downsample_rate=2, num_multimask_outputs=3, iou_head_depth=3, iou_head_hidden_dim=64)
    memory = dict(image_size=image_size, num_maskmem=7,
                  memory_attention_num_layers=2, memory_attention_hidden_size=HIDDEN,
                  memory_attention_num_attention_heads=1, memory_attention_dropout=0.0,
                  memory_attention_rope_dropout=0.0, memory_attention_rope_feat_sizes=[grid, grid],
                  memory_encoder_hidden_size=HIDDEN, memory_encoder_output_channels=MEMORY,
                  mask_downsampler_embed_dim=HIDDEN, memory_fuser_embed_dim=HIDDEN,
                  memory_fuser_intermediate_dim=HIDDEN, memory_fuser_num_layers=1,
                  memory_fuser_layer_scale_init_value=0.1)
    return prompt, decoder, memory


def _vision(image_size: int, model_type: str, backbone: dict, dims: tuple[int, ...]) -> dict:
    grid = image_size // PATCH
    return dict(model_type=model_type, backbone_config=backbone, backbone_channel_list=list(dims[::-1]),
                backbone_feature_sizes=[[k * grid, k * grid] for k in (4, 2, 1)],
                fpn_hidden_size=HIDDEN, fpn_top_down_levels=[2, 3], num_feature_levels=3)


def sam2_config(image_size: int = IMAGE_SIZE) -> Sam2VideoConfig:
    prompt, decoder, memory = _shared(image_size)
    # transformers starts a pooling stage wherever the width changes, so all four widths must differ
    backbone = dict(model_type="sam2_hiera_det_model", hidden_size=HIERA_DIMS[0], num_attention_heads=HIERA_HEADS[0],
                    image_size=[image_size, image_size], patch_kernel_size=[7, 7], patch_stride=[4, 4],
                    patch_padding=[3, 3], query_stride=[2, 2], window_positional_embedding_background_size=[7, 7],
                    num_query_pool_stages=3, blocks_per_stage=list(HIERA_BLOCKS), embed_dim_per_stage=list(HIERA_DIMS),
                    num_attention_heads_per_stage=list(HIERA_HEADS), window_size_per_stage=[8, 4, 8, 4],
                    global_attention_blocks=[sum(HIERA_BLOCKS[:3]) - 1], mlp_ratio=2.0)
    return Sam2VideoConfig(vision_config=_vision(image_size, "sam2_vision_model", backbone, HIERA_DIMS),
                           prompt_encoder_config=prompt, mask_decoder_config=decoder,
                           memory_attention_feed_forward_hidden_size=HIDDEN, **memory)


def edgetam_config(image_size: int = IMAGE_SIZE) -> EdgeTamVideoConfig:
    prompt, decoder, memory = _shared(image_size)
    grid = image_size // PATCH
    backbone = dict(model_type="timm_wrapper", architecture="repvit_m1", num_classes=2,
                    model_args=dict(in_chans=3, features_only=True, out_indices=[0, 1, 2, 3],
                                    embed_dim=list(REPVIT_DIMS), depth=list(REPVIT_DEPTH)))
    # one 2-D latent per memory cell: the rotary positions of queries and keys then agree
    return EdgeTamVideoConfig(vision_config=_vision(image_size, "edgetam_vision_model", backbone, REPVIT_DIMS),
                              prompt_encoder_config=prompt, mask_decoder_config=decoder,
                              memory_attention_mlp_hidden_size=HIDDEN, memory_attention_rope_k_sizes=[grid, grid],
                              perceiver_resampler_num_latents=16, perceiver_resampler_num_latents_2d=grid * grid,
                              perceiver_resampler_hidden_size=MEMORY, perceiver_resampler_mlp_intermediate_size=128,
                              perceiver_resampler_attention_head_dim=MEMORY, perceiver_resampler_num_layers=1,
                              **memory)


def build(arch: str, image_size: int = IMAGE_SIZE) -> nn.Module:
    """Model of one architecture with transformers' default (untrainable, see ``initialise``) random weights."""
    if arch == "sam2":
        return Sam2VideoModel(sam2_config(image_size))
    if arch == "edgetam":
        return EdgeTamVideoModel(edgetam_config(image_size))
    raise ValueError(f"unknown architecture {arch!r}, expected one of {ARCHITECTURES}")


def adapt(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """State dict of one image size made to fit ``model`` of another: only EdgeTAM's 2-D latents depend on the size."""
    target = model.state_dict()
    out = {}
    for name, value in state.items():
        fitting = value
        if value.shape != target[name].shape:
            old, new = int(value.shape[0] ** 0.5), int(target[name].shape[0] ** 0.5)
            grid = value.view(1, old, old, -1).permute(0, 3, 1, 2)
            grid = nn.functional.interpolate(grid, size=(new, new), mode="nearest")
            fitting = grid.permute(0, 2, 3, 1).reshape(new * new, -1)
        out[name] = fitting.detach().clone().contiguous()
    return out


@torch.no_grad()
def initialise(model: nn.Module) -> nn.Module:
    """Replaces transformers' N(0, 0.02) weights, with which a 128-channel model of this depth does not train.

    Three things matter: variance-preserving matrices; prompts and image positions must share one random Fourier matrix
    (released checkpoints store the same values twice, nothing in the code ties them); and the decoder's attention
    starts as "look where the prompt is", the memory attention as "look at the same place".
    """
    for name, module in model.named_modules():
        if "timm_model" in name:   # the RepViT backbone brings its own initialisation
            continue
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=module.in_channels ** -0.5)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02 if "no_mask" in name else 0.1)
            continue
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    prompts, decoder = model.prompt_encoder, model.mask_decoder
    prompts.shared_embedding.positional_embedding.copy_(model.shared_image_embedding.positional_embedding)
    # an empty mask must not reach the first layer norm with zero variance (gradients of 1e4 otherwise)
    nn.init.normal_(prompts.mask_embed.conv1.bias, std=0.5)
    nn.init.constant_(model.mask_downsample.weight, 1 / 16)
    nn.init.constant_(decoder.pred_obj_score_head.proj_out.bias, 2.0)
    for conv in model.vision_encoder.neck.convs:
        conv.weight.mul_(0.5)
    for layer in decoder.transformer.layers:
        for projection in (layer.self_attn.v_proj, layer.self_attn.o_proj):
            projection.weight.mul_(0.2).add_(torch.eye(HIDDEN))
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            projection.weight.mul_(0.5)
        _location_attention(layer.cross_attn_token_to_image, 2.4)
        _location_attention(layer.cross_attn_image_to_token, 1.5)
    _location_attention(decoder.transformer.final_attn_token_to_image, 2.4)
    for layer in model.memory_attention.layers:   # constant query/key bias + rotary angles = "same position" kernel
        nn.init.constant_(layer.cross_attn_image.q_proj.bias, 0.5)
        nn.init.constant_(layer.cross_attn_image.k_proj.bias, 0.5)
    return model


def _location_attention(attention: nn.Module, gain: float) -> None:
    """Queries and keys read the same (sin, cos) pairs of the Fourier positions: a shift-invariant location kernel."""
    width = attention.q_proj.weight.shape[0]
    per_head, half = width // attention.num_attention_heads, HIDDEN // 2
    select = torch.zeros(width, HIDDEN)
    for head in range(attention.num_attention_heads):
        for i in range(per_head // 2):
            frequency = (head * (per_head // 2) + i) % half
            select[head * per_head + 2 * i, frequency] = gain
            select[head * per_head + 2 * i + 1, half + frequency] = gain
    attention.q_proj.weight.mul_(0.3).add_(select)
    attention.k_proj.weight.mul_(0.3).add_(select)
    rotation = nn.init.orthogonal_(torch.empty(width, HIDDEN))
    attention.v_proj.weight.mul_(0.3).add_(rotation)
    attention.o_proj.weight.mul_(0.3).add_(rotation.t())
