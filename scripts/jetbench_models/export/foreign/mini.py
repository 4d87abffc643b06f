"""Small exports of both layouts from random weights, with references, for jetbench's tests."""
from __future__ import annotations

import hashlib
import io
import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnxruntime as ort
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import Sam2Config, Sam2Model, Sam2VideoConfig, Sam2VideoModel

from ...clips.prompts import TrackPrompt, run_lengths
from ...clips.synth import tight_box
from ...models import BOX_LABELS, MEAN, STD, miniature
from ...models.session import run_session
from ...pack.reference import read_frames
from ..graphs.decoder import MaskDecoder
from ..graphs.geometry import Geometry
from ..graphs.image import ImageEncoder
from ..graphs.memory import MemoryAttention, MemoryEncoder
from .layout import GRAPHS, VIDEO_GRAPHS, write_pack

SIZE = 128               # input side of both models, pixels


def _image_model(seed: int) -> tuple[nn.Module, int]:
    """Sam2Model of some 90,000 random parameters, 128 px."""
    size, hidden, dims = SIZE, 32, (8, 16, 24, 32)
    backbone = dict(model_type="sam2_hiera_det_model", hidden_size=dims[0], num_attention_heads=1, image_size=[size, size],
                    patch_kernel_size=[7, 7], patch_stride=[4, 4], patch_padding=[3, 3], query_stride=[2, 2],
                    window_positional_embedding_background_size=[7, 7], num_query_pool_stages=3,
                    blocks_per_stage=[1, 1, 2, 1], embed_dim_per_stage=list(dims),
                    num_attention_heads_per_stage=[1, 1, 1, 1], window_size_per_stage=[8, 4, 8, 4],
                    global_attention_blocks=[3], mlp_ratio=2.0)
    grid = size // 16
    vision = dict(model_type="sam2_vision_model", backbone_config=backbone, backbone_channel_list=list(dims[::-1]),
                  backbone_feature_sizes=[[k * grid, k * grid] for k in (4, 2, 1)], fpn_hidden_size=hidden,
                  fpn_top_down_levels=[2, 3], num_feature_levels=3)
    prompt = dict(hidden_size=hidden, image_size=size, patch_size=16, mask_input_channels=8)
    decoder = dict(hidden_size=hidden, mlp_dim=32, num_hidden_layers=2, num_attention_heads=2,
                   attention_downsample_rate=2, num_multimask_outputs=3, iou_head_depth=3, iou_head_hidden_dim=32)
    torch.manual_seed(seed)
    model = Sam2Model(Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:      # transformers' N(0, 0.02) would give masks without structure
                weight.normal_(std=(weight[0].numel()) ** -0.5)
        model.prompt_encoder.shared_embedding.positional_embedding.copy_(model.shared_image_embedding.positional_embedding)
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(3.0)
        _round(model)
    return model, size


def _traced(module, inputs: tuple, names: list[str], outputs: list[str], axes: dict) -> onnx.ModelProto:
    """A graph as these exports make theirs: by tracing, opset 17."""
    buffer = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), inputs, buffer, dynamo=False, opset_version=17, input_names=names,
                          output_names=outputs, dynamic_axes=axes)
    graph = onnx.load_from_string(buffer.getvalue())
    for node in graph.graph.node:      # traces name the machine they were made on
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    graph.graph.ClearField("value_info")
    _slim(graph.graph)
    return graph


def _slim(graph: onnx.GraphProto) -> None:
    """Inner values get short names, and constants that are exact in fp16 are stored so: these files lie in git."""
    ports = {value.name for value in (*graph.input, *graph.output)}
    made = [name for node in graph.node for name in node.output if name and name not in ports]
    short = {name: f"v{i}" for i, name in enumerate(made)}

    def rename(nodes) -> None:
        for node in nodes:
            node.ClearField("name")
            node.input[:] = [short.get(name, name) for name in node.input]
            node.output[:] = [short.get(name, name) for name in node.output]
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    rename(attribute.g.node)

    rename(graph.node)
    casts = []
    for constant in graph.initializer:
        values = onnx.numpy_helper.to_array(constant)
        if values.dtype == np.float32 and values.size >= 64 and (values == values.astype(np.float16)).all():
            casts.append(onnx.helper.make_node("Cast", [f"{constant.name}_fp16"], [constant.name], to=onnx.TensorProto.FLOAT))
            constant.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{constant.name}_fp16"))
    rest = onnx.GraphProto()
    rest.CopyFrom(graph)
    graph.ClearField("node")
    graph.node.extend((*casts, *rest.node))


