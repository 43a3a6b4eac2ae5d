"""What each architecture is trained for, and which of a recipe's settings of the loss are its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from segcli.config import Mask2FormerConfig, MaskFormerConfig, ModelConfig, PerPixelConfig, PerPixelPlusConfig
from segcli.engine.recipe import LossTable
from segcli.objective.criterion import Objective, SetCriterion
from segcli.objective.pixels import PixelCriterion
from segcli.objective.terms import AllPixels, AtPoints, MaskTerms


def _points(config: Any, loss: LossTable) -> Objective:
    places = AtPoints(loss.points, loss.oversample, loss.importance)
    terms = MaskTerms(places, loss.mask_weight, loss.dice_weight)
    return SetCriterion(config.num_classes, (terms,), loss.class_weight, loss.no_object_weight)


def _pixels(config: Any, loss: LossTable) -> Objective:
    terms = MaskTerms(AllPixels(), loss.mask_weight, loss.dice_weight, focal=True)
    return SetCriterion(config.num_classes, (terms,), loss.class_weight, loss.no_object_weight)


def _classified(config: Any, loss: LossTable) -> Objective:
    return PixelCriterion(loss.class_weight)


@dataclass(frozen=True)
class Training:
    """objective: of a configuration and a recipe's [loss]. weights: the published ones, where they differ from the
    presets'. pilots: whether attention masks can show queries their objects."""

    objective: Callable[[Any, LossTable], Objective]
    weights: Mapping[str, float] = field(default_factory=dict)
    pilots: bool = False


TRAINING: dict[type[ModelConfig], Training] = {
    Mask2FormerConfig: Training(_points, pilots=True),
    MaskFormerConfig: Training(_pixels, {"class_weight": 1.0, "mask_weight": 20.0, "dice_weight": 1.0}),
    PerPixelConfig: Training(_classified, {"class_weight": 1.0}),
    PerPixelPlusConfig: Training(_classified, {"class_weight": 1.0}),
}


def objective_of(config: ModelConfig, loss: LossTable) -> Objective:
    """What a network of this configuration is trained for."""
    return TRAINING[type(config)].objective(config, loss)
