"""Images that are nearly the same: what one split shows of another is not a test of anything.

Every image is squeezed to 16 × 16 grey values, brought to mean 0 and length 1; the product of two is their correlation,
which does not change with size, compression, brightness or contrast. Pairs that come close are looked at again with
more detail, since all sunsets are alike at that size.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence

import numpy as np

from segcli.codecs.image import read_image
from segcli.errors import InputError
from segcli.files.image_ref import ImageRef

_ALIKE = 0.97  # among 400,000 pairs of different everyday photographs the highest is 0.978
_DETAIL_SIDE, _DETAIL_ALIKE = 64, 0.97
_FLAT = 1.0  # standard deviation in grey values below which there is nothing to compare
_BLOCK = 4096


def near_pairs(
    first: Sequence[tuple[ImageRef, str]], second: Sequence[tuple[ImageRef, str]]
) -> Iterator[tuple[int, int]]:
    """(i, j) of images that show the same. first, second: (image, thumb as in `Facts`) of two splits."""
    ours, ours_at = _signatures(first)
    theirs, theirs_at = _signatures(second)
    for start in range(0, len(ours), _BLOCK):
        for begin in range(0, len(theirs), _BLOCK):
            alike = ours[start : start + _BLOCK] @ theirs[begin : begin + _BLOCK].T
            for i, j in np.argwhere(alike >= _ALIKE).tolist():
                one, other = ours_at[start + i], theirs_at[begin + j]
                if first[one][0] == second[other][0] or _same_in_detail(first[one][0], second[other][0]):
                    yield one, other


def _signatures(images: Sequence[tuple[ImageRef, str]]) -> tuple[np.ndarray, list[int]]:
    """(float32 [M, 256], their places) of the images that show anything."""
    places = [place for place, (_, thumb) in enumerate(images) if thumb]
    if not places:
        return np.zeros((0, 1), dtype=np.float32), []
    raw = np.stack([np.frombuffer(base64.b64decode(images[place][1]), dtype=np.uint8) for place in places])
    values = raw.astype(np.float32)
    shows = values.std(axis=1) >= _FLAT
    return _normalised(values[shows]), [place for place, kept in zip(places, shows.tolist(), strict=True) if kept]


def _normalised(values: np.ndarray) -> np.ndarray:
    values = values - values.mean(axis=-1, keepdims=True)
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-6)


def _same_in_detail(first: ImageRef, second: ImageRef) -> bool:
    try:
        return float(_detail(first) @ _detail(second)) >= _DETAIL_ALIKE
    except InputError:
        return False


def _detail(image: ImageRef) -> np.ndarray:
    from PIL import Image

    grey = Image.fromarray(read_image(image)).convert("L")
    small = grey.resize((_DETAIL_SIDE, _DETAIL_SIDE), Image.Resampling.BOX)
    return _normalised(np.asarray(small, dtype=np.float32).ravel())
