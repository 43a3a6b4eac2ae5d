"""The recomputing product against the plain one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from segcli.layers.mlp import gelu_linear


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
