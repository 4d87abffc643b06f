"""Sub-command ``foreign``; the package's own text says what it is for."""
from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import onnx

from ...command import existing_file, existing_folder, not_negative, parser, positive
from . import __doc__ as about
from .layout import GRAPHS, VIDEO_GRAPHS, write_pack


def import_export(args: argparse.Namespace) -> None:
    video = args.family == "sam2export"
    paths = (dict(zip(VIDEO_GRAPHS, (args.encoder, args.attention, args.decoder, args.memory))) if video
             else dict(zip(GRAPHS, (args.vision, args.decoder))))
    graphs = {name: onnx.load(path) for name, path in paths.items()}      # external data comes along
    digest = hashlib.sha256()
    for path in paths.values():
        digest.update(path.read_bytes())
    write_pack(args.out, graphs, identity=args.id or args.out.resolve().name, licence=args.licence, size=args.size,
               source=args.source, command=f"python -m jetbench_models foreign import{'-video' if video else ''} --source {args.source}",
               notes=f"imported; checkpoint_sha256 is the digest of the {len(paths)} downloaded graph files, one after the other",
               checkpoint=digest.hexdigest(), family=args.family)
    print(f"{args.out}: graphs of {args.source}; check it with: jetbench packs inspect {args.out}")


def _mini(args: argparse.Namespace) -> None:
    from . import mini  # needs torch, which an import does not
    (mini.video if args.family == "sam2export" else mini.image)(args.frames, args.count, args.seed, args.out)


def main(argv: list[str]) -> int:
    options = parser("foreign", about)
    commands = options.add_subparsers(required=True, metavar="WHAT")
    layouts = {
        "import": ("sam2_image", "the onnx-community layout",
                   {"vision": "vision_encoder.onnx", "decoder": "prompt_encoder_mask_decoder.onnx"}),
        "import-video": ("sam2export", "the SAM2Export layout",
                         {"encoder": "image_encoder.onnx", "attention": "memory_attention.onnx",
                          "decoder": "image_decoder.onnx", "memory": "memory_encoder.onnx"})}
    for command, (family, layout, files) in layouts.items():
        bring = commands.add_parser(command, help=f"a pack from a downloaded export in {layout}")
        for flag, name in files.items():
            bring.add_argument(f"--{flag}", type=existing_file, required=True, help=name)
        bring.add_argument("--licence", required=True, help="SPDX expression of the weights' licence")
        bring.add_argument("--source", required=True, help="where the export comes from, with its revision")
        bring.add_argument("--size", type=positive, default=1024, help="input side in pixels")
        bring.add_argument("--id", help="name of the pack (default: name of the directory)")
        bring.add_argument("--out", type=Path, required=True, help="pack directory to write")
        bring.set_defaults(run=import_export, family=family)
    for command, family, count in (("mini", "sam2_image", 6), ("mini-video", "sam2export", 10)):
        small = commands.add_parser(command, help="a small random export of the layout, with a reference, for tests")
        small.add_argument("--frames", type=existing_folder, required=True, help="directory of PNG frames")
        small.add_argument("--count", type=positive, default=count, help="frames of the reference")
        small.add_argument("--seed", type=not_negative, default=0)
        small.add_argument("--out", type=Path, required=True, help="pack directory to write")
        small.set_defaults(run=_mini, family=family)
    args = options.parse_args(argv)
    args.run(args)
    return 0
