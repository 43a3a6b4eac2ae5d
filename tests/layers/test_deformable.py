"""Deformable attention as a sum of rows is the function that grid_sample defines."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from segcli.layers import deformable
from segcli.layers.deformable import DeformableAttention, Levels, levels
from segcli.layers.trace import record

CPU = torch.device("cpu")


def inputs(shapes: tuple[tuple[int, int], ...], spread: float) -> tuple[Tensor, Tensor, Tensor, Levels]:
    """Values [2, S, 8], offsets [2, S, 2 heads, L, 4, 2] that reach `spread` pixels, weight logits [2, S, 2, L·4]."""
    positions = sum(h * w for h, w in shapes)
    generator = torch.Generator().manual_seed(positions)
    values = torch.randn(2, positions, 8, generator=generator)
    offsets = torch.randn(2, positions, 2, len(shapes), 4, 2, generator=generator) * spread
    logits = torch.randn(2, positions, 2, len(shapes) * 4, generator=generator)
    return values, offsets, logits, levels(shapes, CPU)


@settings(max_examples=40, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=3, max_size=3).map(tuple),
    spread=st.sampled_from([0.0, 0.3, 2.0, 50.0]),  # 50: nearly every point lies outside
)
def test_rows_equal_grid_sample(shapes: tuple[tuple[int, int], ...], spread: float) -> None:
    values, offsets, logits, geometry = inputs(shapes, spread)
    rows = deformable._sample_rows(values, offsets, logits, geometry)
    grid = deformable._sample_grid(values, offsets, logits.softmax(-1), geometry)
    assert torch.allclose(rows, grid, atol=1e-5)


def test_points_on_the_border_and_beyond() -> None:
    values, _, logits, geometry = inputs(((2, 3), (4, 5), (1, 1)), 0)
    for shift in (-1.5, -1.0, -0.5, 0.5, 1.0, 1.5, 1e6, -1e6):
        offsets = torch.full((2, 27, 2, 3, 4, 2), shift)
        rows = deformable._sample_rows(values, offsets, logits, geometry)
        assert torch.allclose(rows, deformable._sample_grid(values, offsets, logits.softmax(-1), geometry), atol=1e-5)


def test_several_passes_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    values, offsets, logits, geometry = inputs(((3, 4), (6, 8), (2, 2)), 2.0)
    whole = deformable._sample_rows(values, offsets, logits, geometry)
    monkeypatch.setattr(deformable, "CHUNK", 7)
    assert torch.equal(whole, deformable._sample_rows(values, offsets, logits, geometry))


def test_gradients_reach_every_parameter_and_both_paths_agree() -> None:
    torch.manual_seed(0)
    attention = DeformableAttention(16, num_heads=2)
    geometry = levels(((2, 2), (4, 4), (8, 8)), CPU)
    x = torch.randn(1, 84, 16)
    trained = attention(x, x, geometry)
    trained.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in attention.parameters())
    with torch.no_grad():
        assert torch.allclose(attention(x, x, geometry), trained, atol=1e-5)


def test_bf16_keeps_places_in_fp32() -> None:
    torch.manual_seed(0)
    attention = DeformableAttention(16, num_heads=2)
    geometry = levels(((2, 2), (4, 4), (8, 8)), CPU)
    x = torch.randn(1, 84, 16)
    with torch.inference_mode():
        exact = attention(x, x, geometry)
        with record("sampling") as trace:
            rough = attention.bfloat16()(x.bfloat16(), x.bfloat16(), geometry)
    assert trace["sampling"][0].dtype == torch.float32
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().max() < 0.02 * exact.abs().max()


def test_no_float64_reaches_a_device() -> None:
    geometry = levels(((2, 3), (4, 6), (8, 12)), CPU)  # Apple's GPUs have no float64
    tensors = [value for value in vars(geometry).values() if isinstance(value, Tensor)]
    assert {t.dtype for t in tensors} == {torch.float32, torch.int32}
