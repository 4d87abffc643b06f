"""Writes the pack of a DVIS-DAQ: its two graphs in every precision, manifest, licence, and the golden reference."""
from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F

from ..clips.synth import TextureBank, make_clip
from ..command import Refused
from ..models import MEAN, STD, dvis
from ..models.dvis import DvisDaq
from ..models.dvis_tracker import MEMORY, Following, Seen
from ..models.released import Checkpoint, state_digest
from ..pack import DTYPES, chains, half, reference
from ..pack.chains import Answer, Kept
from ..pack.half import RULES
from ..pack.ports import Port, as_toml
from . import manifest
from .convert import trace, write_single
from .graphs.dvis import Segmenter, Step
from .graphs.signatures import Signature

SEGMENTER, STEP = "segmenter", "tracker_step"
LIBRARIES = ("torch", "transformers", "onnx", "onnxscript", "scipy", "numpy")
TOLERANCE = 1e-4          # of logits, in shares of their largest value; more only where PyTorch is farther from itself
CEILING = 2e-3            # above, jetbench takes no reference
# Parts of the miniatures' golden clips, one after the other: no object, then two, then others, so that tracks are born.
SHARED = (("g2", 16, 22), ("g1", 0, 10))
STATES = ("queries", "positions", "ring", "count", "missed", "tracks")


def size_of(model: DvisDaq) -> str:
    """The input for people."""
    width, height = model.config.frame
    return f"{width}x{height}"


