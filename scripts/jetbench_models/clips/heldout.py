"""Held-out accuracy through the real program: draws clips that training has never seen as a data set in SA-V's or VIPSeg's layout, and
afterwards reads the figures out of the run that jetbench made of it.

Seeds and textures differ from training, from `evaluate` and from the demo. Every frame is annotated and stored without
loss, so the figures depend on nothing but the models.

Example:
    python -m jetbench_models heldout draw --mode hard --out /tmp/hard
    jetbench --models sam2_points,sam2_bbox,sam2_mask --dtype fp32 --data /tmp/hard --out /tmp/results --json
    python -m jetbench_models heldout read /tmp/results/DEVICE/RUN
    python -m jetbench_models heldout compare /tmp/results/DEVICE/RUN /tmp/results/DEVICE/OTHER_RUN
"""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from ..command import Refused, existing_folder, not_negative, parser, positive
from .synth import TextureBank, make_clip
from .tubes import CLASSES

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


def write_folders(out: Path, name: str, masks: np.ndarray) -> None:
    """Masks bool [n,T,S,S] as SA-V has them: a folder per object."""
    for i, clip in enumerate(masks):
        folder = out / "Annotations_6fps" / name / f"{i:03d}"
        folder.mkdir(parents=True)
        for t, mask in enumerate(clip):
            Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(folder / f"{t:05d}.png")


def write_segments(out: Path, name: str, masks: np.ndarray) -> list[dict]:
    """Masks bool [n,T,S,S], of which no two share a pixel, as VIPSeg has them, and what its description says of each frame: id 1 is all
    that is no target, 2 and above are the targets."""
    folder = out / "panomasksRGB" / name
    folder.mkdir(parents=True)
    frames = []
    for t in range(masks.shape[1]):
        ids = np.where(masks[:, t].any(0), masks[:, t].argmax(0) + 2, 1).astype(np.uint8)
        Image.fromarray(np.stack([ids, 0 * ids, 0 * ids], -1)).save(folder / f"{t:05d}.png")
        areas = zip(*np.unique(ids, return_counts=True))
        segments = [{"id": int(n), "category_id": int(n > 1), "iscrowd": 0, "area": int(area)} for n, area in areas]
        frames.append({"file_name": f"{t:05d}.png", "segments_info": segments})
    return frames


def draw(mode: str, clips: int, frames: int, size: int, seed: int, out: Path, layout: str = "sa-v") -> None:
    """Writes ``clips`` clips of ``mode`` (easy, hard, gone) with ``frames`` frames of size x size pixels."""
    if out.exists():
        raise Refused(f"{out} exists: name a new folder")
    segments: list[dict] = []
    for number, (images, masks) in enumerate(held_out_clips(mode, clips, frames, size, seed)):
        name = f"{mode}_{number:03d}"
        folder = out / ("images" if layout == "vipseg" else "JPEGImages_24fps") / name
        folder.mkdir(parents=True)
        for t, image in enumerate(images):
            Image.fromarray(image).save(folder / f"{t:05d}.png", compress_level=1)
        if layout == "vipseg":
            segments.append({"video_id": name, "annotations": write_segments(out, name, masks)})
        else:
            write_folders(out, name, masks)
    if layout == "vipseg":
        videos = [{"video_id": of["video_id"], "images": [{"file_name": f["file_name"]} for f in of["annotations"]]} for of in segments]
        categories = [{"id": 0, "name": "rest", "isthing": 0}, {"id": 1, "name": CLASSES[0], "isthing": 1}]
        text = json.dumps({"videos": videos, "annotations": segments, "categories": categories})
        (out / "panoptic_gt_VIPSeg_val.json").write_text(text, encoding="utf-8")


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


