"""D-FINE: the released sizes, the miniature, and every way to get weights into them.

All are the stock transformers class (``DFineForObjectDetection``). Weights come from a Hugging Face directory, from an official
``.pth`` file, whose keys are renamed here, from a file that ``train`` wrote, or from random numbers. The miniature keeps every
part of the architecture (HGNetV2 with learnable affine blocks, hybrid encoder, query selection, deformable decoder with refined
distributions) at 0.39 M parameters.
"""
from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import DFineConfig, DFineForObjectDetection, HGNetV2Config

from . import DoesNotFit, weights
from .released import Checkpoint, licence_beside, put, sha256, state_digest

FAMILY = "dfine"
MINIATURE = "dfine_mini"
MINIATURE_SIZE = 256      # input side of the miniature in pixels
MINIATURE_CLASSES = ("object",)
IMAGE_SIZE = 640          # of the released models
STEP = 32                 # input sizes are multiples of the coarsest stride
COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light", "fire hydrant",
    "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe",
    "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat",
    "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl",
    "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave",
    "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush")


@dataclass(frozen=True)
class Backbone:
    """An HGNetV2: channels of its stem and stages, layers per block, blocks per stage."""

    stem: tuple[int, int]
    middle: tuple[int, int, int, int]
    out: tuple[int, int, int, int]
    blocks: tuple[int, int, int, int]
    layers: int
    affine: bool          # learnable affine blocks

    def config(self, levels: int) -> HGNetV2Config:
        """transformers' configuration; the last ``levels`` stages are read."""
        out = list(self.out)
        return HGNetV2Config(
            stem_channels=[3, *self.stem], embedding_size=self.stem[1], hidden_sizes=out, depths=list(self.blocks),
            stage_in_channels=[self.stem[1], *out[:3]], stage_mid_channels=list(self.middle), stage_out_channels=out,
            stage_num_blocks=list(self.blocks), stage_downsample=[False, True, True, True],
            stage_light_block=[False, False, True, True], stage_kernel_size=[3, 3, 5, 5],
            stage_numb_of_layers=[self.layers] * 4, use_learnable_affine_block=self.affine,
            out_indices=list(range(5 - levels, 5)))


@dataclass(frozen=True)
class Size:
    """One size of D-FINE. ``points``: sampling points per level of the decoder; its length is the number of levels."""

    backbone: Backbone
    encoder: tuple[int, int, float, float]     # channels, of its perceptron, expansion, depth
    decoder: tuple[int, int, int]              # layers, channels, of its perceptron
    points: tuple[int, ...]
    scale: float = 4.0                         # curvature of the bins of an edge


# From the public configuration files of D-FINE (Peterande/D-FINE, configs/dfine) and its HGNetV2.
B0 = Backbone((16, 16), (16, 32, 64, 128), (64, 256, 512, 1024), (1, 1, 2, 1), 3, True)
B2 = Backbone((24, 32), (32, 64, 128, 256), (96, 384, 768, 1536), (1, 1, 3, 1), 4, True)
B4 = Backbone((32, 48), (48, 96, 192, 384), (128, 512, 1024, 2048), (1, 1, 3, 1), 6, False)
B5 = Backbone((32, 64), (64, 128, 256, 512), (128, 512, 1024, 2048), (1, 2, 5, 2), 6, False)
SIZES: dict[str, Size] = {
    "dfine_n": Size(B0, (128, 512, 0.34, 0.5), (3, 128, 512), (6, 6)),
    "dfine_s": Size(B0, (256, 1024, 0.5, 0.34), (3, 256, 1024), (3, 6, 3)),
    "dfine_m": Size(B2, (256, 1024, 1.0, 0.67), (4, 256, 1024), (3, 6, 3)),
    "dfine_l": Size(B4, (256, 1024, 1.0, 1.0), (6, 256, 1024), (3, 6, 3)),
    "dfine_x": Size(B5, (384, 2048, 1.0, 1.0), (6, 256, 1024), (3, 6, 3), 8.0),
}
NAMES = tuple(SIZES)
MINIATURE_SHAPE = Size(Backbone((12, 16), (12, 20, 24, 28), (32, 64, 96, 112), (1, 1, 1, 1), 3, True),
                       (64, 112, 0.5, 0.5), (2, 64, 112), (4, 4))


