"""Writes a label pack: the image tower in every precision, the vectors of the classes, manifest, licence, and the golden reference.

``write`` takes a ``Recipe``: of CLIP, SigLIP or MobileCLIP with prompts, of learned prompts, or of the miniature.
"""
from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .. import __version__
from ..clips import crops, shapes
from ..clips.synth import TextureBank
from ..command import Refused
from ..models import label_mini, mobileclip
from ..models.clip import Source, Vision
from ..models.released import sha256
from ..pack import DTYPES, half, labels
from ..pack.ports import Port, as_toml
from . import manifest
from .convert import trace, write_single
from .graphs.signatures import Signature

FAMILY, NAME = "clip_labels", "vision"
INPUT = "pixel_values"
FRAMES_SEED = 552_000
MODES = {"bilinear_antialias_u8": "bilinear", "bicubic_antialias_u8": "bicubic"}
LIBRARIES = ("torch", "transformers", "timm", "open_clip_torch", "onnx", "onnxscript", "numpy")
MINI_LICENCE = """\
The graphs, vectors and reference outputs in this directory are part of this project and are licensed under the Apache
License, Version 2.0 (https://www.apache.org/licenses/LICENSE-2.0).

The weights were trained by this project from random numbers, on shapes that its own script draws. No downloaded weights
and no third-party images were used. It is a smoke-test model: it says nothing about the quality of CLIP.
"""
SOURCE_LICENCE = """\
The graphs and vectors in this directory hold the weights of the checkpoint named in pack.toml, converted and otherwise
unchanged. They stay under the licence of that checkpoint{words}
"""


@dataclass(frozen=True)
class Recipe:
    """All that a label pack is made of. ``vision``: normalised ``pixel_values`` [n,3,S,S] -> [n,D]; ``vectors``: unit rows [C,D]."""

    vision: nn.Module
    output: str               # "image_embeds" or "pooler_output"
    size: int
    mean: list[float]
    std: list[float]
    resize: str
    classes: list[str]
    vectors: Tensor
    logit_scale: float        # logarithm
    logit_bias: float | None  # None: softmax
    pooling: str
    prompts: list[str]
    description: str
    made: str                 # "hugging face", "random" or "trained here"
    digest: str
    licence: str
    terms: str | None         # text of a licence file beside the weights


def of_source(source: Source, classes: list[str], vectors: Tensor, pooling: str, prompts: list[str], licence: str) -> Recipe:
    """Of CLIP, SigLIP or MobileCLIP, with the vectors of its text tower."""
    name = {"clip": "CLIP", "siglip": "SigLIP", "open_clip": "MobileCLIP"}[source.kind]
    biased = source.kind == "siglip"
    vision = mobileclip.Vision(source.model) if source.kind == "open_clip" else Vision(source.model)
    words = "with RANDOM weights: right in size, speed and arithmetic, its labels mean nothing" if source.made == "random" else \
        f"from a directory of {'OpenCLIP' if source.kind == 'open_clip' else 'Hugging Face'}"
    return Recipe(vision.eval(), "pooler_output" if biased else "image_embeds", source.size,
                  list(source.mean), list(source.std), source.resize, classes, vectors, float(source.model.logit_scale.detach()),
                  float(source.model.logit_bias.detach()) if biased else None, pooling, prompts,
                  f"Labels of {len(classes)} classes by {name} ({source.name}) at {source.size} px, {words}",
                  source.made, source.digest, licence, source.licence)


def of_miniature(path: Path) -> Recipe:
    """Of a file that ``train labels`` wrote; its norms become part of the convolutions."""
    model, classes = label_mini.load(path)
    tower = model.vision
    with torch.no_grad():
        for i, (convolution, norm) in enumerate(zip(tower.convolutions, tower.norms)):
            tower.convolutions[i] = fuse_conv_bn_eval(convolution, norm)
            tower.norms[i] = nn.Identity()
    return Recipe(tower, "image_embeds", label_mini.SIZE, label_mini.MEAN, label_mini.STD, "bicubic_antialias_u8", classes,
                  F.normalize(model.vectors.detach(), dim=-1), float(model.logit_scale.detach()), None, "none", ["learned"],
                  f"Labels of {len(classes)} outlines by an image tower in miniature ({label_mini.SIZE} px), trained from random weights "
                  "on drawn shapes: a smoke-test model", "trained here", sha256(path), "Apache-2.0", None)


# -------------------------------------------------------------------------------------------------------------- graph
def signature(recipe: Recipe) -> Signature:
    size, width = recipe.size, recipe.vectors.shape[1]
    return Signature(Vision, (Port(INPUT, "f32", (1, 3, size, size)),), (Port(recipe.output, "f32", (1, width)),))


def export_graph(recipe: Recipe) -> onnx.ModelProto:
    """The fp32 graph, stripped and checked."""
    wanted = signature(recipe)
    vision = recipe.vision.merged() if isinstance(recipe.vision, mobileclip.Vision) else recipe.vision
    graph = trace(vision, NAME, wanted, (torch.zeros(wanted.inputs[0].shape),))
    if found := [n.name for n in graph.graph.node if n.op_type in ("Shape", "Size") or n.domain]:
        raise RuntimeError(f"{NAME}: {found} must not be in the graph")
    half.set_versions(graph, "fp32")
    half.check(graph)
    return graph


# ---------------------------------------------------------------------------------------------------------- reference
def resized(pixels: np.ndarray, size: int, resize: str) -> np.ndarray:
    """uint8 [S,S,3] of uint8 [h,w,3] by PyTorch's kernel for 8-bit images, antialiased, the aspect ratio not kept."""
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)
    return F.interpolate(image, (size, size), mode=MODES[resize], antialias=True)[0].permute(1, 2, 0).contiguous().numpy()


