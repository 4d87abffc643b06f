"""Reference tracking loop over the graphs of a pack: numpy and ONNX Runtime only, no torch.

This is the loop that the Rust runner implements, in its shortest form; ``verify`` compares it with the transformers session
API. It reads shapes and settings from pack.toml alone.
"""
from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from ..clips.prompts import TrackPrompt
from ..models import BOX_LABELS, NOT_A_POINT, UNUSED_POINT
from . import half, int8

Array = np.ndarray


@dataclass(frozen=True)
class FrameResult:
    """What one frame of one track leaves: logits [4f,4f], object score, object pointer [C]; with ``Pack(reveal=True)``
    which of the decoder's four masks was taken."""

    low_res: Array
    object_score: float
    obj_ptr: Array
    chosen: int | None = None


class Pack:
    """Loaded graphs of one precision. Half-precision graphs run in their CPU form (see ``half.emulate``), int8 ones as they are.

    ``objects`` fixes the object axis when the graphs are loaded: ONNX Runtime then knows every shape and computes as it
    does for a graph without that axis. None leaves it free, for batches. ``plain``: the graphs that other engines get, also
    where the pack has a form for the CPU (see ``fused``). ``lean``: as little memory as ONNX Runtime can do with.
    """

    def __init__(self, root: Path, precision: str = "fp32", threads: int = 1, objects: int | None = 1,
                 reveal: bool = False, plain: bool = False, lean: bool = False):
        self.about = tomllib.loads((root / "pack.toml").read_text(encoding="utf-8"))
        self.size = int(self.about["input"]["size"])
        self.mean = np.array(self.about["input"]["mean"], np.float32)
        self.std = np.array(self.about["input"]["std"], np.float32)
        self.slots = int(self.about["prompts"]["point_slots"])
        self.official = self.about["provenance"].get("follows") == "official"      # else transformers' session
        self.options = options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if lean:
            # Nodes run in the order they are written. In the usual order what leads to a later output, such as a watched range, may
            # come last, and all that it looks at is kept until then: gigabytes of a large encoder.
            options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
            options.enable_cpu_mem_arena = False        # an arena keeps up to twice what a graph needs
        if objects is not None:
            options.add_free_dimension_override_by_name("objects", objects)
            options.add_free_dimension_override_by_name("cond_objects", objects)
        self.sessions: dict[str, ort.InferenceSession] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for graph in self.about["graph"]:
            cpu = graph.get("cpu") if precision == "fp32" and not plain else None
            model = onnx.load(root / (cpu["file"] if cpu else graph["files"][precision]))
            if reveal and graph["name"] == "mask_decoder":
                _reveal_choice(model)
            if precision in half.HALF_TYPES:
                model = half.emulate(model)
            self.sessions[graph["name"]] = self.session(model)
            # objects are the only axis without a fixed size; packs for one object have 1 in its place. In the form whose
            # memory grows, a state starts with none
            first = {"memories": 0, "pointers": 0}
            self.shapes.update({port["name"]: tuple(first.get(n, 1) if isinstance(n, str) else n for n in port["shape"])
                                for port in graph["inputs"]})
        self.grows = self.shapes["bank"][1] == 0

    def session(self, model: onnx.ModelProto) -> ort.InferenceSession:
        """A graph on the CPU, as this pack's are loaded; a quantised one without what would hide its products from int8 kernels."""
        hiding = int8.HIDING if any(node.op_type == "QuantizeLinear" for node in model.graph.node) else ()
        return ort.InferenceSession(model.SerializeToString(), self.options, providers=["CPUExecutionProvider"],
                                    disabled_optimizers=list(hiding))

    def run(self, graph: str, **inputs: Array) -> dict[str, Array]:
        session = self.sessions[graph]
        return dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs)))

    def pixels(self, frame: Array) -> Array:
        """uint8 [h,w,3] -> float32 [1,3,S,S]: antialiased bilinear with 8-bit rounding, then mean and deviation."""
        resized = resize_u8(frame, self.size, self.size)
        return (((resized.astype(np.float32) / 255) - self.mean) / self.std).transpose(2, 0, 1)[None].copy()

    def mask_input(self, mask: Array) -> Array:
        """bool [h,w] -> {0,1} float32 [1,1,S,S]: antialiased bilinear, then >= 0.5."""
        if mask.shape == (self.size, self.size):
            return mask.astype(np.float32)[None, None]
        return (resize_f32(mask.astype(np.float32), self.size, self.size) >= 0.5).astype(np.float32)[None, None]