def _config(size: Size, classes: tuple[str, ...], image_size: int, queries: int, heads: int, denoising: int, **more) -> DFineConfig:
    width, wide, expansion, depth = size.encoder
    layers, hidden, perceptron = size.decoder
    levels = len(size.points)
    return DFineConfig(
        backbone_config=size.backbone.config(levels), encoder_in_channels=list(size.backbone.out[-levels:]),
        encoder_hidden_dim=width, encoder_ffn_dim=wide, encoder_attention_heads=heads, encoder_layers=1,
        encode_proj_layers=[levels - 1], feat_strides=[8, 16, 32][-levels:], hidden_expansion=expansion, depth_mult=depth,
        d_model=hidden, decoder_in_channels=[width] * levels, decoder_ffn_dim=perceptron, decoder_attention_heads=heads,
        decoder_layers=layers, decoder_n_points=list(size.points), num_feature_levels=levels, num_queries=queries,
        num_denoising=denoising, max_num_bins=32, reg_scale=size.scale, anchor_image_size=[image_size, image_size],
        id2label=dict(enumerate(classes)), label2id={name: i for i, name in enumerate(classes)}, **more)


def config(name: str, image_size: int = IMAGE_SIZE, classes: tuple[str, ...] = COCO, **more) -> DFineConfig:
    """transformers' configuration of a released size."""
    if name not in SIZES:
        raise DoesNotFit(f"unknown detector {name!r}; known are {', '.join(NAMES)}")
    if image_size < STEP or image_size % STEP:
        raise DoesNotFit(f"image size {image_size}: D-FINE takes multiples of {STEP} pixels")
    return _config(SIZES[name], classes, image_size, 300, 8, 100, **more)


def build(seed: int = 0) -> nn.Module:
    """The miniature with the library's own random weights, which train as they are."""
    torch.manual_seed(seed)
    # batch norms have nothing to be frozen at; a prior of a half, the library's for one class, makes the first steps a fight
    return DFineForObjectDetection(_config(MINIATURE_SHAPE, MINIATURE_CLASSES, MINIATURE_SIZE, 32, 4, 24,
                                           freeze_backbone_batch_norms=False, initializer_bias_prior_prob=0.01))


def classes_of(model: nn.Module) -> list[str]:
    """Names of the labels, in order."""
    return [str(model.config.id2label[i]) for i in range(model.config.num_labels)]


# ---------------------------------------------------------------------------------------------------------- key mapping
# Official prefix or part -> transformers', in the order in which they are applied.
_RENAMES: tuple[tuple[str, str | Callable[[re.Match], str]], ...] = (
    (r"^backbone\.stem\.", "model.backbone.model.embedder."),
    (r"^backbone\.stages\.", "model.backbone.model.encoder.stages."),
    (r"^(model\.backbone\..*)\.conv\.(?=weight)", r"\1.convolution."),
    (r"^(model\.backbone\..*)\.bn\.", r"\1.normalization."),
    (r"^encoder\.input_proj\.(\d+)\.conv\.", r"model.encoder_input_proj.\1.0."),
    (r"^encoder\.input_proj\.(\d+)\.norm\.", r"model.encoder_input_proj.\1.1."),
    (r"^encoder\.encoder\.(\d+)\.layers\.", r"model.encoder.aifi.\1.layers."),
    (r"^encoder\.downsample_convs\.(\d+)\.0\.cv", r"model.encoder.downsample_convs.\1.conv"),
    (r"^encoder\.(fpn|pan)_blocks\.(\d+)\.cv([23])\.0\.", lambda m: f"model.encoder.{m[1]}_blocks.{m[2]}.csp_rep{int(m[3]) - 1}."),
    (r"^encoder\.(fpn|pan)_blocks\.(\d+)\.cv([23])\.1\.", r"model.encoder.\1_blocks.\2.conv\3."),
    (r"^encoder\.(fpn|pan)_blocks\.(\d+)\.cv([14])\.", r"model.encoder.\1_blocks.\2.conv\3."),
    (r"^encoder\.", "model.encoder."),
    (r"^decoder\.input_proj\.(\d+)\.conv\.", r"model.decoder_input_proj.\1.0."),
    (r"^decoder\.input_proj\.(\d+)\.norm\.", r"model.decoder_input_proj.\1.1."),
    (r"^decoder\.enc_output\.proj\.", "model.enc_output.0."),
    (r"^decoder\.enc_output\.norm\.", "model.enc_output.1."),
    (r"^decoder\.(enc_score_head|enc_bbox_head|denoising_class_embed)\.", r"model.\1."),
    (r"^decoder\.dec_score_head\.", "class_embed."),
    (r"^decoder\.dec_bbox_head\.", "bbox_embed."),
    (r"^decoder\.decoder\.", "model.decoder."),
    (r"^decoder\.", "model.decoder."),
    (r"\.cross_attn\.", ".encoder_attn."),
    (r"\.self_attn\.out_proj\.", ".self_attn.o_proj."),
    (r"\.linear([12])\.", lambda m: f".mlp.layers.{int(m[1]) - 1}."),
    (r"\.norm1\.", ".self_attn_layer_norm."),
    (r"\.norm[23]\.", ".final_layer_norm."),
)
_CONSTANT = re.compile(r"decoder\.(anchors|valid_mask)|.*\.num_batches_tracked|.*\.num_points_scale")


