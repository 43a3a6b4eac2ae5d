"""Random decisions inside a network that belong to an image, not to its place in a batch.

A training loop gives every image of the batch its own generator, a function of seed, step and image; then a decision
is the same however images are spread over batches, ranks and micro-batches. Without one, torch's global generator
decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

_generators: list[Sequence[torch.Generator] | None] = [None]


@contextmanager
def per_image(generators: Sequence[torch.Generator]) -> Iterator[None]:
    """Inside the block image i of a batch draws from the i-th generator (of the CPU)."""
    _generators.append(generators)
    try:
        yield
    finally:
        _generators.pop()


def drop_path(x: Tensor, probability: float) -> Tensor:
    """Stochastic depth (arXiv 1603.09382): a branch x [B, ...] is zero for some images, scaled up for the others."""
    return x * _kept((x.shape[0], *[1] * (x.dim() - 1)), probability, x)


def dropout(x: Tensor, probability: float) -> Tensor:
    """Some numbers of x [B, ...] are zero, the others scaled up."""
    return x * _kept(tuple(x.shape), probability, x)


def uniform(shape: tuple[int, ...]) -> Tensor:
    """Numbers in [0, 1) of this shape [B, ...], on the CPU."""
    generators = _generators[-1]
    if generators is None:
        return torch.rand(shape)
    return torch.stack([torch.rand(shape[1:], generator=generator) for generator in generators])


def _kept(shape: tuple[int, ...], probability: float, like: Tensor) -> Tensor:
    """[B, ...] 0 or 1 / (1 - probability)."""
    return (uniform(shape) >= probability).to(like.device, like.dtype) / (1 - probability)
