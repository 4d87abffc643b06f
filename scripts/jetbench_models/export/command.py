"""Writes a pack: the five graphs of a model in fp32, fp16 and bf16, with the manifest that describes them, and for models
of released size the golden reference.

Weights come from a Hugging Face directory (Sam2VideoModel, EdgeTamVideoModel, SAM 3), an official .pt file, a file that
``train`` wrote, or from random numbers; ``released`` reads them. Graphs have fixed shapes but for the number of objects,
opset 18 (bf16 with convolutions: 22), real-arithmetic rotary embedding and no custom operators; ``check`` proves it. What the exporter
leaves in them about the machine they were made on (stack traces, source paths) is removed, and nothing in them depends
on the time or the directory, so that the same weights and library versions give the same bytes.

Examples:
    python -m jetbench_models export --checkpoint sam2.1_hiera_tiny.pt --out packs/sam2.1_tiny
    python -m jetbench_models export --checkpoint facebook/sam2.1-hiera-tiny/ --out packs/sam2.1_tiny
    python -m jetbench_models export --model edgetam --random-init --seed 0 --out packs/edgetam_random
    python -m jetbench_models export --checkpoint dvis_daq_ovis_r50.pth --rules ovis --out packs/dvis_daq_r50
"""
from __future__ import annotations

import argparse
import json
import logging
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..clips import KINDS
from ..command import Refused, finite, not_negative, parser, positive, progress, some_of
from ..models import detector as models
from ..models import dvis, released, sam3, videomt
from ..models.dvis_tracker import RULES
from ..models.session import Reference
from ..pack import DTYPES
from ..pack.limits import FLOORS
from . import detector, golden, int8, panoptic, presence, segmenter
from . import dvis as chains
from .convert import write_graphs
from .graphs.geometry import Geometry
from .manifest import FOLLOWS, LIBRARIES, describe, library_versions, licence, manifest

FRAMES = 12                    # of a golden clip


def recorded(argv: list[str], identity: str) -> str:
    """The command line with names in place of paths, so that a pack says nothing about the machine it was made on."""
    words = []
    for previous, word in zip(["", *argv], argv):
        named = {"--out": identity, **{option: Path(word).name for option in ("--checkpoint", "--weights", "--save-checkpoint")}}
        words.append(named.get(previous, word))
    return " ".join(["python -m jetbench_models export", *words])


def _options() -> argparse.ArgumentParser:
    made = parser("export", __doc__)
    made.add_argument("--checkpoint", "--weights", type=Path, metavar="PATH",
                      help="Hugging Face directory, official .pt file, or safetensors file written by train")
    made.add_argument("--random-init", action="store_true", help="random weights in the architecture of --model")
    made.add_argument("--seed", type=not_negative, default=0, help="of the random weights (default: 0)")
    made.add_argument("--save-checkpoint", type=Path, metavar="PATH",
                      help="with --random-init: keep the weights that the pack holds, for precision and verify --checkpoint: a file "
                           "that ends in .pt in the official form, anything else as a Hugging Face directory")
    names = (*released.NAMES, *models.NAMES, *videomt.NAMES, *dvis.NAMES)
    made.add_argument("--model", choices=names, metavar="NAME",
                      help=f"architecture that the weights must have: {', '.join(names)} (default: what they are)")
    made.add_argument("--image-size", type=positive, metavar="PIXELS",
                      help="input size (default: the checkpoint's, else 1024, of SAM 3 1008, of D-FINE and VidEoMT 640, of DVIS-DAQ 480); "
                           "SAM 2 and D-FINE take multiples of 32, EdgeTAM of 256, VidEoMT of 16, SAM 3 of 14; of DVIS-DAQ it is the "
                           "shorter side of a frame")
    made.add_argument("--out", type=Path, required=True, help="pack directory to write")
    made.add_argument("--id", help="name of the pack (default: name of the directory)")
    made.add_argument("--notes", default="", help="free text for the manifest's provenance")
    made.add_argument("--dtype", "--precision", type=some_of(DTYPES), default=DTYPES, metavar="LIST",
                      help="comma-separated (default: fp32,fp16,bf16)")
    made.add_argument("--int8", action="store_true",
                      help="of a tracker: int8 graphs too, calibrated on drawn clips; the command int8 takes clips of yours")
    made.add_argument("--frames", type=not_negative, metavar="N",
                      help=f"length of the golden clip, at least 8 (default: {FRAMES}); 0 leaves the golden reference out")
    made.add_argument("--prompts", type=some_of(KINDS), default=KINDS, metavar="LIST",
                      help="prompt kinds of the golden reference (default: points,bbox,mask)")
    made.add_argument("--variant", choices=("fixed", "dynamic"), default="fixed",
                      help="dynamic: memory grows as in the original, for comparison (see variants); the runner wants fixed")
    made.add_argument("--follow", choices=FOLLOWS,
                      help="whose masks the pack gives where transformers' session and the official predictors differ (default: "
                           "official for an official .pt file, else transformers; docs/exporting.md lists the differences)")
    made.add_argument("--clip-seed", type=not_negative, metavar="N",
                      help=f"of the golden clip (default: {golden.CLIP_SEED} of a tracker, {detector.CLIP_SEED} of others); another draws "
                           "other textures and another way")
    made.add_argument("--score-shift", type=finite, metavar="X",
                      help="with --random-init: added to the bias of the object score (default: bias and sign are searched for, so "
                           "that the object comes and goes on the golden clip)")
    made.add_argument("--score-negated", action="store_true",
                      help="with --score-shift: the last layer of the object score is negated before")
    made.add_argument("--rules", choices=RULES, help="of DVIS-DAQ: the published thresholds for a data set (default: ovis)")
    made.add_argument("--slots", type=positive, metavar="N",
                      help="of DVIS-DAQ: most tracks at a time (default: as many as its segmenter has queries)")
    made.add_argument("--aspect", type=_aspect, metavar="W:H",
                      help="of DVIS-DAQ: aspect ratio of the frames that fill its input (default: 16:9)")
    made.add_argument("--classes", type=Path, metavar="FILE", help="of DVIS-DAQ: names of its classes, one a line (default: numbers)")
    made.add_argument("--panoptic", type=Path, metavar="FILE",
                      help="of a video segmenter: the data set's categories with id, name and isthing (JSON), which say what is stuff; "
                           "of DVIS-DAQ its classes are these, things first, unless --classes names them")
    made.add_argument("--threads", type=positive, default=1)
    return made


