"""A network that answers as its teacher does has nothing to learn from it; one that does not comes nearer."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from segcli.layers.masks import DenseMasks
from segcli.objective.distillation import SCORE, Distillation, SoftTargets, soft_mask_losses, soft_targets
from segcli.types import QueryPredictions
from tests.objective.scenes import CLASSES, Factors

SAME = torch.arange(CLASSES + 1)
DISTANCE = Distillation()


def loss(student: QueryPredictions, teacher: QueryPredictions, columns: Tensor = SAME, most: int = 9) -> Tensor:
    return DISTANCE(student, soft_targets(teacher, columns, most), 3.0)


def test_an_equal_answer_is_the_least_distance() -> None:
    factors = Factors(layers=1)
    (student,) = factors.predictions()
    total = loss(student, student)
    assert abs(total.item()) < 1e-5
    assert all(grad.abs().max() < 1e-6 for grad in torch.autograd.grad(total, factors.leaves))
    generator = torch.Generator().manual_seed(5)
    for leaf in factors.leaves:
        moved = leaf + 0.1 * torch.randn(leaf.shape, generator=generator)
        others = Factors(layers=1)
        setattr(others, next(n for n, v in vars(factors).items() if v is leaf), moved)
        assert loss(others.predictions()[0], student) > total + 1e-4


def test_a_step_down_its_gradient_comes_nearer() -> None:
    teacher, factors = Factors(layers=1).predictions()[0], Factors(layers=1)
    with torch.no_grad():
        for leaf in factors.leaves:
            leaf += 0.3
    before = loss(factors.predictions()[0], teacher)
    grads = torch.autograd.grad(before, factors.leaves)
    with torch.no_grad():
        for leaf, grad in zip(factors.leaves, grads, strict=True):
            leaf -= 1e-2 * grad
    assert loss(factors.predictions()[0], teacher) < before


def test_the_order_of_queries_and_of_classes_is_nothing() -> None:
    """The student's queries are the teacher's in another order, and so are its classes."""
    (teacher,) = Factors(layers=1).predictions()
    queries = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    columns = torch.tensor([3, 1, 0, 4, 2, CLASSES])
    assert teacher.masks is not None
    masks = DenseMasks(teacher.masks.dense()[:, queries])
    student = QueryPredictions(teacher.classes[:, queries][..., columns], masks)
    assert loss(student, teacher, columns).abs().item() < 1e-5
    assert loss(student, teacher).item() > 1


def test_what_is_no_object_is_not_taught() -> None:
    (student,) = Factors(layers=1).predictions()
    classes = torch.zeros_like(student.classes)
    classes[..., -1] = 20
    assert len(soft_targets(replace(student, classes=classes), SAME, 9)[0].scores) == 0
    total = loss(student, replace(student, classes=classes))
    assert float(total.detach()) == 0
    total.backward()
    classes[0, 4, 2] = 20
    (one, none) = soft_targets(replace(student, classes=classes), SAME, 9)
    assert (len(one.scores), len(none.scores)) == (1, 0)
    assert one.scores[0] == pytest.approx(0.5, abs=1e-4)
    assert len(soft_targets(student, SAME, 4)[0].scores) == 4
    assert (soft_targets(student, SAME, 4)[0].scores >= SCORE).all()


def test_parts_of_a_batch_add_up_and_coarser_masks_will_do() -> None:
    teachers, students = Factors(layers=1), Factors(layers=1)
    with torch.no_grad():
        teachers.features += 0.5
    parts = [
        loss(students.predictions(part)[0], teachers.predictions(part)[0])
        for part in (slice(0, 1), slice(1, 2), slice(None))
    ]
    torch.testing.assert_close(parts[0] + parts[1], parts[2])
    (student,), (teacher,) = students.predictions(), teachers.predictions()
    assert teacher.masks is not None
    coarse = replace(teacher, masks=DenseMasks(teacher.masks.resized((8, 12))))
    assert loss(student, coarse).isfinite()


def test_soft_masks_are_least_at_the_truth_itself() -> None:
    logits = torch.linspace(-3, 3, 12).view(2, 6).requires_grad_()
    for part in soft_mask_losses(logits, logits.detach().sigmoid()):
        assert part.abs().max() < 1e-6
        assert torch.autograd.grad(part.sum(), logits, retain_graph=True)[0].abs().max() < 1e-6
    for hard in soft_mask_losses(torch.full((1, 4), -90.0), torch.ones(1, 4)):
        assert hard.isfinite().all()


@pytest.mark.parametrize(
    ("weights", "wanted"),
    [
        ((1, 0, 0), 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)),  # of classes 1/2, 1/2 from 9/10, 1/10
        ((0, 1, 0), math.log(2) / 2),  # two cells: one sure, one where the answer is a half of the truth 1
        ((0, 0, 1), 1 - (2 * 0.5 + 1) / (0.25 + 1 + 1)),
    ],
)
def test_each_part_by_hand(weights: tuple[float, float, float], wanted: float) -> None:
    """One query of probability 9/10, masks 0, 1/2 in two cells; the teacher says 1/2, 0 and 1, with a score of 1/2."""
    student = QueryPredictions(torch.tensor([[[0.9, 0.1]]]).log(), DenseMasks(torch.tensor([[[[-50.0, 0.0]]]])))
    target = SoftTargets(torch.tensor([0.5]), torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[[0.0, 1.0]]]))
    assert Distillation(*weights)(student, [target], 2.0).item() == pytest.approx(0.5 / 2 * wanted, abs=1e-6)
