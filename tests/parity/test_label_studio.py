"""Label Studio's own converter and segcli read each other's brushes."""

from __future__ import annotations

import numpy as np
import pytest

from segcli.codecs.brush import decode_brush, encode_brush

brush = pytest.importorskip("label_studio_sdk.converter.brush", reason="label-studio-sdk (PyPI) is not installed")


@pytest.mark.parametrize("seed", range(4))
def test_brushes_there_and_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((37, 53)) > 0.5 if seed % 2 else np.add.outer(np.arange(37), np.arange(53)) % 40 < 17
    seen = np.reshape(brush.decode_rle(encode_brush(mask)), (37, 53, 4))[:, :, 3]
    assert np.array_equal(seen > 0, mask)
    assert np.array_equal(decode_brush(brush.mask2rle(mask.astype(np.uint8) * 255), mask.shape), mask)