def _aspect(text: str) -> tuple[int, int]:
    parts = text.split(":")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and 0 < int(part) < 100_000 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: two numbers as in 16:9 expected")
    across, down = (int(part) for part in parts)
    if not 1 / 8 <= across / down <= 8:
        raise argparse.ArgumentTypeError(f"{text!r}: at most eight times as long as wide expected")
    return across, down


def _settle_clip(args: argparse.Namespace, checkpoint: released.Checkpoint, seed: int) -> None:
    """Length and seed of the golden clip, where none were given; a miniature has none of its own."""
    own = {"--frames": args.frames or None, "--clip-seed": args.clip_seed, "--prompts": None if args.prompts == KINDS else args.prompts}
    if checkpoint.source == "trained here" and (given := [name for name, value in own.items() if value is not None]):
        raise Refused(f"{', '.join(given)}: {checkpoint.name} is a miniature; its reference is written by `golden`, over clips that all "
                      "miniatures share")
    args.frames = FRAMES if args.frames is None else args.frames
    args.clip_seed = seed if args.clip_seed is None else args.clip_seed


@dataclass
class Start:
    """What stands before the graphs are written: the digest of the weights as they are now, and what the manifest notes."""

    digest: str
    notes: list[str]
    clips: list[golden.Clip]                                             # of the golden reference; none for the miniatures
    references: list[list[Reference]] | None = None                      # of the clips, where they are known


def _balance(args: argparse.Namespace, checkpoint: released.Checkpoint, official: bool, say: Callable[[str], None]) -> Start:
    """The golden clip, and random weights changed so that the object comes and goes on it (``presence``)."""
    # the miniature packs share their clips: see golden
    own = args.frames > 0 and checkpoint.source != "trained here"
    clips = [golden.leaving_clip(Geometry.of(checkpoint.model).size, args.frames, args.clip_seed)] if own else []
    start = Start(checkpoint.sha256, [args.notes], clips)
    if checkpoint.source == "random" and (clips or args.score_shift is not None):
        if args.score_shift is not None:
            done = presence.Balance(args.score_shift, args.score_negated)
            presence.apply(checkpoint.model, done)
        else:
            # each frame goes through the image encoder once
            features: dict[str, dict] = {clip.name: {} for clip in clips}
            done, start.references = presence.balance_presence(checkpoint.model, clips, args.prompts, official, features)
        start.digest = released.state_digest(checkpoint.model)
        start.notes.append(f"Random weights of seed {args.seed}; in the last layer of the object score {done.words()}, so that the object "
                           "comes and goes on the golden clip.")
        say(f"last layer of the object score: {done.words()}")
    return start


