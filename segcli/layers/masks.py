"""Mask logits kept in their cheapest form until pixels are needed (MaskFormer, arXiv 2107.06278, section 3.3).

A mask of MaskFormer and Mask2Former is a product, `embedding[q] · features[:, y, x]`. Picking queries, sampling at
points and bilinear resizing are linear in the features, so they commute with the product and the product is made last,
over the few numbers somebody asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.layers.linear import product
from segcli.layers.points import sample
from segcli.layers.resize import resize
from segcli.types import Masks

_BILINEAR_TAPS = 4  # values read for each value written by a bilinear resize


@dataclass(frozen=True)
class ProductMasks:
    """Masks as two factors.

    embeddings: [B, Q, C], one vector a query
    features: [B, C, h, w], the pixel decoder's mask features at stride 4 of the padded frame
    """

    embeddings: Tensor
    features: Tensor

    def select(self, batch: int, queries: Tensor) -> ProductMasks:
        """Queries `queries` (indices or a bool mask, [N]) of image `batch`, with float32 factors -> [1, N, ...].

        What is selected is about to become pixels or losses, and those are float32 also behind a bf16 network.
        """
        features = self.features if self.features.shape[0] == 1 else self.features[batch : batch + 1]
        return ProductMasks(self.embeddings[batch, queries].float().unsqueeze(0), features.float())

    def images(self) -> list[ProductMasks]:
        """One [1, Q, ...] an image. To be used instead of `select` in a loop over images that is differentiated: every
        index into a batch makes a gradient of the size of the whole batch.
        """
        parts = zip(self.embeddings.split(1), self.features.split(1), strict=True)
        return [ProductMasks(embeddings, features) for embeddings, features in parts]

    def at(self, points: Tensor) -> Tensor:
        """Bilinear logits at points [B, P, 2], xy in [0, 1] of the padded frame -> [B, Q, P]; 0 beyond the border.

        Equal to `F.grid_sample(..., padding_mode="zeros", align_corners=False)` of the dense logits.
        """
        height, width = self.features.shape[-2:]
        if points.shape[1] < height * width:
            return _product(self.embeddings, sample(self.features, points))  # [B, C, P] -> [B, Q, P]
        return sample(self.dense(), points)

    def resized(self, size: tuple[int, int]) -> Tensor:
        """Bilinear resize without antialiasing, align_corners=False -> [B, Q, *size]."""
        queries, channels = self.embeddings.shape[-2:]
        here = self.features.shape[-2] * self.features.shape[-1]
        there = size[0] * size[1]
        features_first = there * channels * (queries + _BILINEAR_TAPS)
        product_first = queries * (here * channels + there * _BILINEAR_TAPS)
        if features_first < product_first:
            return ProductMasks(self.embeddings, _resize(self.features, size)).dense()
        return _resize(self.dense(), size)

    def dense(self) -> Tensor:
        """The product at the features' own stride -> [B, Q, h, w]."""
        return _product(self.embeddings, self.features.flatten(2)).unflatten(-1, self.features.shape[-2:])


@dataclass(frozen=True)
class ConvolvedMasks:
    """Masks whose features would have to pass a last convolution without a nonlinearity (MaskFormer's FPN).

    The convolution commutes with the product: e · (W ∗ F + b) = (e W) ∗ F + e · b. So a query has a kernel of its own,
    and with fewer queries than channels, and only for those that are kept, the convolution costs less.

    kernels: [B, Q, D, k, k]
    biases: [B, Q]
    features: [B, D, h, w], at stride 4 of the padded frame
    """

    kernels: Tensor
    biases: Tensor
    features: Tensor

    def select(self, batch: int, queries: Tensor) -> ConvolvedMasks:
        """Queries `queries` (indices or a bool mask, [N]) of image `batch`, in float32 -> [1, N, ...]."""
        image = self.images()[batch]
        return ConvolvedMasks(
            image.kernels[:, queries].float(), image.biases[:, queries].float(), image.features.float()
        )

    def images(self) -> list[ConvolvedMasks]:
        """One [1, Q, ...] an image."""
        parts = zip(self.kernels.split(1), self.biases.split(1), self.features.split(1), strict=True)
        return [ConvolvedMasks(*part) for part in parts]

    def at(self, points: Tensor) -> Tensor:
        """Bilinear logits at points [B, P, 2], xy in [0, 1] of the padded frame -> [B, Q, P]; 0 beyond the border."""
        return sample(self.dense(), points)

    def resized(self, size: tuple[int, int]) -> Tensor:
        """Bilinear resize without antialiasing, align_corners=False -> [B, Q, *size]."""
        return _resize(self.dense(), size)

    def dense(self) -> Tensor:
        """-> [B, Q, h, w], in the wider of the two dtypes."""
        dtype = torch.promote_types(self.kernels.dtype, self.features.dtype)
        if not self.kernels.shape[1]:  # a convolution without an output is refused by PyTorch
            return self.features.new_zeros(self.features.shape[0], 0, *self.features.shape[2:], dtype=dtype)
        images = (
            F.conv2d(part.features.to(dtype), part.kernels[0].to(dtype), part.biases[0].to(dtype), padding="same")
            for part in self.images()
        )
        return torch.cat(list(images))


