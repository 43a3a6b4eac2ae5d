"""No queries at all: the pixels are classified as they are (the per-pixel baseline)."""

from __future__ import annotations

from torch import nn

from segcli.models.heads import PixelHead
from segcli.types import Pilots, PixelFeatures, QueryPredictions


class NoQueries(nn.Module):
    """Hands the pixels to the head."""

    def forward(
        self, pixels: PixelFeatures, head: PixelHead, every_layer: bool = False, pilots: Pilots | None = None
    ) -> list[QueryPredictions]:
        """-> one prediction; there are no layers and nobody to pilot."""
        assert pilots is None
        return [head.answer(pixels)]

    def fresh_queries(self, count: int) -> None:
        """There are none to make anew."""
