"""Golden references: what the transformers session makes of three small clips, in files that the Rust tests read.

The clips are drawn here: 24 frames each, smooth textures without noise so that lossless PNG files stay small, and objects
that vanish or pass behind a bar and come back; the last clip has two objects. Every object is tracked
from all three prompt kinds. The frames are shared by all packs; logits, scores, pointers and masks belong to one pack
and lie in its ``reference`` folder, indexed by ``golden.json``.

Frames are three quarters of the input size wide and nine sixteenths high, so that the resize is exercised, in both axes and
unequally, while its weights are exact binary fractions: no mask pixel hangs on the rounding of a float sum.

Models of released size have one clip of their own (``leaving_clip``), which lies in the pack.

Example:
    python -m jetbench_models golden --weights out/sam2.safetensors --pack assets/packs/sam2_mini --frames assets/golden
"""
from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from ..clips import KINDS
from ..clips.prompts import TrackPrompt, derive
from ..clips.synth import Script, TextureBank, make_clip
from ..command import Refused, existing_file, existing_pack, parser, positive, progress
from ..models import detector as models
from ..models import dvis, released, videomt
from ..models.session import Reference, resized_frame, run_session
from ..pack.detections import manifest as read_manifest
from ..pack.limits import lacks, spread, tolerance
from ..pack.reference import QUANTUM, encode_logits, encode_masks, shuffled
from . import detector, segmenter
from . import dvis as chains
from .manifest import library_versions

FRAMES = 24
CLIP_SEED = 7             # of the clip for models of released size
DIFFICULTY = 0.3          # calm textures and clear colours: little of a track hangs on rounding

LIBRARIES = ("torch", "torchvision", "transformers", "timm", "numpy", "pillow", "opencv-python-headless")


@dataclass(frozen=True)
class Clip:
    """A drawn clip: frames uint8 [T,h,w,3] and visible masks uint8 [objects,T,h,w]."""

    name: str
    frames: np.ndarray
    masks: np.ndarray


# SAM 2 rounds its memories to bfloat16, and a value on a tie falls to either side of it with the last bit of a float32 sum:
# another summation order moves single mask logits by 1e-3 and more, between two kernels of PyTorch as well (verify
# --own-spread). The seeds are those, of twenty to forty tried per clip, whose logits move least when the pixels are
# disturbed (verify --noise) and whose tracks agree with the session; on a processor with other kernels they may not.
SCRIPTS: dict[str, tuple[int, Script]] = {
    "g0": (7, Script(objects=1, hidden={0: (9, 15)})),
    "g1": (63, Script(objects=1, behind_bar=True)),
    "g2": (21, Script(objects=2, hidden={0: (8, 18), 1: (12, 20)})),
}


class SmoothBank(TextureBank):
    """The tiles of medium detail (smooth ramps and clouds, soft stripes) and no sensor noise."""

    def __init__(self, seed: int):
        super().__init__(seed, size=200)
        detail = [float(np.abs(np.diff(tile, axis=1)).mean()) for tile in self.tiles]
        self.tiles = [self.tiles[i] for i in np.argsort(detail)[40:120]]
        self.noise = np.zeros_like(self.noise)


def golden_clips(size: int) -> list[Clip]:
    """The clips for models of input size ``size``; a pure function of it."""
    bank, width, height = SmoothBank(20_260), size * 3 // 4, size * 9 // 16
    clips = []
    for name, (seed, script) in SCRIPTS.items():
        frames, masks = make_clip(np.random.default_rng([seed, 4711]), FRAMES, height, width, "script", bank=bank,
                                  difficulty=DIFFICULTY, script=script)
        if min(masks[:, 0].sum((1, 2))) < 0.01 * width * height:
            raise RuntimeError(f"{name}: an object is too small on the prompted frame, choose another seed")
        clips.append(Clip(name, frames, masks))
    return clips


