"""Properties of the loss that must hold for any network and any data."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from segcli.layers.masks import ProductMasks
from segcli.objective.criterion import LossReport, Normalisers, SetCriterion
from segcli.objective.losses import mask_losses
from segcli.objective.pilots import MaskPilots
from segcli.objective.sampling import chosen, uncertain_points
from segcli.objective.terms import AtPoints, MaskTerms
from segcli.types import QueryPredictions, Target
from tests.objective.scenes import CLASSES, Factors, draw, target

CRITERION = SetCriterion(CLASSES, (MaskTerms(AtPoints(200)),))


def gradients(report: LossReport, factors: Factors) -> list[Tensor]:
    return list(torch.autograd.grad(report.total, factors.leaves))


def test_products_and_dense_masks_give_the_same_loss_and_gradients() -> None:
    factors = Factors()
    targets = [target("a", 3), target("b", 2, seed=1)]
    product, dense = (CRITERION(factors.predictions(dense=dense), targets, draw) for dense in (False, True))
    torch.testing.assert_close(product.total, dense.total)
    for got, expected in zip(gradients(product, factors), gradients(dense, factors), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_an_image_without_objects_trains_as_negative() -> None:
    factors = Factors()
    report = CRITERION(factors.predictions(), [target("a", 3), target("b", 0)], draw)
    assert report.finite
    assert len(report.matches[0][1].queries) == 0
    classes, embeddings, _ = gradients(report, factors)
    assert (classes[:, 1, :, -1] < 0).all()  # every query of the empty image is pulled towards "no object"
    assert (embeddings[:, 1] == 0).all()


def test_a_batch_without_any_object_is_finite_and_reaches_every_input() -> None:
    factors = Factors()
    report = CRITERION(factors.predictions(), [target("a", 0), target("b", 0)], draw)
    assert report.finite
    assert report.terms["mask"].tolist() == [0, 0, 0]
    report.total.backward()
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in factors.leaves)


def test_one_pixel_and_empty_masks_are_finite() -> None:
    truth = target("a", 2)
    truth.masks[:] = False
    truth.masks[0, 10, 20] = True
    factors = Factors(batch=1)
    report = CRITERION(factors.predictions(), [truth], draw)
    assert report.finite
    assert all(gradient.isfinite().all() for gradient in gradients(report, factors))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("where", ["classes", "embeddings"])
def test_logits_that_are_not_finite_are_reported_and_do_not_raise(bad: float, where: str) -> None:
    factors = Factors()
    with torch.no_grad():
        getattr(factors, where)[1, 0, 4] = bad
    report = CRITERION(factors.predictions(), [target("a", 3), target("b", 2)], draw)
    assert not report.finite
    assert [len(match.queries) for match in report.matches[1]] == [3, 2]


def test_more_objects_than_queries() -> None:
    factors = Factors(batch=1, queries=4)
    truth = target("a", 7)
    report = CRITERION(factors.predictions(), [truth], draw)
    assert sorted(report.matches[0][0].queries.tolist()) == [0, 1, 2, 3]
    assert CRITERION.normalisers([truth], 4) == Normalisers(masks=7, classes=4)
    assert report.finite


def test_crowds_are_no_objects() -> None:
    truth = target("a", 4)
    crowd = torch.tensor([False, True, False, True])
    some = Target(truth.labels[~crowd], truth.masks[~crowd], truth.boxes[~crowd], crowd[~crowd], "a")
    factors = Factors(batch=1)
    with_crowd = CRITERION(factors.predictions(), [replace(truth, crowd=crowd)], draw)
    without = CRITERION(factors.predictions(), [some], draw)
    assert torch.equal(with_crowd.total, without.total)


def test_normalisers_never_divide_by_less_than_one_mask() -> None:
    assert Normalisers(0, 1.8).shared() == Normalisers(1, 1.8)
    assert Normalisers(0, 1.8).shared(ranks=2) == Normalisers(0.5, 0.9)  # one, shared by two averaged gradients
    assert Normalisers(3, 2) + Normalisers(4, 5) == Normalisers(7, 7)


@pytest.mark.parametrize("counts", [(3, 2), (5, 0), (0, 0)])
def test_two_accumulated_batches_equal_one_of_twice_the_size(counts: tuple[int, int]) -> None:
    factors = Factors()
    targets = [target(str(i), count, seed=i) for i, count in enumerate(counts)]
    whole = CRITERION(factors.predictions(), targets, draw)
    totals = CRITERION.normalisers(targets[:1], 9) + CRITERION.normalisers(targets[1:], 9)
    parts = [
        CRITERION(factors.predictions(slice(i, i + 1)), targets[i : i + 1], draw, totals.shared()) for i in range(2)
    ]
    torch.testing.assert_close(parts[0].total + parts[1].total, whole.total, rtol=1e-5, atol=1e-6)
    summed = [a + b for a, b in zip(*(gradients(part, factors) for part in parts), strict=True)]
    for got, expected in zip(summed, gradients(whole, factors), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_two_ranks_equal_one_with_twice_the_batch() -> None:
    factors = Factors()
    targets = [target("a", 1), target("b", 0)]
    whole = gradients(CRITERION(factors.predictions(), targets, draw), factors)
    totals = CRITERION.normalisers(targets, 9).shared(ranks=2)
    ranks = [
        gradients(CRITERION(factors.predictions(slice(i, i + 1)), targets[i : i + 1], draw, totals), factors)
        for i in range(2)
    ]
    for first, second, expected in zip(*ranks, whole, strict=True):
        torch.testing.assert_close((first + second) / 2, expected, rtol=1e-5, atol=1e-6)  # as torch averages them


def test_bf16_logits_are_compared_in_fp32() -> None:
    factors = Factors()
    narrow = [
        QueryPredictions(p.classes.bfloat16(), ProductMasks(p.masks.embeddings.bfloat16(), p.masks.features))
        for p in factors.predictions()
    ]
    with torch.autocast("cpu", torch.bfloat16):
        report = CRITERION(narrow, [target("a", 3), target("b", 2)], draw)
    assert report.total.dtype == torch.float32
    torch.testing.assert_close(
        report.total, CRITERION(factors.predictions(), [target("a", 3), target("b", 2)], draw).total, rtol=2e-2, atol=0
    )


def test_uncertain_points_are_those_nearest_zero_and_the_last_ones() -> None:
    logits = torch.tensor([[5.0, -0.1, 3.0, -4.0, 0.2, 9.0, 9.0, 0.0]])  # six compete for three places
    assert sorted(uncertain_points(logits, 4, 1.5, 0.75)[0].tolist()) == [1, 2, 4, 6, 7]


def test_mask_losses_are_exact_for_large_logits_and_have_the_right_gradient() -> None:
    logits = torch.tensor([[200.0, -200.0, 0.0], [-200.0, 200.0, 30.0]])
    truth = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 1.0]])
    entropy, dice = mask_losses(logits, truth)
    torch.testing.assert_close(entropy, torch.tensor([0.6931472 / 3, 400 / 3]))
    torch.testing.assert_close(dice, torch.tensor([1 - 4 / 4.5, 1 - 3 / 5]))
    x = torch.randn(3, 7, requires_grad=True)
    y = torch.rand(3, 7)
    fast = mask_losses(x, y)
    p = x.sigmoid()
    slow = (
        torch.nn.functional.binary_cross_entropy_with_logits(x, y, reduction="none").mean(1),
        1 - (2 * (p * y).sum(1) + 1) / (p.sum(1) + y.sum(1) + 1),
    )
    for got, expected in zip(fast, slow, strict=True):
        torch.testing.assert_close(got, expected)
        towards = torch.rand(3)
        (a,), (b,) = (torch.autograd.grad(loss, x, towards, retain_graph=True) for loss in (got, expected))
        torch.testing.assert_close(a, b)


def test_pilots_are_noised_masks_and_sometimes_other_labels() -> None:
    pilots = MaskPilots(CLASSES, 4)([target("a", 40, (128, 128)), target("b", 0, (128, 128))], draw)
    assert pilots is not None
    assert pilots.real.sum(1).tolist() == [40, 0]
    assert [level.shape for level in pilots.allowed] == [(2, 40, 16), (2, 40, 64), (2, 40, 256)]
    assert all(level.any(-1).all() for level in pilots.allowed)
    exact = MaskPilots(CLASSES, 4, noise=0.0)([target("a", 40, (128, 128))], draw)
    assert exact is not None
    flipped = (exact.allowed[2][0] ^ pilots.allowed[2][0]).float().mean()
    assert 0 < flipped < 0.1
    assert MaskPilots(CLASSES, 4)([target("b", 0)], draw) is None


def test_chosen_values_are_gathered_and_their_gradient_goes_back() -> None:
    values = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
    picked = chosen(values, torch.tensor([[2, 0], [1, 1]]))
    assert picked.tolist() == [[3.0, 1.0], [5.0, 5.0]]
    (picked * torch.tensor([[1.0, 10.0], [2.0, 3.0]])).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[10.0, 0.0, 1.0], [0.0, 5.0, 0.0]]
