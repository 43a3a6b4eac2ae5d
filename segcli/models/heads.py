"""What turns a query into an answer: a class and a mask or a box; or a pixel into the logits of every class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.layers.linear import Linear
from segcli.layers.masks import ConvolvedMasks, DenseMasks, ProductMasks
from segcli.layers.mlp import MLP
from segcli.models.mask_head import MaskHead, QueryMasks
from segcli.models.parts import Head
from segcli.types import Masks, PixelFeatures, QueryPredictions


class MaskClassificationHead(Head):
    """MaskFormer's two outputs of a query (arXiv 2107.06278, §3.3): class logits, and the factor of its mask.

    norm: of the queries, unless they come normed. gelu: in the mask's MLP, in place of ReLU. Both are EoMT's.
    """

    def __init__(self, dim: int, num_classes: int, mask_dim: int, norm: bool = True, gelu: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()
        self.classifier = Linear(dim, num_classes + 1)
        self.mask_embed = MLP(dim, dim, mask_dim, gelu=gelu)

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
        return QueryPredictions(classes, masks_of(embeddings, pixels))

    def fresh_classes(self, count: int) -> None:
        """Other classes, their weights drawn anew."""
        self.classifier = Linear(self.classifier.in_features, count + 1)


class ClassMaskHead(Head):
    """A mask for every query, and no question about its class: query k is class k (PerPixelBaseline+, same paper)."""

    def __init__(self, dim: int, mask_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.mask_embed = MLP(dim, dim, mask_dim)

    def answer(self, queries: Tensor, pixels: PixelFeatures) -> QueryPredictions:
        """queries [B, K, D], one a class -> one prediction."""
        embeddings = self.mask_embed(self.norm(queries))
        return QueryPredictions(_own_classes(embeddings), masks_of(embeddings, pixels))

    def fresh_classes(self, count: int) -> None:
        """Nothing here depends on the classes; the queries do."""


class BoxHead(Head):
    """DETR's outputs of a query (arXiv 2005.12872, §3.2): class logits, a box, and its mask if there is a mask head.

    outputs: number of class logits. columns: those that are classes, in their order; None: all. The others are ids that
    no class has (COCO's raw ids have holes). They are not part of the answer: their probability goes to "no object".
    """

    def __init__(
        self, dim: int, outputs: int, columns: Sequence[int] | None = None, masks: MaskHead | None = None
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.classifier = Linear(dim, outputs + 1)
        self.box_embed = MLP(dim, dim, 4)
        self.masks = masks
        self.columns = None if columns is None else list(columns)

    def answer(self, queries: Tensor, pixels: PixelFeatures) -> QueryPredictions:
        """queries [B, Q, D] and the maps their masks are made of -> one prediction."""
        queries = self.norm(queries)
        classes = self.classifier(queries)
        if self.columns is not None:
            rest = sorted(set(range(classes.shape[-1])) - set(self.columns))
            nothing = classes[..., rest].logsumexp(-1, keepdim=True)
            classes = torch.cat((classes[..., self.columns], nothing), dim=-1)
        masks = None if self.masks is None else QueryMasks(self.masks, queries, pixels)
        return QueryPredictions(classes, masks, self.box_embed(queries).sigmoid())

    def fresh_classes(self, count: int) -> None:
        """Other classes, their weights drawn anew."""
        self.classifier = Linear(self.classifier.in_features, count + 1)
        self.columns = None


class PixelHead(Head):
    """A 1×1 convolution to the logits of every class (PerPixelBaseline, same paper)."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(dim, num_classes, 1)

    def answer(self, queries: Tensor, pixels: PixelFeatures) -> QueryPredictions:
        """-> one prediction, K queries whatever `queries` are."""
        logits = self.classifier(projected_features(pixels))
        return QueryPredictions(_own_classes(logits.flatten(2)), DenseMasks(logits))

    def fresh_classes(self, count: int) -> None:
        """Other classes, their weights drawn anew."""
        self.classifier = nn.Conv2d(self.classifier.in_channels, count, 1)


def projected_features(pixels: PixelFeatures) -> Tensor:
    """[B, C, h, w], the right factor of every mask."""
    features = pixels.features
    if pixels.mask_proj is None:
        return features
    weight, bias = pixels.mask_proj
    return F.conv2d(features, weight, bias, padding="same")


def masks_of(embeddings: Tensor, pixels: PixelFeatures) -> Masks:
    """embeddings [B, Q, C] -> their masks.

    A projection that is still to be done is folded into the queries where they are fewer than its channels.
    """
    if pixels.mask_proj is None or embeddings.shape[1] >= embeddings.shape[2]:
        return ProductMasks(embeddings, projected_features(pixels))
    weight, bias = pixels.mask_proj
    kernels = (embeddings @ weight.flatten(1)).unflatten(2, weight.shape[1:])
    return ConvolvedMasks(kernels, embeddings @ bias, pixels.features)


def _own_classes(queries: Tensor) -> Tensor:
    """Class logits of queries [B, K, ...] of which each is certain to be its own class -> [B, K, K + 1]."""
    count = queries.shape[1]
    return (_CERTAIN * torch.eye(count, count + 1, device=queries.device)).expand(queries.shape[0], -1, -1)


_CERTAIN = 200.0  # a softmax makes exactly 1 and 0 of it and zeros, in every precision
