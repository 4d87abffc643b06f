"""Adds int8 graphs to a tracker's pack: calibrated on clips, judged on others, written beside the fp32 graphs.

The fp32 graphs track clips, and the largest magnitudes of all values that would be quantised are watched; how much of each
range is worth keeping is tried on the same frames (pack/int8.py has the form of the graphs). Frames of other clips then say what
each graph costs: the relative rms error of every output against fp32, from the same inputs. A graph above --limit gives products
back to fp32, those that cost most alone first, until it is within. A graph that stays fp32 as a whole has no file of its own:
pack.toml names the fp32 file for int8 too.

Clips: every second one calibrates, the others judge. --data takes a folder in SA-V layout (JPEGImages_24fps, Annotations_6fps),
which should look like what the model will see; without it clips are drawn. A golden reference gets limits for
`jetbench verify --dtype int8`: what the int8 graphs differ from it by, with room.

Example (give the copy an id of its own in its pack.toml):
    jetbench packs copy packs/sam2.1_tiny packs/sam2.1_tiny_int8
    python -m jetbench_models int8 --pack packs/sam2.1_tiny_int8 --data /data/my_clips
"""
from __future__ import annotations

import json
import re
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from ..clips import KINDS
from ..clips.heldout import held_out_clips
from ..clips.prompts import derive
from ..command import Refused, existing_folder, existing_pack, finite, parser, positive, progress
from ..pack import int8, limits
from ..pack.loop import Pack, run_clip, upsample
from ..pack.reference import read_golden

Array = np.ndarray
SEED = 660_000            # of drawn clips: not those of training, of the demo or of held-out sets
DRAWN = (("hard", 4), ("gone", 2))
SAMPLES = 8               # inputs per graph that are kept to judge it
WANTED = 0.1              # largest relative error of an output


@dataclass(frozen=True)
class Clip:
    """Frames uint8 [T,h,w,3] from the first with an object on, and per object its masks bool [h,w] by frame; 0 is the prompted one."""

    name: str
    frames: Array
    objects: list[dict[int, Array]]


def drawn(size: int, frames: int) -> list[Clip]:
    clips = []
    for mode, count in DRAWN:
        for i, (images, masks) in enumerate(held_out_clips(mode, count, frames, size, SEED)):
            clips.append(Clip(f"{mode} {i}", images, [dict(enumerate(mask)) for mask in masks]))
    return clips


def read_clips(data: Path, most: int, frames: int) -> list[Clip]:
    """The first ``most`` clips of a folder in SA-V layout, from the first annotated frame on, with the objects that are on it."""
    clips = []
    for folder in sorted((data / "Annotations_6fps").glob("*/")):
        images = sorted((data / "JPEGImages_24fps" / folder.name).glob("*.*"))
        at = {path.stem: i for i, path in enumerate(images)}
        tracks = [{at[p.stem]: np.asarray(Image.open(p)) > 0 for p in sorted(place.glob("*.png")) if p.stem in at}
                  for place in sorted(folder.glob("*/"))]
        visible = [min((t for t, mask in track.items() if mask.any()), default=len(images)) for track in tracks]
        begin = min(visible, default=len(images))
        if len(images) - begin < 2:
            continue
        objects = [{t - begin: m for t, m in track.items() if begin <= t < begin + frames}
                   for track, first in zip(tracks, visible) if first == begin]
        pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in images[begin:begin + frames]])
        clips.append(Clip(folder.name, pixels, objects))
        if len(clips) == most:
            break
    if len(clips) < 2:
        raise Refused(f"{data}: {len(clips)} usable clips; at least 2 in SA-V layout are needed, one to calibrate and one to judge "
                      "(JPEGImages_24fps/NAME/*.jpg, Annotations_6fps/NAME/OBJECT/*.png)")
    return clips


