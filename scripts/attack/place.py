"""A place to attack the program in: drawn videos, mock packs, an environment without surprises. An attack is a function that gets
one, says what happened, and raises `Broken` when the program did not hold."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Nothing that is asked of these small videos takes as long, on however busy a machine: what does, waits for ever.
PATIENCE = 90


class Broken(Exception):
    """The program did not hold: what happened instead."""


class Skipped(Exception):
    """The attack cannot be made here: why."""


@dataclass
class Said:
    """How a call of the program ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    @property
    def last(self) -> str:
        """Why a cell is not valid, else the last line of its errors, cut short."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        reasons = [line for line in self.text.splitlines() if re.match(r"\[\d+\] ", line)]
        return repr((reasons[:1] or lines[-1:] or [""])[0][:160])[1:-1]


@dataclass
class Attack:
    kind: str
    what: str
    run: Callable[[Place], str]
    short: bool
    scripted: bool


ATTACKS: list[Attack] = []


def attack(kind: str, what: str, short: bool = False, scripted: bool = False) -> Callable[[Callable[[Place], str]], Callable[[Place], str]]:
    """Registers an attack of a kind (the letter and number of its section) under a description; `scripted`: only a mock pack has the
    latencies that it needs."""

    def register(run: Callable[[Place], str]) -> Callable[[Place], str]:
        ATTACKS.append(Attack(kind, what, run, short, scripted))
        return run

    return register


def hold(true: bool, otherwise: str) -> None:
    if not true:
        raise Broken(otherwise)


# A mock pack that leaves time to meddle.
SLOW = "frame_ms = [25.0]\nmotion = [1.0, 0.0]"


@dataclass
class Chosen:
    """Packs to attack in place of mock packs: one that takes no prompts, and a label pack beside it."""

    model: Path | None = None
    labels: Path | None = None

    def words(self) -> list[str]:
        """What a run of them needs beside its usual words: every query is an object, so that there are tracks on whatever is drawn."""
        options = ["--option", "query_score=0"] if self.model and 'family = "videomt"' in (self.model / "pack.toml").read_text() else []
        return [*options, *(["--labels", self.labels.name] if self.labels else [])]


class Place:
    """A directory with `data/` and `packs/`."""

    def __init__(self, binary: Path, seed: int, kills: int, chosen: Chosen) -> None:
        self.binary, self.kills, self.chosen = binary, kills, chosen
        self.random = random.Random(seed)
        self.dir = Path(tempfile.mkdtemp(prefix="attack-"))
        ours = ("JETBENCH", "SLURM_", "CLICOLOR", "JOB_COMPLETION_INDEX")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self.env |= {"JETBENCH_HOME": str(self.dir), "JETBENCH_LOCKS": str(self.dir / "locks"), "NO_COLOR": "1"}
        self.pack("m", "motion = [1.0, 0.0]")
        if chosen.labels:
            shutil.copytree(chosen.labels, self.dir / "packs" / chosen.labels.name)

    def close(self) -> None:
        shutil.rmtree(self.dir, ignore_errors=True)

    def draw(self, layout: str = "mose", videos: int = 1, frames: int = 24, name: str = "data") -> Path:
        """Draws a dataset."""
        data = self.dir / name
        words = ["--layout", layout, "--videos", str(videos), "--objects", "2", "--frames", str(frames), "--size", "48x32", "--quiet"]
        said = self.call("data", "synth", str(data), *words)
        hold(said.code == 0, f"data synth: {said.text}")
        return data

    def pack(self, name: str, mock: str) -> Path:
        """Writes the pack `name`: a mock pack, or the chosen model under this name, in whose manifest the script is only a comment."""
        path = self.dir / "packs" / name / "pack.toml"
        if self.chosen.model:
            shutil.copytree(self.chosen.model, path.parent, dirs_exist_ok=True)
            text = re.sub(r"(?m)^id = .*$", f'id = "{name}"', path.read_text(), count=1)
            path.write_text("\n# ".join([text, *mock.splitlines()]) + "\n")
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'schema = 1\nid = "{name}"\nfamily = "mock"\n[mock]\n{mock}\n')
        return path

    def call(self, *args: str, before: str = "", env: dict[str, str] | None = None) -> Said:
        """Calls the program and waits for its end; `before` is a shell's words before it."""
        command = [str(self.binary), *args]
        if before:
            command = ["sh", "-c", f'{before} exec "$0" "$@"', *command]
        try:
            done = subprocess.run(command, cwd=self.dir, env=self.env | (env or {}), capture_output=True, timeout=PATIENCE,
                                  stdin=subprocess.DEVNULL, check=False)
        except subprocess.TimeoutExpired:
            raise Broken(f"it waited for ever (over {PATIENCE} s)") from None
        return Said(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def job(self, *args: str, models: str = "m_mask", data: str = "data") -> list[str]:
        """A run's words."""
        if self.chosen.model:
            models = ",".join(model.removesuffix("_mask") for model in models.split(","))
        return ["--models", models, "--dtype", "fp32", "--data", data, *self.chosen.words(), *args]

    def measure(self, *args: str, models: str = "m_mask", data: str = "data", before: str = "", env: dict[str, str] | None = None) -> Said:
        """Runs a job."""
        return self.call(*self.job(*args, models=models, data=data), before=before, env=env)

    @contextmanager
    def going(self, *args: str, models: str = "m_mask") -> Iterator[subprocess.Popen[bytes]]:
        """A job that runs meanwhile; what is left of it afterwards is ended."""
        with subprocess.Popen([str(self.binary), *self.job(*args, models=models)], cwd=self.dir, env=self.env, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            try:
                yield child
            finally:
                if child.poll() is None:
                    child.kill()

    def finish(self, child: subprocess.Popen[bytes]) -> Said:
        try:
            out, err = child.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise Broken(f"it waited for ever (over {PATIENCE} s)") from None
        return Said(child.returncode, out.decode(errors="replace"), err.decode(errors="replace"))

    def until(self, found: Callable[[], Any], what: str) -> Any:
        """Waits until something is there."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if value := found():
                return value
            time.sleep(0.002)
        raise Broken(f"{what}: it never came to that")

    def tracking(self, out: str = "results", cell: int = 0) -> Path:
        """Waits until a cell is tracked; the run's directory."""
        spools = f"{out}/*/[0-9]*/spool/{cell}/*.spool"
        spool: Path = self.until(lambda: next(iter(self.dir.glob(spools)), None), "tracking")
        return spool.parents[2]

    def meddled(self, act: Callable[[], object]) -> tuple[Said, bool]:
        """Does something while a slow model tracks the data: what the job says of it, and whether figures of it would be quoted."""
        self.pack("m", SLOW)
        with self.going() as child:
            run = self.tracking()
            act()
            said = self.finish(child)
        return said, valid(self.verdicts(run))

    def runs(self, out: str = "results") -> list[Path]:
        return sorted(path for path in (self.dir / out).glob("*/[0-9]*") if path.is_dir())

    def record(self, run: Path) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((run / "run.json").read_text())
        return record

    def verdicts(self, run: Path) -> list[str]:
        return [self.verdict(cell) for cell in self.record(run)["cells"]]

    @staticmethod
    def verdict(cell: dict[str, Any]) -> str:
        """`valid`, `invalid`, `failed`, or `valid, disturbed` where the record says that something came between."""
        word = str(cell["verdict"]["kind"])
        return f"{word}, disturbed" if word == "valid" and cell.get("disturbed") else word

    def one(self, folder: Path) -> Path:
        """The first entry of a folder."""
        return sorted(folder.iterdir())[0]

    def frames(self, data: Path) -> list[Path]:
        """Every frame file."""
        return sorted(path for path in (data / "JPEGImages").rglob("*") if path.is_file())

    def masks(self, data: Path) -> list[Path]:
        """Every annotation file."""
        return sorted((data / "Annotations").rglob("*.png"))

    def shuffle_truth(self, data: Path) -> str:
        """Gives the last annotation of every video the content of its first: names stay, and nothing is damaged."""
        for video in sorted((data / "Annotations").iterdir()):
            files = sorted(video.glob("*.png"))
            for file in files[len(files) // 2:]:
                write(file, files[0].read_bytes())
        return str(data)

    def forge(self, run: Path, change: Callable[[dict[str, Any]], None]) -> None:
        """Changes a record by hand."""
        record = self.record(run)
        change(record)
        (run / "run.json").write_text(json.dumps(record))


def write(path: Path, content: bytes) -> None:
    """Writes a file in place: its inode and name stay."""
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(content)


def valid(verdicts: Sequence[str]) -> bool:
    """Would any of the cells be quoted, disturbed or not?"""
    return any(verdict.startswith("valid") for verdict in verdicts)
