"""From a name to a proven pack: fetches the released checkpoint, exports it, proves the pack, and puts it in its place.

Sizes, time, memory and the licence are said first, and what it took at the end. Downloads are resumed and compared with the
released files' digests. A pack appears under its name only when it is whole and proven: killed at any moment and started
again, the command ends in the same pack. No account and no token are used.

Examples:
    python -m jetbench_models get edgetam sam2.1_tiny --out packs
    python -m jetbench_models get sam2.1_large --dtype fp32,fp16 --from /media/usb/checkpoints
    HF_ENDPOINT=https://mirror.example python -m jetbench_models get edgetam
    python -m jetbench_models get --list
"""
from __future__ import annotations

import argparse
import ctypes
import hashlib
import importlib.util
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

from ..clips import KINDS
from ..command import Refused, Unavailable, not_negative, parser, positive, progress, some_of
from ..pack import DTYPES
from .download import Wanted, alone, digest_of, fetch, take_from_folder
from .releases import HUB, RELEASES, Cost, Release

BYTES_PER_PARAMETER = {"fp32": 8, "fp16": 2, "bf16": 2}     # fp32: also the CPU form, which a detector does not have
BESIDE_GRAPHS = 20e6                                        # bytes: frames and tensors of the reference, tables in the graphs


def _sha256(text: str) -> tuple[str, str]:
    match = re.fullmatch(r"([\w.]+)=([0-9a-fA-F]{64})", text)
    if not match or match[1] not in RELEASES:
        raise argparse.ArgumentTypeError(f"{text!r}: NAME=DIGEST expected, a name of the list and 64 hexadecimal digits")
    return match[1], match[2].lower()


def _options() -> argparse.ArgumentParser:
    made = parser("get", __doc__)
    made.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of {', '.join(RELEASES)}")
    made.add_argument("--list", action="store_true", help="list the released checkpoints, and stop")
    made.add_argument("--plan", action="store_true", help="say what would be fetched and made, and what it takes, and stop")
    made.add_argument("--dtype", type=some_of(DTYPES), default=DTYPES, metavar="LIST",
                      help="data types of the graphs, comma-separated (default: fp32,fp16,bf16)")
    made.add_argument("--out", type=Path, default=Path("packs"), metavar="DIR", help="folder of packs (default: packs)")
    made.add_argument("--from", dest="source", metavar="DIR|URL",
                      help="take the files from here, under their released names: a folder, or the address of one (default: the "
                           "publisher's address, then the hub's; with HF_ENDPOINT set, the hub at that address)")
    made.add_argument("--cache", type=Path, metavar="DIR", help="where downloads are kept (default: ~/.cache/jetbench/checkpoints)")
    made.add_argument("--sha256", type=_sha256, action="append", default=[], metavar="NAME=DIGEST",
                      help="take this file in place of the released one of that name, e.g. weights that were trained further")
    made.add_argument("--download-only", action="store_true", help="fetch and compare the checkpoints, and stop")
    made.add_argument("--force", action="store_true", help="make packs anew that are there already")
    made.add_argument("--frames", type=not_negative, default=12, help="length of the golden clip, as for export (default: 12)")
    made.add_argument("--prompts", type=some_of(KINDS), default=KINDS, metavar="LIST",
                      help="prompt kinds of the golden reference, as for export (default: points,bbox,mask)")
    made.add_argument("--threads", type=positive, default=1, help="of the export and the proof (default: 1)")
    made.add_argument("--jetbench", type=Path, metavar="FILE",
                      help="prove with this program's runner (default: with `verify` of this package, which needs fp32 graphs)")
    return made


@dataclass(frozen=True)
class Job:
    """One pack to make. ``estimate``: bytes of the pack, from the number of parameters."""

    release: Release
    wanted: Wanted
    place: Path
    estimate: float


