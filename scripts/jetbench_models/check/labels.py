"""Makes label packs, which name the tracks of a run (family ``clip_labels``), and says whether one can tell its classes apart.

``labels export`` writes a pack from a Hugging Face directory of CLIP or SigLIP and class names, put into ``--prompt`` (several are
averaged), or from learned prompts of CoOp (``--learned``; shared or class-specific contexts, the name at the end). Pooling is a
property of how vectors were made: prompts that were learned under mean pooling need ``--pooling mean``; an untuned CLIP needs ``eot``.

``labels check`` lists what was looked at: digest, names, width, numbers, lengths, and the cosine of each class to each. Classes whose
vectors are one are an error.

Examples:
    python -m jetbench_models labels export --checkpoint clip-vit-base-patch32/ --classes ball,box,star --out packs/toys
    python -m jetbench_models labels export --checkpoint clip-vit-base-patch32/ --learned model.pth.tar-50 --classes ball,box --out toys
    python -m jetbench_models labels check packs/toys
"""
from __future__ import annotations

import argparse
import logging
import resource
from pathlib import Path

from ..command import Refused, existing_file, existing_pack, not_negative, parser, positive, progress, some_of
from ..pack import DTYPES, labels
from ..pack.detections import manifest

PROMPT = "a photo of a {}."
LICENCE = "LicenseRef-checkpoint"
MOBILE = ("mobileclip2_s0", "mobileclip2_b")


def check(args: argparse.Namespace) -> int:
    found = labels.examine(args.pack)
    print("| | found | |\n|---|---|---|")
    print("\n".join(f"| {one.item} | {one.found} | {one.state} |" for one in found))
    said = manifest(args.pack)["labels"]
    print("\nCosine of each class to each:\n")
    print("\n".join(labels.table(labels.read_vectors(args.pack / said["embeddings"])["text_embeds"], list(said["classes"]))))
    wrong = [one.item for one in found if one.state == "ERROR"]
    print(f"\n{args.pack}: " + (f"FAIL: {', '.join(wrong)}" if wrong else "pass"))
    return 1 if wrong else 0


def _names(args: argparse.Namespace) -> list[str]:
    text = args.classes
    names = Path(text).read_text(encoding="utf-8").splitlines() if Path(text).is_file() else text.split(",")
    names = [name.strip() for name in names if name.strip()]
    if not names or len(set(names)) != len(names):
        raise Refused(f"--classes: {len(names)} names, {len(set(names))} different ones; each class once")
    return names


# Flags that say nothing of a pack, by what it is made from: what is stated must count.
IDLE = {"a file of train labels": ("learned", "classes", "prompt", "pooling", "licence", "seed"),
        "--random-init": ("learned", "prompt", "pooling"), "--learned": ("prompt", "seed"), "prompts": ("seed",)}


def refuse_idle(args: argparse.Namespace) -> None:
    """Refuses flags that would change nothing, by name."""
    kind = ("--random-init" if args.random_init else "a file of train labels" if args.checkpoint.is_file() else
            "--learned" if args.learned else "prompts")
    if idle := [f"--{name}" for name in IDLE[kind] if getattr(args, name) is not None]:
        raise Refused(f"{', '.join(idle)}: of no effect on a pack from {kind}; leave it out")


