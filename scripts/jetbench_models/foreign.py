"""Packs from other people's ONNX exports: the onnx-community layout of SAM 2 (two graphs, image mode, no memory) and the
SAM2Export layout of SAM 2.0 (four graphs, whose memory is a list that the caller keeps).

``import`` and ``import-video`` turn a downloaded export into a pack: weights kept in a second file are put into the graph
file, so that one digest covers them, and ``pack.toml`` is written from what the files say about themselves. ``mini`` and
``mini-video`` make a small export of the same layout from random weights for jetbench's tests, with a reference: what a plain
Python loop computed for the first, transformers' video session for the second.

Example:
    python -m jetbench_models foreign import --vision vision_encoder.onnx --decoder prompt_encoder_mask_decoder.onnx \\
        --licence Apache-2.0 --source "onnx-community/sam2.1-hiera-tiny-ONNX" --out packs/sam2.1_tiny_image
    python -m jetbench_models foreign import-video --encoder image_encoder.onnx --attention memory_attention.onnx \\
        --decoder image_decoder.onnx --memory memory_encoder.onnx --licence Apache-2.0 --source "SAM2Export at …" --out packs/sam2_tiny_host
    python -m jetbench_models foreign mini --frames assets/golden/g0 --out runners/tests/data/sam2_image_mini
    python -m jetbench_models foreign mini-video --seed 14 --frames assets/golden/g0 --out runners/tests/data/sam2export_mini
"""
from __future__ import annotations

import argparse
import hashlib
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

GRAPHS = ("vision_encoder", "prompt_encoder_mask_decoder")
VIDEO_GRAPHS = ("image_encoder", "memory_attention", "image_decoder", "memory_encoder")
DESCRIPTIONS = {"sam2_image": "SAM 2 in image mode: every frame is prompted with the box of the last mask; no memory",
                "sam2export": "SAM 2.0 video in four graphs; the memory is kept on the host"}
KINDS = {onnx.TensorProto.FLOAT: "f32", onnx.TensorProto.INT32: "i32", onnx.TensorProto.INT64: "i64"}
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


# ------------------------------------------------------------------------------------------------------------- import
def _axes(value: onnx.ValueInfoProto) -> str:
    """Shape as pack.toml writes it: numbers, and names of axes that are decided at run time (`?` without a name)."""
    dims = value.type.tensor_type.shape.dim
    return "[" + ", ".join(str(d.dim_value) if d.HasField("dim_value") else json.dumps(d.dim_param or "?")
                           for d in dims) + "]"


def _ports(values) -> str:
    lines = []
    for value in values:
        kind = KINDS.get(value.type.tensor_type.elem_type)
        if kind is None:
            raise SystemExit(f"tensor {value.name}: element type {value.type.tensor_type.elem_type} has no place in a pack")
        lines.append(f'    {{ name = {json.dumps(value.name)}, dtype = "{kind}", shape = {_axes(value)} }},')
    return "[\n" + "\n".join(lines) + "\n]"


def _memory(graphs: dict[str, onnx.ModelProto]) -> list[str]:
    """The [memory] table of a video export, from the shapes of memory_encoder; slots and pointers are SAM 2's."""
    shapes = {o.name: [d.dim_value for d in o.type.tensor_type.shape.dim] for o in graphs["memory_encoder"].graph.output}
    try:
        (_, channels, height, width), (slots, *_) = shapes["maskmem_features"], shapes["temporal_code"]
    except (KeyError, ValueError):
        raise SystemExit(f"memory_encoder: outputs maskmem_features [1,C,f,f] and temporal_code [slots,1,1,C] expected, found {shapes}")
    return ["[memory]", f"frames = {slots}", f"tokens_per_frame = {height * width}", f"channels = {channels}", "pointers = 16",
            'storage = "fp32"', ""]


def _own_axes(model: onnx.ModelProto) -> None:
    """Gives each free axis of an input a name of its own: such exports use one name for axes of different sizes."""
    for value in model.graph.input:
        for i, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                dim.dim_param = f"{value.name}_{i}"


