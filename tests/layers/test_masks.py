"""ProductMasks are DenseMasks that have not been multiplied yet: every method and every gradient must agree."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from segcli.layers.masks import ConvolvedMasks, DenseMasks, ProductMasks

SIDE = st.integers(1, 9)
DTYPES = st.sampled_from([torch.float32, torch.bfloat16])
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 6e-2}  # of the largest logit; bf16 keeps 8 bits


@st.composite
def masks(draw: st.DrawFn) -> tuple[ProductMasks, DenseMasks]:
    batch, queries, channels = draw(st.integers(1, 2)), draw(st.integers(1, 6)), draw(st.integers(1, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    dtype = draw(DTYPES)
    embeddings = torch.randn(batch, queries, channels, generator=generator).to(dtype)
    features = torch.randn(batch, channels, draw(SIDE), draw(SIDE), generator=generator).to(dtype)
    exact = torch.einsum("bqc,bchw->bqhw", embeddings.float(), features.float())
    return ProductMasks(embeddings, features), DenseMasks(exact)


def agree(got: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    scale = 1.0 + expected.abs().max().item() if expected.numel() else 1.0
    torch.testing.assert_close(got.float(), expected, rtol=0, atol=TOLERANCE[dtype] * scale)


@given(masks())
def test_dense(pair: tuple[ProductMasks, DenseMasks]) -> None:
    product, dense = pair
    agree(product.dense(), dense.dense(), product.features.dtype)


@given(masks(), SIDE, SIDE)
def test_resized(pair: tuple[ProductMasks, DenseMasks], height: int, width: int) -> None:
    product, dense = pair
    expected = F.interpolate(dense.logits, size=(height, width), mode="bilinear", align_corners=False)
    agree(dense.resized((height, width)), expected, torch.float32)
    agree(product.resized((height, width)), expected, product.features.dtype)


@given(masks(), st.integers(0, 100), st.integers(0, 2**31))
def test_at(pair: tuple[ProductMasks, DenseMasks], count: int, seed: int) -> None:
    product, dense = pair  # fewer and more points than pixels both occur
    points = torch.rand(dense.logits.shape[0], count, 2, generator=torch.Generator().manual_seed(seed)) * 1.4 - 0.2
    expected = F.grid_sample(dense.logits, 2 * points.unsqueeze(2) - 1, align_corners=False).squeeze(3)
    agree(dense.at(points), expected, torch.float32)
    agree(product.at(points), expected, product.features.dtype)


@given(masks(), st.data())
def test_select(pair: tuple[ProductMasks, DenseMasks], data: st.DataObject) -> None:
    product, dense = pair
    batch, queries = dense.logits.shape[:2]
    image = data.draw(st.integers(0, batch - 1))
    picked = torch.tensor(data.draw(st.lists(st.integers(0, queries - 1), max_size=8)), dtype=torch.long)
    expected = dense.logits[image, picked].unsqueeze(0)
    assert product.select(image, picked).dense().dtype == torch.float32  # also behind a bf16 network
    agree(product.select(image, picked).dense(), expected, torch.float32)
    agree(dense.select(image, picked).dense(), expected, torch.float32)


@given(masks(), st.integers(1, 6), st.sampled_from([1, 3]), st.integers(0, 2**31))
def test_convolved(pair: tuple[ProductMasks, DenseMasks], inputs: int, side: int, seed: int) -> None:
    """Kernels of the queries' own give what convolving the features first gives."""
    embeddings = pair[0].embeddings.float()
    generator = torch.Generator().manual_seed(seed)
    before = torch.randn(len(embeddings), inputs, *pair[0].features.shape[2:], generator=generator)
    weight = torch.randn(embeddings.shape[2], inputs, side, side, generator=generator)
    bias = torch.randn(embeddings.shape[2], generator=generator)
    product = ProductMasks(embeddings, F.conv2d(before, weight, bias, padding=side // 2))
    kernels = torch.einsum("bqc,cdij->bqdij", embeddings, weight)
    folded = ConvolvedMasks(kernels, embeddings @ bias, before)
    agree(folded.dense(), product.dense(), torch.float32)
    agree(folded.resized((5, 3)), product.resized((5, 3)), torch.float32)
    points = torch.rand(len(embeddings), 4, 2, generator=generator)
    agree(folded.at(points), product.at(points), torch.float32)
    picked = torch.tensor([0, 0])
    agree(folded.select(len(embeddings) - 1, picked).dense(), product.dense()[-1:, picked], torch.float32)
    nobody = picked[:0]  # no query of a photograph passes the threshold
    for kind in (product, folded, DenseMasks(product.dense())):
        assert kind.select(0, nobody).dense().shape == (1, 0, *before.shape[2:])
        assert kind.select(0, nobody).resized((5, 3)).shape == (1, 0, 5, 3)
        assert kind.select(0, nobody).at(points[:1]).shape == (1, 0, 4)


@settings(max_examples=25)
@given(masks(), st.integers(1, 30), SIDE, SIDE)
def test_gradients(pair: tuple[ProductMasks, DenseMasks], count: int, height: int, width: int) -> None:
    product, _ = pair
    points = torch.rand(product.features.shape[0], count, 2)
    gradients = []
    for kind in ("product", "dense"):
        embeddings = product.embeddings.float().requires_grad_()
        features = product.features.float().requires_grad_()
        if kind == "product":
            either: ProductMasks | DenseMasks = ProductMasks(embeddings, features)
        else:
            either = DenseMasks(torch.einsum("bqc,bchw->bqhw", embeddings, features))
        loss = either.at(points).square().sum() + either.resized((height, width)).square().sum()
        (loss + either.select(0, torch.tensor([0])).dense().sum()).backward()
        gradients.append((embeddings.grad, features.grad))
    for got, expected in zip(*gradients, strict=True):
        scale = 1.0 + expected.abs().max().item()
        torch.testing.assert_close(got, expected, rtol=0, atol=2e-5 * scale)


def test_points_are_pixel_centres_and_zero_outside() -> None:
    dense = DenseMasks(torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]]))
    points = torch.tensor([[[0.25, 0.25], [0.75, 0.25], [0.5, 0.5], [0.0, 0.25], [1.5, 0.5]]])
    assert dense.at(points).flatten().tolist() == [1.0, 3.0, 4.0, 0.5, 0.0]


@pytest.mark.parametrize(("count", "multiplied"), [(3, 3), (16, 16), (40, 16)])
def test_at_multiplies_at_the_fewer_places(count: int, multiplied: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import segcli.layers.masks as module

    columns: list[int] = []
    product = module._product
    monkeypatch.setattr(module, "_product", lambda a, b: (columns.append(b.shape[-1]), product(a, b))[1])
    ProductMasks(torch.ones(1, 2, 3), torch.ones(1, 3, 4, 4)).at(torch.rand(1, count, 2))
    assert columns == [multiplied]