def _round(model) -> None:
    """Weights that are exact in fp16; see ``_slim``."""
    for weight in model.parameters():
        weight.copy_(weight.half())


class _Vision(nn.Module):
    """vision_encoder: maps from fine to coarse, the last one with the embedding of "no memory"."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = list(self.model.vision_encoder(pixel_values, return_dict=True).fpn_hidden_states)
        fine, middle = self.model.mask_decoder.conv_s0(maps[0]), self.model.mask_decoder.conv_s1(maps[1])
        return fine, middle, maps[2] + self.model.no_memory_embedding.reshape(1, -1, 1, 1)


class _PromptDecoder(nn.Module):
    """prompt_encoder_mask_decoder: three masks with their predicted IoU, and the object score."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_points: Tensor, input_labels: Tensor, input_boxes: Tensor, fine: Tensor, middle: Tensor,
                coarse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        prompts = self.model.prompt_encoder
        corners = input_boxes.reshape(1, 1, -1, 2)
        labels = torch.cat([input_labels, (torch.arange(corners.shape[2]) % 2 + 2).reshape(1, 1, -1)], 2)
        sparse = prompts._embed_points(torch.cat([input_points, corners], 2), labels, pad=True)
        dense = prompts.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(1, -1, coarse.shape[2], coarse.shape[3])
        masks, ious, _, score = self.model.mask_decoder(
            image_embeddings=coarse, image_positional_embeddings=self.model.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense, multimask_output=True,
            high_resolution_features=[fine, middle])
        return ious, masks, score


def _image_graphs(model: nn.Module, size: int) -> dict[str, onnx.ModelProto]:
    features = [f"image_embeddings.{i}" for i in range(3)]
    image = torch.rand(1, 3, size, size)
    vision = _traced(_Vision(model), (image,), ["pixel_values"], features, {})
    with torch.no_grad():
        maps = _Vision(model)(image)
    example = (torch.rand(1, 1, 2, 2) * size, torch.tensor([[[1, 0]]]), torch.rand(1, 1, 4) * size, *maps)
    decoder = _traced(_PromptDecoder(model), example, ["input_points", "input_labels", "input_boxes", *features],
                      ["iou_scores", "pred_masks", "object_score_logits"],
                      {"input_points": {2: "num_points_per_image"}, "input_labels": {2: "num_points_per_image"},
                       "input_boxes": {1: "num_boxes_per_image"}})
    return dict(zip(GRAPHS, (vision, decoder)))


