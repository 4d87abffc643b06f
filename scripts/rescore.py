"""Scores the saved masks of runs without prompts once more, with the tools that the protocols are named after, and shows both figures.

    scripts/rescore.sh RUN … [--davis CHECKOUT] [--ytvis CHECKOUT] [--vipseg CHECKOUT]

A run's masks say which tool reads them (``--save-masks``, ``=mots``, ``=ytvis``, ``=vipseg``). TrackEval (label maps, MOTS text) comes from
the Python package index; davis2017-evaluation (label maps), youtubevos/cocoapi (result JSON) and VIPSeg-Dataset (panoptic segments) are on
none: check them out and name the folders. Nothing of them is part of this repository. What a tool wants of the truth is written into a
folder that is removed again: label maps, MOTS text, YouTube-VIS JSON, and VIPSeg's files, of the annotated frames alone; predictions of
other frames are left out, as in jetbench's own figures.

A run on VIPSeg has figures of panoptic segments, and the tool reads its truth as it is. A run on other data has none, so ``--jetbench``
scores the same files. Their truth then has objects as things of the categories in meta.json; without it, objects and segments are all of
one. What is no object is one segment of stuff, in truth and predictions: the tool wants both kinds.

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
import subprocess
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


def described(data: Path) -> Path | None:
    """The description of VIPSeg's truth that a run read, given its folder or the file."""
    if data.is_file():
        return data if data.suffix == ".json" else None
    usual = data / "panoptic_gt_VIPSeg_val.json"
    return usual if usual.is_file() else next(iter(sorted(data.glob("panoptic_gt*.json"))), None)


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
        self.description = described(self.data) if record["data"]["layout"] == "vipseg" else None
        self.truth = {} if self.description else {video: truth_of(self.data, video) for video in self.videos}
        self.own = cell["summary"]["found"]["scores"]
        where = run / "masks" / f"{cell['model']}-{cell['dtype']}-{cell['device'].replace(':', '_')}"
        if not where.is_dir():
            raise Unusable(f"{where}: no saved masks; run it with --save-masks")
        self.masks = where
        self.classes = [name.strip().lower() for name in cell["detector"]["classes"]]
        self.labelled = cell.get("labels") is not None

    @property
    def form(self) -> str:
        if (self.masks / "results.json").is_file():
            return "ytvis"
        if (self.masks / "pred.json").is_file():
            return "vipseg"
        return "mots" if any(self.masks.glob("*.txt")) else "labels"


def panoptic_truth(scored: Scored, description: Path, root: Path) -> None:
    """VIPSeg's own files of the run's videos, under the names that its tool reads."""
    said = json.loads(description.read_text())
    if {video["video_id"] for video in said["videos"]} != set(scored.videos):
        raise Unusable(f"{scored.label}: the run lacks videos of {description}, and the tool wants all")
    (root / "panoptic_gt_VIPSeg_val.json").symlink_to(description.resolve())
    (root / "panomasksRGB").symlink_to((description.parent / "panomasksRGB").resolve())
    (root / "pred").symlink_to(scored.masks.resolve())


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


def write_vipseg(scored: Scored, root: Path) -> None:
    """VIPSeg's files of truth and predictions."""
    meta = scored.data / "meta.json"
    named = json.loads(meta.read_text())["videos"] if meta.is_file() else {}
    listed = {entry["video_id"]: entry["annotations"] for entry in json.loads((scored.masks / "pred.json").read_text())["annotations"]}
    if named and scored.labelled:
        raise Unusable(f"{scored.label}: its segments have a label pack's classes, which the categories of {meta} are not compared with")
    sides: list[list[dict]] = [[], []]
    videos = []
    rest, stuff = 1 << 20, len(scored.classes)

    def write(path: Path, ids: np.ndarray, segments: list[dict]) -> None:
        """The file and, beside ``segments``, what is none of them."""
        ids = np.where(ids == 0, rest, ids)
        Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)).save(path)
        area = int((ids == rest).sum())
        # A thing that is listed first is a crowd to the STQ evaluator.
        segments[:0] = [{"id": rest, "category_id": stuff, "iscrowd": 0, "area": area}] if area else []

    for video, frames in scored.truth.items():
        objects = named.get(video, {}).get("objects", {})
        category = {int(n): scored.classes.index(of["category"].strip().lower()) for n, of in objects.items()}
        for folder in ("panomasksRGB", "pred/pan_pred"):
            (root / folder / video).mkdir(parents=True)
        found = [entry for entry in listed[video] if Path(entry["file_name"]).stem in frames]
        told = {(name := Path(entry["file_name"]).stem): frames[name] for entry in found}
        if len(found) < 8:
            raise Unusable(f"{scored.label}: {len(found)} annotated frames of video {video}; the VPQ evaluator wants 8")
        entries = []
        for name, labels in told.items():
            shown = [int(n) for n in np.unique(labels[labels > 0])]
            entries.append({"file_name": f"{name}.png", "segments_info": [
                {"id": n, "category_id": category.get(n, 0), "iscrowd": 0, "area": int((labels == n).sum())} for n in shown]})
            write(root / "panomasksRGB" / video / f"{name}.png", labels.astype(np.int32), entries[-1]["segments_info"])
        for entry in found:
            for segment in entry["segments_info"]:
                segment["category_id"] = segment["category_id"] if named else 0
                if segment["category_id"] >= stuff:
                    raise Unusable(f"{scored.label}: category {segment['category_id']} is no class of the model: its pack has the ids of a "
                                   "data set, so score the run against that one with jetbench score")
            file = Path("pan_pred") / video / entry["file_name"]
            colours = np.array(Image.open(scored.masks / file)).astype(np.int32)
            write(root / "pred" / file, colours @ [1, 256, 65536], entry["segments_info"])
        videos.append({"video_id": video, "images": [{"file_name": f"{name}.png"} for name in told]})
        for side, of in zip(sides, (entries, found)):
            side.append({"video_id": video, "annotations": of})
    names = scored.classes if named else ["object"]
    categories = [*({"id": n, "name": name, "isthing": 1} for n, name in enumerate(names)), {"id": stuff, "name": "none", "isthing": 0}]
    truth = {"videos": videos, "annotations": sides[0], "categories": categories}
    (root / "panoptic_gt_VIPSeg_val.json").write_text(json.dumps(truth))
    (root / "pred/pred.json").write_text(json.dumps({"annotations": sides[1]}))


