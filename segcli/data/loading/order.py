"""Which image a run shows when: each once an epoch, or those with rare classes more often (LVIS, arXiv 1908.03195)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from functools import cached_property
from math import sqrt

import numpy as np

from segcli.data.loading.draws import generator


class Order:
    """An endless sequence of images, a function of the seed alone.

    count: images there are. repeats: how often an epoch shows each of them on average; None: once.
    """

    def __init__(self, seed: int, count: int, repeats: Sequence[float] | None = None) -> None:
        self.seed, self.count = seed, count
        self.repeats = None if repeats is None else np.asarray(repeats, dtype=np.float64)
        self._known: tuple[int, np.ndarray] = (-1, np.zeros(0, dtype=np.int64))

    @cached_property
    def epoch(self) -> int:
        """Images that an epoch shows."""
        return self.count if self.repeats is None else round(float(self.repeats.sum()))

    def at(self, number: int) -> int:
        """Which image is shown as the run's image number `number`."""
        epoch, place = divmod(number, self.epoch)
        if self._known[0] != epoch:
            self._known = epoch, self._of_epoch(generator(self.seed, epoch, "", "order"))
        return int(self._known[1][place])

    def any(self, rng: np.random.Generator) -> int:
        """One at random, those that are shown more often with a higher chance."""
        if self.repeats is None:
            return int(rng.integers(self.count))
        return int(rng.choice(self.count, p=self.repeats / self.repeats.sum()))

    def _of_epoch(self, rng: np.random.Generator) -> np.ndarray:
        """The images of an epoch. Fractions are shared out in turn, such that all epochs are as long: an image with 2.3
        is shown twice in seven of ten epochs, three times in the others.
        """
        images = rng.permutation(self.count)
        if self.repeats is None:
            return images
        ends = self.repeats[images].cumsum()
        marks = (np.arange(self.epoch) + rng.random()) * (ends[-1] / self.epoch)
        return rng.permutation(images[np.searchsorted(ends, marks, side="right").clip(0, self.count - 1)])


def repeat_factors(images: Sequence[Collection[object]], threshold: float) -> list[float]:
    """How often an epoch is to show each image, from the classes in each.

    A class in a share f of the images asks for max(1, √(threshold / f)); an image follows the rarest of its classes.
    """
    frequency = Counter(label for labels in images for label in set(labels))
    wanted = {label: max(1.0, sqrt(threshold * len(images) / count)) for label, count in frequency.items()}
    return [max((wanted[label] for label in labels), default=1.0) for labels in images]
