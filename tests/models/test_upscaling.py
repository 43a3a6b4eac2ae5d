"""Patches made finer strip by strip."""

from __future__ import annotations

import pytest
import torch

from segcli.models.pixel_decoders import upscaling
from segcli.models.pixel_decoders.upscaling import ScaleBlock


@pytest.mark.parametrize("strip", [1, 1000, 2**22])
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 1, 1), (2, 2, 3), (1, 7, 4)])
def test_strips_are_the_whole_map(
    strip: int, batch: int, height: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upscaling, "STRIP", strip)
    torch.manual_seed(0)
    block, patches = ScaleBlock(8).double(), torch.randn(batch, height, width, 8, dtype=torch.float64)
    maps = torch.nn.functional.gelu(block.up(patches.permute(0, 3, 1, 2)))
    expected = block.norm(block.conv(maps).permute(0, 2, 3, 1))
    torch.testing.assert_close(block(patches), expected)  # with gradients: at once
    with torch.no_grad():
        torch.testing.assert_close(block(patches), expected)
