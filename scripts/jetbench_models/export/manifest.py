"""What a pack says about itself: pack.toml and LICENSE."""
from __future__ import annotations

import json
from importlib import metadata

from .. import __version__
from ..models import MEAN, NORMALISED_WITH, STD, sam3
from ..models.released import Checkpoint
from ..pack import DTYPES
from ..pack.half import RULES
from ..pack.ports import as_toml
from .graphs.geometry import Geometry
from .graphs.signatures import POINT_SLOTS, signatures

CPU = "cpu"               # the form for ONNX Runtime's CPU provider, fp32: see fused
BORROWS = "cpu weights"   # the file of the fp32 graph, where that form takes weights from it: see borrowed
STANDS_IN_FOR = {"sam2": "SAM 2", "edgetam": "EdgeTAM", "efficienttam": "EfficientTAM", sam3.FAMILY: "SAM 3"}
LIBRARIES = ("torch", "torchvision", "transformers", "timm", "onnx", "onnxscript", "numpy")
MINI_LICENCE = """\
The graphs, weights and reference outputs in this directory are part of this project and are licensed under the Apache
License, Version 2.0 (https://www.apache.org/licenses/LICENSE-2.0).

The weights were trained by this project from random numbers, on synthetic clips that its own script draws. No
downloaded weights and no third-party images were used. They are smoke-test models: they exercise the SAM 2 and EdgeTAM
video architectures and say nothing about the quality of the released models of those names.
"""
DETECTOR_MINI_LICENCE = (MINI_LICENCE.replace("clips", "frames").replace("those names", "that name")
                         .replace("SAM 2 and EdgeTAM\nvideo architectures", "D-FINE\narchitecture"))
SEGMENTER_MINI_LICENCE = MINI_LICENCE.replace("those names", "that name").replace("SAM 2 and EdgeTAM\nvideo architectures",
                                                                               "VidEoMT\narchitecture")
CHAINS_MINI_LICENCE = SEGMENTER_MINI_LICENCE.replace("VidEoMT", "DVIS-DAQ")

RANDOM_LICENCE = """\
The graphs and reference outputs in this directory hold random numbers in the architecture of a released model. They are
licensed under the Apache License, Version 2.0 (https://www.apache.org/licenses/LICENSE-2.0). No released weights were
used. They show that graphs and runner compute what the PyTorch model computes, and say nothing about its quality.
"""
RELEASED_LICENCE = """\
The graphs in this directory hold the weights of the checkpoint named in pack.toml, converted and otherwise unchanged. They
stay under the licence of that checkpoint. The {checkpoints} checkpoints are published by {publisher} under the
Apache License, Version 2.0 (https://www.apache.org/licenses/LICENSE-2.0); weights that were trained further may have other terms.
"""
SAM_LICENCE = """\
The graphs in this directory hold the tracker's weights of the SAM 3 checkpoint named in pack.toml, converted and otherwise unchanged.
They stay under the SAM License of Meta (https://github.com/facebookresearch/sam3/blob/main/LICENSE): whoever passes them on does so
under the same terms and with a copy of them, and they are not for military uses, nuclear industries, espionage or weapons.
"""
PUBLISHERS = {"dfine": ("D-FINE", "its authors"), "efficienttam": ("EfficientTAM", "its authors"),
              "videomt": ("VidEoMT", "its authors")}   # the others: Meta
FOLLOWS = ("transformers", "official")     # the implementation whose masks a pack gives where the two differ
TITLES = {"sam2": "SAM 2.0 video", "sam2.1": "SAM 2.1 video", "edgetam": "EdgeTAM video",
          "efficienttam": "EfficientTAM video", "sam3": "SAM 3"}


def library_versions(names: tuple[str, ...]) -> dict[str, str]:
    return {name: metadata.version(name) for name in names}


def licence(checkpoint: Checkpoint) -> str:
    """Text of LICENSE: ours, or that of the weights, with the file that lay beside them."""
    checkpoints, publisher = PUBLISHERS.get(checkpoint.family, ("SAM 2, SAM 2.1 and EdgeTAM", "Meta"))
    minis = {"dfine": DETECTOR_MINI_LICENCE, "videomt": SEGMENTER_MINI_LICENCE, "dvis_daq": CHAINS_MINI_LICENCE}
    released = SAM_LICENCE if checkpoint.family == sam3.FAMILY else RELEASED_LICENCE.format(checkpoints=checkpoints, publisher=publisher)
    text = {"random": RANDOM_LICENCE, "trained here": minis.get(checkpoint.family, MINI_LICENCE)}.get(checkpoint.source, released)
    return text + (f"\n{checkpoint.licence}" if checkpoint.licence else "")


def inline(table: dict[str, str]) -> str:
    return "{ " + ", ".join(f"{k} = {json.dumps(v)}" for k, v in table.items()) + " }"


