"""Small made-up batches for the tests of the objective: predictions without a network, targets readable by eye."""

from __future__ import annotations

import torch
from torch import Tensor

from segcli.layers.masks import DenseMasks, ProductMasks
from segcli.types import QueryPredictions, Target

CLASSES = 5


def target(image_id: str, count: int, size: tuple[int, int] = (64, 96), seed: int = 0) -> Target:
    """An image of `count` rectangles."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(count, *size, dtype=torch.bool)
    for mask in masks:
        y, x = (int(torch.randint(0, side * 3 // 4, (), generator=generator)) for side in size)
        h, w = (int(torch.randint(2, side // 3, (), generator=generator)) for side in size)
        mask[y : y + h, x : x + w] = True
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    return Target(labels, masks, torch.zeros(count, 4), torch.zeros(count, dtype=torch.bool), image_id)


class Factors:
    """Classes and mask factors of `layers` predictions, leaves of the graph."""

    def __init__(self, layers: int = 3, batch: int = 2, queries: int = 9, side: tuple[int, int] = (16, 24)) -> None:
        generator = torch.Generator().manual_seed(1)
        self.classes = torch.randn(layers, batch, queries, CLASSES + 1, generator=generator).requires_grad_()
        self.embeddings = torch.randn(layers, batch, queries, 8, generator=generator).requires_grad_()
        self.features = torch.randn(batch, 8, *side, generator=generator).requires_grad_()

    @property
    def leaves(self) -> list[Tensor]:
        return [self.classes, self.embeddings, self.features]

    def predictions(self, images: slice = slice(None), dense: bool = False) -> list[QueryPredictions]:
        """Of these images, as products or multiplied out."""
        features = self.features[images]
        result = []
        for classes, embeddings in zip(self.classes, self.embeddings, strict=True):
            product = ProductMasks(embeddings[images], features)
            result.append(QueryPredictions(classes[images], DenseMasks(product.dense()) if dense else product))
        return result


def draw(image_id: str, purpose: str, shape: tuple[int, ...]) -> Tensor:
    """Random numbers that depend on nothing but what they are for."""
    seed = int.from_bytes(f"{image_id}/{purpose}".encode()[-7:], "little")
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))
