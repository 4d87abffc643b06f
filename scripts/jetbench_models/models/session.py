"""The transformers video session as the source of truth: whole clips through processor and session, nothing of ours between.

For packs that follow the official predictors the same session does three things as those do (``as_official``); that this is
all it takes, ``official`` shows against the official code itself.

Golden references and every equality claim come from here, not from the modules in ``graphs``.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    Sam2ImageProcessor,
    Sam2VideoProcessor,
    Sam2VideoVideoProcessor,
    Sam3TrackerVideoProcessor,
)

from ..clips.prompts import TrackPrompt
from ..command import progress
from . import MAX_POINTERS, NORMALISED_WITH, sam3


@dataclass(frozen=True)
class Reference:
    """One track as the session leaves it: ``low_res`` [T,4f,4f] logits, ``object_score`` [T], ``obj_ptr`` [T,C],
    ``masks`` bool [T,h,w] at source size, ``chosen`` [T]: which of the decoder's four masks was taken (on the frame
    of a mask prompt it is the one that the decoder would have taken: the prompt itself is the mask); None where nobody watched."""

    low_res: np.ndarray
    object_score: np.ndarray
    obj_ptr: np.ndarray
    masks: np.ndarray
    chosen: np.ndarray | None


def _watch_choices(decoder: nn.Module) -> tuple[list[int], Callable[[], None]]:
    """Notes the mask that every call of the decoder leads to; the second value ends the watch.

    With several masks the session takes the one with the largest predicted IoU; with one, the decoder itself has
    replaced the first mask by the best of the others if it was unstable.
    """
    seen: list[int] = []
    inner = decoder._dynamic_multimask_via_stability
    fallback: list[int] = []

    def stable(masks: torch.Tensor, ious: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out = inner(masks, ious)
        first = torch.equal(out[0], masks[:, :, :1])
        fallback.append(0 if first else 1 + int(ious[..., 1:].argmax()))
        return out

    def note(_module: nn.Module, _inputs: tuple, output: tuple) -> None:
        ious = output[1]
        seen.append(1 + int(ious.argmax()) if ious.shape[-1] > 1 else fallback.pop())

    decoder._dynamic_multimask_via_stability = stable
    handle = decoder.register_forward_hook(note)

    def end() -> None:
        handle.remove()
        del decoder._dynamic_multimask_via_stability

    return seen, end


def processor(model: nn.Module) -> Sam2VideoProcessor | Sam3TrackerVideoProcessor:
    size = model.config.image_size
    side = {"height": size, "width": size}
    if sam3.is_tracker(model):
        mean, std = NORMALISED_WITH[sam3.FAMILY]
        grid = 4 * size // sam3.PATCH
        images = Sam2ImageProcessor(size=side, mask_size={"height": grid, "width": grid}, image_mean=mean, image_std=std)
        videos = Sam2VideoVideoProcessor(size=side, image_mean=mean, image_std=std)
        return Sam3TrackerVideoProcessor(image_processor=images, video_processor=videos, target_size=size)
    images = Sam2ImageProcessor(size=side, mask_size={"height": size // 4, "width": size // 4})
    return Sam2VideoProcessor(image_processor=images, video_processor=Sam2VideoVideoProcessor(size=side), target_size=size)


def resized_frame(size: int, frame: np.ndarray) -> np.ndarray:
    """uint8 [size,size,3]: what the processor makes of a frame before it normalises it."""
    out = Sam2VideoVideoProcessor(size={"height": size, "width": size}, do_rescale=False, do_normalize=False)(
        torch.from_numpy(frame).permute(2, 0, 1)[None], return_tensors="pt")
    return out["pixel_values_videos"][0, 0].permute(1, 2, 0).to(torch.uint8).numpy()


@contextmanager
def as_official(model: nn.Module) -> Iterator[None]:
    """Inside, the session treats mask prompts as the official predictors do: the object pointer comes from the first of the
    decoder's masks, not from the best of the others, and the memory from the mask reduced to a quarter and enlarged again.
    EdgeTAM's memories are kept as bfloat16."""
    inner, single = model._use_mask_as_output, model._single_frame_forward

    def use_mask_as_output(*args, **kwargs):
        model._single_frame_forward = partial(single, multimask_output=False)
        try:
            out = inner(*args, **kwargs)
        finally:
            del model._single_frame_forward
        size = model.config.image_size
        out.high_res_masks = F.interpolate(out.pred_masks, size=(size, size), mode="bilinear", align_corners=False)
        return out

    def rounded(_module: nn.Module, _inputs: tuple, output: tuple) -> tuple:
        return (output[0].to(torch.bfloat16).to(output[0].dtype), *output[1:])

    perceiver = getattr(model, "spatial_perceiver", None)
    handle = perceiver.register_forward_hook(rounded) if perceiver is not None else None
    model._use_mask_as_output = use_mask_as_output
    try:
        yield
    finally:
        del model._use_mask_as_output
        if handle is not None:
            handle.remove()


