"""What the sub-commands share: their parsers, the types of their arguments, and how they refuse."""
from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


class Refused(ValueError):
    """What was given cannot be used; the text says what, and where."""


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
    return Path(text)


def some_of(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """A comma-separated list of known words, each once."""
    def words(text: str) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(text.split(",")))
        if unknown := [word for word in found if word not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(map(repr, unknown))}: known are {', '.join(known)}")
        return found

    return words