def _write(args: argparse.Namespace, checkpoint: released.Checkpoint, command: str, identity: str, follows: str,
           say: Callable[[str], None]) -> None:
    """Golden reference, graphs, pack.toml and LICENSE."""
    model: nn.Module = checkpoint.model
    geometry, official, grows = Geometry.of(model), follows == "official", args.variant == "dynamic"
    start = _balance(args, checkpoint, official, say)
    if args.save_checkpoint:
        released.save(model, args.save_checkpoint)
        say(f"{args.save_checkpoint}: these weights")
    limit = FLOORS["low_res"] if checkpoint.source == "trained here" else None        # golden writes their references
    if start.clips:
        reference = args.out / "reference"
        for line in golden.write_golden(model, reference, reference / "frames", start.clips, command,
                                        library_versions(golden.LIBRARIES), args.prompts, official, start.references):
            say(line)
        limit = json.loads((reference / "golden.json").read_text())["tolerance"]["low_res"]
    digests = write_graphs(model, args.out, args.dtype, say, grows, official)
    provenance = dict(checkpoint_sha256=start.digest, command=command, libraries=library_versions(LIBRARIES),
                      notes=" ".join(filter(None, start.notes)))
    (args.out / "pack.toml").write_text(manifest(
        identity, checkpoint.family, describe(checkpoint, geometry), geometry, provenance, digests,
        limit, grows, follows, checkpoint.source in ("trained here", "random")))
    (args.out / "LICENSE").write_text(licence(checkpoint))


def main(argv: list[str]) -> int:
    options = _options()
    args = options.parse_args(argv)
    if args.random_init == bool(args.checkpoint):
        options.error("give either --checkpoint PATH or --random-init")
    if args.save_checkpoint and not args.random_init:
        options.error("--save-checkpoint goes with --random-init; other weights are in a file already")
    if args.save_checkpoint and args.save_checkpoint.exists():
        options.error(f"--save-checkpoint {args.save_checkpoint}: is there already")
    if args.out.exists() and not args.out.is_dir():
        options.error(f"--out {args.out}: is no folder")
    if args.random_init and not args.model:
        options.error("--random-init needs --model NAME")
    if args.frames is not None and 0 < args.frames < 8:
        options.error("--frames: at least 8, so that the object can leave and return and all memory slots fill; or 0")
    if args.int8 and ("fp32" not in args.dtype or args.variant == "dynamic"):
        options.error("--int8: is made of fp32 graphs of the fixed form; --dtype fp32 among others, and no --variant dynamic")
    detects = args.model in models.NAMES if args.random_init else models.is_detector(args.checkpoint)
    segments = args.model in videomt.NAMES if args.random_init else videomt.is_segmenter(args.checkpoint)
    follows = args.model in dvis.NAMES if args.random_init else dvis.is_dvis(args.checkpoint)
    if not follows and (wrong := [f"--{name}" for name in ("rules", "slots", "aspect", "classes") if getattr(args, name) is not None]):
        options.error(f"{', '.join(wrong)}: for DVIS-DAQ only")
    if args.panoptic and not (segments or follows):
        options.error("--panoptic: for video segmenters only")
    categories = panoptic.read(args.panoptic) if args.panoptic else None
    if (detects or segments or follows) and (wrong := [option for option, given in (
            ("--prompts", args.prompts != KINDS), ("--variant", args.variant != "fixed"), ("--follow official", args.follow == "official"),
            ("--score-shift", args.score_shift is not None), ("--score-negated", args.score_negated), ("--int8", args.int8)) if given]):
        options.error(f"{', '.join(wrong)}: for promptable trackers only, and this is a {'detector' if detects else 'video segmenter'}")
    logging.disable(logging.WARNING)      # torch.onnx reports every step
    torch.set_num_threads(args.threads)
    progress.start()
    if follows:
        _write_chains(args, options, categories, recorded(argv, args.id or args.out.resolve().name))
    elif detects or segments:
        _write_unprompted(args, categories, recorded(argv, args.id or args.out.resolve().name), segments)
    else:
        _write_tracker(args, argv)
        if args.int8:
            int8.main(["--pack", str(args.out), "--threads", str(args.threads)])
    total = sum(f.stat().st_size for f in args.out.rglob("*") if f.is_file())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    progress.say(f"{args.out}: {total / 1e6:.1f} MB in all; peak memory of this process {peak:.0f} MiB")
    return 0


