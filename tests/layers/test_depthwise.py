"""Depthwise convolutions: gradients put together by hand are those of the definition."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from segcli.layers.depthwise import depthwise

GEOMETRIES = [  # kernel, stride, padding, height, width
    (5, 1, 2, 12, 9),
    (5, 2, 0, 15, 18),
    (5, 2, 2, 11, 12),
    (5, 1, 0, 9, 11),
    (5, 3, 2, 13, 14),
    (3, 2, 0, 13, 12),
    (3, 1, 1, 8, 9),
]


@pytest.mark.parametrize(("kernel", "stride", "padding", "height", "width"), GEOMETRIES)
@pytest.mark.parametrize("half", [False, True])
def test_gradients_are_those_of_the_definition(
    kernel: int, stride: int, padding: int, height: int, width: int, half: bool
) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 32, height, width).to(memory_format=torch.channels_last)
    inputs = x, weight, bias = x.requires_grad_(), torch.randn(32, 1, kernel, kernel), torch.randn(32)
    weight.requires_grad_(), bias.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        y = depthwise(x, weight, bias, (stride, stride), (padding, padding))
        plain = F.conv2d(x, weight, bias, stride, padding, groups=32)
    assert y.dtype == (torch.bfloat16 if half else torch.float32)
    weights = torch.randn_like(y)
    exact = tuple(t.detach().double().requires_grad_() for t in inputs)
    right = F.conv2d(exact[0], exact[1], exact[2], stride, padding, groups=32)
    wanted = torch.autograd.grad(right, exact, weights.double())
    own = torch.autograd.grad(plain, inputs, weights)
    for found, true, theirs in zip(torch.autograd.grad(y, inputs, weights), wanted, own, strict=True):
        assert found.dtype == torch.float32
        # A processor without bf16 may add in it: then PyTorch's own gradients are as far off.
        usual = max(5e-3, 1.2 * float((theirs - true).norm() / true.norm())) if half else 1e-6
        assert (found - true).norm() < usual * true.norm()


def test_an_image_that_learns_nothing_needs_no_gradient() -> None:
    weight = torch.randn(8, 1, 5, 5, requires_grad=True)
    y = depthwise(torch.randn(1, 8, 6, 6), weight, torch.zeros(8), (1, 1), (2, 2))
    y.sum().backward()
    assert weight.grad is not None
