"""Writes the pack of a video segmenter: its graph in every precision, manifest, licence, and the golden reference."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn
from transformers import VideomtVideoProcessor
from transformers.models.videomt.modeling_videomt import VideomtForUniversalSegmentationOutput

from ..clips.synth import TextureBank, make_clip
from ..command import Refused
from ..models import MEAN, STD, videomt
from ..models.released import Checkpoint
from ..pack import DTYPES, half, reference, tubes
from ..pack.half import RULES
from ..pack.ports import Port, as_toml
from ..pack.tubes import Answer
from . import manifest
from .convert import trace, write_single
from .graphs.segmenter import Segmenter
from .graphs.signatures import Signature

NAME = "segmenter"        # of its only graph
LIBRARIES = ("torch", "torchvision", "transformers", "onnx", "onnxscript", "numpy")
SHARED, SHARED_FRAMES = "g0", 12      # the miniatures' golden clip whose first frames are this one's
TOLERANCE = 1e-4          # of logits and queries, in shares of their largest value; more only where PyTorch is farther from itself
THRESHOLD = 0.5           # of the library's instance segmentation
# Their last products stay fp32, next to nothing of the arithmetic: classes decide what an object is, and the state is carried for a clip.
KEPT = ("logits", "queries_out")


def size_of(model: nn.Module) -> int:
    """Input side in pixels."""
    return model.config.image_size


def signature(model: nn.Module) -> Signature:
    c = model.config
    side = c.image_size // c.patch_size * 2 ** c.num_upscale_blocks
    queries = (1, c.num_queries, c.hidden_size)
    return Signature(Segmenter, (Port("image", "f32", (1, 3, c.image_size, c.image_size)), Port("queries", "f32", queries)),
                     (Port("logits", "f32", (1, c.num_queries, c.num_labels + 1)), Port("masks", "f32", (1, c.num_queries, side, side)),
                      Port("queries_out", "f32", queries)))


def export_graph(model: nn.Module) -> onnx.ModelProto:
    """The fp32 graph, stripped and checked."""
    wanted = signature(model)
    graph = trace(Segmenter(model), NAME, wanted, tuple(torch.zeros(port.shape) for port in wanted.inputs))
    if found := [n.name for n in graph.graph.node if n.op_type in ("Shape", "Size") or n.domain]:
        raise RuntimeError(f"{NAME}: {found} must not be in the graph")
    half.set_versions(graph, "fp32")
    half.check(graph)
    return graph


def write_graphs(model: nn.Module, out: Path, kinds: tuple[str, ...], say: Callable[[str], None]) -> dict[str, str]:
    """Writes the graph in every precision and returns the digests."""
    return write_single(export_graph(model), NAME, out, kinds, say, KEPT)


# ------------------------------------------------------------------------------------------------------------ reference
@torch.no_grad()
def answers(model: nn.Module, clip: list[np.ndarray]) -> list[Answer]:
    """What transformers' model and video processor say in fp32 about frames uint8 [h,w,3] of one clip."""
    size, kept = model.config.image_size, []
    processor = VideomtVideoProcessor(size={"height": size, "width": size})
    hook = model.query_updater.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    # one frame more: the model asks for the queries of the next frame when it gets there
    video = np.stack([*clip, clip[-1]])
    seen = processor(videos=[video], do_rescale=False, do_normalize=False, return_tensors="pt")["pixel_values_videos"][0]
    found = model(pixel_values_videos=processor(videos=[video], return_tensors="pt")["pixel_values_videos"])
    hook.remove()
    logits, masks = found.class_queries_logits[:-1], found.masks_queries_logits[:-1]
    sizes = [frame.shape[:2] for frame in clip]
    output = VideomtForUniversalSegmentationOutput(class_queries_logits=logits, masks_queries_logits=masks)
    result = []
    for t, instances in enumerate(processor.post_process_instance_segmentation(output, sizes, threshold=THRESHOLD)):
        queries = passed(logits[t], masks[t], sizes[t])
        scores = {query: info["score"] for query, info in zip(queries, instances["segments_info"], strict=True)}
        map_of = np.array([0, *(query + 1 for query in queries)])
        result.append(Answer(seen[t].permute(1, 2, 0).contiguous().numpy(), logits[t].numpy(), masks[t].numpy(),
                             model.query_updater(kept[t])[0].numpy(), map_of[instances["segmentation"].numpy() + 1], scores))
    return result


def passed(logits: torch.Tensor, masks: torch.Tensor, size: tuple[int, int]) -> list[int]:
    """The queries that the library's instance segmentation keeps: it says how many, not which."""
    shares = logits.softmax(-1)[:, :-1].max(-1)[0]
    queries = []
    for query in torch.nonzero(shares >= THRESHOLD).flatten().tolist():
        seen = torch.nn.functional.interpolate(masks[None, query:query + 1], size=size, mode="bilinear", align_corners=False)[0, 0]
        inside = seen > 0
        if inside.any() and float(shares[query] * (seen.sigmoid() * inside).sum() / (inside.sum() + 1e-6)) >= THRESHOLD:
            queries.append(query)
    return queries


