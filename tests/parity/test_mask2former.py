"""The network equals transformers' in fp32.

Attention masks are thresholds: a difference in the last bit can flip a mask bit and then grow. So equality is shown
twice, with transformers' attention masks injected (every prediction, tightly) and free-running (mask bits).
"""

from __future__ import annotations

import pytest
import torch

from tests.parity.hf import batch, injected_masks, pair, recorded_masks, relative

CASES = [  # backbone, queries, (H, W), images
    ("swin-t", 100, (333, 500), 1),
    ("swin-b-like", 200, (288, 224), 1),
    ("resnet50", 100, (224, 288), 2),
    ("lite0", 200, (333, 500), 2),
]


@pytest.mark.parametrize(("backbone", "queries", "size", "count"), CASES)
def test_logits_of_every_prediction(
    backbone: str, queries: int, size: tuple[int, int], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = pair(backbone, num_queries=queries, num_labels=13)
    images = torch.randn(count, 3, *size)
    with torch.inference_mode(), recorded_masks(theirs) as masks:
        reference = theirs(pixel_values=images, output_auxiliary_logits=True)
        with injected_masks(monkeypatch, masks):
            injected = ours(batch(images), every_layer=True)
        free = ours(batch(images))
    layers = [*reference.auxiliary_logits, reference]
    assert len(injected) == len(layers) == 10
    assert len(free) == 1
    for mine, layer in zip(injected, layers, strict=True):
        assert mine.masks is not None
        assert relative(mine.classes, layer["class_queries_logits"]) < 2e-5
        assert relative(mine.masks.dense(), layer["masks_queries_logits"]) < 2e-5
    assert free[0].masks is not None
    flipped = (free[0].masks.dense() > 0) != (reference.masks_queries_logits > 0)
    assert flipped.float().mean() <= 1e-5


def test_an_image_does_not_depend_on_its_batch() -> None:
    _, ours = pair("lite0", num_queries=100, num_labels=13)
    images = torch.randn(2, 3, 128, 160)
    with torch.inference_mode():
        together = ours(batch(images))[-1]
        alone = ours(batch(images[1:]))[-1]
    assert relative(together.masks.dense()[1:], alone.masks.dense()) < 1e-5
    assert relative(together.classes[1:], alone.classes) < 1e-5
