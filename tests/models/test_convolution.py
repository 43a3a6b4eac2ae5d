"""What half precision on a CPU takes another way must give the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from segcli.layers.attention import Attention
from segcli.models.backbones.convolution import ConvNorm
from segcli.models.pixel_decoders.deformable import ProjectNorm


def _depthwise() -> nn.Module:
    return ConvNorm(32, 32, 5, 2, groups=32, same=True).eval()


@pytest.mark.parametrize("build", [_depthwise, lambda: ProjectNorm(32, 64, 1, bias=True)])
def test_maps_and_gradients_under_autocast_are_those_of_full_precision(build) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    layer, x = build(), torch.randn(2, 32, 9, 12, requires_grad=True)
    inputs = (x, *layer.parameters())
    results = []
    for enabled in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = layer(x)
        assert y.dtype == (torch.bfloat16 if enabled else torch.float32)
        wanted = torch.rand(y.shape, generator=torch.Generator().manual_seed(1))
        results.append((y, *torch.autograd.grad((y.float() - wanted).square().sum(), inputs)))
    for half, full in zip(*results, strict=True):
        assert half is results[0][0] or half.dtype == torch.float32
        assert (half - full).norm() < 0.02 * full.norm()


def test_attention_under_autocast_is_that_of_full_precision() -> None:
    torch.manual_seed(0)
    attention = Attention(32, 4)
    x, mask = torch.randn(2, 7, 32, requires_grad=True), torch.rand(2, 7, 7) > 0.3
    mask |= torch.eye(7, dtype=torch.bool)
    results = []
    for enabled in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            q, k, v = attention.project(x, "qkv").chunk(3, dim=-1)
            y = attention.attend(q, k, v, mask)
        results.append((y, *torch.autograd.grad(y.float().square().sum(), (x, attention.in_proj_weight))))
    for half, full in zip(*results, strict=True):
        assert (half - full).norm() < 0.02 * full.norm()


@pytest.mark.parametrize(
    ("kernel", "stride", "height", "width"), [(3, 2, 8, 9), (5, 2, 8, 8), (5, 1, 7, 7), (3, 2, 9, 9)]
)
def test_what_is_clamped_into_its_border_is_the_definition(kernel: int, stride: int, height: int, width: int) -> None:
    torch.manual_seed(0)
    layer = ConvNorm(8, 8, kernel, stride, groups=8, same=True).eval()
    x = (4 * torch.randn(2, 8, height, width)).requires_grad_()
    results = []
    for y in (layer.of_relu6(x.clone()), layer(x.clamp(0, 6))):
        results.append((y, *torch.autograd.grad(y.square().sum(), x)))
    for found, right in zip(*results, strict=True):
        torch.testing.assert_close(found, right)
    with torch.inference_mode():
        torch.testing.assert_close(layer.of_relu6(x.clone()), layer(x.clamp(0, 6)))


def test_a_group_of_one_value_is_its_bias() -> None:
    layer = ProjectNorm(4, 32, 1, bias=True)
    torch.nn.init.uniform_(layer.norm.bias)
    torch.testing.assert_close(layer(torch.randn(1, 4, 1, 1)).flatten(), layer.norm.bias, rtol=0, atol=1e-3)
