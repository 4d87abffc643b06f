"""Paired CPU times of `jetbench score` and the tools of the protocols without prompts, on the same files, and equality of their figures.

TrackEval comes from the Python package index (scripts/rescore.sh makes the environment); the others are checkouts, and nothing of
them is part of this repository:

    git clone https://github.com/davisvideochallenge/davis2017-evaluation
    git clone https://github.com/youtubevos/cocoapi
    git clone https://github.com/VIPSeg-Dataset/VIPSeg-Dataset
    cargo build --release && scripts/rescore.sh --help >/dev/null
    target/rescore/bin/python benches/compare_found.py --jetbench target/release/jetbench --davis davis2017-evaluation --ytvis cocoapi \
        --vipseg VIPSeg-Dataset

Draws objects and tracks that follow them badly (off by some pixels, one cut in two, one that covers nothing) and writes them as label
maps, MOTS text, YouTube-VIS JSON and VIPSeg's files. Every program has one thread. A tool's time is told twice: that of reading and scoring alone, and, in
brackets, that of the whole process, with the start of its interpreter and its imports; jetbench's is always that of the whole process. The
fastest of all rounds counts, tool and jetbench in turns.
"""
from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
import rescore
import trackeval

SIZES = {"480p": (854, 480), "1080p": (1920, 1080)}
OBJECTS = 4
TOLERANCE = 1e-9


def outlines(width: int, height: int, t: int, off: float) -> list[np.ndarray]:
    """Masks of the objects in frame ``t``, moved by ``off`` pixels."""
    y, x = np.ogrid[0:height, 0:width]
    masks = []
    for i in range(OBJECTS):
        cx, cy = width * (0.15 + 0.23 * i) + 0.004 * width * t + off, height * (0.35 + 0.3 * (i % 2)) + off
        angle = np.arctan2(y - cy, x - cx)
        masks.append(np.hypot(x - cx, y - cy) < height * (0.13 + 0.03 * np.sin((5 + i) * angle + 0.1 * t) + 0.008 * np.cos(29 * angle)))
    return masks


def label_map(masks: dict[int, np.ndarray], height: int, width: int) -> np.ndarray:
    labels = np.zeros((height, width), np.uint8)
    for number, mask in masks.items():
        labels[mask] = number
    return labels