def after_return(item: dict) -> float | None:
    """J (0..100) of an object over the stretches from a return to the next absence, each with the same weight, as MOSEv2
    has them; None where the object never comes back."""
    stretches: list[list[float]] = []
    before = True
    for frame in item["per_frame"]:
        if frame["frame"] <= item["prompt_frame"]:
            continue
        if frame["visible"] and not before:
            stretches.append([])
        if frame["visible"] and stretches:
            stretches[-1].append(frame["j"])
        before = frame["visible"]
    return float(np.mean([np.mean(stretch) for stretch in stretches])) if stretches else None


def student_975(freedom: int) -> float:
    """Quantile 0.975 of Student's t: the first terms of its expansion about the normal one, to 0.003 from 5 degrees of freedom on."""
    z = 1.959963984540054
    return (z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
            + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3))


def change(videos: list[list[tuple[float, float]]]) -> dict:
    """How far the means of two runs lie apart, with a 95 % interval: a ratio estimate over whole videos, as in src/judge/paired.rs.

    ``videos``: for each, the scores of its objects in both runs. An interval of None needs more videos, 5."""
    videos = [video for video in videos if video]
    pairs = np.array([pair for video in videos for pair in video])
    if len(pairs) == 0:
        return dict(objects=0)
    points, count = float((pairs[:, 1] - pairs[:, 0]).mean()), len(videos)
    found: dict = dict(objects=len(pairs), first=round(float(pairs[:, 0].mean()), 2), second=round(float(pairs[:, 1].mean()), 2),
                 change=round(points, 2), interval=None)
    if count >= 5:
        residuals = np.array([sum(b - a - points for a, b in video) for video in videos])
        half = student_975(count - 1) * float((count / (count - 1) * (residuals**2).sum()) ** 0.5) / len(pairs)
        found["interval"] = [round(points - half, 2), round(points + half, 2)]
    return found


def compare(first: Path, second: Path) -> list[dict]:
    """Two runs of one data set, cell by cell: J over the frames after the prompt, J after return and J&Ḟ after return, 0..100."""
    def j(item: dict) -> float:
        return float(np.mean([f["j"] for f in item["per_frame"] if f["frame"] > item["prompt_frame"]]))

    def returned(item: dict) -> float | None:
        back = (item.get("mosev2") or {}).get("reappear")
        return None if back is None else 50 * (back["j"] + back["f_dot"])

    figures: dict[str, Callable[[dict], float | None]] = {"J": j, "J_after_return": after_return, "jf_reappear": returned}
    runs = [json.loads((run / "run.json").read_text(encoding="utf-8"))["cells"] for run in (first, second)]
    rows = []
    for one, other in ((a, b) for a in runs[0] for b in runs[1] if (a["model"], a["dtype"]) == (b["model"], b["dtype"])):
        objects = {(v["video"], o["object"]): o for v in other["sequences"] for o in v["objects"]}
        row = dict(model=one["model"], dtype=one["dtype"], options=[cell["options"]["passed"] for cell in (one, other)])
        for name, figure in figures.items():
            videos = [[(figure(o), figure(objects[v["video"], o["object"]])) for o in v["objects"]] for v in one["sequences"]]
            row[name] = change([[(a, b) for a, b in video if a is not None and b is not None] for video in videos])
        rows.append(row)
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
    drawing.add_argument("--layout", choices=("sa-v", "vipseg"), default="sa-v",
                         help="vipseg: panoptic truth, in which all that is no target is stuff")
    reading = commands.add_parser("read", help="print one JSON line per cell of a run")
    reading.add_argument("run", type=existing_folder, help="directory that holds run.json")
    comparing = commands.add_parser("compare", help="print one JSON line per cell of two runs: J, also after return, with intervals")
    comparing.add_argument("first", type=existing_folder, help="directory that holds run.json")
    comparing.add_argument("second", type=existing_folder, help="another, of the same data set")
    args = options.parse_args(argv)
    if args.command == "draw":
        draw(args.mode, args.clips, args.frames, args.size, args.seed, args.out, args.layout)
    else:
        for row in read(args.run) if args.command == "read" else compare(args.first, args.second):
            print(json.dumps(row, ensure_ascii=False))
    return 0
