"""DVIS-DAQ: the published sizes, and every way to get weights into them.

The segmenter is transformers' Mask2Former, which computes the same under other names; the tracker is ``dvis_tracker``'s. Left out of a
checkpoint are its embeddings for re-identification, which the online tracker does not use, the offline refiner, and what only
training needs.
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, ResNetConfig, SwinConfig

from ..clips.tubes import CLASSES
from . import DoesNotFit, weights
from .dvis_tracker import RULES, Rules, Seen, Tracker
from .released import Checkpoint, put, sha256, state_digest

FAMILY = "dvis_daq"
IMAGE_SIZE = 480          # short side of a frame of the published evaluations
STRIDE = 32               # pixels of the coarsest map; frames are filled up to a multiple
STAGES = ["stage1", "stage2", "stage3", "stage4"]


@dataclass(frozen=True)
class Size:
    """What fixes the architecture but for the number of classes."""

    backbone: str                        # resnet or swin
    queries: int
    channels: int = 256
    heads: int = 8
    encoder_layers: int = 6
    decoder_layers: int = 9
    tracker_layers: int = 6
    inner: int = 2048                    # width of feed-forward layers
    background: int = 5                  # slots
    widths: tuple[int, ...] = ()         # of the backbone's stages
    depths: tuple[int, ...] = ()
    window: int = 12
    swin_heads: tuple[int, ...] = ()
    block: str = "bottleneck"            # of a residual network; basic has no narrow layer


# From the published configurations and the shapes of their weights.
SIZES = {
    "dvis_daq_r50": Size("resnet", 100, widths=(256, 512, 1024, 2048), depths=(3, 4, 6, 3)),
    "dvis_daq_swin_l": Size("swin", 200, widths=(192,), depths=(2, 2, 18, 2), swin_heads=(6, 12, 24, 48)),
}
NAMES = tuple(SIZES)

MINIATURE = "dvis_mini"
MINIATURE_SIZE = 128      # sides of the miniature's input in pixels
# The least number of channels that its group norms take, so that the backbone has most of the weights.
MINIATURE_SHAPE = Size("resnet", 16, channels=32, heads=4, encoder_layers=1, decoder_layers=3, tracker_layers=3, inner=128,
                       widths=(16, 32, 64, 96), depths=(1, 1, 1, 1), block="basic")
MINIATURE_RULES = Rules(select_score=0.7, first_score=0.5)      # highest mean AP of ten settings on clips of seed 550000


@dataclass(frozen=True)
class Shape:
    """One model: its size, the frame that fills its input (width, height), and the number of classes."""

    size: Size
    frame: tuple[int, int]
    classes: tuple[str, ...]
    model_type: str = FAMILY

    @property
    def padded(self) -> tuple[int, int]:
        """Width and height of the input."""
        width, height = (-(-side // STRIDE) * STRIDE for side in self.frame)
        return width, height


def _backbone(size: Size) -> ResNetConfig | SwinConfig:
    if size.backbone == "swin":
        return SwinConfig(embed_dim=size.widths[0], depths=list(size.depths), num_heads=list(size.swin_heads), window_size=size.window,
                          drop_path_rate=0.0, out_features=STAGES)
    return ResNetConfig(hidden_sizes=list(size.widths), depths=list(size.depths), layer_type=size.block,
                        embedding_size=size.widths[0] // (4 if size.block == "bottleneck" else 1), downsample_in_bottleneck=False,
                        out_features=STAGES)


class DvisDaq(nn.Module):
    """Segmenter and tracker, in evaluation mode."""

    def __init__(self, shape: Shape, rules: Rules):
        super().__init__()
        size = shape.size
        self.config, self.rules = shape, rules
        self.segmenter = Mask2FormerForUniversalSegmentation(Mask2FormerConfig(
            backbone_config=_backbone(size), feature_size=size.channels, mask_feature_size=size.channels, hidden_dim=size.channels,
            encoder_feedforward_dim=size.inner // 2, dim_feedforward=size.inner, encoder_layers=size.encoder_layers,
            decoder_layers=size.decoder_layers + 1, num_attention_heads=size.heads, num_queries=size.queries,
            num_labels=len(shape.classes)))
        del self.segmenter.criterion
        self.tracker = Tracker(size.channels, size.heads, size.tracker_layers, size.inner, len(shape.classes), size.background)
        self.eval()

    @property
    def segmenter_queries(self) -> Tensor:
        """Content of the segmenter's queries, [Q,C]."""
        return self.segmenter.model.transformer_module.queries_features.weight

    def look(self, images: Tensor) -> tuple[Seen, list[tuple[Tensor, Tensor]]]:
        """What the segmenter makes of normalised, padded frames [B,3,H,W], all with B in front; and the class and mask logits of the
        decoder's earlier layers, the latest first."""
        found = self.segmenter(pixel_values=images, output_hidden_states=False, output_auxiliary_logits=True)
        embeds = self.segmenter.model.transformer_module.decoder.layernorm(found.transformer_decoder_last_hidden_state)
        earlier = [(told["class_queries_logits"], told["masks_queries_logits"]) for told in found.auxiliary_logits[::-1]]
        return Seen(embeds, found.class_queries_logits, found.masks_queries_logits, found.pixel_decoder_last_hidden_state), earlier

    @torch.no_grad()
    def see(self, image: Tensor) -> Seen:
        """What the segmenter makes of a normalised, padded frame [3,H,W]."""
        seen, _ = self.look(image[None])
        return Seen(*(value[0] for value in vars(seen).values()))


