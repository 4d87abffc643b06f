"""Compares the fixed-shape form of a model with the one whose memory grows: equal masks, and what each costs.

Both packs hold the same weights (``export --variant dynamic`` writes the second). One track of the golden clip runs through both;
then memory_attention alone is timed with 1 to 7 memories and as many pointers. The fixed form computes all seven slots
whatever is in them, the growing form what exists.

Example:
    python -m jetbench_models variants --fixed packs/edgetam --dynamic packs/edgetam_dynamic
"""
from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from .loop import Pack, run_clip, upsample
from .verify import read_golden


def timed(pack: Pack, memories: int, repeats: int) -> list[float]:
    """Milliseconds of memory_attention with this many memories, one value per repeat after an untimed call."""
    rng, about = np.random.default_rng(memories), pack.about["memory"]
    count = (memories, memories) if pack.grows else (about["frames"], about["pointers"])
    inputs = {"image_embed": rng.standard_normal(pack.shapes["image_embed"], np.float32),
              "bank": rng.standard_normal((1, count[0], *pack.shapes["bank"][2:]), np.float32),
              "ptrs": rng.standard_normal((1, count[1], *pack.shapes["ptrs"][2:]), np.float32),
              "age": np.full(1, memories, np.float32)}
    found = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        pack.run("memory_attention", **inputs)
        found.append(1000 * (time.perf_counter() - start))
    return found[1:]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="jetbench_models variants", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fixed", type=Path, required=True, help="pack with a golden reference")
    parser.add_argument("--dynamic", type=Path, required=True, help="pack of the same weights, exported with --variant dynamic")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-track", action="store_true", help="only the times")
    args = parser.parse_args(argv)
    fixed, dynamic = (Pack(p, threads=args.threads) for p in (args.fixed, args.dynamic))
    if fixed.grows or not dynamic.grows:
        parser.error("--fixed wants the form of fixed shapes, --dynamic the one that grows")
    good = True
    if not args.no_track:
        frames, tracks = read_golden(args.fixed)[1][0]
        height, width = frames.shape[1:3]
        (one,), (other,) = (run_clip(pack, frames, [tracks[0].prompt]) for pack in (fixed, dynamic))
        gap = max(float(np.abs(a.low_res - b.low_res).max()) for a, b in zip(one, other))
        pixels = sum(int(((upsample(a.low_res, height, width) > 0) != (upsample(b.low_res, height, width) > 0)).sum())
                     for a, b in zip(one, other))
        good = pixels <= 1e-4 * height * width * len(frames)
        print(f"{len(frames)} frames, {tracks[0].prompt.kind}: logits differ by {gap:.1e} at most, {pixels} of "
              f"{height * width * len(frames)} mask pixels differ: {'pass' if good else 'FAIL'}")
    print("| memories | fixed, ms | dynamic, ms | dynamic / fixed |\n|---|---|---|---|")
    for memories in range(1, fixed.about["memory"]["frames"] + 1):
        # interleaved, so that a change of load meets both
        pairs = [(timed(fixed, memories, 1)[0], timed(dynamic, memories, 1)[0]) for _ in range(args.repeats)]
        a, b = (float(np.median(column)) for column in zip(*pairs))
        print(f"| {memories} | {a:.0f} | {b:.0f} | {b / a:.2f} |", flush=True)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
