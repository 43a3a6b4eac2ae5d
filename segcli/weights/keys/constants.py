"""What published files hold beside weights: computed from the configuration, or never read."""

from __future__ import annotations

import torch
from torch import Tensor


def class_weights(num_classes: int, no_object: float) -> dict[str, Tensor]:
    """The weight of each class in transformers' loss, the last is "no object"."""
    weights = torch.ones(num_classes + 1)
    weights[-1] = no_object
    return {"criterion.empty_weight": weights}