def from_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Official weights under transformers' names; what is computed from the configuration is left out."""
    out: dict[str, Tensor] = {}
    for key, value in state.items():
        if _CONSTANT.fullmatch(key):
            continue
        name = key
        for pattern, target in _RENAMES:
            name = re.sub(pattern, target, name)
        if match := re.fullmatch(r"(.*\.self_attn)\.in_proj_(weight|bias)", name):
            for part, piece in zip("qkv", value.chunk(3)):
                out[f"{match[1]}.{part}_proj.{match[2]}"] = piece
        else:
            out[name] = value
        if name.startswith(("class_embed.", "bbox_embed.")):      # transformers has them in two places
            out[f"model.decoder.{name}"] = value
    return out


def guess(state: dict[str, Tensor]) -> str | None:
    """Name of the released size that official weights belong to; None if there is none."""
    stem, width = state.get("backbone.stem.stem4.conv.weight"), state.get("encoder.input_proj.0.conv.weight")
    if stem is None or width is None:
        return None
    for name, size in SIZES.items():
        if tuple(stem.shape[1::-1]) == size.backbone.stem and width.shape[0] == size.encoder[0]:
            return name
    return None


# -------------------------------------------------------------------------------------------------------------- loading
def _empty(made: DFineConfig) -> nn.Module:
    made.eval_size = None      # with it, this version of the library leaves the positions of the encoder out
    return DFineForObjectDetection(made).eval()


def _put(model: nn.Module, state: dict[str, Tensor], what: str) -> None:
    """Loads weights that fit; what training alone needs, and what the configuration gives, need not be there."""
    known = model.state_dict()
    free = re.compile(r".*\.num_points_scale|model\.denoising_class_embed\.weight|model\.decoder\.(up|reg_scale)")
    put(model, {**{k: v for k, v in known.items() if free.fullmatch(k)}, **state}, what)


def recognise(made: DFineConfig) -> str:
    """Name of the released size with this configuration, else "dfine (own sizes)"."""
    keys = ("encoder_hidden_dim", "decoder_layers", "d_model", "hidden_expansion")
    for name in NAMES:
        same = config(name)
        if all(getattr(same, key) == getattr(made, key) for key in keys) \
                and list(made.backbone_config.stage_mid_channels) == list(same.backbone_config.stage_mid_channels):
            return name
    return "dfine (own sizes)"


def _from_hugging_face(folder: Path, name: str | None, image_size: int | None) -> Checkpoint:
    file = folder / "model.safetensors"
    if not file.is_file():
        raise DoesNotFit(f"{folder}: a Hugging Face directory has config.json and model.safetensors")
    made = DFineConfig.from_dict(json.loads((folder / "config.json").read_text()))
    found = recognise(made)
    if name and name != found:
        raise DoesNotFit(f"{folder}: its configuration is {found}, not {name}")
    size = image_size or (made.anchor_image_size or [IMAGE_SIZE])[0]
    if size < STEP or size % STEP:
        raise DoesNotFit(f"image size {size}: D-FINE takes multiples of {STEP} pixels")
    made.anchor_image_size, made.eval_size = [size, size], None
    try:
        # the library renames what its older versions wrote
        model, report = DFineForObjectDetection.from_pretrained(folder, config=made, output_loading_info=True, dtype=torch.float32)
    except (SafetensorError, RuntimeError, OSError, ValueError) as error:
        raise DoesNotFit(f"{folder}: {str(error).splitlines()[0]}") from error
    wrong = [f"{len(report[kind])} {kind.replace('_', ' ')}: {sorted(map(str, report[kind]))[:6]}"
             for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if report.get(kind)]
    if wrong:
        raise DoesNotFit(f"{folder} does not fit its own configuration ({found}):\n  " + "\n  ".join(wrong))
    licence = licence_beside(folder)
    return Checkpoint(model.eval(), found, "hugging face", sha256(file), licence)


