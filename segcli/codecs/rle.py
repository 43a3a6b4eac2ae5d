"""Run-length encoded masks in COCO's order: column by column, the first run counts zeros.

`encode` and the compressed string give byte for byte what pycocotools gives (tests/parity/test_rle_parity.py),
in numpy alone, and touch only the mask's bounding box: a small object in a large photo costs little.
The string format is described by COCO's `maskApi.c`: each count, from the fourth on as a difference to the count
two before, in groups of five bits, low first, bit 5 = "more follows", each plus 48 to be printable.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segcli.errors import InputError, cut, shown

_MOST_PIXELS = 2**32 - 1  # counts are uint32
_MAX_GROUPS = 7  # 7 × 5 bits hold every difference of two uint32 counts


@dataclass(frozen=True, eq=False)
class RLE:
    """One mask of a frame `size` = (H, W); `counts` uint32 alternates runs of zeros and ones and sums to H · W."""

    size: tuple[int, int]
    counts: np.ndarray

    @property
    def area(self) -> int:
        """Number of mask pixels."""
        return int(self.counts[1::2].sum(dtype=np.int64))

    @property
    def bbox(self) -> tuple[int, int, int, int]:
        """Tight box (x, y, w, h) in pixels; (0, 0, 0, 0) for an empty mask."""
        starts, stops = self.runs()
        if not len(starts):
            return (0, 0, 0, 0)
        height = self.size[0]
        first, last = starts // height, (stops - 1) // height
        x = int(first[0])
        w = int(last[-1]) - x + 1
        if (first != last).any():  # a run that goes on in the next column covers its own bottom and that one's top
            return (x, 0, w, height)
        y = int((starts % height).min())
        return (x, y, w, int(((stops - 1) % height).max()) - y + 1)

    def runs(self) -> tuple[np.ndarray, np.ndarray]:
        """Column-major start and (exclusive) stop of every non-empty run of ones, int64, ascending."""
        edges = np.cumsum(self.counts, dtype=np.int64)
        stops = edges[1::2]
        starts = edges[0::2][: len(stops)]
        full = stops > starts
        return starts[full], stops[full]

    def common(self, others: Sequence[RLE]) -> np.ndarray:
        """Pixels shared with each of other masks of the same frame, int64 [N]."""
        return shared_pixels([self], others)[0]

    def decode(self) -> np.ndarray:
        """The mask, bool [H, W]."""
        mask = np.zeros(self.size, dtype=bool)
        x, y, crop = self.decode_crop()
        mask[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        return mask

    def decode_crop(self) -> tuple[int, int, np.ndarray]:
        """(x, y, bool [h, w]): the mask inside its own `bbox`, without making the whole frame."""
        x, y, w, h = self.bbox
        height = self.size[0]
        starts, stops = self.runs()
        edges = np.stack([starts, stops], axis=1).ravel() - x * height
        lengths = np.diff(edges, prepend=0, append=w * height)
        columns = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths) if w else np.zeros(0, dtype=bool)
        return x, y, np.ascontiguousarray(columns.reshape(w, height if w else 0)[:, y : y + h].T)

    def to_coco(self) -> dict[str, Any]:
        """COCO's compressed form {"size": [H, W], "counts": str}, ready for JSON and for pycocotools."""
        return {"size": [int(side) for side in self.size], "counts": _compress(self.counts)}

    @classmethod
    def from_coco(cls, obj: dict[str, Any]) -> RLE:
        """Read COCO's compressed (str or bytes) or uncompressed (list) form.

        Raises:
            InputError: not an RLE, a run longer than the mask, or runs that do not add up to height × width.
        """
        try:
            height, width = _side(obj["size"][0]), _side(obj["size"][1])
            counts = plain_counts(obj["counts"])
            runs = _decompress(counts) if isinstance(counts, str | bytes) else _whole_numbers(counts)
            if len(obj["size"]) != 2 or height * width > _MOST_PIXELS:
                raise ValueError(f"size {shown(obj['size'])}")
        except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else cut(error)
            found = shown(obj.get("counts") if isinstance(obj, dict) else obj, 30)
            raise InputError(
                f'not a COCO run-length mask ("size": [H, W], "counts": {found}): {reason}; re-export it'
            ) from error
        # Each run by itself first: a sum of runs that are too long may wrap round to the right number.
        total = height * width
        outside = runs[(runs < 0) | (runs > total)]
        wrong = int(outside[0]) if len(outside) else None
        if wrong is not None or int(runs.sum()) != total:
            found = f"a run of {wrong}" if wrong is not None else str(int(runs.sum()))
            raise InputError(f"run-length mask of {height}×{width} = {total} pixels has {found}; re-export it")
        return cls((height, width), runs.astype(np.uint32))


def plain_counts(counts: Any) -> Any:
    """Compressed counts as they are meant, where somebody wrote str() of Python's bytes: "b'...'". Raises ValueError if
    these are cut short."""
    if not isinstance(counts, str) or counts[:2] not in ("b'", 'b"'):
        return counts
    try:
        return ast.literal_eval(counts).decode("ascii")
    except (SyntaxError, AttributeError, RecursionError, MemoryError, ValueError) as error:
        raise ValueError("Python's bytes as text, cut short; write counts.decode()") from error