def _track(out: Path, frames: np.ndarray, size: int, start: tuple[np.ndarray, np.ndarray]) -> list[dict]:
    """The image-mode loop in plain Python: argmax of the predicted IoU, next prompt = box of the last non-empty mask."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    vision, decoder = (ort.InferenceSession(out / "fp32" / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
                       for name in GRAPHS)
    points, labels = start
    rows = []
    for frame in frames:
        height, width = frame.shape[:2]
        small = np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BILINEAR), np.float32) / 255
        pixels = ((small - np.array(MEAN, np.float32)) / np.array(STD, np.float32)).astype(np.float32).transpose(2, 0, 1)[None]
        maps = vision.run(None, {"pixel_values": np.ascontiguousarray(pixels)})
        ious, masks, score = decoder.run(None, {
            "input_points": points[None, None], "input_labels": labels[None, None],
            "input_boxes": np.zeros((1, 0, 4), np.float32),
            **{f"image_embeddings.{i}": value for i, value in enumerate(maps)}})
        best = int(ious[0, 0].argmax())
        logits = torch.nn.functional.interpolate(torch.from_numpy(masks[:, 0, best:best + 1]), (height, width),
                                                 mode="bilinear", align_corners=False)[0, 0].numpy()
        mask = (logits > 0) & bool(score[0, 0, 0] > 0)
        if mask.any():
            corners = np.array(tight_box(mask), np.float64).reshape(2, 2)
            points = (corners * [size / width, size / height]).astype(np.float32)
            labels = np.array([2, 3], np.int64)
        rows.append(dict(object_score=float(score[0, 0, 0]), predicted_iou=float(ious[0, 0, best]),
                         runs=run_lengths(mask).tolist()))
    return rows


def _finish(out: Path, reference: dict) -> None:
    (out / "reference.json").write_text(json.dumps(reference) + "\n")
    total = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {total / 1e3:.0f} kB")


def _pack(out: Path, graphs: dict[str, onnx.ModelProto], command: str, seed: int, size: int, family: str) -> None:
    write_pack(out, graphs, identity=out.name, licence="Apache-2.0", size=size, source=f"jetbench_models foreign {command}",
               command=f"python -m jetbench_models foreign {command} --seed {seed}", family=family,
               notes="random weights: says nothing about any model", checkpoint=hashlib.sha256(b"random").hexdigest())


def image(folder: Path, count: int, seed: int, out: Path) -> None:
    """Writes an image-mode pack and what the plain loop makes of the first ``count`` PNG frames of ``folder``."""
    frames = read_frames(folder, count)
    _pack(out, _image_graphs(*_image_model(seed)), "mini", seed, SIZE, "sam2_image")
    height, width = frames.shape[1:3]
    scale = np.array([SIZE / width, SIZE / height])
    click = ((np.array([[width // 2, height // 2]]) * scale).astype(np.float32), np.array([1], np.int64))
    box = [width // 4, height // 4, width // 2, height // 2]
    corners = ((np.array([box[:2], box[2:]]) * scale).astype(np.float32), np.array(BOX_LABELS, np.int64))
    _finish(out, dict(count=count, width=width, height=height, click=[width // 2, height // 2], box=box,
                      points=_track(out, frames, SIZE, click), bbox=_track(out, frames, SIZE, corners)))


def _video_model(seed: int) -> tuple[nn.Module, int]:
    """Sam2VideoModel of SAM 2.0 (pointers without a place in time, no mark on absence), some 250,000 random parameters, 128 px."""
    size, hidden, dims = SIZE, 64, (8, 16, 24, 32)
    made = miniature.sam2_config(size).to_dict()
    vision, backbone = made["vision_config"], made["vision_config"]["backbone_config"]
    backbone.update(hidden_size=dims[0], num_attention_heads=1, embed_dim_per_stage=list(dims), num_attention_heads_per_stage=[1] * 4)
    vision.update(backbone_channel_list=list(dims[::-1]), fpn_hidden_size=hidden)
    made["prompt_encoder_config"].update(hidden_size=hidden, mask_input_channels=8)
    made["mask_decoder_config"].update(hidden_size=hidden, mlp_dim=32, num_hidden_layers=1, num_attention_heads=2,
                                       iou_head_hidden_dim=32)
    made.update(memory_attention_num_layers=1, memory_attention_hidden_size=hidden, memory_attention_feed_forward_hidden_size=64,
                memory_encoder_hidden_size=hidden, mask_downsampler_stride=4, mask_downsampler_embed_dim=hidden,
                memory_fuser_embed_dim=hidden, memory_fuser_intermediate_dim=64, enable_occlusion_spatial_embedding=False,
                enable_temporal_pos_encoding_for_object_pointers=False)
    torch.manual_seed(seed)
    model = Sam2VideoModel(Sam2VideoConfig.from_dict(made)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=(weight[0].numel()) ** -0.5)
        model.memory_temporal_positional_encoding.normal_()      # transformers starts it, and this, at zero
        model.no_memory_embedding.normal_(std=0.1)
        model.prompt_encoder.shared_embedding.positional_embedding.copy_(model.shared_image_embedding.positional_embedding)
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(3.0)
        _round(model)
    return model, size


class _Encoder(nn.Module):
    """image_encoder of the SAM2Export layout: features with and without the embedding of "no memory", and their places."""

    def __init__(self, model: nn.Module, g: Geometry):
        super().__init__()
        self.image = ImageEncoder(model)
        self.no_memory = model.no_memory_embedding.detach().reshape(1, -1, 1, 1)
        place = model.vision_encoder.neck.position_encoding((1, g.channels, g.grid, g.grid), "cpu", torch.float32)
        self.register_buffer("place", place.flatten(2).permute(2, 0, 1).clone())

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        embed, fine, middle = self.image(image)
        return embed, fine, middle, embed + self.no_memory, self.place + 0 * embed[:, :1, :1, :1].reshape(1, 1, 1)


class _Attention(nn.Module):
    """memory_attention of the SAM2Export layout."""

    def __init__(self, model: nn.Module, g: Geometry):
        super().__init__()
        self.inner, self.geometry = MemoryAttention(model), g
        self.no_memory = model.no_memory_embedding.detach().reshape(1, -1, 1, 1)

    def forward(self, feat: Tensor, feat_place: Tensor, pointers: Tensor, memories: Tensor, places: Tensor) -> Tensor:
        """SAM 2's attention over any number of memories [n,D,f,f] and pointers [p,C], at places [n f f + p C/D, 1, D]."""
        inner, g = self.inner, self.geometry
        x = (feat - self.no_memory).flatten(2).transpose(1, 2) + 0.1 * feat_place.transpose(0, 1)
        tokens, pieces = memories.flatten(2).transpose(1, 2), pointers.reshape(-1, g.memory_channels)
        count = tokens.shape[0] * g.memory_tokens
        keys = tokens + places[:count].reshape(-1, g.memory_tokens, g.memory_channels)
        piece_keys = pieces + places[count:, 0]
        for layer in inner.attention.layers:
            own, cross = layer.self_attn, layer.cross_attn_image
            h = layer.layer_norm1(x)
            x = x + inner._attend(own, inner._place(own.q_proj(h)), inner._place(own.k_proj(h)), own.v_proj(h), None)
            q = inner._place(cross.q_proj(layer.layer_norm2(x)))
            placed = inner._place_keys(cross.k_proj(keys)[None]).reshape(1, -1, g.channels)
            k = torch.cat([placed, cross.k_proj(piece_keys)[None]], 1)
            v = torch.cat([cross.v_proj(tokens).reshape(1, -1, g.channels), cross.v_proj(pieces)[None]], 1)
            x = x + inner._attend(cross, q, k, v, None)
            x = x + layer.linear2(layer.activation(layer.linear1(layer.layer_norm3(x))))
        return inner.attention.layer_norm(x).transpose(1, 2).reshape(1, g.channels, g.grid, g.grid)


