"""Deformable attention as a weighted sum of rows equals its definition with `grid_sample`, gradients included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from segcli.layers.deformable import _sample_grid, _SampleRows, levels
from segcli.layers.rows import factors_gradient, rows_gradient, weighted_rows

CPU = torch.device("cpu")


def inputs(shapes: tuple[tuple[int, int], ...], spread: float, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """values [2, S, 12], offsets [2, S, 3, L, 4, 2] in pixels, weight logits [2, S, 3, L·4]."""
    torch.manual_seed(0)
    count = sum(h * w for h, w in shapes)
    values = torch.randn(2, count, 12, dtype=dtype)
    offsets = torch.randn(2, count, 3, len(shapes), 4, 2, dtype=dtype) * spread
    weights = torch.randn(2, count, 3, len(shapes) * 4, dtype=dtype)
    return values.requires_grad_(), offsets.requires_grad_(), weights.requires_grad_()


@pytest.mark.parametrize("spread", [0.7, 5.0, 100.0])  # inside, half outside, nearly all far outside
def test_equals_grid_sample_and_so_do_gradients(spread: float) -> None:
    shapes = ((2, 3), (5, 4), (9, 11))
    tensors = inputs(shapes, spread, torch.float32)
    geometry = levels(shapes, CPU)
    fast = _SampleRows.apply(*tensors, geometry)
    values, offsets, logits = tensors
    slow = _sample_grid(values, offsets, logits.softmax(-1), geometry)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-5)
    towards = torch.randn_like(fast)
    for got, expected in zip(
        torch.autograd.grad(fast, tensors, towards), torch.autograd.grad(slow, tensors, towards), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()) + 1e-7)


def test_gradcheck() -> None:
    shapes = ((1, 2), (2, 2))
    tensors = inputs(shapes, 0.8, torch.float64)
    geometry = levels(shapes, CPU)
    assert torch.autograd.gradcheck(lambda *t: _SampleRows.apply(*t, geometry), tensors, eps=1e-7, atol=1e-5)


def test_bf16_inputs_are_summed_in_fp32_and_get_bf16_gradients() -> None:
    shapes = ((3, 3), (6, 6))
    tensors = [t.detach().bfloat16().requires_grad_() for t in inputs(shapes, 2.0, torch.float32)]
    geometry = levels(shapes, CPU)
    out = _SampleRows.apply(*tensors, geometry)
    assert out.dtype == torch.float32
    exact = _SampleRows.apply(*(t.float() for t in tensors), geometry)
    assert torch.equal(out, exact)
    out.sum().backward()
    assert all(t.grad is not None and t.grad.dtype == torch.bfloat16 for t in tensors)


def test_weighted_rows_readable_by_eye() -> None:
    rows = torch.tensor([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]])
    indices = torch.tensor([[0, 2], [1, 1]], dtype=torch.int32)
    factors = torch.tensor([[1.0, 0.5], [2.0, 3.0]])
    assert weighted_rows(rows, indices, factors).tolist() == [[51.0, 102.0], [50.0, 100.0]]
    grad = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert rows_gradient(grad, 3, indices, factors).tolist() == [[1.0, 0.0], [0.0, 5.0], [0.5, 0.0]]
    assert factors_gradient(grad, rows, indices).tolist() == [[1.0, 100.0], [20.0, 20.0]]
