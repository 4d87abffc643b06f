"""CLIP and SigLIP as transformers has them (MobileCLIP: ``mobileclip``): read from a directory or made of random numbers, and the
vectors of class names by the text tower, pooled as CLIP does (``eot``), by the mean of the rows up to there (``mean``), or as SigLIP
does (``last``).

Learned prompts are those of CoOp: ``token_prefix`` [C,1,W], ``ctx`` [n,W] shared or [C,n,W] of each class, ``token_suffix`` [C,T-1-n,W],
one after the other in place of the token embeddings, the name of the class at the end.
"""
from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

from . import DoesNotFit
from .released import licence_beside, sha256, state_digest

POOLINGS = ("eot", "mean", "last")
BATCH = 32                # texts at once
FILTERS = {2: "bilinear_antialias_u8", 3: "bicubic_antialias_u8"}       # Pillow's numbers
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
OLD_EOS = 2               # in configurations from before the library's mending: the end is then the largest id
NEAR = 1e-3               # of one token's embedding, in a checkpoint of half precision


@dataclass(frozen=True)
class Source:
    """A model with its tokenizer and what its images have to be."""

    model: nn.Module
    name: str
    made: str             # "hugging face" or "random"
    digest: str           # SHA-256 of the weights
    licence: str | None
    tokens: object | None     # tokenizer; None: random weights, whose words get numbers of their own
    mean: list[float]
    std: list[float]
    resize: str

    @property
    def kind(self) -> str:
        return "clip" if isinstance(self.model, CLIPModel) else "siglip" if isinstance(self.model, SiglipModel) else "open_clip"

    @property
    def size(self) -> int:
        return self.model.visual.image_size[0] if self.kind == "open_clip" else self.model.config.vision_config.image_size


def width(source: Source) -> int:
    """Values of an embedding."""
    if source.kind == "open_clip":
        return source.model.text.output_dim
    config = source.model.config
    return config.projection_dim if source.kind == "clip" else config.vision_config.hidden_size


# ------------------------------------------------------------------------------------------------------------ reading
TEXT = dict(hidden_size=512, intermediate_size=2048, num_attention_heads=8, num_hidden_layers=12)
BASE = dict(hidden_size=768, intermediate_size=3072, num_attention_heads=12, num_hidden_layers=12, image_size=224)
TINY = dict(hidden_size=48, intermediate_size=96, num_attention_heads=3, num_hidden_layers=2)
RANDOM = {
    "clip_b32": lambda: CLIPConfig(text_config=TEXT, vision_config={**BASE, "patch_size": 32}, projection_dim=512),
    "siglip_b16": lambda: SiglipConfig(text_config={**BASE, "projection_size": 768}, vision_config={**BASE, "patch_size": 16}),
    "clip_tiny": lambda: CLIPConfig(text_config={**TINY, "vocab_size": 600, "eos_token_id": 599, "bos_token_id": 598},
                                    vision_config={**TINY, "image_size": 64, "patch_size": 16}, projection_dim=32),
    "siglip_tiny": lambda: SiglipConfig(text_config={**TINY, "vocab_size": 600, "projection_size": 48},
                                        vision_config={**TINY, "image_size": 64, "patch_size": 16}),
}


def random(name: str, seed: int) -> Source:
    """Random weights in an architecture of ``RANDOM``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = RANDOM[name]()
        model = (CLIPModel if name.startswith("clip") else SiglipModel)(config).eval()
    mean, std = (CLIP_MEAN, CLIP_STD) if name.startswith("clip") else ([0.5] * 3, [0.5] * 3)
    return Source(model, name, "random", state_digest(model), None, None, mean, std, FILTERS[3])


def _images(folder: Path, kind: str, size: int) -> tuple[list[float], list[float], str]:
    """(mean, std, filter) that the directory's preprocessor_config.json asks for."""
    at = folder / "preprocessor_config.json"
    said = json.loads(at.read_text()) if at.is_file() else {}
    for field in ("size", "crop_size"):
        value = said.get(field, size)
        sides = set(value.values()) if isinstance(value, dict) else {value}
        if sides != {size}:
            raise DoesNotFit(f"{at}: {field} = {value}, and the image tower takes {size} px; a crop of a track is resized to that, "
                             "not cut again")
    number = said.get("resample", 3)
    if number not in FILTERS:
        raise DoesNotFit(f"{at}: resample = {number}: 2 (bilinear) or 3 (bicubic) expected")
    usual = (CLIP_MEAN, CLIP_STD) if kind == "clip" else ([0.5] * 3, [0.5] * 3)
    return said.get("image_mean", usual[0]), said.get("image_std", usual[1]), FILTERS[number]


