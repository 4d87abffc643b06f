"""One clip through jetbench and through what else could run the same model on this machine, side by side in one run.

    pip install -c scripts/requirements.lock './scripts[export]'
    cargo build --release
    python benches/peers/peers.py --pack PACK --weights CHECKPOINT [--rounds 3]

Arms, each a fresh process per round, in turns (A B C D A B C D …):
  torch-sdpa, torch-eager, torch-compile
              transformers' video session on PyTorch with its fused attention, with plain attention, and compiled. Frames are decoded and
              prepared before its clock starts.
  ort-loop    a plain Python loop over the pack's graphs in ONNX Runtime: Pillow decodes and resizes, OpenCV enlarges the mask
  floor       session.run of the four graphs on fixed inputs at full memory, nothing else
  limit       no run of the model: the multiplications and additions of one frame's graphs (as `jetbench packs inspect` counts them) at the
              rate of the fastest kernels of ONNX Runtime, large products with constant weights, measured for every frame
  jetbench    the program: decode_ms + latency_ms of frames.csv; it decodes on a thread of its own, so the sum is not in its favour
All on --threads threads without spinning, one object, one click, fp32. A frame counts when the memory is full (--skip). Per round the
median over those frames; of the rounds median, lowest and highest. Ratios are medians of per-round ratios.

The packs' graphs and the session give the same masks: `jetbench verify PACK` shows it, on the pack's own clip.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
CLICK = (0.5, 0.5)      # of the frame; where it is does not change what is computed


def frames_of(folder: Path, count: int) -> list[Path]:
    """The files of a clip, run through again and again."""
    files = sorted(p for p in folder.iterdir() if p.suffix in (".jpg", ".png"))
    return [files[i % len(files)] for i in range(count)]


def clocked(step, count: int) -> dict:
    """Milliseconds of wall and CPU time of ``step(t)`` for each t."""
    wall, cpu = [], []
    for t in range(count):
        c, w = time.process_time(), time.perf_counter()
        step(t)
        wall.append(1e3 * (time.perf_counter() - w))
        cpu.append(1e3 * (time.process_time() - c))
    return {"wall": wall, "cpu": cpu}


def torch_arm(args, attention: str, compiled: bool) -> dict:
    import numpy as np
    import torch
    from PIL import Image

    from jetbench_models.models import released
    from jetbench_models.models.session import processor
    torch.set_num_threads(args.threads)
    model = (released.load(Path(args.weights)) if args.weights else released.random(args.model, args.seed)).model.eval()
    model.set_attn_implementation(attention)
    if compiled:
        for name in ("vision_encoder", "memory_attention", "memory_encoder", "mask_decoder"):
            module = getattr(model, name)
            module.forward = torch.compile(module.forward, dynamic=name == "memory_attention" or None)
    frames = np.stack([np.asarray(Image.open(f).convert("RGB")) for f in frames_of(args.clip, args.frames)])
    height, width = frames.shape[1:3]
    process = processor(model)
    with torch.inference_mode():
        session = process.init_video_session(video=torch.from_numpy(frames).permute(0, 3, 1, 2), dtype=torch.float32)
        point = [[[[CLICK[0] * width, CLICK[1] * height]]]]
        process.add_inputs_to_inference_session(session, 0, 1, input_points=point, input_labels=[[[1]]])
        model(inference_session=session, frame_idx=0)
        tracked = iter(model.propagate_in_video_iterator(session, max_frame_num_to_track=args.frames - 1))
        next(tracked)       # the prompted frame again

        def step(_):
            out = next(tracked)
            full = process.post_process_masks([out.pred_masks], original_sizes=[[height, width]], binarize=False)[0]
            (full[:, 0] > 0).numpy()

        return clocked(step, args.frames - 1)


def ort_loop(args) -> dict:
    import cv2
    import numpy as np
    from PIL import Image

    from jetbench_models.pack.loop import Pack, Track
    from jetbench_models.clips.prompts import TrackPrompt
    cv2.setNumThreads(args.threads)
    pack = Pack(args.pack, threads=args.threads)
    files, tracks = frames_of(args.clip, args.frames), []

    def features(t):
        image = Image.open(files[t]).convert("RGB")
        pixels = np.asarray(image.resize((pack.size, pack.size), Image.Resampling.BILINEAR), np.float32)
        pixels = ((pixels / 255 - pack.mean) / pack.std).transpose(2, 0, 1)[None]
        return image, pack.run("image_encoder", image=np.ascontiguousarray(pixels, np.float32))

    def step(t):
        image, found = features(t)
        if not tracks:
            tracks.append(Track(pack))
            at = (CLICK[0] * image.width, CLICK[1] * image.height, 1)
            low = tracks[0].begin(found, TrackPrompt("points", points=[at]), image.width, image.height).low_res
        else:
            low = tracks[0].track(found)[0].low_res
        np.packbits(cv2.resize(low, (image.width, image.height), interpolation=cv2.INTER_LINEAR) > 0)

    return clocked(step, args.frames)


def floor(args) -> dict:
    from jetbench_models.check.runtimes import inputs_for
    from jetbench_models.pack.loop import Pack
    pack, inputs = Pack(args.pack, threads=args.threads), {}
    names = ("image_encoder", "memory_attention", "mask_decoder", "memory_encoder")
    for graph in pack.about["graph"]:
        inputs[graph["name"]] = inputs_for(graph, 1)
        if "age" in inputs[graph["name"]]:
            inputs[graph["name"]]["age"][:] = 40
    each = {name: [] for name in names}

    def step(_):
        for name in names:
            start = time.perf_counter()
            pack.sessions[name].run(None, inputs[name])
            each[name].append(1e3 * (time.perf_counter() - start))

    result = clocked(step, args.frames)
    return {**result, "graphs": {name: median(values[args.skip:]) for name, values in each.items()}}


def limit(args) -> dict:
    import numpy as np
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper
    inspected = subprocess.run([args.jetbench, "packs", "inspect", str(args.pack), "--dtype", "fp32", "--form", "cpu", "--json"],
                               stdout=subprocess.PIPE, check=True, cwd=ROOT)
    flops = json.loads(inspected.stdout)["frame"]["flops"]
    random = np.random.default_rng(0)
    kernels = []
    for operator, data, weights, result in (("MatMul", (4096, 256), (256, 4096), (4096, 4096)), ("MatMul", (4096, 2048), (2048, 256), (4096, 256)),
                                            ("Conv", (1, 1024, 32, 32), (1024, 1024, 1, 1), (1, 1024, 32, 32))):
        x, w = (random.standard_normal(shape).astype(np.float32) for shape in (data, weights))
        graph = helper.make_graph([helper.make_node(operator, ["x", "w"], ["y"])], "kernel",
                                  [helper.make_tensor_value_info("x", TensorProto.FLOAT, data)],
                                  [helper.make_tensor_value_info("y", TensorProto.FLOAT, result)], [numpy_helper.from_array(w, "w")])
        model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)])
        options = ort.SessionOptions()
        options.intra_op_num_threads = args.threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        kernels.append((ort.InferenceSession(model.SerializeToString(), options), x, 2 * x.size * w.size // data[1]))
    wall = []
    for _ in range(args.frames):
        rates = []
        for session, x, work in kernels:
            session.run(None, {"x": x})
            start = time.perf_counter()
            session.run(None, {"x": x})
            rates.append(work / (time.perf_counter() - start))
        wall.append(1e3 * flops / max(rates))
    return {"wall": wall, "cpu": None}


def jetbench(args) -> dict:
    with tempfile.TemporaryDirectory() as out:
        # random weights give empty masks, which make a run invalid (exit status 1) and would end it after the first frame
        ran = subprocess.run([args.jetbench, "--packs", str(args.pack.parent), "--models", f"{args.pack.name}_points", "--dtype", "fp32",
                              "--threads", str(args.threads), "--data", str(args.data), "--limit-videos", "1", "--limit-objects", "1",
                              "--loop-frames", str(args.frames), "--keep-going", "--out", out, *args.jetbench_option],
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT, text=True)
        if ran.returncode not in (0, 1):
            raise RuntimeError(ran.stderr)
        (path,) = Path(out).rglob("frames.csv")
        rows = list(csv.DictReader(path.open()))
    if len(rows) != args.frames:
        raise RuntimeError(f"{len(rows)} frames instead of {args.frames}: {ran.stderr}")
    return {"wall": [float(r["decode_ms"]) + float(r["latency_ms"]) for r in rows], "cpu": None,
            "graphs": {k[:-3]: median(float(r[k]) for r in rows[args.skip:]) for k in rows[0]
                       if k.endswith("_ms") and k != "response_ms" and rows[-1][k]}}


ARMS = {"torch-sdpa": lambda a: torch_arm(a, "sdpa", False), "torch-eager": lambda a: torch_arm(a, "eager", False),
        "torch-compile": lambda a: torch_arm(a, "sdpa", True), "ort-loop": ort_loop, "floor": floor, "limit": limit,
        "jetbench": jetbench}
RATIOS = (("jetbench", "floor"), ("ort-loop", "jetbench"), ("torch-sdpa", "jetbench"), ("torch-eager", "jetbench"),
          ("torch-compile", "jetbench"), ("torch-compile", "limit"), ("jetbench", "limit"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--weights", help="the checkpoint that the pack was exported from")
    parser.add_argument("--model", help="without --weights: architecture of the random weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=ROOT / "assets/demo", help="dataset for jetbench")
    parser.add_argument("--clip", type=Path, default=ROOT / "assets/demo/JPEGImages_24fps/demo_bar",
                        help="folder with the frames of that dataset's first video")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--skip", type=int, default=20, help="first frames that do not count")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--jetbench", default=str(ROOT / "target/release/jetbench"))
    parser.add_argument("--jetbench-option", action="append", default=[], metavar="ARG")
    parser.add_argument("--json", type=Path, help="write every figure of every frame here")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.pack = args.pack.resolve()
    if args.one:
        print(json.dumps(ARMS[args.one](args)))
        return 0
    names, rounds = args.arms.split(","), []
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts"), "ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": str(args.threads)}
    for number in range(args.rounds):
        row = {}
        for name in names:
            ran = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--one", name], env=environment, text=True, capture_output=True)
            if ran.returncode:
                print(f"{name}: failed: {ran.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
                continue
            row[name] = json.loads(ran.stdout.splitlines()[-1])
            row[name]["ms"] = median(row[name]["wall"][args.skip:])
            print(f"round {number + 1}: {name:13s} {row[name]['ms']:9.1f} ms", file=sys.stderr, flush=True)
        rounds.append(row)
    print(f"{args.pack.name}, {args.threads} threads, {args.frames} frames of which {args.skip} do not count, {args.rounds} rounds")
    print("| arm | ms per frame, median (lowest to highest) | CPU ms |\n|---|---|---|")
    for name in names:
        values = [row[name]["ms"] for row in rounds if name in row]
        if values:
            cpu = [median(row[name]["cpu"][args.skip:]) for row in rounds if name in row and row[name]["cpu"]]
            spread = f"{median(values):.1f} ({min(values):.1f} to {max(values):.1f})"
            print(f"| {name} | {spread} | {f'{median(cpu):.1f}' if cpu else 'not measured'} |")
    for above, below in RATIOS:
        ratios = [row[above]["ms"] / row[below]["ms"] for row in rounds if above in row and below in row]
        if ratios:
            print(f"{above} / {below}: {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    for name in ("floor", "jetbench"):
        parts = [row[name]["graphs"] for row in rounds if name in row]
        if parts:
            print(f"{name}: " + ", ".join(f"{key} {median(p[key] for p in parts):.1f}" for key in parts[0]))
    if args.json:
        args.json.write_text(json.dumps(rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