def _wanted(release: Release, source: str | None, given: dict[str, str]) -> Wanted:
    own = given.get(release.name)
    endpoint = os.environ.get("HF_ENDPOINT", "").strip()
    if source and source.startswith(("http://", "https://")):
        addresses: tuple[str, ...] = (f"{source.rstrip('/')}/{release.file}",)
    elif endpoint:
        addresses = (release.hub_address(endpoint),)
    elif release.gated and not source:
        raise Refused(f"{release.name}: {HUB}/{release.repository} gives its files to whoever accepts the {release.licence} there "
                      f"({release.terms}), and no token is asked for here: fetch {release.file} yourself and name its folder with --from")
    else:
        addresses = tuple(dict.fromkeys((release.official_address, release.hub_address(HUB))))
    return Wanted(release.file, addresses, None if own else release.size, own or release.sha256)


def _jobs(args: argparse.Namespace) -> list[Job]:
    given = dict(args.sha256)
    jobs = []
    for name in dict.fromkeys(args.names):
        release = RELEASES[name]
        each = BYTES_PER_PARAMETER | ({"fp32": 4} if release.detects else {})
        estimate = release.parameters * 1e6 * sum(each[kind] for kind in args.dtype) + BESIDE_GRAPHS
        jobs.append(Job(release, _wanted(release, args.source, given), args.out / name, estimate))
    return jobs


def listing() -> str:
    lines = [f"{'name':23s} {'file':26s} {'MB':>9s} {'parameters':>11s}  licence     hub repository @ revision"]
    lines += [f"{r.name:23s} {r.file:26s} {r.megabytes.removesuffix(' MB'):>9s} {r.parameters:9.1f} M  {r.licence}  "
              f"{r.repository} @ {r.revision[:12]}" for r in RELEASES.values()]
    return "\n".join(lines)


def plan(jobs: list[Job], args: argparse.Namespace, cache: Path) -> list[str]:
    """What will be fetched, made and needed, a line each."""
    lines = []
    for job in jobs:
        r = job.release
        lines.append(f"{r.name}: {r.title}, {r.parameters} M parameters, weights under {r.licence} ({r.terms})")
        where = args.source or " or ".join(job.wanted.sources)
        kind = "as given with --sha256" if args.sha256 and r.name in dict(args.sha256) else r.megabytes
        lines.append(f"  checkpoint {r.file}, {kind}, from {where}")
        if not args.download_only:
            lines.append(f"  pack {job.place} ({', '.join(args.dtype)}): about {job.estimate / 1e6:.0f} MB, estimated from the parameters")
            lines.append(f"  export and proof: {_expected(r)}")
    lines.append(f"downloads are kept in {cache}")
    return lines


def _expected(release: Release) -> str:
    def measured(c: Cost) -> str:
        return (f"{c.cpu_minutes:.0f} min of one Xeon core, peak memory {c.memory_mib} MiB, {c.pack_mb:.0f} MB on disk (all data types, "
                f"reference of {c.reference}; three kinds of prompt take longer)")

    if release.cost:
        return f"the export took {measured(release.cost)}; the proof comes on top"
    known = sorted((r for r in RELEASES.values() if r.cost), key=lambda r: r.parameters)
    others = "; ".join(f"{r.name} ({r.parameters} M): {measured(r.cost)}" for r in known if r.cost)
    return "time and memory were not measured for this size" + (f"; of others, {others}" if others else "")


def _room(jobs: list[Job], args: argparse.Namespace, cache: Path) -> None:
    """Refuses before anything is fetched where the disk cannot hold it."""
    needs: dict[int, tuple[Path, float]] = {}

    def need(folder: Path, count: float) -> None:
        there = folder.absolute()
        while not there.exists():
            there = there.parent
        device = there.stat().st_dev
        needs[device] = (there, needs.get(device, (there, 0.0))[1] + count)

    for job in jobs:
        have = [cache / job.wanted.file, cache / f"{job.wanted.file}.part"]
        if not (args.source and Path(args.source).is_dir()):
            need(cache, max(0, job.release.download - max((p.stat().st_size for p in have if p.is_file()), default=0)))
        if not args.download_only and not (job.place / "pack.toml").is_file():
            need(args.out, job.estimate)
    for there, count in needs.values():
        free = shutil.disk_usage(there).free
        if free < count:
            raise Unavailable(f"{there}: {free / 1e6:.0f} MB are free, about {count / 1e6:.0f} MB are needed; --out and --cache name "
                              "other places")


