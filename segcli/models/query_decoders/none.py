"""No queries at all: the pixels are classified as they are (the per-pixel baseline)."""

from __future__ import annotations

from segcli.models.heads import PixelHead
from segcli.models.parts import QueryDecoder
from segcli.types import Pilots, PixelFeatures, QueryPredictions


class NoQueries(QueryDecoder[PixelHead]):
    """Hands the pixels to the head."""

    def forward(
        self, pixels: PixelFeatures, head: PixelHead, every_layer: bool = False, pilots: Pilots | None = None
    ) -> list[QueryPredictions]:
        """-> one prediction; there are no layers, and no pilots."""
        memory = pixels.memory[0]
        return [head.answer(memory.new_empty(memory.shape[0], 0, memory.shape[1]), pixels)]

    def fresh_queries(self, count: int) -> None:
        """There are none to make anew."""
