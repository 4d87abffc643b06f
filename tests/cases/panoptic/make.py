#!/usr/bin/env python3
"""Draws the cases in this folder and scores them with VIPSeg's own evaluators: one JSON file per case, with what the tools said.

    python3 make.py VIPSeg-Dataset

VIPSeg-Dataset is a checkout of github.com/VIPSeg-Dataset/VIPSeg-Dataset (made with 92e1459; it states no licence, its STQ is
DeepLab2's, Apache-2.0). Needs numpy, pillow, tqdm. Seeded: the same files come out again.

A case has `categories` and `videos`; a video has its name, its `size` (width, height) and, per frame and side (truth, prediction), the
runs of ids of its PNG in row order and its `segments`: [id, category] or, of crowds, [id, category, 1]. Areas are counted, not kept.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(Path(sys.argv[1]).resolve() / "ClipPanoFCN"))
if not hasattr(np, "bool"):
    np.bool = bool  # numpy 1.24 to 1.26 lack what the STQ module names
import eval_stq_vspw  # noqa: E402
import eval_vpq_vspw  # noqa: E402

WINDOWS = [1, 2, 4, 6, 8]
STUFF, THINGS = [0, 3, 7, 100], [2, 4, 60, 61, 123]
CATEGORIES = [
    {"id": i, "name": f"c{i}", "isthing": int(i in THINGS), "color": [i, i, i]} for i in sorted(STUFF + THINGS)
]
Frame = tuple[np.ndarray, list[list[int]]]


def side(image: np.ndarray, classes: dict[int, tuple[int, ...]], order: list[int] | None = None) -> Frame:
    """A frame of the ids in `image`; `classes` has the category (and 1, of a crowd) of each."""
    ids = [int(i) for i in np.unique(image) if int(i) in classes]
    if order is not None:
        ids.sort(key=lambda i: order.index(i) if i in order else len(order))
    return image, [[i, *classes[i]] for i in ids]


def shape(width: int, height: int, cx: float, cy: float, a: float, b: float) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return ((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 <= 1


def scene(
    random: np.random.Generator, width: int, height: int, length: int, wrong: float, crowds: bool = False
) -> dict:
    """Bands of stuff, moving things, void holes; predictions that are off by a few pixels, classes and ids."""
    colour = lambda n: int(n * 70_001 % (1 << 24)) or 1  # noqa: E731  ids that use all three bytes
    bands = [(colour(i + 1), STUFF[int(random.integers(len(STUFF)))]) for i in range(3)]
    things = []
    for n in range(5):
        born = int(random.integers(0, max(1, length // 2)))
        things.append(
            {
                "id": colour(10 + n),
                "category": THINGS[int(random.integers(len(THINGS)))],
                "at": random.uniform(0.1, 0.9, 2),
                "move": random.uniform(-0.04, 0.04, 2),
                "half": random.uniform(0.1, 0.28, 2),
                "life": (born, born + int(random.integers(2, length + 2))),
                "crowd": crowds and n < 2,
                "swap": int(random.integers(1, length + 1)),
                "lost": random.random() < wrong,
                "shift": random.integers(-2, 3, 2),
                "other": THINGS[int(random.integers(len(THINGS)))] if random.random() < wrong else None,
            }
        )
    frames = []
    for t in range(length):
        pair = []
        for predicted in (False, True):
            image = np.zeros((height, width), np.int64)
            classes: dict[int, tuple[int, ...]] = {}
            for i, (number, category) in enumerate(bands):
                number += 5 * predicted
                off = int(random.integers(-1, 2)) if predicted else 0
                image[max(0, height * i // 3 + off) :] = number
                classes[number] = (category,)
            for n, thing in enumerate(things):
                if not thing["life"][0] <= t < thing["life"][1] or (predicted and thing["lost"]):
                    continue
                cx, cy = (thing["at"] + t * thing["move"]) * (width, height) + (thing["shift"] if predicted else 0)
                number, category = thing["id"], thing["category"]
                if predicted:
                    number += 1000 + (7 if t >= thing["swap"] and random.random() < 2 * wrong else 0)
                    category = thing["other"] if thing["other"] is not None else category
                image[shape(width, height, cx, cy, thing["half"][0] * width, thing["half"][1] * height)] = number
                classes[number] = (category, 1) if thing["crowd"] and not predicted else (category,)
            hole = shape(width, height, *(random.uniform(0, 1, 2) * (width, height)), 3, 2)
            if random.random() < (0.5 if predicted else 0.8):
                image[hole] = 0
            pair.append(side(image, classes))
        frames.append(pair)
    return {"size": (width, height), "frames": frames}


def blocks(size: tuple[int, int], frames: list) -> dict:
    """A video of two halves per side: ((left, right), classes) of truth and prediction on each frame."""
    width, height = size
    video = {"size": size, "frames": []}
    for pair in frames:
        sides = []
        for ids, classes, *order in pair:
            image = np.zeros((height, width), np.int64)
            for n, number in enumerate(ids):
                image[:, width * n // len(ids) : width * (n + 1) // len(ids)] = number
            sides.append(side(image, classes, *order))
        video["frames"].append(sides)
    return video


def cases() -> dict[str, dict]:
    random = np.random.default_rng(5)
    drawn = {f"v{n}": scene(random, 24, 18, length, 0.35) for n, length in enumerate([9, 1, 7, 12, 3])}
    crowded = {f"c{n}": scene(random, 20, 15, length, 0.3, crowds=True) for n, length in enumerate([8, 10])}
    perfect = {"p": scene(random, 16, 12, 8, 0.0)}
    perfect["p"]["frames"] = [[truth, truth] for truth, _ in perfect["p"]["frames"]]
    odd = {
        # The same id has another category on other frames, in the truth and in the prediction.
        "relabelled": blocks(
            (12, 4),
            [
                (
                    ((1, 2, 2), {1: (0,), 2: (2 if t < 4 else 4,)}),
                    ((1, 2, 2), {1: (0 if t % 3 else 3,), 2: (2 if t < 6 else 4,)}),
                )
                for t in range(9)
            ],
        ),
        # One category of stuff in two segments, against one segment; a category that only the prediction has.
        "parts": blocks(
            (12, 4),
            [(((5, 6, 9), {5: (3,), 6: (3,), 9: (0,)}), ((5, 5, 9), {5: (3,), 9: (7 if t else 0,)})) for t in range(8)],
        ),
        # A thing is listed first; ids are not listed in ascending order; the prediction lists id 0; nothing of it beside.
        "first": blocks(
            (12, 4),
            [
                (
                    ((8, 4, 2), {8: (61,), 4: (60,), 2: (100,)}, [8, 4, 2]),
                    ((7, 3, 0), {7: (61,), 3: (60,), 0: (100,)}, [7, 3, 0]),
                )
                for t in range(8)
            ],
        ),
        # Two crowds of one category; what covers them is of that category, or of another.
        "crowds": blocks(
            (15, 4),
            [
                (
                    ((1, 2, 2, 3, 0), {1: (60, 1), 2: (60, 1), 3: (0,)}),
                    ((4, 5, 8, 6, 7), {4: (60,), 5: (60,), 8: (60,), 6: (0,), 7: (61,)}),
                )
                for t in range(8)
            ],
        ),
        "no_frame": {"size": (12, 4), "frames": []},
        # Nothing is labelled, or nothing predicted, on some frames; an IoU of exactly one half is no match.
        "blank": blocks(
            (8, 2),
            [(((1, 0) if t % 2 else (0, 0), {1: (2,)}), ((1, 1) if t < 5 else (0, 0), {1: (2,)})) for t in range(8)],
        ),
        "half": blocks(
            (8, 2), [(((1, 1, 2, 2), {1: (2,), 2: (0,)}), ((3, 2, 2, 2), {3: (2,), 2: (0,)})) for t in range(8)]
        ),
    }
    stuff = {
        "s": blocks((12, 4), [(((1, 2, 0), {1: (0,), 2: (3,)}), ((1, 1, 2), {1: (0,), 2: (3,)})) for t in range(8)])
    }
    short = {"a": scene(random, 16, 12, 3, 0.3), "b": scene(random, 16, 12, 5, 0.3)}
    unlabelled = {"u": blocks((8, 2), [(((0, 0), {}), ((1, 1), {1: (2,)})) for t in range(8)])}
    return {
        "drawn": drawn,
        "crowded": crowded,
        "perfect": perfect,
        "odd": odd,
        "only_stuff": stuff,
        "short": short,
        "unlabelled": unlabelled,
    }


def runs(image: np.ndarray) -> list[int]:
    flat = image.ravel()
    starts = np.flatnonzero(np.r_[True, flat[1:] != flat[:-1]])
    return [int(v) for pair in zip(flat[starts], np.diff(np.r_[starts, flat.size])) for v in pair]


def write(root: Path, videos: dict[str, dict]) -> None:
    """The files that the tools read."""
    listed, annotations = [], {"truth": [], "pred": []}
    for name, video in videos.items():
        names = [f"{t:05}.png" for t in range(len(video["frames"]))]
        listed.append(
            {
                "video_id": name,
                "images": [
                    {"id": n[:-4], "file_name": n, "width": video["size"][0], "height": video["size"][1]} for n in names
                ],
            }
        )
        for place, (kind, folder) in enumerate((("truth", "panomasksRGB"), ("pred", "pred/pan_pred"))):
            (root / folder / name).mkdir(parents=True)
            frames = []
            for file, pair in zip(names, video["frames"]):
                image, segments = pair[place]
                colours = np.stack([image % 256, image // 256 % 256, image // 65536], -1).astype(np.uint8)
                Image.fromarray(colours).save(root / folder / name / file)
                infos = [
                    {
                        "id": s[0],
                        "category_id": s[1],
                        "iscrowd": s[2] if len(s) > 2 else 0,
                        "area": int((image == s[0]).sum()),
                    }
                    for s in segments
                ]
                frames.append({"file_name": file, "segments_info": infos})
            annotations[kind].append({"video_id": name, "annotations": frames})
    (root / "truth.json").write_text(
        json.dumps({"videos": listed, "annotations": annotations["truth"], "categories": CATEGORIES})
    )
    (root / "pred/pred.json").write_text(json.dumps({"annotations": annotations["pred"]}))


def vpq(root: Path) -> list[dict]:
    """Per window, what the tool's own functions give: all, things, stuff, and per category."""
    truth, pred = json.loads((root / "truth.json").read_text()), json.loads((root / "pred/pred.json").read_text())
    categories = {c["id"]: c for c in truth["categories"]}
    of = [{a["video_id"]: a["annotations"] for a in side["annotations"]} for side in (truth, pred)]
    videos = []
    for video in truth["videos"]:
        name = video["video_id"]
        paths = [
            [str(root / folder / name / image["file_name"]) for image in video["images"]]
            for folder in ("panomasksRGB", "pred/pan_pred")
        ]
        videos.append(list(zip(of[0][name], of[1][name], *paths, video["images"])))
    found = []
    for window in WINDOWS:
        total = eval_vpq_vspw.PQStat()
        for video in copy.deepcopy(videos):
            total += eval_vpq_vspw.vpq_compute_single_core(categories, window, video)
        row: dict = {"frames": window}
        for name, things in (("all", None), ("things", True), ("stuff", False)):
            try:
                row[name], classes = total.pq_average(categories, things)
            except ZeroDivisionError:
                row[name] = None
            else:
                row["classes"] = (
                    {str(c): [v[k] for k in ("pq", "sq", "rq", "iou", "tp", "fp", "fn")] for c, v in classes.items()}
                    if things is None
                    else row["classes"]
                )
        found.append(row)
    return found


