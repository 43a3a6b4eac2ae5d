"""Label maps whose edges were smoothed by interpolation or by JPEG. Their values between are no classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segcli.codecs.label_png import read_label_map
from segcli.errors import InputError, UsageError

_SAMPLE = 12  # maps that are looked at
_PEAKS, _PEAK_SHARE = 4, 0.005  # values that make up the map, and the share of pixels that each has at least
_MOST = 0.85  # share of all pixels that lie at the peaks: smoothing touches edges alone
_APART = 8  # values between two peaks, at least: numbers of classes follow each other
_BETWEEN = 0.9  # share of the other pixels that lie between two peaks, in value and in place


@dataclass(frozen=True)
class Smoothed:
    """What was seen. peaks: the values that are classes; between: how many others there are."""

    file: Path
    peaks: tuple[int, ...]
    between: int
    share: float  # of all pixels, at the peaks


def smoothed(files: Sequence[Path]) -> Smoothed | None:
    """Whether label maps have smoothed edges: nearly all pixels have one of 2 to 4 values, and the rest lie between two
    of these both in value and in place. Told by a sample; None for sharp maps.
    """
    maps: list[tuple[Path, np.ndarray]] = []
    for file in files[:: max(1, len(files) // _SAMPLE)][:_SAMPLE]:
        try:
            label_map = read_label_map(file)
        except InputError:
            continue
        if label_map.ndim == 2 and label_map.size and label_map.min() >= 0 and label_map.max() <= 255:
            maps.append((file, label_map))
    if not maps:
        return None
    counts = np.sum([np.bincount(label_map.ravel(), minlength=256) for _, label_map in maps], axis=0)
    total = int(counts.sum())
    order = np.argsort(-counts, kind="stable")[:_PEAKS]
    peaks = np.sort(order[counts[order] >= _PEAK_SHARE * total])
    ends = np.flatnonzero(counts)[[0, -1]]
    if counts[ends].min() >= _PEAK_SHARE * total and counts[ends].sum() >= _MOST * total:
        peaks = ends  # black and white, resized so much that some greys are frequent
    others = int(np.count_nonzero(counts)) - len(peaks)
    share = float(counts[peaks].sum() / total)
    if len(peaks) < 2 or others < max(3, len(peaks)) or share < _MOST or np.diff(peaks).min() < _APART:
        return None
    between = rest = 0
    for _, label_map in maps:
        one, two = _between(label_map, peaks)
        between, rest = between + one, rest + two
    if between < _BETWEEN * rest:
        return None
    return Smoothed(maps[0][0], tuple(peaks.tolist()), others, share)


def _between(label_map: np.ndarray, peaks: np.ndarray) -> tuple[int, int]:
    """(pixels of other values that lie between two peaks, all pixels of other values)."""
    from scipy import ndimage

    other = ~np.isin(label_map, peaks)
    low, high = ndimage.minimum_filter(label_map, 7), ndimage.maximum_filter(label_map, 7)
    inside = other & (low <= label_map) & (label_map <= high) & (high - low >= (peaks[1:] - peaks[:-1]).min() // 2)
    return int(np.count_nonzero(inside)), int(np.count_nonzero(other))


def refuse_smoothed(files: Sequence[Path], settings_file: Path) -> None:
    """Raise UsageError for label maps with smoothed edges, with the remedy that fits."""
    seen = smoothed(files)
    if seen is None:
        return
    values = ", ".join(map(str, seen.peaks))
    what = (
        f"{seen.file}: a mask with smoothed edges: {seen.share:.1%} of the pixels are {values}, the rest are "
        f"{seen.between} values between, which are no classes"
    )
    if len(seen.peaks) == 2:
        raise UsageError(
            f"{what}; if it is black and white, give --binary, write `binary = true` into {settings_file}, or export "
            "it without interpolation"
        )
    raise UsageError(f"{what}; export the label maps again without interpolation (nearest neighbour)")


def refuse_jpeg(files: Sequence[Path], settings_file: Path) -> None:
    """Raise UsageError if label maps are JPEG files."""
    jpegs = [file for file in files[:40] if _is_jpeg(file)]
    if 2 * len(jpegs) > len(files[:40]):
        raise UsageError(
            f"{jpegs[0]}: a label map in JPEG, whose compression changes labels; export it as PNG, or, if it is black "
            f"and white, give --binary or write `binary = true` into {settings_file}"
        )


def _is_jpeg(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return stream.read(3) == b"\xff\xd8\xff"
    except OSError:
        return False