# --------------------------------------------------------------------------------------------------------------- graphs
def signatures(model: DvisDaq, slots: int) -> dict[str, Signature]:
    c = model.config
    (width, height), size, branch = c.padded, c.size, model.rules.slot_branch
    row = (size.queries, size.channels)
    of_frame = (Port("frame_embeds", "f32", row), Port("frame_positions", "f32", row), Port("frame_scores", "f32", (size.queries,)),
                Port("features", "f32", (size.channels, height // 4, width // 4)))
    shapes = ((slots, size.channels), (slots, size.channels), (slots, MEMORY, size.channels), (slots,), (slots,), (1,))
    before = tuple(Port(name, "f32", shape) for name, shape in zip(STATES, shapes, strict=True))
    after = tuple(Port(f"{port.name}_out", "f32", port.shape) for port in before)
    rows = slots + size.background
    match = (Port("match", "i32", (rows,)),) if branch else ()
    alike = (Port("similarity", "f32", (rows, size.queries)),) if branch else ()
    told = (Port("logits", "f32", (slots, len(c.classes) + 1)), Port("masks", "f32", (slots, height // 4, width // 4)),
            Port("source", "f32", (slots,)), Port("seen", "f32", (slots,)), Port("total", "f32", (1,)))
    return {
        SEGMENTER: Signature(lambda m: Segmenter(copy.deepcopy(m)), (Port("image", "f32", (1, 3, height, width)),), of_frame),
        STEP: Signature(lambda m: Step(m, slots, branch),
                        (*of_frame, Port("first", "f32", (1,)), Port("rules", "f32", (4,)), *before, *match), (*told, *after, *alike)),
    }


def export_graphs(model: DvisDaq, slots: int) -> dict[str, onnx.ModelProto]:
    """The fp32 graphs, stripped and checked."""
    graphs = {}
    for name, wanted in signatures(model, slots).items():
        kinds = {"f32": torch.float32, "i32": torch.int32}
        with torch.no_grad():
            graph = trace(wanted.module(model).eval(), name, wanted,
                          tuple(torch.zeros(port.shape, dtype=kinds[port.dtype]) for port in wanted.inputs))
        if found := [n.name for n in graph.graph.node if n.op_type in ("Shape", "Size") or n.domain]:
            raise RuntimeError(f"{name}: {found} must not be in the graph")
        _gather_plainly(graph.graph)
        half.set_versions(graph, "fp32")
        half.check(graph)
        graphs[name] = graph
    return graphs


def _gather_plainly(graph: onnx.GraphProto) -> None:
    """Rows are picked by lists of numbers, as they come in or out of TopK. PyTorch makes them 64 bits wide and a list once more; WebGPU has
    no operator for either."""
    narrow = {port.name for port in graph.input if port.type.tensor_type.elem_type == onnx.TensorProto.INT32}
    made_by = {name: node for node in graph.node for name in node.output}
    for reader in [n for n in graph.node if n.op_type == "Gather"]:
        name = reader.input[1]
        while name in made_by and made_by[name].op_type in ("Cast", "Reshape"):
            name = made_by[name].input[0]
        if name in narrow or (name in made_by and made_by[name].op_type == "TopK"):
            reader.input[1] = name
    while unread := [n for n in graph.node if n.op_type in ("Cast", "Reshape") and not _is_read(graph, n.output[0])]:
        for node in unread:
            graph.node.remove(node)


def _is_read(graph: onnx.GraphProto, name: str) -> bool:
    return any(name in node.input for node in graph.node) or any(port.name == name for port in graph.output)


# ------------------------------------------------------------------------------------------------------------ reference
def fitted(frame: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """Width and height of a frame of that size, as large as ``frame`` has room for; what the published evaluation gives where the aspect
    ratios are the same."""
    scale = min(frame[0] / width, frame[1] / height)
    return min(frame[0], max(1, int(width * scale + 0.5))), min(frame[1], max(1, int(height * scale + 0.5)))


def network_input(model: DvisDaq, pixels: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
    """A frame uint8 [h,w,3] resized, and normalised [3,H,W] with zeros to the right and below."""
    width, height = fitted(model.config.frame, pixels.shape[1], pixels.shape[0])
    planes = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
    small = F.interpolate(planes, size=(height, width), mode="bilinear", antialias=True, align_corners=False)[0]
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    across, down = model.config.padded
    normalised = (small.float() / 255 - mean) / deviation
    return small.permute(1, 2, 0).contiguous().numpy(), F.pad(normalised, (0, across - width, 0, down - height))


def outlines(masks: torch.Tensor, model: DvisDaq, small: tuple[int, int], size: tuple[int, int]) -> torch.Tensor:
    """Masks bool [n,H,W] at the frame's ``size`` (width, height) of mask logits [n,h,w]: bilinear to the input, cut to the part that the
    resized frame takes, ``small``, bilinear to the frame, above 0."""
    across, down = model.config.padded
    grown = F.interpolate(masks[None], size=(down, across), mode="bilinear", align_corners=False)[..., :small[1], :small[0]]
    return F.interpolate(grown, size=size[::-1], mode="bilinear", align_corners=False)[0] > 0


def look(model: DvisDaq, clip: list[np.ndarray]) -> list[tuple[np.ndarray, Seen]]:
    """The resized frames and what the segmenter makes of them."""
    inputs = [network_input(model, pixels) for pixels in clip]
    return [(small, model.see(image)) for small, image in inputs]


@torch.no_grad()
def answers(model: DvisDaq, clip: list[np.ndarray], looks: list[tuple[np.ndarray, Seen]]) -> tuple[list[Answer], list[Kept]]:
    """What the segmenter and the tracker of any length say in fp32 about frames uint8 [h,w,3] of one clip, and the tracks that it keeps:
    those among the likeliest pairs of track and class, with their likeliest class."""
    following = Following(model.tracker, model.segmenter_queries, model.rules)
    result = []
    for pixels, (small, seen) in zip(clip, looks, strict=True):
        live = following.frame(seen)
        shape = (0, *seen.masks.shape[1:])
        logits, masks = ((torch.stack([getattr(t, name)[-1] for t in live]) if live else torch.zeros(empty))
                         for name, empty in (("logits", (0, seen.logits.shape[1])), ("masks", shape)))
        found = outlines(masks, model, (small.shape[1], small.shape[0]), (pixels.shape[1], pixels.shape[0])) if live else masks > 0
        result.append(Answer(small, [t.identity for t in live], [t.seen[-1] for t in live], logits.numpy(), masks.numpy(), found.numpy()))
    kept: dict[int, Kept] = {}
    for track, label, score in following.named():
        kept.setdefault(track.identity, Kept(track.identity, track.birth, len(track.logits), label, score))
    return result, [kept[i] for i in sorted(kept)]


def gap(one: list[Answer], other: list[Answer]) -> float:
    """Largest difference of class and mask logits, in shares of the largest value of each; infinite where the tracks differ."""
    worst = 0.0
    for a, b in zip(one, other, strict=True):
        if a.ids != b.ids or a.seen != b.seen:
            return float("inf")
        for mine, theirs in ((a.logits, b.logits), (a.masks, b.masks)):
            worst = max(worst, float(np.abs(mine - theirs).max(initial=0) / max(1.0, np.abs(mine).max(initial=0))))
    return worst


def events(known: list[dict[int, bool]]) -> tuple[int, int, int, int]:
    """Births after the first frame, deaths, entries of tracks that were not seen, and most tracks at a time. ``known``: the live tracks of
    each frame, number -> seen."""
    births = sum(len(set(b) - set(a)) for a, b in pairwise(known))
    deaths = sum(len(set(a) - set(b)) for a, b in pairwise(known))
    return births, deaths, sum(not seen for a in known for seen in a.values()), max(len(a) for a in known)


def lives(model: DvisDaq, looks: list[tuple[np.ndarray, Seen]], slots: int) -> list[dict[int, bool]] | None:
    """The live tracks of each frame, number -> seen; None where they are more than slots."""
    following, known = Following(model.tracker, model.segmenter_queries, model.rules), []
    for _, seen in looks:
        known.append({track.identity: track.seen[-1] for track in following.frame(seen)})
        if len(known[-1]) > slots:
            return None
    return known


def write_reference(model: DvisDaq, pack: Path, images: list[tuple[str, np.ndarray]], slots: int, about: dict) -> float:
    """Writes the reference of the clip ``images`` (file relative to the reference's folder, pixels) and returns its tolerance."""
    clip = [pixels for _, pixels in images]
    known, kept = answers(model, clip, look(model, clip))
    if not all(np.isfinite(answer.masks).all() for answer in known):
        raise Refused("PyTorch gives values that are no numbers on these weights")
    births, deaths, unseen, most = events([dict(zip(answer.ids, answer.seen, strict=True)) for answer in known])
    if most > slots:
        raise Refused(f"the clip of the reference has {most} tracks at a time, and there are {slots} slots: give --slots more")
    with torch.backends.mkldnn.flags(enabled=False):
        again, _ = answers(model, clip, look(model, clip))
    spread = gap(known, again)
    if not np.isfinite(spread):
        raise Refused("PyTorch finds other tracks on the clip of the reference when it sums in another order: take another --clip-seed")
    if 2 * spread > CEILING:
        raise Refused(f"PyTorch differs from itself by {spread:.1e} of the largest value on the clip of the reference when it sums in "
                      f"another order, and a reference may allow {CEILING:g}: take another --seed or --clip-seed")
    tolerance = min(max(TOLERANCE, float(f"{8 * spread:.1e}")), CEILING)
    frames = [(name, pixels, answer) for (name, pixels), answer in zip(images, known, strict=True)]
    chains.write(pack / "reference", frames, kept, {**about, "tolerance": tolerance, "spread": float(f"{spread:.1e}"), "births": births,
                                                    "deaths": deaths, "unseen": unseen})
    return tolerance


def shared_frames(pack: Path, folder: Path) -> list[tuple[str, np.ndarray]]:
    """Frames of the miniatures' shared golden clips, named relative to the reference of ``pack``."""
    return reference.shared_frames(pack, (folder / clip / f"{t:05d}.png" for clip, first, end in SHARED for t in range(first, end)))


def own_frames(pack: Path, model: DvisDaq, count: int, seed: int) -> list[tuple[str, np.ndarray]]:
    """A clip drawn for this pack, three quarters of the frame that fills its input, stored in it."""
    width, height = (3 * side // 4 for side in model.config.frame)
    clip, _ = make_clip(np.random.default_rng([seed, 0]), count, height, width, "hard", bank=TextureBank(seed))
    return reference.own_frames(pack, clip)


# ------------------------------------------------------------------------------------------------------- random weights
STEADY = 1e-4             # of what a change of a millionth in the segmenter's outputs may grow to in the tracker's
BORN, TRIED = 3, 8        # births, deaths and missed frames that a balance aims for; so many rows it lets pass, one after the other


def sway(model: DvisDaq, looks: list[tuple[np.ndarray, Seen]], shaken: list[Seen]) -> float:
    """Largest difference of logits, in shares of the largest on a frame, that inputs make which differ a little; infinite where tracks
    differ."""
    one, other = (Following(model.tracker, model.segmenter_queries, model.rules) for _ in range(2))
    worst = 0.0
    for (_, seen), moved in zip(looks, shaken, strict=True):
        here, there = one.frame(seen), other.frame(moved)
        if [(t.identity, t.seen[-1]) for t in here] != [(t.identity, t.seen[-1]) for t in there]:
            return float("inf")
        for name in ("logits", "masks") if here else ():
            a, b = (torch.stack([getattr(track, name)[-1] for track in live]) for live in (here, there))
            worst = max(worst, float((a - b).abs().max() / a.abs().max()))
    return worst


def _limits(logits: torch.Tensor, score: float) -> torch.Tensor:
    """How much the logit of no object may grow before a row of logits [n,K+1] falls to ``score``, descending; rows that never reach it are
    left out."""
    values = logits.double()
    room = values[:, :-1].amax(-1).exp() / score - values[:, :-1].exp().sum(-1)
    return (room[room > 0].log() - values[room > 0, -1]).sort(descending=True)[0]


def _between(limits: torch.Tensor, count: int) -> float:
    """A bias that so many rows reach."""
    at = max(1, min(count, len(limits) - 1))
    return float(limits[at - 1:at + 1].mean())


@torch.no_grad()
def balance(model: DvisDaq, clip: list[np.ndarray], slots: int) -> str:
    """Changes the biases of "no object" of random weights, so that on the clip tracks are born, missed and die, and fit into the slots.
    Returns what was done, in words."""
    looks = look(model, clip)
    head, nothing = model.tracker.class_embed.bias, len(model.config.classes)
    shift = _between(_limits(looks[0][1].logits, model.rules.first_score), BORN)
    model.segmenter.class_predictor.bias[nothing] += shift
    looks[0][1].logits[:, nothing] += shift
    following = Following(model.tracker, model.segmenter_queries, replace(model.rules, select_score=0.0))
    rows = [track.logits[-1] for _, seen in looks[:2] for track in following.frame(seen)][BORN:]
    generator = torch.Generator().manual_seed(0)
    shaken = [Seen(*(value * (1 + 1e-6 * torch.randn(value.shape, generator=generator)) for value in vars(seen).values()))
              for _, seen in looks]
    limits, start, best = _limits(torch.stack(rows), model.rules.select_score), head[nothing].clone(), None
    for step in (*(float(limits[0]) + more for more in (1.0, 0.5, 0.25, 0.1)), *(_between(limits, count) for count in range(1, TRIED))):
        head[nothing] = start + step
        known = lives(model, looks, slots)
        if known is None:
            break          # a lower bias lets more pass
        births, deaths, unseen, _ = found = events(known)
        happens = min(births, BORN) + min(deaths, BORN) + min(unseen, BORN)
        # weights that make much of a rounding error prove nothing; then come what happens on the clip, and frames with a track
        good = (sway(model, looks, shaken) < STEADY, happens, sum(map(bool, known)))
        if best is None or good > best[0]:
            best = (good, step, found)
        if good == (True, 3 * BORN, len(known)):
            break
    if best is None:
        raise Refused(f"these random weights fill more than {slots} slots whatever the bias; give --slots more, or another --seed")
    _, step, (births, deaths, unseen, most) = best
    head[nothing] = start + step
    return (f"bias of no object changed by {shift:.2f} in the segmenter and {step:.2f} in the tracker; on the golden clip {births} births "
            f"after the first frame, {deaths} deaths, {unseen} frames of tracks that are not seen, at most {most} tracks at a time")


# ------------------------------------------------------------------------------------------------------------- manifest
def _describe(checkpoint: Checkpoint) -> str:
    config = checkpoint.model.config
    if checkpoint.source == "trained here":
        classes = "one class" if len(config.classes) == 1 else f"{len(config.classes)} classes"
        return (f"DVIS-DAQ video segmenter in miniature ({config.frame[0]} px, {classes}, {config.size.queries} queries), trained from "
                "random weights on synthetic clips: a smoke-test model")
    backbone = {"dvis_daq_r50": "ResNet-50", "dvis_daq_swin_l": "Swin-L"}.get(checkpoint.name, "own size")
    what = f"DVIS-DAQ ({backbone}) video segmenter at {size_of(checkpoint.model)} px"
    if checkpoint.source == "random":
        return f"{what} with RANDOM weights: right in size, speed and arithmetic, it segments nothing"
    return f"{what}, from a published checkpoint"


def _manifest(identity: str, checkpoint: Checkpoint, slots: int, provenance: dict, digests: dict[str, dict[str, str]],
              golden: float | None) -> str:
    model: DvisDaq = checkpoint.model
    rules, (width, height) = model.rules, model.config.frame
    kinds = [kind for kind in DTYPES if kind in digests[STEP]]
    ours = checkpoint.source in ("random", "trained here")
    stands_in, terms = (['test_model_of = "DVIS-DAQ"'], "Apache-2.0") if ours else ([], "that of the checkpoint")
    origin = [line for line in manifest.provenance_lines(provenance, "") if not line.startswith("follows")]
    lines = [
        "schema = 1", f'id = "{identity}"', f'family = "{dvis.FAMILY}"', f"description = {json.dumps(_describe(checkpoint))}",
        f'licence = "{terms}"', *stands_in, "", *origin,
        "", *manifest.input_lines(model.config.padded[0], MEAN, STD), f"fit = {{ width = {width}, height = {height} }}",
        "", "[segmenter]", f"queries = {model.config.size.queries}", f"classes = {json.dumps(model.config.classes)}",
        "", "[segmenter.tracks]", f"slots = {slots}", f"background = {model.config.size.background}",
        f"slot_branch = {str(rules.slot_branch).lower()}", f"select_score = {rules.select_score}", f"first_score = {rules.first_score}",
        f"keep_score = {rules.keep_score}", f"kick_out_frames = {rules.kick_out_frames}", f"noise_frames = {rules.noise_frames}",
        f"most = {rules.most}",
        "", *(f"# {line}" for line in RULES)]
    for name, ports in signatures(model, slots).items():
        lines += ["", "[[graph]]", f'name = "{name}"', f"files = {manifest.inline({k: f'{k}/{name}.onnx' for k in kinds})}",
                  f"sha256 = {manifest.inline({k: digests[name][k] for k in kinds})}",
                  f"inputs = {as_toml(ports.inputs)}", f"outputs = {as_toml(ports.outputs)}"]
    for state in STATES:
        lines += ["", "[[state]]", f'input = "{state}"', f'output = "{state}_out"']
    if golden is not None:
        lines += manifest.golden_lines(chains.INDEX, golden)
    return "\n".join(lines) + "\n"


def write(checkpoint: Checkpoint, out: Path, identity: str, kinds: tuple[str, ...], frames: int, seed: int, command: str, notes: str,
          slots: int, say: Callable[[str], None]) -> None:
    """The whole pack. ``frames``: of the reference, 0 for none; the miniature's is written by ``golden``."""
    golden, digest, model = None, checkpoint.sha256, checkpoint.model
    if checkpoint.source == "trained here":
        golden = TOLERANCE
    elif frames:
        images = own_frames(out, model, frames, seed)
        if checkpoint.source == "random":
            done = balance(model, [pixels for _, pixels in images], slots)
            say(done)
            notes, digest = " ".join(filter(None, (notes, f"{done[0].upper()}{done[1:]}."))), state_digest(model)
        about = dict(command=command, libraries=manifest.library_versions(LIBRARIES))
        golden = write_reference(model, out, images, slots, about)
        say(f"reference: {frames} frames, tolerance {golden:.1e}")
    digests = {name: write_single(graph, name, out, kinds, say) for name, graph in export_graphs(model, slots).items()}
    provenance = dict(checkpoint_sha256=digest, command=command, libraries=manifest.library_versions(LIBRARIES), notes=notes)
    (out / "pack.toml").write_text(_manifest(identity, checkpoint, slots, provenance, digests, golden))
    (out / "LICENSE").write_text(licence(checkpoint))


TERMS = """\
The graphs in this directory hold the weights of the checkpoint named in pack.toml, converted and otherwise unchanged. They stay under the
licence of that checkpoint, which jetbench does not know: ask who published it before you pass them on.
"""


def licence(checkpoint: Checkpoint) -> str:
    """Text of LICENSE."""
    if checkpoint.source in ("random", "trained here"):
        return manifest.licence(checkpoint)
    return TERMS + (f"\n{checkpoint.licence}" if checkpoint.licence else "")
