"""An exponential moving average of the weights: what is validated and published."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Averages of a model's floating-point parameters; buffers are the model's own.

    The decay grows with the number of updates as (1 + t) / (10 + t) up to `decay`, so that a short run is not judged
    by its initial weights. With decay 0 there is no average, and the weights themselves are used.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._live: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self._names = [name for name, p in model.named_parameters() if p.requires_grad]
        self._mean = [p.detach().clone() for p in self._live] if decay else []

    @torch.no_grad()
    def update(self) -> None:
        """Include the weights after an update."""
        self.updates += 1
        if self._mean:
            decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
            torch._foreach_lerp_(self._mean, self._live, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the model holds the averages."""
        if not self._mean:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        """Exchange the storages, without a copy."""
        for live, mean in zip(self._live, self._mean, strict=True):
            live.data, mean.data = mean.data, live.data

    def state(self) -> dict[str, Tensor]:
        """Averages by parameter name."""
        return dict(zip(self._names, self._mean, strict=True)) if self._mean else {}

    def load(self, state: dict[str, Tensor], updates: int) -> None:
        """Restore what `state` returned."""
        self.updates = updates
        for name, mean in self.state().items():
            mean.copy_(state[name])
