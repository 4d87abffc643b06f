"""What the sub-commands share: their parsers, the types of their arguments, how they refuse, and how they say how far they are."""
from __future__ import annotations

import argparse
import math
import time
import tomllib
from collections.abc import Callable
from pathlib import Path


class Refused(ValueError):
    """What was given cannot be used; the text says what, and where."""


class Unavailable(RuntimeError):
    """The machine lacks something: a network, a package, room on a disk. The text says what."""


class Progress:
    """How far a command is. Silent until ``start``; then each line has the seconds since then, and steps come at most every
    ``EVERY`` seconds, so that minutes of work neither look like a hang nor fill a log."""

    EVERY = 5.0

    def __init__(self):
        self.began: float | None = None
        self.last = 0.0
        self.stage = ""

    def start(self) -> None:
        self.began = self.last = time.monotonic()
        self.stage = ""

    def say(self, text: str) -> None:
        if self.began is not None:
            self.last = time.monotonic()
            print(f"[{self.last - self.began:6.1f} s] {text}", flush=True)

    def step(self, text: str) -> None:
        """Said if nothing was said for a while."""
        if self.began is not None and time.monotonic() - self.last >= self.EVERY:
            self.say(f"{self.stage}: {text}" if self.stage else text)


progress = Progress()


def parser(name: str, about: str | None) -> argparse.ArgumentParser:
    """The parser of one sub-command; ``about``: its module's text."""
    return argparse.ArgumentParser(prog=f"jetbench-models {name}", description=about,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)


# ---------------------------------------------------------------------------------- types of arguments, for ``type=``
def _number(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.removeprefix("-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
        return int(text)

    return number


positive, not_negative = _number(1), _number(0)


def finite(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return value


def existing_file(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text}: no such file")
    return Path(text)


def existing_folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text}: no such folder")
    return Path(text)


def existing_pack(text: str) -> Path:
    if not (Path(text) / "pack.toml").is_file():
        raise argparse.ArgumentTypeError(f"{text}: not a pack, it has no pack.toml")
    try:
        tomllib.loads((Path(text) / "pack.toml").read_text())
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}/pack.toml: {error}") from None
    return Path(text)


def some_of(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """A comma-separated list of known words, each once."""
    def words(text: str) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(text.split(",")))
        if unknown := [word for word in found if word not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(map(repr, unknown))}: known are {', '.join(known)}")
        return found

    return words
