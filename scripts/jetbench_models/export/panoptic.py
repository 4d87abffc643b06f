"""What the classes of a video segmenter are in panoptic files: things or stuff, and their ids, from a data set's own list of categories."""
from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..command import Refused

LARGEST = 254             # 255 means no category to STQ's evaluator


@dataclass(frozen=True)
class Category:
    """A category of the data set."""

    id: int
    name: str
    thing: bool


def read(path: Path) -> list[Category]:
    """The categories of a JSON file: a list of ``id``, ``name``, ``isthing``, or an object that has it under ``categories``.

    Raises Refused where it is none, or where ids or names occur twice.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        listed = said["categories"] if isinstance(said, dict) else said
        found = [Category(entry["id"], entry["name"], entry["isthing"] == 1) for entry in listed]
        wrong = [entry for entry in listed if type(entry["id"]) is not int or not 0 <= entry["id"] <= LARGEST
                 or not isinstance(entry["name"], str) or entry["isthing"] not in (0, 1)]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Refused(f"--panoptic {path}: not a list of categories with id, name and isthing: {error!r}") from None
    if wrong:
        raise Refused(f"--panoptic {path}: {wrong[0]}: an id from 0 to {LARGEST}, a name, and isthing 0 or 1 expected")
    for what, values in (("id", [c.id for c in found]), ("name", [c.name for c in found])):
        if twice := [value for value, count in Counter(values).items() if count > 1]:
            raise Refused(f"--panoptic {path}: {what} {twice[0]} occurs twice")
    if not found:
        raise Refused(f"--panoptic {path}: at least one category expected")
    return found


def in_order(categories: list[Category]) -> tuple[str, ...]:
    """Names in the order in which DVIS-DAQ numbers its classes: things as they are listed, then stuff."""
    return tuple(c.name for thing in (True, False) for c in categories if c.thing is thing)


def section(classes: list[str] | tuple[str, ...], categories: list[Category]) -> str:
    """The part of pack.toml; classes are found by their names.

    Raises Refused for a class that is no category, and for two of one name.
    """
    known = {c.name: c for c in categories}
    if missing := [name for name in classes if name not in known]:
        raise Refused(f"--panoptic: class {missing[0]!r} of the model is none of the {len(categories)} categories of the file")
    if twice := [name for name, count in Counter(classes).items() if count > 1]:
        raise Refused(f"--panoptic: two classes of the model are called {twice[0]!r}, so their ids cannot be told apart")
    stuff = [number for number, name in enumerate(classes) if not known[name].thing]
    return f"\n[segmenter.panoptic]\nstuff = {stuff}\nids = {[known[name].id for name in classes]}\n"
