"""Products as convolutions against the plain ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from segcli.layers import linear as module
from segcli.layers.linear import linear, linear_gelu, linear_gradients, product

# Some of them are large enough for a convolution: 64 rows and more, 20,481 numbers and more.
SHAPES = st.tuples(
    st.lists(st.integers(1, 24), min_size=1, max_size=3), st.sampled_from([3, 40, 160]), st.sampled_from([1, 7, 32])
)


@pytest.fixture(autouse=True, scope="module")
def _little_work_too() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LEAST_WORK", 0)
        patch.setattr(module, "FEWEST_ROWS", 64)  # whatever processor this is
        yield


def _inputs(shape: list[int], width: int, outputs: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    tensors = torch.randn(*shape, width), torch.randn(outputs, width), torch.randn(outputs)
    return tensors[0].requires_grad_(), tensors[1].requires_grad_(), tensors[2].requires_grad_()


@settings(max_examples=30, deadline=None)
@given(SHAPES, st.booleans())
def test_linear_and_its_gradients_are_those_of_torch(shape: tuple[list[int], int, int], transposed: bool) -> None:
    x, weight, bias = _inputs(*shape)
    seen = x.transpose(0, -2) if transposed and x.dim() > 2 else x  # rows need not follow each other in memory
    ours, plain = linear(seen, weight, bias), F.linear(seen, weight, bias)
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4)
    gradient = torch.randn_like(plain)
    expected = torch.autograd.grad(plain, (x, weight, bias), gradient)
    for a, b in zip(torch.autograd.grad(ours, (x, weight, bias), gradient), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)
    by_hand = linear_gradients(gradient, seen.detach(), weight.detach())
    of_x = torch.autograd.grad(F.linear(seen, weight, bias), seen, gradient)[0]
    for a, b in zip(by_hand, (of_x, *expected[1:]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


def test_what_linear_gives_may_be_changed_in_place() -> None:
    x, weight, bias = _inputs([2, 80], 160, 4)
    ours = linear(x, weight, bias).relu_()
    plain = F.linear(x, weight, bias).relu()
    inputs = (x, weight, bias)
    for a, b in zip(*(torch.autograd.grad(y.square().sum(), inputs) for y in (ours, plain)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("queries", [70, 400])
@pytest.mark.parametrize("channels_last", [False, True])
def test_product_is_a_product_in_either_order_of_memory(images: int, queries: int, channels_last: bool) -> None:
    torch.manual_seed(0)
    left = torch.randn(images, queries, 300, requires_grad=True)
    maps = torch.randn(images, 300, 8, 9)
    maps = maps.contiguous(memory_format=torch.channels_last) if channels_last else maps
    right = maps.requires_grad_().flatten(2)
    ours, plain = product(left, right), left @ right
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4)
    gradient = torch.randn_like(plain)
    for a, b in zip(*(torch.autograd.grad(y, (left, maps), gradient) for y in (ours, plain)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


@pytest.mark.skipif(not module._X86 or not torch.backends.mkldnn.is_available(), reason="no oneDNN for x86 here")
def test_a_network_s_products_are_convolutions() -> None:
    x, weight, _ = _inputs([100], 256, 1024)
    assert "Convolution" in type(linear(x, weight).grad_fn.next_functions[0][0].next_functions[0][0]).__name__  # type: ignore[union-attr]


def test_other_precisions_are_torchs_own() -> None:
    x, weight, bias = _inputs([140], 160, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(linear(x, weight, bias), F.linear(x, weight, bias))
        assert linear(x, weight, bias).dtype == torch.bfloat16
    wide = [t.double() for t in (x, weight, bias)]
    assert torch.equal(linear(*wide), F.linear(*wide))


def test_nothing_in_nothing_out() -> None:
    assert linear(torch.zeros(2, 0, 8), torch.ones(4, 8)).shape == (2, 0, 4)
    assert product(torch.zeros(1, 0, 8), torch.ones(1, 8, 5)).shape == (1, 0, 5)


@pytest.mark.parametrize("shape", [(5,), (0, 5), (3, 5), (2, 70, 5)])
@torch.no_grad()
def test_products_in_bf16_are_those_of_torch_to_the_last_bit_or_two(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x, weight, bias = (torch.randn(size).bfloat16() for size in (shape, (7, 5), (7,)))
    exact = F.linear(x.float(), weight.float(), bias.float())
    for ours, expected in ((linear(x, weight, bias), exact), (linear_gelu(x, weight, bias), F.gelu(exact))):
        assert ours.dtype == torch.bfloat16
        torch.testing.assert_close(ours.float(), expected, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("batch", [1, 3])
def test_products_of_images_in_bf16(batch: int) -> None:
    torch.manual_seed(0)
    left, right = torch.randn(batch, 4, 6).bfloat16(), torch.randn(batch, 9, 6).bfloat16().transpose(1, 2)
    torch.testing.assert_close(product(left, right), left @ right)
