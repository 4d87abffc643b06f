"""Command line entry point: ``python -m jetbench_models COMMAND ...``.

Each command lives in its own module with a ``main(argv)`` function and is imported only when it is asked for, so that
commands which need no deep-learning library start quickly and work where none is installed.
"""
from __future__ import annotations

import importlib
import sys

COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("train", "train one miniature model from random weights on synthetic clips"),
    "evaluate": ("evaluate", "score trained weights on held-out synthetic clips through the transformers session API"),
    "export": ("export", "write a pack from a checkpoint: graphs in three precisions, manifest, golden reference"),
    "verify": ("verify", "compare a pack with the PyTorch session, or with its stored outputs"),
    "variants": ("variants", "compare the fixed-shape form with the one whose memory grows: masks and cost"),
    "official": ("official", "compare a pack with the official predictors, on the same random weights"),
    "check": ("check", "show that a pack's graphs suit the runtimes of JetPack 6; load them in old ones"),
    "golden": ("golden", "write golden outputs that the benchmark's tests compare with"),
    "precision": ("precision", "what half precision changes: errors of every output beside torch.autocast, masks of whole clips"),
    "foreign": ("foreign", "make packs of other people's exports (onnx-community layout of SAM 2)"),
    "demo": ("demo", "draw the demo clips and their ground truth"),
    "heldout": ("heldout", "draw held-out clips as a data set, and read accuracy out of a run on it"),
}


def usage() -> str:
    lines = ["usage: python -m jetbench_models COMMAND [options]", "", "commands:"]
    lines += [f"  {name:10s}{text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(lines + ["", "COMMAND --help lists the options of one command."])


def main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    if argv[0] not in COMMANDS:
        print(f"unknown command {argv[0]!r}\n\n{usage()}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"{__package__}.{COMMANDS[argv[0]][0]}")
    return module.main(argv[1:]) or 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
