"""D. Hostile or odd surroundings: paths, pipes, escape sequences, formulas, limits, clocks, full disks, kills."""

from __future__ import annotations

import csv
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from place import Broken, Place, Skipped, attack, hold, valid


@attack("D11", "device.name ../../x, /x and an escape in a foreign record, joined", short=True)
def traversal(place: Place) -> str:
    place.draw(videos=2)
    for part in ("1/2", "2/2"):
        place.measure("--shard", part, "--out", "parts")
    before = set(place.dir.parent.glob("*escaped*"))
    for name in ("../../escaped", "/tmp/escaped", "..", "a\x1b[2J"):
        for run in place.runs("parts"):
            place.forge(run, functools.partial(rename, name=name))
        said = place.call("merge", "parts", "--out", "joined/deep")
        hold(said.code == 2, f"{name!r}: exit {said.code}")
    outside = [path for path in [*place.dir.rglob("*escaped*"), *place.dir.parent.glob("*escaped*")] if path not in before]
    hold(not outside, f"written: {outside}")
    return f"exit 2: {said.last}"


def rename(record: dict[str, Any], name: str) -> None:
    record["device"]["name"] = name


@attack("D11", "a library in a foreign record, resumed")
def foreign_library(place: Place) -> str:
    place.draw()
    place.pack("m", "frame_ms = [25.0]")
    with place.going() as child:
        run = place.tracking()
        child.kill()
        child.wait()
    marker = place.dir / "loaded"
    library = place.dir / "evil.so"
    source = place.dir / "evil.c"
    source.write_text(f'#include <stdlib.h>\n__attribute__((constructor)) static void go(void) {{ system("touch {marker}"); }}\n')
    if not shutil.which("cc") or subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=False).returncode:
        library.write_bytes(b"\x7fELF")
    head = run / "partial" / "run.json"
    record = json.loads(head.read_text())
    record["settings"]["ort_lib"] = str(library)
    head.write_text(json.dumps(record))
    said = place.call("--resume", str(run))
    hold(not marker.exists(), "the record's library was loaded")
    hold(said.code in (2, 3), f"exit {said.code}: {said.last}")
    return f"exit {said.code}: {said.last}"


