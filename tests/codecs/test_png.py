"""PNGs written by hand are read back by Pillow; panoptic ids survive their colours."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from segcli.codecs.panoptic_png import encode_panoptic_png, ids_to_rgb, read_panoptic_png, rgb_to_ids
from segcli.codecs.png import encode_png
from segcli.errors import InputError

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))


def decoded(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


@given(SIZES.flatmap(lambda size: st.sampled_from([bool, np.uint8, np.uint16]).flatmap(lambda t: arrays(t, size))))
def test_grey(pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(decoded(encode_png(pixels)), pixels)


@given(SIZES.flatmap(lambda size: st.sampled_from([3, 4]).flatmap(lambda c: arrays(np.uint8, (*size, c)))))
def test_colour(pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(decoded(encode_png(pixels)), pixels)


@pytest.mark.parametrize("size", [(256, 3), (257, 3), (600, 2), (1, 5000)])
def test_across_strips(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, size).astype(np.uint16)
    np.testing.assert_array_equal(decoded(encode_png(pixels)), pixels)
    np.testing.assert_array_equal(decoded(encode_png(pixels, lambda rows: rows > 9)), pixels > 9)


def test_what_has_no_form_is_refused() -> None:
    for pixels in (np.zeros((2, 2)), np.zeros((2, 2, 2), np.uint8), np.zeros((0, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"no PNG form|nothing to encode"):
            encode_png(pixels)


def test_id_is_red_plus_256_green_plus_65536_blue() -> None:
    ids = np.array([[1, 2 * 256, 3 * 65536 + 4]], dtype=np.int32)
    assert ids_to_rgb(ids).tolist() == [[[1, 0, 0], [0, 2, 0], [4, 0, 3]]]


@given(SIZES.flatmap(lambda size: arrays(np.int32, size, elements=st.integers(0, 2**24 - 1))))
def test_ids_round_trip(ids: np.ndarray) -> None:
    np.testing.assert_array_equal(rgb_to_ids(ids_to_rgb(ids)), ids)
    np.testing.assert_array_equal(read_panoptic_png(io.BytesIO(encode_panoptic_png(ids))), ids)


@given(SIZES.flatmap(lambda size: arrays(np.uint16, size)))
def test_narrow_ids_round_trip(ids: np.ndarray) -> None:
    np.testing.assert_array_equal(read_panoptic_png(io.BytesIO(encode_panoptic_png(ids))), ids)


def test_reading_refuses_what_holds_no_ids(tmp_path: Path) -> None:
    Image.new("P", (3, 3)).save(tmp_path / "palette.png")
    (tmp_path / "text.png").write_text("not a picture")
    for name, reason in (("palette.png", "mode P"), ("text.png", "cannot be read"), ("gone.png", "no such file")):
        with pytest.raises(InputError, match=f"{name}.*{reason}"):
            read_panoptic_png(tmp_path / name)
