"""The released architectures in full size, and every way to get weights into them.

Names are those of the checkpoints: ``sam2.1_tiny`` and on, ``sam2_tiny`` and on, ``edgetam``, ``efficienttam_ti`` and on,
``sam3_tracker``. Weights
come from a Hugging Face directory (config.json and safetensors), from an official ``.pt`` file, whose keys are renamed here, from a
file that ``train`` wrote, or from random numbers. Whatever does not fit is refused with the keys and shapes that do not.
"""
from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    EdgeTamVideoConfig,
    EdgeTamVideoModel,
    PreTrainedConfig,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam3TrackerVideoConfig,
    Sam3TrackerVideoModel,
)

from . import PATCH, DoesNotFit, efficienttam, sam3, weights

IMAGE_SIZE = 1024

# Hiera: width of the first stage, its heads, blocks per stage, blocks with global attention, background size of the window
# positions, window per stage. From the public configuration files of SAM 2 (facebookresearch/sam2, sam2/configs).
HIERA: dict[str, tuple[int, int, list[int], list[int], list[int], list[int]]] = {
    "tiny": (96, 1, [1, 2, 7, 2], [5, 7, 9], [7, 7], [8, 4, 14, 7]),
    "small": (96, 1, [1, 2, 11, 2], [7, 10, 13], [7, 7], [8, 4, 14, 7]),
    "base_plus": (112, 2, [2, 3, 16, 3], [12, 16, 20], [14, 14], [8, 4, 14, 7]),
    "large": (144, 2, [2, 6, 36, 4], [23, 33, 43], [7, 7], [8, 4, 16, 8]),
}
NAMES = (*(f"sam2.1_{size}" for size in HIERA), *(f"sam2_{size}" for size in HIERA), "edgetam", *efficienttam.NAMES, *sam3.NAMES)


@dataclass(frozen=True)
class Checkpoint:
    """A model with its weights, and what a pack has to say about where they come from."""

    model: nn.Module
    name: str                # architecture: one of NAMES, or "sam2_mini" and "edgetam_mini"
    source: str              # "hugging face", "official", "trained here" or "random"
    sha256: str              # of the weights
    licence: str | None      # text of a licence file beside the weights

    @property
    def family(self) -> str:
        kind = self.model.config.model_type
        if kind in ("d_fine", "videomt", "dvis_daq"):
            return "dfine" if kind == "d_fine" else kind
        return family_of(self.model.state_dict())


def family_of(keys: Iterable[str]) -> str:
    """Family of a model, from the names of its weights, official or transformers'."""
    for key in keys:
        if key.startswith("spatial_perceiver."):
            return "edgetam"
        if key.startswith(("image_encoder.neck.convs.0.conv_1x1.", "vision_encoder.neck.conv1.")):
            return "efficienttam"
        if key.startswith("vision_encoder.backbone.layers."):
            return sam3.FAMILY
    return "sam2"


# ------------------------------------------------------------------------------------------------------ configurations
def image_size_of(name: str) -> int:
    """Input size in pixels that a released architecture was made for."""
    if name in sam3.NAMES:
        return sam3.SIZES[name][0]
    return efficienttam.FORMS[efficienttam.parts(name)[1]][0] if name in efficienttam.NAMES else IMAGE_SIZE