def _reveal_choice(model: onnx.ModelProto) -> None:
    """Makes outputs of two values inside mask_decoder: "best" of the three masks, and "chosen", 1 if it was taken.

    predicted_iou = Where(chosen > 0.5, Where(first is best, first, Where(second is best, second, third)), of the single mask)
    """
    made_by = {output: node for node in model.graph.node for output in node.output}

    def made(name: str, *operators: str) -> onnx.NodeProto:
        node = made_by.get(name)
        if node is None or node.op_type not in operators:
            raise RuntimeError("mask_decoder: its choice of a mask is not where this version of the exporter puts it; export the "
                               "pack anew")
        return node

    choice = made("predicted_iou", "Where")
    flag = made(choice.input[0], "Greater").input[0]
    first = made(choice.input[1], "Where")
    second = made(first.input[2], "Where")
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.array(i, np.float32), f"number_{i}") for i in range(3))
    model.graph.node.extend([
        onnx.helper.make_node("Where", [second.input[0], "number_1", "number_2"], ["later"]),
        onnx.helper.make_node("Where", [first.input[0], "number_0", "later"], ["best"]),
        onnx.helper.make_node("Identity", [flag], ["chosen"])])
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("best", "chosen"))


# ----------------------------------------------------------------------------------------------------------- resizing
def triangle_taps(source: int, target: int, kind: type) -> list[tuple[int, Array]]:
    """Per output sample: first source index and weights that sum to 1. PyTorch's antialiased bilinear filter.

    The triangle has half width max(1, source/target) source samples; taps outside the image are dropped and the others
    renormalised. ``kind`` is the type that PyTorch computes the weights in: float64 for 8-bit images, float32 for floats.
    """
    scale = kind(source) / kind(target)
    support, shrink = max(scale, kind(1)), kind(1) / max(scale, kind(1))
    taps = []
    for i in range(target):
        centre = scale * (kind(i) + kind(0.5))
        first = max(int(centre - support + kind(0.5)), 0)
        last = min(int(centre + support + kind(0.5)), source)
        distance = (np.arange(first, last).astype(kind) - centre + kind(0.5)) * shrink
        weights = np.maximum(kind(1) - np.abs(distance), kind(0)).astype(kind)
        total = kind(0)
        for w in weights:
            total = kind(total + w)
        taps.append((first, weights / total))
    return taps


def _resize_rows_u8(image: Array, target: int) -> Array:
    """Along axis 1 of uint8 [h,w,c], with 16-bit fixed-point weights and rounding to 8 bits, as PyTorch does it."""
    taps = triangle_taps(image.shape[1], target, np.float64)
    largest, bits = max(w.max() for _, w in taps), 0
    while bits < 22 and int(0.5 + largest * (1 << (bits + 1))) < (1 << 15):
        bits += 1
    out = np.empty((image.shape[0], target, image.shape[2]), np.uint8)
    for i, (first, weights) in enumerate(taps):
        fixed = (0.5 + weights * (1 << bits)).astype(np.int64)
        total = (image[:, first:first + len(fixed)].astype(np.int64) * fixed[:, None]).sum(1) + (1 << (bits - 1))
        out[:, i] = np.clip(total >> bits, 0, 255)
    return out


def resize_u8(image: Array, height: int, width: int) -> Array:
    """uint8 [h,w,c] -> uint8 [height,width,c]: columns first, then rows, 8-bit rounding after each."""
    if image.shape[1] != width:
        image = _resize_rows_u8(image, width)
    if image.shape[0] != height:
        image = _resize_rows_u8(image.transpose(1, 0, 2), height).transpose(1, 0, 2)
    return image


