"""What the three tasks share: class probabilities, coarse logits, the photo cut into tiles, id maps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from segcli.layers.resample import Band, axis_matrix, bands, resample
from segcli.types import Frame, MergeRule, QueryPredictions

ID = np.uint16  # ids of segments, queries and classes in maps of the photo's size

_CELLS = 8  # a tile spans about this many coarse cells a side, so that few tiles straddle a border …
_SIDE = (48, 96)  # … but at least and at most so many pixels: fewer calls, but all in the second-level cache
_INNER = 256  # pixels of the network's input that a tile may read a side: every query has its masks there in memory
_STRIP = 1 << 20  # pixels of a map rewritten at once


@dataclass(frozen=True)
class Tile:
    """One tile of the photo: its bands, and those of the step before (see `Grid.inner`)."""

    y: Band
    x: Band
    inner: tuple[Band, Band] | None

    def enlarge(self, coarse: Tensor, queries: Tensor) -> Tensor:
        """Some of coarse logits [Q, h, w] -> this tile's [N, ...], at the size where they become probabilities."""
        y, x = self.inner or (self.y, self.x)
        return resample(coarse[:, y.source, x.source][queries], y, x)

    def finish(self, scores: Tensor) -> Tensor:
        """Scores at that size -> this tile's pixels of the photo."""
        return resample(scores, self.y, self.x) if self.inner else scores


@dataclass(frozen=True)
class Grid:
    """The photo cut into rows × columns of tiles, with what each reads of the maps one step before.

    For logits resized in one go those are the coarse maps. For scores combined at the network's input size, `inner`
    holds the first step (coarse maps to the part of the input a tile reads), and rows and columns the second.
    """

    rows: list[Band]
    columns: list[Band]
    inner: tuple[list[Band], list[Band]] | None = None

    @classmethod
    def of(cls, frame: Frame, coarse: tuple[int, int]) -> Grid:
        """Coarse logits -> padded size -> crop -> photo, as one step."""
        axes = []
        for axis, size in enumerate(coarse):
            original, resized, padded = frame.original[axis], frame.resized[axis], frame.padded[axis]
            matrix = axis_matrix(size, (padded, resized), (original, original))
            axes.append(bands(matrix, _cuts(original, size * resized / padded)))
        return cls(axes[0], axes[1])

    @classmethod
    def in_two_steps(cls, frame: Frame, coarse: tuple[int, int]) -> Grid:
        """Coarse logits -> padded size -> crop, and from there -> photo."""
        outer, inner = [], []
        for axis, size in enumerate(coarse):
            original, resized, padded = frame.original[axis], frame.resized[axis], frame.padded[axis]
            cuts = _cuts(original, size * resized / padded, most=max(1, _INNER * original // resized))
            outer.append(bands(axis_matrix(resized, (original, original)), cuts))
            inner.append(bands(axis_matrix(size, (padded, resized)), [band.source for band in outer[-1]]))
        return cls(outer[0], outer[1], (inner[0], inner[1]))

    @property
    def sources(self) -> tuple[list[slice], list[slice]]:
        """Rows and columns of the coarse maps that each tile's values come from."""
        rows, columns = self.inner or (self.rows, self.columns)
        return [band.source for band in rows], [band.source for band in columns]

    @cached_property
    def pixels(self) -> np.ndarray:
        """int64 [rows, columns]: how many pixels each tile has."""
        return np.outer([row.length for row in self.rows], [column.length for column in self.columns])

    def tile(self, row: int, column: int) -> Tile:
        """The tile in that row and column."""
        inner = (self.inner[0][row], self.inner[1][column]) if self.inner else None
        return Tile(self.rows[row], self.columns[column], inner)

    def paint(self, values: np.ndarray) -> np.ndarray:
        """One value a tile, [rows, columns] -> an id map [H, W]."""
        wide = np.repeat(values.astype(ID), [band.length for band in self.columns], axis=1)
        return np.repeat(wide, [band.length for band in self.rows], axis=0)


def _cuts(length: int, cells: float, most: int = _SIDE[1]) -> list[slice]:
    """Tiles along one axis of `length` pixels that was `cells` coarse cells long, at most `most` pixels each."""
    side = min(round(min(max(_CELLS * length / cells, _SIDE[0]), _SIDE[1])), most)
    return [slice(start, min(start + side, length)) for start in range(0, length, side)]


def class_probabilities(pred: QueryPredictions, index: int) -> Tensor:
    """float32 [Q, K + 1], the last column is "no object"."""
    return pred.classes[index].detach().float().softmax(-1).cpu()


def coarse_logits(pred: QueryPredictions, index: int, queries: Tensor) -> Tensor:
    """Mask logits of some queries of one image at the network's stride, float32 [N, h, w] on the CPU."""
    if pred.masks is None:
        raise ValueError("these predictions have no masks")
    return pred.masks.select(index, queries.to(pred.classes.device)).dense()[0].detach().float().cpu()


def mask_probabilities(logits: Tensor, rule: MergeRule) -> Tensor:
    """Logits [N, ...] to probabilities by the rule: each on its own, or shared among the N. Overwrites `logits`."""
    return logits.sigmoid_() if rule.normalise == "sigmoid" else logits.softmax(0)


def probability_bounds(low: Tensor, high: Tensor, rule: MergeRule) -> tuple[Tensor, Tensor]:
    """Bounds of `mask_probabilities` for logits between `low` and `high`, [N, rows, columns] each."""
    if rule.normalise == "sigmoid":
        return low.sigmoid(), high.sigmoid()
    return torch.zeros_like(low), torch.ones_like(high)  # a share of a sum has no bound of its own


def first_argmax(values: np.ndarray) -> np.ndarray:
    """argmax over the first axis of values [N, ...], ties to the lowest index -> small unsigned integers [...].

    numpy's comparisons vectorise over the other axes; the built-in argmax of torch and numpy do not, and take 5 to
    100 times longer on a CPU.
    """
    return first_true(values == values.max(0))


def first_true(flags: np.ndarray) -> np.ndarray:
    """Index of the first True along the first axis of flags [N, ...], N where there is none."""
    count = len(flags)
    dtype = np.uint8 if count < 256 else np.uint16
    rank = np.arange(count, 0, -1, dtype=dtype).reshape(-1, *[1] * (flags.ndim - 1))
    return dtype(count) - np.multiply(flags.view(np.uint8), rank).max(0)


def renumber(ids: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Replace every id of a map by `numbers[id]`, in place and in strips; returns the map."""
    for strip in _strips(ids):
        strip[:] = numbers[strip]
    return ids


def histogram(ids: np.ndarray, count: int) -> np.ndarray:
    """Pixels of each id 0..count-1 of a map, int64 [count]."""
    return sum((np.bincount(strip.ravel(), minlength=count) for strip in _strips(ids)), start=np.zeros(count, np.int64))


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: a tile is too little work to share.

    Two threads gain nothing on an idle machine, and on a busy one each of many short waits for the other costs more
    than the work, ten times as much altogether.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _strips(ids: np.ndarray) -> Iterator[np.ndarray]:
    """Views of a few rows each: indexing with a map makes 8 bytes of every id."""
    rows = max(1, _STRIP // max(1, ids.shape[1]))
    return (ids[start : start + rows] for start in range(0, ids.shape[0], rows))
