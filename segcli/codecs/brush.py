"""Label Studio's masks of brushes: RGBA pixels, packed as runs of bits (the "rle-pack" that its brush writes).

A stream of bits: the number of values (32), the width of a value minus 1 (5), four widths of run lengths minus 1 (4
each); then runs: whether all values of the run are equal (1), which width its length has (2), its length minus 1, and
the value, or each value.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_WIDTHS = (3, 4, 8, 16)


def decode_brush(packed: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """The mask, bool [H, W]: where the brush left anything. Raises ValueError for what is not of this size and form."""
    data = np.asarray(packed)
    if data.ndim != 1 or data.dtype.kind not in "iu" or not len(data) or data.min() < 0 or data.max() > 255:
        raise ValueError("the brush's mask is not a list of bytes")
    bits = "".join(f"{byte:08b}" for byte in data.tolist())
    at = 0

    def read(count: int) -> int:
        nonlocal at
        word = bits[at : at + count]
        if len(word) < count:
            raise ValueError("the brush's mask is cut short")
        at += count
        return int(word, 2)

    total, depth = read(32), read(5) + 1
    if total != 4 * size[0] * size[1]:
        raise ValueError(f"the brush's mask has {total // 4} pixels, its image {size[0] * size[1]}")
    widths = [read(4) + 1 for _ in range(4)]
    alpha = np.zeros(total // 4, dtype=bool)  # every fourth value
    place = 0
    while place < total:
        equal = read(1)
        stop = place + 1 + read(widths[read(2)])
        if stop > total:
            raise ValueError("the brush's mask has more pixels than its image")
        if equal:
            if read(depth):
                alpha[place // 4 : stop // 4] = True
            place = stop
        while place < stop:
            if read(depth) and place % 4 == 3:
                alpha[place // 4] = True
            place += 1
    return alpha.reshape(size)


def encode_brush(mask: np.ndarray) -> list[int]:
    """A mask, bool [H, W], as Label Studio's brush would have left it."""
    flat = np.repeat(mask.ravel(), 4)
    edges = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [len(flat)]])
    words = [f"{len(flat):032b}", f"{7:05b}", *(f"{width - 1:04b}" for width in _WIDTHS)]
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        value = 255 if flat[start] else 0
        while start < stop:
            length = min(stop - start, 1 << _WIDTHS[-1])
            index = next(i for i, width in enumerate(_WIDTHS) if length <= 1 << width)
            words.append(f"1{index:02b}{length - 1:0{_WIDTHS[index]}b}{value:08b}")
            start += length
    bits = "".join(words)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]