def stq(root: Path) -> dict:
    """What the STQ tool's main function has found in the end."""
    kept = {}
    result = eval_stq_vspw.numpy_stq.STQuality.result

    def keep(metric: object) -> dict:
        kept.update(result(metric))
        return kept

    eval_stq_vspw.numpy_stq.STQuality.result = keep
    eval_stq_vspw.main()
    eval_stq_vspw.numpy_stq.STQuality.result = result
    return {key: np.asarray(value).tolist() for key, value in kept.items()}


def arguments(root: Path) -> list[str]:
    return [
        "",
        "--submit_dir",
        str(root / "pred"),
        "--truth_dir",
        str(root / "panomasksRGB"),
        "--pan_gt_json_file",
        str(root / "truth.json"),
    ]


def score(root: Path) -> dict:
    """Runs both tools as their users do, and the functions of the first for the digits that it does not print."""
    sys.argv = arguments(root)
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        np.errstate(all="ignore"),
    ):
        found = {"vpq": vpq(root), "stq": stq(root)}
        sys.argv += ["--num_processes", "1"]
        try:
            eval_vpq_vspw.main()
            found["vpq-final.txt"] = (root / "pred/vpq-final.txt").read_text()
        except ZeroDivisionError as fault:
            found["vpq-final.txt"] = f"{type(fault).__name__}: {fault}"
    return found


