"""Command line entry point: ``jetbench-models COMMAND ...``, also as ``python -m jetbench_models COMMAND ...``.

Each command lives in its own module with a ``main(argv)`` function and is imported only when it is asked for, so that
commands which need no deep-learning library start quickly and work where none is installed.
"""
from __future__ import annotations

import importlib
import sys

from .command import Refused

COMMANDS: dict[str, tuple[str, str, str]] = {       # module, extra of pyproject.toml that it needs, what it does
    "train": ("train.run", "train", "train one miniature model from random weights on synthetic clips"),
    "evaluate": ("train.evaluate", "train", "score trained weights on held-out clips through the transformers session API"),
    "export": ("export.command", "export", "write a pack from a checkpoint: graphs in three data types, manifest, golden reference"),
    "get": ("get.command", "export", "from a name to a proven pack: fetch a released checkpoint, export it, prove it"),
    "int8": ("export.int8", "", "add int8 graphs to a tracker's pack, calibrated on clips and judged on others"),
    "golden": ("export.golden", "export", "write golden outputs that the benchmark's tests compare with"),
    "small": ("export.small", "export", "make packs of 64 px with random weights, for tests on slow devices"),
    "foreign": ("export.foreign.command", "", "make packs of other people's exports (onnx-community and SAM2Export layouts)"),
    "labels": ("check.labels", "export", "label packs, which name the tracks of a run: make one, and check that its classes are apart"),
    "verify": ("check.verify", "", "compare a pack with the PyTorch session, or with its stored outputs"),
    "recall": ("check.recall", "", "recall and false positives of a detector's pack on held-out frames"),
    "check": ("check.runtimes", "", "show that a pack's graphs suit the runtimes of JetPack 6; build them with NVIDIA's compiler"),
    "precision": ("check.precision", "export", "errors of the half data types beside torch.autocast, and masks of whole clips"),
    "variants": ("check.variants", "", "compare the fixed-shape form with the one whose memory grows: masks and cost"),
    "policy": ("check.policy", "", "compare the masks of a run, with a memory policy, with those of the reference loop"),
    "official": ("check.official", "export", "compare a pack with the official predictors, on the same random weights"),
    "speed": ("check.speed", "export", "time a model in PyTorch, beside which its pack's figures stand"),
    "demo": ("clips.demo", "", "draw the demo clips and their ground truth"),
    "heldout": ("clips.heldout", "", "draw held-out clips as a data set, and read accuracy out of a run on it"),
}
# Packages by the name they are imported under, as pyproject.toml has them: always, and with an extra.
PLAIN = ("numpy", "onnx", "onnxruntime", "PIL", "cv2")
EXTRA = ("torch", "torchvision", "transformers", "timm", "safetensors", "onnxscript", "scipy")


def usage() -> str:
    lines = ["usage: jetbench-models COMMAND [options]", "", "commands:"]
    lines += [f"  {name:10s}{text}" for name, (_, _, text) in COMMANDS.items()]
    needs = [f"{', '.join(n for n, (_, has, _) in COMMANDS.items() if has == extra)}: pip install './scripts[{extra}]'"
             for extra in ("export", "train")]
    return "\n".join([*lines, "", "COMMAND --help lists the options of one command.", "PyTorch is needed by", *(f"  {n}" for n in needs),
                      "the others work with: pip install ./scripts"])


def missing(package: str, extra: str) -> str:
    """What to do about a package that a command with this extra wants and that is not installed."""
    if package not in PLAIN + EXTRA:
        return f"the Python package {package} is not installed; the command's own text says what it needs"
    if package in EXTRA:
        extra = extra or "export"
    return f"the Python package {package} is not installed: pip install " + (f"'./scripts[{extra}]'" if extra else "./scripts")


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    if not argv or argv[0] not in COMMANDS:
        wrong = f"unknown command {argv[0]!r}" if argv else "a command is missing"
        print(f"jetbench-models: {wrong}\n\n{usage()}", file=sys.stderr)
        return 2
    module, extra, _ = COMMANDS[argv[0]]
    try:
        return importlib.import_module(f"{__package__}.{module}").main(argv[1:]) or 0
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", __package__):
            raise
        text = missing(package, extra)
    except (Refused, OSError) as error:      # OSError: files that are not there or cannot be written
        text = str(error)
    except KeyboardInterrupt:
        return 130
    print(f"jetbench-models {argv[0]}: {text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
