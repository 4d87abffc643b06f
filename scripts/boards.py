"""Checks the rows of results/community and writes docs/boards.md from them.

    scripts/boards.py                 check every row, and that docs/boards.md is up to date
    scripts/boards.py --write         check, then write docs/boards.md
    scripts/boards.py FILE.csv …      check these files alone

A file is what ``jetbench report RUN --export-row FILE`` wrote, as it is. With ``--records DIR`` the digest of every ``run.json`` below DIR
is compared with the row of its run.

Exit code 1 where a row breaks a rule or the page is out of date, 2 where a file cannot be read. Needs Python alone.
"""
from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROWS, PAGE = ROOT / "results/community", ROOT / "docs/boards.md"

# No mark-up of a page reaches docs/boards.md.
TEXT = re.compile(r"[^\x00-\x1f\x7f<>|`\[\]\\]{1,200}")
DIGEST = re.compile(r"[0-9a-f]{64}")
DIGESTS = re.compile(r"[0-9a-f]{64}(\+[0-9a-f]{64})*")
RUN = re.compile(r"\d{8}T\d{6}Z-\d+")
# Columns of a row in their order, with the rule for a field; a rule in brackets allows an empty one.
NUMBER, PERCENT, COUNT = "number", "percent", "count"
COLUMNS = {
    "run_id": RUN, "version": TEXT, "program_sha256": DIGEST, "record_sha256": DIGEST, "device_name": TEXT,
    "device_digest": re.compile(r"[0-9a-f]{12}"), "model": [TEXT], "cpu": [TEXT], "gpu": [TEXT], "memory_mib": [COUNT],
    "power_mode": [TEXT],
    "tracker": TEXT, "pack_digest": DIGESTS, "test_model_of": [TEXT], "dtype": re.compile("fp32|fp16|bf16|int8"), "effective_dtype": [TEXT],
    "device": re.compile(r"cpu|[a-z0-9]+:\d+"), "onnxruntime": [TEXT], "options": [TEXT],
    "scenario": re.compile("single-stream|offline|realtime"), "dataset": TEXT, "content_sha256": DIGEST, "videos": COUNT, "objects": COUNT,
    "frames": COUNT, "verdict": re.compile("valid"), "disturbed": [TEXT], "jf": [PERCENT], "jf_unsup": [PERCENT], "hota": [PERCENT],
    "fps_wall": NUMBER, "latency_p50_ms": [NUMBER], "latency_p95_ms": [NUMBER], "peak_system_mib": [NUMBER], "peak_rss_mib": [NUMBER],
    "peak_gpu_mib": [NUMBER], "energy_per_frame_j": [NUMBER],
}
EXPECTED = {NUMBER: "a number above 0", PERCENT: "a number from 0 to 100", COUNT: "a whole number from 0 on"}
# Rows of one table of the page: the same machine and the same videos.
ALIKE = ("device_name", "power_mode", "device_digest", "dataset", "content_sha256", "videos", "objects", "scenario")
KEY = ("run_id", "device_digest", "tracker", "dtype", "device", "options")


class Unreadable(Exception):
    """A file cannot be read: says which and why."""


def fits(rule: object, field: str) -> str | None:
    """What was expected instead; ``None``: the field is as it should be."""
    if isinstance(rule, list):
        return fits(rule[0], field) if field else None
    if isinstance(rule, re.Pattern):
        return None if field and rule.fullmatch(field) else f"{rule.pattern!r}"
    try:
        value = float(field) if re.fullmatch(r"\d+(\.\d+)?", field) else -1.0
    except ValueError:
        value = -1.0
    good = {NUMBER: 0 < value < 1e12, PERCENT: 0 <= value <= 100, COUNT: value >= 0 and field.isdigit()}[str(rule)]
    return None if good else EXPECTED[str(rule)]


def together(row: dict[str, str]) -> list[str]:
    """What does not fit together in a row whose fields are as they should be."""
    faults = []
    if "jetson" in (row["device_name"] + row["model"]).lower() and not row["power_mode"]:
        faults.append("power_mode: a Jetson's figures mean nothing without it; run where nvpmodel's status can be read")
    if int(row["frames"]) == 0 or int(row["videos"]) == 0:
        faults.append("frames: a measurement of none")
    if row["latency_p95_ms"] and float(row["latency_p95_ms"]) < float(row["latency_p50_ms"] or 0):
        faults.append("latency_p95_ms: below the median")
    if "rivals" in row["disturbed"].split(";"):
        faults.append("disturbed: other programs took the machine; measure again without them")
    return faults