def shared_pixels(first: Sequence[RLE], second: Sequence[RLE]) -> np.ndarray:
    """Pixels that each of M masks has in common with each of N, all of one frame -> int64 [M, N]."""
    shared = np.zeros((len(first), len(second)), dtype=np.int64)
    runs = [rle.runs() for rle in second]
    if not sum(len(starts) for starts, _ in runs):
        return shared
    begins, ends = (np.concatenate(places) for places in zip(*runs, strict=True))
    bounds = np.cumsum([0, *(len(starts) for starts, _ in runs)])
    for row, rle in zip(shared, first, strict=True):
        starts, stops = rle.runs()
        before = np.concatenate([[0], np.cumsum(stops - starts)])
        last = np.concatenate([[0], stops])
        covered = []  # pixels of the first mask before each place
        for places in (begins, ends):
            begun = np.searchsorted(starts, places, side="right")
            covered.append(before[begun] - np.maximum(last[begun] - places, 0))
        row[:] = np.diff(np.concatenate([[0], np.cumsum(covered[1] - covered[0])])[bounds])
    return shared


def _side(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value <= _MOST_PIXELS:
        raise ValueError(f"a side of {shown(value)}")
    return int(value)


def _whole_numbers(counts: Any) -> np.ndarray:
    runs = np.asarray(counts)
    if runs.ndim != 1 or (runs.dtype.kind not in "iu" and len(runs)):
        raise ValueError(f"counts {shown(counts)}")
    return runs


def encode(mask: np.ndarray, size: tuple[int, int] | None = None, offset: tuple[int, int] = (0, 0)) -> RLE:
    """Encode a mask [h, w] (bool, or integers with 0 = outside).

    The mask may be a crop: it then lies with its top left corner at `offset` = (x, y) in a frame `size` = (H, W).
    """
    mask = np.asarray(mask)
    if mask.dtype != bool:
        mask = mask != 0
    size = size or (int(mask.shape[0]), int(mask.shape[1]))
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return from_runs(size, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    top, bottom = rows[0], rows[-1] + 1
    columns = np.flatnonzero(mask[top:bottom].any(axis=0))
    left, right = columns[0], columns[-1] + 1
    # One empty row below the crop ends every run at its column's foot, so edges alternate start, stop, start, …
    padded = np.zeros((right - left, bottom - top + 1), dtype=bool)
    padded[:, :-1] = mask[top:bottom, left:right].T
    flat = padded.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat[0]:
        edges = np.concatenate([[0], edges])
    x, y = np.divmod(edges, padded.shape[1])
    places = (x + left + offset[0]) * size[0] + (y + top + offset[1])
    return from_runs(size, places[0::2], places[1::2])


def encode_map(id_map: np.ndarray, n: int) -> list[RLE]:
    """Encode ids 1..n of an id map [H, W] in one pass; an id that is absent gives an empty mask."""
    size = (int(id_map.shape[0]), int(id_map.shape[1]))
    flat = np.ascontiguousarray(id_map.T).ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1]) if flat.size else np.zeros(0, np.int64)
    stops = np.append(starts[1:], flat.size)
    ids = flat[starts]
    order = np.argsort(ids, kind="stable")
    bounds = np.searchsorted(ids[order], np.arange(1, n + 2))
    picks = [order[bounds[i] : bounds[i + 1]] for i in range(n)]
    return [from_runs(size, starts[pick], stops[pick]) for pick in picks]


def from_runs(size: tuple[int, int], starts: np.ndarray, stops: np.ndarray) -> RLE:
    """Build the canonical RLE from ascending, disjoint, non-empty runs of ones (column-major, stop exclusive)."""
    if len(starts) > 1:  # join runs that touch, as at a column's foot and the next one's head
        apart = starts[1:] != stops[:-1]
        starts = starts[np.concatenate([[True], apart])]
        stops = stops[np.concatenate([apart, [True]])]
    edges = np.stack([starts, stops], axis=1).ravel()
    counts = np.diff(edges, prepend=0, append=size[0] * size[1])
    if len(counts) > 1 and counts[-1] == 0:  # COCO writes no empty last run
        counts = counts[:-1]
    return RLE(size, counts.astype(np.uint32))


def _compress(counts: np.ndarray) -> str:
    values = counts.astype(np.int64)
    values[3:] -= counts[1:-2].astype(np.int64)
    groups = np.zeros((len(values), _MAX_GROUPS), dtype=np.uint8)
    used = np.zeros(groups.shape, dtype=bool)
    going = np.ones(len(values), dtype=bool)
    for place in range(_MAX_GROUPS):
        low = values & 31
        values >>= 5
        used[:, place] = going
        going = going & np.where(low & 16, values != -1, values != 0)
        groups[:, place] = low + 48 + 32 * going
        if not going.any():
            break
    return groups[used].tobytes().decode("ascii")


def _decompress(text: str | bytes) -> np.ndarray:
    raw = np.frombuffer(text.encode("ascii") if isinstance(text, str) else text, dtype=np.uint8)
    codes = raw.astype(np.int64) - 48
    if not len(codes):
        return codes
    last = (codes & 32) == 0
    if ((codes < 0) | (codes > 63)).any() or not last[-1]:
        raise ValueError("counts hold characters outside COCO's alphabet, or are cut short")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _MAX_GROUPS:
        raise ValueError("a count is longer than 32 bits")
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes & 31) << shifts, starts)
    values -= np.where(codes[ends] & 16, np.int64(1) << (5 * lengths), 0)  # bit 4 of the last group is the sign
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
