#!/usr/bin/env python3
"""Draws the cases in this folder and scores them with MOSEv2's own code: frames.csv (pairs of masks, drawn alike by
tests/mosev2.rs) and gt/, pred/, expected.csv, scores.txt (a small dataset).

    python3 make.py MOSE-API

MOSE-API is a checkout of github.com/henghuiding/MOSE-api (made with 241977a). Needs numpy, opencv-python-headless, pillow,
rich, scikit-image, tqdm. Seeded: the same files come out again.
"""

import csv
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
TOOLS = Path(sys.argv[1]).resolve() / "MOSEv2/sam2_rcms/tools"
sys.path.insert(0, str(TOOLS))
import metricsv2  # noqa: E402
import score  # noqa: E402

Shapes = list[tuple[int, int, int, int]]


def draw(width: int, height: int, shapes: Shapes) -> np.ndarray:
    """Ellipses (centre x, y, half axes a, b) in whole numbers, so that every language draws the same pixels."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    mask = np.zeros((height, width), np.uint8)
    for cx, cy, a, b in shapes:
        mask |= (((x - cx) * b) ** 2 + ((y - cy) * a) ** 2 <= (a * b) ** 2).astype(np.uint8)
    return mask


def frames() -> None:
    random = np.random.default_rng(2)
    # 500 x 375 and 1000 x 750 have whole radii; 480 x 270 and 320 x 240 kernels of an even size.
    sizes = [(854, 480), (1920, 1080), (1280, 720), (500, 375), (1000, 750), (480, 270), (320, 240), (96, 64), (31, 17), (1, 1)]
    sizes += [(int(w), int(h)) for w, h in random.integers(20, 700, (30, 2))]
    rows = []
    for width, height in sizes:
        for kind in range(6):
            one = [max(1, int(v)) for v in (width * random.random(), height * random.random(), 0, 0)]
            # From a few pixels to most of the image: both kinds of tolerance.
            share = [0.03, 0.1, 0.3, 0.6][kind % 4]
            one[2] = 1 + int(width * share * random.random())
            one[3] = 1 + int(height * share * random.random())
            truth: Shapes = [tuple(one)]
            step = 1 + int(0.02 * width)
            moved = (one[0] + int(random.integers(-step, step + 1)), one[1] + int(random.integers(-step, step + 1)))
            pred: Shapes = [(*moved, max(1, one[2] + int(random.integers(-3, 4))), max(1, one[3] + int(random.integers(-3, 4))))]
            if kind == 3:
                pred.append((int(width * random.random()), int(height * random.random()), 1 + width // 9, 1 + height // 9))
            if kind == 4:
                truth = []
            if kind == 5:
                pred = []
            gt, seg = draw(width, height, truth)[None], draw(width, height, pred)[None]
            j, gone = metricsv2.db_eval_iou(gt, seg)
            f, f_dot = metricsv2.db_eval_boundary(gt.copy(), seg.copy(), bound_th=0.1, bound_mode="area")
            text = [";".join(" ".join(map(str, s)) for s in shapes) for shapes in (truth, pred)]
            values = [repr(float(v[0])) for v in (j, f, f_dot)]
            rows.append([width, height, *text, *values, int(gone[0])])
    with open(HERE / "frames.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["width", "height", "truth", "pred", "j", "f", "f_dot", "gone"])
        writer.writerows(rows)


def dataset() -> None:
    random = np.random.default_rng(3)
    width, height, length = 320, 240, 14
    # Frames on which an object shows: always; goes and comes back twice; comes late; is gone from the second frame on; shows
    # on the first frame only; shows on the last only; goes for good.
    always, twice = set(range(length)), {0, 1, 2, 5, 6, 10, 11, 12, 13}
    videos = {
        "away": {1: always, 2: twice, 7: set(range(6, length))},
        "edges": {1: {0, 4, 5, 6, 7}, 2: {0}, 3: {length - 1}, 4: set(range(5))},
        "lost": {1: always},
        "many": {i: {f for f in range(length) if random.random() < 0.7} for i in range(1, 6)},
    }
    meta: dict[str, dict] = {"videos": {}}
    for folder in ("gt", "pred"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
    for name, objects in videos.items():
        places = {i: [int(v) for v in (*random.integers(40, 200, 2), *random.integers(6, 60, 2))] for i in objects}
        seen: set[int] = set()
        for frame in range(length):
            truth, pred = (np.zeros((height, width), np.uint8) for _ in range(2))
            for i, shows in objects.items():
                cx, cy, a, b = places[i]
                if frame in shows:
                    truth[draw(width, height, [(cx + 3 * frame, cy, a, b)]) > 0] = i
                    seen.add(i)
                # Predictions are off, sometimes missing, sometimes a ghost.
                if (random.random() < 0.85) if frame in shows else (random.random() < 0.3):
                    dx, dy = (int(v) for v in random.integers(-6, 7, 2))
                    pred[draw(width, height, [(cx + 3 * frame + dx, cy + dy, a, max(1, b - 2))]) > 0] = i
            for folder, image in (("gt", truth), ("pred", pred)):
                if (folder, name) == ("pred", "lost"):
                    continue
                path = HERE / folder / name / f"{frame:05}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                paletted = Image.fromarray(image, "P")
                paletted.putpalette([v for i in range(8) for v in (36 * i, 255 - 36 * i, 80 * (i % 3))])
                paletted.save(path, optimize=True)
        meta["videos"][name] = {"objects": sorted(seen), "length": length, "height": height, "width": width}
    values = ["j", "f_dot", "f", "j_disappear", "f_dot_disappear", "j_reappear", "f_dot_reappear"]
    with open(HERE / "expected.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["video", "object", *values])
        for name, video in meta["videos"].items():
            for i in video["objects"]:
                chunk = score.process_video_chunk(
                    name, meta["videos"], str(HERE / "pred"), str(HERE / "gt"), 1, length - 1, i, 0
                )
                merged = score.merge_chunk_results([chunk], name, i)
                writer.writerow([name, i, *("" if v is None else repr(float(v)) for v in merged)])
    with tempfile.TemporaryDirectory() as out:
        (Path(out) / "meta.json").write_text(json.dumps(meta))
        command = [sys.executable, str(TOOLS / "score.py"), "--meta", f"{out}/meta.json", "--ann", str(HERE / "gt")]
        subprocess.run([*command, "--pred", str(HERE / "pred"), "--output", f"{out}/out"], check=True, cwd=TOOLS)
        shutil.copy(f"{out}/out/scores.txt", HERE / "scores.txt")


frames()
dataset()
