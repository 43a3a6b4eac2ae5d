"""Run-length masks are byte for byte pycocotools' own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segcli.codecs.rle import RLE, encode

coco = pytest.importorskip("pycocotools.mask")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(lambda size: arrays(bool, size)))
def test_encode_area_box_and_decode(mask: np.ndarray) -> None:
    ours, theirs = encode(mask), coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    assert ours.to_coco()["counts"].encode() == theirs["counts"]
    assert ours.area == coco.area(theirs)
    assert list(ours.bbox) == coco.toBbox(theirs).tolist()
    np.testing.assert_array_equal(RLE.from_coco(theirs).decode(), coco.decode(theirs).astype(bool))


def test_long_runs() -> None:
    mask = np.zeros((3000, 4000), dtype=bool)
    mask[7:2900, 1000:1002] = True
    mask[:, 3000:] = True
    assert encode(mask).to_coco()["counts"].encode() == coco.encode(np.asfortranarray(mask.view(np.uint8)))["counts"]
