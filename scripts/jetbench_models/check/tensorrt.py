"""NVIDIA's own word on a pack's graphs: ``scripts/tensorrt-check.sh`` builds them with the compiler of TensorRT for RTX, without a GPU."""
from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

from ..command import Refused, positive, some_of
from ..pack import DTYPES

# Beside this package in a checkout; an installed package has neither the script nor the program that it builds.
SCRIPT = Path(__file__).parents[2] / "tensorrt-check.sh"


def add_arguments(options: argparse.ArgumentParser) -> None:
    """The options that only ``--tensorrt`` has."""
    group = options.add_argument_group("with --tensorrt")
    group.add_argument("--dtype", type=some_of((*DTYPES, "int8")), metavar="TYPE,…",
                       help="precisions to build (fp32, fp16 and bf16)")
    group.add_argument("--compute-capability", type=positive, metavar="N", help="GPUs to build for (86: Ampere, the nearest to Orin's 87)")
    group.add_argument("--parse-only", action="store_true", help="read the graphs with NVIDIA's parser, build nothing")
    group.add_argument("--json", action="store_true", help="print JSON instead of a table")


def given(args: argparse.Namespace) -> list[str]:
    """The options of ``add_arguments`` that were given, as arguments of the script."""
    words = [f"--dtype={','.join(args.dtype)}"] if args.dtype else []
    words += [f"--compute-capability={args.compute_capability}"] if args.compute_capability else []
    return words + ["--parse-only"] * args.parse_only + ["--json"] * args.json


def check(packs: list[Path], args: argparse.Namespace) -> int:
    """Runs the script on the packs: 0 if everything was built, 1 if something was refused."""
    if not SCRIPT.is_file():
        raise Refused(f"{SCRIPT} is missing: --tensorrt runs in a checkout of jetbench only, with the package's own sources")
    ended = subprocess.run([str(SCRIPT), *map(str, packs), *given(args)], check=False).returncode
    if ended in (0, 1):
        return ended
    raise Refused(f"NVIDIA's compiler could not be asked: {SCRIPT.name} ended with {ended}, its own message stands above")
