"""Scores the saved masks of runs without prompts once more, with the tools that the protocols are named after, and shows both figures.

    scripts/rescore.sh RUN … [--davis CHECKOUT] [--ytvis CHECKOUT]

A run's masks say which tool reads them (``--save-masks``, ``=mots``, ``=ytvis``). TrackEval (label maps, MOTS text) comes from the Python
package index; davis2017-evaluation (label maps) and youtubevos/cocoapi (result JSON) are on none: check them out and name the folders.
Nothing of them is part of this repository. What a tool wants of the truth is written into a folder that is removed again: label maps, MOTS
text, and YouTube-VIS JSON, of the annotated frames alone; predictions of other frames are left out, as in jetbench's own figures.

Exit code 1 where a figure differs by more than 1e-9 of 100, 2 where something cannot be read.
"""
from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import io
import json
import math
import shutil
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import trackeval
from PIL import Image
from pycocotools import mask as coco

TOLERANCE = 1e-9


class Unusable(Exception):
    """A run or its truth cannot be re-scored: says why."""


def truth_of(data: Path, video: str) -> dict[str, np.ndarray]:
    """Label maps of the annotated frames, by the name of the frame: object n is the n-th of the video, or the number in its label map."""
    for folder in ("Annotations_unsupervised/480p", "Annotations/480p", "Annotations"):
        maps = sorted((data / folder / video).glob("*.png"))
        if maps:
            return {file.stem: np.array(Image.open(file)) for file in maps}
    per_object = next(iter(sorted(data.glob("Annotations_*fps"))), data) / video
    objects = sorted(p for p in per_object.glob("*") if p.is_dir())
    frames: dict[str, np.ndarray] = {}
    for number, folder in enumerate(objects, 1):
        for file in sorted(folder.glob("*.png")):
            mask = np.array(Image.open(file)) > 0
            labels = frames.setdefault(file.stem, np.zeros(mask.shape, np.uint8))
            if (labels[mask] > 0).any():
                raise Unusable(f"{file}: two objects share pixels, which the tools' label maps cannot hold")
            labels[mask] = number
    if not frames:
        raise Unusable(f"{data}: no annotation of video {video}")
    return dict(sorted(frames.items()))


def all_frames(data: Path, video: str) -> list[str]:
    """Names of all frames of a video, in order."""
    for pattern in ("JPEGImages/480p", "JPEGImages_*fps", "JPEGImages"):
        for folder in sorted(data.glob(pattern)):
            names = sorted(file.stem for file in (folder / video).glob("*") if file.suffix in (".jpg", ".png"))
            if names:
                return names
    raise Unusable(f"{data}: no frames of video {video}")


def encoded(mask: np.ndarray) -> dict:
    made = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(n) for n in made["size"]], "counts": made["counts"].decode()}


class Scored:
    """A cell of a run: its masks, the truth of its videos, and jetbench's own figures."""

    def __init__(self, run: Path, cell: dict, record: dict):
        base = Path(record["origin"]["directory"] or ".")
        self.data = base / record["data"]["root"]
        self.label = f"{cell['model']} {cell['dtype']} {cell['device']}"
        self.videos = [sequence["video"] for sequence in cell["sequences"]]
        self.order = record["data"]["list"] or self.videos
        self.truth = {video: truth_of(self.data, video) for video in self.videos}
        self.own = cell["summary"]["found"]["scores"]
        where = run / "masks" / f"{cell['model']}-{cell['dtype']}-{cell['device'].replace(':', '_')}"
        if not where.is_dir():
            raise Unusable(f"{where}: no saved masks; run it with --save-masks")
        self.masks = where

    @property
    def form(self) -> str:
        if (self.masks / "results.json").is_file():
            return "ytvis"
        return "mots" if any(self.masks.glob("*.txt")) else "labels"


def write_labels(scored: Scored, root: Path) -> None:
    """DAVIS's tree, and TrackEval's of the tracks."""
    for video, frames in scored.truth.items():
        (root / "JPEGImages/480p" / video).mkdir(parents=True)
        (root / "Annotations_unsupervised/480p" / video).mkdir(parents=True)
        (root / "trackers/jetbench/data" / video).mkdir(parents=True)
        for name, labels in frames.items():
            Image.fromarray(labels).save(root / "Annotations_unsupervised/480p" / video / f"{name}.png")
            (root / "JPEGImages/480p" / video / f"{name}.jpg").touch()
            shutil.copy(scored.masks / video / f"{name}.png", root / "trackers/jetbench/data" / video)
    for year in ("2017", "2019"):
        (root / "ImageSets" / year).mkdir(parents=True)
        (root / "ImageSets" / year / "val.txt").write_text("".join(f"{video}\n" for video in scored.videos))


