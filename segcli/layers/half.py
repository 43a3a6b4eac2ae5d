"""Half precision on a CPU, where it does not pay."""

from __future__ import annotations

import torch
from torch import Tensor


def learns_in_half(x: Tensor) -> bool:
    """Whether x will go backward through autocast on a CPU. For attention, group norms and most depthwise convolutions
    PyTorch's kernels for that take 1.5 to 7 times as long in bf16 as in fp32.
    """
    return x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()
