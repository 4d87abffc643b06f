"""Compares a pack with the official predictors: the same random weights as an official .pt file and as a pack.

The official packages (``sam2`` on the package index for SAM 2, ``edgetam-dimos`` for EdgeTAM; both install a package named
sam2, so each needs a folder of its own; for EfficientTAM a checkout of yformer/EfficientTAM, because the package on the index has
no configurations) build their predictor, which loads the .pt file; the exporter reads the same
file. Both track the object of a clip that leaves and returns, from the same pixels: the official frame reader, which resizes with
another filter, is replaced. Hole filling is off. No autocast. The pack follows the official code; ``--follow transformers`` shows what
the other choice differs by.

Example:
    pip install --target official/sam2 --no-deps sam2==1.1.0
    pip install --no-deps hydra-core omegaconf iopath portalocker antlr4-python3-runtime==4.9.3
    python -m jetbench_models official --package official/sam2 --model sam2.1_tiny --image-size 512
"""
from __future__ import annotations

import importlib
import logging
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import timm.models
import torch

from ..clips import KINDS
from ..clips.prompts import derive
from ..command import existing_folder, not_negative, parser, positive, some_of
from ..export import golden
from ..export.convert import write_graphs
from ..export.graphs.geometry import Geometry
from ..export.manifest import FOLLOWS, manifest
from ..export.presence import balance_presence
from ..models import MAX_POINTERS, efficienttam, released
from ..models.session import Reference
from ..pack import limits
from ..pack.loop import Pack, run_clip, upsample

CONFIGS = {"edgetam": "configs/edgetam.yaml"} | {
    f"{version}_{size}": f"configs/{version}/{version}_hiera_{letter}.yaml"
    for version in ("sam2", "sam2.1") for size, letter in (("tiny", "t"), ("small", "s"), ("base_plus", "b+"), ("large", "l"))} | {
    name: f"configs/efficienttam/{name}.yaml" for name in efficienttam.NAMES}


def package_of(name: str) -> str:
    """The Python package that holds a model's official code."""
    return "efficient_track_anything" if name in efficienttam.NAMES else "sam2"


def predictor(name: str, image_size: int):
    """The official video predictor with weights that are to be replaced."""
    if name in efficienttam.NAMES:
        from efficient_track_anything import build_efficienttam as builder
        compose = builder.compose      # without a GPU the builder forgets what it is to override
        builder.compose = lambda config_name, overrides: compose(config_name, [*overrides, f"++model.image_size={image_size}"])
        made = builder.build_efficienttam_video_predictor(CONFIGS[name], None, device="cpu")
        made.fill_hole_area = 0
        return made
    create = timm.models.create_model
    timm.models.create_model = lambda *a, **k: create(*a, **{**k, "pretrained": False})     # it would download a backbone
    try:
        from sam2.build_sam import build_sam2_video_predictor
        made = build_sam2_video_predictor(CONFIGS[name], None, device="cpu",
                                          hydra_overrides_extra=[f"++model.image_size={image_size}"])
        made.fill_hole_area = 0
        return made
    finally:
        timm.models.create_model = create


def official_track(model, pixels, height: int, width: int, prompt) -> dict[str, np.ndarray]:
    """One track of the official predictor. ``pixels`` float32 [T,3,S,S], normalised. Logits are at source size.

    As in ``session.run_session``, a clip shorter than 16 frames is announced as 16 frames long.
    """
    module: Any = importlib.import_module(type(model).__module__)
    longer = np.concatenate([pixels, np.repeat(pixels[-1:], max(0, MAX_POINTERS - len(pixels)), 0)])
    module.load_video_frames = lambda **_: (torch.from_numpy(longer), height, width)
    with torch.inference_mode():
        state = model.init_state("")
        if prompt.kind == "mask":
            model.add_new_mask(state, 0, 1, prompt.mask)
        elif prompt.kind == "bbox":
            model.add_new_points_or_box(state, 0, 1, box=np.array(prompt.box, np.float32))
        else:
            points = np.array(prompt.points)
            model.add_new_points_or_box(state, 0, 1, points=points[:, :2].astype(np.float32), labels=points[:, 2])
        logits = [masks[0, 0].numpy().copy() for _, _, masks in model.propagate_in_video(state, max_frame_num_to_track=len(pixels) - 1)]
    # one version of the predictor keeps outputs per object, the other for all objects at once
    stored = state.get("output_dict") or state["output_dict_per_obj"][0]
    frames = {**stored["cond_frame_outputs"], **stored["non_cond_frame_outputs"]}
    return {"logits": np.stack(logits), "low_res": np.stack([frames[t]["pred_masks"][0, 0].float().numpy() for t in range(len(pixels))]),
            "obj_ptr": np.stack([frames[t]["obj_ptr"][0].float().numpy() for t in range(len(pixels))]),
            "object_score": np.array([float(frames[t].get("object_score_logits", np.nan)) for t in range(len(pixels))])}


def _reference(track: dict[str, np.ndarray]) -> Reference:
    return Reference(track["low_res"], track["object_score"], track["obj_ptr"], track["logits"] > 0, None)