class Watched(Pack):
    """The fp32 graphs that every engine gets, which tell ``listener`` what goes in and what comes out."""

    def __init__(self, root: Path, threads: int):
        super().__init__(root, threads=threads, plain=True, lean=True)
        self.models = {g["name"]: onnx.load(root / g["files"]["fp32"]) for g in self.about["graph"]}
        self.listener: Callable[[str, dict[str, Array], dict[str, Array]], None] = lambda *_: None

    def run(self, graph: str, **inputs: Array) -> dict[str, Array]:
        out = super().run(graph, **inputs)
        self.listener(graph, inputs, out)
        return {name: value for name, value in out.items() if not name.endswith((int8.MOST, int8.ERRORS))}

    def load(self, changed: Callable[[str], onnx.ModelProto]) -> None:
        """Replaces the sessions by those of other graphs, one after another: two of a large encoder would not fit."""
        self.sessions.clear()
        for name in self.models:
            self.sessions[name] = self.session(changed(name))

    def track(self, clips: list[Clip]) -> None:
        """Tracks the clips with every kind of prompt that the pack takes, one object each."""
        kinds = self.about["prompts"]["kinds"]
        for i, clip in enumerate(clips):
            progress.step(f"{clip.name}, {i + 1} of {len(clips)}")
            run_clip(self, clip.frames, [derive(clip.objects[i % len(clip.objects)][0], kind) for kind in kinds])


@dataclass
class Graph:
    """One graph on its way: ends of ranges, samples (inputs and fp32 outputs), results of the products that are int8."""

    name: str
    model: onnx.ModelProto
    states: frozenset[str]
    ends: dict[str, float] = field(default_factory=dict)
    samples: list[tuple[dict[str, Array], dict[str, Array]]] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)
    errors: dict[str, float] = field(default_factory=dict)
    all_errors: dict[str, float] = field(default_factory=dict)     # with every product quantised that can be

    @property
    def whole(self) -> bool:
        """Does it stay float as a whole?"""
        return not self.chosen

    def candidates(self) -> list[str]:
        return [p.result for p in int8.products(self.model)[0].values()]

    def quantised(self, only: list[str]) -> onnx.ModelProto:
        return int8.to_int8(self.model, self.ends, only)


def calibrate(pack: Watched, graphs: dict[str, Graph], clips: list[Clip]) -> None:
    """Finds the end of every range: the share of its largest magnitude that leaves the least squared error on the clips."""
    most: dict[str, dict[str, float]] = {name: defaultdict(float) for name in graphs}
    errors: dict[str, dict[str, Array]] = {name: defaultdict(lambda: np.zeros(len(int8.SHARES))) for name in graphs}

    def watch(name: str, _: dict[str, Array], out: dict[str, Array]) -> None:
        for key, value in out.items():
            if key.endswith(int8.MOST):
                of = most[name]
                of[key.removesuffix(int8.MOST)] = max(of[key.removesuffix(int8.MOST)], float(value[0]))

    def attempt(name: str, _: dict[str, Array], out: dict[str, Array]) -> None:
        for key, value in out.items():
            if key.endswith(int8.ERRORS):
                errors[name][key.removesuffix(int8.ERRORS)] += value

    for stage, listener, change in (("ranges", watch, lambda name: int8.watched(pack.models[name])),
                                    ("steps", attempt, lambda name: int8.tried(pack.models[name], most[name]))):
        progress.stage = stage
        pack.load(change)
        pack.listener = listener
        pack.track(clips)
    pack.load(pack.models.__getitem__)
    pack.listener = lambda *_: None
    for name, graph in graphs.items():
        if not most[name]:
            raise Refused(f"graph {name} has no product to quantise, or no clip ran it")
        graph.ends = {value: end * int8.SHARES[int(np.argmin(errors[name][value]))] for value, end in most[name].items()}


def sample(pack: Watched, graphs: dict[str, Graph], clips: list[Clip]) -> None:
    """Keeps inputs and outputs of some calls of every graph, spread over the clips."""
    calls: dict[str, int] = defaultdict(int)
    rng = np.random.default_rng(SEED)

    def keep(name: str, inputs: dict[str, Array], out: dict[str, Array]) -> None:
        calls[name] += 1
        kept = graphs[name].samples
        if len(kept) < SAMPLES:
            kept.append((inputs, out))
        elif (place := int(rng.integers(calls[name]))) < SAMPLES:       # each call is as likely to be among those kept
            kept[place] = (inputs, out)

    progress.stage = "samples"
    pack.listener = keep
    pack.track(clips)
    pack.listener = lambda *_: None
    pack.sessions.clear()


