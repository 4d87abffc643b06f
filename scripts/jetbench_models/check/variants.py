"""Compares the fixed-shape form of a model with the one whose memory grows: equal masks, and what each costs.

Both packs hold the same weights (``export --variant dynamic`` writes the second). One track of the golden clip runs through both;
then memory_attention alone is timed with 1 to 7 memories and as many pointers. The fixed form computes all seven slots
whatever is in them, the growing form what exists. (The fixed pack's form for the CPU is left out: it cuts the state to what exists.)

The times are paired: each repeat runs both forms on inputs of the same values, first the one, then the other, and the next
repeat the other way round; what is reported is the median ratio and its quartiles. With one thread the clock is the process's CPU
time, which other work on the machine lengthens little; with more it is the wall's.

Example:
    python -m jetbench_models variants --fixed packs/edgetam --dynamic packs/edgetam_dynamic
"""
from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from ..command import existing_pack, parser, positive
from ..pack.loop import Pack, run_clip, upsample
from ..pack.reference import read_golden


def inputs_of(pack: Pack, memories: int) -> dict[str, np.ndarray]:
    """Inputs of memory_attention with this many memories; the same values for both forms, as far as they go."""
    rng, about = np.random.default_rng(memories), pack.about["memory"]
    count = (memories, memories) if pack.grows else (about["frames"], about["pointers"])
    full = {"bank": (about["frames"], *pack.shapes["bank"][2:]), "ptrs": (about["pointers"], *pack.shapes["ptrs"][2:])}
    made = {"image_embed": rng.standard_normal(pack.shapes["image_embed"], np.float32), "age": np.full(1, memories, np.float32)}
    for (name, shape), used in zip(full.items(), count):
        made[name] = rng.standard_normal((1, *shape), np.float32)[:, :used]
    return made


def paired(fixed: Pack, dynamic: Pack, memories: int, repeats: int, clock: Callable[[], float]) -> np.ndarray:
    """Milliseconds of memory_attention, [repeats, 2]: fixed and dynamic, after an untimed call of each."""
    forms = [(fixed, inputs_of(fixed, memories)), (dynamic, inputs_of(dynamic, memories))]

    def once(form: int) -> float:
        pack, inputs = forms[form]
        start = clock()
        pack.run("memory_attention", **inputs)
        return 1000 * (clock() - start)

    found = np.zeros((repeats, 2))
    for repeat in range(-1, repeats):
        for form in ((0, 1) if repeat % 2 else (1, 0)):
            found[max(repeat, 0), form] = once(form)
    return found


def main(argv: list[str]) -> int:
    options = parser("variants", __doc__)
    options.add_argument("--fixed", type=existing_pack, required=True, help="pack with a golden reference")
    options.add_argument("--dynamic", type=existing_pack, required=True, help="pack of the same weights, exported with --variant dynamic")
    options.add_argument("--repeats", type=positive, default=20, help="pairs per number of memories (default: 20)")
    options.add_argument("--threads", type=positive, default=1)
    options.add_argument("--no-track", action="store_true", help="only the times")
    args = options.parse_args(argv)
    fixed, dynamic = (Pack(p, threads=args.threads, plain=True) for p in (args.fixed, args.dynamic))
    if fixed.grows or not dynamic.grows:
        options.error("--fixed wants the form of fixed shapes, --dynamic the one that grows")
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
    clock, what = (time.process_time, "CPU time") if args.threads == 1 else (time.perf_counter, "wall time")
    print(f"memory_attention, {what}, {args.threads} thread(s), {args.repeats} pairs each\n"
          "| memories | fixed, ms | dynamic, ms | dynamic / fixed, median | quartiles |\n|---|---|---|---|---|")
    for memories in range(1, fixed.about["memory"]["frames"] + 1):
        times = paired(fixed, dynamic, memories, args.repeats, clock)
        (a, b), (low, middle, high) = np.median(times, 0), np.quantile(times[:, 1] / times[:, 0], (0.25, 0.5, 0.75))
        print(f"| {memories} | {a:.1f} | {b:.1f} | {middle:.2f} | {low:.2f} to {high:.2f} |", flush=True)
    return int(not good)