def _wrong_files(pack: Path) -> list[str]:
    """What of a pack's files is not as its manifest says: digests of all graphs, in every data type."""
    about = tomllib.loads((pack / "pack.toml").read_text())
    wrong = []
    for graph in about["graph"]:
        files = [(file, graph["sha256"][kind]) for kind, file in graph["files"].items()]
        files += [(graph["cpu"]["file"], graph["cpu"]["sha256"])] if "cpu" in graph else []
        wrong += [file for file, digest in files if not (pack / file).is_file() or digest_of(pack / file) != digest]
    return wrong


def _there_already(job: Job, digest: str, dtypes: tuple[str, ...]) -> bool:
    """Is the pack of this checkpoint, with these data types, in its place and whole? Refuses where another is."""
    try:
        about = tomllib.loads((job.place / "pack.toml").read_text())
        has = set(about["graph"][0]["files"])
        same = about["provenance"]["checkpoint_sha256"] == digest and set(dtypes) <= has
        wrong = _wrong_files(job.place) if same else []
    except FileNotFoundError:
        if job.place.exists() and any(job.place.iterdir()):
            raise Refused(f"{job.place}: is there and is no pack; --out names another folder, --force replaces it") from None
        return False
    except (tomllib.TOMLDecodeError, KeyError, IndexError, TypeError) as error:
        raise Refused(f"{job.place / 'pack.toml'}: {error}; --force replaces it") from None
    if wrong:
        raise Refused(f"{job.place}: {', '.join(wrong)}: not as pack.toml says; --force makes the pack anew")
    if not same:
        raise Refused(f"{job.place}: a pack of another checkpoint or without {', '.join(dtypes)}; --out names another folder, "
                      "--force replaces it")
    return True


def _ends_with_parent() -> None:
    """In a child: it is ended when this process is, so that no half-done export goes on beside the next one."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)          # PR_SET_PDEATHSIG


def _child(words: list[str], threads: int) -> resource.struct_rusage:
    """Runs a command of this package, or a program, with what it prints passed through; what it took."""
    package = str(Path(__file__).parents[2])
    surroundings = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive",
                    "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")])),
                    # the program looks for ONNX Runtime in the package that python3 has
                    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}
    process = subprocess.Popen(words, env=surroundings, close_fds=False, preexec_fn=_ends_with_parent)     # noqa: PLW1509 (no threads here)
    _, status, took = os.wait4(process.pid, 0)
    process.returncode = code = os.waitstatus_to_exitcode(status)
    if code:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        if code == -9:
            how += " (out of memory?)"
        raise Failed(f"`{' '.join(words)}` {how}")
    return took


def run_as(release: Release) -> str:
    """A tag under which the pack is run: a detector needs a tracker."""
    return f"edgetam_{release.name}" if release.detects else f"{release.name}_points"


class Failed(RuntimeError):
    """An export or a proof ended badly."""


def export_words(job: Job, checkpoint: Path, args: argparse.Namespace, out: Path) -> list[str]:
    prompts = [] if job.release.detects else ["--prompts", ",".join(args.prompts)]
    return [sys.executable, "-m", "jetbench_models", "export", "--checkpoint", str(checkpoint), "--model", job.release.name,
            "--id", job.release.name, "--out", str(out), "--dtype", ",".join(args.dtype), "--frames", str(args.frames),
            *prompts, "--threads", str(args.threads)]


def proof_words(args: argparse.Namespace, pack: Path, detects: bool) -> list[str]:
    """The program's own `verify` calls a reference weak that lacks a kind of prompt; whoever asked for fewer gets the other one."""
    if args.jetbench and (detects or set(args.prompts) == set(KINDS)):
        kind = "fp32" if "fp32" in args.dtype else args.dtype[0]
        return [str(args.jetbench), "verify", str(pack), "--dtype", kind]
    return [sys.executable, "-m", "jetbench_models", "verify", "--pack", str(pack), "--threads", str(args.threads)]