def config(name: str, image_size: int | None = None) -> PreTrainedConfig:
    """Configuration of a released architecture, in transformers' form; its own size where ``image_size`` is None."""
    if name not in NAMES:
        raise DoesNotFit(f"unknown model {name!r}; known are {', '.join(NAMES)}")
    shared: dict[str, dict] = dict(prompt_encoder_config={}, mask_decoder_config={})
    if name == "edgetam":
        # as its public configuration: no place in time for pointers, no mark on memories of frames without the object
        backbone = dict(model_type="timm_wrapper", architecture="repvit_m1", num_classes=2,
                        model_args=dict(in_chans=3, features_only=True, out_indices=[0, 1, 2, 3]))
        made = EdgeTamVideoConfig(vision_config=dict(model_type="edgetam_vision_model", backbone_config=backbone),
                                  enable_occlusion_spatial_embedding=False,
                                  enable_temporal_pos_encoding_for_object_pointers=False, **shared)
    elif name in sam3.NAMES:
        made = sam3.config(name)
    elif name in efficienttam.NAMES:
        sizes, form = efficienttam.parts(name)
        made = efficienttam.config(sizes, efficienttam.FORMS[form][1], **shared)
    else:
        version, size = name.split("_", 1)
        width, heads, blocks, wide, background, windows = HIERA[size]
        widths, count = [width << i for i in range(4)], [heads << i for i in range(4)]
        backbone = dict(model_type="sam2_hiera_det_model", hidden_size=width, num_attention_heads=heads,
                        blocks_per_stage=blocks, global_attention_blocks=wide, embed_dim_per_stage=widths,
                        num_attention_heads_per_stage=count, window_size_per_stage=windows,
                        window_positional_embedding_background_size=background)
        made = Sam2VideoConfig(vision_config=dict(model_type="sam2_vision_model", backbone_config=backbone,
                                                  backbone_channel_list=widths[::-1]),
                               enable_occlusion_spatial_embedding=version == "sam2.1",
                               enable_temporal_pos_encoding_for_object_pointers=version == "sam2.1", **shared)
    return resize(made, image_size_of(name) if image_size is None else image_size)


def resize(made: PreTrainedConfig, image_size: int) -> PreTrainedConfig:
    """Sets the input size wherever a configuration repeats it; refuses sizes that the architecture cannot have."""
    if made.model_type == "sam3_tracker_video":
        if image_size < sam3.PATCH or image_size % sam3.PATCH:
            raise DoesNotFit(f"image size {image_size}: {made.model_type} takes multiples of {sam3.PATCH} pixels")
        made.image_size = image_size            # which sets what depends on it
        return made
    edgetam = made.model_type == "edgetam_video"
    # Hiera tiles its positions in windows of 8 at a quarter of the size; EdgeTAM's 16 x 16 latents each own a window of tokens;
    # EfficientTAM pools squares of two tokens
    step = PATCH * round(made.perceiver_resampler_num_latents_2d ** 0.5) if edgetam else 32
    if image_size < step or image_size % step:
        raise DoesNotFit(f"image size {image_size}: {made.model_type} takes multiples of {step} pixels")
    grid = image_size // PATCH
    made.image_size = made.prompt_encoder_config.image_size = image_size
    made.memory_attention_rope_feat_sizes = [grid, grid]
    made.vision_config.backbone_feature_sizes = [[k * grid, k * grid] for k in (4, 2, 1)]
    if not edgetam:
        made.vision_config.backbone_config.image_size = [image_size, image_size]
    return made


def empty(made: PreTrainedConfig) -> nn.Module:
    """The model of a configuration, with weights that are to be replaced."""
    kinds = {"edgetam_video": EdgeTamVideoModel, "efficienttam_video": efficienttam.EfficientTamModel,
             "sam3_tracker_video": Sam3TrackerVideoModel}
    return kinds.get(made.model_type, Sam2VideoModel)(made).eval()


