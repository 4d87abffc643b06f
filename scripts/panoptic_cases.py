"""Writes runners/src/segment/panoptic_cases.json: what panoptic post-processing makes of drawn logits.

That is transformers' of VidEoMT, and DVIS-DAQ's:

    git clone https://github.com/zhang-tao-whu/DVIS_Plus        # commit c0eb249; nothing of it is part of this repository
    ../target/python/bin/python panoptic_cases.py DVIS_Plus/DVIS_DAQ/dvis_daq/meta_architecture.py

Only the method ``inference_video_vps`` of that file is run, on one frame, where "the whole video" and "so far" are the same. Every case has
the logits in hundredths, the sizes, and per query the runs of pixels, row by row, that it does not keep and that it keeps, in turns.
"""
from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from transformers.models.videomt.video_processing_videomt import VideomtVideoProcessor

OUT = Path(__file__).resolve().parent.parent / "runners/src/segment/panoptic_cases.json"
SCORE = OVERLAP = 0.8


def drawn(rng: np.random.Generator, count: int, height: int, width: int) -> np.ndarray:
    """Mask logits of blobs that overlap, in hundredths."""
    y, x = np.mgrid[0:height, 0:width]
    masks = []
    for _ in range(count):
        cy, cx, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(0.12, 0.35) * max(height, width)
        masks.append(3 * (radius - np.hypot(x - cx, y - cy)) + rng.normal(0, 0.7, x.shape))
    return np.clip(np.round(100 * np.stack(masks)), -1500, 1500).astype(int)


def runs(mask: np.ndarray) -> list[int]:
    found = [len(list(group)) for _, group in groupby(mask.reshape(-1).tolist())]
    return [0, *found] if mask.reshape(-1)[0] else found


def videomt(rng: np.random.Generator, size: tuple[int, int]) -> dict:
    queries, side = 6, 8
    masks = drawn(rng, queries, side, side)
    classes = np.round(100 * rng.normal(0, 1, (queries, 4))).astype(int)
    classes[np.arange(queries), rng.integers(0, 4, queries)] += rng.integers(150, 700, queries)
    outputs = SimpleNamespace(masks_queries_logits=torch.tensor(masks[None] / 100).float(),
                              class_queries_logits=torch.tensor(classes[None] / 100).float())
    (found,) = VideomtVideoProcessor().post_process_panoptic_segmentation(outputs, [(size[1], size[0])], SCORE, 0.5, OVERLAP)
    scores = torch.tensor(classes / 100).float().softmax(-1).max(-1).values
    by_score = {round(score, 6): query for query, score in enumerate(scores.tolist())}
    assert len(by_score) == queries
    kept = {by_score[s["score"]]: runs((found["segmentation"] == s["id"]).numpy()) for s in found["segments_info"]}
    return {"of": "videomt", "logits": [side, side], "frame": list(size), "classes": classes.tolist(),
            "masks": masks.reshape(queries, -1).tolist(), "kept": [kept.get(query, []) for query in range(queries)]}


def published(path: Path) -> Callable[..., dict]:
    """The method, with what it needs of its surroundings."""
    tree = ast.walk(ast.parse(path.read_text()))
    method = next(node for node in tree if isinstance(node, ast.FunctionDef) and node.name == "inference_video_vps")
    names: dict = {"torch": torch, "F": F}
    exec(compile(ast.Module([method], []), str(path), "exec"), names)
    return names["inference_video_vps"]


def dvis(rng: np.random.Generator, method: Callable[..., dict], taken: tuple[int, int], frame: tuple[int, int]) -> dict:
    tracks, coarse, source = 5, (12, 8), (48, 32)
    masks = drawn(rng, tracks, coarse[1], coarse[0])
    logits = np.zeros((tracks, 4))
    logits[np.arange(tracks), rng.integers(0, 3, tracks)] = rng.uniform(2.6, 6, tracks)
    model = SimpleNamespace(sem_seg_head=SimpleNamespace(num_classes=3), object_mask_threshold=SCORE, overlap_threshold=OVERLAP,
                            metadata=SimpleNamespace(thing_dataset_id_to_contiguous_id={0: 0, 1: 1, 2: 2}))
    logits = np.round(100 * logits).astype(int)
    pred_masks = torch.tensor(masks[:, None] / 100).float()
    found = method(model, torch.tensor(logits / 100).float(), pred_masks, taken[::-1], frame[1], frame[0], source[::-1],
                   torch.arange(tracks))
    segments = [info["id"] for info in found["segments_infos"]]
    kept = {int(track): runs((found["pred_masks"][0] == number).numpy()) for number, track in zip(segments, found["pred_ids"])}
    return {"of": "dvis_daq", "logits": list(coarse), "input": list(source), "taken": list(taken), "frame": list(frame),
            "classes": logits.tolist(), "masks": masks.reshape(tracks, -1).tolist(),
            "kept": [kept.get(track, []) for track in range(tracks)]}


def main() -> None:
    method = published(Path(sys.argv[1]))
    rng = np.random.default_rng(7)
    cases = [videomt(rng, size) for size in ((31, 22), (8, 8), (5, 40), (64, 9))]
    sizes = (((48, 32), (31, 22)), ((48, 27), (64, 36)), ((20, 32), (9, 15)), ((48, 32), (48, 32)))
    cases += [dvis(rng, method, taken, frame) for taken, frame in sizes]
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    OUT.write_text(f'{{"score": {SCORE}, "overlap": {OVERLAP}, "cases": [\n{lines}\n]}}\n')
    for case in cases:
        print(case["of"], case["frame"], "kept by", sum(bool(k) for k in case["kept"]), "of", len(case["kept"]))


if __name__ == "__main__":
    main()
