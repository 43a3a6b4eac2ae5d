"""What each architecture is trained for, and which of a recipe's settings of the loss are its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from segcli.config import (
    DetrConfig,
    Mask2FormerConfig,
    MaskFormerConfig,
    ModelConfig,
    PerPixelConfig,
    PerPixelPlusConfig,
)
from segcli.errors import UsageError
from segcli.objective.boxes import BoxTerms
from segcli.objective.criterion import Objective, SetCriterion
from segcli.objective.pixels import PixelCriterion
from segcli.objective.terms import AllPixels, AtPoints, FinalMaskTerms, MaskTerms, Places, Terms
from segcli.training.recipe import LossTable


def _points(config: Any, loss: LossTable) -> Objective:
    return _matched(config, loss, AtPoints(loss.points, loss.oversample, loss.importance), focal=False)


def _pixels(config: Any, loss: LossTable) -> Objective:
    return _matched(config, loss, AllPixels(), focal=True)


def _matched(config: Any, loss: LossTable, places: Places, focal: bool) -> Objective:
    assert None not in (loss.class_weight, loss.mask_weight, loss.dice_weight, loss.no_object_weight)
    terms = MaskTerms(places, loss.mask_weight, loss.dice_weight, focal)  # type: ignore[arg-type]  # filled in
    return SetCriterion(config.num_classes, (terms,), loss.class_weight, loss.no_object_weight)  # type: ignore[arg-type]


def _boxes(config: Any, loss: LossTable) -> Objective:
    assert None not in (loss.class_weight, loss.box_weight, loss.giou_weight, loss.no_object_weight)
    terms: list[Terms] = [BoxTerms(loss.box_weight, loss.giou_weight)]  # type: ignore[arg-type]  # filled in
    if config.masks:
        terms.append(FinalMaskTerms(loss.mask_weight, loss.dice_weight))  # type: ignore[arg-type]
    return SetCriterion(config.num_classes, tuple(terms), loss.class_weight, loss.no_object_weight)  # type: ignore[arg-type]


def _classified(config: Any, loss: LossTable) -> Objective:
    assert loss.class_weight is not None
    return PixelCriterion(loss.class_weight)


@dataclass(frozen=True)
class Training:
    """objective: of a configuration and a recipe's [loss]. weights: the published ones, which hold where the recipe
    says nothing. pilots: whether there are attention masks that can show queries their objects."""

    objective: Callable[[Any, LossTable], Objective]
    weights: Mapping[str, float]
    pilots: bool = False


TRAINING: dict[type[ModelConfig], Training] = {
    Mask2FormerConfig: Training(
        _points, {"class_weight": 2.0, "mask_weight": 5.0, "dice_weight": 5.0, "no_object_weight": 0.1}, pilots=True
    ),
    MaskFormerConfig: Training(
        _pixels, {"class_weight": 1.0, "mask_weight": 20.0, "dice_weight": 1.0, "no_object_weight": 0.1}
    ),
    DetrConfig: Training(
        _boxes,
        {
            "class_weight": 1.0,
            "box_weight": 5.0,
            "giou_weight": 2.0,
            "mask_weight": 1.0,
            "dice_weight": 1.0,
            "no_object_weight": 0.1,
        },
    ),
    PerPixelConfig: Training(_classified, {"class_weight": 1.0}),
    PerPixelPlusConfig: Training(_classified, {"class_weight": 1.0}),
}
PUBLISHED = LossTable(points=12544, oversample=3.0, importance=0.75)


def fill_in(config: ModelConfig, loss: LossTable) -> LossTable:
    """The table with the weights that go with an architecture; those given stay.

    Raises UsageError for a setting that the architecture cannot follow.
    """
    training = TRAINING[type(config)]
    if loss.pilots and not training.pilots:
        raise UsageError(f"[loss] pilots: {config.title} has no attention masks to show objects by; leave it out")
    weights: dict[str, Any] = {name: w for name, w in training.weights.items() if getattr(loss, name) is None}
    return replace(loss, **weights)


def objective_of(config: ModelConfig, loss: LossTable = PUBLISHED) -> Objective:
    """What a network of this configuration is trained for; as in its paper if nothing else is given."""
    return TRAINING[type(config)].objective(config, fill_in(config, loss))
