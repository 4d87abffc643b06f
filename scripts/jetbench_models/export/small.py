"""Packs of 64 px for tests on slow devices: both miniature architectures with random weights, fp32, golden reference included.

A frame costs a tenth of what it costs at 256 px, so that a device that is imitated on a processor gets through the tests in
minutes. The last layer of the object score is changed so that objects come and go (see ``presence``). They are
made anew where they are needed and lie in no repository.

Example:
    python -m jetbench_models small --out target/small
"""
from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ..command import Refused, not_negative, parser
from ..models import miniature, weights
from . import command, golden, presence

SIZE = 64     # pixels: four by four positions in memory


# The first seeds whose weights can be balanced on all three clips; others are tried from there on.
SEEDS = {"sam2": 2, "edgetam": 2}
TRIED = 12


def balanced(arch: str, seed: int) -> tuple[nn.Module, presence.Balance, int]:
    """Random weights whose objects come and go on the golden clips, what was done to them, and their seed: ``seed`` or one after it."""
    clips = golden.golden_clips(SIZE)
    for tried in range(seed, seed + TRIED):
        torch.manual_seed(tried)
        model = miniature.initialise(miniature.build(arch, SIZE)).eval()
        try:
            return model, presence.balance_presence(model, clips)[0], tried
        except Refused as refused:
            last = refused
    raise last


def write(out: Path, arch: str, seed: int) -> None:
    """Weights, pack and golden reference of one architecture; the golden frames are those of ``out``/golden for both."""
    model, done, seed = balanced(arch, seed)
    file, pack = out / f"{arch}.safetensors", out / "packs" / f"{arch}_{SIZE}"
    weights.save(file, model.state_dict(), arch, SIZE)
    notes = f"Random weights of seed {seed}, never trained; in the last layer of the object score {done.words()}. For tests only."
    command.main(["--checkpoint", str(file), "--out", str(pack), "--dtype", "fp32", "--notes", notes])
    golden.main(["--weights", str(file), "--pack", str(pack), "--frames", str(out / "golden")])
    file.unlink()


def main(argv: list[str]) -> int:
    options = parser("small", __doc__)
    options.add_argument("--out", type=Path, required=True, help="folder to write: packs/ and golden/")
    options.add_argument("--seed", type=not_negative, help="of the random weights, or the first that is tried (default: known good ones)")
    args = options.parse_args(argv)
    for arch in miniature.ARCHITECTURES:
        write(args.out, arch, SEEDS[arch] if args.seed is None else args.seed)
    return 0