def resize_f32(image: Array, height: int, width: int) -> Array:
    """float32 [h,w] -> [height,width]: columns first, then rows, float32 sums in the order of the taps."""
    def rows(x: Array, target: int) -> Array:
        out = np.zeros((x.shape[0], target), np.float32)
        for i, (first, weights) in enumerate(triangle_taps(x.shape[1], target, np.float32)):
            for j, w in enumerate(weights):
                out[:, i] += x[:, first + j] * w
        return out

    return rows(rows(image, width).T, height).T


def _each(count: int, value: float) -> Array:
    return np.full(count, value, np.float32)


def worth(out: dict[str, Array]) -> Array:
    """What a tracked frame is worth remembering, float32 [O]: max(0, 2 sigmoid(score) - 1) x IoU, from the decoder's outputs."""
    presence = 2 / (1 + np.exp(-out["object_score"])) - 1
    return (np.maximum(presence, 0) * out["predicted_iou"])[:, 0]


class Track:
    """Objects that are tracked together, as one batch. ``begin`` starts one; ``join`` makes a batch of several.

    ``tamper`` may alter the state {bank, ptrs, age} before each tracked frame: the negative tests. ``threshold``: tracked frames
    that are not worth more leave an object's state as it was, which is the runner's ``memory=gated``; None: every frame changes it.
    ``last``: every frame sees the one before it all the same (``memory=gated_last``).
    """

    def __init__(self, pack: Pack, tamper: Callable[[dict[str, Array]], None] | None = None, threshold: float | None = None,
                 last: bool = False):
        self.pack, self.tamper, self.threshold, self.last = pack, tamper, threshold, last
        self.state = {name: np.zeros(pack.shapes[name], np.float32) for name in ("bank", "ptrs", "age")}
        self.seen = self.state      # what the next frame sees

    @staticmethod
    def join(tracks: list[Track]) -> Track:
        """One batch of the objects of all tracks, in order."""
        joined = Track(tracks[0].pack, tracks[0].tamper, tracks[0].threshold, tracks[0].last)
        joined.state = {name: np.concatenate([t.state[name] for t in tracks]) for name in joined.state}
        joined.seen = {name: np.concatenate([t.seen[name] for t in tracks]) for name in joined.state}
        return joined

    @property
    def objects(self) -> int:
        return len(self.state["age"])

    def _decode(self, features: dict[str, Array], cond_embed: Array, points: Array, labels: Array, *, multimask: bool,
                is_prompt: bool, dense: Array | None = None) -> dict[str, Array]:
        pack, count = self.pack, self.objects
        coords = np.zeros((count, pack.slots, 2), np.float32)
        kinds = np.full((count, pack.slots), UNUSED_POINT, np.int32)
        coords[:, :len(points)], kinds[:, :len(labels)] = points, labels
        if dense is None:
            dense = np.zeros((count, *pack.shapes["dense_prompt"][1:]), np.float32)
            masked = 0.0
        else:
            masked = 1.0
        finer = {name: value for name, value in features.items() if name != "image_embed"}       # EfficientTAM has none
        return pack.run("mask_decoder", cond_embed=cond_embed, **finer, point_coords=coords, point_labels=kinds, dense_prompt=dense,
                        has_mask=_each(count, masked), is_prompt=_each(count, is_prompt),
                        multimask=_each(count, multimask))

    def _remember(self, features: dict[str, Array], out: dict[str, Array], is_prompt: bool) -> list[FrameResult]:
        started = {} if self.pack.grows else {"is_prompt": _each(self.objects, is_prompt)}
        after = self.pack.run("memory_encoder", image_embed=features["image_embed"],
                              mask_for_memory=out["mask_for_memory"], object_score=out["object_score"],
                              obj_ptr=out["obj_ptr"], **started, **self.state)
        kept = np.zeros(self.objects, bool)
        if self.threshold is not None and not is_prompt:
            kept = worth(out) <= np.float32(self.threshold)
        for name, before in self.state.items():
            new = after[f"{name}_out"]
            if not kept.all():
                self.state[name] = np.where(kept.reshape(-1, *[1] * (new.ndim - 1)), before, new) if kept.any() else new
        self.seen = {name: after[f"{name}_out"] for name in self.state} if self.last else self.state
        chosen: list[int | None] = [None] * self.objects
        if "chosen" in out:
            chosen = [int(best) + 1 if used else 0 for best, used in zip(out["best"].reshape(-1), out["chosen"].reshape(-1))]
        return [FrameResult(out["low_res_mask"][i, 0], float(out["object_score"][i, 0]), out["obj_ptr"][i], chosen[i])
                for i in range(self.objects)]

    def begin(self, features: dict[str, Array], prompt: TrackPrompt, width: int, height: int) -> FrameResult:
        """Prompted frame of one object. ``features``: outputs of image_encoder."""
        embed, origin = features["image_embed"], np.zeros((1, 2), np.float32)
        if prompt.kind == "mask":
            given = self.pack.run("mask_prompt", mask=self.pack.mask_input(prompt.full_mask()))
            out = self._decode(features, embed, origin, np.array([NOT_A_POINT]), multimask=True, is_prompt=True,
                               dense=given["dense_prompt"])
            return self._remember(features, {**out, **given}, True)[0]
        scale = np.array([self.pack.size / width, self.pack.size / height])
        if prompt.kind == "bbox":
            points, labels = np.array(prompt.box, np.float64).reshape(2, 2), np.array(BOX_LABELS)
        else:
            points, labels = np.array(prompt.points, np.float64)[:, :2], np.array(prompt.points)[:, 2]
        out = self._decode(features, embed, (points * scale).astype(np.float32), labels, multimask=len(points) == 1,
                           is_prompt=True)
        return self._remember(features, out, True)[0]

    def track(self, features: dict[str, Array]) -> list[FrameResult]:
        """Frame after the prompted one: one result per object."""
        if self.tamper:
            self.tamper(self.seen)
        cond = self.pack.run("memory_attention", image_embed=features["image_embed"], **self.seen)["cond_embed"]
        out = self._decode(features, cond, np.zeros((1, 2), np.float32), np.array([NOT_A_POINT]), multimask=True,
                           is_prompt=False)
        return self._remember(features, out, False)


