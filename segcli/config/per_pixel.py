"""Configurations of the per-pixel baselines of the MaskFormer paper (arXiv 2107.06278, §4.1).

transformers has no such models: their folders are segcli's own, in MaskFormer's names where it has the same part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from segcli.config.backbones import BackboneConfig, parse_backbone
from segcli.config.checks import check_heads, class_count, numbers, share
from segcli.config.maskformer import DECODER_NUMBERS, PIXEL_NUMBERS, parse_decoder, raw_decoder, same_width
from segcli.config.model_config import ModelConfig, ObjectiveName
from segcli.types import InputSize, MergeRule, Task

_NOTE = "transformers has no such model; segcli reads this folder"
_DECODER = {ours: theirs for ours, theirs in DECODER_NUMBERS.items() if ours != "num_queries"}


@dataclass(frozen=True)
class PerPixelConfig(ModelConfig):
    """PerPixelBaseline: FPN and a 1×1 classifier."""

    feature_size: int = 256
    mask_feature_size: int = 256

    model_type: ClassVar[str] = "per-pixel"
    module: ClassVar[str] = "per_pixel"
    arxiv: ClassVar[str] = "2107.06278"
    title: ClassVar[str] = "PerPixelBaseline"
    image_processor: ClassVar[str | None] = "MaskFormerImageProcessor"
    tasks: ClassVar[tuple[Task, ...]] = ("semantic",)
    rule: ClassVar[MergeRule] = MergeRule(combine="photo")
    size: ClassVar[InputSize] = InputSize()
    sizes: ClassVar[tuple[str, ...]] = ("hidden_dim",)
    small: ClassVar[Mapping[str, int]] = {"hidden_dim": 128}
    objective: ClassVar[ObjectiveName] = "classes"
    loss_weights: ClassVar[Mapping[str, float]] = {"class_weight": 1.0}

    @property
    def num_queries(self) -> int:
        """One a class."""
        return self.num_classes

    @property
    def hidden_dim(self) -> int:
        """Width of what is classified."""
        return self.mask_feature_size

    @classmethod
    def parse(cls, raw: dict[str, Any], where: str) -> Self:
        """Of a parsed `config.json`; CheckpointError for what the code here cannot build."""
        backbone = parse_backbone(raw.get("backbone_config"), where)
        return cls(backbone, class_count(raw, where), **numbers(raw, PIXEL_NUMBERS, where))

    @classmethod
    def new(cls, backbone: BackboneConfig, num_classes: int, sizes: Mapping[str, int]) -> Self:
        """Around a backbone; sizes as a recipe's [model] table names them."""
        values = same_width(sizes)
        values.pop("hidden_dim", None)
        return cls(backbone, num_classes, **values)

    def raw(self) -> dict[str, Any]:
        """The `config.json` but for the names of the classes; `parse` reads it back."""
        return {
            "model_type": self.model_type,
            "note": _NOTE,
            "backbone_config": self.backbone.raw(),
            **{theirs: getattr(self, ours) for ours, theirs in PIXEL_NUMBERS.items()},
            "dtype": "float32",
        }


@dataclass(frozen=True)
class PerPixelPlusConfig(ModelConfig):
    """PerPixelBaseline+: MaskFormer's network with one query a class, whose mask logits are that class's logits."""

    feature_size: int = 256
    mask_feature_size: int = 256
    hidden_dim: int = 256
    decoder_layers: int = 6
    dim_feedforward: int = 2048
    num_attention_heads: int = 8
    dropout: float = 0.1

    model_type: ClassVar[str] = "per-pixel-plus"
    module: ClassVar[str] = "per_pixel"
    arxiv: ClassVar[str] = "2107.06278"
    title: ClassVar[str] = "PerPixelBaseline+"
    image_processor: ClassVar[str | None] = "MaskFormerImageProcessor"
    tasks: ClassVar[tuple[Task, ...]] = ("semantic",)
    rule: ClassVar[MergeRule] = MergeRule(combine="photo")
    size: ClassVar[InputSize] = InputSize()
    sizes: ClassVar[tuple[str, ...]] = ("hidden_dim", "decoder_layers", "dim_feedforward")
    small: ClassVar[Mapping[str, int]] = {"hidden_dim": 128, "decoder_layers": 6, "dim_feedforward": 512}
    objective: ClassVar[ObjectiveName] = "classes"
    loss_weights: ClassVar[Mapping[str, float]] = {"class_weight": 1.0}

    @property
    def num_queries(self) -> int:
        """One a class."""
        return self.num_classes

    @classmethod
    def parse(cls, raw: dict[str, Any], where: str) -> Self:
        """Of a parsed `config.json`; CheckpointError for what the code here cannot build."""
        decoder = parse_decoder(raw, where)
        config = cls(
            backbone=parse_backbone(raw.get("backbone_config"), where),
            num_classes=class_count(raw, where),
            dropout=share(decoder, "dropout", 0.1, where),
            **numbers(raw, PIXEL_NUMBERS, where),
            **numbers(decoder, _DECODER, where),
        )
        check_heads(config.hidden_dim, config.num_attention_heads, where)
        return config

    @classmethod
    def new(cls, backbone: BackboneConfig, num_classes: int, sizes: Mapping[str, int]) -> Self:
        """Around a backbone; sizes as a recipe's [model] table names them."""
        return cls(backbone, num_classes, **same_width(sizes))

    def raw(self) -> dict[str, Any]:
        """The `config.json` but for the names of the classes; `parse` reads it back."""
        return {
            "model_type": self.model_type,
            "note": _NOTE,
            "backbone_config": self.backbone.raw(),
            **{theirs: getattr(self, ours) for ours, theirs in PIXEL_NUMBERS.items()},
            "decoder_config": raw_decoder(self, self.dropout),
            "dtype": "float32",
        }