def read(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    """The rows of a file, and its faults as sentences."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Unreadable(f"{path}: {error}") from error
    lines = list(csv.reader(io.StringIO(text, newline="")))
    if not lines or lines[0] != list(COLUMNS):
        return [], [f"{path}: line 1: the header is not that of `jetbench report --export-row`; export again with this version"]
    rows, faults = [], []
    for number, fields in enumerate(lines[1:], start=2):
        # a mark that keeps spreadsheets from running a field
        row = {name: field.removeprefix("'") for name, field in zip(COLUMNS, fields, strict=False)}
        if len(fields) != len(COLUMNS):
            faults.append(f"{path}: line {number}: {len(fields)} fields, {len(COLUMNS)} expected")
            continue
        wrong = [f"{name} = {row[name]!r}: {expected} expected" for name, rule in COLUMNS.items() if (expected := fits(rule, row[name]))]
        faults += [f"{path}: line {number}: {fault}" for fault in wrong or together(row)]
        rows.append(row)
    if not lines[1:]:
        faults.append(f"{path}: no row")
    return rows, faults


def repeated(rows: list[dict[str, str]]) -> list[str]:
    """Rows that are there twice."""
    seen, faults = set(), []
    for row in rows:
        key = tuple(row[name] for name in KEY)
        if key in seen:
            faults.append(f"run {row['run_id']}, {row['tracker']} {row['dtype']} {row['device']}: there are two such rows")
        seen.add(key)
    return faults


def vouched(rows: list[dict[str, str]], records: Path) -> list[str]:
    """Rows whose record is below ``records`` and is another file than they say."""
    faults = []
    for file in sorted(records.rglob("run.json")):
        content = file.read_bytes()
        run, digest = json.loads(content).get("run_id"), hashlib.sha256(content).hexdigest()
        other = {row["record_sha256"] for row in rows if row["run_id"] == run} - {digest}
        faults += [f"{file}: its SHA-256 is {digest}, the row of run {run} says {one}" for one in sorted(other)]
    return faults


HEAD = """# Boards

What people measured, a row per board, run and model. `scripts/boards.py --write` makes this page from `results/community`; do not edit it.

A row says what a valid run said; [measuring.md](measuring.md) tells what "valid" promises. A table holds rows of the same machine, power
mode and videos; across tables only figures of the same videos and model compare. Nobody but the sender has seen the machine.

## Add yours

```sh
jetbench --models sam2_points,edgetam_points                        # on your board, on its own
jetbench report latest --export-row results/community/my-board.csv
scripts/boards.py --write                                           # checks every row
```

Send both files as a pull request, and `run.json` where you can: its SHA-256 stands in the row. A row holds the board's name and facts, the
digests of program, packs and videos, the name of the folder of videos, and figures; no path and no machine number. The columns are in
[results.md](results.md#jetbench-report---export-row).
"""


def number(field: str, digits: int) -> str:
    """A figure as the page shows it."""
    return f"{float(field):.{digits}f}" if field else "\N{EN DASH}"


def page(rows: list[dict[str, str]]) -> str:
    """docs/boards.md."""
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in sorted(rows, key=lambda r: [r[name] for name in (*ALIKE, "tracker", "dtype", "run_id")]):
        groups.setdefault(tuple(row[name] for name in ALIKE), []).append(row)
    out = [HEAD]
    for members in groups.values():
        facts = members[0]
        heading = ", ".join(filter(None, (facts["device_name"], facts["power_mode"], f"{facts['videos']} videos of {facts['dataset']}",
                                         facts["scenario"].replace("single-stream", ""))))
        about = [facts["model"], facts["gpu"], facts["cpu"], f"{int(facts['memory_mib']) / 1024:.0f} GiB" if facts["memory_mib"] else ""]
        out.append(f"\n## {heading}\n\n{', '.join(filter(None, about))}. {facts['objects']} objects.\n")
        out.append("| model | precision | device | J&F | frames/s | p50 ms | p95 ms | peak MiB | J/frame | frames | run |\n"
                   "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---|")
        for row in members:
            name = row["tracker"] + (" ¹" if row["test_model_of"] else "")
            options = f", `{row['options']}`" if row["options"] else ""
            score = number(row["jf"], 1) if row["jf"] or not row["jf_unsup"] else number(row["jf_unsup"], 1) + " ²"
            disturbed = f" (disturbed: {row['disturbed']})" if row["disturbed"] else ""
            date = f"{row['run_id'][:4]}-{row['run_id'][4:6]}-{row['run_id'][6:8]}"
            fields = [name, row["effective_dtype"] or row["dtype"], row["device"] + options, score, number(row["fps_wall"], 1),
                      number(row["latency_p50_ms"], 1), number(row["latency_p95_ms"], 1),
                      number(row["peak_gpu_mib"] or row["peak_system_mib"], 0), number(row["energy_per_frame_j"], 2), row["frames"],
                      date + disturbed]
            out.append(f"| {' | '.join(fields)} |")
    notes = ["Peak MiB: memory of the worker on a GPU with memory of its own; else the largest fall of the system's available memory."]
    if any(row["test_model_of"] for row in rows):
        notes.append("¹ A test model: a miniature, or random weights. Its figures do not describe the model that it stands in for.")
    if any(row["jf_unsup"] for row in rows):
        notes.append("² J&F of DAVIS 2017 unsupervised: objects were found, not prompted.")
    out.append("\n" + "\n\n".join(notes))
    return "\n".join(out) + "\n"


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.csv", help="files to check instead of results/community")
    parser.add_argument("--write", action="store_true", help="write docs/boards.md")
    parser.add_argument("--records", type=Path, metavar="DIR", help="compare digests with the run.json files below DIR")
    args = parser.parse_args(words)
    if args.write and args.files:
        parser.error("--write takes the rows of results/community; leave the files out")
    rows: list[dict[str, str]] = []
    faults: list[str] = []
    try:
        for path in args.files or sorted(ROWS.glob("*.csv")):
            found, wrong = read(path)
            rows, faults = rows + found, faults + wrong
        if not faults:
            faults += repeated(rows) + (vouched(rows, args.records) if args.records else [])
        if not args.files and not faults:
            text = page(rows)
            if args.write:
                PAGE.write_text(text, encoding="utf-8")
            elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
                faults.append(f"{PAGE.relative_to(ROOT)} is not what the rows say; run scripts/boards.py --write")
    except (Unreadable, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        print(f"{len(rows)} row{'' if len(rows) == 1 else 's'}: all as they should be")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