def plain(value: object) -> object:
    """Numpy's numbers as Python's, NaN as null."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and np.isnan(value) else value


def faults() -> dict[str, list[str]]:
    """What each tool says when one thing of its input is wrong, as tests/panoptic.rs makes it: how it ends, or a score."""
    said = {}
    for name in FAULTS:
        with tempfile.TemporaryDirectory() as temporary:
            write(
                Path(temporary), {name: video for name, video in cases()["drawn"].items() if len(video["frames"]) > 8}
            )
            spoil(Path(temporary), name)
            said[name] = []
            for tool, figure in ((vpq, lambda w: w[0]["all"]["pq"]), (stq, lambda s: s["STQ"])):
                sys.argv = arguments(Path(temporary))
                with (
                    contextlib.redirect_stdout(io.StringIO()),
                    contextlib.redirect_stderr(io.StringIO()),
                    np.errstate(all="ignore"),
                ):
                    try:
                        if tool is vpq:
                            sys.argv += ["--num_processes", "1"]
                            eval_vpq_vspw.main()
                        said[name].append(f"{figure(tool(Path(temporary))):.6f}")
                    except Exception as fault:  # noqa: BLE001  whatever it is
                        said[name].append(type(fault).__name__)
    return said


FAULTS = [
    "none",
    "pred_png_missing",
    "pred_id_unlisted",
    "pred_id_without_pixel",
    "pred_category_unknown",
    "pred_video_missing",
    "pred_frame_unlisted",
    "pred_frames_swapped",
    "pred_other_size",
    "pred_grey",
    "pred_segment_twice",
    "truth_id_unlisted",
    "truth_area_wrong",
    "truth_category_unknown",
    "truth_void_listed",
    "truth_png_missing",
]


def spoil(root: Path, fault: str) -> None:
    files = {"pred": root / "pred/pred.json", "truth": root / "truth.json"}
    kind = fault.split("_")[0]
    if kind == "none":
        return
    data = json.loads(files[kind].read_text())
    video = data["annotations"][0]
    frames = video["annotations"]
    segments = frames[0]["segments_info"]
    png = root / {"pred": "pred/pan_pred", "truth": "panomasksRGB"}[kind] / video["video_id"] / "00000.png"
    match fault.removeprefix(f"{kind}_"):
        case "png_missing":
            png.unlink()
        case "id_unlisted":
            segments.pop()
        case "id_without_pixel":
            segments.append({**segments[0], "id": 5_000_000})
        case "category_unknown":
            segments[0]["category_id"] = 99
        case "video_missing":
            data["annotations"].pop(0)
        case "frame_unlisted":
            frames.pop()
        case "frames_swapped":
            frames[0], frames[1] = frames[1], frames[0]
        case "other_size":
            image = Image.open(png)
            image.resize((image.width + 1, image.height)).save(png)
        case "grey":
            Image.open(png).convert("L").save(png)
        case "segment_twice":
            segments.append({**segments[0], "category_id": segments[1]["category_id"]})
        case "area_wrong":
            segments[0]["area"] += 1
        case "void_listed":
            segments.append({**segments[0], "id": 0})
    files[kind].write_text(json.dumps(data))


for case, videos in cases().items():
    with tempfile.TemporaryDirectory() as temporary:
        write(Path(temporary), videos)
        expected = plain(score(Path(temporary)))
    kept = [
        {
            "name": name,
            "size": video["size"],
            "frames": [[{"runs": runs(i), "segments": s} for i, s in pair] for pair in video["frames"]],
        }
        for name, video in videos.items()
    ]
    text = json.dumps({"categories": CATEGORIES, "videos": kept, "expected": expected}, separators=(",", ":"))
    (HERE / f"{case}.json").write_text(text + "\n")
    print(
        case,
        len(text),
        expected["stq"]["STQ"],
        [w["all"] and w["all"]["pq"] for w in expected["vpq"]],
        expected["vpq-final.txt"].split()[:2],
        file=sys.stderr,
    )
(HERE / "faults.json").write_text(json.dumps(faults(), indent=1) + "\n")