# ------------------------------------------------------------------------------------------------------------- miniature
def build(seed: int = 0) -> DvisDaq:
    """The miniature with random weights, no object being the likely class."""
    torch.manual_seed(seed)
    model = DvisDaq(Shape(MINIATURE_SHAPE, (MINIATURE_SIZE, MINIATURE_SIZE), CLASSES), MINIATURE_RULES)
    with torch.no_grad():
        for head in (model.segmenter.class_predictor, model.tracker.class_embed):
            head.bias[-1] += 2.0
    return model


# ------------------------------------------------------------------------------------------------------- published weights
# Names here, names there; what is not listed has the same name behind both.
_RENAMED = [(re.compile(pattern), there) for pattern, there in (
    (r"^model\.pixel_level_module\.encoder\.embedder\.embedder\.convolution\.", "backbone.stem.conv1."),
    (r"^model\.pixel_level_module\.encoder\.embedder\.embedder\.normalization\.", "backbone.stem.conv1.norm."),
    (r"^model\.pixel_level_module\.encoder\.encoder\.stages\.(\d+)\.layers\.(\d+)\.", r"backbone.stage\1.\2."),
    (r"^model\.pixel_level_module\.encoder\.swin\.embeddings\.patch_embeddings\.projection\.", "backbone.patch_embed.proj."),
    (r"^model\.pixel_level_module\.encoder\.swin\.embeddings\.norm\.", "backbone.patch_embed.norm."),
    (r"^model\.pixel_level_module\.encoder\.swin\.encoder\.", "backbone."),
    (r"^model\.pixel_level_module\.encoder\.hidden_states_norms\.stage(\d)\.", r"backbone.norm\1."),
    (r"^model\.pixel_level_module\.decoder\.level_embed$", "sem_seg_head.pixel_decoder.transformer.level_embed"),
    (r"^model\.pixel_level_module\.decoder\.input_projections\.", "sem_seg_head.pixel_decoder.input_proj."),
    (r"^model\.pixel_level_module\.decoder\.encoder\.", "sem_seg_head.pixel_decoder.transformer.encoder."),
    (r"^model\.pixel_level_module\.decoder\.mask_projection\.", "sem_seg_head.pixel_decoder.mask_features."),
    (r"^model\.pixel_level_module\.decoder\.(adapter|layer)_1\.0\.", r"sem_seg_head.pixel_decoder.\1_1."),
    (r"^model\.pixel_level_module\.decoder\.(adapter|layer)_1\.1\.", r"sem_seg_head.pixel_decoder.\1_1.norm."),
    (r"^model\.transformer_module\.queries_embedder\.", "sem_seg_head.predictor.query_embed."),
    (r"^model\.transformer_module\.queries_features\.", "sem_seg_head.predictor.query_feat."),
    (r"^model\.transformer_module\.level_embed\.", "sem_seg_head.predictor.level_embed."),
    (r"^model\.transformer_module\.decoder\.layernorm\.", "sem_seg_head.predictor.decoder_norm."),
    (r"^model\.transformer_module\.decoder\.mask_predictor\.mask_embedder\.(\d)\.0\.", r"sem_seg_head.predictor.mask_embed.layers.\1."),
    (r"^model\.transformer_module\.decoder\.layers\.(\d+)\.self_attn_layer_norm\.",
     r"sem_seg_head.predictor.transformer_self_attention_layers.\1.norm."),
    (r"^model\.transformer_module\.decoder\.layers\.(\d+)\.self_attn\.",
     r"sem_seg_head.predictor.transformer_self_attention_layers.\1.self_attn."),
    (r"^model\.transformer_module\.decoder\.layers\.(\d+)\.cross_attn_layer_norm\.",
     r"sem_seg_head.predictor.transformer_cross_attention_layers.\1.norm."),
    (r"^model\.transformer_module\.decoder\.layers\.(\d+)\.cross_attn\.",
     r"sem_seg_head.predictor.transformer_cross_attention_layers.\1.multihead_attn."),
    (r"^model\.transformer_module\.decoder\.layers\.(\d+)\.fc(\d)\.", r"sem_seg_head.predictor.transformer_ffn_layers.\1.linear\2."),
    (r"^model\.transformer_module\.decoder\.layers\.(\d+)\.final_layer_norm\.", r"sem_seg_head.predictor.transformer_ffn_layers.\1.norm."),
    (r"^class_predictor\.", "sem_seg_head.predictor.class_embed."),
    (r"^(sem_seg_head\.pixel_decoder\.transformer\.encoder\.layers\.\d+)\.self_attn_layer_norm\.", r"\1.norm1."),
    (r"^(sem_seg_head\.pixel_decoder\.transformer\.encoder\.layers\.\d+)\.fc(\d)\.", r"\1.linear\2."),
    (r"^(sem_seg_head\.pixel_decoder\.transformer\.encoder\.layers\.\d+)\.final_layer_norm\.", r"\1.norm2."),
    (r"^(backbone\.layers\.\d+\.blocks\.\d+)\.layernorm_before\.", r"\1.norm1."),
    (r"^(backbone\.layers\.\d+\.blocks\.\d+)\.layernorm_after\.", r"\1.norm2."),
    (r"^(backbone\.layers\.\d+\.blocks\.\d+)\.attention\.relative_position_bias\.", r"\1.attn."),
    (r"^(backbone\.layers\.\d+\.blocks\.\d+)\.attention\.o_proj\.", r"\1.attn.proj."),
    (r"^(backbone\.layers\.\d+\.blocks\.\d+)\.attention\.", r"\1.attn."),
)]
_PARTS = re.compile(r"\.([qkv])_proj\.(weight|bias)$")
# Of published checkpoints, and not of online inference.
_UNUSED = re.compile(r"^(sem_seg_head\.predictor\.reid_embed\.|refiner\.|criterion\.|tracker\.criterion\.|pixel_(mean|std)$)"
                     r"|\.relative_position_index$|\.attn_mask$|\.num_batches_tracked$")


