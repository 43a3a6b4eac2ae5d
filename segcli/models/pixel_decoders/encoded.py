"""DETR's way from the backbone to the queries (arXiv 2005.12872, §3.2): a Transformer encoder on the coarsest map."""

from __future__ import annotations

from torch import Tensor, nn

from segcli.models.parts import PixelDecoder
from segcli.models.transformer import TransformerEncoder
from segcli.types import PixelFeatures


class EncodedMap(PixelDecoder):
    """The coarsest map, projected and encoded. Padding is masked in attention and in positions."""

    def __init__(self, in_dim: int, dim: int, encoder: TransformerEncoder) -> None:
        super().__init__()
        self.input_proj = nn.Conv2d(in_dim, dim, 1)
        self.encoder = encoder

    def forward(self, pyramid: list[Tensor], padding: Tensor | None = None) -> PixelFeatures:
        """pyramid fine to coarse, each [B, C_i, h_i, w_i] -> PixelFeatures without mask features."""
        projected = self.input_proj(pyramid[-1])
        memory = self.encoder(projected, padding)
        return PixelFeatures(None, [memory], padding, [projected, *pyramid[-2::-1]])
