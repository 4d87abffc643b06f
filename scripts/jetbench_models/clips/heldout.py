"""Held-out accuracy through the real program: draws clips that training has never seen as a data set in SA-V layout, and
afterwards reads the figures out of the run that jetbench made of it.

Seeds and textures differ from training, from `evaluate` and from the demo. Every frame is annotated and stored without
loss, so the figures depend on nothing but the models.

Example:
    python -m jetbench_models heldout draw --mode hard --out /tmp/hard
    jetbench --models sam2_points,sam2_bbox,sam2_mask --dtype fp32 --data /tmp/hard --out /tmp/results --json
    python -m jetbench_models heldout read /tmp/results/DEVICE/RUN
"""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from ..command import Refused, existing_folder, not_negative, parser, positive
from .synth import TextureBank, make_clip

SEED = 880_000
MODES = ("easy", "hard", "gone")
TARGETS = 3               # objects tracked per clip at most
PROMPT_AREA = 0.006       # smallest share of the frame that a prompted object covers


def held_out_clips(mode: str, count: int, frames: int, size: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """``count`` clips: frames uint8 [T, S, S, 3] and masks bool [n, T, S, S] of the targets."""
    bank, draw = TextureBank(seed + 5), 0
    clips: list[tuple[np.ndarray, np.ndarray]] = []
    while len(clips) < count:
        images, masks = make_clip(np.random.default_rng([seed, draw]), frames, size, size, mode, bank=bank)
        draw += 1
        usable = np.flatnonzero(masks[:, 0].sum((1, 2)) >= PROMPT_AREA * size * size)
        if len(usable) < (2 if mode == "hard" else 1):
            continue
        clips.append((images, masks[usable[:TARGETS]].astype(bool)))
    return clips


def draw(mode: str, clips: int, frames: int, size: int, seed: int, out: Path) -> None:
    """Writes ``clips`` clips of ``mode`` (easy, hard, gone) with ``frames`` frames of size x size pixels."""
    if out.exists():
        raise Refused(f"{out} exists: name a new folder")
    for number, (images, masks) in enumerate(held_out_clips(mode, clips, frames, size, seed)):
        name = f"{mode}_{number:03d}"
        folder = out / "JPEGImages_24fps" / name
        folder.mkdir(parents=True)
        for t, image in enumerate(images):
            Image.fromarray(image).save(folder / f"{t:05d}.png", compress_level=1)
        for i, clip in enumerate(masks):
            folder = out / "Annotations_6fps" / name / f"{i:03d}"
            folder.mkdir(parents=True)
            for t, mask in enumerate(clip):
                Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(folder / f"{t:05d}.png")


def area_under_curve(positive: np.ndarray, negative: np.ndarray) -> float | None:
    """Chance that a random positive scores above a random negative, ties counting half."""
    if len(positive) == 0 or len(negative) == 0:
        return None
    ranks = np.searchsorted(np.sort(negative), positive, "left") + np.searchsorted(np.sort(negative), positive, "right")
    return float(ranks.mean() / (2 * len(negative)))


def read(run: Path) -> list[dict]:
    """Per cell: mean J over the frames after the prompt (0..1), and how well the object score tells absent from visible."""
    rows = []
    for cell in json.loads((run / "run.json").read_text(encoding="utf-8"))["cells"]:
        tracks: list[float] = []
        visible: list[float] = []
        absent: list[float] = []
        for video in cell["sequences"]:
            for item in video["objects"]:
                after = [f for f in item["per_frame"] if f["frame"] > item["prompt_frame"]]
                tracks.append(float(np.mean([f["j"] for f in after])) / 100)
                for f in after:
                    (visible if f["visible"] else absent).append(f["object_score"])
        seen, gone = np.array(visible), np.array(absent)
        rows.append(dict(model=cell["model"], dtype=cell["dtype"], verdict=cell["verdict"]["kind"], tracks=len(tracks),
                         J=round(float(np.mean(tracks)), 4), standard_error=round(float(np.std(tracks) / len(tracks) ** 0.5), 4),
                         score_auc=area_under_curve(seen, gone), absent_frames=len(gone),
                         absent_negative=round(float((gone <= 0).mean()), 4) if len(gone) else None,
                         visible_positive=round(float((seen > 0).mean()), 4)))
    return rows


def main(argv: list[str]) -> int:
    options = parser("heldout", __doc__)
    commands = options.add_subparsers(dest="command", required=True)
    drawing = commands.add_parser("draw", help="write the data set")
    drawing.add_argument("--mode", choices=MODES, required=True)
    drawing.add_argument("--out", type=Path, required=True, help="new folder")
    drawing.add_argument("--clips", type=positive, default=24)
    drawing.add_argument("--frames", type=positive, default=24, help="frames per clip")
    drawing.add_argument("--size", type=positive, default=256, help="side of the square frames in pixels")
    drawing.add_argument("--seed", type=not_negative, default=SEED)
    reading = commands.add_parser("read", help="print one JSON line per cell of a run")
    reading.add_argument("run", type=existing_folder, help="directory that holds run.json")
    args = options.parse_args(argv)
    if args.command == "draw":
        draw(args.mode, args.clips, args.frames, args.size, args.seed, args.out)
    else:
        for row in read(args.run):
            print(json.dumps(row))
    return 0
