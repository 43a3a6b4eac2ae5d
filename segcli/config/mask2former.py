"""Mask2Former's configuration (arXiv 2112.01527)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from segcli.config.backbones import BackboneConfig, parse_backbone
from segcli.config.checks import check_facts, check_heads, class_count, numbers, share
from segcli.config.model_config import ModelConfig, ObjectiveName
from segcli.errors import CheckpointError
from segcli.types import MASK_TASKS, InputSize, MergeRule, Task

# What the architecture here is built for.
_FACTS = {
    "activation_function": "relu",
    "pre_norm": False,
    "enforce_input_projection": False,
    "common_stride": 4,
    "feature_strides": [4, 8, 16, 32],
}
_NUMBERS = (
    "num_queries", "feature_size", "mask_feature_size", "hidden_dim", "encoder_layers", "encoder_feedforward_dim",
    "decoder_layers", "dim_feedforward", "num_attention_heads",
)  # fmt: skip


@dataclass(frozen=True)
class Mask2FormerConfig(ModelConfig):
    """Mask2Former, in the names of its Hugging Face configuration.

    `decoder_layers` counts predictions, as there: one more than there are layers, for the learnable queries' own.
    """

    num_queries: int = 100
    feature_size: int = 256
    mask_feature_size: int = 256
    hidden_dim: int = 256
    encoder_layers: int = 6
    encoder_feedforward_dim: int = 1024
    decoder_layers: int = 10
    dim_feedforward: int = 2048
    num_attention_heads: int = 8
    no_object_weight: float = 0.1

    model_type: ClassVar[str] = "mask2former"
    module: ClassVar[str] = "mask2former"
    title: ClassVar[str] = "Mask2Former"
    arxiv: ClassVar[str] = "2112.01527"
    image_processor: ClassVar[str | None] = "Mask2FormerImageProcessor"
    tasks: ClassVar[tuple[Task, ...]] = MASK_TASKS
    rule: ClassVar[MergeRule] = MergeRule()
    size: ClassVar[InputSize] = InputSize()
    sizes: ClassVar[tuple[str, ...]] = (
        "hidden_dim", "encoder_layers", "encoder_feedforward_dim", "decoder_layers", "dim_feedforward",
    )  # fmt: skip
    small: ClassVar[Mapping[str, int]] = {
        "hidden_dim": 128,
        "encoder_layers": 3,
        "encoder_feedforward_dim": 512,
        "decoder_layers": 6,
        "dim_feedforward": 512,
    }
    objective: ClassVar[ObjectiveName] = "points"
    loss_weights: ClassVar[Mapping[str, float]] = {
        "class_weight": 2.0,
        "mask_weight": 5.0,
        "dice_weight": 5.0,
        "no_object_weight": 0.1,
    }
    pilots: ClassVar[bool] = True

    @property
    def transformers_class(self) -> str:
        """The class of transformers that loads a folder of this model."""
        return "Mask2FormerForUniversalSegmentation"

    @classmethod
    def parse(cls, raw: dict[str, Any], where: str) -> Self:
        """Of a parsed `config.json`; CheckpointError for what the code here cannot build."""
        check_facts(raw, _FACTS, where)
        if raw.get("hidden_dim", 256) != raw.get("feature_size", 256):
            raise CheckpointError(f"{where}: hidden_dim and feature_size differ, which segcli does not support")
        num_classes = class_count(raw, where)
        values = numbers(raw, {name: name for name in _NUMBERS}, where)
        config = cls(
            backbone=parse_backbone(raw.get("backbone_config"), where),
            num_classes=num_classes,
            no_object_weight=share(raw, "no_object_weight", 0.1, where),
            **values,
        )
        check_heads(config.hidden_dim, config.num_attention_heads, where)
        return config

    @classmethod
    def new(cls, backbone: BackboneConfig, num_classes: int, sizes: Mapping[str, int]) -> Self:
        """Around a backbone; sizes as a recipe's [model] table names them, decoder_layers without the queries' own."""
        values = dict(sizes)
        if "hidden_dim" in values:
            values |= dict.fromkeys(("feature_size", "mask_feature_size"), values["hidden_dim"])
        if "decoder_layers" in values:
            values["decoder_layers"] += 1
        return cls(backbone, num_classes, **values)

    def raw(self) -> dict[str, Any]:
        """The `config.json` but for the names of the classes; `parse` reads it back."""
        return {
            "architectures": [self.transformers_class],
            "model_type": self.model_type,
            "backbone_config": self.backbone.raw(),
            **{name: getattr(self, name) for name in _NUMBERS},
            "no_object_weight": self.no_object_weight,
            "dropout": 0.0,
            "dtype": "float32",
        } | _FACTS
