"""How fast a model is in PyTorch: transformers' video session, not compiled, one frame after the other.

A frame's time goes from its pixels in the host's memory to the masks at its own size in the host's memory, as the latency of `jetbench run`
does. The first frame, on which the objects are clicked, and those of the warm-up are not counted. Where the clicks hit changes no work, and
neither do the weights, which are random without --checkpoint.

Example:
    python -m jetbench_models speed --model edgetam --frames data/clip --device cuda:0 --dtype fp16

Exit code 3: PyTorch has no such device.
"""
from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from torch import nn

from ..command import Refused, existing_folder, not_negative, parser, positive
from ..models import miniature, released
from ..models.session import processor

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
LEAST = 20          # frames that a median is taken of, as in jetbench's reports
MINIATURES = {f"{name}_mini": name for name in miniature.ARCHITECTURES}


def model_of(name: str, checkpoint: Path | None) -> nn.Module:
    if checkpoint is not None:
        return released.load(checkpoint, name).model
    if name in MINIATURES:
        return miniature.build(MINIATURES[name])
    return released.random(name, 0).model


def read(folder: Path) -> list[np.ndarray]:
    """Frames [h,w,3] uint8, in the order of their names."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if len(files) < 2:
        raise Refused(f"{folder}: {len(files)} JPEG or PNG frames; two are needed at least")
    frames = [np.asarray(Image.open(path).convert("RGB")) for path in files]
    if odd := [path.name for path, frame in zip(files, frames) if frame.shape != frames[0].shape]:
        raise Refused(f"{folder / odd[0]}: not of the size of {files[0].name}")
    return frames


@torch.inference_mode()
def timed(model: nn.Module, frames: list[np.ndarray], objects: int, device: torch.device, dtype: torch.dtype) -> list[float]:
    """Milliseconds of every frame."""
    process = processor(model)
    session = process.init_video_session(inference_device=device, dtype=dtype)
    height, width = frames[0].shape[:2]
    side = int(np.ceil(np.sqrt(objects)))
    taken = []
    for t, frame in enumerate(frames):
        begun = time.perf_counter()
        inputs = process(images=frame, device=device, return_tensors="pt")
        pixels = inputs.pixel_values[0].to(dtype)
        if t == 0:
            # One after the other: EdgeTAM's session cannot start two objects in one call.
            session.add_new_frame(pixels, 0)
            for i in range(objects):
                x, y = (i % side + 0.5) * width / side, (i // side + 0.5) * height / side
                process.add_inputs_to_inference_session(session, 0, i + 1, input_points=[[[[x, y]]]], input_labels=[[[1]]],
                                                        original_size=inputs.original_sizes[0])
                out = model(inference_session=session, frame_idx=0)
        else:
            out = model(inference_session=session, frame=pixels)
        masks = process.post_process_masks([out.pred_masks], original_sizes=inputs.original_sizes, binarize=True)[0]
        masks.cpu()
        taken.append(1000 * (time.perf_counter() - begun))
    return taken


def main(argv: list[str] | None = None) -> int:
    cli = parser("speed", __doc__)
    cli.add_argument("--model", required=True, choices=(*MINIATURES, *released.NAMES), metavar="NAME",
                     help=f"one of {', '.join((*MINIATURES, *released.NAMES))}")
    cli.add_argument("--checkpoint", type=Path, help="its weights, as for export")
    cli.add_argument("--frames", type=existing_folder, required=True, help="folder of frames, all of one size")
    cli.add_argument("--device", default="cpu", help="cpu, cuda:0, ... (default: cpu)")
    cli.add_argument("--dtype", choices=DTYPES, default="fp32", help="of weights and session (default: fp32)")
    cli.add_argument("--objects", type=positive, default=1, help="objects that are tracked (default: 1)")
    cli.add_argument("--warmup", type=not_negative, default=5, help="frames after the first that are not counted (default: 5)")
    cli.add_argument("--threads", type=positive, help="of PyTorch on the CPU (default: its own)")
    cli.add_argument("--json", action="store_true", help="one line of JSON with every frame's time")
    return run(cli.parse_args(argv))


def run(args: argparse.Namespace) -> int:
    if args.threads:
        torch.set_num_threads(args.threads)
    frames, dtype = read(args.frames), DTYPES[args.dtype]
    if (left := len(frames) - 1 - args.warmup) < LEAST:
        raise Refused(f"{args.frames}: {len(frames)} frames; {LEAST} must be left to count after the first and {args.warmup} of warm-up "
                      f"(--warmup), and {max(left, 0)} are")
    try:
        device = torch.device(args.device)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:     # AssertionError: PyTorch was built without CUDA
        print(f"PyTorch has no {args.device}: {error}", file=sys.stderr)
        return 3
    torch.backends.cudnn.allow_tf32 = False             # fp32 is fp32; of matrix products PyTorch says so by itself
    model = model_of(args.model, args.checkpoint).eval().to(device=device, dtype=dtype)
    counted = np.array(timed(model, frames, args.objects, device, dtype)[1 + args.warmup:])
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    p50 = float(np.median(counted))
    height, width = frames[0].shape[:2]
    if args.json:
        print(json.dumps(dict(model=args.model, device=args.device, dtype=args.dtype, objects=args.objects, width=width, height=height,
                              torch=torch.__version__, transformers=transformers.__version__, hardware=hardware,
                              ms=[round(float(ms), 3) for ms in counted], p50_ms=p50)))
        return 0
    versions = f"PyTorch {torch.__version__}, transformers {transformers.__version__}"
    tracked = f"{args.objects} object{'' if args.objects == 1 else 's'}, {width} x {height}"
    print(f"{args.model}, {args.dtype} on {args.device} ({hardware}), {versions}, {tracked}: p50 {p50:.1f} ms, {counted.min():.1f} to "
          f"{counted.max():.1f} ms, {len(counted)} frames")
    return 0
