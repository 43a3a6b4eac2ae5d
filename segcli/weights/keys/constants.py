"""What published files hold beside weights: computed from the configuration, or never read."""

from __future__ import annotations

import torch
from torch import Tensor

from segcli.config import SwinConfig


def class_weights(num_classes: int, no_object: float) -> dict[str, Tensor]:
    """The weight of each class in transformers' loss, the last is "no object"."""
    weights = torch.ones(num_classes + 1)
    weights[-1] = no_object
    return {"criterion.empty_weight": weights}


def swin_norm(config: SwinConfig, name: str) -> dict[str, Tensor]:
    """The final norm of a Swin, which no backbone reads, but transformers ≥ 5 misses if a file has none."""
    dim = config.embed_dim * 2 ** (len(config.depths) - 1)
    return {f"{name}.weight": torch.ones(dim), f"{name}.bias": torch.zeros(dim)}
