#!/usr/bin/env python3
"""What transformers' session makes of prompts that no golden reference has: two clicks, a negative click, a box on
frame 10. Writes sam2_mini.json and edgetam_mini.json beside itself.

    python3 make.py     # needs what the exporter needs; some minutes

The weights of the shipped packs are taken from their fp32 graphs: a model whose parameters are all distinct (seeded) is
exported, which tells where in the graphs each parameter lies, and the shipped graphs have the trained one there. Nothing
is written unless the session then gives the object scores of the packs' own golden reference.
"""

import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from PIL import Image
from torch import nn

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from jetbench_models.clips.prompts import TrackPrompt, run_lengths  # noqa: E402
from jetbench_models.export.convert import fuse  # noqa: E402
from jetbench_models.models import weights  # noqa: E402
from jetbench_models.models.miniature import IMAGE_SIZE, build  # noqa: E402
from jetbench_models.models.session import processor, run_session  # noqa: E402

CLIP = "g2"
CLOSE = 1e-6          # values that the exporter computes and numpy computes again
Find = Callable[[np.ndarray], np.ndarray]


def distinct(arch: str, place: Path) -> nn.Module:
    """A model with distinct parameters, its fp32 graphs in ``place``/pack."""
    model = build(arch, IMAGE_SIZE)
    random = torch.Generator().manual_seed(11)
    state = {}
    for name, value in model.state_dict().items():
        centre = 1.0 if "running_var" in name or (name.endswith("weight") and value.ndim == 1) else 0.0
        drawn = torch.rand(value.shape, generator=random) * 0.2 - 0.1 + centre
        state[name] = drawn if value.is_floating_point() else value
    weights.save(place / "distinct.safetensors", state, arch, IMAGE_SIZE)
    export = [sys.executable, "-m", "jetbench_models", "export", "--dtype", "fp32", "--frames", "0"]
    subprocess.run([*export, "--checkpoint", place / "distinct.safetensors", "--out", place / "pack"], cwd=ROOT / "scripts", check=True)
    return weights.load(place / "distinct.safetensors")[0]


