"""Packs of 64 px for tests on slow devices: both miniature architectures with random weights, fp32, golden reference included.

A frame costs a tenth of what it costs at 256 px, so that a device that is imitated on a processor gets through the tests in
minutes. The bias of the object score is moved so that the object counts as absent on some frames; the references may be
weak (``golden --weak``). They are
made anew where they are needed and lie in no repository.

Example:
    python -m jetbench_models small --out target/small
"""
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..command import not_negative, parser
from ..models import miniature, weights
from . import command, golden, presence

SIZE = 64     # pixels: four by four positions in memory


def write(out: Path, arch: str, seed: int) -> None:
    """Weights, pack and golden reference of one architecture; the golden frames are those of ``out``/golden for both."""
    torch.manual_seed(seed)
    model = miniature.initialise(miniature.build(arch, SIZE)).eval()
    ((found,),) = golden.run_clips(model, golden.golden_clips(SIZE)[:1], ("points",))
    done = presence.Balance(round(-float(np.median(found.object_score)), 4))
    presence.apply(model, done)
    file, pack = out / f"{arch}.safetensors", out / "packs" / f"{arch}_{SIZE}"
    weights.save(file, model.state_dict(), arch, SIZE)
    notes = f"Random weights of seed {seed}, never trained; in the last layer of the object score {done.words()}. For tests only."
    command.main(["--checkpoint", str(file), "--out", str(pack), "--dtype", "fp32", "--notes", notes])
    golden.main(["--weights", str(file), "--pack", str(pack), "--frames", str(out / "golden"), "--weak"])
    file.unlink()


def main(argv: list[str]) -> int:
    options = parser("small", __doc__)
    options.add_argument("--out", type=Path, required=True, help="folder to write: packs/ and golden/")
    options.add_argument("--seed", type=not_negative, default=0)
    args = options.parse_args(argv)
    for arch in miniature.ARCHITECTURES:
        write(args.out, arch, args.seed)
    return 0
