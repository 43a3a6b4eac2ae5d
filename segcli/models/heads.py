"""What turns a query into an answer: a class and a mask embedding."""

from __future__ import annotations

from torch import Tensor, nn

from segcli.layers.masks import ProductMasks
from segcli.layers.mlp import MLP
from segcli.types import PixelFeatures, QueryPredictions


class MaskClassificationHead(nn.Module):
    """MaskFormer's two outputs of a query (arXiv 2107.06278, §3.3): class logits, and the factor of its mask."""

    def __init__(self, dim: int, num_classes: int, mask_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.classifier = nn.Linear(dim, num_classes + 1)
        self.mask_embed = MLP(dim, dim, mask_dim)

    def forward(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """queries [B, Q, D] -> class logits [B, Q, K + 1], mask embeddings [B, Q, C]."""
        queries = self.norm(queries)
        return self.classifier(queries), self.mask_embed(queries)

    def embeddings(self, queries: Tensor) -> Tensor:
        """Mask embeddings alone, which is all that the next layer's attention mask needs."""
        return self.mask_embed(self.norm(queries))

    def answer(self, queries: Tensor, pixels: PixelFeatures) -> QueryPredictions:
        """queries [B, Q, D] and what their masks are made of -> one prediction."""
        classes, embeddings = self(queries)
        assert pixels.mask_features is not None  # a pixel decoder for masks makes them
        return QueryPredictions(classes, ProductMasks(embeddings, pixels.mask_features))

    def fresh_classes(self, count: int) -> None:
        """Other classes, their weights drawn anew."""
        self.classifier = nn.Linear(self.classifier.in_features, count + 1)