def run_session(model: nn.Module, frames: np.ndarray, prompts: list[TrackPrompt], official: bool = False,
                features: dict | None = None) -> list[Reference]:
    """All prompts on frame 0 of frames uint8 [T,h,w,3]; one session per prompt kind, one object per prompt.

    A session that knows a video to be shorter than 16 frames measures the age of object pointers on that shorter scale, which
    a device that films cannot know. Short clips are therefore announced as 16 frames long, of which T are tracked.

    Objects of a session see each other in one way: on a frame on which any is prompted, the masks of all are cut at zero before they
    go into memory. Here all are prompted on frame 0, so it makes no difference; for objects that start late the reference is one
    session per object. Kinds are kept apart because the EdgeTAM session cannot hold a mask-prompted object beside a clicked one
    (their stored scores differ in rank and do not concatenate).

    ``official``: with the official predictors' mask prompts and memory, see ``as_official``. ``features``: what the image encoder
    made of the frames, kept by the caller from one call to the next; it depends on no prompt.
    """
    if official:
        with as_official(model):
            return run_session(model, frames, prompts, False, features)
    results: dict[int, Reference] = {}
    features = {} if features is None else features
    for kind in dict.fromkeys(p.kind for p in prompts):
        chosen = [i for i, p in enumerate(prompts) if p.kind == kind]
        results.update(zip(chosen, _one_session(model, frames, [prompts[i] for i in chosen], features)))
    return [results[i] for i in range(len(prompts))]


@torch.inference_mode()
def _one_session(model: nn.Module, frames: np.ndarray, prompts: list[TrackPrompt], features: dict) -> list[Reference]:
    count, height, width = frames.shape[:3]
    process = processor(model)
    longer = np.concatenate([frames, np.repeat(frames[-1:], max(0, MAX_POINTERS - count), 0)])
    session = process.init_video_session(video=torch.from_numpy(longer).permute(0, 3, 1, 2), dtype=torch.float32)
    session.cache.max_vision_features_cache_size = len(longer)
    session.cache._vision_features = features
    choices, end_watch = _watch_choices(model.mask_decoder)
    for i, prompt in enumerate(prompts):
        given: dict[str, Any]
        if prompt.kind == "mask":
            given = dict(input_masks=prompt.full_mask().astype(bool))
        elif prompt.kind == "bbox":
            given = dict(input_boxes=[[[float(v) for v in prompt.box]]])
        else:
            given = dict(input_points=[[[[float(x), float(y)] for x, y, _ in prompt.points]]],
                         input_labels=[[[int(label) for _, _, label in prompt.points]]])
        process.add_inputs_to_inference_session(session, 0, i + 1, **given)
        model(inference_session=session, frame_idx=0)
    low, scores, masks = [], [], []
    for out in model.propagate_in_video_iterator(session, max_frame_num_to_track=count - 1):
        full = process.post_process_masks([out.pred_masks], original_sizes=[[height, width]], binarize=False)[0]
        masks.append((full[:, 0] > 0).numpy())
        low.append(out.pred_masks[:, 0].float().numpy().copy())
        progress.step(f"{prompts[0].kind}, frame {len(low)} of {count}")
        scores.append(out.object_score_logits.float().reshape(len(prompts)).numpy().copy())
    end_watch()
    if len(choices) != len(prompts) * count:
        raise RuntimeError(f"the session decoded {len(choices)} times for {len(prompts)} objects on {count} frames")
    results = []
    for i in range(len(prompts)):
        pointers = []
        for t in range(count):
            stored = session.output_dict_per_obj[i]
            kind = "cond_frame_outputs" if t in stored["cond_frame_outputs"] else "non_cond_frame_outputs"
            pointers.append(stored[kind][t]["object_pointer"].float().reshape(-1).numpy())
        results.append(Reference(np.stack([x[i] for x in low]), np.array([s[i] for s in scores], np.float32),
                                 np.stack(pointers).astype(np.float32), np.stack([m[i] for m in masks]),
                                 np.array(choices[i::len(prompts)])))
    return results
