"""Paired timing of `jetbench score` and the Python evaluators on the same files, and equality of their numbers.

Install the references yourself; nothing of them is part of this repository:

    pip install numpy pillow opencv-python-headless scikit-image tqdm
    git clone https://github.com/facebookresearch/sam2            # for --sav sam2/sav_dataset/sav_evaluator.py
    git clone https://github.com/hkchengrex/vos-benchmark         # for --vos vos-benchmark/benchmark.py
    cargo build --release
    python benches/compare.py --jetbench target/release/jetbench --sav … --vos …

With --kernels it compares J and F alone, no files: vos-benchmark's `feed_frame` on one object, less the same call on
empty frames, against `cargo bench --bench scoring` on the same outlines, in turns.

Draws masks at 480p, 720p and 1080p (8-bit PNG as PIL writes them), runs each program on the same folders with one
process, and prints object-frames per CPU-second (user + system time of the program and its children).
"""

import argparse
import filecmp
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = {"480p": (854, 480), "720p": (1280, 720), "1080p": (1920, 1080)}


def draw(root: Path, width: int, height: int, frames: int, per_object: bool) -> int:
    """Writes truth and predictions; returns the number of object-frames that are scored."""
    y, x = np.mgrid[0:height, 0:width]
    for which, off in (("truth", 0), ("pred", round(3 * height / 1080))):
        for t in range(frames):
            cx, cy = width * (0.3 + 0.01 * t) + off, height * 0.5 + off
            angle = np.arctan2(y - cy, x - cx)
            radius = height * (0.22 + 0.04 * np.sin(7 * angle + t * 0.1) + 0.01 * np.cos(31 * angle))
            blob = np.hypot(x - cx, y - cy) < radius
            box = (abs(x - width * (0.75 - 0.005 * t) - off) < width * 0.08) & (abs(y - height * 0.4) < height * 0.2)
            if per_object:
                for name, mask in (("000", blob), ("001", box)):
                    path = root / which / "v" / name
                    path.mkdir(parents=True, exist_ok=True)
                    Image.fromarray((mask * 255).astype(np.uint8)).save(path / f"{t:05}.png")
            else:
                path = root / which / "v"
                path.mkdir(parents=True, exist_ok=True)
                image = Image.fromarray(np.where(box, 2, blob).astype(np.uint8), mode="P")
                image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * 759)
                image.save(path / f"{t:05}.png")
    return 2 * (frames - 2)


def cpu(command: list[str], cwd: Path | None = None) -> tuple[float, float]:
    """CPU and wall seconds of a command."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=cwd)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - start
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall


def blob(width: int, height: int, cx: float, cy: float) -> np.ndarray:
    """The outline that benches/scoring.rs draws."""
    y, x = np.mgrid[0:height, 0:width]
    angle = np.arctan2(y - cy, x - cx)
    return np.hypot(x - cx, y - cy) < height * (0.22 + 0.04 * np.sin(7 * angle) + 0.01 * np.cos(31 * angle))


def fastest(run, rounds: int) -> float:
    """CPU seconds of the fastest of `rounds` calls."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def kernels(script: str, rounds: int) -> None:
    sys.path.insert(0, str(Path(script).resolve().parent))
    from vos_benchmark.evaluator import Evaluator

    theirs, ours = {}, {}
    for _ in range(rounds):
        for size, (width, height) in SIZES.items():
            empty = np.zeros((height, width), np.uint8)
            for kind, off in (("near", 3.0 * height / 1080), ("far", 60.0 * height / 1080)):
                cx, cy = width * 0.45, height * 0.5
                truth = blob(width, height, cx, cy).astype(np.uint8)
                pred = blob(width, height, cx + off, cy - off / 2).astype(np.uint8)
                full = fastest(lambda: Evaluator().feed_frame(pred, truth), 5)
                spent = full - fastest(lambda: Evaluator().feed_frame(empty, empty), 5)
                theirs[size, kind] = min(spent, theirs.get((size, kind), spent))
        text = subprocess.run(["cargo", "bench", "--bench", "scoring"], check=True, capture_output=True, text=True).stdout
        for line in text.splitlines():
            if line.startswith("kernels"):
                _, size, kind, rate, *_ = line.replace(":", "").split()
                ours[size, kind] = max(float(rate), ours.get((size, kind), 0))
    for (size, kind), spent in theirs.items():
        rate = ours[size, kind]
        print(f"kernels {size} {kind}: vos-benchmark {1 / spent:.1f}, jetbench {rate:.0f} object-frames per CPU-second, "
              f"x{rate * spent:.0f}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jetbench", required=True, help="the program, built with --release")
    parser.add_argument("--sav", help="sav_evaluator.py of facebookresearch/sam2")
    parser.add_argument("--vos", help="benchmark.py of hkchengrex/vos-benchmark")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3, help="the fastest of so many runs counts")
    parser.add_argument("--kernels", action="store_true", help="J and F alone, against --vos")
    args = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", OPENCV_FOR_THREADS_NUM="1")
    if args.kernels:
        kernels(args.vos, args.rounds)
        return 0
    failed = False
    for size, (width, height) in SIZES.items():
        for kind, script in (("sav", args.sav), ("vos", args.vos)):
            if not script:
                continue
            with tempfile.TemporaryDirectory() as temporary:
                root = Path(temporary)
                count = draw(root, width, height, args.frames, kind == "sav")
                truth, pred = str(root / "truth"), str(root / "pred")
                names = ["--gt_root", truth, "--pred_root", pred] if kind == "sav" else ["-g", truth, "-m", pred]
                reference = [sys.executable, script, *names, "-n", "1"]
                ours = [args.jetbench, "score", truth, pred, "--protocol", kind, "--threads", "1",
                        "--compat", "sav", "--quiet"]
                # Start-up of the interpreter and its imports is not scoring: taken off, by a run on nothing.
                empty = root / "empty"
                (empty / "gt" / "v").mkdir(parents=True)
                (empty / "pred" / "v").mkdir(parents=True)
                start_names = [names[0], str(empty / "gt"), names[2], str(empty / "pred")]
                try:
                    start, _ = cpu([sys.executable, script, *start_names, "-n", "1"])
                except subprocess.CalledProcessError:
                    start = cpu([sys.executable, "-c", "import cv2, numpy, tqdm, PIL.Image, skimage.morphology"])[0]
                theirs = min(cpu(reference)[0] for _ in range(args.rounds)) - start
                shutil.move(root / "pred" / "results.csv", root / "theirs.csv")
                mine = min(cpu(ours)[0] for _ in range(args.rounds))
                same = filecmp.cmp(root / "pred" / "results.csv", root / "theirs.csv", shallow=False)
                failed |= not same
                print(f"{size} {kind}: reference {count / theirs:.1f}, jetbench {count / mine:.1f} object-frames per "
                      f"CPU-second, x{theirs / mine:.0f}; results.csv {'the same' if same else 'DIFFERENT'}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