def _make(job: Job, checkpoint: Path, args: argparse.Namespace) -> None:
    """Exports beside the packs, proves, and moves into place."""
    half = args.out / ".getting" / job.release.name
    began = time.monotonic()
    with alone(args.out / ".getting", job.release.name):
        shutil.rmtree(half, ignore_errors=True)         # of a run that was killed
        progress.say(f"{job.release.name}: export")
        took = _child(export_words(job, checkpoint, args, half), args.threads)
        exported = time.monotonic() - began
        proof, peak = "not proven: --frames 0 leaves out the reference", took.ru_maxrss / 1024
        if args.frames:
            progress.say(f"{job.release.name}: proof")
            proving = _child(proof_words(args, half, job.release.detects), args.threads)
            peak = max(peak, proving.ru_maxrss / 1024)
            proven = "detections" if job.release.detects else ", ".join(args.prompts)
            proof = f"proven ({proven}) in {time.monotonic() - began - exported:.0f} s"
        size = sum(f.stat().st_size for f in half.rglob("*") if f.is_file())
        if job.place.exists():                          # --force, or an empty folder
            old = args.out / ".getting" / f"{job.release.name}.old"
            shutil.rmtree(old, ignore_errors=True)
            job.place.replace(old)
            half.replace(job.place)
            shutil.rmtree(old, ignore_errors=True)
        else:
            half.replace(job.place)
    digest = hashlib.sha256((job.place / "pack.toml").read_bytes()).hexdigest()
    progress.say(f"{job.place}: {proof}; exported in {exported:.0f} s ({took.ru_utime + took.ru_stime:.0f} s of CPU), "
                 f"peak memory {peak:.0f} MiB, {size / 1e6:.1f} MB on disk, pack.toml {digest[:12]}")


def _run(args: argparse.Namespace, cache: Path) -> None:
    jobs = _jobs(args)
    print("\n".join(plan(jobs, args, cache)), flush=True)
    _room(jobs, args, cache)
    if args.plan:
        return
    folder = Path(args.source) if args.source and not args.source.startswith(("http://", "https://")) else None
    for package in () if args.download_only else ("torch", "transformers", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise ModuleNotFoundError(name=package)     # before minutes of download
    progress.start()
    for job in jobs:
        if folder:
            path, digest = take_from_folder(job.wanted, [folder, folder / job.release.name])
            origin = "used where it lies"
        else:
            path, digest, origin = fetch(job.wanted, cache)
        progress.say(f"{path}: {path.stat().st_size / 1e6:.1f} MB, digest {digest[:12]} as expected, {origin}"
                     if job.wanted.sha256 else
                     f"{path}: {path.stat().st_size / 1e6:.1f} MB, digest {digest}, trusted since it was first fetched, {origin}")
        if args.download_only:
            continue
        if not args.force and _there_already(job, digest, args.dtype):
            progress.say(f"{job.place}: there already, of this checkpoint, every graph as its manifest says")
            continue
        args.out.mkdir(parents=True, exist_ok=True)
        _make(job, path, args)
    if not args.download_only:
        print(f"packs: {', '.join(str(job.place) for job in jobs)}\n"
              f"run one: jetbench --models {run_as(jobs[0].release)} --packs {args.out} --dtype {args.dtype[0]}", flush=True)


def main(argv: list[str]) -> int:
    options = _options()
    args = options.parse_args(argv)
    if args.list:
        print(listing())
        return 0
    if not args.names:
        options.error(f"a NAME is missing; known are {', '.join(RELEASES)}")
    if unknown := [name for name in args.names if name not in RELEASES]:
        options.error(f"{', '.join(map(repr, unknown))}: no released checkpoint; known are {', '.join(RELEASES)}")
    if 0 < args.frames < 8:
        options.error("--frames: at least 8, or 0 for a pack without a reference, which cannot be proven")
    if args.source and not args.source.startswith(("http://", "https://")) and not Path(args.source).is_dir():
        options.error(f"--from {args.source}: neither a folder nor an http address")
    by_runner = args.jetbench and set(args.prompts) == set(KINDS)
    if "fp32" not in args.dtype and not by_runner and args.frames and not args.download_only:
        options.error("--dtype without fp32 is proven by the program's runner only, with every kind of prompt: add fp32, or name the "
                      "program with --jetbench and leave out --prompts")
    cache = args.cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jetbench" / "checkpoints"
    try:
        _run(args, cache)
    except Failed as failure:
        print(f"jetbench-models get: {failure}", file=sys.stderr)
        return 1
    except Unavailable as lack:
        print(f"jetbench-models get: {lack}", file=sys.stderr)
        return 3
    return 0