def errors(pack: Pack, graph: Graph, only: list[str]) -> dict[str, float]:
    """Relative rms error of each output with some products quantised. Of a state only what the graph has computed anew is counted:
    most of it is copied, and would hide an error."""
    session = pack.session(graph.quantised(only))
    wrong: dict[str, float] = defaultdict(float)
    size: dict[str, float] = defaultdict(float)
    names = [o.name for o in session.get_outputs()]
    for inputs, expected in graph.samples:
        for name, found in zip(names, session.run(None, inputs)):
            gap = found.astype(np.float64) - expected[name]
            of = expected[name][gap != 0] if name in graph.states else expected[name]
            wrong[name] += float((gap ** 2).sum())
            size[name] += float((of.astype(np.float64) ** 2).sum())
    return {name: (float(np.sqrt(wrong[name] / size[name])) if size[name] else float("inf")) if wrong[name] else 0.0 for name in names}


def _within(costs: dict[str, float], limit: float) -> bool:
    """Is every output within the limit? One that is no number is not."""
    return all(cost <= limit for cost in costs.values())


def settle(pack: Pack, graph: Graph, limit: float) -> None:
    """Chooses the products that are int8: all, or without those that cost most alone, as few as keep every output within the limit."""
    if not graph.samples:
        raise Refused(f"no judging clip ran graph {graph.name}: give more clips (--data, --clips) or longer ones (--frames)")
    found = graph.candidates()
    graph.chosen, graph.errors = found, errors(pack, graph, found)
    graph.all_errors = graph.errors
    if _within(graph.errors, limit):
        return
    alone = {}
    for i, result in enumerate(found):
        progress.step(f"{graph.name}: product {i + 1} of {len(found)} alone")
        alone[result] = max(np.nan_to_num(cost, nan=np.inf) for cost in errors(pack, graph, [result]).values())
    ranked = sorted(found, key=lambda result: (alone[result], result))     # cheapest first
    within, without = 0, len(ranked)                                        # so many are fine, so many are not
    graph.errors = dict.fromkeys(graph.errors, 0.0)
    while without - within > 1:
        middle = (within + without) // 2
        costs = errors(pack, graph, ranked[:middle])
        if _within(costs, limit):
            within, graph.errors = middle, costs
        else:
            without = middle
    graph.chosen = ranked[:within]


def mean_j(pack: Pack, clips: list[Clip]) -> float:
    """Mean over objects of the mean J of their annotated frames after the prompted one, from a click; 0..100."""
    tracks = []
    for clip in clips:
        height, width = clip.frames.shape[1:3]
        found = run_clip(pack, clip.frames, [derive(masks[0], "points" if "points" in pack.about["prompts"]["kinds"] else "bbox")
                                             for masks in clip.objects])
        for masks, results in zip(clip.objects, found):
            frames = []
            for t, truth in masks.items():
                if 0 < t < len(results):
                    mask = upsample(results[t].low_res, height, width) > 0 if results[t].object_score > 0 else np.zeros_like(truth)
                    union = (mask | truth).sum()
                    frames.append(float((mask & truth).sum() / union) if union else 1.0)
            if frames:
                tracks.append(float(np.mean(frames)))
    return 100 * float(np.mean(tracks)) if tracks else float("nan")