def no_file(path: Path, kind: str) -> None:
    """Puts something in a file's place that is none."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "directory":
        path.mkdir()
    else:
        parent = os.open(path.parent, os.O_PATH)
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"/proc/self/fd/{parent}/{path.name}")  # names of sockets are short
        os.close(parent)


@attack("D12", "a pipe, an endless device, a socket and a directory in the place of every file that is read", short=True)
def no_files(place: Place) -> str:
    data = place.draw()
    place.measure("--out", "done")
    done = place.runs("done")[0]
    frame, mask = place.frames(data)[3], place.masks(data)[3]
    pack = place.dir / "packs" / "m" / "pack.toml"
    odd, locks = place.dir / "odd", place.dir / "locks"
    job = place.job()
    cases: list[tuple[str, Path, list[str]]] = [
        ("frame", frame, job), ("mask", mask, job), ("frame, check", frame, ["data", "check", "data"]),
        ("mask, score", mask, ["score", "data/Annotations", "data/Annotations"]),
        ("pack", pack, job), ("pack, list", pack, ["packs", "inspect", "packs/m"]),
        ("config", odd, [*job, "--config", "odd"]), ("list", odd, ["score", "data/Annotations", "data/Annotations", "--list", "odd"]),
        ("record", done / "run.json", ["report", str(done)]), ("record, merge", done / "run.json", ["merge", "done", "--out", "x"]),
        ("baseline", place.dir / "done" / "baselines" / "b.json", ["compare", "--out", "done", "--baseline", "b", str(done)]),
        ("tegrastats", odd, ["telemetry", "--source", "tegrastats", "--input", "odd"]),
        ("lock", locks / "jetbench-cpu.lock", job),
    ]
    if place.chosen.model:
        cases += [("graph", path, job) for path in sorted(pack.parent.glob("fp32/*.onnx"))]
    if place.chosen.labels:
        cases.append(("vectors of labels", place.dir / "packs" / place.chosen.labels.name / "labels.safetensors", job))
    tried = 0
    for what, path, words in cases:
        kept = path.read_bytes() if path.is_file() and not path.is_symlink() else None
        path.parent.mkdir(parents=True, exist_ok=True)
        for kind in ("pipe", "endless", "socket", "directory"):
            no_file(path, kind)
            try:
                said = place.call(*words)
            except Broken as e:
                raise Broken(f"{kind} as {what}: {e}") from None
            hold(said.code in ((1,) if "check" in words else (2, 3)), f"{kind} as {what}: exit {said.code}: {said.last}")
            tried += 1
        no_file(path, "directory")
        path.rmdir()
        if kept is not None:
            path.write_bytes(kept)
    return f"{tried} refused at once, the last with: {said.last}"


@attack("D12", "a lock that is a link to another file")
def linked_lock(place: Place) -> str:
    place.draw()
    precious = place.dir / "precious"
    precious.write_text("kept")
    (place.dir / "locks").mkdir(exist_ok=True)
    (place.dir / "locks" / "jetbench-cpu.lock").symlink_to(precious)
    said = place.measure()
    hold(precious.read_text() == "kept", "the file behind the link was written to")
    hold(said.code == 3, f"exit {said.code}")
    return f"exit 3: {said.last}"


@attack("D12", "a lock held by a process that lies about itself")
def lying_lock(place: Place) -> str:
    place.draw()
    locks = place.dir / "locks"
    locks.mkdir(exist_ok=True)
    locks.chmod(0o1777)
    lock = locks / "jetbench-cpu.lock"
    lock.write_text("\x1b]0;owned\x07 the police; call 0900\n" + "x" * 1_000_000)
    holder = subprocess.Popen(["flock", str(lock), "sleep", "60"])
    try:
        place.until(lambda: Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text(), "the lock is held")
        said = place.measure("--max-wait", "0s")
    finally:
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
        holder.kill()
        holder.wait()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
    hold(said.code == 3 and "police" not in said.text and len(said.text) < 1000, f"exit {said.code}: {said.text[:200]!r}")
    return f"exit 3: {said.last}"


HOSTILE = "v\x1b]0;owned\x07\x1b[2J\u202e\x9b31m"


def acts(text: str) -> bool:
    return any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 or c in "\u202e\u200b" for c in text)


@attack("D13", "escape sequences in names of videos, models, packs and in records", short=True)
def escapes(place: Place) -> str:
    data = place.draw()
    for folder in ("JPEGImages", "Annotations"):
        place.one(data / folder).rename(data / folder / HOSTILE)
    said = [place.measure(*words) for words in (
        ["--verbose", "--json"], ["--dry-run", "--json"], ["--option", f"{HOSTILE}=1"], ["--config", HOSTILE], [HOSTILE],
    )]
    said += [place.measure(models=f"{HOSTILE}_mask"), place.call("report", HOSTILE), place.call("doctor", "--data", "data")]
    said += [place.call("data", "check", "data", *words) for words in ([], ["--json"])]
    run = place.runs()[0]
    place.forge(run, lambda record: record["cells"][0].update(model=HOSTILE))
    verbs = (["report", str(run)], ["history", "--out", "results"], ["compare", str(run), str(run)], ["merge", str(run), "--out", "x"])
    said += [place.call(*verb) for verb in verbs]
    (run / "run.json").write_text(json.dumps({"schema": HOSTILE}))
    said += [place.call(*verb) for verb in verbs]
    bad = [repr(s.text)[:200] for s in said if acts(s.text)]
    hold(not bad, f"printed: {bad[:1]}")
    return f"{len(said)} outputs, none acts on a terminal"


@attack("D13", "names that a spreadsheet would run, in every CSV file")
def formulas(place: Place) -> str:
    names = ["=cmd|' c calc'!A0", "@SUM(1)", "+1+1", "-2+3", "\t=1", "'quoted"]
    data = place.draw(videos=len(names))
    for folder in ("JPEGImages", "Annotations"):
        for video, name in zip(sorted((data / folder).iterdir()), names, strict=True):
            video.rename(video.with_name(name))
    said = place.measure()
    # A busy machine may make it invalid; its files are written all the same, and every video must be in them.
    hold(said.code in (0, 1), f"exit {said.code}: {said.last}")
    fields, videos = 0, set()
    for file in sorted(place.runs()[0].glob("*.csv")):
        for row in csv.DictReader(file.open(newline="")):
            if row.get("video"):
                videos.add(row["video"].removeprefix("'"))
            for field in row.values():
                fields += 1
                hold(not is_formula(field), f"{file.name}: {field!r}")
    hold(videos == set(names), f"names that do not come back: {videos ^ set(names)}")
    return f"none in {fields} fields; the names come back"


def is_formula(field: str) -> bool:
    try:
        float(field)
        return False
    except ValueError:
        return field.startswith(("=", "+", "-", "@", "\t", "\r"))


@attack("D14", "a limit on the size of files, from 1 to 64 blocks", short=True)
def file_limit(place: Place) -> str:
    place.draw()
    codes: dict[int, int] = {}
    for blocks in (1, 4, 16, 64):
        said = place.measure("--out", f"out{blocks}", "--save-masks", before=f"ulimit -f {blocks};")
        hold(said.code in (0, 3), f"{blocks} blocks: exit {said.code}: {said.last}")
        hold(said.code == 0 or "File too large" in said.text, f"{blocks} blocks, exit 3 for another reason: {said.last}")
        codes[blocks] = said.code
        for run in place.runs(f"out{blocks}"):
            again = place.call("--resume", str(run))
            hold(again.code == 0 and valid(place.verdicts(run)), f"{blocks} blocks, resumed: exit {again.code}: {again.last}")
    return f"exit codes by blocks: {codes}; resumed without the limit, all are valid"


@attack("D14", "a full disk, and --resume when there is room")
def full_disk(place: Place) -> str:
    place.draw(videos=3)
    disk = place.dir / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", disk], capture_output=True, check=False)
    if mounted.returncode:
        raise Skipped("no tmpfs may be mounted here; RLIMIT_FSIZE stands for it")
    try:
        said = place.measure("--out", "disk", "--save-masks", "--overlays=png", "--min-free-mib", "0")
        hold(said.code == 3, f"exit {said.code}: {said.last}")
        hold("No space left" in said.text or "make room" in said.text, f"the reason is not named: {said.last}")
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        for run in place.runs("disk"):
            again = place.call("--resume", str(run))
            hold(again.code in (0, 3) and valid(place.verdicts(run)), f"resumed: exit {again.code}: {again.last}")
        return f"exit 3: {said.last}; with room again valid"
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


@attack("D14", "umask 077 and 002")
def umask(place: Place) -> str:
    place.draw()
    for mask, mode in (("077", 0o600), ("002", 0o664)):
        place.measure("--out", mask, "--save-masks", before=f"umask {mask};")
        for file in place.runs(mask)[0].rglob("*"):
            if file.is_file():
                hold(file.stat().st_mode & 0o777 == mode, f"{file.name}: {file.stat().st_mode & 0o777:o} under umask {mask}")
    return "every file follows it"


@attack("D14", "a clock before 1970, and one that stands still")
def clocks(place: Place) -> str:
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketime*.so.1"))
    if not libraries:
        raise Skipped("no libfaketime (apt-get install libfaketime)")
    place.draw()

    def fake(at: str) -> dict[str, str]:
        return {"LD_PRELOAD": str(libraries[0]), "FAKETIME": at, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

    before = place.measure(env=fake("1965-01-01 00:00:00"))
    hold(before.code == 3 and "clock" in before.text and "panicked" not in before.text, f"before 1970: exit {before.code}: {before.last}")
    for _ in range(3):
        still = place.measure("--out", "still", env=fake("2026-01-01 00:00:00"))
        hold(still.code == 0, f"a clock that stands still: exit {still.code}: {still.last}")
    hold(len(place.runs("still")) == 3, "runs that began at one moment are not apart")
    return f"before 1970: exit 3: {before.last}; three runs of one moment lie apart"


@attack("D14", "playlists and lists of parts under the name of a video")
def playlists(place: Place) -> str:
    if not shutil.which("ffmpeg"):
        raise Skipped("no ffmpeg")
    secret = place.dir / "secret.mp4"
    subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=s=48x32:d=1", secret], check=True, stdin=subprocess.DEVNULL)
    place.draw()
    plain = place.dir / "plain"
    masks = next(path for path in sorted((place.dir / "data" / "Annotations").iterdir()) if path.is_dir())
    shutil.copytree(masks, plain / "masks")
    for name, text in {
        "HLS": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{secret}'\n",
    }.items():
        (plain / "clip.mp4").write_text(text)
        said = place.measure(data="plain")
        hold(said.code == 2, f"{name}: exit {said.code}: {said.last}")
        hold("ffmpeg failed" in said.text or "Invalid data" in said.text, f"{name} was decoded: {said.last}")
    return f"exit 2: {said.last}"


@attack("D14", "kills at random moments, in the parent or in its worker, and --resume")
def kills(place: Place) -> str:
    data = place.draw(videos=3, frames=21)
    place.pack("m", "frame_ms = [2.0]\nmotion = [1.0, 0.0]")
    started = time.monotonic()
    calm = place.measure("--out", "calm")
    whole = time.monotonic() - started
    hold(calm.code == 0, f"undisturbed: {calm.last}")
    expected = scores(place.record(place.runs("calm")[0]))
    counts = {"before its record": 0, "unfinished": 0, "with a lost worker": 0, "after its end": 0}
    for n in range(place.kills):
        out, moment, worker = f"kill{n}", place.random.uniform(0, 1.05) * whole, place.random.random() < 0.5
        with place.going("--out", out) as child:
            time.sleep(moment)
            children = Path(f"/proc/{child.pid}/task/{child.pid}/children")
            try:
                os.kill(int(children.read_text().split()[0]) if worker else child.pid, signal.SIGKILL)
            except (IndexError, OSError):
                child.kill()
            place.finish(child)
        runs = place.runs(out)
        where = f"kill {n} after {moment:.3f} s, {'worker' if worker else 'parent'}"
        if not runs:
            counts["before its record"] += 1
            again = place.measure("--out", out)
        else:
            record = place.record(runs[0]) if (runs[0] / "run.json").is_file() else None
            lost = record is not None and any(cell["verdict"]["kind"] == "failed" for cell in record["cells"])
            counts["unfinished" if record is None else "with a lost worker" if lost else "after its end"] += 1
            again = place.call("--resume", str(runs[0]))
        hold(again.code == 0, f"{where}: exit {again.code}: {again.last}")
        run = place.runs(out)[0]
        hold(scores(place.record(run)) == expected, f"{where}: other scores")
        hold(not list(run.rglob(".writing-*")) and not (run / "partial").exists(), f"{where}: something was left")
        shutil.rmtree(place.dir / out)
    hold(data.is_dir(), "the data is gone")
    return f"{place.kills} kills ({', '.join(f'{n} {what}' for what, n in counts.items())}), all with the scores of an undisturbed run"


def scores(record: dict[str, Any]) -> list[Any]:
    """Verdicts, scores, tracks and labels."""
    return [
        (cell["verdict"], video["video"], thing["object"], thing["j"], thing["f"], len(video["frames"]), video.get("found"),
         video.get("labels", {}).get("objects"))
        for cell in record["cells"] for video in cell["sequences"] for thing in video["objects"]
    ]


