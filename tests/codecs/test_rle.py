"""Run-length masks: arrays readable by eye, and properties over random ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segcli.codecs.rle import RLE, encode, encode_map
from segcli.errors import InputError

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
MASKS = SIZES.flatmap(lambda size: arrays(bool, size))
MAPS = SIZES.flatmap(lambda size: arrays(np.uint16, size, elements=st.integers(0, 3)))


def test_counts_run_down_the_columns_and_begin_with_zeros() -> None:
    mask = np.array(
        [
            [0, 1, 1],
            [1, 1, 0],
        ],
        dtype=bool,
    )
    rle = encode(mask)
    assert rle.counts.tolist() == [1, 4, 1]
    assert (rle.area, rle.bbox) == (4, (0, 0, 3, 2))
    assert encode(~mask).counts.tolist() == [0, 1, 4, 1]


@pytest.mark.parametrize("size", [(0, 0), (0, 3), (3, 0), (2, 3)])
def test_an_empty_mask_has_no_box_and_comes_back(size: tuple[int, int]) -> None:
    rle = encode(np.zeros(size, dtype=bool))
    assert (rle.area, rle.bbox) == (0, (0, 0, 0, 0))
    assert rle.decode().shape == RLE.from_coco(rle.to_coco()).decode().shape == size


@given(MASKS)
def test_round_trip_area_and_box(mask: np.ndarray) -> None:
    rle = encode(mask)
    np.testing.assert_array_equal(rle.decode(), mask)
    np.testing.assert_array_equal(RLE.from_coco(rle.to_coco()).counts, rle.counts)
    assert rle.area == mask.sum()
    x, y, w, h = rle.bbox
    inside = mask[y : y + h, x : x + w]
    assert inside.sum() == rle.area
    if rle.area:
        assert inside[0].any()
        assert inside[-1].any()
        assert inside[:, 0].any()
        assert inside[:, -1].any()
    left, top, crop = rle.decode_crop()
    assert (left, top) == (x, y)
    np.testing.assert_array_equal(crop, inside)


@given(MASKS, st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_a_crop_is_encoded_where_it_lies(mask: np.ndarray, left: int, top: int, right: int, bottom: int) -> None:
    whole = np.pad(mask, ((top, bottom), (left, right)))
    crop = encode(mask, whole.shape, (left, top))
    np.testing.assert_array_equal(crop.counts, encode(whole).counts)


@given(MAPS, MAPS)
def test_pixels_in_common(one: np.ndarray, other: np.ndarray) -> None:
    one, other = (np.resize(ids, (5, 7)) for ids in (one, other))
    others = [encode(other == number) for number in range(5)]
    for number in range(5):
        dense = [((one == number) & (other == rival)).sum() for rival in range(5)]
        assert encode(one == number).common(others).tolist() == dense


@given(MAPS)
def test_a_map_is_encoded_like_its_masks(ids: np.ndarray) -> None:
    for number, rle in enumerate(encode_map(ids, 4), start=1):
        assert rle.to_coco() == encode(ids == number).to_coco()


@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=8))
def test_the_string_holds_counts_of_any_size(counts: list[int]) -> None:
    rle = RLE((sum(counts), 1), np.array(counts, dtype=np.uint32))
    if sum(counts) < 2**32:
        assert RLE.from_coco(rle.to_coco()).counts.tolist() == counts


def test_reads_uncompressed_and_bytes() -> None:
    assert RLE.from_coco({"size": [2, 3], "counts": [1, 4, 1]}).area == 4
    assert RLE.from_coco({"size": [2, 3], "counts": b"141"}).counts.tolist() == [1, 4, 1]


@pytest.mark.parametrize(
    "broken",
    [
        {"size": [2, 3], "counts": [1, 4]},
        {"size": [2, 3], "counts": [9, -3]},
        {"size": [2, 3], "counts": [[1, 4, 1]]},
        {"size": [2, 3], "counts": "14"},
        {"size": [2, 3], "counts": "1 4"},
        {"size": [2, 3], "counts": "14Q"},
        {"size": [2, 3], "counts": "ooooooooo1"},
        {"size": [2, 3], "counts": "é"},
        {"size": [2], "counts": [6]},
        {"counts": [6]},
        [1, 2],
    ],
)
def test_broken_masks_are_named(broken: dict) -> None:
    with pytest.raises(InputError, match="run-length mask"):
        RLE.from_coco(broken)


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        ([48, 64], [2**62, 2**62, 2**62, 2**62 + 48 * 64]),  # the sum wraps round to 48 × 64 in 64 bits
        ([48, 64], [0, 2**32 + 48 * 64]),  # and this in 32
        ([2, 3], [-1, 7]),
        ([2, 3], [7]),
        ([2, 3], [2**70]),
        ([2, 3], [2.5, 3.5]),
        ([2, 3], ["6"]),
        ([2, 3], [[6]]),
        ([2, 3], {"0": 6}),
        ([2, 3], None),
        ([2, 3], 6),
        ([2**40, 2**40], [0]),
        ([10**9, 10**9], [10**18]),
        ([-2, -3], [6]),
        (["2", 3], [6]),
        ([2], [2]),
        ([2, 3, 1], [6]),
        ({"height": 2}, [6]),
        ([2, 3], "é"),
        ([2, 3], "oooooooooooooooo0"),
        ([True, 6], [6]),
    ],
)
def test_runs_that_lie_are_refused_before_anything_is_made_of_them(size: object, counts: object) -> None:
    with pytest.raises(InputError, match=r"run-length mask") as caught:
        RLE.from_coco({"size": size, "counts": counts})
    assert len(str(caught.value)) < 200


@given(st.binary(max_size=30), SIZES)
def test_any_text_is_a_mask_of_the_size_or_refused(text: bytes, size: tuple[int, int]) -> None:
    for counts in (text, bytes(48 + byte % 64 for byte in text)):
        try:
            rle = RLE.from_coco({"size": size, "counts": counts})
        except InputError:
            continue
        assert rle.decode().shape == size
        assert rle.area == rle.decode().sum()