def published_name(key: str) -> tuple[str, int | None]:
    """Name of a weight of ``DvisDaq`` in the published checkpoints, and which third of it where three are one there."""
    if key.startswith("tracker."):
        return key, None
    name = key.removeprefix("segmenter.")
    for pattern, there in _RENAMED:
        name = pattern.sub(there, name)
    if match := re.match(r"backbone\.stage(\d)\.(\d+)\.(shortcut|layer\.(\d))\.(convolution|normalization)\.(.*)", name):
        stage, block, branch, number, kind, leaf = match.groups()
        convolution = "shortcut" if branch == "shortcut" else f"conv{int(number) + 1}"
        return f"backbone.res{int(stage) + 2}.{block}.{convolution}.{'norm.' if kind == 'normalization' else ''}{leaf}", None
    if match := re.match(r"backbone\.norm(\d)\.(.*)", name):
        return f"backbone.norm{int(match[1]) - 1}.{match[2]}", None
    if match := _PARTS.search(name):
        joined = f".qkv.{match[2]}" if name.startswith("backbone.") else f".in_proj_{match[2]}"
        return name[:match.start()] + joined, "qkv".index(match[1])
    return name, None


def _not_published(key: str) -> bool:
    """Does nothing online depend on this weight, nor any checkpoint hold it? transformers' class has the norm of a classifier."""
    return ".swin.layernorm." in key or key.endswith("num_batches_tracked")


