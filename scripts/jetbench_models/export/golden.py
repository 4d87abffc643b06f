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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from ..clips.prompts import KINDS, TrackPrompt, derive
from ..clips.synth import Script, TextureBank, make_clip
from ..command import existing_file, existing_pack, parser
from ..models import released
from ..models.session import Reference, resized_frame, run_session
from ..pack.reference import QUANTUM, encode_logits, encode_masks, shuffled, tolerance
from .manifest import library_versions

FRAMES = 24
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


def leaving_clip(size: int, count: int) -> Clip:
    """One object that leaves for a third of ``count`` frames and returns, for a model of input size ``size``."""
    bank, width, height = SmoothBank(20_260), size * 3 // 4, size * 9 // 16
    script = Script(objects=1, hidden={0: (count // 3, 2 * count // 3)})
    frames, masks = make_clip(np.random.default_rng([7, 4711]), count, height, width, "script", bank=bank,
                              difficulty=DIFFICULTY, script=script)
    return Clip("leaving", frames, masks)


def balance_presence(model: nn.Module, clip: Clip, features: dict | None = None) -> float:
    """Shifts the object score of a model with random weights so that it changes sign in ``clip``; returns the shift.

    Random weights see no objects, so their score has one sign from start to end, and the branch of the other sign would
    never run. The first shift puts zero into the widest gap between the scores of the middle frames of a click's track. Memories
    of frames without the object raise or lower the scores of later ones, so that this may leave it absent nearly everywhere
    or nowhere: then zero goes between the lower third of the scores and the others, until the object is there on half of the
    frames or more and not on all. ``features``: see ``run_session``; the shift does not change them.
    """
    features = {} if features is None else features
    prompt = derive(clip.masks[0][0], "points")
    scores = np.sort(run_session(model, clip.frames, [prompt], features=features)[0].object_score[1:])
    low = len(scores) // 4
    gap = low + int(np.argmax(np.diff(scores[low:len(scores) - low])))
    total = 0.0
    for _ in range(8):
        shift = round(-float(scores[gap] + scores[gap + 1]) / 2, 4)      # short enough to be written down
        shift_score(model, shift)
        total = round(total + shift, 4)
        found = run_session(model, clip.frames, [prompt], features=features)[0].object_score
        if len(found) / 2 <= (found > 0).sum() < len(found):
            return total
        scores = np.sort(found[1:])
        gap = max(len(scores) // 3 - 1, 0)
    raise RuntimeError(f"the object score cannot be balanced on this clip (last shift {total}); take another seed")


@torch.no_grad()
def shift_score(model: nn.Module, shift: float) -> None:
    """Adds to the bias of the object score."""
    model.mask_decoder.pred_obj_score_head.proj_out.bias.add_(shift)


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


def _track_entry(out: Path, stem: str, number: int, prompt: TrackPrompt, reference: Reference) -> dict:
    files = {"low_res": (f"{stem}.low_res.z", encode_logits(reference.low_res)),
             "obj_ptr": (f"{stem}.ptr.z", shuffled(reference.obj_ptr)),
             "masks": (f"{stem}.masks.z", encode_masks(reference.masks))}
    for name, data in files.values():
        (out / name).write_bytes(data)
    return {"object": number, "prompt": prompt.as_json(),
            "object_score": [float(np.float32(s)) for s in reference.object_score],
            "chosen_mask": reference.chosen.tolist(),
            "low_res": {"file": files["low_res"][0], "shape": list(reference.low_res.shape)},
            "obj_ptr": {"file": files["obj_ptr"][0], "shape": list(reference.obj_ptr.shape)},
            "masks": {"file": files["masks"][0]}}


def write_golden(model: nn.Module, out: Path, frames_root: Path, clips: list[Clip], command: str, libraries: dict[str, str],
                 kinds: tuple[str, ...] = KINDS, official: bool = False,
                 features: dict[str, dict] | None = None) -> Iterator[str]:
    """Writes the frames and ``out``/golden.json with its files; yields a line per track. ``official`` and, for each clip by its
    name, ``features``: see ``run_session``."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.z"):
        old.unlink()
    size, entries = model.config.image_size, []
    for clip in clips:
        folder = frames_root / clip.name
        write_frames(clip, folder)
        prompts = object_prompts(clip, kinds)
        references = run_session(model, clip.frames, [p for _, p in prompts], official, (features or {}).get(clip.name))
        tracks = [_track_entry(out, f"{clip.name}_{number}_{prompt.kind}", number, prompt, reference)
                  for (number, prompt), reference in zip(prompts, references)]
        _, height, width, _ = clip.frames.shape
        entries.append({"name": clip.name, "frames": os.path.relpath(folder, out), "count": len(clip.frames),
                        "width": width, "height": height,
                        "resized_sha256_frame0": hashlib.sha256(resized_frame(size, clip.frames[0]).tobytes()).hexdigest(),
                        "tracks": tracks})
        for (number, prompt), reference in zip(prompts, references):
            truth = clip.masks[number - 1].astype(bool)
            gone = ~truth.any((1, 2))
            both, either = (reference.masks & truth).sum((1, 2)), (reference.masks | truth).sum((1, 2))
            yield (f"{clip.name} object {number} {prompt.kind:6s}: absent {gone.sum():2d} frames, score negative on "
                   f"{(reference.object_score[gone] <= 0).sum():2d} of them and on "
                   f"{(reference.object_score[~gone] <= 0).sum():2d} others; J "
                   f"{np.where(either, both / np.maximum(either, 1), 1).mean():.3f}")
    family = "edgetam" if hasattr(model, "spatial_perceiver") else "sam2"
    index = {"schema": 1, "command": command, "libraries": libraries, "tolerance": tolerance(family), "quantum": QUANTUM,
             "clips": entries}
    (out / "golden.json").write_text(json.dumps(index, separators=(",", ":")) + "\n")


def main(argv: list[str]) -> int:
    options = parser("golden", __doc__)
    options.add_argument("--weights", type=existing_file, required=True, help="safetensors file written by train")
    options.add_argument("--pack", type=existing_pack, required=True, help="pack directory; its reference folder is written")
    options.add_argument("--frames", type=Path, required=True, help="folder of the shared PNG clips g0, g1, g2")
    args = options.parse_args(argv)
    torch.set_num_threads(1)
    model = released.load(args.weights).model
    command = (f"python -m jetbench_models golden --weights {args.weights.name} --pack assets/packs/{args.pack.resolve().name} "
               f"--frames assets/{args.frames.resolve().name}")
    for line in write_golden(model, args.pack / "reference", args.frames, golden_clips(model.config.image_size), command,
                             library_versions(LIBRARIES)):
        print(line)
    used = sum(f.stat().st_size for f in (args.pack / "reference").iterdir())
    png = sum(f.stat().st_size for f in args.frames.glob("g*/*.png"))
    print(f"{args.pack / 'reference'}: {used / 1e6:.2f} MB; {args.frames}: {png / 1e6:.2f} MB of PNG files")
    return 0
