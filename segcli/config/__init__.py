"""Model configurations, read from a Hugging Face `config.json` and checked: what this code cannot build is an error.

One class an architecture, in the table `MODEL_TYPES`. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, cast

from segcli.config.backbones import BackboneConfig, EfficientNetLite0Config, ResNetConfig, SwinConfig
from segcli.config.detr import DetrConfig
from segcli.config.mask2former import Mask2FormerConfig
from segcli.config.maskformer import MaskFormerConfig
from segcli.config.per_pixel import PerPixelConfig, PerPixelPlusConfig
from segcli.errors import CheckpointError
from segcli.types import Task

ModelConfig = Mask2FormerConfig | MaskFormerConfig | DetrConfig | PerPixelConfig | PerPixelPlusConfig
_KINDS: tuple[type[ModelConfig], ...] = (
    Mask2FormerConfig,
    MaskFormerConfig,
    DetrConfig,
    PerPixelConfig,
    PerPixelPlusConfig,
)
# By the `model_type` of config.json, which is also the name of the architecture on the command line.
MODEL_TYPES: dict[str, type[ModelConfig]] = {kind.model_type: kind for kind in _KINDS}

__all__ = [
    "MODEL_TYPES",
    "BackboneConfig",
    "DetrConfig",
    "EfficientNetLite0Config",
    "Mask2FormerConfig",
    "MaskFormerConfig",
    "ModelConfig",
    "PerPixelConfig",
    "PerPixelPlusConfig",
    "ResNetConfig",
    "SwinConfig",
    "answers",
    "class_columns",
    "fit_classes",
    "for_task",
    "parse_config",
    "with_classes",
]


def parse_config(raw: dict[str, Any], where: str) -> ModelConfig:
    """The configuration in a parsed `config.json`; `where` names the file in errors.

    Raises CheckpointError for another architecture, an unsupported backbone or an unsupported setting.
    """
    kind = raw.get("model_type")
    if kind not in MODEL_TYPES:
        known = ", ".join(repr(name) for name in MODEL_TYPES)
        raise CheckpointError(f"{where}: model_type is {kind!r}; segcli runs {known} checkpoints")
    return MODEL_TYPES[kind].parse(raw, where)


def answers(config: ModelConfig) -> tuple[Task, ...]:
    """What one network can be asked for, of the tasks of its architecture."""
    own: tuple[Task, ...] = getattr(config, "answers", config.tasks)
    return own


def for_task(config: ModelConfig, task: Task) -> ModelConfig:
    """With the parts that answering a task needs."""
    extended: Callable[[Task], ModelConfig] | None = getattr(config, "for_task", None)
    return extended(task) if extended else config


def class_columns(config: ModelConfig) -> tuple[int, ...]:
    """Which of the class logits in a model's files each class is; the others, if any, are no class."""
    columns: tuple[int, ...] | None = getattr(config, "columns", None)
    return columns or tuple(range(config.num_classes))


def fit_classes(config: ModelConfig, ids: Sequence[int]) -> ModelConfig | None:
    """The configuration for classes known by their ids; None if it has no place for them.

    There may be fewer than outputs where an architecture numbers its outputs by ids.
    """
    if len(ids) == config.num_classes:
        return config
    of_ids: Callable[[tuple[int, ...]], ModelConfig | None] | None = getattr(config, "of_ids", None)
    return of_ids(tuple(ids)) if of_ids else None


def with_classes(config: ModelConfig, count: int) -> ModelConfig:
    """For another number of classes, one an output."""
    plain = {"num_outputs": None, "columns": None}
    known = {field.name for field in fields(config)}
    changes = {"num_classes": count} | {name: value for name, value in plain.items() if name in known}
    changed: ModelConfig = replace(cast(Any, config), **changes)
    return changed