def to_published(model: DvisDaq) -> dict[str, Tensor]:
    """The weights under their published names."""
    parts: dict[str, dict[int, Tensor]] = {}
    for key, value in model.state_dict().items():
        if not _not_published(key):
            name, third = published_name(key)
            parts.setdefault(name, {})[third or 0] = value
    return {name: torch.cat([values[i] for i in sorted(values)]) if len(values) > 1 else values[0] for name, values in parts.items()}


def from_published(model: DvisDaq, state: dict[str, Tensor], what: str) -> None:
    """Puts published weights into the model; says which are missing, unknown or of another shape."""
    wanted = {key: published_name(key) for key in model.state_dict() if not _not_published(key)}
    known = {name for name, _ in wanted.values()}
    taken = {key: value for key, value in model.state_dict().items() if _not_published(key)}
    for key, (name, third) in wanted.items():
        if name in state:
            taken[key] = state[name] if third is None else state[name].chunk(3)[third]
    put(model, {**taken, **{k: v for k, v in state.items() if k not in known and not _UNUSED.search(k)}}, what)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:     # torch raises many kinds for files that are none of its own
        raise DoesNotFit(f"{path}: not a torch checkpoint ({type(error).__name__}: {str(error).splitlines()[0]})") from error
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise DoesNotFit(f'{path}: expected a dictionary of weights, or one under "model"')
    return state


def is_miniature(path: Path) -> bool:
    """Did ``train dvis`` write this? What cannot be read is refused where it is loaded."""
    try:
        return path.suffix == ".safetensors" and path.is_file() and weights.read_header(path).get("arch") == FAMILY
    except Exception:      # safetensors raises many kinds
        return False


def is_dvis(path: Path) -> bool:
    """Are these weights of a DVIS-DAQ? What cannot be read is not, and is refused where it is loaded."""
    if is_miniature(path):
        return True
    if not path.is_file() or path.suffix not in (".pth", ".pt", ".bin"):
        return False
    try:
        return "tracker.new_ins_embeds.weight" in _read(path)
    except DoesNotFit:
        return False