# ------------------------------------------------------------------------------------------------------------ writing
def with_int8(text: str, files: dict[str, tuple[str, str]], note: str) -> str:
    """pack.toml with int8 files (graph -> file, digest) and a note on them. Whatever stands there for int8 already is replaced."""
    before = tomllib.loads(text)
    blocks = re.split(r"(?m)^(?=\[\[graph\]\])", text)
    for i, graph in enumerate(before["graph"], 1):
        for key, value in zip(("files", "sha256"), files[graph["name"]]):
            blocks[i] = re.sub(rf'(?m)^({key} = {{.*?)(?:, int8 = "[^"]*")? }}$', rf'\1, int8 = "{value}" }}', blocks[i], count=1)
    if not any(int8.RULES[0] in block for block in blocks):
        blocks[0] += "".join(f"# {line}\n" for line in int8.RULES) + "\n"
    text = "".join(blocks)
    plain = re.sub(r" ?int8: .*$", "", before["provenance"].get("notes", ""))
    notes = f"notes = {json.dumps(f'{plain} {note}'.strip())}"
    if "notes" in before["provenance"]:
        text = re.sub(r"(?m)^notes = .*$", lambda _: notes, text, count=1)
    else:
        text = text.replace("[provenance]\n", f"[provenance]\n{notes}\n", 1)
    after = tomllib.loads(text)
    added = {g["name"]: (g["files"].get("int8"), g["sha256"].get("int8")) for g in after["graph"]}
    if added != files or note not in after["provenance"]["notes"]:
        raise Refused("pack.toml is not written as the exporter writes it (files = { … } and sha256 = { … } on one line each): "
                      "int8 cannot be added")
    return text


def write(root: Path, graphs: dict[str, Graph], note: str) -> dict[str, tuple[int, int]]:
    """Writes int8 graphs and manifest; bytes of every graph in fp32 and in int8."""
    manifest = (root / "pack.toml").read_text(encoding="utf-8")
    fp32 = {g["name"]: (g["files"]["fp32"], g["sha256"]["fp32"]) for g in tomllib.loads(manifest)["graph"]}
    files, sizes, made = {}, {}, {}
    for name, graph in graphs.items():
        before = (root / fp32[name][0]).stat().st_size
        if graph.whole:
            files[name], sizes[name] = fp32[name], (before, before)
            continue
        made[name] = graph.quantised(graph.chosen).SerializeToString()
        files[name] = (f"int8/{name}.onnx", sha256(made[name]).hexdigest())
        sizes[name] = (before, len(made[name]))
    text = with_int8(manifest, files, note)
    (root / "int8").mkdir(exist_ok=True)
    for name, data in made.items():
        (root / f"int8/{name}.onnx").write_bytes(data)
    (root / "pack.toml").write_text(text, encoding="utf-8")
    for stale in (root / "int8").glob("*.onnx"):
        if stale.stem not in made:
            stale.unlink()
    return sizes


def golden_limits(root: Path, threads: int) -> dict[str, float] | None:
    """Limits for int8 in golden.json, from what the pack's int8 graphs differ from the reference by; None without a reference.

    Raises Refused where a comparison with such limits would prove nothing.
    """
    path = root / "reference/golden.json"
    if not path.is_file():
        return None
    index, clips = read_golden(root)
    pack = Pack(root, "int8", threads, lean=True)
    pairs = [pair for frames, tracks in clips for pair in zip(tracks, run_clip(pack, frames, [t.prompt for t in tracks]))]
    found = limits.int8_limits(limits.int8_figures(pairs))
    if beyond := limits.int8_beyond(found):
        raise Refused(f"{root}: int8 differs too much from the golden reference for a comparison to prove anything ({beyond}); "
                      "a smaller --limit keeps more in fp32, and calibration wants clips like those of the reference")
    index["int8"] = found
    path.write_text(json.dumps(index, separators=(",", ":")), encoding="utf-8")
    return found


def described(graphs: dict[str, Graph], clips: int, source: str, limit: float) -> str:
    """The note in pack.toml."""
    parts = []
    for name, graph in graphs.items():
        total = int8.products(graph.model)[1]
        parts.append(f"{name} stays fp32 as a whole" if graph.whole else f"{name} {len(graph.chosen)} of {total}")
    return (f"int8: calibrated on {clips} {source}, judged on others, at most {limit:g} of its size for any output of a graph; "
            f"int8 products: {', '.join(parts)}.")