def upsample(low_res: Array, height: int, width: int) -> Array:
    """Logits [n,n] -> [height,width]: bilinear, half-pixel centres, edge clamped, no antialiasing (float32)."""
    def taps(size: int, count: int) -> tuple[Array, Array, Array]:
        position = np.maximum((np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(count / size)
                              - np.float32(0.5), 0).astype(np.float32)
        low = np.minimum(position.astype(np.int64), count - 1)
        return low, np.minimum(low + 1, count - 1), (position - low).astype(np.float32)

    y0, y1, wy = taps(height, low_res.shape[0])
    x0, x1, wx = taps(width, low_res.shape[1])
    rows = low_res[:, x0] * (1 - wx) + low_res[:, x1] * wx
    return rows[y0] * (1 - wy)[:, None] + rows[y1] * wy[:, None]


def run_clip(pack: Pack, frames: Array, prompts: list[TrackPrompt],
             tamper: Callable[[dict[str, Array]], None] | None = None, noise: float = 0.0,
             seed: int = 0, batch: bool = False, threshold: float | None = None, last: bool = False) -> list[list[FrameResult]]:
    """Tracks every prompt (all on frame 0) through frames uint8 [T,h,w,3]; result [prompt][frame].

    ``batch``: all objects in one call of each graph. ``threshold``, ``last``: see ``Track``. ``noise``: standard deviation of a
    disturbance of the normalised pixels (drawn from ``seed``), to see how much a track hangs on rounding.
    """
    height, width = frames.shape[1:3]
    rng = np.random.default_rng(seed)
    tracks = [Track(pack, tamper, threshold, last) for _ in prompts]
    results: list[list[FrameResult]] = [[] for _ in prompts]
    for t, frame in enumerate(frames):
        pixels = pack.pixels(frame)
        if noise:
            pixels = pixels + rng.standard_normal(pixels.shape, np.float32) * np.float32(noise)
        features = pack.run("image_encoder", image=pixels)
        if t == 0:
            found = [track.begin(features, prompt, width, height) for track, prompt in zip(tracks, prompts)]
            if batch:
                tracks = [Track.join(tracks)]
        else:
            found = [result for track in tracks for result in track.track(features)]
        for row, result in zip(results, found):
            row.append(result)
    return results