def write_pack(out: Path, graphs: dict[str, onnx.ModelProto], *, identity: str, licence: str, size: int, source: str,
               command: str, notes: str, checkpoint: str, family: str = "sam2_image") -> None:
    """Writes the graph files and pack.toml."""
    (out / "fp32").mkdir(parents=True, exist_ok=True)
    video = family == "sam2export"
    for model in graphs.values() if video else ():
        _own_axes(model)
    lines = ["schema = 1", f"id = {json.dumps(identity)}", f"family = {json.dumps(family)}",
             f"description = {json.dumps(DESCRIPTIONS[family])}",
             f"licence = {json.dumps(licence)}", "", "[provenance]", f"checkpoint_sha256 = {json.dumps(checkpoint)}",
             f"exporter = {json.dumps(source)}", f"command = {json.dumps(command)}", "libraries = {}",
             f"notes = {json.dumps(notes)}", "", "[input]", f"size = {size}", 'resize = "bilinear_antialias_u8"',
             'colour = "rgb"', f"mean = {MEAN}", f"std = {STD}", "", *(_memory(graphs) if video else ()), "[prompts]",
             'kinds = ["points", "bbox"]', "point_slots = 16"]
    for name, model in graphs.items():
        path = out / "fp32" / f"{name}.onnx"
        data = model.SerializeToString(deterministic=True)
        path.write_bytes(data)
        lines += ["", "[[graph]]", f'name = "{name}"', f'files = {{ fp32 = "fp32/{name}.onnx" }}',
                  f'sha256 = {{ fp32 = "{hashlib.sha256(data).hexdigest()}" }}',
                  f"inputs = {_ports(model.graph.input)}", f"outputs = {_ports(model.graph.output)}"]
    (out / "pack.toml").write_text("\n".join(lines) + "\n")


def import_export(args: argparse.Namespace) -> None:
    video = args.family == "sam2export"
    paths = (dict(zip(VIDEO_GRAPHS, (args.encoder, args.attention, args.decoder, args.memory))) if video
             else dict(zip(GRAPHS, (args.vision, args.decoder))))
    graphs = {name: onnx.load(path) for name, path in paths.items()}      # external data comes along
    digest = hashlib.sha256()
    for path in paths.values():
        digest.update(path.read_bytes())
    write_pack(args.out, graphs, identity=args.id or args.out.resolve().name, licence=args.licence, size=args.size,
               source=args.source, command=f"python -m jetbench_models foreign import{'-video' if video else ''} --source {args.source}",
               notes=f"imported; checkpoint_sha256 is the digest of the {len(paths)} downloaded graph files, one after the other",
               checkpoint=digest.hexdigest(), family=args.family)
    print(f"{args.out}: graphs of {args.source}; check it with: jetbench packs inspect {args.out}")


# --------------------------------------------------------------------------------------------------------------- mini
def _mini_model(seed: int):
    """Sam2Model of some 90,000 random parameters, 128 px."""
    import torch
    from transformers import Sam2Config, Sam2Model
    size, hidden, dims = 128, 32, (8, 16, 24, 32)
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
        for name, weight in model.named_parameters():
            if weight.dim() > 1:      # transformers' N(0, 0.02) would give masks without structure
                weight.normal_(std=(weight[0].numel()) ** -0.5)
        model.prompt_encoder.shared_embedding.positional_embedding.copy_(model.shared_image_embedding.positional_embedding)
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(3.0)
        _round(model)
    return model, size


def _traced(module, inputs: tuple, names: list[str], outputs: list[str], axes: dict) -> onnx.ModelProto:
    """A graph as these exports make theirs: by tracing, opset 17."""
    import io

    import torch
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


def _mini_graphs(seed: int) -> tuple[dict[str, onnx.ModelProto], int]:
    import torch
    model, size = _mini_model(seed)

    class Vision(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, pixel_values):
            maps = list(self.model.vision_encoder(pixel_values, return_dict=True).fpn_hidden_states)
            fine, middle = self.model.mask_decoder.conv_s0(maps[0]), self.model.mask_decoder.conv_s1(maps[1])
            return fine, middle, maps[2] + self.model.no_memory_embedding.reshape(1, -1, 1, 1)

    class Decoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_points, input_labels, input_boxes, fine, middle, coarse):
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

    features = [f"image_embeddings.{i}" for i in range(3)]
    image = torch.rand(1, 3, size, size)
    vision = _traced(Vision(), (image,), ["pixel_values"], features, {})
    with torch.no_grad():
        maps = Vision()(image)
    example = (torch.rand(1, 1, 2, 2) * size, torch.tensor([[[1, 0]]]), torch.rand(1, 1, 4) * size, *maps)
    decoder = _traced(Decoder(), example, ["input_points", "input_labels", "input_boxes", *features],
                     ["iou_scores", "pred_masks", "object_score_logits"],
                     {"input_points": {2: "num_points_per_image"}, "input_labels": {2: "num_points_per_image"},
                      "input_boxes": {1: "num_boxes_per_image"}})
    return dict(zip(GRAPHS, (vision, decoder))), size


