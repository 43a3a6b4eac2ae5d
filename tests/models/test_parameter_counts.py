"""Parameter counts are the published ones (counted in transformers' module tree, without a norm that nothing reads)."""

from __future__ import annotations

import pytest
import torch

from segcli.config.backbones.swin import SwinConfig
from segcli.config.mask2former import Mask2FormerConfig
from segcli.models.mask2former import build as build_mask2former

TINY = SwinConfig(96, (2, 2, 6, 2), (3, 6, 12, 24), 7)
SMALL = SwinConfig(96, (2, 2, 18, 2), (3, 6, 12, 24), 7)
BASE = SwinConfig(128, (2, 2, 18, 2), (4, 8, 16, 32), 12)
LARGE = SwinConfig(192, (2, 2, 18, 2), (6, 12, 24, 48), 12)


@pytest.mark.parametrize(
    ("backbone", "queries", "parameters"),
    [(TINY, 100, 47_435_264), (SMALL, 100, 68_753_168), (BASE, 100, 106_917_822), (LARGE, 200, 215_535_610)],
)
def test_coco_panoptic_models(backbone: SwinConfig, queries: int, parameters: int) -> None:
    with torch.device("meta"):
        model = build_mask2former(Mask2FormerConfig(backbone, num_classes=133, num_queries=queries))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
