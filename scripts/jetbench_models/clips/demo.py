"""Draws the demo clips: a small data set in the layout of SA-V, with exact ground truth, so that the whole program can be
tried without downloading anything.

Seven videos of 384 x 288 pixels, 24 frames per second as JPEG, annotated at 6 frames per second, one 8-bit PNG per
object and annotated frame (empty where the object is not visible). Between them: an easy object, full occlusion behind
a bar, an object that leaves and returns, one that appears late, two look-alikes, three objects with one hidden for
a while, and a crowd of four with an occluder. Textures and seeds are not those of training.

Example (rewrites exactly the committed files with the pinned library versions):
    python -m jetbench_models demo --out assets/demo
"""
from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..command import parser
from .synth import Script, TextureBank, make_clip

WIDTH, HEIGHT = 384, 288
STEP = 4                     # one annotated frame in four: 6 of 24 per second
QUALITY = 90
BANK_SEED = 990_001          # training uses banks 7 to 61
SMALLEST_PROMPT = 0.01       # share of the frame that an object covers when it is first annotated


@dataclass(frozen=True)
class Video:
    """One demo video: seed of everything random, number of frames and what must happen in it."""

    name: str
    seed: int
    frames: int
    script: Script | None        # None: what the mode's chance brings
    mode: str = "script"
    objects: int = 0             # required number of objects where there is no script


VIDEOS = (
    Video("demo_easy", 3, 49, Script(objects=1)),
    Video("demo_bar", 114, 61, Script(objects=1, behind_bar=True)),
    Video("demo_return", 2, 53, Script(objects=2, leaves={0: (22, 35)})),
    Video("demo_late", 5, 49, Script(objects=2, hidden={1: (0, 18)})),
    Video("demo_twins", 9, 49, Script(objects=2, lookalike=True)),
    Video("demo_hidden", 14, 49, Script(objects=3, hidden={1: (17, 27)})),
    Video("demo_crowd", 7, 49, None, "hard", 4),
)


def draw(video: Video, bank: TextureBank) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 [T,h,w,3] and visible masks uint8 [objects,T,h,w]; raises if an object makes a poor prompt."""
    frames, masks = make_clip(np.random.default_rng([BANK_SEED, video.seed]), video.frames, HEIGHT, WIDTH, video.mode,
                              bank=bank, script=video.script)
    if len(masks) != (video.script.objects if video.script else video.objects):
        raise RuntimeError(f"{video.name}: {len(masks)} objects, expected {video.objects}; choose another seed")
    for i, area in enumerate(masks[:, ::STEP].sum((2, 3))):
        seen = area[area > 0]
        if len(seen) < 5 or seen[0] < SMALLEST_PROMPT * WIDTH * HEIGHT:
            raise RuntimeError(f"{video.name}: object {i} is annotated on {len(seen)} frames, first with {seen[:1]} pixels; "
                               "choose another seed")
    return frames, masks


def write(video: Video, frames: np.ndarray, masks: np.ndarray, out: Path) -> int:
    """Writes one video in SA-V layout and returns its bytes."""
    images, total = out / "JPEGImages_24fps" / video.name, 0
    images.mkdir(parents=True)
    for t, frame in enumerate(frames):
        path = images / f"{t:05d}.jpg"
        Image.fromarray(frame).save(path, quality=QUALITY, subsampling="4:2:0", optimize=True)
        total += path.stat().st_size
    for i, clip in enumerate(masks):
        folder = out / "Annotations_6fps" / video.name / f"{i:03d}"
        folder.mkdir(parents=True)
        for t in range(0, len(clip), STEP):
            path = folder / f"{t:05d}.png"
            Image.fromarray(clip[t] * np.uint8(255)).save(path, optimize=True)
            total += path.stat().st_size
    return total


def contact_sheet(drawn: list[tuple[np.ndarray, np.ndarray]], columns: int = 10) -> Image.Image:
    """Per video one row of frames with the masks in colour, for a look before committing."""
    colours = np.array([[255, 40, 40], [40, 220, 40], [70, 100, 255], [255, 220, 0]], np.float32)
    rows = []
    for frames, masks in drawn:
        chosen = np.linspace(0, len(frames) - 1, columns).astype(int)
        tiles = frames[chosen].astype(np.float32)
        plain = tiles.copy()
        for colour, mask in zip(colours, masks):
            tiles[mask[chosen] > 0] = 0.35 * tiles[mask[chosen] > 0] + 0.65 * colour
        rows += [np.concatenate(list(plain), 1), np.concatenate(list(tiles), 1)]
    sheet = Image.fromarray(np.concatenate(rows, 0).astype(np.uint8))
    return sheet.resize((sheet.width // 2, sheet.height // 2), Image.Resampling.BILINEAR)


def main(argv: list[str]) -> int:
    options = parser("demo", __doc__)
    options.add_argument("--out", type=Path, required=True, help="data set folder; its old videos are removed first")
    options.add_argument("--sheet", type=Path, help="also write a contact sheet to this image file")
    args = options.parse_args(argv)
    bank, drawn, total = TextureBank(BANK_SEED), [], 0
    for name in ("JPEGImages_24fps", "Annotations_6fps"):
        shutil.rmtree(args.out / name, ignore_errors=True)
    for video in VIDEOS:
        frames, masks = draw(video, bank)
        size = write(video, frames, masks, args.out)
        total += size
        drawn.append((frames, masks))
        share = 100 * masks[:, ::STEP].mean((2, 3))
        print(f"{video.name:12s} {len(frames)} frames, {len(masks)} objects, {size / 1e6:.2f} MB; mean area "
              + ", ".join(f"{s[s > 0].mean():.1f} % (empty on {(s == 0).sum()} of {len(s)})" for s in share))
    (args.out / "sav_demo.txt").write_text("".join(f"{v.name}\n" for v in VIDEOS))
    if args.sheet:
        contact_sheet(drawn).save(args.sheet)
    print(f"{args.out}: {total / 1e6:.2f} MB")
    return 0
