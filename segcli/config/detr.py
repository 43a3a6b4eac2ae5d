"""DETR's configuration (arXiv 2005.12872)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, cast

from segcli.config.backbones import BackboneConfig, parse_backbone
from segcli.config.backbones.efficientnet_lite import EfficientNetLiteConfig
from segcli.config.backbones.resnet import DEPTHS, WIDTHS, ResNetConfig
from segcli.config.checks import check_facts, check_heads, class_count, numbers, settings, share
from segcli.config.model_config import ModelConfig, ObjectiveName
from segcli.errors import CheckpointError, shown
from segcli.types import InputSize, MergeRule, Task

_FACTS = {"activation_function": "relu", "position_embedding_type": "sine", "num_channels": 3}
_NUMBERS = {
    "num_queries": "num_queries",
    "hidden_dim": "d_model",
    "encoder_layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
    "dim_feedforward": "decoder_ffn_dim",
    "num_attention_heads": "decoder_attention_heads",
}
_SAME = {"encoder_ffn_dim": "decoder_ffn_dim", "encoder_attention_heads": "decoder_attention_heads"}
_WITH_MASKS, _BOXES = "DetrForSegmentation", "DetrForObjectDetection"
UNUSED = "N/A"  # what published configurations call an output that no class has


@dataclass(frozen=True)
class DetrConfig(ModelConfig):
    """DETR: a Transformer on the coarsest map, boxes, and masks if it has the mask head of the panoptic checkpoints."""

    masks: bool = False
    num_outputs: int | None = None  # class logits in its files, without "no object"; None: one a class
    # Which of them the classes are, where there are more outputs than classes (COCO's raw ids have holes).
    columns: tuple[int, ...] | None = None
    num_queries: int = 100
    hidden_dim: int = 256
    encoder_layers: int = 6
    decoder_layers: int = 6
    dim_feedforward: int = 2048
    num_attention_heads: int = 8
    dropout: float = 0.1
    no_object_weight: float = 0.1

    model_type: ClassVar[str] = "detr"
    module: ClassVar[str] = "detr"
    arxiv: ClassVar[str] = "2005.12872"
    title: ClassVar[str] = "DETR"
    image_processor: ClassVar[str | None] = "DetrImageProcessor"
    tasks: ClassVar[tuple[Task, ...]] = ("panoptic", "instance", "detect")
    rule: ClassVar[MergeRule] = MergeRule(
        score=0.85, overlap=0.0, mask_min=None, normalise="softmax", min_area=4, instances="queries"
    )
    size: ClassVar[InputSize] = InputSize(divisor=1, rounding="down")
    sizes: ClassVar[tuple[str, ...]] = ("hidden_dim", "encoder_layers", "decoder_layers", "dim_feedforward")
    small: ClassVar[Mapping[str, int]] = {"hidden_dim": 128, "encoder_layers": 3, "dim_feedforward": 512}
    objective: ClassVar[ObjectiveName] = "boxes"
    loss_weights: ClassVar[Mapping[str, float]] = {
        "class_weight": 1.0,
        "box_weight": 5.0,
        "giou_weight": 2.0,
        "mask_weight": 1.0,
        "dice_weight": 1.0,
        "no_object_weight": 0.1,
    }

    @classmethod
    def takes(cls, backbone: BackboneConfig) -> bool:
        """Whether DETR's files have names for a backbone."""
        return isinstance(backbone, ResNetConfig | EfficientNetLiteConfig)

    @property
    def answers(self) -> tuple[Task, ...]:
        """What this network can be asked for."""
        return self.tasks if self.masks else ("detect",)

    @property
    def transformers_class(self) -> str | None:
        """The class of transformers that loads a folder of this model. Around timm's Lite it would drop activations,
        which are part of the norms that it replaces.
        """
        if isinstance(self.backbone, EfficientNetLiteConfig):
            return None
        return _WITH_MASKS if self.masks else _BOXES

    @classmethod
    def parse(cls, raw: dict[str, Any], where: str) -> Self:
        """Of a parsed `config.json`; CheckpointError for what the code here cannot build."""
        check_facts(raw, _FACTS, where)
        for ours, theirs in _SAME.items():
            if raw.get(ours, raw.get(theirs)) != raw.get(theirs, raw.get(ours)):
                raise CheckpointError(f"{where}: {ours} and {theirs} differ, which segcli does not support")
        outputs = class_count(raw, where)
        names = raw.get("id2label") or {}
        if not isinstance(names, dict):
            raise CheckpointError(f"{where}: id2label is {shown(names)}, not a table")
        columns = tuple(i for i in range(outputs) if names.get(str(i)) != UNUSED)
        config = cls(
            backbone=_backbone(raw, where),
            num_classes=len(columns),
            masks=_WITH_MASKS in settings(raw, where).values("architectures", []),
            num_outputs=None if len(columns) == outputs else outputs,
            columns=None if len(columns) == outputs else columns,
            dropout=share(raw, "dropout", 0.1, where),
            no_object_weight=share(raw, "eos_coefficient", 0.1, where),
            **numbers(raw, _NUMBERS, where),
        )
        check_heads(config.hidden_dim, config.num_attention_heads, where)
        return config

    @classmethod
    def new(cls, backbone: BackboneConfig, num_classes: int, sizes: Mapping[str, int]) -> Self:
        """Around a backbone, without masks; sizes as a recipe's [model] table names them."""
        if isinstance(backbone, ResNetConfig):
            backbone = replace(backbone, frozen_norms=True)
        return replace(cls(backbone, num_classes), **cast(Any, sizes))

    def for_task(self, task: Task) -> Self:
        """With the mask head if the task needs it."""
        return replace(self, masks=task != "detect")

    @property
    def outputs(self) -> int:
        """Class logits in its files, without "no object"."""
        return self.num_outputs or self.num_classes

    @property
    def class_columns(self) -> tuple[int, ...]:
        """Which of the outputs each class is."""
        return self.columns or super().class_columns

    def with_classes(self, count: int) -> Self:
        """For another number of classes, one an output."""
        return replace(self, num_classes=count, num_outputs=None, columns=None)

    def with_columns(self, columns: Sequence[int] | None) -> Self:
        """With the order of the classes among the outputs."""
        if columns is None or tuple(columns) == self.class_columns:
            return self
        return replace(self, columns=tuple(columns))

    def fit_classes(self, ids: Sequence[int]) -> Self | None:
        """For classes of these ids, in their order: they are the outputs of these numbers, if there are so many."""
        if len(ids) == self.num_classes:
            return self
        if not ids or min(ids) < 0 or max(ids) >= self.outputs or len(set(ids)) < len(ids):
            return None
        return replace(self, num_classes=len(ids), num_outputs=self.outputs, columns=tuple(ids))

    def raw(self) -> dict[str, Any]:
        """The `config.json` but for the names of the classes; `parse` reads it back."""
        return {
            "architectures": [_WITH_MASKS if self.masks else _BOXES],
            "model_type": self.model_type,
            **_raw_backbone(self.backbone),
            **{theirs: getattr(self, ours) for ours, theirs in _NUMBERS.items()},
            **{theirs: getattr(self, ours) for ours, theirs in _ENCODER.items()},
            "dropout": self.dropout,
            "eos_coefficient": self.no_object_weight,
            "dtype": "float32",
        } | _FACTS