def davis(checkout: Path, root: Path) -> dict[str, float]:
    sys.path.insert(0, str(checkout))
    tool = importlib.import_module("davis2017.evaluation").DAVISEvaluation
    found = tool(davis_root=str(root), task="unsupervised", gt_set="val").evaluate(str(root / "trackers/jetbench/data"))
    j, f = (float(np.mean(found[kind]["M"])) * 100 for kind in ("J", "F"))
    return {"j": j, "f": f, "jf": (j + f) / 2}


def trackeval_figures(dataset: object) -> dict[str, float]:
    quiet = {"PRINT_CONFIG": False}
    metrics = [trackeval.metrics.HOTA(), trackeval.metrics.CLEAR(quiet), trackeval.metrics.Identity(quiet)]
    settings = {"PRINT_RESULTS": False, "PRINT_CONFIG": False, "TIME_PROGRESS": False, "OUTPUT_SUMMARY": False, "OUTPUT_DETAILED": False,
                "PLOT_CURVES": False, "BREAK_ON_ERROR": True, "LOG_ON_ERROR": None}
    results, _ = trackeval.Evaluator(settings).evaluate([dataset], metrics)
    of_class = next(iter(results.values()))["jetbench"]["COMBINED_SEQ"]
    found = next(iter(of_class.values()))
    hota = found["HOTA"]
    shares = {"hota": hota["HOTA"], "det_a": hota["DetA"], "ass_a": hota["AssA"], "idf1": found["Identity"]["IDF1"]}
    return {name: float(np.mean(value)) * 100 for name, value in shares.items()} | {"id_switches": float(found["CLEAR"]["IDSW"])}


def trackeval_labels(root: Path) -> dict[str, float]:
    return trackeval_figures(trackeval.datasets.DAVIS({
        "GT_FOLDER": str(root / "Annotations_unsupervised/480p"), "TRACKERS_FOLDER": str(root / "trackers"), "SPLIT_TO_EVAL": "val",
        "SEQMAP_FILE": str(root / "ImageSets/2017/val.txt"), "PRINT_CONFIG": False, "TRACKERS_TO_EVAL": ["jetbench"]}))


def trackeval_mots(scored: Scored, root: Path) -> dict[str, float]:
    (root / "trackers/jetbench/data").mkdir(parents=True)
    for video, frames in scored.truth.items():
        gt = root / "gt" / video / "gt"
        gt.mkdir(parents=True)
        lines = []
        for at, labels in enumerate(frames.values(), 1):
            for number in np.unique(labels[labels > 0]):
                made = encoded(labels == number)
                lines.append(f"{at} {number} 2 {made['size'][0]} {made['size'][1]} {made['counts']}\n")
        (gt / "gt.txt").write_text("".join(lines))
        (gt.parent / "seqinfo.ini").write_text(f"[Sequence]\nname={video}\nseqLength={len(frames)}\n")
        # Frames count from 1 among those that are annotated.
        place = {all_frames(scored.data, video).index(name) + 1: at for at, name in enumerate(frames, 1)}
        kept = [line.split(" ", 1) for line in (scored.masks / f"{video}.txt").read_text().splitlines()]
        tracks = "".join(f"{place[int(frame)]} {rest}\n" for frame, rest in kept if int(frame) in place)
        (root / "trackers/jetbench/data" / f"{video}.txt").write_text(tracks)
    (root / "seqmap.txt").write_text("name\n" + "".join(f"{video}\n" for video in scored.videos))
    return trackeval_figures(trackeval.datasets.MOTSChallenge({
        "GT_FOLDER": str(root / "gt"), "TRACKERS_FOLDER": str(root / "trackers"), "SKIP_SPLIT_FOL": True, "PRINT_CONFIG": False,
        "SEQMAP_FILE": str(root / "seqmap.txt"), "TRACKERS_TO_EVAL": ["jetbench"]}))


def load_ytvos(checkout: Path) -> tuple[types.ModuleType, types.ModuleType]:
    """The tool's two modules beside the package index's pycocotools, whose compiled part is the same. It draws nothing here, so matplotlib
    is an empty stand-in, and numpy's names that are gone are set."""
    for name in ("matplotlib", "matplotlib.pyplot", "matplotlib.collections", "matplotlib.patches"):
        stand_in = types.ModuleType(name)
        stand_in.__dict__.update(PatchCollection=None, Polygon=None)
        sys.modules.setdefault(name, stand_in)
    package = types.ModuleType("ytvos_tool")
    package.__path__ = [str(checkout / "PythonAPI/pycocotools")]
    sys.modules |= {"ytvos_tool": package, "ytvos_tool.mask": coco}
    package.__dict__["mask"] = coco
    np.__dict__.setdefault("float", float)
    whole = np.linspace
    np.linspace = lambda start, stop, num=50, **rest: whole(start, stop, int(num), **rest)      # type: ignore[assignment]
    loaded = []
    for name in ("ytvos", "ytvoseval"):
        spec = importlib.util.spec_from_file_location(f"ytvos_tool.{name}", checkout / f"PythonAPI/pycocotools/{name}.py")
        if spec is None or spec.loader is None:
            raise Unusable(f"{checkout}: no checkout of youtubevos/cocoapi")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        loaded.append(module)
    return loaded[0], loaded[1]


