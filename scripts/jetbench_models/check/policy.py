"""Are a run's masks those of the reference loop, to the pixel? For memory policies: the loop's gate is five lines of numpy.

The run must be of one precision on the CPU with ``--save-masks`` and one object at a time (``--option objects=loop``, or the CPU
form with a gated memory), on a data set in SA-V layout whose objects all begin on one frame of their video, as held-out clips do.

Example:
    jetbench --models sam2_points --dtype fp32 --threads 1 --data /tmp/gone --option memory=gated --save-masks --json
    python -m jetbench_models policy ../assets/packs/sam2_mini --data /tmp/gone --run RUN_DIRECTORY --threshold 0.01
"""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from ..clips.prompts import derive
from ..command import Refused, existing_folder, existing_pack, finite, parser
from ..pack.loop import Pack, run_clip, upsample


def _mask(file: Path) -> np.ndarray:
    return np.array(Image.open(file)) > 0


def differing(pack: Pack, frames: list[Path], truth: Path, kind: str, gate: tuple[float | None, bool], masks: Path) -> tuple[int, int, int]:
    """One object: frames that were compared, frames whose masks differ, pixels that do. ``gate``: the loop's threshold and last."""
    known = {file.stem: file for file in sorted(truth.glob("*.png"))}
    begin = next(i for i, frame in enumerate(frames) if frame.stem in known and _mask(known[frame.stem]).any())
    images = np.stack([np.array(Image.open(frame).convert("RGB")) for frame in frames[begin:]])
    (results,) = run_clip(pack, images, [derive(_mask(known[frames[begin].stem]), kind)], threshold=gate[0], last=gate[1])
    apart = []
    for frame, result in list(zip(frames[begin:], results))[1:]:        # the prompted frame does not depend on the policy
        saved = masks / f"{frame.stem}.png"
        if saved.exists():
            apart.append(int((_mask(saved) != (upsample(result.low_res, *images.shape[1:3]) > 0)).sum()))
    return len(apart), sum(count > 0 for count in apart), sum(apart)


def main(argv: list[str]) -> int:
    options = parser("policy", __doc__)
    options.add_argument("pack", type=existing_pack)
    options.add_argument("--data", type=existing_folder, required=True, help="the data set of the run, in SA-V layout")
    options.add_argument("--run", type=existing_folder, required=True, help="directory that holds run.json and masks")
    options.add_argument("--threshold", type=finite, help="what a tracked frame must be worth more than (default: every frame counts)")
    options.add_argument("--last", action="store_true", help="every frame sees the one before it: the run's memory=gated_last")
    args = options.parse_args(argv)
    if args.last and args.threshold is None:
        raise Refused("--last goes with --threshold")
    pack = Pack(args.pack)
    cells = [cell for cell in json.loads((args.run / "run.json").read_text(encoding="utf-8"))["cells"]
             if cell["pack"] == pack.about["id"] and (cell["dtype"], cell["device"]) == ("fp32", "cpu")]
    if not cells:
        raise Refused(f"{args.run}: no cell of {pack.about['id']} in fp32 on the CPU")
    good = True
    for cell in cells:
        model, kind = cell["model"], cell["model"].rpartition("_")[2]
        total = np.zeros(3, int)
        for video in cell["sequences"]:
            frames = sorted((args.data / "JPEGImages_24fps" / video["video"]).iterdir())
            for item in video["objects"]:
                place = Path(video["video"]) / item["object"]
                total += differing(pack, frames, args.data / "Annotations_6fps" / place, kind, (args.threshold, args.last),
                                   args.run / "masks" / f"{model}-fp32-cpu" / place)
        good = good and total[0] > 0 and total[1] == 0
        print(f"{model}: {total[0]} masks compared, {total[1]} differ, by {total[2]} pixels", flush=True)
    return int(not good)
