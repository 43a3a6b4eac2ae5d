"""Resizing in either order of memory, against torch's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from segcli.layers.resize import resize


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(3, 11), (9, 4)])
def test_resizing_is_torchs_in_the_same_order(images: int, order: torch.memory_format, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    maps = torch.randn(images, 5, 6, 7).to(memory_format=order).requires_grad_()
    ours, plain = resize(maps, size), F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(ours, plain)
    assert ours.is_contiguous(memory_format=order)
    weights = torch.rand_like(plain)
    torch.testing.assert_close(*(torch.autograd.grad(y, maps, weights)[0] for y in (ours, plain)))


def test_a_level_of_flattened_maps_keeps_its_order() -> None:
    levels = torch.randn(1, 12 + 42, 5)
    finest = levels[:, 12:].transpose(1, 2).unflatten(2, (6, 7))  # the stride of its image is that of a place
    assert resize(finest, (12, 14)).is_contiguous(memory_format=torch.channels_last)
