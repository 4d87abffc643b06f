"""Packs of 64 px for tests on slow devices: both miniature architectures with random weights, fp32, golden reference included.

A frame costs a tenth of what it costs at 256 px, so that a device that is imitated on a processor gets through the tests in
minutes. The bias of the object score is moved so that the object counts as absent on some frames; the references may be
weak (``golden --weak``). Beside them a detector of 300 queries and 80 classes that is drawn by hand: its logits follow the
brightness of the frame, many are equal. They are made anew where they are needed and lie in no repository.

Example:
    python -m jetbench_models small --out target/small
"""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from ..command import not_negative, parser
from ..models import miniature, weights
from ..models.detector import FAMILY
from ..models.released import sha256
from ..pack.ports import Port, as_toml
from . import command, golden, manifest, presence

SIZE = 64     # pixels: four by four positions in memory
# Of the detector. Behind the other packs in the alphabet: scripts/test-plugin.sh takes the first.
DETECTOR, SIDE, QUERIES, CLASSES = "seen_16", 16, 300, 80


def write(out: Path, arch: str, seed: int) -> None:
    """Weights, pack and golden reference of one architecture; the golden frames are those of ``out``/golden for both."""
    torch.manual_seed(seed)
    model = miniature.initialise(miniature.build(arch, SIZE)).eval()
    ((found,),) = golden.run_clips(model, golden.golden_clips(SIZE)[:1], ("points",))
    done = presence.Balance(round(-float(np.median(found.object_score)), 4))
    presence.apply(model, done)
    file, pack = out / f"{arch}.safetensors", out / "packs" / f"{arch}_{SIZE}"
    weights.save(file, model.state_dict(), arch, SIZE)
    notes = f"Random weights of seed {seed}, never trained; in the last layer of the object score {done.words()}. For tests only."
    command.main(["--checkpoint", str(file), "--out", str(pack), "--dtype", "fp32", "--notes", notes])
    golden.main(["--weights", str(file), "--pack", str(pack), "--frames", str(out / "golden"), "--weak"])
    file.unlink()


def write_detector(out: Path, seed: int) -> None:
    """The pack of the detector: as many operators as it takes to have an input and two outputs."""
    random = np.random.default_rng(seed)
    logits = np.round(random.normal(-5, 1.5, (1, QUERIES, CLASSES)) * 8) / 8      # so coarse that queries and classes share values
    values = {"offsets": logits, "places": random.uniform(0.2, 0.8, (1, QUERIES, 4)),
              "bright": np.full((3, 1), 0.2), "still": np.zeros((3, 4))}
    inputs = (Port("image", "f32", (1, 3, SIDE, SIDE)),)
    outputs = (Port("logits", "f32", (1, QUERIES, CLASSES)), Port("pred_boxes", "f32", (1, QUERIES, 4)))
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]), helper.make_node("Reshape", ["mean", "row"], ["colour"]),
        helper.make_node("MatMul", ["colour", "bright"], ["moved"]), helper.make_node("Add", ["offsets", "moved"], ["logits"]),
        helper.make_node("MatMul", ["colour", "still"], ["nothing"]), helper.make_node("Add", ["places", "nothing"], ["pred_boxes"])]
    takes, gives = ([helper.make_tensor_value_info(p.name, onnx.TensorProto.FLOAT, p.shape) for p in side] for side in (inputs, outputs))
    weights_of = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()]
    weights_of.append(numpy_helper.from_array(np.array([1, 1, 3], np.int64), "row"))
    graph = helper.make_graph(nodes, "detector", takes, gives, weights_of)
    pack = out / "packs" / DETECTOR
    (pack / "fp32").mkdir(parents=True)
    file = pack / "fp32/detector.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    provenance = {"checkpoint_sha256": "", "command": "", "libraries": {}, "notes": f"Drawn by hand, seed {seed}. For tests only."}
    (pack / "pack.toml").write_text("\n".join([
        "schema = 1", f'id = "{DETECTOR}"', f'family = "{FAMILY}"', 'description = ""', 'licence = "Apache-2.0"',
        *manifest.provenance_lines(provenance, "transformers"), *manifest.input_lines(SIDE, [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]),
        "[detector]", 'layout = "raw"', f"queries = {QUERIES}", f"classes = {json.dumps([f'class {n}' for n in range(CLASSES)])}",
        "[[graph]]", 'name = "detector"', 'files = { fp32 = "fp32/detector.onnx" }', f"sha256 = {manifest.inline({'fp32': sha256(file)})}",
        f"inputs = {as_toml(inputs)}", f"outputs = {as_toml(outputs)}"]) + "\n")


def main(argv: list[str]) -> int:
    options = parser("small", __doc__)
    options.add_argument("--out", type=Path, required=True, help="folder to write: packs/ and golden/")
    options.add_argument("--seed", type=not_negative, default=0)
    args = options.parse_args(argv)
    for arch in miniature.ARCHITECTURES:
        write(args.out, arch, args.seed)
    write_detector(args.out, args.seed)
    return 0