def load(folder: Path) -> Source:
    """A Hugging Face directory of CLIP or SigLIP (``config.json``, ``model.safetensors``, tokenizer, ``preprocessor_config.json``)."""
    at = folder / "config.json"
    if not at.is_file():
        raise DoesNotFit(f"{folder}: no config.json; a Hugging Face directory of CLIP or SigLIP is expected")
    kind = json.loads(at.read_text()).get("model_type")
    classes = {"clip": CLIPModel, "siglip": SiglipModel}
    if kind not in classes:
        raise DoesNotFit(f"{at}: model_type = {kind!r}: clip or siglip expected (SigLIP 2 in its fixed resolutions is siglip)")
    file = folder / "model.safetensors"
    if not file.is_file():
        raise DoesNotFit(f"{folder}: no model.safetensors")
    try:
        model, report = classes[kind].from_pretrained(folder, dtype=torch.float32, output_loading_info=True, local_files_only=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise DoesNotFit(f"{folder}: {error}") from None
    wrong = [f"{what}: {', '.join(sorted(map(str, report[what]))[:8])}" for what in ("missing_keys", "mismatched_keys") if report.get(what)]
    if wrong:
        raise DoesNotFit(f"{folder} does not fit its own configuration: {'; '.join(wrong)}")
    try:
        tokens = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise DoesNotFit(f"{folder}: no tokenizer ({error})") from None
    licence = licence_beside(folder)
    model = model.eval()
    return Source(model, folder.resolve().name, "hugging face", sha256(file), licence, tokens,
                  *_images(folder, kind, model.config.vision_config.image_size))


# --------------------------------------------------------------------------------------------------------------- text
def ids_of(source: Source, texts: list[str]) -> Tensor:
    """Token ids [n,T] of texts: padded to the tower's length, as SigLIP was trained; of random weights a number per word."""
    if source.kind == "open_clip":
        return source.tokens(texts)               # type: ignore[operator, misc]
    text = source.model.config.text_config
    if source.tokens is not None:
        return source.tokens(texts, padding="max_length", max_length=text.max_position_embeddings, truncation=True,   # type: ignore[operator]
                             return_tensors="pt")["input_ids"]
    ids = torch.ones(len(texts), text.max_position_embeddings, dtype=torch.long)
    for row, line in zip(ids, texts):
        words = line.split()
        row[1:len(words) + 1] = torch.tensor([3 + zlib.crc32(w.encode()) % (text.vocab_size - 8) for w in words])
        row[0], row[len(words) + 1] = text.bos_token_id % text.vocab_size, text.eos_token_id % text.vocab_size
    return ids


def ends_of(source: Source, ids: Tensor) -> Tensor:
    """Position of the end-of-text token in each row of ids."""
    eos = source.model.config.text_config.eos_token_id
    if eos == OLD_EOS:
        return ids.argmax(-1)
    found = ids == eos
    if not bool(found.any(-1).all()):
        raise DoesNotFit(f"a text has no end-of-text token (id {eos}); is it the tokenizer of this model?")
    return found.int().argmax(-1)


@torch.no_grad()
def features(source: Source, ids: Tensor, pooling: str, embeds: Tensor | None = None, ends: Tensor | None = None) -> Tensor:
    """Text features [n,D], not normalised, of token ids [n,T]. ``embeds`` [n,T,W]: token embeddings in place of those of the ids;
    ``ends`` [n]: where their texts end."""
    check_pooling(source, pooling)
    if source.kind == "open_clip":
        return torch.cat([source.model.encode_text(ids[at:at + BATCH]) for at in range(0, len(ids), BATCH)])
    model, rows = source.model, []
    ends = ends_of(source, ids) if ends is None and pooling != "last" else ends
    for at in range(0, len(ids), BATCH):
        part = slice(at, at + BATCH)
        hook = None
        if embeds is not None:
            given = embeds[part]
            hook = model.text_model.embeddings.token_embedding.register_forward_hook(lambda *_, given=given: given)
        try:
            out = model.text_model(input_ids=ids[part])
        finally:
            if hook:
                hook.remove()
        rows.append(out.pooler_output if pooling == "last" else model.text_projection(pooled(out.last_hidden_state, ends[part], pooling)))   # type: ignore[index]
    return torch.cat(rows)


def pooled(hidden: Tensor, ends: Tensor, pooling: str) -> Tensor:
    """One row [n,W] of the last layer's [n,T,W]: that of the end, or the mean of the rows from the first to it."""
    if pooling == "eot":
        return hidden[torch.arange(len(hidden)), ends]
    counted = (torch.arange(hidden.shape[1])[None] <= ends[:, None]).to(hidden.dtype)
    return torch.einsum("ntw,nt->nw", hidden, counted) / counted.sum(1, keepdim=True)


def check_pooling(source: Source, pooling: str) -> None:
    name, suits = {"clip": ("CLIP", ("eot", "mean")), "siglip": ("SigLIP", ("last",)), "open_clip": ("MobileCLIP", ("eot",))}[source.kind]
    if pooling not in suits:
        raise DoesNotFit(f"pooling {pooling}: {name} takes {' or '.join(suits)}")


def drawn_vectors(count: int, width: int, seed: int) -> Tensor:
    """Random unit vectors [count,width]: random weights tell no texts apart."""
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=-1)