@torch.no_grad()
def answer(recipe: Recipe, small: np.ndarray) -> np.ndarray:
    """The embedding f32 [D] of a crop uint8 [S,S,3], as the tower gives it."""
    mean, std = (torch.tensor(v, dtype=torch.float32).reshape(1, 3, 1, 1) for v in (recipe.mean, recipe.std))
    pixels = (torch.from_numpy(small.copy()).permute(2, 0, 1)[None].float() / 255 - mean) / std
    return recipe.vision(pixels)[0].numpy().copy()


def write_reference(recipe: Recipe, pack: Path, count: int, seed: int, about: dict) -> float:
    """Draws ``count`` crops, stores them with PyTorch's embeddings, and returns the tolerance of a unit embedding."""
    folder = pack / "reference"
    (folder / "frames").mkdir(parents=True, exist_ok=True)
    bank, frames = TextureBank(seed), []
    fill = tuple(round(255 * m) for m in recipe.mean)
    for i in range(count):
        frame, mask = shapes.drawn_shape(np.random.default_rng([seed, i]), bank, i % len(shapes.CLASSES))
        pixels = crops.square(frame, mask, fill)     # type: ignore[arg-type]
        Image.fromarray(pixels).save(folder / f"frames/{i:05d}.png", optimize=True)
        small = resized(pixels, recipe.size, recipe.resize)
        frames.append((f"frames/{i:05d}.png", pixels, small, answer(recipe, small)))
    unit = lambda v: v / np.linalg.norm(v.astype(np.float64))
    with torch.backends.mkldnn.flags(enabled=False):
        spread = max(float(np.abs(unit(known) - unit(answer(recipe, small))).max()) for _, _, small, known in frames)
    if not math.isfinite(spread):
        raise Refused("PyTorch gives values that are no numbers on these weights")
    tolerance = max(labels.TOLERANCE, float(f"{8 * spread:.1e}"))
    labels.write_reference(folder, frames, {**about, "tolerance": tolerance, "spread": float(f"{spread:.1e}")})
    return tolerance


# --------------------------------------------------------------------------------------------------------------- pack
def _manifest(recipe: Recipe, identity: str, provenance: dict, digests: dict[str, str], vectors: str, golden: float | None) -> str:
    ports, kinds = signature(recipe), [kind for kind in DTYPES if kind in digests]
    stands_in = ['test_model_of = "CLIP"'] if recipe.made != "hugging face" else []
    lines = [
        "schema = 1", f'id = "{identity}"', f'family = "{FAMILY}"', f"description = {json.dumps(recipe.description)}",
        f"licence = {json.dumps(recipe.licence)}", *stands_in, "",
        "[provenance]", f'checkpoint_sha256 = "{provenance["checkpoint_sha256"]}"', f'exporter = "jetbench_models {__version__}"',
        f'command = {json.dumps(provenance["command"])}', f'libraries = {manifest.inline(provenance["libraries"])}',
        f'notes = {json.dumps(provenance["notes"])}',
        "", "[input]", f"size = {recipe.size}", f'resize = "{recipe.resize}"', 'colour = "rgb"', f"mean = {recipe.mean}",
        f"std = {recipe.std}",
        "", "[labels]", f'embeddings = "{labels.VECTORS}"', f'sha256 = "{vectors}"', f"classes = {json.dumps(recipe.classes)}",
        f'activation = "{"softmax" if recipe.logit_bias is None else "sigmoid"}"', f'pooling = "{recipe.pooling}"',
        f"prompts = {json.dumps(recipe.prompts)}",
        "", "[[graph]]", f'name = "{NAME}"', f"files = {manifest.inline({k: f'{k}/{NAME}.onnx' for k in kinds})}",
        f"sha256 = {manifest.inline({k: digests[k] for k in kinds})}",
        f"inputs = {as_toml(ports.inputs)}", f"outputs = {as_toml(ports.outputs)}"]
    if golden is not None:
        lines += manifest.golden_lines(labels.INDEX, golden)
    return "\n".join(lines) + "\n"


def _licence(recipe: Recipe) -> str:
    if recipe.made == "trained here":
        return MINI_LICENCE
    if recipe.made == "random":
        return manifest.RANDOM_LICENCE
    return SOURCE_LICENCE.format(words=f": {recipe.licence}." if recipe.licence else ".") + (f"\n{recipe.terms}" if recipe.terms else "")


def write(recipe: Recipe, out: Path, identity: str, kinds: tuple[str, ...], frames: int, command: str, notes: str,
          say: Callable[[str], None]) -> None:
    """The whole pack; ``frames``: of the reference, 0 for none."""
    digests = write_single(export_graph(recipe), NAME, out, kinds, say)
    vectors = labels.write_vectors(out / labels.VECTORS, recipe.vectors.numpy(), recipe.logit_scale, recipe.logit_bias)
    libraries, golden = manifest.library_versions(LIBRARIES), None
    if frames:
        golden = write_reference(recipe, out, frames, FRAMES_SEED, dict(command=command, libraries=libraries))
        say(f"reference: {frames} crops, tolerance {golden:.1e} of a unit embedding")
    provenance = dict(checkpoint_sha256=recipe.digest, command=command, libraries=libraries, notes=notes)
    (out / "pack.toml").write_text(_manifest(recipe, identity, provenance, digests, vectors, golden))
    (out / "LICENSE").write_text(_licence(recipe))