def compare(name: str, image_size: int, seed: int, count: int, threads: int, kinds: tuple[str, ...], keep: Path | None,
            follows: str, command: str) -> list[str]:
    """Table of the differences, one line per prompt kind; ``follows``: as for ``export``. ``command`` is written into the reference of
    the pack in ``keep``."""
    torch.set_num_threads(threads)
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:6.1f} s] {text}", flush=True)

    checkpoint = released.random(name, seed, image_size)
    clip = golden.leaving_clip(image_size, count)
    done, _ = balance_presence(checkpoint.model, [clip], kinds, follows == "official")
    say(f"{name} at {image_size} px, seed {seed}; last layer of the object score: {done.words()}")
    official = predictor(name, image_size)
    ours = checkpoint.model.state_dict()
    state = released.to_official(ours, official.state_dict())
    lines = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary)
        path = folder / f"{name}.pt"
        torch.save({"model": state}, path)
        official.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["model"])
        loaded = released.load(path, name, image_size)
        there = loaded.model.state_dict()
        wrong = [k for k in ours if not torch.equal(ours[k], there[k])]
        if wrong or loaded.name != name:
            raise RuntimeError(f"{path}: read as {loaded.name}; {len(wrong)} weights changed on the way: {wrong[:5]}")
        say(f"{len(state)} official weights, read back as {loaded.name}, {len(ours)} weights equal bit by bit")
        digests = write_graphs(loaded.model, folder, ("fp32",), say, official=follows == "official")
        (folder / "pack.toml").write_text(manifest(
            name, loaded.family, "official weights for a proof", Geometry.of(loaded.model),
            dict(checkpoint_sha256=loaded.sha256, command="", libraries={}, notes=""), digests, None,
            follows=follows))
        pack = Pack(folder, threads=threads)
        height, width = clip.frames.shape[1:3]
        pixels = np.concatenate([pack.pixels(f) for f in clip.frames])
        references = []
        for kind in kinds:
            prompt = derive(clip.masks[0][0], kind)
            theirs = official_track(official, pixels, height, width, prompt)
            references.append(_reference(theirs))
            (found,) = run_clip(pack, clip.frames, [prompt])
            logits = np.stack([upsample(f.low_res, height, width) for f in found])
            present = (theirs["logits"].max((1, 2)) > -1000) & (logits.max((1, 2)) > -1000)
            differ = ((logits > 0) != (theirs["logits"] > 0)).mean((1, 2))
            presence = int(((theirs["logits"].max((1, 2)) > -1000) != (logits.max((1, 2)) > -1000)).sum())
            score = np.abs(np.array([f.object_score for f in found]) - theirs["object_score"])    # NaN: the package keeps none
            gap = np.abs(logits - theirs["logits"]).max((1, 2))
            pointer = np.abs(np.stack([f.obj_ptr for f in found]) - theirs["obj_ptr"]).max(1)
            lines.append(f"| {name} | {image_size} | {kind} | {len(found)} | {int((~present).sum())} | {presence} | "
                         f"{gap[0]:.1e} | {gap[present].max():.1e} | {score.max():.1e} | {pointer.max():.1e} | "
                         f"{100 * differ.max():.4f} % | {100 * differ.mean():.4f} % |")
            say(lines[-1])
        if keep and follows == "official" and not np.isnan(references[0].object_score).any():
            with torch.backends.mkldnn.flags(enabled=False):
                again = [_reference(official_track(official, pixels, height, width, derive(clip.masks[0][0], kind))) for kind in kinds]
            own = limits.spread(references, again, kinds)
            for line in golden.write_golden(loaded.model, keep / "reference", keep / "reference/frames", [clip], command, {}, kinds, True,
                                            [references], own=own):
                say(line)
            with (keep / "pack.toml").open("a") as text:
                limit = limits.tolerance(own)["low_res"]
                text.write(f'\n[golden]\nindex = "reference/golden.json"\ntolerance = {limit}\n')
    return lines


def recorded(argv: list[str]) -> str:
    """The command line with names in place of paths."""
    return " ".join(["python -m jetbench_models official", *(Path(word).name if "/" in word else word for word in argv)])


def main(argv: list[str]) -> int:
    options = parser("official", __doc__)
    options.add_argument("--package", type=existing_folder, required=True, help="folder that holds the official package")
    options.add_argument("--model", choices=tuple(CONFIGS), required=True, metavar="NAME")
    options.add_argument("--image-size", type=positive, help="default: the model's own")
    options.add_argument("--seed", type=not_negative, default=0)
    options.add_argument("--frames", type=positive, default=12)
    options.add_argument("--prompts", type=some_of(KINDS), default=KINDS, metavar="LIST")
    options.add_argument("--follow", choices=FOLLOWS, default="official",
                         help="as for export (default: official)")
    options.add_argument("--threads", type=positive, default=1)
    options.add_argument("--keep", type=Path, help="folder to keep the .pt file and the pack in; the pack's golden reference is the "
                         "official predictor's, where that says an object score; limits are those of its "
                         "own differences without oneDNN")
    args = options.parse_args(argv)
    if not (args.package / package_of(args.model)).is_dir():
        options.error(f"--package {args.package}: there is no package {package_of(args.model)} in it")
    sys.path.insert(0, str(args.package.resolve()))
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
    size = args.image_size or released.image_size_of(args.model)
    lines = compare(args.model, size, args.seed, args.frames, args.threads, args.prompts, args.keep, args.follow, recorded(argv))
    print(f"The pack follows {args.follow}.")
    print("| model | px | prompt | frames | absent | presence differs | logits, prompted frame | logits, all frames with the object | "
          "object score | pointer | wrong pixels, worst frame | mean |\n|---|---|---|---|---|---|---|---|---|---|---|---|")
    print("\n".join(lines))
    return 0