def vectors(source: Source, classes: list[str], templates: list[str], pooling: str) -> Tensor:
    """Unit vectors [C,D]: the mean of the unit vectors of each class over the templates, made a unit vector again."""
    texts = [template.format(name) for name in classes for template in templates]
    rows = F.normalize(features(source, ids_of(source, texts), pooling), dim=-1)
    return F.normalize(rows.reshape(len(classes), len(templates), -1).mean(1), dim=-1)


# ---------------------------------------------------------------------------------------------------- learned prompts
def learned_state(path: Path) -> dict[str, Tensor]:
    """``ctx``, ``token_prefix`` and ``token_suffix`` of a checkpoint of CoOp, whatever stands before these names."""
    try:
        content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:      # torch names a dozen kinds
        raise DoesNotFit(f"{path}: no checkpoint that can be read: {error}") from None
    content = content.get("state_dict", content) if isinstance(content, dict) else {}
    found = {name: value.float() for name in ("ctx", "token_prefix", "token_suffix")
             for key, value in content.items() if key.rpartition(".")[2] == name and isinstance(value, Tensor)}
    if missing := {"ctx", "token_prefix", "token_suffix"} - found.keys():
        raise DoesNotFit(f"{path}: {', '.join(sorted(missing))} missing; learned prompts of CoOp have ctx, token_prefix and token_suffix")
    return found


def learned_vectors(source: Source, path: Path, classes: list[str], pooling: str) -> Tensor:
    """Unit vectors [C,D] of learned prompts. The end of a text is the first row of its suffix that is the end's embedding."""
    if source.kind != "clip":
        raise DoesNotFit("learned prompts of CoOp are read for CLIP as transformers has it, and this is another model")
    state, text = learned_state(path), source.model.config.text_config
    ctx, prefix, suffix = state["ctx"], state["token_prefix"], state["token_suffix"]
    width, length = text.hidden_size, text.max_position_embeddings
    count = len(classes)
    ctx = ctx.expand(count, -1, -1) if ctx.ndim == 2 else ctx
    for name, value, shape in (("token_prefix", prefix, (count, 1, width)), ("ctx", ctx, (count, ctx.shape[1], width)),
                               ("token_suffix", suffix, (count, length - 1 - ctx.shape[1], width))):
        if tuple(value.shape) != shape:
            raise DoesNotFit(f"{path}: {name} has shape {list(value.shape)}, {list(shape)} expected for {count} classes and "
                             "this text tower")
    table = source.model.text_model.embeddings.token_embedding.weight.detach()
    end = table[-1 if text.eos_token_id == OLD_EOS else text.eos_token_id]
    matches = (suffix - end).abs().amax(-1) <= NEAR * max(1.0, float(end.abs().max()))
    if not bool(matches.any(-1).all()):
        first = classes[int((~matches.any(-1)).int().argmax())]
        raise DoesNotFit(f"{path}: class {first!r}: no row of token_suffix is the embedding of "
                         "this model's end-of-text token; the prompts were learned with another CLIP")
    embeds = torch.cat([prefix, ctx, suffix], 1)
    ends = 1 + ctx.shape[1] + matches.int().argmax(-1)
    ids = torch.zeros(count, length, dtype=torch.long)
    ids[torch.arange(count), ends] = text.eos_token_id
    return F.normalize(features(source, ids, pooling, embeds, ends), dim=-1)


# -------------------------------------------------------------------------------------------------------------- image
class Vision(nn.Module):
    """``pixel_values`` [n,3,S,S] -> the image's embedding [n,D], not normalised."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.tower = model.vision_model
        self.projection = getattr(model, "visual_projection", nn.Identity())

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.projection(self.tower(pixel_values).pooler_output)
