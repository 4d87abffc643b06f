"""Runs `jetbench packs get` from nothing to a pack, measured, and once more killed again and again: does it end in the same pack?

    python3 scripts/tests/get_killed.py --root DIR --home home/user --name edgetam --kills 10 --seed 1 --notes DIR -- COMMAND…

``COMMAND`` runs as it is given, from a process group of its own, and must find an empty ``DIR/home/user``. First it runs undisturbed:
seconds per phase, processor time, peak memory and disk. That home is put aside. In a new one it is killed ``--kills`` times, at moments
that are drawn from ``--seed``: each phase of the first run has its share, and a moment is anywhere in the phase's time. Half of the kills
meet the process group, the others the first process alone, and the next run starts at once. The last run is left alone. Then packs and
environments must be equal, file by file, and nothing may lie about that the first run did not leave, too.
"""
from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# What goes on, in order.
NAMES = ["environment", "packages", "PyTorch's own index", "PyTorch, fetched", "PyTorch, unpacked", "checkpoint", "export", "proof"]
# Of ten kills, a second for those that are cheap to come by.
SHARES = [*NAMES, "environment", "checkpoint"]
MARK = "JETBENCH_TRIAL"         # in the surroundings of every process of a run, so that none of them is overlooked


def phase_after(line: str, phase: str) -> str:
    """The phase that a line of output begins, or the one before. The plan is said before the installation, too."""
    if " -m venv " in line:
        return "environment"
    if " -m pip install " in line:
        return "PyTorch's own index" if " --index-url " in line else "PyTorch, fetched" if " torch==" in line else "packages"
    if line.startswith("Installing collected packages: ") and phase == "PyTorch, fetched":
        return "PyTorch, unpacked"
    if "the exporter is not installed" in line:
        return "plan"
    if "downloads are kept in " in line and phase != "plan":
        return "checkpoint"
    said = re.fullmatch(r"\[ *[\d.]+ s\] \S+: (export|proof)\n?", line)
    return said[1] if said else phase


def processes(mark: str) -> Iterator[int]:
    """Processes of a run, found by their surroundings: also those whose parents are gone."""
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if wanted in (entry / "environ").read_bytes().split(b"\0") and (entry / "stat").read_text().split(") ")[1][0] != "Z":
                    yield int(entry.name)
            except OSError:
                continue


def memory_mib(mark: str) -> float:
    """Memory of all processes of a run together; pages that they share count once."""
    total = 0
    for process in processes(mark):
        try:
            total += int(re.findall(r"^Pss: +(\d+) kB", Path(f"/proc/{process}/smaps_rollup").read_text(), re.MULTILINE)[0])
        except (OSError, IndexError):
            continue
    return total / 1024


def disk_mb(folder: Path) -> float:
    said = subprocess.run(["du", "-sx", "--block-size=1", folder], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout
    return int(said.split()[0]) / 1e6 if said else 0.0


@dataclass
class Kill:
    phase: str
    after: float        # seconds in that phase
    group: bool

    def __str__(self) -> str:
        return f"{self.after:.1f} s into {self.phase!r}, {'the group' if self.group else 'the first process alone'}"


@dataclass
class Run:
    """What one run did. ``seconds``, ``peak_mib``: by phase. ``left``: processes a moment after the kill."""

    code: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    peak_mib: dict[str, float] = field(default_factory=dict)
    disk_mb: float = 0.0
    cpu_s: float = 0.0
    killed_in: str | None = None
    left: int = 0


class Trial:
    def __init__(self, args: argparse.Namespace):
        self.args, self.home = args, args.root / args.home
        self.pack = self.home / "packs" / args.name
        self.count = 0

    def run(self, kill: Kill | None, measured: bool = False) -> Run:
        self.count += 1
        mark, run = f"{os.getpid()}-{self.count}", Run()
        began = time.monotonic()
        entered: list[tuple[str, float]] = [("start", began)]       # phases, and when they began
        around = dict(pair.split("=", 1) for pair in self.args.env)
        process = subprocess.Popen(self.args.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   env={**around, MARK: mark}, start_new_session=True)

        def listen() -> None:
            with (self.args.notes / f"run-{self.count}.log").open("w") as log:
                for line in process.stdout or ():
                    now = time.monotonic()
                    log.write(f"{now - began:8.1f} {line}")
                    log.flush()
                    if (phase := phase_after(line, entered[-1][0])) != entered[-1][0]:
                        entered.append((phase, now))
            entered.append(("", time.monotonic()))

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        looked = 0.0
        while True:
            ended, status, took = os.wait4(process.pid, os.WNOHANG)
            now, (at, since) = time.monotonic(), entered[-1]
            if ended:
                listener.join(5)
                break
            if kill and at in NAMES:
                later = NAMES.index(at) - NAMES.index(kill.phase)
                if later > 0 or (later == 0 and now - since >= kill.after):
                    run.killed_in = at
                    (os.killpg if kill.group else os.kill)(process.pid, signal.SIGKILL)
                    _, status, took = os.wait4(process.pid, 0)
                    break
            if measured:
                run.peak_mib[at] = max(run.peak_mib.get(at, 0), memory_mib(mark))
                if now - looked > 5:
                    run.disk_mb, looked = max(run.disk_mb, disk_mb(self.args.root)), now
            time.sleep(0.2 if measured else 0.02)
        run.cpu_s, run.code = took.ru_utime + took.ru_stime, os.waitstatus_to_exitcode(status)
        for (phase, start), (_, end) in zip(entered, [*entered[1:], ("", now)]):
            if phase:
                run.seconds[phase] = run.seconds.get(phase, 0) + end - start
        if run.killed_in:
            time.sleep(0.3)
            run.left = len(list(processes(mark)))
        return run

    def kills(self, seconds: dict[str, float]) -> list[Kill]:
        """Where and when, in the order of the phases: what was installed is not installed again."""
        draw = random.Random(self.args.seed)
        chosen = [SHARES[i % len(SHARES)] for i in range(self.args.kills)]
        groups = [i % 2 == 0 for i in range(self.args.kills)]
        draw.shuffle(groups)
        moments = [Kill(name, draw.uniform(0, seconds[name]), group) for name, group in zip(chosen, groups) if name in seconds]
        return sorted(moments, key=lambda kill: (NAMES.index(kill.phase), kill.after))


def digests(folder: Path) -> dict[str, str]:
    """By relative path. Left out is what differs each time: compiled Python (the time of its source), how an environment was made (its name
    before it was whole), lines about commands in a package's list of files, and where checkpoints came from (the port)."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.suffix == ".pyc" or path.name in ("pyvenv.cfg", "checkpoints.lock"):
            found[name] = ""
        elif path.name == "RECORD":
            lines = [line for line in path.read_text().splitlines() if not line.startswith("../../../bin/")]
            found[name] = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        elif path.is_file():
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def one_digest(files: dict[str, str]) -> str:
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in files.items()).encode()).hexdigest()


def outside(root: Path, home: Path) -> set[str]:
    """Files of the tree but those of homes, the kernel's and what the loader keeps."""
    skipped = {home.parent, root / "proc", root / "sys", root / "dev"}
    found = set()
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if Path(folder) / name not in skipped]
        found |= {str(Path(folder) / name) for name in files}
    return found


