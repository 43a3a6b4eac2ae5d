"""MaskFormer's configuration (arXiv 2107.06278)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from segcli.config.backbones import BackboneConfig, parse_backbone
from segcli.config.checks import check_facts, check_heads, class_count, numbers, share
from segcli.config.model_config import ModelConfig, ObjectiveName
from segcli.errors import CheckpointError, shown
from segcli.types import MASK_TASKS, InputSize, MergeRule, Task

_DECODER_FACTS = {"model_type": "detr", "activation_function": "relu", "position_embedding_type": "sine"}
PIXEL_NUMBERS = {"feature_size": "fpn_feature_size", "mask_feature_size": "mask_feature_size"}
# Published with a Transformer encoder on the coarsest map ("6Enc", panoptic ResNets) or without; transformers has no
# such model, so the field is segcli's own and is written only where there is an encoder.
ENCODER_NUMBERS = {"encoder_layers": "pixel_encoder_layers"}
DECODER_NUMBERS = {
    "num_queries": "num_queries",
    "hidden_dim": "d_model",
    "decoder_layers": "decoder_layers",
    "dim_feedforward": "decoder_ffn_dim",
    "num_attention_heads": "decoder_attention_heads",
}


@dataclass(frozen=True)
class MaskFormerConfig(ModelConfig):
    """MaskFormer: FPN, and DETR's decoder on the coarsest map."""

    num_queries: int = 100
    feature_size: int = 256
    mask_feature_size: int = 256
    encoder_layers: int = 0  # of a Transformer encoder on the coarsest map
    hidden_dim: int = 256
    decoder_layers: int = 6
    dim_feedforward: int = 2048
    num_attention_heads: int = 8
    dropout: float = 0.1
    no_object_weight: float = 0.1

    model_type: ClassVar[str] = "maskformer"
    module: ClassVar[str] = "maskformer"
    title: ClassVar[str] = "MaskFormer"
    arxiv: ClassVar[str] = "2107.06278"
    image_processor: ClassVar[str | None] = "MaskFormerImageProcessor"
    tasks: ClassVar[tuple[Task, ...]] = MASK_TASKS
    rule: ClassVar[MergeRule] = MergeRule(mask_min=None)
    size: ClassVar[InputSize] = InputSize()
    sizes: ClassVar[tuple[str, ...]] = ("hidden_dim", "encoder_layers", "decoder_layers", "dim_feedforward")
    small: ClassVar[Mapping[str, int]] = {"hidden_dim": 128, "decoder_layers": 6, "dim_feedforward": 512}
    objective: ClassVar[ObjectiveName] = "pixels"
    loss_weights: ClassVar[Mapping[str, float]] = {
        "class_weight": 1.0,
        "mask_weight": 20.0,
        "dice_weight": 1.0,
        "no_object_weight": 0.1,
    }

    @property
    def transformers_class(self) -> str | None:
        """The class of transformers that loads a folder of this model."""
        return None if self.encoder_layers else "MaskFormerForInstanceSegmentation"

    @classmethod
    def parse(cls, raw: dict[str, Any], where: str) -> Self:
        """Of a parsed `config.json`; CheckpointError for what the code here cannot build."""
        decoder = parse_decoder(raw, where)
        config = cls(
            backbone=parse_backbone(raw.get("backbone_config"), where),
            num_classes=class_count(raw, where),
            dropout=share(decoder, "dropout", 0.1, where),
            no_object_weight=share(raw, "no_object_weight", 0.1, where),
            **numbers(raw, PIXEL_NUMBERS | ENCODER_NUMBERS, where),
            **numbers(decoder, DECODER_NUMBERS, where),
        )
        check_heads(config.hidden_dim, config.num_attention_heads, where)
        return config

    @classmethod
    def new(cls, backbone: BackboneConfig, num_classes: int, sizes: Mapping[str, int]) -> Self:
        """Around a backbone; sizes as a recipe's [model] table names them."""
        return cls(backbone, num_classes, **same_width(sizes))

    def raw(self) -> dict[str, Any]:
        """The `config.json` but for the names of the classes; `parse` reads it back."""
        encoder = {theirs: getattr(self, ours) for ours, theirs in ENCODER_NUMBERS.items() if getattr(self, ours)}
        return {
            "architectures": [self.transformers_class] if self.transformers_class else [],
            "model_type": self.model_type,
            "backbone_config": self.backbone.raw(),
            **{theirs: getattr(self, ours) for ours, theirs in PIXEL_NUMBERS.items()},
            **encoder,
            "decoder_config": raw_decoder(self, self.dropout),
            "no_object_weight": self.no_object_weight,
            "dtype": "float32",
        }


def parse_decoder(raw: dict[str, Any], where: str) -> dict[str, Any]:
    """The `decoder_config`: the settings of a DETR of which only the decoder is there."""
    decoder = raw.get("decoder_config") or {}
    if not isinstance(decoder, dict):
        raise CheckpointError(f"{where}: decoder_config is {shown(decoder)}, not a table")
    check_facts(decoder, _DECODER_FACTS, where)
    return decoder


def raw_decoder(config: Any, dropout: float) -> dict[str, Any]:
    """The `decoder_config` of a configuration that has the fields of `DECODER_NUMBERS`."""
    heads = {"encoder_attention_heads": config.num_attention_heads}  # where transformers looks for it
    sizes = {theirs: getattr(config, ours) for ours, theirs in DECODER_NUMBERS.items()}
    return _DECODER_FACTS | sizes | heads | {"dropout": dropout}


def same_width(sizes: Mapping[str, int]) -> dict[str, int]:
    """Sizes whose hidden_dim is the width of the pixel decoder and of the mask features too."""
    values = dict(sizes)
    if "hidden_dim" in values:
        values |= dict.fromkeys(("feature_size", "mask_feature_size"), values["hidden_dim"])
    return values