def _cpu_form(name: str, digests: dict[str, str]) -> str:
    """What pack.toml says of the CPU form of a graph."""
    weights = inline(dict(file=f"fp32/{name}.onnx", sha256=digests[BORROWS])) if BORROWS in digests else None
    said = [f'file = "fp32/{name}.{CPU}.onnx"', f'sha256 = "{digests[CPU]}"', *([f"weights = [{weights}]"] if weights else [])]
    return "{ " + ", ".join(said) + " }"


def describe(checkpoint: Checkpoint, g: Geometry) -> str:
    """One line about the model, for the manifest."""
    if checkpoint.source == "trained here":
        title = {"sam2": "SAM 2.1 video", "edgetam": "EdgeTAM video"}[checkpoint.family]
        return (f"{title} architecture in miniature ({g.size} px, {g.channels} channels), trained from random weights on "
                "synthetic clips: a smoke-test model")
    version, _, size = checkpoint.name.partition("_")
    what = " ".join(filter(None, (TITLES.get(version, checkpoint.name), size.replace("_", " "))))
    if checkpoint.source == "random":
        return f"{what} at {g.size} px with RANDOM weights: right in size, speed and arithmetic, it segments nothing"
    return f"{what} at {g.size} px, from {'a Hugging Face directory' if checkpoint.source == 'hugging face' else 'the official checkpoint'}"


def provenance_lines(provenance: dict, follows: str) -> list[str]:
    """[provenance]: digest of the weights, command, libraries and notes, as ``provenance`` has them."""
    return ["[provenance]", f'checkpoint_sha256 = "{provenance["checkpoint_sha256"]}"', f'exporter = "jetbench_models {__version__}"',
            f'command = {json.dumps(provenance["command"])}', f'libraries = {inline(provenance["libraries"])}',
            f'follows = "{follows}"', f'notes = {json.dumps(provenance["notes"])}']


def input_lines(size: int | str, mean: list[float], std: list[float]) -> list[str]:
    """[input]: side of the square image, and what its pixels in 0..1 are normalised with."""
    return ["[input]", f"size = {size}", 'resize = "bilinear_antialias_u8"', 'colour = "rgb"', f"mean = {mean}", f"std = {std}"]


def golden_lines(index: str, tolerance: float) -> list[str]:
    return ["", "[golden]", f'index = "{index}"', f"tolerance = {tolerance}"]


def manifest(identity: str, family: str, description: str, g: Geometry, provenance: dict,
             digests: dict[str, dict[str, str]], golden: float | None, grows: bool = False, follows: str = FOLLOWS[0],
             test_model: bool = False) -> str:
    """Text of pack.toml. ``digests``: graph name -> precision, CPU or BORROWS -> sha256; ``golden``: largest difference of a mask
    logit that the reference allows, None without one; ``follows``: one of FOLLOWS;
    ``test_model``: the weights are nobody's, so figures of the pack do not describe the published model."""
    stands_in = [f'test_model_of = "{STANDS_IN_FOR[family]}"'] if test_model else []
    terms = sam3.TERMS if family == sam3.FAMILY and not test_model else "Apache-2.0"
    kinds = [kind for kind in DTYPES if kind in next(iter(digests.values()))]
    lines = [
        "schema = 1", f'id = "{identity}"', f'family = "{family}"', f"description = {json.dumps(description)}",
        f'licence = "{terms}"', *stands_in, "", *provenance_lines(provenance, follows), "",
        *input_lines(g.size, *NORMALISED_WITH.get(family, (MEAN, STD))),
        "", "[memory]", f"frames = {g.slots}", f"tokens_per_frame = {g.memory_tokens}", f"channels = {g.memory_channels}",
        f"pointers = {g.pointers}", f'storage = "{"bf16_rounded" if family != "edgetam" or follows == "official" else "fp32"}"',
        "", "[prompts]", 'kinds = ["points", "bbox", "mask"]', f"point_slots = {POINT_SLOTS}",
        "", *(f"# {line}" for line in RULES),
    ]
    for name, signature in signatures(g, grows).items():
        lines += ["", "[[graph]]", f'name = "{name}"',
                  f"files = {inline({p: f'{p}/{name}.onnx' for p in kinds})}",
                  f"sha256 = {inline({p: digests[name][p] for p in kinds})}"]
        if CPU in digests[name]:
            lines.append(f"cpu = {_cpu_form(name, digests[name])}")
        lines += [f"inputs = {as_toml(signature.inputs)}", f"outputs = {as_toml(signature.outputs)}"]
    for state in ("bank", "ptrs", "age"):
        lines += ["", "[[state]]", f'input = "{state}"', f'output = "{state}_out"']
    if golden is not None:
        lines += golden_lines("reference/golden.json", golden)
    return "\n".join(lines) + "\n"
