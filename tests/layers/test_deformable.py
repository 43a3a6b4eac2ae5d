"""Deformable attention as a weighted sum of rows is the function that `grid_sample` defines, gradients included."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from segcli.layers import deformable
from segcli.layers.deformable import DeformableAttention, Levels, _sample_grid, _SampleRows, levels
from segcli.layers.trace import record
from segcli.layers.weighted_rows import factors_gradient, rows_gradient, weighted_rows

CPU = torch.device("cpu")
HEADS, POINTS = 3, 4
Shapes = tuple[tuple[int, int], ...]


def inputs(shapes: Shapes, spread: float, dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], Levels]:
    """[values [2, S, 12], x and y offsets of `spread` pixels and weight logits [2, S, C]], and the geometry."""
    generator = torch.Generator().manual_seed(0)
    positions, columns = sum(h * w for h, w in shapes), HEADS * len(shapes) * POINTS
    sizes = (12, columns, columns, columns)
    tensors = [torch.randn(2, positions, size, generator=generator, dtype=dtype) for size in sizes]
    tensors[1] *= spread
    tensors[2] *= spread
    return [t.requires_grad_() for t in tensors], levels(shapes, HEADS, POINTS, CPU)


@settings(max_examples=40)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=3).map(tuple),
    spread=st.sampled_from([0.0, 0.3, 2.0, 50.0]),  # 50: nearly every point lies outside
)
def test_rows_equal_grid_sample(shapes: Shapes, spread: float) -> None:
    tensors, geometry = inputs(shapes, spread)
    rows = _SampleRows.apply(*tensors, HEADS, geometry)
    torch.testing.assert_close(rows, _sample_grid(*tensors, HEADS, geometry), rtol=0, atol=1e-5)


@pytest.fixture
def _memory_that_is_not_a_number() -> Iterator[None]:
    """What `torch.empty` gives holds NaN, so that reading what nobody wrote shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_memory_that_is_not_a_number")
@pytest.mark.parametrize("shift", [-1e6, -1.5, -1.0, -0.5, 0.5, 1.0, 1.5, 1e6])
def test_points_on_the_border_and_beyond(shift: float) -> None:
    (values, x, _, logits), geometry = inputs(((2, 3), (4, 5), (1, 1)), 0)
    moved = torch.full_like(x, shift)
    rows = _SampleRows.apply(values, moved, moved, logits, HEADS, geometry)
    torch.testing.assert_close(rows, _sample_grid(values, moved, moved, logits, HEADS, geometry), rtol=0, atol=1e-5)
    gradients = torch.autograd.grad(rows.sum(), (values, logits))
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


def test_several_passes_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors, geometry = inputs(((3, 4), (6, 8), (2, 2)), 2.0)
    whole = _SampleRows.apply(*tensors, HEADS, geometry)
    monkeypatch.setattr(deformable, "CHUNK", 7)
    assert torch.equal(whole, _SampleRows.apply(*tensors, HEADS, geometry))


@pytest.mark.parametrize("spread", [0.7, 5.0, 100.0])  # inside, half outside, nearly all far outside
def test_gradients_equal_those_of_grid_sample(spread: float) -> None:
    tensors, geometry = inputs(((2, 3), (5, 4), (9, 11)), spread)
    fast, slow = (sample(*tensors, HEADS, geometry) for sample in (_SampleRows.apply, _sample_grid))
    towards = torch.randn_like(fast)
    for got, expected in zip(
        torch.autograd.grad(fast, tensors, towards), torch.autograd.grad(slow, tensors, towards), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()) + 1e-7)


def test_gradcheck() -> None:
    tensors, geometry = inputs(((1, 2), (2, 2)), 0.8, torch.float64)
    assert torch.autograd.gradcheck(lambda *t: _SampleRows.apply(*t, HEADS, geometry), tensors, eps=1e-7, atol=1e-5)


def test_bf16_inputs_are_summed_in_fp32_and_get_bf16_gradients() -> None:
    tensors, geometry = inputs(((3, 3), (6, 6)), 2.0)
    rough = [t.detach().bfloat16().requires_grad_() for t in tensors]
    out = _SampleRows.apply(*rough, HEADS, geometry)
    assert out.dtype == torch.float32
    assert torch.equal(out, _SampleRows.apply(*(t.float() for t in rough), HEADS, geometry))
    out.sum().backward()
    assert all(t.grad is not None and t.grad.dtype == torch.bfloat16 for t in rough)


def test_weighted_rows_readable_by_eye() -> None:
    rows = torch.tensor([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]])
    indices = torch.tensor([[0, 2], [1, 1]], dtype=torch.int32)
    factors = torch.tensor([[1.0, 0.5], [2.0, 3.0]])
    assert weighted_rows(rows, indices, factors).tolist() == [[51.0, 102.0], [50.0, 100.0]]
    grad = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert rows_gradient(grad, 3, indices, factors).tolist() == [[1.0, 0.0], [0.0, 5.0], [0.5, 0.0]]
    assert factors_gradient(grad, rows, indices).tolist() == [[1.0, 100.0], [20.0, 20.0]]


def test_the_module_learns_in_every_parameter_and_keeps_places_in_fp32() -> None:
    torch.manual_seed(0)
    attention = DeformableAttention(16, num_heads=2)
    geometry = levels(((2, 2), (4, 4), (8, 8)), 2, 4, CPU)
    x = torch.randn(1, 84, 16)
    positions = torch.randn(84, 16)
    exact = attention(x, positions, geometry)
    exact.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in attention.parameters())
    with torch.inference_mode(), record("sampling") as trace:
        torch.testing.assert_close(attention(x, positions, geometry), exact)  # one product there, two in training
        rough = attention.bfloat16()(x.bfloat16(), positions.bfloat16(), geometry)
    assert trace["sampling"][-1].dtype == torch.float32
    assert trace["sampling"][-1].shape == (1, 84, 2, 12, 2)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().max() < 0.02 * exact.abs().max()


def test_no_float64_reaches_a_device() -> None:
    geometry = levels(((2, 3), (4, 6), (8, 12)), 2, 4, CPU)  # Apple's GPUs have no float64
    assert {t.dtype for t in vars(geometry).values() if isinstance(t, Tensor)} == {torch.float32}


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_query_that_is_not_finite_gives_an_answer_that_is_not_and_no_error(bad: float) -> None:
    torch.manual_seed(0)
    shapes = ((2, 2), (4, 4), (8, 8))
    attention = DeformableAttention(16, 2)
    positions = torch.randn(84, 16)
    positions[5] = bad
    out = attention(torch.randn(1, 84, 16).requires_grad_(), positions, levels(shapes, 2, 4, CPU))
    assert (~out.isfinite().all(-1)).nonzero().tolist() == [[0, 5]]
    out.sum().backward()
