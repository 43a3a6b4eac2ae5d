"""Resizing in either order of memory, against torch's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from segcli.layers.resize import resize


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(3, 11), (9, 4)])
@pytest.mark.parametrize("learning", [False, True])
def test_resizing_is_torchs_and_keeps_the_order(
    order: torch.memory_format, size: tuple[int, int], learning: bool
) -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 5, 6, 7).to(memory_format=order).requires_grad_(learning)
    with torch.set_grad_enabled(learning):
        ours, plain = resize(maps, size), F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(ours, plain)
    assert learning or ours.is_contiguous(memory_format=order)
    if learning:
        weights = torch.rand_like(plain)
        assert torch.equal(*(torch.autograd.grad(y, maps, weights)[0] for y in (ours, plain)))
