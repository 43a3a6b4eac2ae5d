from __future__ import annotations

import numpy as np
import pytest
import torch

from segcli.inference.preprocess import collate, padded_size, prepare, resized_size
from segcli.types import InferenceSpec, InputSize, LabelSet


@pytest.mark.parametrize(
    ("original", "resized"),
    [
        ((480, 640), (800, 1067)),  # 1066.67 rounds up, where others floor
        ((640, 480), (1067, 800)),
        ((333, 500), (800, 1201)),
        ((400, 1200), (444, 1333)),  # the cap on the long side
        ((176, 1376), (170, 1333)),  # 170.5 up to rounding: 171 in another order of operations
        ((1, 1), (800, 800)),
        ((1, 5000), (1, 1333)),  # 0.27 pixels are at least one
    ],
)
def test_resized_size_is_detectron2s(original: tuple[int, int], resized: tuple[int, int]) -> None:
    assert resized_size(original, InputSize(800, 1333, 32)) == resized


def test_padded_size() -> None:
    assert padded_size((800, 1067), 32) == (800, 1088)
    assert padded_size((1, 1333), 32) == (32, 1344)


def test_normalised_then_zero_padded() -> None:
    spec = InferenceSpec(("panoptic",), LabelSet(()), InputSize(2, 4, 4), mean=(10.0, 20.0, 30.0), std=(1.0, 2.0, 5.0))
    image = np.full((2, 3, 3), (12, 24, 40), dtype=np.uint8)
    prepared = prepare(image, spec)
    assert prepared.frame.original == (2, 3)
    assert prepared.frame.padded == (4, 4)
    assert prepared.pixels[:, :2, :3].reshape(3, -1).tolist() == [[2.0] * 6] * 3
    assert not prepared.pixels[:, 2:].any()
    assert not prepared.pixels[:, :, 3:].any()

    batch = collate([prepared, prepared], torch.device("cpu"))
    assert batch.images.shape == (2, 3, 4, 4)
    assert batch.sizes == [(2, 3), (2, 3)]
    assert batch.padding[0].tolist() == [[False] * 3 + [True]] * 2 + [[True] * 4] * 2