def tell(run: Run, trial: Trial) -> None:
    print(f"undisturbed: {sum(run.seconds.values()):.0f} s, {run.cpu_s:.0f} s of CPU, peak memory of all its processes "
          f"{max(run.peak_mib.values()):.0f} MiB")
    for name, seconds in run.seconds.items():
        print(f"  {name:20s} {seconds:7.1f} s   peak {run.peak_mib.get(name, 0):6.0f} MiB")
    for what, folder in (("environment", ".local/share/jetbench"), ("kept by pip", ".cache/pip"),
                         ("kept checkpoints", ".cache/jetbench"), ("pack", f"packs/{trial.args.name}")):
        print(f"  {what:20s} {disk_mb(trial.home / folder):7.1f} MB on disk")


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--root", type=Path, required=True, metavar="DIR", help="tree that the command sees as / (may be / of a test)")
    options.add_argument("--home", required=True, metavar="PATH", help="its HOME, relative to --root; removed and made")
    options.add_argument("--name", default="edgetam", help="pack that it makes in HOME/packs")
    options.add_argument("--kills", type=int, default=10)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--notes", type=Path, required=True, metavar="DIR", help="for what each run printed")
    options.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="all that it finds in its surroundings")
    options.add_argument("command", nargs="+")
    args = options.parse_args()
    args.notes.mkdir(parents=True, exist_ok=True)
    trial, faults = Trial(args), []
    aside = trial.home.with_name(trial.home.name + "-undisturbed")
    for folder in (trial.home, aside):
        shutil.rmtree(folder, ignore_errors=True)
    trial.home.mkdir(parents=True)

    bare, whole = disk_mb(args.root), trial.run(None, measured=True)
    if whole.code:
        print((args.notes / "run-1.log").read_text()[-3000:], file=sys.stderr)
        return 1
    tell(whole, trial)
    print(f"  {'most seen, together':20s} {whole.disk_mb - bare:7.1f} MB on disk", flush=True)
    lies_about = outside(args.root, trial.home)
    trial.home.replace(aside)
    trial.home.mkdir()

    chosen = trial.kills(whole.seconds)
    if len(chosen) < args.kills:
        faults.append(f"{args.kills - len(chosen)} kills are of phases that the undisturbed run did not have")
    met = set()
    for kill in chosen:
        run = trial.run(kill)
        met.add(run.killed_in)
        print(f"killed {kill}: in {run.killed_in!r} after {sum(run.seconds.values()):.0f} s, {run.left} processes left", flush=True)
        if not run.killed_in:
            faults.append(f"a run that was to be killed {kill} ended first, with exit code {run.code}")
        if trial.pack.exists():
            faults.append("a pack of a killed run has its name")
    if missed := [name for name in SHARES if name in whole.seconds and name not in met]:
        print(f"no kill met {', '.join(map(repr, dict.fromkeys(missed)))}: another --seed or more --kills may", flush=True)
    last = trial.run(None)
    print(f"left alone: exit code {last.code}, {sum(last.seconds.values()):.0f} s", flush=True)
    if last.code:
        faults.append(f"the last run ended with exit code {last.code}: {args.notes}/run-{trial.count}.log")

    packs = [digests(home / "packs" / args.name) for home in (aside, trial.home)]
    print(f"pack: {len(packs[0])} files, {one_digest(packs[0])} undisturbed, {one_digest(packs[1])} after {args.kills} kills")
    faults += [f"the packs differ in {name}" for name in differences(*packs)]
    homes = [{name: digest for name, digest in digests(home).items() if not name.startswith((".cache/pip/", "packs/"))}
             for home in (aside, trial.home)]
    faults += [f"the homes differ in {name}" for name in differences(*homes)][:20]
    new = outside(args.root, trial.home) - lies_about
    faults += [f"left over: {name}" for name in sorted(new)][:20]
    print(f"beside the packs: {len(homes[0])} files; kept by pip {disk_mb(aside / '.cache/pip'):.1f} MB undisturbed, "
          f"{disk_mb(trial.home / '.cache/pip'):.1f} MB after the kills; left over elsewhere "
          f"{sum(Path(name).lstat().st_size for name in new) / 1e6:.1f} MB in {len(new)} files")
    for fault in faults:
        print(f"FAULT: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