def drawn(width: int, height: int, frames: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Label maps of objects 1 to 4, and of tracks: object 4's is cut in two (4, 5), and 6 covers nothing."""
    truth, tracks = [], []
    for t in range(frames):
        truth.append(label_map(dict(enumerate(outlines(width, height, t, 0), 1)), height, width))
        masks = dict(enumerate(outlines(width, height, t, 4 * height / 1080), 1))
        if t > frames // 2:
            masks[5] = masks.pop(4)
        corner = np.zeros((height, width), bool)
        corner[:height // 12, :width // 12] = True
        tracks.append(label_map({6: corner, **masks}, height, width))
    return truth, tracks


def instances(labels: list[np.ndarray]) -> list[int]:
    return sorted({int(n) for frame in labels for n in np.unique(frame[frame > 0])})


def write(root: Path, width: int, height: int, frames: int, videos: int) -> None:
    """The same masks in the trees that the tools read."""
    truth, tracks = drawn(width, height, frames)
    names = [f"v{n}" for n in range(videos)]
    for year in ("2017", "2019"):
        (root / "ImageSets" / year).mkdir(parents=True)
        (root / "ImageSets" / year / "val.txt").write_text("".join(f"{name}\n" for name in names))
    (root / "mots/trackers/jetbench/data").mkdir(parents=True)
    (root / "mots/seqmap.txt").write_text("name\n" + "".join(f"{name}\n" for name in names))
    for name in names:
        for folder, labels in (("Annotations_unsupervised/480p", truth), ("trackers/jetbench/data", tracks)):
            (root / folder / name).mkdir(parents=True)
            for t, frame in enumerate(labels):
                image = Image.fromarray(frame)
                image.putpalette([v for n in range(256) for v in (n, 85 * (n % 4), 255 - n)])
                image.save(root / folder / name / f"{t:05}.png")
        (root / "JPEGImages/480p" / name).mkdir(parents=True)
        for t in range(frames):
            (root / "JPEGImages/480p" / name / f"{t:05}.jpg").touch()
        text = ["".join(f"{t} {n} 2 {height} {width} {rescore.encoded(frame == n)['counts']}\n"
                        for t, frame in enumerate(labels, 1) for n in np.unique(frame[frame > 0])) for labels in (truth, tracks)]
        (root / "mots/gt" / name / "gt").mkdir(parents=True)
        (root / "mots/gt" / name / "gt/gt.txt").write_text(text[0])
        (root / "mots/gt" / name / "seqinfo.ini").write_text(f"[Sequence]\nname={name}\nseqLength={frames}\n")
        (root / "mots/trackers/jetbench/data" / f"{name}.txt").write_text(text[1])
    listed, annotations, results = [], [], []
    for number, name in enumerate(names, 1):
        listed.append({"id": number, "height": height, "width": width, "length": frames,
                       "file_names": [f"{name}/{t:05}.jpg" for t in range(frames)]})
        for kind, labels in (("truth", truth), ("tracks", tracks)):
            for n in instances(labels):
                masks = [frame == n for frame in labels]
                coded = [rescore.encoded(mask) if mask.any() else None for mask in masks]
                common = {"video_id": number, "category_id": 1, "segmentations": coded}
                if kind == "tracks":
                    results.append({**common, "score": 0.9 - 0.1 * n})
                else:
                    annotations.append({**common, "id": len(annotations) + 1, "iscrowd": 0, "height": height, "width": width,
                                        "bboxes": [[0, 0, 1, 1] if mask.any() else None for mask in masks],
                                        "areas": [int(mask.sum()) if mask.any() else None for mask in masks]})
    truth_file = {"videos": listed, "categories": [{"id": 1, "name": "object"}], "annotations": annotations}
    (root / "truth.json").write_text(json.dumps(truth_file))
    (root / "results.json").write_text(json.dumps(results))
    write_panoptic(root, names, {"panomasksRGB": truth, "pred/pan_pred": tracks})


def write_panoptic(root: Path, names: list[str], sides: dict[str, list[np.ndarray]]) -> None:
    """The same as VIPSeg's files: objects are things of two categories, and the rest is one segment of stuff."""
    frames = [f"{t:05}.png" for t in range(len(sides["panomasksRGB"]))]
    lists = []
    for folder, labels in sides.items():
        entries = []
        for file, frame in zip(frames, labels):
            ids = np.where(frame == 0, 999, frame.astype(np.int64) * 70_001)
            colours = Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8))
            for name in names:
                (root / folder / name).mkdir(parents=True, exist_ok=True)
                colours.save(root / folder / name / file)
            entries.append({"file_name": file, "segments_info": [
                {"id": int(n), "category_id": 0 if n == 999 else 1 + int(n) % 2, "iscrowd": 0, "area": int((ids == n).sum())}
                for n in np.unique(ids)]})
        lists.append([{"video_id": name, "annotations": entries} for name in names])
    images = [{"file_name": file} for file in frames]
    (root / "panoptic_gt_VIPSeg_val.json").write_text(json.dumps({
        "videos": [{"video_id": name, "images": images} for name in names], "annotations": lists[0],
        "categories": [{"id": i, "name": str(i), "isthing": int(i > 0)} for i in range(3)]}))
    (root / "pred/pred.json").write_text(json.dumps({"annotations": lists[1]}))


def mots(root: Path) -> dict[str, float]:
    return rescore.trackeval_figures(trackeval.datasets.MOTSChallenge({
        "GT_FOLDER": str(root / "mots/gt"), "TRACKERS_FOLDER": str(root / "mots/trackers"), "SKIP_SPLIT_FOL": True, "PRINT_CONFIG": False,
        "SEQMAP_FILE": str(root / "mots/seqmap.txt"), "TRACKERS_TO_EVAL": ["jetbench"]}))