def table(graphs: dict[str, Graph], sizes: dict[str, tuple[int, int]]) -> Iterator[str]:
    yield "| graph | int8 products | relative rms error (all that can be) | kB fp32 | kB int8 |"
    yield "|---|---|---|--:|--:|"
    for name, graph in graphs.items():
        count = "none: fp32 as a whole" if graph.whole else f"{len(graph.chosen)} of {int8.products(graph.model)[1]}"
        shown = ", ".join(f"`{output}` {error:.1e} ({graph.all_errors[output]:.1e})" for output, error in graph.errors.items())
        yield f"| `{name}` | {count} | {shown} | {sizes[name][0] / 1e3:.0f} | {sizes[name][1] / 1e3:.0f} |"


def add(root: Path, clips: list[Clip], source: str, limit: float, threads: int) -> None:
    """Calibrates, judges, writes, and prints what came of it."""
    judged, calibrating = clips[1::2], clips[::2]
    pack = Watched(root, threads)
    states = frozenset(state["output"] for state in pack.about.get("state", []))
    graphs = {name: Graph(name, model, states) for name, model in pack.models.items()}
    calibrate(pack, graphs, calibrating)
    sample(pack, graphs, judged)
    progress.stage = "products"
    for graph in graphs.values():
        settle(pack, graph, limit)
    manifest, earlier = (root / "pack.toml").read_text(encoding="utf-8"), {f: f.read_bytes() for f in (root / "int8").glob("*.onnx")}
    try:
        sizes = write(root, graphs, described(graphs, len(calibrating), source, limit))
        allowed = golden_limits(root, threads)
    except BaseException:    # the pack is then as it was
        for file in (root / "int8").glob("*.onnx"):
            file.unlink()
        for file, data in earlier.items():
            file.write_bytes(data)
        if not earlier and (root / "int8").is_dir():
            (root / "int8").rmdir()
        (root / "pack.toml").write_text(manifest, encoding="utf-8")
        raise
    print("\n".join(table(graphs, sizes)))
    progress.stage = "accuracy"
    j = [mean_j(Pack(root, precision, threads, plain=True, lean=True), judged) for precision in ("fp32", "int8")]
    print(f"mean J on {len(judged)} clips that did not calibrate: fp32 {j[0]:.1f}, int8 {j[1]:.1f}")
    print("no golden reference: nothing for jetbench verify" if allowed is None else
          "limits for jetbench verify --dtype int8: " + ", ".join(f"{name} {value:g}" for name, value in allowed.items()))


def main(argv: list[str]) -> int:
    options = parser("int8", __doc__)
    options.add_argument("--pack", type=existing_pack, required=True, help="a tracker's pack with fp32 graphs; int8 graphs are added to it")
    options.add_argument("--data", type=existing_folder, metavar="DIR", help="clips with masks, in SA-V layout (default: drawn ones)")
    options.add_argument("--clips", type=positive, default=8, metavar="N", help="at most so many clips of --data (default: 8)")
    options.add_argument("--frames", type=positive, default=16, metavar="N", help="frames of each clip (default: 16)")
    options.add_argument("--limit", type=finite, default=WANTED, metavar="X",
                         help=f"largest relative rms error of an output of a graph (default: {WANTED:g})")
    options.add_argument("--threads", type=positive, default=1)
    args = options.parse_args(argv)
    about = tomllib.loads((args.pack / "pack.toml").read_text(encoding="utf-8"))
    if not set(about.get("prompts", {}).get("kinds", [])) & set(KINDS) or "memory" not in about:
        raise Refused(f"{args.pack}: family {about.get('family')}; int8 is made of trackers with a memory only")
    if any("weights" in graph for graph in about["graph"]):
        raise Refused(f"{args.pack}: weights lie in files beside the graphs; int8 is made of graphs that hold theirs")
    if args.limit <= 0:
        options.error("--limit is above 0")
    progress.start()
    size = int(about["input"]["size"])
    clips = read_clips(args.data, args.clips, args.frames) if args.data else drawn(size, args.frames)
    add(args.pack, clips, f"clips of {args.data.name}" if args.data else "drawn clips", args.limit, args.threads)
    return 0
