"""The anatomy every model here shares: backbone, pixel decoder, query decoder, head."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from segcli.models.parts import Backbone, Head, HeadT, PixelDecoder, QueryDecoder
from segcli.types import Batch, Pilots, QueryPredictions


class Segmenter(nn.Module):
    """Images in, one prediction per query out. Which parts it is made of is what makes it DETR or Mask2Former."""

    __call__: Callable[..., list[QueryPredictions]]

    def __init__(
        self, backbone: Backbone, pixel_decoder: PixelDecoder, query_decoder: QueryDecoder[HeadT], head: HeadT
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pixel_decoder = pixel_decoder
        self.query_decoder: QueryDecoder[HeadT] = query_decoder
        self.head: Head = head

    def forward(self, batch: Batch, every_layer: bool = False, pilots: Pilots | None = None) -> list[QueryPredictions]:
        """-> predictions of every layer (training, views) or of the last alone; the last is the answer.

        `pilots` are extra queries of a training step; their predictions are `QueryPredictions.piloted`.
        """
        pyramid: list[Tensor] = self.backbone(batch.images)
        pixels = self.pixel_decoder(pyramid, batch.padding)
        del pyramid  # as large as the rest together; not needed while the queries are decoded
        return self.query_decoder(pixels, self.head, every_layer, pilots)

    def backbone_names(self) -> dict[str, str]:
        """{the backbone's own name of a tensor: its name in this model}. A decoder may end what the backbone begins."""
        names = {name: f"backbone.{name}" for name in self.backbone.state_dict()}
        return names | {name: f"query_decoder.{own}" for name, own in self.query_decoder.backbone_names().items()}

    def backbone_layers(self) -> list[list[nn.Parameter]]:
        """The backbone's weights from input to output, in groups that learn at one rate, wherever they lie."""
        return [*self.backbone.layers(), *self.query_decoder.backbone_layers()]
