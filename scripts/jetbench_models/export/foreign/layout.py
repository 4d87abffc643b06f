"""A pack in the layout of somebody else's export: graph files and pack.toml."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import onnx

from ...command import Refused
from ...models import MEAN, STD
from ...pack.ports import as_toml, ports_of

GRAPHS = ("vision_encoder", "prompt_encoder_mask_decoder")
VIDEO_GRAPHS = ("image_encoder", "memory_attention", "image_decoder", "memory_encoder")
DESCRIPTIONS = {"sam2_image": "SAM 2 in image mode: every frame is prompted with the box of the last mask; no memory",
                "sam2export": "SAM 2.0 video in four graphs; the memory is kept on the host"}


def _ports(values: Iterable[onnx.ValueInfoProto]) -> str:
    ports = ports_of(values)
    for port in ports:
        if port.dtype == "?":
            raise Refused(f"tensor {port.name}: its element type has no place in a pack")
    return as_toml(ports)




def _memory(graphs: dict[str, onnx.ModelProto]) -> list[str]:
    """The [memory] table of a video export, from the shapes of memory_encoder; slots and pointers are SAM 2's."""
    shapes = {o.name: [d.dim_value for d in o.type.tensor_type.shape.dim] for o in graphs["memory_encoder"].graph.output}
    try:
        (_, channels, height, width), (slots, *_) = shapes["maskmem_features"], shapes["temporal_code"]
    except (KeyError, ValueError):
        raise Refused("memory_encoder: outputs maskmem_features [1,C,f,f] and temporal_code [slots,1,1,C] expected, "
                      f"found {shapes}") from None
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
