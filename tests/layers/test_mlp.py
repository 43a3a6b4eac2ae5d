"""The recomputing products against the plain ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.layers.mlp import gelu_linear, norm_linear


def test_gelu_linear_is_linear_of_gelu() -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(6, 4).double(), torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.equal(gelu_linear(x, linear), linear(F.gelu(x)))
    inputs = (x, linear.weight, linear.bias)
    weights = torch.randn(2, 5, 4, dtype=torch.float64)
    ours = torch.autograd.grad((gelu_linear(x, linear) * weights).sum(), inputs)
    plain = torch.autograd.grad((linear(F.gelu(x)) * weights).sum(), inputs)
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b)


def test_gelu_linear_under_autocast_gives_gradients_of_the_weights_type() -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(6, 4), torch.randn(2, 5, 6, requires_grad=True)
    gradients = []
    for product in (gelu_linear, lambda x, linear: linear(F.gelu(x))):
        with torch.autocast("cpu", torch.bfloat16):
            y = product(x, linear)
        assert y.dtype == torch.bfloat16
        gradients.append(torch.autograd.grad(y.float().square().sum(), (x, linear.weight, linear.bias)))
    for a, b in zip(*gradients, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.05)


def _norm_then_linear(x: Tensor, norm: nn.LayerNorm, linear: nn.Linear) -> tuple[Tensor, Tensor]:
    return norm(x), linear(norm(x))


@pytest.mark.parametrize("used", [(0,), (1,), (0, 1)])
def test_norm_linear_is_linear_of_norm_whatever_is_used_of_it(used: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    norm, linear = nn.LayerNorm(6).double(), nn.Linear(6, 4).double()
    nn.init.normal_(norm.weight)
    x = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    inputs = (x, norm.weight, norm.bias, linear.weight, linear.bias)
    gradients = []
    for function in (norm_linear, _norm_then_linear):
        outputs = function(x, norm, linear)
        loss = sum((outputs[i].sin() * (i + 1)).sum() for i in used)
        gradients.append(torch.autograd.grad(loss, inputs, allow_unused=True))
    for a, b in zip(*gradients, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b)


def test_norm_linear_under_autocast_gives_gradients_of_the_weights_type() -> None:
    torch.manual_seed(0)
    norm, linear, x = nn.LayerNorm(6), nn.Linear(6, 4), torch.randn(2, 5, 6, requires_grad=True)
    gradients = []
    for function in (norm_linear, _norm_then_linear):
        with torch.autocast("cpu", torch.bfloat16):
            y, product = function(x, norm, linear)
        assert (y.dtype, product.dtype) == (torch.float32, torch.bfloat16)
        loss = y.square().sum() + product.float().square().sum()
        gradients.append(torch.autograd.grad(loss, (x, norm.weight, linear.weight, linear.bias)))
    for a, b in zip(*gradients, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.05)