def ytvis(checkout: Path, root: Path) -> dict[str, float]:
    ytvos, ytvoseval = rescore.load_ytvos(checkout)
    api = ytvos.YTVOS(str(root / "truth.json"))
    evaluation = ytvoseval.YTVOSeval(api, api.loadRes(str(root / "results.json")), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return {"ap": float(evaluation.stats[0]) * 100, "ap50": float(evaluation.stats[1]) * 100, "ar10": float(evaluation.stats[7]) * 100}


def tool(args: argparse.Namespace, protocol: str, root: Path) -> tuple[float, dict[str, float]]:
    """CPU seconds of the tool in this process, and its figures."""
    run = {"davis2017-unsup": lambda: rescore.davis(args.davis, root), "hota": lambda: rescore.trackeval_labels(root),
           "mots": lambda: mots(root), "ytvis": lambda: ytvis(args.ytvis, root), "vipseg": lambda: rescore.vipseg(root)}[protocol]
    if protocol == "davis2017-unsup":      # imported before the clock starts
        sys.path.insert(0, str(args.davis))
        importlib.import_module("davis2017.evaluation")
    if protocol == "vipseg":
        sys.path.insert(0, str(args.vipseg / "ClipPanoFCN"))
        importlib.import_module("eval_vpq_vspw")
        importlib.import_module("eval_stq_vspw")
    with contextlib.redirect_stdout(io.StringIO()):
        start = time.process_time()
        figures = run()
        return time.process_time() - start, figures


def spent_by(command: list[str]) -> tuple[float, str]:
    """CPU seconds of a process from its start to its end, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, text


def theirs(args: argparse.Namespace, protocol: str, root: Path) -> tuple[float, float, dict[str, float]]:
    """CPU seconds of the tool alone and of its whole process, and its figures."""
    command = [sys.executable, __file__, "--jetbench", "-", "--tool", protocol, "--root", str(root)]
    for name in ("davis", "ytvis", "vipseg"):
        if getattr(args, name):
            command += [f"--{name}", str(getattr(args, name))]
    whole, text = spent_by(command)
    spent, figures = json.loads(text)
    return spent, whole, figures


def ours(args: argparse.Namespace, protocol: str, root: Path) -> tuple[float, dict[str, float]]:
    """CPU seconds of jetbench, and its figures."""
    files = {"ytvis": ("truth.json", "results.json"), "mots": ("mots/gt", "mots/trackers/jetbench/data"),
             "vipseg": (".", "pred")}
    gt, pred = files.get(protocol, ("Annotations_unsupervised/480p", "trackers/jetbench/data"))
    command = [args.jetbench, "score", str(root / gt), str(root / pred), "--protocol", "hota" if protocol == "mots" else protocol,
               "--threads", "1", "--quiet", "--json"]
    spent, text = spent_by(command)
    return spent, figures_of(protocol, json.loads(text))


def figures_of(protocol: str, said: dict) -> dict[str, float]:
    """jetbench's figures, by the names and on the scale that the tools' have here."""
    if protocol == "davis2017-unsup":
        found = {name: said["global"][name] for name in ("j", "f", "jf")}
    elif protocol == "vipseg":
        found = {"vpq": said["vpq_final"]["all"], "vpq_things": said["vpq_final"]["things"], **{name: said["stq"][name] for name in ("stq", "aq", "sq")}}
    elif protocol == "ytvis":
        found = {name.lower(): said["per_class"][name] for name in ("AP", "AP50", "AR10")}
    else:
        combined = said["combined"]
        found = {name: float(np.mean(combined["hota"][name])) for name in ("hota", "det_a", "ass_a")}
        found["idf1"] = combined["identity"]["idf1"]
        return {name: 100 * value for name, value in found.items()} | {"id_switches": float(combined["clear"]["id_switches"])}
    return {name: 100 * value for name, value in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jetbench", required=True, help="the program, built with --release")
    parser.add_argument("--davis", type=Path, help="checkout of davis2017-evaluation")
    parser.add_argument("--ytvis", type=Path, help="checkout of youtubevos/cocoapi")
    parser.add_argument("--vipseg", type=Path, help="checkout of VIPSeg-Dataset")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--videos", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tool", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", OPENCV_FOR_THREADS_NUM="1")
    if args.tool:
        print(json.dumps(tool(args, args.tool, args.root)))
        return 0
    protocols = [p for p, wanted in (("davis2017-unsup", args.davis), ("hota", True), ("mots", True), ("ytvis", args.ytvis),
                                        ("vipseg", args.vipseg)) if wanted]
    failed = False
    for size, (width, height) in SIZES.items():
        with tempfile.TemporaryDirectory() as temporary:
            root = Path(temporary)
            write(root, width, height, args.frames, args.videos)
            for protocol in protocols:
                rounds = [(theirs(args, protocol, root), ours(args, protocol, root)) for _ in range(args.rounds)]
                alone, whole = (min(their[place] for their, _ in rounds) for place in (0, 1))
                mine = min(our[0] for _, our in rounds)
                expected, found = rounds[0][0][2], rounds[0][1][1]
                worst = max(abs(found[name] - value) for name, value in expected.items())
                failed |= not worst <= TOLERANCE
                print(f"{size} {protocol}: tool {alone:.2f} ({whole:.2f}), jetbench {mine:.3f} CPU seconds, x{alone / mine:.0f} "
                      f"(x{whole / mine:.0f}); {', '.join(expected)}: largest difference {worst:.1e} of 100", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
