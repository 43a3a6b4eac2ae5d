"""MaskFormer equals transformers' in fp32: logits, masks, files."""

from __future__ import annotations

import pytest
import torch

from tests.parity.hf import batch, maskformer_pair, relative

CASES = [  # backbone, settings of the decoder, (H, W), images
    ("swin-t", {}, (333, 500), 1),
    ("swin-b-like", {"num_queries": 50, "decoder_layers": 3}, (288, 224), 2),
    ("resnet50", {}, (224, 289), 2),
    ("lite0", {"d_model": 128, "num_queries": 30, "decoder_ffn_dim": 512}, (160, 128), 2),
]


@pytest.mark.parametrize(("backbone", "decoder", "size", "count"), CASES)
def test_logits(backbone: str, decoder: dict[str, int], size: tuple[int, int], count: int) -> None:
    theirs, ours = maskformer_pair(backbone, decoder, num_labels=13)
    images = torch.randn(count, 3, *size)
    with torch.inference_mode():
        reference = theirs(pixel_values=images)
        every = ours(batch(images), every_layer=True)
        (last,) = ours(batch(images))
    assert len(every) == decoder.get("decoder_layers", 6)
    for mine in (every[-1], last):
        assert mine.masks is not None
        assert relative(mine.classes, reference.class_queries_logits) < 2e-5
        assert relative(mine.masks.dense(), reference.masks_queries_logits) < 2e-5
