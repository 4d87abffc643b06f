"""Scores trained weights on held-out synthetic clips through the video session API of transformers.

Held-out means other seeds and another bank of textures than in training. Reported per kind of clip and prompt: region
similarity J over the frames after the prompt, and how well the object score separates frames in which the object is
absent from frames in which it is visible. ``--parity`` checks the differentiable tracker against the same API instead.
"""
from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Sam2VideoProcessor

from ..clips.heldout import MODES, area_under_curve, held_out_clips
from ..clips.synth import Prompt, exact_prompt
from ..command import existing_file, not_negative, parser, positive
from ..models import weights
from ..models.session import processor
from .losses import SURE
from .optimise import tune_process
from .tracker import Tracker, track

KINDS = ("point", "box", "mask")
PARITY_LIMIT = 1e-4       # largest difference of mask logits


def run_session(model: nn.Module, process: Sam2VideoProcessor, frames: np.ndarray, prompts: list[Prompt],
                masks: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[Tensor]]:
    """Tracks all prompted objects through frames uint8 [T, H, W, 3].

    Returns predicted masks bool [n, T, H, W], object score logits [n, T] and the raw mask logits per frame.
    """
    time, height, width = frames.shape[:3]
    video = torch.from_numpy(frames).permute(0, 3, 1, 2)
    session = process.init_video_session(video=video, dtype=torch.float32)
    for i, prompt in enumerate(prompts):
        if prompt.kind == "mask":
            given = dict(input_masks=masks[i].astype(bool))
        elif prompt.kind == "box":
            given = dict(input_boxes=[[[float(v) for v in prompt.points.reshape(-1)]]])
        else:
            given = dict(input_points=[[prompt.points.tolist()]], input_labels=[[prompt.labels.tolist()]])
        process.add_inputs_to_inference_session(session, 0, i + 1, **given)
        model(inference_session=session, frame_idx=0)
    found = np.zeros((len(prompts), time, height, width), bool)
    scores, logits = np.zeros((len(prompts), time)), []
    for out in model.propagate_in_video_iterator(session):
        full = process.post_process_masks([out.pred_masks], original_sizes=[[height, width]], binarize=False)[0]
        found[:, out.frame_idx] = (full[:, 0] > 0).numpy()
        scores[:, out.frame_idx] = out.object_score_logits.float().view(-1).numpy()
        logits.append(out.pred_masks.clone())
    return found, scores, logits


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    """Region similarity J; 1 where both are empty."""
    union = (found | truth).sum()
    return 1.0 if union == 0 else float((found & truth).sum() / union)


def evaluate(model: nn.Module, size: int, *, clips: int, frames: int, seed: int) -> dict:
    """All results as a JSON-ready dictionary."""
    process, results = processor(model), {}
    visible_scores: list[np.ndarray] = []
    absent_scores: list[np.ndarray] = []
    for mode in MODES:
        material = held_out_clips(mode, clips, frames, size, seed)
        for kind in KINDS:
            tracked, prompted, visible, absent = [], [], [], []
            for images, masks in material:
                prompts = [exact_prompt(mask[0].astype(np.uint8), kind) for mask in masks]
                found, scores, _ = run_session(model, process, images, prompts, masks[:, 0])
                for i in range(len(masks)):
                    tracked.append(np.mean([overlap(found[i, t], masks[i, t]) for t in range(1, frames)]))
                    prompted.append(overlap(found[i, 0], masks[i, 0]))
                    area = masks[i, 1:].sum((1, 2))
                    visible.append(scores[i, 1:][area >= SURE * size ** 2])
                    absent.append(scores[i, 1:][area == 0])
            seen, gone = np.concatenate(visible), np.concatenate(absent)
            if mode != "easy":
                visible_scores.append(seen)
                absent_scores.append(gone)
            results[f"{mode}/{kind}"] = dict(
                J=round(float(np.mean(tracked)), 4), J_median=round(float(np.median(tracked)), 4),
                J_error=round(float(np.std(tracked) / np.sqrt(len(tracked))), 4),
                J_prompt_frame=round(float(np.mean(prompted)), 4), tracks=len(tracked),
                visible_positive=round(float((seen > 0).mean()), 4), absent_frames=len(gone),
                absent_negative=round(float((gone <= 0).mean()), 4) if len(gone) else None,
                score_auc=area_under_curve(seen, gone))
            print(f"{mode}/{kind}: {results[f'{mode}/{kind}']}", file=sys.stderr, flush=True)
    seen, gone = np.concatenate(visible_scores), np.concatenate(absent_scores)
    results["object_score"] = dict(auc=area_under_curve(seen, gone), absent_frames=len(gone), visible_frames=len(seen),
                                   absent_negative=float((gone <= 0).mean()), visible_positive=float((seen > 0).mean()))
    return results


def parity(path: Path, frames: int, seed: int) -> float:
    """Largest difference between the mask logits of ``track`` and of the session API over modes and prompts."""
    model, arch, size = weights.load(path)
    tracker, process, worst = Tracker(weights.load(path)[0], arch), processor(model), 0.0
    for mode in MODES:
        images, masks = held_out_clips(mode, 1, frames, size, seed)[0]
        for kind in KINDS:
            prompt = exact_prompt(masks[0, 0].astype(np.uint8), kind)
            _, scores, expected = run_session(model, process, images, [prompt], masks[:1, 0])
            logits, ours = track(tracker, images, prompt, masks[0, 0])
            gaps = [float((a - b).abs().max()) for a, b in zip(logits, expected)]
            gap = float(np.abs(np.array(ours)[1:] - scores[0, 1:]).max())
            print(f"{mode}/{kind}: mask logits differ by {max(gaps):.2e}, object score by {gap:.2e}", file=sys.stderr)
            worst = max(worst, *gaps, gap)
    return worst


def main(argv: list[str]) -> int:
    options = parser("evaluate", __doc__)
    options.add_argument("weights", type=existing_file, help="safetensors file written by train")
    options.add_argument("--json", type=Path, help="where to write the results (default: beside the weights)")
    options.add_argument("--clips", type=positive, default=12, help="clips per mode")
    options.add_argument("--frames", type=positive, default=24, help="frames per clip")
    options.add_argument("--seed", type=not_negative, default=770000, help="seed of the held-out clips and their textures")
    options.add_argument("--parity", action="store_true", help="compare the training tracker with the session API")
    args = options.parse_args(argv)
    tune_process()
    if args.parity:
        worst = parity(args.weights, args.frames, args.seed)
        print(f"largest difference {worst:.2e}, limit {PARITY_LIMIT:.0e}")
        return int(worst > PARITY_LIMIT)
    model, _, size = weights.load(args.weights)
    results = dict(weights=args.weights.name, **weights.read_header(args.weights), clips=args.clips,
                   frames=args.frames, seed=args.seed)
    results.update(evaluate(model, size, clips=args.clips, frames=args.frames, seed=args.seed))
    path = args.json or args.weights.with_suffix(".eval.json")
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results["object_score"]))
    return 0