def vipseg(root: Path, lengths: int) -> dict[str, float]:
    """Both of VIPSeg's evaluators, which are on the path, the first by its own function for one process. VPQ is the mean over so many
    lengths of windows, the shortest first."""
    vpq, stq = (importlib.import_module(f"eval_{name}_vspw") for name in ("vpq", "stq"))
    windows: list[tuple[float, ...]] = []
    found: dict[str, float] = {}

    def one_process(split: list, categories: dict, frames: int, out: str, _processes: int) -> tuple[float, float, float]:
        scores = vpq.vpq_compute(split, categories, frames, out)
        windows.append(tuple(map(float, scores)))
        return scores

    def keep(metric: object) -> dict:
        said = result(metric)
        found.update({name: 100 * float(said[theirs]) for name, theirs in (("stq", "STQ"), ("aq", "AQ"), ("sq", "IoU"))})
        return said

    result = stq.numpy_stq.STQuality.result
    vpq.vpq_compute_parallel, stq.numpy_stq.STQuality.result = one_process, keep
    sys.argv = ["", "--submit_dir", str(root / "pred"), "--truth_dir", str(root / "panomasksRGB"), "--pan_gt_json_file",
                str(root / "panoptic_gt_VIPSeg_val.json")]
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            vpq.main()
            stq.main()
    finally:
        stq.numpy_stq.STQuality.result = result
    every, things, stuff = (sum(part[:lengths]) / lengths for part in zip(*windows))
    return {"vpq": every, "vpq_things": things, "vpq_stuff": stuff, **found}


def vipseg_of_jetbench(program: Path, root: Path) -> dict[str, float]:
    command = [program, "score", root, root / "pred", "--protocol", "vipseg", "--json"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    if said.returncode:
        raise Unusable(f"{program}: {said.stderr.strip()}")
    found = json.loads(said.stdout)
    vpq = found["vpq_final"]
    figures = {"vpq": vpq["all"], "vpq_things": vpq["things"], "vpq_stuff": vpq["stuff"], **found["stq"]}
    return {name: 100 * value for name, value in figures.items()}


def rescored(scored: Scored, args: argparse.Namespace, root: Path) -> list[tuple[str, dict[str, float]]]:
    """Figures by tool; what a tool prints goes nowhere."""
    done: list[tuple[str, dict[str, float]]] = []
    if scored.description and scored.form != "vipseg":
        raise Unusable(f"{scored.label}: of runs on VIPSeg, panoptic segments alone are scored again (--save-masks=vipseg)")
    with contextlib.redirect_stdout(io.StringIO()):
        if scored.form == "labels":
            write_labels(scored, root)
            done.append(("TrackEval, label maps", trackeval_labels(root)))
            if args.davis:
                done.append(("davis2017-evaluation, label maps", davis(args.davis, root)))
        elif scored.form == "mots":
            done.append(("TrackEval, MOTS text", trackeval_mots(scored, root)))
        elif scored.form == "vipseg":
            if args.vipseg:
                sys.path.insert(0, str(args.vipseg / "ClipPanoFCN"))
                if scored.description:
                    # A run's VPQ is that of papers, over windows of 1, 2, 4 and 6 frames; the tool's own mean has those of 8, too.
                    panoptic_truth(scored, scored.description, root)
                    done.append(("VIPSeg-Dataset, panoptic segments of a run on VIPSeg", vipseg(root, 4)))
                    scored.own = scored.own["panoptic"]
                else:
                    write_vipseg(scored, root)
                    done.append(("VIPSeg-Dataset, panoptic segments", vipseg(root, 5)))
                    scored.own = vipseg_of_jetbench(args.jetbench, root)
        elif args.ytvis:
            done.append(("youtubevos/cocoapi, result JSON", ytvis(args.ytvis, scored, root)))
    return done


def main() -> int:
    options = argparse.ArgumentParser(prog="scripts/rescore.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a finished run with saved masks")
    options.add_argument("--davis", type=Path, metavar="DIR", help="checkout of davis2017-evaluation")
    options.add_argument("--ytvis", type=Path, metavar="DIR", help="checkout of youtubevos/cocoapi")
    options.add_argument("--vipseg", type=Path, metavar="DIR", help="checkout of VIPSeg-Dataset")
    options.add_argument("--jetbench", type=Path, metavar="FILE", default=Path("target/release/jetbench"),
                         help="program that scores panoptic segments (default: target/release/jetbench)")
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
                    wanted = {"labels": "davis", "mots": None}.get(scored.form, scored.form)
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
    except (Unusable, OSError, LookupError, ValueError, TypeError, ImportError, AssertionError, ArithmeticError) as error:
        print(f"error: {str(error) or repr(error)}", file=sys.stderr)
        return 2
    if tools == 0:
        print("error: no tool for these masks was named: --davis, --ytvis, --vipseg", file=sys.stderr)
        return 2
    print(f"largest difference: {worst:.1e}")
    return 1 if worst > TOLERANCE else 0


if __name__ == "__main__":
    sys.exit(main())