def ytvis(checkout: Path, scored: Scored, root: Path) -> dict[str, float]:
    videos, annotations = [], []
    results = json.loads((scored.masks / "results.json").read_text())
    for video, frames in scored.truth.items():
        number = scored.order.index(video) + 1
        height, width = next(iter(frames.values())).shape
        videos.append({"id": number, "height": height, "width": width, "length": len(frames), "file_names": list(frames)})
        places = [all_frames(scored.data, video).index(name) for name in frames]
        for result in (r for r in results if r["video_id"] == number):
            result["segmentations"] = [result["segmentations"][place] for place in places]
        for instance in sorted({int(n) for labels in frames.values() for n in np.unique(labels[labels > 0])}):
            masks = [labels == instance for labels in frames.values()]
            annotations.append({"id": len(annotations) + 1, "video_id": number, "category_id": 1, "iscrowd": 0,
                                "height": height, "width": width,
                                "segmentations": [encoded(mask) if mask.any() else None for mask in masks],
                                "bboxes": [[0, 0, 1, 1] if mask.any() else None for mask in masks],
                                "areas": [int(mask.sum()) if mask.any() else None for mask in masks]})
    categories = [{"id": n, "name": str(n)} for n in sorted({1} | {r["category_id"] for r in results})]
    truth, pred = root / "truth.json", root / "results.json"
    truth.write_text(json.dumps({"videos": videos, "categories": categories, "annotations": annotations}))
    pred.write_text(json.dumps(results))
    ytvos, ytvoseval = load_ytvos(checkout)
    api = ytvos.YTVOS(str(truth))
    evaluation = ytvoseval.YTVOSeval(api, api.loadRes(str(pred)), "segm")
    evaluation.params.useCats = 0
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return {"ap": float(evaluation.stats[0]) * 100, "ap50": float(evaluation.stats[1]) * 100, "ar10": float(evaluation.stats[7]) * 100}


def rescored(scored: Scored, args: argparse.Namespace, root: Path) -> list[tuple[str, dict[str, float]]]:
    """Figures by tool; what a tool prints goes nowhere."""
    done: list[tuple[str, dict[str, float]]] = []
    with contextlib.redirect_stdout(io.StringIO()):
        if scored.form == "labels":
            write_labels(scored, root)
            done.append(("TrackEval, label maps", trackeval_labels(root)))
            if args.davis:
                done.append(("davis2017-evaluation, label maps", davis(args.davis, root)))
        elif scored.form == "mots":
            done.append(("TrackEval, MOTS text", trackeval_mots(scored, root)))
        elif args.ytvis:
            done.append(("youtubevos/cocoapi, result JSON", ytvis(args.ytvis, scored, root)))
    return done


def main() -> int:
    options = argparse.ArgumentParser(prog="scripts/rescore.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a finished run with saved masks")
    options.add_argument("--davis", type=Path, metavar="DIR", help="checkout of davis2017-evaluation")
    options.add_argument("--ytvis", type=Path, metavar="DIR", help="checkout of youtubevos/cocoapi")
    args = options.parse_args()
    worst, tools = 0.0, 0
    try:
        for run in args.runs:
            record = json.loads((run / "run.json").read_text())
            for cell in record["cells"]:
                if not ((cell.get("summary") or {}).get("found") or {}).get("scores"):
                    raise Unusable(f"{run}: cell {cell['model']} has no figures of found tracks")
                scored = Scored(run, cell, record)
                with tempfile.TemporaryDirectory() as root:
                    done = rescored(scored, args, Path(root))
                    wanted = {"labels": "davis", "mots": None}.get(scored.form, "ytvis")
                    if wanted and not getattr(args, wanted):
                        print(f"{scored.label}: not scored by the tool that --{wanted} names")
                    for tool, figures in done:
                        tools += 1
                        print(f"{scored.label}: {tool}")
                        for name, theirs in figures.items():
                            ours = float(scored.own[name])
                            if not math.isfinite(theirs):
                                raise Unusable(f"{scored.label}: {tool} gives {theirs} for {name}")
                            worst = max(worst, abs(ours - theirs))
                            print(f"  {name:12s} tool {theirs:.12f}  jetbench {ours:.12f}  difference {abs(ours - theirs):.1e}")
    except (Unusable, OSError, LookupError, ValueError, TypeError, ImportError, AssertionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if tools == 0:
        print("error: no tool for these masks was named: --davis, --ytvis", file=sys.stderr)
        return 2
    print(f"largest difference: {worst:.1e}")
    return 1 if worst > TOLERANCE else 0


if __name__ == "__main__":
    sys.exit(main())
