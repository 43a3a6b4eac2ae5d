"""JPEG: written for pictures that people look at, and read with a check that all pixels are there."""

from __future__ import annotations

import io
import re

import numpy as np

from segcli.codecs.signature import SIGNATURE

LONGEST_SIDE = 65_500  # libjpeg's limit
_QUALITY = 90


def encode_jpeg(image: np.ndarray) -> bytes:
    """uint8 RGB [H, W, 3], no side above `LONGEST_SIDE` -> JPEG at quality 90."""
    from PIL import Image

    buffer = io.BytesIO()
    # Full colour resolution: halved, it smears outlines and the text's edges.
    Image.fromarray(image).save(buffer, "JPEG", quality=_QUALITY, subsampling=0, comment=SIGNATURE)
    return buffer.getvalue()


_END = b"\xff\xd9"
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in pixel data FF is followed by 00, or begins a restart
_PAD = bytes(range(1, 250)) * 2  # what pixels that are missing would be read from
_MOST_PIXELS = 512  # that a byte can hold: two bits a block of 64 in one grey component are 256


def ended(data: bytes) -> bytes:
    """A JPEG with an end marker, which hurried writers leave out."""
    return data + _END


def lacks_pixels(data: bytes, size: tuple[int, int]) -> bool:
    """Whether a JPEG of `size` = (width, height) ends before its pixels do. Decoders fill them with grey in silence.

    Bytes that stand between the pixels and the end marker change nothing; if pixels are missing, they become pixels.
    """
    start, stop, progressive = _pixel_data(data)
    if not progressive and size[0] * size[1] > _MOST_PIXELS * (stop - start):
        return True
    decode = _whole if progressive else _small
    return decode(data[:stop] + _END) != decode(data[:stop] + _PAD + _END)


def may_lack_pixels(data: bytes, pixels: np.ndarray, side: int = 4) -> bool:
    """Whether it is worth while to look closer: a corner is of the grey that stands for missing pixels, or the picture
    is progressive, where a part that is missing leaves the rest coarse.

    pixels: [h, w] or [h, w, C]. side: of the corners that are looked at.
    """
    first, last = slice(side), slice(-side, None)
    corners = [pixels[rows, columns] for rows in (first, last) for columns in (first, last)]
    grey = any(bool((np.abs(corner.astype(np.int16) - 128) <= 2).all()) for corner in corners)
    return grey or b"\xff\xc2" in data[:65_536]


def _pixel_data(data: bytes) -> tuple[int, int, bool]:
    """(where the first scan's pixels begin, where the last's end, whether the scans refine each other)."""
    at, start, progressive = 2, 0, False
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at += 1
            continue
        kind = data[at + 1]
        if kind == 0xD9:
            return start, at, progressive
        if kind == 0xFF or kind == 0x01 or 0xD0 <= kind <= 0xD8:
            at += 1 if kind == 0xFF else 2
            continue
        progressive |= kind == 0xC2
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if kind == 0xDA:
            start = start or at
            found = _NEXT_MARKER.search(data, at)
            if found is None:
                return start, len(data.removesuffix(b"\xff")), progressive
            at = found.start()
    at = min(at, len(data))
    return start, at - (data[at - 2 : at] == _END) * 2, progressive


def _small(data: bytes) -> bytes:
    """The picture at an eighth of its size, which reads every byte and costs a third."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        image.draft(None, (max(1, image.width // 8), max(1, image.height // 8)))
        image.load()
        return image.tobytes()


def _whole(data: bytes) -> bytes:
    """The picture at its size: the details of a progressive one are not seen in a smaller one."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.tobytes()