def gap(one: list[Answer], other: list[Answer]) -> float:
    """Largest difference of class logits, mask logits and queries, in shares of the largest value of each."""
    return max(float(np.abs(getattr(a, name) - getattr(b, name)).max() / max(1.0, np.abs(getattr(a, name)).max()))
               for a, b in zip(one, other, strict=True) for name in ("logits", "masks", "queries"))


def write_reference(model: nn.Module, pack: Path, images: list[tuple[str, np.ndarray]], about: dict) -> float:
    """Writes the reference of the clip ``images`` (file relative to the reference's folder, pixels) and returns its tolerance."""
    clip = [pixels for _, pixels in images]
    known = answers(model, clip)
    if not all(np.isfinite(answer.masks).all() for answer in known):
        raise Refused("PyTorch gives values that are no numbers on these weights")
    with torch.backends.mkldnn.flags(enabled=False):
        spread = gap(known, answers(model, clip))
    tolerance = max(TOLERANCE, float(f"{8 * spread:.1e}"))
    frames = [(name, pixels, answer) for (name, pixels), answer in zip(images, known, strict=True)]
    about = {**about, "tolerance": tolerance, "spread": float(f"{spread:.1e}"), "threshold": THRESHOLD}
    tubes.write(pack / "reference", frames, about)
    return tolerance


def shared_frames(pack: Path, folder: Path) -> list[tuple[str, np.ndarray]]:
    """The first of the miniatures' shared golden frames, named relative to the reference of ``pack``."""
    return reference.shared_frames(pack, (folder / SHARED / f"{t:05d}.png" for t in range(SHARED_FRAMES)))


def own_frames(pack: Path, count: int, seed: int) -> list[tuple[str, np.ndarray]]:
    """A clip drawn for this pack, 320 x 240, stored in it."""
    clip, _ = make_clip(np.random.default_rng([seed, 0]), count, 240, 320, "hard", bank=TextureBank(seed))
    return reference.own_frames(pack, clip)


# ------------------------------------------------------------------------------------------------------------- manifest
def _describe(checkpoint: Checkpoint) -> str:
    c = checkpoint.model.config
    if checkpoint.source == "trained here":
        classes = "one class" if c.num_labels == 1 else f"{c.num_labels} classes"
        return (f"VidEoMT video segmenter in miniature ({c.image_size} px, {classes}, {c.num_queries} queries), trained from "
                "random weights on synthetic clips: a smoke-test model")
    what = f"{checkpoint.name.replace('videomt', 'VidEoMT').replace('_', ' ')} video segmenter at {c.image_size} px"
    if checkpoint.source == "random":
        return f"{what} with RANDOM weights: right in size, speed and arithmetic, it segments nothing"
    return f"{what}, from a Hugging Face directory"


def _manifest(identity: str, checkpoint: Checkpoint, provenance: dict, digests: dict[str, str], golden: float | None) -> str:
    model, ports = checkpoint.model, signature(checkpoint.model)
    kinds = [kind for kind in DTYPES if kind in digests]
    stands_in = ['test_model_of = "VidEoMT"'] if checkpoint.source in ("trained here", "random") else []
    lines = [
        "schema = 1", f'id = "{identity}"', f'family = "{videomt.FAMILY}"', f"description = {json.dumps(_describe(checkpoint))}",
        'licence = "Apache-2.0"', *stands_in, "", *manifest.provenance_lines(provenance, "transformers"),
        "", *manifest.input_lines(size_of(model), MEAN, STD),
        "", "[segmenter]", f"queries = {model.config.num_queries}", f"classes = {json.dumps(videomt.classes_of(model))}",
        "", *(f"# {line}" for line in RULES),
        "# The last products of logits and queries_out stay fp32: a class near the threshold is a flip, and the state is kept for frames.",
        "", "[[graph]]", f'name = "{NAME}"', f"files = {manifest.inline({k: f'{k}/{NAME}.onnx' for k in kinds})}",
        f"sha256 = {manifest.inline({k: digests[k] for k in kinds})}",
        f"inputs = {as_toml(ports.inputs)}", f"outputs = {as_toml(ports.outputs)}",
        "", "[[state]]", 'input = "queries"', 'output = "queries_out"']
    if golden is not None:
        lines += manifest.golden_lines(tubes.INDEX, golden)
    return "\n".join(lines) + "\n"


def write(checkpoint: Checkpoint, out: Path, identity: str, kinds: tuple[str, ...], frames: int, seed: int, command: str, notes: str,
          say: Callable[[str], None]) -> None:
    """The whole pack. ``frames``: of the reference, 0 for none; the miniature's is written by ``golden``."""
    golden = None
    if checkpoint.source == "trained here":
        golden = TOLERANCE
    elif frames:
        about = dict(command=command, libraries=manifest.library_versions(LIBRARIES))
        golden = write_reference(checkpoint.model, out, own_frames(out, frames, seed), about)
        say(f"reference: {frames} frames, tolerance {golden:.1e}")
    digests = write_graphs(checkpoint.model, out, kinds, say)
    provenance = dict(checkpoint_sha256=checkpoint.sha256, command=command, libraries=manifest.library_versions(LIBRARIES), notes=notes)
    (out / "pack.toml").write_text(_manifest(identity, checkpoint, provenance, digests, golden))
    (out / "LICENSE").write_text(manifest.licence(checkpoint))