# ---------------------------------------------------------------------------------------------------------- key mapping
# Official name -> transformers' name, tried in order; the first pattern that matches a whole prefix replaces it. Applied after
# the parts that hold several tensors in one, or one in several, have been taken out by ``from_official``.
POSITIONS = "image_encoder.trunk.pos_embed"
_MLP = {"0": "proj_in", "1": "layers.0", "2": "proj_out"}
_RENAMES: tuple[tuple[str, str], ...] = (
    (r"maskmem_tpos_enc", "memory_temporal_positional_encoding"),
    (r"no_mem_embed", "no_memory_embedding"),
    (r"no_mem_pos_enc", "no_memory_positional_encoding"),
    (r"no_obj_ptr", "no_object_pointer"),
    (r"no_obj_embed_spatial", "occlusion_spatial_embedding_parameter"),
    (r"obj_ptr_tpos_proj", "temporal_positional_encoding_projection_layer"),
    (r"obj_ptr_proj", "object_pointer_proj"),
    (r"image_encoder\.trunk\.body", "vision_encoder.backbone.timm_model"),
    (r"image_encoder\.trunk\.patch_embed\.proj", "vision_encoder.backbone.patch_embed.projection"),
    (r"image_encoder\.trunk", "vision_encoder.backbone"),
    (r"image_encoder\.neck\.convs\.0\.conv_1x1", "vision_encoder.neck.conv1"),
    (r"image_encoder\.neck\.convs\.0\.norm_0", "vision_encoder.neck.layer_norm1"),
    (r"image_encoder\.neck\.convs\.0\.conv_3x3", "vision_encoder.neck.conv2"),
    (r"image_encoder\.neck\.convs\.0\.norm_1", "vision_encoder.neck.layer_norm2"),
    (r"image_encoder\.neck\.convs\.(\d+)\.conv", r"vision_encoder.neck.convs.\1"),
    (r"memory_attention\.norm", "memory_attention.layer_norm"),
    (r"memory_encoder\.pix_feat_proj", "memory_encoder.feature_projection"),
    (r"memory_encoder\.out_proj", "memory_encoder.projection"),
    (r"memory_encoder\.fuser", "memory_encoder.memory_fuser"),
    (r"memory_encoder\.mask_downsampler\.encoder\.12", "memory_encoder.mask_downsampler.final_conv"),
    (r"sam_prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix",
     "prompt_encoder.shared_embedding.positional_embedding"),
    (r"sam_prompt_encoder\.mask_downscaling\.0", "prompt_encoder.mask_embed.conv1"),
    (r"sam_prompt_encoder\.mask_downscaling\.1", "prompt_encoder.mask_embed.layer_norm1"),
    (r"sam_prompt_encoder\.mask_downscaling\.3", "prompt_encoder.mask_embed.conv2"),
    (r"sam_prompt_encoder\.mask_downscaling\.4", "prompt_encoder.mask_embed.layer_norm2"),
    (r"sam_prompt_encoder\.mask_downscaling\.6", "prompt_encoder.mask_embed.conv3"),
    (r"sam_prompt_encoder", "prompt_encoder"),
    (r"sam_mask_decoder\.transformer\.norm_final_attn", "mask_decoder.transformer.layer_norm_final_attn"),
    (r"sam_mask_decoder\.output_upscaling\.0", "mask_decoder.upscale_conv1"),
    (r"sam_mask_decoder\.output_upscaling\.1", "mask_decoder.upscale_layer_norm"),
    (r"sam_mask_decoder\.output_upscaling\.3", "mask_decoder.upscale_conv2"),
    (r"sam_mask_decoder", "mask_decoder"),
    (r"spatial_perceiver\.latents$", "spatial_perceiver.latents_1d"),
    (r"spatial_perceiver\.norm", "spatial_perceiver.layer_norm"),
)
_PERCEIVER: tuple[tuple[str, str], ...] = (
    (r"attn\.norm_x", "layer_norm_input"), (r"attn\.norm_latents", "layer_norm_latents"),
    (r"attn\.to_q", "cross_attention.q_proj"), (r"attn\.to_out", "cross_attention.o_proj"),
    (r"self_attn\.norm", "layer_norm_self"), (r"self_attn\.to_q", "self_attention.q_proj"),
    (r"self_attn\.to_out", "self_attention.o_proj"),
    (r"ff\.0", "mlp.layer_norm"), (r"ff\.1", "mlp.up_proj"), (r"ff\.3", "mlp.down_proj"),
    (r"self_ff\.0", "self_mlp.layer_norm"), (r"self_ff\.1", "self_mlp.up_proj"), (r"self_ff\.3", "self_mlp.down_proj"),
)
_FUSER = (("gamma", "scale"), ("dwconv", "depthwise_conv"), ("norm", "layer_norm"),
          ("pwconv1", "pointwise_conv1"), ("pwconv2", "pointwise_conv2"))


