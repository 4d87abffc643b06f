"""Both forms of a pack's graphs side by side: time at full memory and peak resident memory.

    python benches/peers/forms.py --pack PACK [--against OTHER_PACK] [--rounds 3]

For every graph with a form for the CPU, and with --against for every graph of an older export: a fresh process per form and round, in turns, that
loads the graph in ONNX Runtime, runs it once and then --repeats times on the same inputs. Time is the median of those runs, memory the
high-water mark of the whole process (Python and ONNX Runtime take about 0.1 GB of it).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]


def measure(file: Path, pack: Path, graph: str, threads: int, repeats: int) -> dict:
    import tomllib

    import onnxruntime as ort

    from jetbench_models.check.runtimes import inputs_for
    entry = next(g for g in tomllib.loads((pack / "pack.toml").read_text())["graph"] if g["name"] == graph)
    inputs = inputs_for(entry, 1)
    if "age" in inputs:
        inputs["age"][:] = 40
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for axis in ("objects", "cond_objects"):
        options.add_free_dimension_override_by_name(axis, 1)
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    wall, cpu = [], []
    for _ in range(repeats + 1):
        c, w = time.process_time(), time.perf_counter()
        session.run(None, inputs)
        wall.append(1e3 * (time.perf_counter() - w))
        cpu.append(1e3 * (time.process_time() - c))
    return {"ms": median(wall[1:]), "cpu": median(cpu[1:]), "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--against", type=Path, help="another export of the same model, as the first form of every graph")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(Path(args.one[0]), Path(args.one[1]), args.one[2], args.threads, args.repeats)))
        return 0
    import tomllib
    manifest = tomllib.loads((args.pack / "pack.toml").read_text())
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts"), "ORT_DISABLE_TELEMETRY": "1"}
    print(f"{args.pack.name}, {args.threads} threads, {args.rounds} rounds of {args.repeats} runs")
    print("| graph | before, ms (CPU ms) | now, ms (CPU ms) | now / before (lowest to highest) | peak before, MiB | now |\n|---|---|---|---|---|---|")
    for graph in manifest["graph"]:
        first = args.against or args.pack
        now = graph.get("cpu", {}).get("file", graph["files"]["fp32"])
        before = graph["files"]["fp32"]
        if graph["name"] == "mask_prompt" or (first == args.pack and now == before):
            continue
        rows = []
        for _ in range(args.rounds):
            row = []
            for pack, file in ((first, before), (args.pack, now)):
                command = [sys.executable, __file__, *sys.argv[1:], "--one", str(pack / file), str(pack), graph["name"]]
                ran = subprocess.run(command, env=environment, text=True, capture_output=True, check=True)
                row.append(json.loads(ran.stdout.splitlines()[-1]))
            rows.append(row)
        ratios = [b["ms"] / a["ms"] for a, b in rows]
        cells = [f"{median(r[i]['ms'] for r in rows):.1f} ({median(r[i]['cpu'] for r in rows):.1f})" for i in (0, 1)]
        peaks = [f"{max(r[i]['mib'] for r in rows):.0f}" for i in (0, 1)]
        print(f"| `{graph['name']}` | {cells[0]} | {cells[1]} | {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | "
              f"{peaks[0]} | {peaks[1]} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
