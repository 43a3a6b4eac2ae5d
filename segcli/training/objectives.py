"""What each architecture is trained for, and which of a recipe's settings of the loss are its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from segcli.config import ModelConfig
from segcli.config.model_config import ObjectiveName
from segcli.errors import UsageError
from segcli.objective.boxes import BoxTerms
from segcli.objective.criterion import Objective, SetCriterion
from segcli.objective.pixels import PixelCriterion
from segcli.objective.terms import AllPixels, AtPoints, FinalMaskTerms, MaskTerms, Terms
from segcli.training.recipe import LossTable

Weights = Mapping[str, float]  # by the keys of [loss]


def _points(config: ModelConfig, loss: LossTable, weights: Weights) -> Objective:
    places = AtPoints(loss.points, loss.oversample, loss.importance)
    return _criterion(config, weights, MaskTerms(places, weights["mask_weight"], weights["dice_weight"]))


def _pixels(config: ModelConfig, loss: LossTable, weights: Weights) -> Objective:
    terms = MaskTerms(AllPixels(), weights["mask_weight"], weights["dice_weight"], focal=True)
    return _criterion(config, weights, terms)


def _boxes(config: ModelConfig, loss: LossTable, weights: Weights) -> Objective:
    terms: list[Terms] = [BoxTerms(weights["box_weight"], weights["giou_weight"])]
    if "panoptic" in config.answers:
        terms.append(FinalMaskTerms(weights["mask_weight"], weights["dice_weight"]))
    return _criterion(config, weights, *terms)


def _criterion(config: ModelConfig, weights: Weights, *terms: Terms) -> Objective:
    return SetCriterion(config.num_classes, terms, weights["class_weight"], weights["no_object_weight"])


def _classes(config: ModelConfig, loss: LossTable, weights: Weights) -> Objective:
    return PixelCriterion(weights["class_weight"])


_OBJECTIVES: dict[ObjectiveName, Callable[[ModelConfig, LossTable, Weights], Objective]] = {
    "points": _points,
    "pixels": _pixels,
    "boxes": _boxes,
    "classes": _classes,
}
PUBLISHED = LossTable(points=12544, oversample=3.0, importance=0.75)


def fill_in(config: ModelConfig, loss: LossTable) -> LossTable:
    """The table with the weights that go with an architecture; those given stay.

    Raises UsageError for a setting that the architecture cannot follow.
    """
    if loss.pilots and not config.pilots:
        raise UsageError(f"[loss] pilots: {config.title} has no attention masks to show objects by; leave it out")
    weights: dict[str, Any] = {name: w for name, w in config.loss_weights.items() if getattr(loss, name) is None}
    return replace(loss, **weights)


def objective_of(config: ModelConfig, loss: LossTable = PUBLISHED) -> Objective:
    """What a network of this configuration is trained for; as in its paper if nothing else is given."""
    loss = fill_in(config, loss)
    return _OBJECTIVES[config.objective](config, loss, {name: getattr(loss, name) for name in config.loss_weights})
