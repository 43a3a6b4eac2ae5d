"""Pilots learn beside the learnable queries and must never help them."""

from __future__ import annotations

import torch

from segcli.config.backbones.efficientnet_lite import EfficientNetLiteConfig
from segcli.config.mask2former import Mask2FormerConfig
from segcli.models.mask2former import build as build_mask2former
from segcli.objective.pilots import MaskPilots
from segcli.types import Batch
from tests.objective.scenes import CLASSES, draw, target

TINY = Mask2FormerConfig(
    EfficientNetLiteConfig(),
    CLASSES,
    7,
    32,
    32,
    32,
    1,
    32,
    decoder_layers=5,
    dim_feedforward=32,
    num_attention_heads=2,
)


def test_the_answer_is_the_same_with_and_without_pilots() -> None:
    torch.manual_seed(0)
    model = build_mask2former(TINY).eval()
    batch = Batch(torch.randn(2, 3, 64, 96), torch.zeros(2, 64, 96, dtype=torch.bool), [(64, 96)] * 2)
    pilots = MaskPilots(CLASSES, 32)([target("a", 3), target("b", 1)], draw)
    with torch.no_grad():
        alone, together = model(batch, every_layer=True), model(batch, every_layer=True, pilots=pilots)
    assert len(alone) == len(together) == 5
    for a, b in zip(alone, together, strict=True):
        torch.testing.assert_close(a.classes, b.classes, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(a.masks.dense(), b.masks.dense(), rtol=1e-4, atol=1e-5)
        assert a.piloted is None
        assert b.piloted is not None
        assert b.piloted.classes.shape == (2, 3, CLASSES + 1)


def test_a_spare_pilot_changes_nothing_for_the_others() -> None:
    torch.manual_seed(0)
    model = build_mask2former(TINY).eval()
    batch = Batch(torch.randn(2, 3, 64, 96), torch.zeros(2, 64, 96, dtype=torch.bool), [(64, 96)] * 2)
    pilots = MaskPilots(CLASSES, 32)
    single = Batch(batch.images[1:], batch.padding[1:], batch.sizes[1:])
    with torch.no_grad():
        padded = model(batch, pilots=pilots([target("a", 3), target("b", 1)], draw))[-1].piloted
        exact = model(single, pilots=pilots([target("b", 1)], draw))[-1].piloted
    torch.testing.assert_close(padded.classes[1:, :1], exact.classes, rtol=1e-4, atol=1e-5)