def export(args: argparse.Namespace) -> int:
    refuse_idle(args)
    import torch

    from ..export import labels as writer
    from ..models import clip, mobileclip

    torch.set_num_threads(args.threads)
    logging.disable(logging.WARNING)
    progress.start()
    words = [f"--{name} {Path(value).name}" for name, value in (("checkpoint", args.checkpoint), ("learned", args.learned)) if value]
    if args.checkpoint and args.checkpoint.is_file():
        recipe = writer.of_miniature(args.checkpoint)
    else:
        if args.checkpoint:
            source = (mobileclip if mobileclip.is_open_clip(args.checkpoint) else clip).load(args.checkpoint)
        else:
            source = (mobileclip if args.random_init in MOBILE else clip).random(args.random_init, args.seed or 0)
        words += [] if args.checkpoint else [f"--random-init {args.random_init} --seed {args.seed or 0}"]
        if not args.classes:
            raise Refused("--classes: names, comma-separated, or a file with one a line")
        names = _names(args)
        pooling = "none" if args.random_init else args.pooling or ("last" if source.kind == "siglip" else "eot")
        words += [] if args.random_init else [f"--pooling {pooling}"]
        prompts = ["random"] if args.random_init else ["learned"] if args.learned else args.prompt or [PROMPT]
        progress.say(f"{source.name}: vectors of {len(names)} classes, pooling {pooling}")
        if args.random_init:
            vectors = clip.drawn_vectors(len(names), clip.width(source), args.seed or 0)
        elif args.learned:
            vectors = clip.learned_vectors(source, args.learned, names, pooling)
        else:
            if bad := [p for p in prompts if "{}" not in p]:
                raise Refused(f"--prompt {bad[0]!r}: has no {{}} for the name of the class")
            vectors = clip.vectors(source, names, prompts, pooling)
        recipe = writer.of_source(source, names, vectors, pooling, prompts, args.licence or LICENCE)
    identity = args.id or args.out.resolve().name
    command = " ".join(["python -m jetbench_models labels export", *words, f"--out {identity}"])
    writer.write(recipe, args.out, identity, args.dtype, args.frames, command, args.notes, progress.say)
    total = sum(f.stat().st_size for f in args.out.rglob("*") if f.is_file())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    progress.say(f"{args.out}: {total / 1e6:.2f} MB in all; peak memory {peak:.0f} MiB")
    wrong = [one for one in labels.examine(args.out) if one.state == "ERROR"]
    for one in wrong:
        print(f"{one.item}: {one.found}")
    return 1 if wrong else 0


def main(argv: list[str]) -> int:
    options = parser("labels", __doc__)
    commands = options.add_subparsers(required=True, metavar="WHAT")
    look = commands.add_parser("check", help="what is wrong with the vectors of a label pack, item by item")
    look.add_argument("pack", type=existing_pack)
    look.set_defaults(run=check)
    make = commands.add_parser("export", help="a label pack from CLIP, SigLIP, MobileCLIP or learned prompts")
    source = make.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, metavar="PATH",
                        help="Hugging Face directory of CLIP or SigLIP, OpenCLIP's of MobileCLIP, or file of train labels")
    source.add_argument("--random-init", choices=("clip_b32", "siglip_b16", *MOBILE, "clip_tiny", "siglip_tiny"), help="random weights")
    make.add_argument("--learned", type=existing_file, metavar="FILE", help="learned prompts: a checkpoint of CoOp")
    make.add_argument("--classes", metavar="NAMES", help="comma-separated, or a file with a name a line; learned prompts: in their order")
    make.add_argument("--prompt", action="append", metavar="TEXT", help=f"with {{}} for the name; several are averaged (default: {PROMPT})")
    make.add_argument("--pooling", choices=("eot", "mean", "last"), help="of the text tower (default: eot; of SigLIP last)")
    make.add_argument("--licence", help=f"SPDX expression of the weights (default: {LICENCE})")
    make.add_argument("--seed", type=not_negative, help="of the random weights (default: 0)")
    make.add_argument("--dtype", type=some_of(DTYPES), default=DTYPES, metavar="LIST", help="comma-separated (default: fp32,fp16,bf16)")
    make.add_argument("--frames", type=not_negative, default=6, help="crops of the golden reference (default: 6); 0: none")
    make.add_argument("--id", help="name of the pack (default: name of the directory)")
    make.add_argument("--notes", default="", help="free text for the manifest")
    make.add_argument("--threads", type=positive, default=1)
    make.add_argument("--out", type=Path, required=True, help="pack directory to write")
    make.set_defaults(run=export)
    args = options.parse_args(argv)
    return args.run(args)
