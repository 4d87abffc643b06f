"""B. Complete or not valid: videos that went away, forged records, outputs that cannot be written."""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from place import SLOW, Broken, Place, attack, hold, valid


@attack("B4", "a video moved away while another is tracked")
def video_moved(place: Place) -> str:
    data = place.draw(videos=2)
    second = sorted((data / "JPEGImages").iterdir())[1]
    said, quoted = place.meddled(lambda: shutil.move(second, place.dir / "gone"))
    hold(not quoted, "valid with a part of the videos")
    return f"exit {said.code}: {said.last}"


FORGERIES: dict[str, Callable[[dict[str, Any]], None]] = {
    "J&F 999": lambda run: run["cells"][0]["summary"].update(jf=999.0),
    "1e300 frames per second": lambda run: run["cells"][0]["summary"].update(fps_wall=1e300),
    "more videos than there are": lambda run: run["cells"][0]["summary"].update(videos=77),
    "latency below nothing": lambda run: run["cells"][0]["sequences"][0]["frames"][0].update(latency_ms=-5.0),
    "a schema of the future": lambda run: run.update(schema=9999),
}

# Where nobody prompted; labels only where there is a label pack.
FORGERIES_OF_TRACKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "HOTA 999": lambda run: run["cells"][0]["summary"]["found"]["scores"].update(hota=999.0),
    "a video without its tracks": lambda run: run["cells"][0]["sequences"][0].pop("found"),
    "a track of a score above 1": lambda run: run["cells"][0]["sequences"][0]["found"]["tracks"][0].update(score=999.0),
    "HOTA of one threshold": lambda run: run["cells"][0]["sequences"][0]["found"]["scores"]["tracking"]["hota"].update(ass_a=[0.5]),
    "overlaps that are missing": lambda run: run["cells"][0]["sequences"][0]["found"]["scores"]["tubes"].update(iou=[]),
}
FORGERIES_OF_LABELS: dict[str, Callable[[dict[str, Any]], None]] = {
    "a label that is more than sure": lambda run: run["cells"][0]["sequences"][0]["labels"]["objects"][0].update(probability=999.0),
    "a video without its labels": lambda run: run["cells"][0]["sequences"][0].pop("labels"),
}


@attack("B5", "forged records, read by report, history, merge and compare")
def forged_records(place: Place) -> str:
    place.draw()
    said = place.measure()
    hold(said.code == 0, f"the honest run: {said.last}")
    run = place.runs()[0]
    honest = (run / "run.json").read_text()
    verbs = (["report", str(run)], ["history", "--out", "results"], ["merge", str(run), "--out", "joined"],
             ["compare", str(run), str(run)])
    forgeries = FORGERIES | (FORGERIES_OF_TRACKS if place.chosen.model else {}) | (FORGERIES_OF_LABELS if place.chosen.labels else {})
    for what, change in forgeries.items():
        (run / "run.json").write_text(honest)
        place.forge(run, change)
        for verb in verbs:
            said = place.call(*verb)
            hold("run.json" in said.text and "999.0" not in said.out and "e300" not in said.out, f"{verb[0]} quotes {what}: {said.last}")
    return f"{len(forgeries)} forgeries named by {len(verbs)} commands"


@attack("B4", "a forged `valid` over half of the videos")
def forged_valid(place: Place) -> str:
    place.draw(videos=2)
    for part in ("1/2", "2/2"):
        place.measure("--shard", part, "--out", "parts")

    def half(run: dict[str, Any]) -> None:
        run["cells"][0]["sequences"], run["cells"][0]["memory_curve"] = [], []
        run["cells"][0]["summary"].update(videos=0, objects=0, frames=0, j=None, f=None, jf=None)

    place.forge(place.runs("parts")[1], half)
    said = place.call("merge", "parts", "--out", "joined")
    joined = place.runs("joined")
    hold(said.code != 0 and not (joined and valid(place.verdicts(joined[0]))), "the joined cell is valid")
    return f"exit {said.code}: {said.last}"


def label_map(path: Path, width: int, height: int, label: Callable[[int, int], int]) -> None:
    """A grey PNG of 16 bits."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = b"".join(b"\0" + b"".join(struct.pack(">H", label(x, y)) for x in range(width)) for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


@attack("B6", "--save-masks with object ids 1000 and 40000")
def wide_ids(place: Place) -> str:
    data = place.draw()
    for mask in place.masks(data):
        label_map(mask, 48, 32, lambda x, y: 1000 if x < 12 and y < 12 else 40_000 if x > 30 and y > 20 else 0)
    said = place.measure("--save-masks")
    if said.code == 2:  # said before the first frame
        hold("per-object" in said.text and not place.runs(), said.last)
        return f"exit 2: {said.last}"
    run = place.runs()[0]
    hold(said.code == 0 and valid(place.verdicts(run)), f"exit {said.code}: {said.last}")
    again = place.call("score", "data/Annotations", str(place.one(run / "masks")))
    hold(again.code == 0, f"the saved masks cannot be scored: {again.last}")
    return f"{len(list((run / 'masks').rglob('*.png')))} label maps saved; {said.last}"


@attack("B6", "videos named like a time stamp, an option, a formula, with dots and blanks at the end, 255 bytes long", short=True)
def odd_names(place: Place) -> str:
    names = ["2025-11-02T10:20:30", "--help", "=1+1", "end. ", "a\\b", "Bear", "bear", "x" * 255]
    data = place.draw(videos=len(names))
    for folder in ("JPEGImages", "Annotations"):
        for video, name in zip(sorted((data / folder).iterdir()), names, strict=True):
            video.rename(video.with_name(name))
    said = place.measure("--save-masks", "--overlays=png")
    if said.code == 2 and not place.runs():
        return f"exit 2, nothing measured: {said.last}"
    run = place.runs()[0]
    hold(said.code == 0 and valid(place.verdicts(run)), f"exit {said.code}: {said.last}")
    for output in ("masks", "overlays"):
        found = {path.parent.name for path in (run / output).rglob("*.png")}
        hold(found == set(names), f"{output}: {found ^ set(names)}")
    return "all saved under their names"


@attack("B6", "the directory of masks replaced by a file while tracking")
def masks_replaced(place: Place) -> str:
    frames = len(place.frames(place.draw()))
    place.pack("m", SLOW)
    with place.going("--save-masks") as child:
        run = place.tracking()
        shutil.rmtree(run / "masks", ignore_errors=True)
        (run / "masks").write_text("")
        said = place.finish(child)
    cell = place.record(run)["cells"][0]
    hold(cell["summary"]["frames"] == frames and place.verdict(cell).startswith("valid"), "the measurement is lost")
    hold("masks of video" in str(cell["notes"]) and said.code == 3, f"exit {said.code}, no word of the masks: {said.last}")
    return "measured; exit 3, and the cell names the missing masks"


@attack("B6", "the whole directory of the run removed after tracking began")
def run_removed(place: Place) -> str:
    place.draw()
    place.pack("m", SLOW)
    with place.going() as child:
        run = place.tracking()
        shutil.rmtree(run)
        said = place.finish(child)
    hold(said.code in (1, 2, 3) and bool(said.err.strip() or said.out.strip()), f"exit {said.code} without a word")
    if (run / "run.json").is_file() and valid(place.verdicts(run)):
        raise Broken("valid without its masks")
    return f"exit {said.code}: {said.last}"
