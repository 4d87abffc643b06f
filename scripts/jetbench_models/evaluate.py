"""Scores trained weights on held-out synthetic clips through the video session API of transformers.

Held-out means other seeds and another bank of textures than in training. Reported per kind of clip and prompt: region
similarity J over the frames after the prompt, and how well the object score separates frames in which the object is
absent from frames in which it is visible. ``--parity`` checks the differentiable tracker against the same API instead.
"""
from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Sam2ImageProcessor, Sam2VideoProcessor, Sam2VideoVideoProcessor

from . import weights
from .losses import SURE
from .synth import Prompt, TextureBank, exact_prompt, make_clip
from .tracker import Tracker, track
from .train import tune_process

KINDS = ("point", "box", "mask")
MODES = ("easy", "hard", "gone")
TARGETS = 3               # objects tracked per clip at most
PROMPT_AREA = 0.006       # smallest share of the frame that a prompted object covers
PARITY_LIMIT = 1e-4       # largest difference of mask logits


def held_out_clips(mode: str, count: int, frames: int, size: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """``count`` clips: frames uint8 [T, S, S, 3] and masks bool [n, T, S, S] of the targets."""
    bank, clips, draw = TextureBank(seed + 5), [], 0
    while len(clips) < count:
        images, masks = make_clip(np.random.default_rng([seed, draw]), frames, size, size, mode, bank=bank)
        draw += 1
        usable = np.flatnonzero(masks[:, 0].sum((1, 2)) >= PROMPT_AREA * size * size)
        if len(usable) < (2 if mode == "hard" else 1):
            continue
        clips.append((images, masks[usable[:TARGETS]].astype(bool)))
    return clips


def make_processor(size: int) -> Sam2VideoProcessor:
    square = {"height": size, "width": size}
    image = Sam2ImageProcessor(size=square, mask_size={"height": size // 4, "width": size // 4})
    return Sam2VideoProcessor(image_processor=image, video_processor=Sam2VideoVideoProcessor(size=square),
                              target_size=size)


def run_session(model: nn.Module, processor: Sam2VideoProcessor, frames: np.ndarray, prompts: list[Prompt],
                masks: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[Tensor]]:
    """Tracks all prompted objects through frames uint8 [T, H, W, 3].

    Returns predicted masks bool [n, T, H, W], object score logits [n, T] and the raw mask logits per frame.
    """
    time, height, width = frames.shape[:3]
    video = torch.from_numpy(frames).permute(0, 3, 1, 2)
    session = processor.init_video_session(video=video, dtype=torch.float32)
    for i, prompt in enumerate(prompts):
        if prompt.kind == "mask":
            given = dict(input_masks=masks[i].astype(bool))
        elif prompt.kind == "box":
            given = dict(input_boxes=[[[float(v) for v in prompt.points.reshape(-1)]]])
        else:
            given = dict(input_points=[[prompt.points.tolist()]], input_labels=[[prompt.labels.tolist()]])
        processor.add_inputs_to_inference_session(session, 0, i + 1, **given)
        model(inference_session=session, frame_idx=0)
    found = np.zeros((len(prompts), time, height, width), bool)
    scores, logits = np.zeros((len(prompts), time)), []
    for out in model.propagate_in_video_iterator(session):
        full = processor.post_process_masks([out.pred_masks], original_sizes=[[height, width]], binarize=False)[0]
        found[:, out.frame_idx] = (full[:, 0] > 0).numpy()
        scores[:, out.frame_idx] = out.object_score_logits.float().view(-1).numpy()
        logits.append(out.pred_masks.clone())
    return found, scores, logits


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    """Region similarity J; 1 where both are empty."""
    union = (found | truth).sum()
    return 1.0 if union == 0 else float((found & truth).sum() / union)


def area_under_curve(positive: np.ndarray, negative: np.ndarray) -> float | None:
    """Chance that a random positive scores above a random negative, ties counting half."""
    if len(positive) == 0 or len(negative) == 0:
        return None
    ranks = np.searchsorted(np.sort(negative), positive, "left") + np.searchsorted(np.sort(negative), positive, "right")
    return float(ranks.mean() / (2 * len(negative)))


def evaluate(model: nn.Module, size: int, *, clips: int, frames: int, seed: int) -> dict:
    """All results as a JSON-ready dictionary."""
    processor, results = make_processor(size), {}
    visible_scores: list[np.ndarray] = []
    absent_scores: list[np.ndarray] = []
    for mode in MODES:
        material = held_out_clips(mode, clips, frames, size, seed)
        for kind in KINDS:
            tracked, prompted, visible, absent = [], [], [], []
            for images, masks in material:
                prompts = [exact_prompt(mask[0].astype(np.uint8), kind) for mask in masks]
                found, scores, _ = run_session(model, processor, images, prompts, masks[:, 0])
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
    tracker, processor, worst = Tracker(weights.load(path)[0], arch), make_processor(size), 0.0
    for mode in MODES:
        images, masks = held_out_clips(mode, 1, frames, size, seed)[0]
        for kind in KINDS:
            prompt = exact_prompt(masks[0, 0].astype(np.uint8), kind)
            _, scores, expected = run_session(model, processor, images, [prompt], masks[:1, 0])
            logits, ours = track(tracker, images, prompt, masks[0, 0])
            gaps = [float((a - b).abs().max()) for a, b in zip(logits, expected)]
            gap = float(np.abs(np.array(ours)[1:] - scores[0, 1:]).max())
            print(f"{mode}/{kind}: mask logits differ by {max(gaps):.2e}, object score by {gap:.2e}", file=sys.stderr)
            worst = max(worst, *gaps, gap)
    return worst


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="jetbench_models evaluate", description=__doc__.split("\n\n")[0])
    parser.add_argument("weights", type=Path, help="safetensors file written by train")
    parser.add_argument("--json", type=Path, help="where to write the results (default: beside the weights)")
    parser.add_argument("--clips", type=int, default=12, help="clips per mode")
    parser.add_argument("--frames", type=int, default=24, help="frames per clip")
    parser.add_argument("--seed", type=int, default=770000, help="seed of the held-out clips and their textures")
    parser.add_argument("--parity", action="store_true", help="compare the training tracker with the session API")
    args = parser.parse_args(argv)
    tune_process()
    if args.parity:
        worst = parity(args.weights, args.frames, args.seed)
        print(f"largest difference {worst:.2e}, limit {PARITY_LIMIT:.0e}")
        return int(worst > PARITY_LIMIT)
    model, arch, size = weights.load(args.weights)
    results = dict(weights=args.weights.name, **weights.read_header(args.weights), clips=args.clips,
                   frames=args.frames, seed=args.seed)
    results.update(evaluate(model, size, clips=args.clips, frames=args.frames, seed=args.seed))
    path = args.json or args.weights.with_suffix(".eval.json")
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results["object_score"]))
    return 0
