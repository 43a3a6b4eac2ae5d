"""The loss equals transformers' `Mask2FormerLoss`: term by term at the same points, on average at any."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from segcli.objective.criterion import LossReport, SetCriterion
from segcli.objective.matcher import assign
from segcli.objective.terms import AtPoints, MaskTerms
from segcli.types import Target
from tests.objective.scenes import CLASSES, Factors, target

transformers = pytest.importorskip("transformers")
modeling = pytest.importorskip("transformers.models.mask2former.modeling_mask2former")

LAYERS = 10
TERMS = {"class": "loss_cross_entropy", "mask": "loss_mask", "dice": "loss_dice"}


def criterion_at(num_points: int) -> SetCriterion:
    return SetCriterion(CLASSES, (MaskTerms(AtPoints(num_points)),))


def their_loss(num_points: int) -> Any:
    config = transformers.Mask2FormerConfig(num_labels=CLASSES, train_num_points=num_points)
    weights = {"loss_cross_entropy": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}
    return modeling.Mask2FormerLoss(config, weights)


def theirs(criterion: Any, factors: Factors, targets: list[Target]) -> dict[str, Tensor]:
    """Terms of all layers in segcli's order -> [L] each, differentiable."""
    layers = [
        {"masks_queries_logits": p.masks.dense(), "class_queries_logits": p.classes} for p in factors.predictions()
    ]
    masks, labels = [t.masks.float() for t in targets], [t.labels for t in targets]
    terms = criterion(**layers[-1], mask_labels=masks, class_labels=labels, auxiliary_predictions=layers[:-1])
    names = [f"_{i}" for i in range(LAYERS - 1)] + [""]
    return {ours: torch.stack([terms[name + suffix] for suffix in names]) for ours, name in TERMS.items()}


def scene(*counts: int) -> tuple[Factors, list[Target]]:
    factors = Factors(LAYERS, len(counts), queries=12, side=(32, 40))
    return factors, [target(str(i), count, (128, 160), seed=i) for i, count in enumerate(counts)]


@pytest.mark.parametrize("counts", [(4, 6), (3, 0), (0, 0), (15, 1)])
@pytest.mark.parametrize("num_points", [300, 2000])  # fewer and more than there are cells
def test_every_term_and_gradient_at_the_same_points(
    counts: tuple[int, int], num_points: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    factors, targets = scene(*counts)
    points = {
        (t.image_id, purpose): torch.rand(count, 2)
        for t in targets
        for purpose, count in (
            ("match-points", num_points),
            ("loss-points", 3 * num_points + num_points - num_points * 3 // 4),
        )
    }
    ours = criterion_at(num_points)(
        factors.predictions(), targets, lambda image_id, purpose, _: points[image_id, purpose]
    )
    images = iter([t.image_id for t in targets] * LAYERS)

    def rand(*shape: int, **_: Any) -> Tensor:
        if shape == (1, num_points, 2):  # for matching one image
            return points[next(images), "match-points"].unsqueeze(0)
        drawn = [points[t.image_id, "loss-points"].expand(min(len(t.labels), 12), -1, 2) for t in targets]
        drawn = torch.cat(drawn)  # one row a matched mask, in the order of the images
        part = slice(0, 3 * num_points) if shape[1] == 3 * num_points else slice(3 * num_points, None)
        return drawn[:, part].contiguous()

    with monkeypatch.context() as patch:
        patch.setattr(torch, "rand", rand)
        reference = theirs(their_loss(num_points), factors, targets)
    for name, expected in reference.items():
        torch.testing.assert_close(ours.terms[name], expected.detach(), rtol=0, atol=1e-4)
    total = 2 * reference["class"].sum() + 5 * reference["mask"].sum() + 5 * reference["dice"].sum()
    torch.testing.assert_close(ours.total, total, rtol=1e-5, atol=1e-4)
    for leaf, got in zip(factors.leaves, torch.autograd.grad(ours.total, factors.leaves), strict=True):
        (expected,) = torch.autograd.grad(total, leaf, retain_graph=True)
        assert float((got - expected).abs().max()) <= 1e-4 * float(expected.abs().max()) + 1e-7


@pytest.mark.parametrize("draws", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_equal_on_average_over_free_points(draws: int) -> None:
    torch.manual_seed(0)
    factors, targets = scene(4, 6)
    criterion, reference = criterion_at(500), their_loss(500)
    mine: dict[str, list[Tensor]] = {name: [] for name in TERMS}
    other: dict[str, list[Tensor]] = {name: [] for name in TERMS}
    with torch.no_grad():
        for _ in range(draws):
            report: LossReport = criterion(factors.predictions(), targets, lambda _, __, shape: torch.rand(shape))
            expected = theirs(reference, factors, targets)
            for name in TERMS:
                mine[name].append(report.terms[name].sum())
                other[name].append(expected[name].sum())
    for name in TERMS:
        a, b = torch.stack(mine[name]), torch.stack(other[name])
        standard_error = ((a.var() + b.var()) / draws).sqrt()
        assert abs(a.mean() - b.mean()) <= 3 * standard_error + 1e-6, name


@pytest.mark.parametrize("num_points", [300, 2000])
def test_matching_at_the_same_points(num_points: int, monkeypatch: pytest.MonkeyPatch) -> None:
    factors, targets = scene(4, 6)
    points = [torch.rand(num_points, 2) for _ in targets]
    predictions = factors.predictions()[0]
    places = {target.image_id: at for target, at in zip(targets, points, strict=True)}
    costs = criterion_at(num_points).costs(
        predictions, targets, lambda image, what, shape: places[image] if what == "match-points" else torch.rand(shape)
    )
    matches = [assign(torch.stack(list(terms.values())).sum(0)) for terms in costs]
    remaining = iter(points)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "rand", lambda *_, **__: next(remaining).unsqueeze(0))
        reference = modeling.Mask2FormerHungarianMatcher(2.0, 5.0, 5.0, num_points)(
            predictions.masks.dense(), predictions.classes, [t.masks for t in targets], [t.labels for t in targets]
        )
    for match, (queries, objects) in zip(matches, reference, strict=True):
        assert match.queries.tolist() == queries.tolist()
        assert match.targets.tolist() == objects.tolist()