_ENCODER = {"dim_feedforward": "encoder_ffn_dim", "num_attention_heads": "encoder_attention_heads"}


def _backbone(raw: dict[str, Any], where: str) -> BackboneConfig:
    """Of one of three forms: timm's by name, as the main revisions have it; a table of timm's or of transformers'."""
    table = raw.get("backbone_config")
    if not isinstance(table, dict):
        if table is not None or not raw.get("use_timm_backbone", True):
            raise CheckpointError(f"{where}: backbone_config is missing")
        return _timm(raw.get("backbone") or "resnet50", bool(raw.get("dilation", False)), where)
    named = table.get("backbone")
    if table.get("model_type") == "timm_backbone" and isinstance(named, str) and named in DEPTHS:
        check_facts(table, {"num_channels": 3}, where)
        return _timm(named, table.get("output_stride") == 16 or bool(raw.get("dilation")), where)
    # Only the mask head reads more than the last map, and every map is made on the way to it.
    backbone = parse_backbone({name: v for name, v in table.items() if name != "out_features"}, where)
    if isinstance(backbone, ResNetConfig):
        check_facts(raw, {"dilation": False}, where)  # which transformers' own ResNet does not have
        return replace(backbone, frozen_norms=True)
    if isinstance(backbone, EfficientNetLiteConfig):
        return backbone
    raise CheckpointError(
        f"{where}: segcli runs DETR on resnet and {EfficientNetLiteConfig.described}, not on this one"
    )


def _timm(name: Any, dilated: bool, where: str) -> ResNetConfig:
    if not isinstance(name, str) or name not in DEPTHS:
        raise CheckpointError(f"{where}: backbone {shown(name)} is not supported; segcli has {', '.join(DEPTHS)}")
    return ResNetConfig(DEPTHS[name], WIDTHS, dilated=dilated, frozen_norms=True, timm_names=True)


def _raw_backbone(config: BackboneConfig) -> dict[str, Any]:
    """The settings that `_backbone` reads."""
    if isinstance(config, ResNetConfig) and config.timm_names:
        name = next(name for name, depths in DEPTHS.items() if depths == config.depths)
        return {"use_timm_backbone": True, "backbone": name, "backbone_config": None, "dilation": config.dilated}
    return {"use_timm_backbone": False, "backbone_config": config.raw(), "dilation": False}