def rename(key: str, family: str) -> str:
    """transformers' name of one official weight. Names that are the same in both come back as they are."""
    for pattern, target in _RENAMES:
        if match := re.match(pattern, key):
            key = match.expand(target) + key[match.end():]
            break
    if match := re.fullmatch(r"(vision_encoder\.backbone\.blocks\.\d+|mask_decoder\.transformer\.layers\.\d+)\.(.+)", key):
        block, rest = match.groups()
        rest = re.sub(r"^norm(\d)", r"layer_norm\1", rest)
        rest = re.sub(r"^mlp\.layers\.([01])", lambda m: f"mlp.{('proj_in', 'proj_out')[int(m[1])]}", rest)
        key = f"{block}.{rest}"
    elif match := re.fullmatch(r"memory_attention\.layers\.(\d+)\.(.+)", key):
        layer, rest = match.groups()
        rest = re.sub(r"^norm(\d)", r"layer_norm\1", rest)
        if family == "edgetam":
            rest = re.sub(r"^linear1", "mlp.up_proj", re.sub(r"^linear2", "mlp.down_proj", rest))
        key = f"memory_attention.layers.{layer}.{rest}"
    elif match := re.fullmatch(r"memory_encoder\.mask_downsampler\.encoder\.(\d+)\.(.+)", key):
        # a flat list of convolution, norm and activation, four times
        step, rest = int(match[1]), match[2]
        key = f"memory_encoder.mask_downsampler.layers.{step // 3}.{('conv', 'layer_norm')[step % 3]}.{rest}"
    elif match := re.fullmatch(r"(memory_encoder\.memory_fuser\.layers\.\d+)\.(\w+)(.*)", key):
        key = f"{match[1]}.{dict(_FUSER)[match[2]]}{match[3]}"
    elif match := re.fullmatch(r"(spatial_perceiver\.layers\.\d+)\.(.+)", key):
        for pattern, target in _PERCEIVER:
            if found := re.match(pattern + r"(?=\.)", match[2]):
                key = f"{match[1]}.{target}{match[2][found.end():]}"
                break
    # three-layer perceptrons outside the transformer blocks
    if match := re.fullmatch(r"(mask_decoder\.output_hypernetworks_mlps\.\d+|mask_decoder\.iou_prediction_head|"
                             r"mask_decoder\.pred_obj_score_head|object_pointer_proj)\.layers\.([012])\.(.+)", key):
        key = f"{match[1]}.{_MLP[match[2]]}.{match[3]}"
    return re.sub(r"\.out_proj\.", ".o_proj.", key)