@dataclass(frozen=True)
class DenseMasks:
    """Masks that have no factors (DETR's convolutional mask head): logits [B, Q, h, w]."""

    logits: Tensor

    def select(self, batch: int, queries: Tensor) -> DenseMasks:
        """Queries `queries` (indices or a bool mask, [N]) of image `batch`, in float32 -> [1, N, h, w]."""
        return DenseMasks(self.logits[batch, queries].float().unsqueeze(0))

    def images(self) -> list[DenseMasks]:
        """One [1, Q, h, w] an image."""
        return [DenseMasks(logits) for logits in self.logits.split(1)]

    def at(self, points: Tensor) -> Tensor:
        """Bilinear logits at points [B, P, 2], xy in [0, 1] of the padded frame -> [B, Q, P]; 0 beyond the border."""
        return sample(self.logits, points)

    def resized(self, size: tuple[int, int]) -> Tensor:
        """Bilinear resize without antialiasing, align_corners=False -> [B, Q, *size]."""
        return _resize(self.logits, size)

    def dense(self) -> Tensor:
        """The logits as they are -> [B, Q, h, w]."""
        return self.logits


@dataclass(frozen=True)
class ChainedMasks:
    """Products of several predictions of one batch after each other, each with features of its own: EoMT's change with
    every block.

    order: [ΣQ], the place of each mask among those of the parts after each other; None: as they come.
    """

    parts: tuple[ProductMasks, ...]
    order: Tensor | None = None

    def select(self, batch: int, queries: Tensor) -> ChainedMasks:
        """Queries `queries` (indices or a bool mask, [N]) of image `batch`, in float32 -> [1, N, ...]."""
        wanted = queries.nonzero()[:, 0] if queries.dtype == torch.bool else queries
        wanted = wanted if self.order is None else self.order[wanted]
        parts, places, start = [], [], 0
        for part in self.parts:
            stop = start + part.embeddings.shape[1]
            here = ((wanted >= start) & (wanted < stop)).nonzero()[:, 0]
            if len(here):
                parts.append(part.select(batch, wanted[here] - start))
                places.append(here)
            start = stop
        if not parts:
            return ChainedMasks((self.parts[0].select(batch, wanted),))
        place = torch.cat(places)
        in_order = torch.equal(place, torch.arange(len(place), device=place.device))
        return ChainedMasks(tuple(parts), None if in_order else place.argsort())

    def images(self) -> list[ChainedMasks]:
        """One [1, ΣQ, ...] an image."""
        every = zip(*(part.images() for part in self.parts), strict=True)
        return [ChainedMasks(parts, self.order) for parts in every]

    def at(self, points: Tensor) -> Tensor:
        """Bilinear logits at points [B, P, 2], xy in [0, 1] of the padded frame -> [B, ΣQ, P]; 0 beyond the border."""
        return self._joined([part.at(points) for part in self.parts])

    def resized(self, size: tuple[int, int]) -> Tensor:
        """Bilinear resize without antialiasing, align_corners=False -> [B, ΣQ, *size]."""
        return self._joined([part.resized(size) for part in self.parts])

    def dense(self) -> Tensor:
        """The products at the features' own stride -> [B, ΣQ, h, w]."""
        return self._joined([part.dense() for part in self.parts])

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        every = torch.cat(list(parts), dim=1)
        return every if self.order is None else every[:, self.order]


def concatenate(masks: Sequence[Masks]) -> Masks:
    """The queries of several predictions of one batch after each other -> [B, ΣQ, ...].

    Products stay products, one if their features are the same.
    """
    products = [m for m in masks if isinstance(m, ProductMasks)]
    if len(products) < len(masks):
        return DenseMasks(torch.cat([m.dense() for m in masks], dim=1))
    if all(m.features is products[0].features for m in products):
        return ProductMasks(torch.cat([m.embeddings for m in products], dim=1), products[0].features)
    return ChainedMasks(tuple(products))


def _product(embeddings: Tensor, columns: Tensor) -> Tensor:
    """[B, Q, C] · [B, C, P] -> [B, Q, P], in the wider of the two dtypes (autocast may narrow it)."""
    dtype = torch.promote_types(embeddings.dtype, columns.dtype)
    return product(embeddings.to(dtype), columns.to(dtype))


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    if not maps.numel():  # refused by PyTorch too
        return maps.new_zeros(*maps.shape[:2], *size)
    return resize(maps, size)
