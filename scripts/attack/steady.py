"""C. Steady, stalled, starved: what a machine does to a measurement is in its verdict."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from place import Place, Skipped, attack, hold, valid

# What may be said of a cell whose latency has a shape; that other programs ran beside it is another matter.
SHAPED = {"outliers", "drift", "shifted", "scattered", "slow_start"}


def seen(place: Place, run: Path, what: str, kinds: set[str]) -> str:
    """The verdict's words; a cell that is valid must say that it was disturbed by one of these kinds."""
    cell = place.record(run)["cells"][0]
    verdict, said = place.verdict(cell), sorted(kinds.intersection(cell.get("disturbed", [])))
    hold(not valid([verdict]) or bool(said), f"{what}: {verdict}")
    return " ".join([verdict, *said])


# Latency over 240 frames, milliseconds.
SHAPES = {
    "a step to twice the time at frame 150": [5.0] * 150 + [10.0] * 90,
    "a late rise to three times": [4.0] * 225 + [12.0] * 15,
    "5 and 12 ms in turn, twenty frames each": ([5.0] * 20 + [12.0] * 20) * 6,
    "a ramp with a bump": [3.0 + i / 60 + (3.0 if 100 <= i < 130 else 0.0) for i in range(240)],
}


@attack("C7", "latency that changes to the end, in four shapes", scripted=True)
def shapes(place: Place) -> str:
    place.draw(frames=240)
    told = []
    for n, (what, times) in enumerate(SHAPES.items()):
        place.pack("m", f"frame_ms = {times}")
        place.measure("--out", f"shape{n}")
        told.append(f"{what}: {seen(place, place.runs(f'shape{n}')[0], what, SHAPED)}")
    return "; ".join(told)


@attack("C8", "the worker stopped for two seconds while it tracks")
def stopped(place: Place) -> str:
    place.draw(frames=100)
    place.pack("m", "frame_ms = [10.0]")
    with place.going() as child:
        run = place.tracking()
        children = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        hold(bool(children), "no worker")
        time.sleep(0.3)
        os.kill(int(children[0]), signal.SIGSTOP)
        time.sleep(2)
        os.kill(int(children[0]), signal.SIGCONT)
        place.finish(child)
    return seen(place, run, "two seconds without the worker", {"stalled"})


@attack("C9", "a fifth of one processor by cgroup, under the digest of the whole machine")
def quota(place: Place) -> str:
    home = small_group()
    try:
        return same_device(place, f"echo $$ > {home}/cgroup.procs;")
    finally:
        place.until(lambda: not (home / "cgroup.procs").read_text(), "the cgroup's end")
        home.rmdir()


def small_group() -> Path:
    """A new cgroup, of version 2 or 1, with a fifth of one processor."""
    root = Path("/sys/fs/cgroup")
    second = root / "cgroup.controllers"
    if second.is_file() and "cpu" in second.read_text().split():
        parent, quota = root, {"cpu.max": "20000 100000"}
    elif (root / "cpu" / "cpu.cfs_quota_us").is_file():
        parent, quota = root / "cpu", {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "20000"}
    else:
        raise Skipped("no cgroup with a CPU controller")
    home = parent / f"jetbench-attack-{os.getpid()}"
    try:
        home.mkdir()
    except OSError as e:
        raise Skipped(f"{parent} may not be written ({e.strerror})") from None
    try:
        for file, value in quota.items():
            (home / file).write_text(value)
    except OSError as e:
        home.rmdir()
        raise Skipped(f"{home}: no quota can be set ({e.strerror})") from None
    return home


@attack("C9", "one processor of several by affinity, under the digest of the whole machine")
def affinity(place: Place) -> str:
    if len(os.sched_getaffinity(0)) < 2 or not shutil.which("taskset"):
        raise Skipped("one processor, or no taskset")
    return same_device(place, f"taskset -p -c {min(os.sched_getaffinity(0))} $$ >/dev/null;")


def same_device(place: Place, before: str) -> str:
    """A run with less than the machine must not pass for one on the whole machine."""
    place.draw()
    place.measure("--out", "whole")
    place.measure("--out", "less", before=before)
    whole, less = (place.record(place.runs(out)[0]) for out in ("whole", "less"))
    verdict = place.verdict(less["cells"][0])
    hold(not valid([verdict]) or whole["device"]["digest"] != less["device"]["digest"], f"{verdict}, as the same device")
    return f"{verdict}; device {whole['device']['digest'][:8]} and {less['device']['digest'][:8]}"


@attack("C10", "--if-changed after a cell that was not valid")
def if_changed_keeps_the_code(place: Place) -> str:
    place.draw(frames=5)
    first = place.measure("--if-changed")
    hold(first.code == 1, f"the first run: exit {first.code}")
    second = place.measure("--if-changed")
    hold(second.code == 1, f"exit {second.code} the second time: {second.last}")
    return "exit 1 both times"