def frame_of(short: int, aspect: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a frame whose shorter side is ``short``, as the published evaluations resize it."""
    across, down = aspect
    scale = short / min(across, down)
    return int(across * scale + 0.5), int(down * scale + 0.5)


def load_miniature(path: Path) -> Checkpoint:
    """The miniature with the weights that ``train dvis`` wrote."""
    side = weights.read_header(path).get("image_size")
    if side != str(MINIATURE_SIZE):
        raise DoesNotFit(f"{path}: image size {side}: {MINIATURE} has {MINIATURE_SIZE} pixels")
    model = build()
    put(model, load_file(path), f"{path} is not of this {MINIATURE}:")
    return Checkpoint(model.eval(), MINIATURE, "trained here", sha256(path), None)


def load(path: Path, name: str | None, frame: tuple[int, int], rules: str, classes: tuple[str, ...] | None) -> Checkpoint:
    """The model of a published checkpoint. ``rules``: one of ``RULES``; ``classes``: names, where they are known."""
    state = _read(path)
    found = "dvis_daq_swin_l" if any(k.startswith("backbone.patch_embed.") for k in state) else "dvis_daq_r50"
    if name not in (None, found):
        raise DoesNotFit(f"{path}: its backbone is that of {found}, not of {name}")
    weight = state.get("tracker.class_embed.weight")
    if weight is None:
        raise DoesNotFit(f"{path}: tracker.class_embed.weight is missing; expected are the weights of DVIS-DAQ")
    count = weight.shape[0] - 1
    if classes is not None and len(classes) != count:
        raise DoesNotFit(f"{path}: {count} classes, and {len(classes)} names were given")
    model = DvisDaq(Shape(SIZES[found], frame, classes or tuple(f"class {i}" for i in range(count))), RULES[rules])
    from_published(model, state, f"{path} does not fit {found}:")
    licence = path.parent / "LICENSE"
    text = licence.read_text(errors="replace") if licence.is_file() else None
    return Checkpoint(model.eval(), found, "official", sha256(path), text)


# --------------------------------------------------------------------------------------------------------- random weights
@torch.no_grad()
def draw(shape: Shape, rules: Rules, seed: int) -> DvisDaq:
    """A model with random weights of which every part does something: queries differ, and the segmenter's masks have areas."""
    torch.manual_seed(seed)
    model = DvisDaq(shape, rules)
    for key, parameter in sorted(model.named_parameters()):
        module = key.rpartition(".")[0]
        if parameter.dim() == 1 and ("norm" in module.rpartition(".")[2] or module.endswith(("_1.1", "projections.0.1", "projections.1.1",
                                                                                              "projections.2.1"))):
            parameter.copy_(float(key.endswith("weight")) + torch.randn(parameter.shape) * 0.1)
        elif key.endswith(("queries_embedder.weight", "queries_features.weight", "bg_slots.weight", "new_ins_embeds.weight")):
            parameter.copy_(torch.randn(parameter.shape))
        elif parameter.dim() >= 2 and not key.endswith(("sampling_offsets.weight", "relative_position_bias_table")):
            parameter.copy_(torch.randn(parameter.shape) * parameter[0].numel() ** -0.5)
    # what the image says counts beside what a query is, and answers differ from each other
    for key, parameter in model.named_parameters():
        if key.startswith("tracker.pos_embed."):
            parameter.mul_(3.0)
        elif key.endswith("cross_attn.in_proj_weight"):
            parameter[:2 * shape.size.channels].mul_(3.0)
        elif key.endswith("self_attn.out_proj.weight"):
            parameter.mul_(0.3)          # flat attention makes all queries alike
        elif key in ("tracker.class_embed.weight", "segmenter.class_predictor.weight"):
            parameter.mul_(3.0)
    return model.eval()


@torch.no_grad()
def calm(model: DvisDaq) -> None:
    """Makes less of each place that the segmenter's masked attention looks at. A pixel whose mask logit is a rounding error from 0 is
    looked at or not, and nine layers of random weights that make much of one pixel turn that into another answer. Takes back the
    factor that ``draw`` gives queries and keys."""
    for layer in model.segmenter.model.transformer_module.decoder.layers:
        attention = layer.cross_attn
        attention.in_proj_weight[:2 * attention.embed_dim].mul_(1 / 3)
        attention.out_proj.weight.mul_(0.1)


def random(name: str, seed: int, frame: tuple[int, int], rules: str) -> Checkpoint:
    """Random weights in a published size, with 25, 40 or 124 classes without names."""
    if name not in SIZES:
        raise DoesNotFit(f"unknown segmenter {name!r}; known are {', '.join(NAMES)}")
    count = 40 if rules == "ytvis" else 124 if rules == "vipseg" else 25
    model = draw(Shape(SIZES[name], frame, tuple(f"class {i}" for i in range(count))), RULES[rules], seed)
    calm(model)
    return Checkpoint(model, name, "random", state_digest(model), None)
