"""The anatomy every model here shares: backbone, pixel decoder, query decoder, head."""

from __future__ import annotations

from torch import Tensor, nn

from segcli.types import Batch, Pilots, QueryPredictions


class Segmenter(nn.Module):
    """Images in, one prediction per query out. Which parts it is made of is what makes it DETR or Mask2Former."""

    def __init__(
        self, backbone: nn.Module, pixel_decoder: nn.Module, query_decoder: nn.Module, head: nn.Module
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pixel_decoder = pixel_decoder
        self.query_decoder = query_decoder
        self.head = head

    def forward(self, batch: Batch, every_layer: bool = False, pilots: Pilots | None = None) -> list[QueryPredictions]:
        """-> predictions of every layer (training, views) or of the last alone; the last is the answer.

        `pilots` are extra queries of a training step; their predictions are `QueryPredictions.piloted`.
        """
        pyramid: list[Tensor] = self.backbone(batch.images)
        pixels = self.pixel_decoder(pyramid, batch.padding)
        del pyramid  # as large as the rest together; not needed while the queries are decoded
        return self.query_decoder(pixels, self.head, every_layer, pilots)