def from_official(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Official weights under transformers' names and in its shapes."""
    family = family_of(state)
    out: dict[str, Tensor] = {}
    points: dict[int, Tensor] = {}
    for key, value in state.items():
        if match := re.fullmatch(r"sam_prompt_encoder\.point_embeddings\.(\d+)\.weight", key):
            points[int(match[1])] = value
        elif match := re.fullmatch(r"(spatial_perceiver\.layers\.\d+)\.(self_)?attn\.to_kv\.weight", key):
            attention = f"{match[1]}.{'self' if match[2] else 'cross'}_attention"
            out[f"{attention}.k_proj.weight"], out[f"{attention}.v_proj.weight"] = value.chunk(2)
        elif family == "efficienttam" and key == POSITIONS:
            out[rename(key, family)] = efficienttam.table(value)
        else:
            out[rename(key, family)] = value
    if points:
        out["prompt_encoder.point_embed.weight"] = torch.cat([points[i] for i in sorted(points)])
    # one matrix of random Fourier frequencies serves prompts and image positions; transformers stores it twice
    if (shared := out.get("prompt_encoder.shared_embedding.positional_embedding")) is not None:
        out["shared_image_embedding.positional_embedding"] = shared
    return out


def _official_key(key: str, family: str) -> str:
    """The official name that ``rename`` turns into ``key``: found by undoing its rules, and tried on it."""
    edgetam = family == "edgetam"
    undone = [re.sub(r"\.o_proj\.", ".out_proj.", key), key]
    for name in list(undone):
        if match := re.fullmatch(r"(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head|pred_obj_score_head)|"
                                 r"object_pointer_proj)\.(proj_in|layers\.0|proj_out)\.(.+)", name):
            undone.append(f"{match[1]}.layers.{ {v: k for k, v in _MLP.items()}[match[2]] }.{match[3]}")
        elif match := re.fullmatch(r"((?:vision_encoder\.backbone\.blocks|mask_decoder\.transformer\.layers|memory_attention\.layers)\.\d+)"
                                   r"\.(.+)", name):
            rest = re.sub(r"^layer_norm(\d)", r"norm\1", match[2])
            rest = re.sub(r"^mlp\.(proj_in|proj_out)", lambda m: f"mlp.layers.{int(m[1] == 'proj_out')}", rest)
            rest = re.sub(r"^mlp\.(up|down)_proj", lambda m: f"linear{1 + (m[1] == 'down')}", rest) if edgetam else rest
            undone.append(f"{match[1]}.{rest}")
        elif match := re.fullmatch(r"memory_encoder\.mask_downsampler\.layers\.(\d+)\.(conv|layer_norm)\.(.+)", name):
            undone.append(f"memory_encoder.mask_downsampler.encoder.{3 * int(match[1]) + (match[2] == 'layer_norm')}.{match[3]}")
        elif match := re.fullmatch(r"(memory_encoder\.memory_fuser\.layers\.\d+)\.(\w+)(.*)", name):
            undone.append(f"{match[1]}.{ {v: k for k, v in _FUSER}.get(match[2], match[2]) }{match[3]}")
        elif match := re.fullmatch(r"(spatial_perceiver\.layers\.\d+)\.(.+)", name):
            undone += [f"{match[1]}.{pattern.replace(chr(92), '')}{match[2][len(target):]}"
                       for pattern, target in _PERCEIVER if match[2].startswith(target + ".")]
    for name in list(undone):
        for pattern, target in _RENAMES:
            plain = re.sub(r"\\(\.)", r"\1", pattern).rstrip("$")
            if r"\1" in target:
                if match := re.match(re.escape(target).replace(r"\\1", r"(\d+)"), name):
                    undone.append(plain.replace(r"(\d+)", match[1]) + name[match.end():])
            elif name.startswith(target):
                undone.append(plain + name[len(target):])
    for name in sorted(undone, key=lambda name: (".o_proj." in name, -undone.index(name))):      # official: out_proj
        if rename(name, family) == key and (name != key or not key.startswith(("prompt_encoder.", "mask_decoder."))):
            return name
    raise KeyError(f"no official name leads to {key}")


def official_keys(state: dict[str, Tensor]) -> list[str]:
    """The official names of transformers' weights: what ``from_official`` needs, and no more, to give them back."""
    family = family_of(state)
    keys = []
    for key, value in state.items():
        if key == "prompt_encoder.point_embed.weight":
            keys += [f"sam_prompt_encoder.point_embeddings.{row}.weight" for row in range(len(value))]
        elif match := re.fullmatch(r"(spatial_perceiver\.layers\.\d+)\.(cross|self)_attention\.k_proj\.weight", key):
            keys.append(f"{match[1]}.{'self_' if match[2] == 'self' else ''}attn.to_kv.weight")
        elif not re.fullmatch(r"spatial_perceiver\.layers\.\d+\.(cross|self)_attention\.v_proj\.weight|"
                              r"shared_image_embedding\.positional_embedding", key):
            keys.append(_official_key(key, family))
    return keys


def to_official(state: dict[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
    """transformers' weights under the official names ``wanted``: the keys of the official model, or ``official_keys``.

    Proofs and saved random weights need it: it puts the same weights into both implementations.
    """
    wanted = list(wanted)
    family = family_of(wanted)
    out: dict[str, Tensor] = {}
    for key in wanted:
        if match := re.fullmatch(r"sam_prompt_encoder\.point_embeddings\.(\d+)\.weight", key):
            row = int(match[1])
            out[key] = state["prompt_encoder.point_embed.weight"][row:row + 1].clone()
        elif match := re.fullmatch(r"(spatial_perceiver\.layers\.\d+)\.(self_)?attn\.to_kv\.weight", key):
            attention = f"{match[1]}.{'self' if match[2] else 'cross'}_attention"
            out[key] = torch.cat([state[f"{attention}.k_proj.weight"], state[f"{attention}.v_proj.weight"]])
        elif family == "efficienttam" and key == POSITIONS:
            out[key] = efficienttam.rows(state[rename(key, family)])
        else:
            out[key] = state[rename(key, family)].clone()
    return out


# -------------------------------------------------------------------------------------------------------------- loading
def _named(keys: list[str], most: int = 8) -> str:
    listed = "\n".join(f"    {key}" for key in keys[:most])
    return listed + (f"\n    … and {len(keys) - most} more" if len(keys) > most else "")


def put(model: nn.Module, state: dict[str, Tensor], what: str) -> None:
    """Loads weights that fit exactly; otherwise says which keys and shapes do not."""
    target = model.state_dict()
    missing = [k for k in target if k not in state and not k.endswith("num_batches_tracked")]
    unknown = [k for k in state if k not in target and not k.endswith("num_batches_tracked")]
    shapes = [f"{k}: {list(state[k].shape)} in the checkpoint, {list(v.shape)} in the model"
              for k, v in target.items() if k in state and state[k].shape != v.shape]
    parts = [f"{len(keys)} {title}:\n{_named(keys)}" for title, keys in (
        ("weights of the model are not in the checkpoint", missing), ("weights of the checkpoint are not in the model", unknown),
        ("weights have another shape", shapes)) if keys]
    if parts:
        raise DoesNotFit(f"{what}\n  " + "\n  ".join(parts))
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items() if k in target}, strict=False)


def guess(state: dict[str, Tensor]) -> str | None:
    """Name of the released architecture that official weights belong to, from what only it has; None if there is none."""
    if family_of(state) == "edgetam":
        return "edgetam"
    patch = state.get("image_encoder.trunk.patch_embed.proj.weight")
    blocks = len({k.split(".")[3] for k in state if k.startswith("image_encoder.trunk.blocks.")})
    if family_of(state) == "efficienttam":
        found = [size for size, s in efficienttam.SIZES.items() if patch is not None and (s.width, s.depth) == (patch.shape[0], blocks)]
        return f"efficienttam_{found[0]}" if found else None
    version = "sam2.1" if "no_obj_embed_spatial" in state else "sam2"
    for size, (width, _, depths, *_) in HIERA.items():
        if patch is not None and patch.shape[0] == width and sum(depths) == blocks:
            return f"{version}_{size}"
    return None


def _recognise(made: PreTrainedConfig) -> str:
    """Name of the released architecture with this configuration, else "sam2" or "edgetam" with "(own sizes)"."""
    if made.model_type == "edgetam_video":
        return "edgetam"
    if made.model_type == "sam3_tracker_video":
        return sam3.name_of(made)
    backbone = made.vision_config.backbone_config
    version = "sam2.1" if made.enable_occlusion_spatial_embedding else "sam2"
    for size, (width, heads, blocks, *_) in HIERA.items():
        if (backbone.hidden_size, backbone.num_attention_heads, list(backbone.blocks_per_stage)) == (width, heads, blocks):
            return f"{version}_{size}"
    return f"{version} (own sizes)"


def sha256(path: Path) -> str:
    """Digest of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a Hugging Face directory: those of its index, or its only one."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        return [folder / name for name in names]
    if not (folder / "model.safetensors").is_file():
        raise DoesNotFit(f"{folder}: a Hugging Face directory has config.json and model.safetensors (or its index); "
                         f"found {', '.join(sorted(p.name for p in folder.iterdir())) or 'nothing'}")
    return [folder / "model.safetensors"]


def _read(files: list[Path], of_sam3: bool) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for file in files:
        try:
            state.update(sam3.read([file]) if of_sam3 else load_file(file))
        except SafetensorError as error:
            raise DoesNotFit(f"{file}: not a safetensors file, or cut off ({error})") from None
    return state


def _from_hugging_face(folder: Path, name: str | None, image_size: int | None) -> Checkpoint:
    try:
        text = json.loads((folder / "config.json").read_text()) if (folder / "config.json").is_file() else None
    except ValueError as error:
        raise DoesNotFit(f"{folder / 'config.json'}: {error}") from None
    files = _weight_files(folder)
    kinds = {"sam2_video": Sam2VideoConfig, "edgetam_video": EdgeTamVideoConfig,
             **dict.fromkeys(sam3.MODEL_TYPES, Sam3TrackerVideoConfig)}
    if text is None or text.get("model_type") not in kinds:
        raise DoesNotFit(f"{folder / 'config.json'}: model_type is {text.get('model_type') if text else 'missing'}, "
                         f"expected {' or '.join(kinds)}")
    made = kinds[text["model_type"]].from_dict(text.get("tracker_config", text))
    found = _recognise(made)
    if name and name != found:
        raise DoesNotFit(f"{folder}: its configuration is {found}, not {name}")
    resize(made, image_size or made.image_size)
    model = empty(made)
    put(model, _read(files, sam3.is_tracker(model)), f"{folder} does not fit its own configuration ({found}):")
    digest = sha256(files[0]) if len(files) == 1 else hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()
    return Checkpoint(model, found, "hugging face", digest, licence_beside(folder))


def licence_beside(folder: Path) -> str | None:
    """Text of the licence file that lies in a folder of weights."""
    return next((p.read_text(errors="replace") for p in sorted(folder.iterdir()) if p.name.startswith("LICENSE")), None)


def _from_official_file(path: Path, name: str | None, image_size: int | None) -> Checkpoint:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:     # torch raises many kinds for files that are none of its own
        raise DoesNotFit(f"{path}: not a torch checkpoint ({type(error).__name__}: {str(error).splitlines()[0]})") from error
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise DoesNotFit(f'{path}: expected a dictionary of weights, or one under "model"')
    found = guess(state)
    if name is None and found in efficienttam.NAMES:
        alike = ", ".join(other for other in efficienttam.NAMES if other.startswith(found))
        raise DoesNotFit(f"{path}: weights of {alike} have the same names and shapes; say with --model which these are")
    name = name or found
    if name is None:
        raise DoesNotFit(f"{path}: these weights are of no released model known here; {len(state)} weights, first:\n"
                         f"{_named(list(state))}\n  name the architecture with --model to see what differs")
    model = empty(config(name, image_size))
    put(model, from_official(state), f"{path} does not fit {name}" + (f"; it looks like {found}:" if found != name else ":"))
    licence = path.parent / "LICENSE"
    return Checkpoint(model, name, "official", sha256(path), licence.read_text(errors="replace") if licence.is_file() else None)


def load(path: Path, name: str | None = None, image_size: int | None = None) -> Checkpoint:
    """The model of a checkpoint in evaluation mode. ``name``: architecture it must have (default: what it is)."""
    if path.is_dir():
        return _from_hugging_face(path, name, image_size)
    if not path.is_file():
        raise DoesNotFit(f"{path}: no such file or directory")
    if path.suffix == ".safetensors":
        if name in sam3.NAMES:          # published as one file
            model = empty(config(name, image_size))
            put(model, _read([path], True), f"{path} does not fit {name}:")
            return Checkpoint(model, name, "hugging face", sha256(path), licence_beside(path.parent))
        try:
            arch, size = weights.read_header(path)["arch"], int(weights.read_header(path)["image_size"])
        except SafetensorError as error:
            raise DoesNotFit(f"{path}: not a safetensors file, or cut off ({error})") from None
        except (KeyError, TypeError):
            raise DoesNotFit(f"{path}: a safetensors file alone does not name its architecture; give its Hugging Face "
                             "directory") from None
        if image_size not in (None, size) or name not in (None, f"{arch}_mini"):
            raise DoesNotFit(f"{path}: is {arch}_mini at {size} px, which cannot be changed")
        return Checkpoint(weights.load(path)[0], f"{arch}_mini", "trained here", sha256(path), None)
    return _from_official_file(path, name, image_size)


# --------------------------------------------------------------------------------------------------------- random weights
@torch.no_grad()
def random(name: str, seed: int, image_size: int | None = None) -> Checkpoint:
    """Random weights with which every part of the model does something.

    transformers starts several parameters at zero (temporal table, embeddings of absence, layer scales), which would hide
    faults. Here every weight is drawn: matrices so that signals keep their size, the rest small. The digest is that of
    the values.
    """
    torch.manual_seed(seed)
    model = empty(config(name, image_size))
    generator = torch.Generator().manual_seed(seed)

    def draw(parameter: Tensor, deviation: float) -> None:
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation)

    special = {"no_memory_embedding": 0.05, "no_object_pointer": 0.1, "memory_temporal_positional_encoding": 0.2,
               "occlusion_spatial_embedding_parameter": 0.1}
    for key, parameter in sorted(model.named_parameters()):
        module, _, leaf = key.rpartition(".")
        if key in special:
            draw(parameter, special[key])
        elif leaf == "scale":
            parameter.fill_(0.3)
        elif leaf in ("pos_embed", "pos_embed_window"):
            draw(parameter, 0.05)
        elif leaf.startswith("latents"):
            draw(parameter, 1.0)
        elif "embed" in module.split(".")[-1] or module.endswith(("_token", "mask_tokens")):
            draw(parameter, 0.5 if parameter.dim() == 2 else parameter[0].numel() ** -0.5)
        elif leaf == "weight" and parameter.dim() >= 2:
            draw(parameter, parameter[0].numel() ** -0.5)
        elif leaf == "bias":
            draw(parameter, 0.02)
    model.prompt_encoder.shared_embedding.positional_embedding.copy_(model.shared_image_embedding.positional_embedding)
    if name == "edgetam":
        _settle_batch_norm(model, generator)
    elif name in (*efficienttam.NAMES, *sam3.NAMES):
        _sharpen(model)
    return Checkpoint(model.eval(), name, "random", state_digest(model), None)


@torch.no_grad()
def _sharpen(model: nn.Module) -> None:
    """Makes the attention of a plain ViT and of the decoder choose: the means which flat attention takes are the same on every frame,
    and the object score with them. EfficientTAM's map ends in a normalisation as well."""
    if sam3.is_tracker(model):
        for layer in model.vision_encoder.backbone.layers:
            layer.attention.q_proj.weight *= 2.0
            layer.attention.k_proj.weight *= 2.0
    else:
        model.vision_encoder.neck.layer_norm2.weight.fill_(4.0)
        for block in model.vision_encoder.backbone.blocks:
            block.attn.qkv.weight[:2 * block.dim] *= 2.0                   # of queries and keys
    transformer = model.mask_decoder.transformer
    for attention in (*(layer.cross_attn_token_to_image for layer in transformer.layers), transformer.final_attn_token_to_image):
        attention.q_proj.weight *= 3.0
        attention.v_proj.weight *= 3.0


def _settle_batch_norm(model: nn.Module, generator: torch.Generator) -> None:
    """Gives RepViT's batch norms the statistics of noise images, without which random weights overflow or vanish."""
    backbone = model.vision_encoder.backbone
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.5
    backbone.train()
    for _ in range(3):
        backbone(torch.randn(2, 3, 256, 256, generator=generator))
    backbone.eval()


def state_digest(model: nn.Module) -> str:
    """SHA-256 over names and values of all weights, in the order of their names."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save(model: nn.Module, path: Path) -> None:
    """Writes the weights: to a file that ends in .pt in the official form, else a directory with config.json and model.safetensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = model.state_dict()
    if path.suffix != ".pt":
        if family_of(state) == "efficienttam":
            raise DoesNotFit(f"{path}: transformers has no EfficientTAM; a name that ends in .pt gives the official form")
        model.save_pretrained(path)
        return
    if family_of(state) == sam3.FAMILY:
        raise DoesNotFit(f"{path}: SAM 3's official form is not known here; a name without .pt gives a Hugging Face directory")
    torch.save({"model": to_official(state, official_keys(state))}, path)
