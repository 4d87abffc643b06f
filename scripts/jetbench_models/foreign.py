"""Packs from other people's ONNX exports: the onnx-community layout of SAM 2 (two graphs, image mode, no memory).

``import`` turns a downloaded export into a pack: weights kept in a second file are put into the graph file, so that one
digest covers them, and ``pack.toml`` is written from what the files say about themselves. ``mini`` makes a small export
of the same layout from random weights, with a reference that a plain Python loop computed, for jetbench's tests.

Example:
    python -m jetbench_models foreign import --vision vision_encoder.onnx --decoder prompt_encoder_mask_decoder.onnx \\
        --licence Apache-2.0 --source "onnx-community/sam2.1-hiera-tiny-ONNX" --out packs/sam2.1_tiny_image
    python -m jetbench_models foreign mini --frames assets/golden/g0 --out runners/tests/data/sam2_image_mini
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

GRAPHS = ("vision_encoder", "prompt_encoder_mask_decoder")
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


def write_pack(out: Path, graphs: dict[str, onnx.ModelProto], *, identity: str, licence: str, size: int, source: str,
               command: str, notes: str, checkpoint: str) -> None:
    """Writes the graph files and pack.toml."""
    (out / "fp32").mkdir(parents=True, exist_ok=True)
    lines = ["schema = 1", f"id = {json.dumps(identity)}", 'family = "sam2_image"',
             'description = "SAM 2 in image mode: every frame is prompted with the box of the last mask; no memory"',
             f"licence = {json.dumps(licence)}", "", "[provenance]", f"checkpoint_sha256 = {json.dumps(checkpoint)}",
             f"exporter = {json.dumps(source)}", f"command = {json.dumps(command)}", "libraries = {}",
             f"notes = {json.dumps(notes)}", "", "[input]", f"size = {size}", 'resize = "bilinear_antialias_u8"',
             'colour = "rgb"', f"mean = {MEAN}", f"std = {STD}", "", "[prompts]", 'kinds = ["points", "bbox"]',
             "point_slots = 16"]
    for name, model in graphs.items():
        path = out / "fp32" / f"{name}.onnx"
        data = model.SerializeToString(deterministic=True)
        path.write_bytes(data)
        lines += ["", "[[graph]]", f'name = "{name}"', f'files = {{ fp32 = "fp32/{name}.onnx" }}',
                  f'sha256 = {{ fp32 = "{hashlib.sha256(data).hexdigest()}" }}',
                  f"inputs = {_ports(model.graph.input)}", f"outputs = {_ports(model.graph.output)}"]
    (out / "pack.toml").write_text("\n".join(lines) + "\n")


def import_export(args: argparse.Namespace) -> None:
    paths = dict(zip(GRAPHS, (args.vision, args.decoder)))
    graphs = {name: onnx.load(path) for name, path in paths.items()}      # external data comes along
    digest = hashlib.sha256()
    for path in paths.values():
        digest.update(path.read_bytes())
    write_pack(args.out, graphs, identity=args.id or args.out.resolve().name, licence=args.licence, size=args.size,
               source=args.source, command=f"python -m jetbench_models foreign import --source {args.source}",
               notes="imported; checkpoint_sha256 is the digest of the two downloaded graph files, one after the other",
               checkpoint=digest.hexdigest())
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
    return model, size


def _mini_graphs(seed: int) -> tuple[dict[str, onnx.ModelProto], int]:
    import io

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

    def export(module, inputs, names, outputs, axes):
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
        return graph

    features = [f"image_embeddings.{i}" for i in range(3)]
    image = torch.rand(1, 3, size, size)
    vision = export(Vision(), (image,), ["pixel_values"], features, {})
    with torch.no_grad():
        maps = Vision()(image)
    example = (torch.rand(1, 1, 2, 2) * size, torch.tensor([[[1, 0]]]), torch.rand(1, 1, 4) * size, *maps)
    decoder = export(Decoder(), example, ["input_points", "input_labels", "input_boxes", *features],
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


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="jetbench_models foreign", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    bring = commands.add_parser("import", help="a pack from a downloaded export")
    bring.add_argument("--vision", type=Path, required=True, help="vision_encoder.onnx")
    bring.add_argument("--decoder", type=Path, required=True, help="prompt_encoder_mask_decoder.onnx")
    bring.add_argument("--licence", required=True, help="SPDX expression of the weights' licence")
    bring.add_argument("--source", required=True, help="where the export comes from, with its revision")
    bring.add_argument("--size", type=int, default=1024, help="input side in pixels")
    bring.add_argument("--id", help="name of the pack (default: name of the directory)")
    bring.add_argument("--out", type=Path, required=True, help="pack directory to write")
    bring.set_defaults(run=import_export)
    small = commands.add_parser("mini", help="a small random export of the layout, with a reference, for tests")
    small.add_argument("--frames", type=Path, required=True, help="directory of PNG frames")
    small.add_argument("--count", type=int, default=6, help="frames of the reference")
    small.add_argument("--seed", type=int, default=0)
    small.add_argument("--out", type=Path, required=True, help="pack directory to write")
    small.set_defaults(run=mini)
    args = parser.parse_args(argv)
    args.run(args)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