class _Decoder(nn.Module):
    """image_decoder of the SAM2Export layout: always the best of three masks, and the mask at the size that is asked for."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.inner, self.size = MaskDecoder(model), model.config.image_size
        self.scale, self.bias = model.config.sigmoid_scale_for_mem_enc, model.config.sigmoid_bias_for_mem_enc

    def forward(self, coords: Tensor, labels: Tensor, frame_size: Tensor, embed: Tensor, fine: Tensor,
                middle: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        one = torch.ones(1)
        low, _, _, _, pointer = self.inner(embed, fine, middle, coords, labels.to(torch.int32), 0 * embed, 0 * one, 0 * one, one)
        full = nn.functional.interpolate(low, (self.size, self.size), mode="bilinear", align_corners=False)
        pred = nn.functional.interpolate(low, (frame_size[0], frame_size[1]), mode="bilinear", align_corners=False)
        return pointer, torch.sigmoid(full) * self.scale + self.bias, pred


class _Memory(nn.Module):
    """memory_encoder of the SAM2Export layout: the memory, its places, and the codes of all slots."""

    def __init__(self, model: nn.Module, g: Geometry):
        super().__init__()
        self.encoder = MemoryEncoder(model).encoder
        place = model.memory_encoder.position_encoding((1, g.memory_channels, g.grid, g.grid), "cpu", torch.float32)
        self.register_buffer("place", place.flatten(2).permute(2, 0, 1).clone())
        self.register_buffer("codes", model.memory_temporal_positional_encoding.detach().reshape(g.slots, 1, 1, -1).clone())

    def forward(self, mask: Tensor, feat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        e = self.encoder
        x = e.projection(e.memory_fuser(e.feature_projection(feat) + e.mask_downsampler(mask)))
        nothing = 0 * x[:1, :1, :1, :1]
        return x, self.place + nothing[0], self.codes + nothing


def _video_graphs(model: nn.Module, size: int) -> dict[str, onnx.ModelProto]:
    """The four graphs of the SAM2Export layout, with its names of inputs and outputs."""
    g = Geometry.of(model)
    grid = g.grid
    feats = torch.randn(1, g.channels, grid, grid)
    fine, middle = torch.randn(1, g.channels // 8, size // 4, size // 4), torch.randn(1, g.channels // 4, size // 8, size // 8)
    pieces = 5 * g.channels // g.memory_channels
    made = (
        _traced(_Encoder(model, g), (torch.rand(1, 3, size, size),), ["image"],
                ["pix_feat", "high_res_feat0", "high_res_feat1", "vision_feats", "vision_pos_embed"], {}),
        _traced(_Attention(model, g), (feats, torch.randn(grid * grid, 1, g.channels), torch.randn(5, g.channels),
                              torch.randn(3, g.memory_channels, grid, grid),
                              torch.randn(3 * grid * grid + pieces, 1, g.memory_channels)),
                ["current_vision_feat", "current_vision_pos_embed", "memory_0", "memory_1", "memory_pos_embed"], ["image_embed"],
                {"memory_0": {0: "num"}, "memory_1": {0: "buff"}, "memory_pos_embed": {0: "buff"}}),
        _traced(_Decoder(model), (torch.rand(1, 2, 2) * size, torch.ones(1, 2), torch.tensor([60, 80]), feats, fine, middle),
                ["point_coords", "point_labels", "frame_size", "image_embed", "high_res_feats_0", "high_res_feats_1"],
                ["obj_ptr", "mask_for_mem", "pred_mask"],
                {"point_coords": {0: "num_labels", 1: "num_points"}, "point_labels": {0: "num_labels", 1: "num_points"},
                 "pred_mask": {2: "height", 3: "width"}}),
        _traced(_Memory(model, g), (torch.randn(1, 1, size, size), feats), ["mask_for_mem", "pix_feat"],
                ["maskmem_features", "maskmem_pos_enc", "temporal_code"], {}))
    return dict(zip(VIDEO_GRAPHS, made))


def _session_without_rounding(model, frames: np.ndarray, prompts: list) -> list:
    """transformers' session as this layout computes: memory of a prompted frame from soft masks, always the best of three
    masks, memories as float32. (The session cannot have pointers of one piece; here they are.)"""
    encode, single, pieces = model._encode_new_memory, model._single_frame_forward, model._process_object_pointers
    last: list = []

    def soft(*args, **kwargs):
        return encode(*args, **{**kwargs, "is_mask_from_pts": False})

    def remember(_module, _inputs, output):
        last.append(output[0])

    def exact(*args, **kwargs):
        _, places = soft(*args, **kwargs)
        return last[-1].flatten(2).permute(2, 0, 1), places

    def flat(*args, **kwargs):
        pointers, places = pieces(*args, **kwargs)
        return pointers.reshape(-1, 1, pointers.shape[-1]), places

    handle = model.memory_encoder.register_forward_hook(remember)
    model._encode_new_memory, model._process_object_pointers = exact, flat
    model._single_frame_forward = lambda **kwargs: single(**{**kwargs, "multimask_output": True})
    try:
        with torch.inference_mode():
            return run_session(model, frames, prompts)
    finally:
        handle.remove()
        del model._encode_new_memory, model._single_frame_forward, model._process_object_pointers


def video(folder: Path, count: int, seed: int, out: Path) -> None:
    """Writes a pack of the SAM2Export layout and what transformers' session makes of the first ``count`` PNG frames of ``folder``."""
    frames = read_frames(folder, count)
    model, size = _video_model(seed)
    _pack(out, _video_graphs(model, size), "mini-video", seed, size, "sam2export")
    height, width = frames.shape[1:3]
    click, box = (width // 2, height // 2, 1), (width // 4, height // 4, width // 2, height // 2)
    tracks = _session_without_rounding(model, frames, [TrackPrompt("points", points=(click,)), TrackPrompt("bbox", box=box)])
    reference = dict(count=count, width=width, height=height, click=list(click[:2]), box=list(box))
    for kind, track in zip(("points", "bbox"), tracks):
        reference[kind] = [dict(object_score=float(s), runs=run_lengths(m).tolist())
                           for s, m in zip(track.object_score, track.masks)]
        print(f"{kind}: object score {[round(float(s), 3) for s in track.object_score]}, "
              f"mask pixels {[int(m.sum()) for m in track.masks]}, "
              f"logits near zero (below 1e-3) {int((np.abs(track.low_res) < 1e-3).sum())}")
    _finish(out, reference)