def leaving_clip(size: int, count: int, seed: int = CLIP_SEED) -> Clip:
    """One object that leaves for a third of ``count`` frames and returns, for a model of input size ``size``."""
    bank, width, height = SmoothBank(20_260), size * 3 // 4, size * 9 // 16
    script = Script(objects=1, hidden={0: (count // 3, 2 * count // 3)})
    frames, masks = make_clip(np.random.default_rng([seed, 4711]), count, height, width, "script", bank=bank,
                              difficulty=DIFFICULTY, script=script)
    return Clip("leaving", frames, masks)


def write_frames(clip: Clip, folder: Path) -> int:
    """Writes 00000.png and on; returns the bytes written."""
    folder.mkdir(parents=True, exist_ok=True)
    total = 0
    for t, frame in enumerate(clip.frames):
        path = folder / f"{t:05d}.png"
        Image.fromarray(frame).save(path, optimize=True)
        total += path.stat().st_size
    return total


# ------------------------------------------------------------------------------------------------------------- writing
def object_prompts(clip: Clip, kinds: tuple[str, ...] = KINDS) -> list[tuple[int, TrackPrompt]]:
    """(object number from 1, prompt) of every object and kind."""
    return [(i + 1, derive(masks[0], kind)) for i, masks in enumerate(clip.masks) for kind in kinds]


def _track_entry(out: Path, stem: str, number: int, prompt: TrackPrompt, reference: Reference, logits: int | None) -> dict:
    """``logits``: frames whose logits and pointers are kept, None for all; masks and scores are kept of every frame."""
    low_res, obj_ptr = reference.low_res[:logits], reference.obj_ptr[:logits]
    files = {"low_res": (f"{stem}.low_res.z", encode_logits(low_res)),
             "obj_ptr": (f"{stem}.ptr.z", shuffled(obj_ptr)),
             "masks": (f"{stem}.masks.z", encode_masks(reference.masks))}
    for name, data in files.values():
        (out / name).write_bytes(data)
    chosen = {} if reference.chosen is None else {"chosen_mask": reference.chosen.tolist()}
    return {"object": number, "prompt": prompt.as_json(),
            "object_score": [float(np.float32(s)) for s in reference.object_score], **chosen,
            "low_res": {"file": files["low_res"][0], "shape": list(low_res.shape)},
            "obj_ptr": {"file": files["obj_ptr"][0], "shape": list(obj_ptr.shape)},
            "masks": {"file": files["masks"][0]}}


def run_clips(model: nn.Module, clips: list[Clip], kinds: tuple[str, ...] = KINDS, official: bool = False,
              features: dict[str, dict] | None = None) -> list[list[Reference]]:
    """The tracks of every clip, in the order of ``object_prompts``; ``features``, by the clip's name: see ``run_session``."""
    return [run_session(model, clip.frames, [p for _, p in object_prompts(clip, kinds)], official,
                        (features or {}).get(clip.name)) for clip in clips]


def own_spread(model: nn.Module, clips: list[Clip], references: list[list[Reference]], kinds: tuple[str, ...] = KINDS,
               official: bool = False) -> dict[str, float]:
    """How far the session is from itself without oneDNN and with two threads."""
    of_kind = [prompt.kind for clip in clips for _, prompt in object_prompts(clip, kinds)]
    expected = [reference for row in references for reference in row]
    worst: dict[str, float] = {}
    threads = torch.get_num_threads()
    try:
        for number, (enabled, count) in enumerate(((False, 1), (True, 2), (False, 2)), 1):
            progress.stage = f"PyTorch against itself, {number} of 3"
            torch.set_num_threads(count)
            with torch.backends.mkldnn.flags(enabled=enabled):
                found = [reference for row in run_clips(model, clips, kinds, official) for reference in row]
            for name, value in spread(expected, found, of_kind).items():
                worst[name] = max(worst.get(name, 0.0), value)
    finally:
        torch.set_num_threads(threads)
    return worst


def write_golden(model: nn.Module, out: Path, frames_root: Path, clips: list[Clip], command: str, libraries: dict[str, str],
                 kinds: tuple[str, ...] = KINDS, official: bool = False,
                 references: list[list[Reference]] | None = None, weak: bool = False, own: dict[str, float] | None = None,
                 logits: int | None = None) -> Iterator[str]:
    """Writes the frames and ``out``/golden.json with its files; yields a line per track and one on the limits. ``references``: what
    ``run_clips`` gave, where that is known already; ``own``: the spread, where that is known.
    ``official``: see ``run_session``. ``logits``: of all tracks but those of the first clip from the first of ``kinds``, the frames
    whose logits and pointers are kept, None for all; they take 50 times the room of masks and scores, which are kept of every frame.

    Raises Refused where the references do not show enough (``limits.lacks``), unless ``weak`` takes them so.
    """
    progress.stage = "reference"
    references = run_clips(model, clips, kinds, official) if references is None else references
    prompts = [object_prompts(clip, kinds) for clip in clips]
    tracks = [(f"{clip.name} object {number}", prompt.kind, reference) for clip, row, found in zip(clips, prompts, references)
              for (number, prompt), reference in zip(row, found)]
    if (missing := lacks(tracks, kinds)) and not weak:
        raise Refused(f"the golden reference would show too little: {'; '.join(missing)}. --clip-seed draws another clip, --frames sets "
                      "its length, --frames 0 leaves the reference out")
    found = own_spread(model, clips, references, kinds, official) if own is None else own
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.z"):
        old.unlink()
    size, entries = model.config.image_size, []
    for clip, row, of_clip in zip(clips, prompts, references):
        folder = frames_root / clip.name
        write_frames(clip, folder)
        entries.append({"name": clip.name, "frames": os.path.relpath(folder, out), "count": len(clip.frames),
                        "width": clip.frames.shape[2], "height": clip.frames.shape[1],
                        "resized_sha256_frame0": hashlib.sha256(resized_frame(size, clip.frames[0]).tobytes()).hexdigest(),
                        "tracks": [_track_entry(out, f"{clip.name}_{number}_{prompt.kind}", number, prompt, reference,
                                                None if clip is clips[0] and prompt.kind == kinds[0] else logits)
                                   for (number, prompt), reference in zip(row, of_clip)]})
        for (number, prompt), reference in zip(row, of_clip):
            truth = clip.masks[number - 1].astype(bool)
            gone = ~truth.any((1, 2))
            both, either = (reference.masks & truth).sum((1, 2)), (reference.masks | truth).sum((1, 2))
            yield (f"{clip.name} object {number} {prompt.kind:6s}: absent {gone.sum():2d} frames, score negative on "
                   f"{(reference.object_score[gone] <= 0).sum():2d} of them and on "
                   f"{(reference.object_score[~gone] <= 0).sum():2d} others; J "
                   f"{np.where(either, both / np.maximum(either, 1), 1).mean():.3f}")
    index = {"schema": 1, "command": command, "libraries": libraries, "tolerance": tolerance(found),
             "spread": {name: float(f"{value:.2e}") for name, value in found.items()}, "quantum": QUANTUM, "clips": entries}
    (out / "golden.json").write_text(json.dumps(index, separators=(",", ":")) + "\n")
    yield "PyTorch against itself: " + ", ".join(f"{name} {value:.1e}" for name, value in found.items())


def promise(pack: Path) -> float:
    """Puts the tolerance of a pack's reference into its manifest, and gives it."""
    limit = json.loads((pack / "reference" / "golden.json").read_text())["tolerance"]["low_res"]
    put_limit(pack, limit)
    return limit


def put_limit(pack: Path, limit: float) -> None:
    text = (pack / "pack.toml").read_text()
    head, mark, tail = text.partition("[golden]")
    (pack / "pack.toml").write_text(head + mark + re.sub(r"(?m)^tolerance = .*$", f"tolerance = {limit}", tail))


def _must_be_of(pack: Path, weights: Path, digest: str) -> None:
    if digest != (known := read_manifest(pack)["provenance"]["checkpoint_sha256"]):
        raise Refused(f"{weights}: its digest is {digest[:12]}, and the pack was made of weights {known[:12]}")


def _say_limit(pack: Path, frames: int, limit: float) -> None:
    put_limit(pack, limit)
    print(f"{pack / 'reference'}: {frames} frames, tolerance {limit:.1e}")


def _write_chains(weights: Path, pack: Path, frames: Path, command: str) -> None:
    """The reference of the miniature DVIS-DAQ."""
    images, found = chains.shared_frames(pack, frames), dvis.load_miniature(weights)
    _must_be_of(pack, weights, found.sha256)
    about = dict(command=command, libraries=library_versions(chains.LIBRARIES))
    slots = read_manifest(pack)["segmenter"]["tracks"]["slots"]
    _say_limit(pack, len(images), chains.write_reference(found.model, pack, images, slots, about))


def main(argv: list[str]) -> int:
    options = parser("golden", __doc__)
    options.add_argument("--weights", type=existing_file, required=True, help="safetensors file written by train")
    options.add_argument("--pack", type=existing_pack, required=True, help="pack directory; its reference folder is written")
    options.add_argument("--frames", type=Path, required=True, help="folder of the shared PNG clips g0, g1, g2")
    options.add_argument("--weak", action="store_true", help="also where the reference shows too little: jetbench verify says weak")
    options.add_argument("--logits", type=positive, metavar="N",
                         help="keep the mask logits and pointers of a track for its first N frames only, but for the first clip from "
                              "points; default: of all. Masks and scores are kept of every frame")
    args = options.parse_args(argv)
    torch.set_num_threads(1)
    command = (f"python -m jetbench_models golden --weights {args.weights.name} --pack assets/packs/{args.pack.resolve().name} "
               f"--frames assets/{args.frames.resolve().name}" + (f" --logits {args.logits}" if args.logits else ""))
    if dvis.is_miniature(args.weights):
        _write_chains(args.weights, args.pack, args.frames, command)
        return 0
    if models.is_detector(args.weights) or videomt.is_segmenter(args.weights):
        kind, writer = (models, detector) if models.is_detector(args.weights) else (videomt, segmenter)
        about = dict(command=command, libraries=library_versions(writer.LIBRARIES))
        images, found = writer.shared_frames(args.pack, args.frames), kind.load(args.weights)
        _must_be_of(args.pack, args.weights, found.sha256)
        _say_limit(args.pack, len(images), writer.write_reference(found.model, args.pack, images, about))
        return 0
    model = released.load(args.weights).model
    for line in write_golden(model, args.pack / "reference", args.frames, golden_clips(model.config.image_size), command,
                             library_versions(LIBRARIES), weak=args.weak, logits=args.logits):
        print(line)
    print(f"tolerance of mask logits: {promise(args.pack)}")
    used = sum(f.stat().st_size for f in (args.pack / "reference").iterdir())
    png = sum(f.stat().st_size for f in args.frames.glob("g*/*.png"))
    print(f"{args.pack / 'reference'}: {used / 1e6:.2f} MB; {args.frames}: {png / 1e6:.2f} MB of PNG files")
    return 0
