"""Pictures of more than 8 bits, brought to 8.

A picture by itself is scaled by the depth it really uses: the values that all but a thousandth of its pixels stay below
decide between 8, 10, 12, 14 and 16 bits, so that neither a 12-bit picture stored in 16 bits nor one with a hot pixel
comes out black; one that uses less than a sixteenth of its depth, as thermal cameras', is stretched to the whole of it.
Floats are fractions of white if all but a thousandth are about 1 at most: resizing overshoots, and a pixel may be hot.
Where a model was trained on such pictures, it has `Levels`, the same for all.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np

from segcli.errors import SegcliWarning

Levels = tuple[float, float]  # which values are black and white
_OUTLIERS = 0.001  # share of the pixels at either end that may be hot or dead
_OVERSHOOT = 0.5  # of fractions of white, as bicubic resizing leaves it
_COUNTS = 16  # floats that go no further are no counts of any depth


def to_8bit(values: np.ndarray, levels: Levels | None = None, name: str = "the image") -> np.ndarray:
    """Counts of any depth as uint8; by the picture's own levels, with a warning, where it lies outside of the given.

    Negative values and NaN are black.
    """
    values = _plain(values)
    if levels is not None and values.size and not _meets(values, levels):
        warnings.warn(
            f"{name}: its values ({values.min():g} to {values.max():g}) lie outside of those that the model was "
            f"trained on ({levels[0]:g} to {levels[1]:g}); it is scaled by its own",
            SegcliWarning,
            stacklevel=3,
        )
        levels = None
    return _scaled(values, levels or levels_of(values))


def _meets(values: np.ndarray, levels: Levels) -> bool:
    """Whether a picture is neither all black nor all white between some levels."""
    return bool(levels[0] < values.max() and values.min() < levels[1])


def levels_of(values: np.ndarray) -> Levels:
    """The levels of one picture."""
    values = _plain(values)
    low, high = _limits(values)
    if values.dtype.kind == "f" and high < _COUNTS:
        return (0.0, 1.0) if high <= 1 + _OVERSHOOT else (low, high)
    return _rounded(int(low), int(high))


def pooled(levels: Iterable[Levels]) -> Levels | None:
    """The levels of many pictures, by those of each; None of none."""
    found = list(levels)
    if not found:
        return None
    low, high = min(low for low, _ in found), max(high for _, high in found)
    return (low, high) if high < _COUNTS else _rounded(int(low), int(high))


def _plain(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    return values.clip(0)


def _rounded(low: int, high: int) -> Levels:
    """Limits as levels: the whole depth, or the limits themselves if they use less than a sixteenth of it."""
    bits = max(8, high.bit_length() + high.bit_length() % 2)
    return (low, high) if bits > 8 and (high - low) << 4 < 1 << bits else (0, (1 << bits) - 1)


def _scaled(values: np.ndarray, levels: Levels) -> np.ndarray:
    low, high = levels
    bits = (int(high) + 1).bit_length() - 1
    if low == 0 and bits >= 8 and high + 1 == 1 << bits:  # the high bits, as they are
        return (values.astype(np.uint32) >> (bits - 8)).clip(0, 255).astype(np.uint8)
    scale = 255 / (high - low) if high > low else 255
    return ((values.astype(np.float64) - low) * scale + 0.5).clip(0, 255).astype(np.uint8)


def _limits(values: np.ndarray) -> Levels:
    """(low, high) that all but a thousandth of the values at either end lie between."""
    if not values.size:
        return 0.0, 0.0
    if values.dtype.kind != "f" and values.max() < 1 << 16:
        below = np.cumsum(np.bincount(values.astype(np.uint16).ravel()))
        ends = np.searchsorted(below, [_OUTLIERS * values.size, (1 - _OUTLIERS) * values.size])
        return float(ends[0]), float(min(ends[1], len(below) - 1))
    flat = values.ravel()[:: max(1, values.size >> 20)]
    low, high = np.quantile(flat, [_OUTLIERS, 1 - _OUTLIERS], method="inverted_cdf")
    return float(low), float(high)
