"""Does the interval that five repeats give cover the next run? Real processes, jetbench's own figures.

One trial: a run of five repeats of one cell gives the 95 % interval in which one further run is expected
(`latency_p50_next_run_low95_ms`, `…_high95_ms` in summary.csv); then a further run is made, and its median latency
(`latency_p50_ms`) lies inside or does not. At least 9 of 10 must. Trials share no run. The range of the five, which is what a
bootstrap interval of their median comes to, is counted beside it; it is an interval of the median and is not expected to
cover a further run. From the repository root, on an otherwise idle machine; about 20 seconds a trial:

    cargo build --release && python3 scripts/coverage_trials.py target/release/jetbench [--trials 10] [-- more flags of run]
"""

import argparse
import csv
import json
import pathlib
import subprocess
import sys
import tempfile
import time


def table(run, name):
    with (run / name).open(newline="") as file:
        return list(csv.DictReader(file))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("jetbench")
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("more", nargs="*")
    args = parser.parse_args()

    def run(out, repeats):
        command = [args.jetbench, "--models", "edgetam_points", "--dtype", "fp32", "--threads", "1", "--limit-videos", "1",
                   "--repeat", str(repeats), "--out", out, "--json", "--quiet", *args.more]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if not done.stdout.strip():
            sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
        said = json.loads(done.stdout.splitlines()[-1])
        if any(cell["verdict"] == "failed" for cell in said["cells"]):
            sys.exit(f"a run failed: {said['cells']}")
        return pathlib.Path(said["run"])

    began = time.monotonic()
    inside, in_range, widths = 0, 0, []
    with tempfile.TemporaryDirectory() as out:
        for trial in range(args.trials):
            five = run(out, 5)
            summary = table(five, "summary.csv")[0]
            low, high = (float(summary[f"latency_p50_next_run_{end}95_ms"]) for end in ("low", "high"))
            runs = [float(row["latency_p50_ms"]) for row in table(five, "repeats.csv")]
            if len(runs) != 5:
                sys.exit(f"{five}: {len(runs)} repeats with figures, 5 expected")
            further = float(table(run(out, 1), "summary.csv")[0]["latency_p50_ms"])
            hit = low <= further <= high
            inside += hit
            in_range += min(runs) <= further <= max(runs)
            widths.append((high / low - 1) * 100)
            print(f"trial {trial + 1}: five runs {' '.join(f'{v:.2f}' for v in runs)} ms; expected {low:.2f} to {high:.2f}; "
                  f"further run {further:.2f}: {'inside' if hit else 'OUTSIDE'}", flush=True)
    print(f"interval for one further run: {inside} of {args.trials} inside (width: median {sorted(widths)[len(widths) // 2]:.0f} %)")
    print(f"range of the five runs:       {in_range} of {args.trials} inside")
    print(f"{time.monotonic() - began:.0f} s")
    sys.exit(0 if inside * 10 >= args.trials * 9 else 1)


if __name__ == "__main__":
    main()