def _write_unprompted(args: argparse.Namespace, categories: list[panoptic.Category] | None, command: str, segments: bool) -> None:
    """The pack of a detector, or of a video segmenter."""
    kind, writer = (videomt, segmenter) if segments else (models, detector)
    if args.random_init:
        checkpoint = kind.random(args.model, args.seed, args.image_size or kind.IMAGE_SIZE)
        args.notes = " ".join(filter(None, (args.notes, f"Random weights of seed {args.seed}.")))
    else:
        checkpoint = kind.load(args.checkpoint, args.model, args.image_size)
    _settle_clip(args, checkpoint, detector.CLIP_SEED)
    progress.say(f"{checkpoint.name}: {sum(p.numel() for p in checkpoint.model.parameters()) / 1e6:.2f} M parameters, "
                 f"{writer.size_of(checkpoint.model)} px, weights {checkpoint.source} {checkpoint.sha256[:12]}")
    if args.save_checkpoint:
        checkpoint.model.save_pretrained(args.save_checkpoint)
        progress.say(f"{args.save_checkpoint}: these weights, as a Hugging Face directory")
    added = panoptic.section(videomt.classes_of(checkpoint.model), categories) if categories else ""
    writer.write(checkpoint, args.out, args.id or args.out.resolve().name, args.dtype, args.frames, args.clip_seed, command, args.notes,
                 progress.say)
    _append(args.out, added)


def _append(pack: Path, section: str) -> None:
    with (pack / "pack.toml").open("a", encoding="utf-8") as text:
        text.write(section)


def _write_chains(args: argparse.Namespace, options: argparse.ArgumentParser, categories: list[panoptic.Category] | None,
                  command: str) -> None:
    """The pack of a DVIS-DAQ."""
    if not args.random_init and dvis.is_miniature(args.checkpoint):
        fixed = ("model", "image_size", "rules", "aspect", "classes", "panoptic")
        if given := [f"--{name.replace('_', '-')}" for name in fixed if getattr(args, name) is not None]:
            options.error(f"{', '.join(given)}: {args.checkpoint} is {dvis.MINIATURE}, of which this cannot be changed")
        _write_followed(args, dvis.load_miniature(args.checkpoint), command, "thresholds of its own")
        return
    frame, rules = dvis.frame_of(args.image_size or dvis.IMAGE_SIZE, args.aspect or (16, 9)), args.rules or "ovis"
    if not 64 <= min(frame) <= max(frame) <= 4096:
        options.error(f"--image-size: a frame of {frame[0]}x{frame[1]} pixels; 64 to 4096 expected")
    if args.random_init:
        if args.classes or args.save_checkpoint or categories:
            options.error("--classes, --panoptic and --save-checkpoint: not for random weights of DVIS-DAQ")
        checkpoint = dvis.random(args.model, args.seed, frame, rules)
        args.notes = " ".join(filter(None, (args.notes, f"Random weights of seed {args.seed}.")))
    else:
        names = panoptic.in_order(categories) if categories else None
        if args.classes:
            try:
                names = tuple(line.strip() for line in args.classes.read_text(encoding="utf-8").splitlines() if line.strip())
            except (OSError, UnicodeDecodeError) as error:
                raise Refused(f"--classes {args.classes}: {error}") from None
        checkpoint = dvis.load(args.checkpoint, args.model, frame, rules, names)
    added = panoptic.section(checkpoint.model.config.classes, categories) if categories else ""
    _write_followed(args, checkpoint, command, f"thresholds of {rules}")
    _append(args.out, added)


def _write_followed(args: argparse.Namespace, checkpoint: released.Checkpoint, command: str, thresholds: str) -> None:
    model = checkpoint.model
    _settle_clip(args, checkpoint, detector.CLIP_SEED)
    progress.say(f"{checkpoint.name}: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {chains.size_of(model)} px, "
                 f"weights {checkpoint.source} {checkpoint.sha256[:12]}, {thresholds}")
    chains.write(checkpoint, args.out, args.id or args.out.resolve().name, args.dtype, args.frames, args.clip_seed, command, args.notes,
                 args.slots or model.config.size.queries, progress.say)


def _write_tracker(args: argparse.Namespace, argv: list[str]) -> None:
    say = progress.say
    if args.random_init:
        checkpoint = released.random(args.model, args.seed, args.image_size)
    else:
        checkpoint = released.load(args.checkpoint, args.model, args.image_size)
    _settle_clip(args, checkpoint, golden.CLIP_SEED)
    identity = args.id or args.out.resolve().name
    if checkpoint.family == sam3.FAMILY and args.follow == "official":
        raise Refused("--follow official: SAM 3's packs follow transformers; its official predictor was not compared")
    none_other = checkpoint.family == "efficienttam"       # transformers has none to follow
    if none_other and args.follow == "transformers":
        raise Refused("--follow transformers: transformers has no EfficientTAM; its packs follow the official code")
    follows = args.follow or ("official" if none_other or checkpoint.source == "official" else "transformers")
    say(f"{checkpoint.name}: {sum(p.numel() for p in checkpoint.model.parameters()) / 1e6:.1f} M parameters, "
        f"{Geometry.of(checkpoint.model).size} px, weights {checkpoint.source} {checkpoint.sha256[:12]}, follows {follows}")
    _write(args, checkpoint, recorded(argv, identity), identity, follows, say)