def _track(out: Path, frames: list[np.ndarray], size: int, start: tuple[np.ndarray, np.ndarray]) -> list[dict]:
    """The image-mode loop in plain Python: argmax of the predicted IoU, next prompt = box of the last non-empty mask."""
    import onnxruntime as ort
    import torch
    from PIL import Image
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    vision, decoder = (ort.InferenceSession(out / "fp32" / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
                       for name in GRAPHS)
    points, labels = start
    rows = []
    for frame in frames:
        height, width = frame.shape[:2]
        small = np.asarray(Image.fromarray(frame).resize((size, size), Image.BILINEAR), np.float32) / 255
        pixels = ((small - np.float32(MEAN)) / np.float32(STD)).astype(np.float32).transpose(2, 0, 1)[None]
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
            ys, xs = np.nonzero(mask)
            corners = np.array([[xs.min(), ys.min()], [xs.max(), ys.max()]], np.float64)
            points = (corners * [size / width, size / height]).astype(np.float32)
            labels = np.array([2, 3], np.int64)
        flat = np.concatenate([[0], mask.ravel().astype(np.int8), [2]])
        edges = np.flatnonzero(np.diff(flat)[:-1]) if mask.any() else np.array([], int)
        runs = np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()
        rows.append(dict(object_score=float(score[0, 0, 0]), predicted_iou=float(ious[0, 0, best]), runs=runs))
    return rows


def mini(args: argparse.Namespace) -> None:
    from PIL import Image
    graphs, size = _mini_graphs(args.seed)
    write_pack(args.out, graphs, identity=args.out.name, licence="Apache-2.0", size=size,
               source="jetbench_models foreign mini", command=f"python -m jetbench_models foreign mini --seed {args.seed}",
               notes="random weights: says nothing about any model", checkpoint=hashlib.sha256(b"random").hexdigest())
    frames = [np.asarray(Image.open(args.frames / f"{t:05}.png").convert("RGB")) for t in range(args.count)]
    height, width = frames[0].shape[:2]
    scale = np.array([size / width, size / height])
    click = ((np.array([[width // 2, height // 2]]) * scale).astype(np.float32), np.array([1], np.int64))
    box = [width // 4, height // 4, width // 2, height // 2]
    corners = ((np.array([box[:2], box[2:]]) * scale).astype(np.float32), np.array([2, 3], np.int64))
    reference = dict(count=args.count, width=width, height=height, click=[width // 2, height // 2], box=box,
                     points=_track(args.out, frames, size, click), bbox=_track(args.out, frames, size, corners))
    (args.out / "reference.json").write_text(json.dumps(reference) + "\n")
    total = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    print(f"{args.out}: {total / 1e3:.0f} kB")


def _mini_video_model(seed: int):
    """Sam2VideoModel of SAM 2.0 (pointers without a place in time, no mark on absence), some 250,000 random parameters, 128 px."""
    import torch
    from transformers import Sam2VideoConfig, Sam2VideoModel

    from . import configs
    size, hidden, dims = 128, 64, (8, 16, 24, 32)
    made = configs.sam2_config(size).to_dict()
    vision, backbone = made["vision_config"], made["vision_config"]["backbone_config"]
    backbone.update(hidden_size=dims[0], num_attention_heads=1, embed_dim_per_stage=list(dims), num_attention_heads_per_stage=[1] * 4)
    vision.update(backbone_channel_list=list(dims[::-1]), fpn_hidden_size=hidden)
    made["prompt_encoder_config"].update(hidden_size=hidden, mask_input_channels=8)
    made["mask_decoder_config"].update(hidden_size=hidden, mlp_dim=32, num_hidden_layers=1, num_attention_heads=2,
                                       iou_head_hidden_dim=32)
    made.update(memory_attention_num_layers=1, memory_attention_hidden_size=hidden, memory_attention_feed_forward_hidden_size=64,
                memory_encoder_hidden_size=hidden, mask_downsampler_stride=4, mask_downsampler_embed_dim=hidden, memory_fuser_embed_dim=hidden,
                memory_fuser_intermediate_dim=64, enable_occlusion_spatial_embedding=False,
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


def _mini_video_graphs(model, size: int) -> dict[str, onnx.ModelProto]:
    """The four graphs of the SAM2Export layout, with its names of inputs and outputs."""
    import torch

    from . import graphs as ours
    from torch import nn
    g, grid = ours.Geometry.of(model), size // 16
    no_memory = model.no_memory_embedding.detach().reshape(1, -1, 1, 1)
    attention, decoder, encoder = ours.MemoryAttention(model), ours.MaskDecoder(model), ours.MemoryEncoder(model)
    scale, bias = model.config.sigmoid_scale_for_mem_enc, model.config.sigmoid_bias_for_mem_enc

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.image = ours.ImageEncoder(model)
            place = model.vision_encoder.neck.position_encoding((1, g.channels, grid, grid), "cpu", torch.float32)
            self.register_buffer("place", place.flatten(2).permute(2, 0, 1).clone())

        def forward(self, image):
            embed, fine, middle = self.image(image)
            return embed, fine, middle, embed + no_memory, self.place + 0 * embed[:, :1, :1, :1].reshape(1, 1, 1)

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = attention

        def forward(self, feat, feat_place, pointers, memories, places):
            """SAM 2's attention over any number of memories [n,D,f,f] and pointers [p,C], at places [n f f + p C/D, 1, D]."""
            inner = self.inner
            x = (feat - no_memory).flatten(2).transpose(1, 2) + 0.1 * feat_place.transpose(0, 1)
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
            return inner.attention.layer_norm(x).transpose(1, 2).reshape(1, g.channels, grid, grid)

    class Decoder(nn.Module):
        """Always the best of three masks; the mask at the size that is asked for."""

        def __init__(self):
            super().__init__()
            self.inner = decoder

        def forward(self, coords, labels, frame_size, embed, fine, middle):
            one = torch.ones(1)
            low, _, _, _, pointer = self.inner(embed, fine, middle, coords, labels.to(torch.int32), 0 * embed, 0 * one, 0 * one, one)
            full = nn.functional.interpolate(low, (size, size), mode="bilinear", align_corners=False)
            pred = nn.functional.interpolate(low, (frame_size[0], frame_size[1]), mode="bilinear", align_corners=False)
            return pointer, torch.sigmoid(full) * scale + bias, pred

    class Memory(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = encoder.encoder
            place = model.memory_encoder.position_encoding((1, g.memory_channels, grid, grid), "cpu", torch.float32)
            self.register_buffer("place", place.flatten(2).permute(2, 0, 1).clone())
            self.register_buffer("codes", model.memory_temporal_positional_encoding.detach().reshape(g.slots, 1, 1, -1).clone())

        def forward(self, mask, feat):
            e = self.encoder
            x = e.projection(e.memory_fuser(e.feature_projection(feat) + e.mask_downsampler(mask)))
            nothing = 0 * x[:1, :1, :1, :1]
            return x, self.place + nothing[0], self.codes + nothing

    feats = torch.randn(1, g.channels, grid, grid)
    fine, middle = torch.randn(1, g.channels // 8, size // 4, size // 4), torch.randn(1, g.channels // 4, size // 8, size // 8)
    pieces = 5 * g.channels // g.memory_channels
    made = (
        _traced(Encoder(), (torch.rand(1, 3, size, size),), ["image"],
                ["pix_feat", "high_res_feat0", "high_res_feat1", "vision_feats", "vision_pos_embed"], {}),
        _traced(Attention(), (feats, torch.randn(grid * grid, 1, g.channels), torch.randn(5, g.channels),
                              torch.randn(3, g.memory_channels, grid, grid),
                              torch.randn(3 * grid * grid + pieces, 1, g.memory_channels)),
                ["current_vision_feat", "current_vision_pos_embed", "memory_0", "memory_1", "memory_pos_embed"], ["image_embed"],
                {"memory_0": {0: "num"}, "memory_1": {0: "buff"}, "memory_pos_embed": {0: "buff"}}),
        _traced(Decoder(), (torch.rand(1, 2, 2) * size, torch.ones(1, 2), torch.tensor([60, 80]), feats, fine, middle),
                ["point_coords", "point_labels", "frame_size", "image_embed", "high_res_feats_0", "high_res_feats_1"],
                ["obj_ptr", "mask_for_mem", "pred_mask"],
                {"point_coords": {0: "num_labels", 1: "num_points"}, "point_labels": {0: "num_labels", 1: "num_points"},
                 "pred_mask": {2: "height", 3: "width"}}),
        _traced(Memory(), (torch.randn(1, 1, size, size), feats), ["mask_for_mem", "pix_feat"],
                ["maskmem_features", "maskmem_pos_enc", "temporal_code"], {}))
    return dict(zip(VIDEO_GRAPHS, made))


def _session_without_rounding(model, frames: np.ndarray, prompts: list) -> list:
    """transformers' session as this layout computes: memory of a prompted frame from soft masks, always the best of three
    masks, memories as float32. (The session cannot have pointers of one piece; here they are.)"""
    import torch

    from .session import run_session
    encode, single, pieces = model._encode_new_memory, model._single_frame_forward, model._process_object_pointers
    last: list = []

    def soft(*args, **kwargs):
        return encode(*args, **{**kwargs, "is_mask_from_pts": False})

    def remember(_module, _inputs, output):
        last.append(output[0])

    def exact(*args, **kwargs):
        features, places = soft(*args, **kwargs)
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


def mini_video(args: argparse.Namespace) -> None:
    from PIL import Image

    from .prompts import TrackPrompt, run_lengths
    model, size = _mini_video_model(args.seed)
    write_pack(args.out, _mini_video_graphs(model, size), identity=args.out.name, licence="Apache-2.0", size=size,
               source="jetbench_models foreign mini-video", command=f"python -m jetbench_models foreign mini-video --seed {args.seed}",
               notes="random weights: says nothing about any model", checkpoint=hashlib.sha256(b"random").hexdigest(),
               family="sam2export")
    frames = np.stack([np.asarray(Image.open(args.frames / f"{t:05}.png").convert("RGB")) for t in range(args.count)])
    height, width = frames.shape[1:3]
    click, box = (width // 2, height // 2, 1), (width // 4, height // 4, width // 2, height // 2)
    tracks = _session_without_rounding(model, frames, [TrackPrompt("points", points=(click,)), TrackPrompt("bbox", box=box)])
    reference = dict(count=args.count, width=width, height=height, click=list(click[:2]), box=list(box))
    for kind, track in zip(("points", "bbox"), tracks):
        reference[kind] = [dict(object_score=float(s), runs=run_lengths(m).tolist()) for s, m in zip(track.object_score, track.masks)]
        print(f"{kind}: object score {[round(float(s), 3) for s in track.object_score]}, mask pixels {[int(m.sum()) for m in track.masks]}, "
              f"logits near zero (below 1e-3) {int((np.abs(track.low_res) < 1e-3).sum())}")
    (args.out / "reference.json").write_text(json.dumps(reference) + "\n")
    total = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    print(f"{args.out}: {total / 1e3:.0f} kB")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="jetbench_models foreign", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    layouts = {
        "import": ("sam2_image", "the onnx-community layout", {"vision": "vision_encoder.onnx", "decoder": "prompt_encoder_mask_decoder.onnx"}),
        "import-video": ("sam2export", "the SAM2Export layout", {"encoder": "image_encoder.onnx", "attention": "memory_attention.onnx",
                                                                 "decoder": "image_decoder.onnx", "memory": "memory_encoder.onnx"})}
    for command, (family, layout, files) in layouts.items():
        bring = commands.add_parser(command, help=f"a pack from a downloaded export in {layout}")
        for flag, file in files.items():
            bring.add_argument(f"--{flag}", type=Path, required=True, help=file)
        bring.add_argument("--licence", required=True, help="SPDX expression of the weights' licence")
        bring.add_argument("--source", required=True, help="where the export comes from, with its revision")
        bring.add_argument("--size", type=int, default=1024, help="input side in pixels")
        bring.add_argument("--id", help="name of the pack (default: name of the directory)")
        bring.add_argument("--out", type=Path, required=True, help="pack directory to write")
        bring.set_defaults(run=import_export, family=family)
    for command, make, count in (("mini", mini, 6), ("mini-video", mini_video, 10)):
        small = commands.add_parser(command, help="a small random export of the layout, with a reference, for tests")
        small.add_argument("--frames", type=Path, required=True, help="directory of PNG frames")
        small.add_argument("--count", type=int, default=count, help="frames of the reference")
        small.add_argument("--seed", type=int, default=0)
        small.add_argument("--out", type=Path, required=True, help="pack directory to write")
        small.set_defaults(run=make)
    args = parser.parse_args(argv)
    args.run(args)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
