"""The licences of the crates that are linked into the program, as one text: which crates, then every licence file of theirs once.

usage: cargo metadata --format-version 1 --locked --filter-platform TRIPLE | licences.py
"""
import json
import sys
from pathlib import Path

metadata = json.load(sys.stdin)
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
wanted, todo = set(), list(metadata["workspace_members"])
while todo:
    package = todo.pop()
    if package not in wanted:
        wanted.add(package)
        # Dependencies of tests and of build scripts are not linked in.
        todo += [d["pkg"] for d in nodes[package]["deps"] if any(kind["kind"] is None for kind in d["dep_kinds"])]
crates = [p for p in metadata["packages"] if p["id"] in wanted and p["source"]]
crates.sort(key=lambda p: (p["name"], p["version"]))

texts: dict[str, list[str]] = {}
silent = []
for crate in crates:
    folder, name = Path(crate["manifest_path"]).parent, f"{crate['name']} {crate['version']}"
    files = [f for f in folder.iterdir() if f.is_file() and f.name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE"))]
    for file in sorted(files):
        users = texts.setdefault(file.read_text(encoding="utf-8", errors="replace").strip(), [])
        if name not in users:
            users.append(name)
    if not files:
        silent.append(name)

print("jetbench contains these Rust crates:\n")
for crate in crates:
    print(f"{crate['name']} {crate['version']}: {crate['license'] or 'see its licence file'}, {crate['repository'] or 'crates.io'}")
if silent:
    print(f"\nNo licence file comes with {', '.join(silent)}; the licence named above holds.")
for text, users in texts.items():
    print(f"\n{'=' * 80}\n{', '.join(users)}\n{'-' * 80}\n{text}")
