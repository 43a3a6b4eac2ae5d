"""A JPEG with all of its pixels is read; one that lacks pixels is refused, whatever its last bytes are."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from segcli.codecs.image import read_image
from segcli.data.glance import glance
from segcli.errors import InputError, SegcliWarning
from tests.fakes import BytesRef


def photo(flat: bool = False) -> np.ndarray:
    y, x = np.mgrid[:120, :168]
    noise = np.random.default_rng(0).normal(0, 20, (120, 168, 3))
    image = (noise + 128 + 60 * np.sin(x / 9 + y / 14)[..., None]).clip(0, 255).astype(np.uint8)
    if flat:
        image[100:] = 255
    return image


def jpeg(flat: bool = False, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo(flat)).save(buffer, "JPEG", quality=85, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


KINDS = [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0}]


@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("flat", [False, True], ids=["textured", "ends white"])
def test_what_is_whole_is_read(options: dict[str, object], flat: bool) -> None:
    data = jpeg(flat, **options)
    whole = read_image(data)
    assert glance(BytesRef(data)).size == (120, 168)
    for trailer in (b"\0" * 40, data):  # padding, and another picture as phones append one
        assert np.array_equal(read_image(data + trailer), whole)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert np.array_equal(read_image(data[:-2]), whole)
    assert all(isinstance(w.message, SegcliWarning) and "lacks its end marker" in str(w.message) for w in said)


@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"], ids=["cut", "cut and ended"])
def test_what_lacks_pixels_is_refused(options: dict[str, object], share: float, end: bytes) -> None:
    data = jpeg(**options)
    data = data[: int(len(data) * share)] + end
    for read in (lambda: read_image(data), lambda: glance(BytesRef(data))):
        with pytest.raises(InputError, match="damaged or truncated"):
            read()


def test_a_header_that_promises_too_much_is_refused_at_once() -> None:
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = (15_000).to_bytes(2, "big") * 2
    with pytest.raises(InputError, match="damaged or truncated"):
        read_image(bytes(data))
