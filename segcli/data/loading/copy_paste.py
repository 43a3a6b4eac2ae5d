"""Copy-paste (arXiv 2012.07177): objects of one training image laid over another, with soft edges. What they hide is
taken from the masks below."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from segcli.codecs.opencv import opencv
from segcli.data.loading.transforms import LEAST, Example, boxes_of

SOFTNESS = 1.0  # pixels: the standard deviation of the blur of an edge


@dataclass(frozen=True)
class CopyPaste:
    """How often, and what. things: class indices of what may be moved; stuff stays where it is."""

    probability: float
    things: frozenset[int]


def with_pasted(example: Example, other: Example, things: Collection[int], rng: np.random.Generator) -> Example:
    """An example with some of the things of another one, at least one if there is any, where they lie there.

    Where the two differ in size, one lies anywhere within the other, along each axis. Objects of `example` that are
    nearly hidden are left out; of stuff every pixel that is left counts.
    """
    found = np.flatnonzero(np.isin(other.labels, list(things)) & ~other.crowd)
    if not len(found):
        return example
    chosen = np.sort(rng.choice(found, rng.integers(len(found)) + 1, replace=False))
    size = (example.image.shape[0], example.image.shape[1])
    (here_y, there_y), (here_x, there_x) = (
        _overlap(own, theirs, rng) for own, theirs in zip(size, other.image.shape[:2], strict=True)
    )
    masks = np.zeros((len(chosen), *size), dtype=bool)
    masks[:, here_y, here_x] = other.masks[chosen, there_y, there_x]
    shown = masks.any(axis=(1, 2))
    masks, chosen = masks[shown], chosen[shown]
    above: np.ndarray = np.logical_or.reduce(masks, axis=0)
    picture = example.image.copy()
    picture[here_y, here_x] = other.image[there_y, there_x]
    below, kept = _uncovered(example, above, things)
    masks = np.concatenate((below, masks))
    return replace(
        example,
        image=_blended(picture, example.image, above),
        masks=masks,
        labels=np.concatenate((example.labels[kept], other.labels[chosen])),
        boxes=boxes_of(masks),
        crowd=np.concatenate((example.crowd[kept], other.crowd[chosen])),
    )


def _overlap(here: int, there: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """The same pixels in two lengths, of which the shorter lies anywhere within the longer."""
    start = int(rng.integers(abs(here - there) + 1))
    whole, part = slice(0, min(here, there)), slice(start, start + min(here, there))
    return (part, whole) if here > there else (whole, part)


def _uncovered(example: Example, above: np.ndarray, things: Collection[int]) -> tuple[np.ndarray, np.ndarray]:
    """What can be seen of an example's objects below a mask [h, w], and which [N] can still be told."""
    masks = example.masks & ~above
    left, whole = masks.sum(axis=(1, 2)), example.masks.sum(axis=(1, 2))
    kept = (left > 0) & ((left >= LEAST * whole) | ~np.isin(example.labels, list(things)))
    return masks[kept], kept


def _blended(above: np.ndarray, below: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Two pictures uint8 [h, w, 3], the first where the mask is, with an edge that is soft on both sides."""
    cv2 = opencv()
    alpha = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), SOFTNESS, borderType=cv2.BORDER_REPLICATE)[..., None]
    mixed: np.ndarray = below + alpha * (above.astype(np.float32) - below)
    return mixed.round().astype(np.uint8)