def official_state(content: object, path: Path) -> dict[str, Tensor]:
    """The weights of an official file: the averaged ones where it has them, as the official scripts read it."""
    if isinstance(content, dict):
        content = content["ema"]["module"] if "ema" in content else content.get("model", content)
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise DoesNotFit(f'{path}: expected a dictionary of weights, or one under "model" or "ema"')
    return content


def _from_official(path: Path, state: dict[str, Tensor], name: str | None, image_size: int | None) -> Checkpoint:
    found = guess(state)
    name = name or found
    heads = state.get("decoder.dec_score_head.0.bias")
    if name is None or heads is None:
        raise DoesNotFit(f"{path}: these weights are of no D-FINE known here ({', '.join(NAMES)})")
    classes = COCO if len(heads) == len(COCO) else tuple(f"class {i}" for i in range(len(heads)))
    model = _empty(config(name, image_size or IMAGE_SIZE, classes))
    _put(model, from_official(state), f"{path} does not fit {name}" + (f"; it looks like {found}:" if found != name else ":"))
    licence = path.parent / "LICENSE"
    return Checkpoint(model, name, "official", sha256(path), licence.read_text(errors="replace") if licence.is_file() else None)


def _trained_here(path: Path, name: str | None, image_size: int | None) -> Checkpoint:
    if image_size not in (None, MINIATURE_SIZE) or name is not None:
        raise DoesNotFit(f"{path}: is {MINIATURE} at {MINIATURE_SIZE} px, which cannot be changed")
    model = build()
    put(model, load_file(path), f"{path} is not of this {MINIATURE}:")
    return Checkpoint(model.eval(), MINIATURE, "trained here", sha256(path), None)


def is_detector(path: Path) -> bool:
    """Are these the weights of a D-FINE? What cannot be read is not, and is refused where it is loaded."""
    try:
        if path.is_dir():
            return json.loads((path / "config.json").read_text()).get("model_type") == "d_fine"
        if path.suffix == ".safetensors":
            return weights.read_header(path).get("arch") == FAMILY
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return "decoder.dec_score_head.0.bias" in official_state(content, path)
    except Exception:      # torch, json and safetensors raise many kinds
        return False


def load(path: Path, name: str | None = None, image_size: int | None = None) -> Checkpoint:
    """The model of a checkpoint in evaluation mode. ``name``: size it must have (default: what it is)."""
    if path.is_dir():
        return _from_hugging_face(path, name, image_size)
    if path.suffix == ".safetensors":
        return _trained_here(path, name, image_size)
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return _from_official(path, official_state(content, path), name, image_size)


# --------------------------------------------------------------------------------------------------------- random weights
@torch.no_grad()
def random(name: str, seed: int, image_size: int = IMAGE_SIZE) -> Checkpoint:
    """Random weights with which every part of the model does something.

    The library starts heads, gates and sampling at zero, which would hide faults: every weight is drawn, so that signals keep
    their size, and the affine blocks have biases of both signs, which a padded pool must get right. Batch norms get the
    statistics of noise images.
    """
    torch.manual_seed(seed)
    model = _empty(config(name, image_size, freeze_backbone_batch_norms=False))
    generator = torch.Generator().manual_seed(seed)

    def draw(parameter: Tensor, deviation: float, mean: float = 0.0) -> None:
        parameter.copy_(mean + torch.randn(parameter.shape, generator=generator) * deviation)

    done: set[int] = set()
    for key, parameter in sorted(model.named_parameters()):
        module, _, leaf = key.rpartition(".")
        if not parameter.requires_grad or id(parameter) in done:
            continue
        done.add(id(parameter))
        if ".lab" in module:
            draw(parameter, 0.1, float(leaf == "scale"))
        elif "sampling_offsets" in module:
            if leaf == "weight":      # the bias spreads the points in a star, as the library starts it
                draw(parameter, 0.2 * parameter.shape[1] ** -0.5)
        elif parameter.ndim >= 2:
            draw(parameter, parameter[0].numel() ** -0.5)
        elif leaf == "weight":        # of norms
            draw(parameter, 0.1, 1.0)
        else:
            draw(parameter, 0.1)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 0.5
        norm.train()
    for _ in range(3):
        model(torch.rand(2, 3, image_size, image_size, generator=generator))
    return Checkpoint(model.eval(), name, "random", state_digest(model), None)
