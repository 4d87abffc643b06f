"""Reading and writing trained weights: one safetensors file whose header names the architecture and image size."""
from __future__ import annotations

from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .miniature import build


def save(path: Path, state: dict[str, Tensor], arch: str, image_size: int, note: str = "", **more: str) -> None:
    """Writes a state dict by atomic rename, so that a reader never sees half a file. ``more``: for the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    meta = {"arch": arch, "image_size": str(image_size), "note": note, **more}
    save_file({k: v.detach().clone().contiguous() for k, v in state.items()}, temporary, metadata=meta)
    temporary.replace(path)


def read_header(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def load(path: Path) -> tuple[nn.Module, str, int]:
    """The model in evaluation mode, its architecture and its image size."""
    header = read_header(path)
    arch, size = header["arch"], int(header["image_size"])
    model = build(arch, size)
    model.load_state_dict(load_file(path))
    return model.eval(), arch, size
