"""What every training run shares: how the process is set up, and the average of the weights."""
from __future__ import annotations

import ctypes

import torch
from torch import Tensor, nn


def tune_process() -> None:
    """One thread, no denormals, and freed blocks stay in the process (mapping them anew costs about 6 % of a step)."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)                  # M_MMAP_MAX
        libc.mallopt(-1, 2 ** 31 - 1)        # M_TRIM_THRESHOLD
    except (OSError, AttributeError):        # not glibc
        pass


class Average:
    """Exponential moving average of all weights and statistics; this is what is saved as the result."""

    def __init__(self, state: dict[str, Tensor]):
        self.state = {k: v.detach().clone() for k, v in state.items()}

    def update(self, model: nn.Module, count: int) -> None:
        share = max(0.002, 1 / (0.1 * count + 2))
        current = model.state_dict()
        floats = [k for k, v in self.state.items() if v.is_floating_point()]
        torch._foreach_lerp_([self.state[k] for k in floats], [current[k].detach() for k in floats], share)
        for k, v in self.state.items():
            if not v.is_floating_point():
                v.copy_(current[k])
