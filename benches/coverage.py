"""Does the interval over five repeats cover the next run? Acceptance of `--repeat`: the 95 % interval of the median
latency over five repeats must cover each further run in at least 9 of 10 trials.

One run with 5 + N repeats in fresh processes is made; trial i takes repeats i .. i+4 as the five and repeat i+5 as the
further run. Both intervals that jetbench reports are tried: the bootstrap interval of the median (which, for five
values, is their range), and Student's interval for one further run. Usage, from the repository root:

    python3 benches/coverage.py target/release/jetbench [--trials 10] [-- more flags of run]
"""

import argparse
import csv
import json
import math
import pathlib
import statistics
import subprocess
import tempfile

T975 = 2.776  # Student's t, 4 degrees of freedom, as src/stats.rs


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("jetbench")
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("more", nargs="*")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as out:
        command = [args.jetbench, "--models", "edgetam_points", "--dtype", "fp32", "--threads", "1", "--limit-videos", "1",
                   "--repeat", str(5 + args.trials), "--out", out, "--json", "--quiet", *args.more]
        text = subprocess.run(command, check=False, capture_output=True, text=True).stdout
        run = pathlib.Path(json.loads(text.splitlines()[-1])["run"])
        with open(run / "repeats.csv", newline="") as file:
            p50 = [float(row["latency_p50_ms"]) for row in csv.DictReader(file)]
    print("median latency of each repeat, ms:", " ".join(f"{v:.2f}" for v in p50))
    covered = {"bootstrap of the median": 0, "one further run (Student)": 0}
    for i in range(args.trials):
        five, further = p50[i : i + 5], p50[i + 5]
        covered["bootstrap of the median"] += min(five) <= further <= max(five)
        logs = [math.log(v) for v in five]
        half = T975 * statistics.stdev(logs) * math.sqrt(1 + 1 / 5)
        mean = statistics.mean(logs)
        covered["one further run (Student)"] += math.exp(mean - half) <= further <= math.exp(mean + half)
    for name, count in covered.items():
        print(f"{name}: {count} of {args.trials} further runs inside")


if __name__ == "__main__":
    main()