def finder(ours: Path, theirs: Path) -> Find:
    """Values of the graphs in ``ours`` -> those in the same places of the graphs in ``theirs``."""
    places: dict[int, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    for file in sorted(ours.glob("*.onnx")):
        a, b = onnx.load(file).graph, onnx.load(theirs / file.name).graph
        if [n.op_type for n in a.node] != [n.op_type for n in b.node]:
            raise SystemExit(f"{file.name}: this exporter writes another graph than the shipped one")
        in_a, in_b = ({t.name: numpy_helper.to_array(t) for t in graph.initializer} for graph in (a, b))
        inputs = (zip(x.input, y.input, strict=True) for x, y in zip(a.node, b.node, strict=True))
        for p, q in itertools.chain.from_iterable(inputs):
            if p in in_a and q in in_b and in_a[p].shape == in_b[q].shape and in_a[p].dtype.kind == "f":
                places.setdefault(in_a[p].size, []).append((np.sort(in_a[p].ravel()), in_a[p], in_b[q]))

    def find(value: np.ndarray) -> np.ndarray:
        ordered, index = np.sort(value.ravel()), np.arange(value.size).reshape(value.shape)
        for values, a, b in places.get(value.size, []):
            if np.abs(values - ordered).max() >= CLOSE:
                continue
            for axes in itertools.permutations(range(value.ndim)):
                if np.abs(value.transpose(axes).ravel() - a.ravel()).max() < CLOSE:
                    found = np.empty(value.size, np.float32)
                    found[index.transpose(axes).ravel()] = b.ravel()
                    return found.reshape(value.shape)
            if len(np.unique(value)) == value.size:         # cut into pieces and put together anew
                found = np.empty(value.size, np.float32)
                found[np.argsort(value.ravel())] = b.ravel()[np.argsort(a.ravel())]
                return found.reshape(value.shape)
        raise KeyError(value.shape)
    return find


def merged(state: dict[str, np.ndarray], find: Find) -> dict[str, np.ndarray]:
    """The parameters that the exporter merges with others, so that the product is that of the graphs."""
    new: dict[str, np.ndarray] = {}
    fourier = np.stack([find(row) for row in state["prompt_encoder.shared_embedding.positional_embedding"]])
    new["prompt_encoder.shared_embedding.positional_embedding"] = new["shared_image_embedding.positional_embedding"] = fourier
    new["prompt_encoder.point_embed.weight"] = np.stack([find(row) for row in state["prompt_encoder.point_embed.weight"]])
    names = [f"mask_decoder.{name}.weight" for name in ("obj_score_token", "iou_token", "mask_tokens")]
    tokens = find(np.concatenate([state[name] for name in names]))
    new.update(zip(names, (tokens[:1], tokens[1:2], tokens[2:]), strict=True))
    for level, name in ((3, "conv_s0"), (2, "conv_s1")):
        neck, decoder = f"vision_encoder.neck.convs.{level}", f"mask_decoder.{name}"
        first, second = (state[f"{name}.weight"][:, :, 0, 0].astype(float) for name in (neck, decoder))
        bias = second @ state[f"{neck}.bias"] + state[f"{decoder}.bias"]
        new[f"{decoder}.bias"] = find(bias.astype(np.float32))
        new[f"{neck}.weight"] = np.eye(*first.shape, dtype=np.float32)[:, :, None, None]
        new[f"{neck}.bias"] = np.zeros(len(first), np.float32)
        product = find((second @ first).astype(np.float32)[:, :, None, None])
        new[f"{decoder}.weight"] = np.pad(product, ((0, 0), (0, len(first) - product.shape[1]), (0, 0), (0, 0)))
    for layer in range(3):                     # a normalisation follows, which takes the mean away again
        name = f"memory_encoder.mask_downsampler.layers.{layer}.conv"
        for part in ("weight", "bias"):
            value = state[f"{name}.{part}"].astype(float)
            new[f"{name}.{part}"] = find((value - value.mean(0, keepdims=True)).astype(np.float32))
    name = "memory_encoder.memory_fuser.layers.0"
    scale = state[f"{name}.scale"].astype(float)
    new[f"{name}.scale"] = np.ones(len(scale), np.float32)
    for part in ("weight", "bias"):
        value = state[f"{name}.pointwise_conv2.{part}"].astype(float)
        scaled = scale.reshape(-1, *[1] * (value.ndim - 1)) * value
        new[f"{name}.pointwise_conv2.{part}"] = find(scaled.astype(np.float32))
    return new


def trained(arch: str) -> nn.Module:
    """The model of the shipped pack, RepViT's normalisations merged into its convolutions."""
    with tempfile.TemporaryDirectory() as place:
        model = fuse(distinct(arch, Path(place)))
        find = finder(Path(place) / "pack" / "fp32", ROOT / f"assets/packs/{arch}_mini/fp32")
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    new = merged(state, find)
    for name in state.keys() - new.keys() - {"no_memory_positional_encoding"}:       # that one is never used
        new[name] = find(state[name]) if state[name].dtype.kind == "f" else state[name]
    whole = {name: np.ascontiguousarray(new.get(name, value)) for name, value in state.items()}
    model.load_state_dict({name: torch.from_numpy(value) for name, value in whole.items()})
    return model.eval()


def prove(model: nn.Module, golden: dict, frames: np.ndarray) -> None:
    """Does the session give the scores of the pack's golden reference?"""
    tracks = next(clip["tracks"] for clip in golden["clips"] if clip["name"] == CLIP)
    prompts = [TrackPrompt.from_json(track["prompt"], *frames.shape[1:3]) for track in tracks]
    for track, found in zip(tracks, run_session(model, frames, prompts), strict=True):
        apart = np.abs(found.object_score - np.array(track["object_score"])).max()
        if apart > golden["tolerance"]["object_score"]:
            raise SystemExit(f"the session gives other scores than the golden reference: {apart}")


@torch.inference_mode()
def masks(model: nn.Module, frames: np.ndarray, prompt: dict) -> np.ndarray:
    """bool [frames from the prompt on, h, w]: one session with one object."""
    process = processor(model.config.image_size)
    session = process.init_video_session(video=torch.from_numpy(frames).permute(0, 3, 1, 2), dtype=torch.float32)
    if "box" in prompt:
        given = {"input_boxes": [[[float(v) for v in prompt["box"]]]]}
    else:
        given = {"input_points": [[[[float(c["x"]), float(c["y"])] for c in prompt["clicks"]]]],
                 "input_labels": [[[int(c.get("positive", True)) for c in prompt["clicks"]]]]}
    first = prompt["frame"]
    process.add_inputs_to_inference_session(session, first, 1, **given)
    model(inference_session=session, frame_idx=first)
    found = []
    for out in model.propagate_in_video_iterator(session, start_frame_idx=first, max_frame_num_to_track=len(frames) - 1 - first):
        full = process.post_process_masks([out.pred_masks], original_sizes=[list(frames.shape[1:3])], binarize=False)[0]
        found.append((full[0, 0] > 0).numpy())
    return np.stack(found)


def main() -> None:
    torch.set_num_threads(1)
    folder = ROOT / "assets/golden" / CLIP
    frames = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in sorted(folder.glob("*.png"))])
    for arch in ("sam2", "edgetam"):
        model = trained(arch)
        prove(model, json.loads((ROOT / f"assets/packs/{arch}_mini/reference/golden.json").read_text()), frames)
        prompts = json.loads((HERE / "prompts.json").read_text())["prompts"]
        tracks = {prompt["object"]: masks(model, frames, prompt) for prompt in prompts}
        clicked = [tracks[p["object"]][0] for p in prompts if "clicks" in p]
        alike = any((a != b).sum() < 20 for a, b in itertools.combinations(clicked, 2))
        if alike or min(t[0].sum() for t in tracks.values()) < 50:
            raise SystemExit(f"{arch}: two prompts give nearly one mask, or a first mask is nearly empty: choose others")
        print(arch, {name: [int(m.sum()) for m in track] for name, track in tracks.items()})
        runs = {name: [run_lengths(m).tolist() for m in track] for name, track in tracks.items()}
        value = {"size": list(frames.shape[1:3]), "tracks": runs}
        (HERE / f"{arch}_mini.json").write_text(json.dumps(value, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
