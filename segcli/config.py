"""Model configurations, read from a Hugging Face `config.json` and checked: what this code cannot build is an error.

Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from segcli.errors import CheckpointError


@dataclass(frozen=True)
class SwinConfig:
    """Swin Transformer backbone."""

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_size: int
    mlp_ratio: float = 4.0
    drop_path_rate: float = 0.0
    patch_size: int = 4


@dataclass(frozen=True)
class ResNetConfig:
    """ResNet with bottleneck blocks."""

    depths: tuple[int, ...]
    hidden_sizes: tuple[int, ...]
    embedding_size: int = 64


@dataclass(frozen=True)
class EfficientNetLite0Config:
    """EfficientNet-Lite0; it has no settings."""


BackboneConfig = SwinConfig | ResNetConfig | EfficientNetLite0Config


@dataclass(frozen=True)
class Mask2FormerConfig:
    """Mask2Former, in the names of its Hugging Face configuration.

    `decoder_layers` counts predictions, as there: one more than there are layers, for the learnable queries' own.
    """

    backbone: BackboneConfig
    num_classes: int
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


# What the architecture here is built for. A checkpoint that says otherwise would load and answer wrongly.
_MODEL_FACTS = {
    "activation_function": "relu",
    "pre_norm": False,
    "enforce_input_projection": False,
    "common_stride": 4,
    "feature_strides": [4, 8, 16, 32],
}
_SWIN_FACTS = {"hidden_act": "gelu", "qkv_bias": True, "use_absolute_embeddings": False, "num_channels": 3}
_RESNET_FACTS = {
    "hidden_act": "relu",
    "layer_type": "bottleneck",
    "downsample_in_first_stage": False,
    "downsample_in_bottleneck": False,
    "num_channels": 3,
}
_LEVELS = ["stage1", "stage2", "stage3", "stage4"]


def parse_config(raw: dict[str, Any], where: str) -> Mask2FormerConfig:
    """The configuration in a parsed `config.json`; `where` names the file in errors.

    Raises CheckpointError for another architecture, an unsupported backbone or an unsupported setting.
    """
    kind = raw.get("model_type")
    if kind != "mask2former":
        raise CheckpointError(f"{where}: model_type is {kind!r}; segcli runs 'mask2former' checkpoints")
    _check_facts(raw, _MODEL_FACTS, where)
    if raw.get("hidden_dim", 256) != raw.get("feature_size", 256):
        raise CheckpointError(f"{where}: hidden_dim and feature_size differ, which segcli does not support")
    names = raw.get("id2label")
    num_classes = len(names) if isinstance(names, dict) and names else raw.get("num_labels")
    if not isinstance(num_classes, int) or num_classes < 1:
        raise CheckpointError(f"{where}: id2label is missing, so the number of classes is unknown")
    integers = (
        "num_queries", "feature_size", "mask_feature_size", "hidden_dim", "encoder_layers", "encoder_feedforward_dim",
        "decoder_layers", "dim_feedforward", "num_attention_heads",
    )  # fmt: skip
    values = {name: _positive(raw, name, where) for name in integers if name in raw}
    config = Mask2FormerConfig(
        backbone=_parse_backbone(raw.get("backbone_config"), where),
        num_classes=num_classes,
        no_object_weight=float(raw.get("no_object_weight", 0.1)),
        **values,
    )
    if config.hidden_dim % config.num_attention_heads:
        raise CheckpointError(
            f"{where}: hidden_dim {config.hidden_dim} is not a multiple of "
            f"num_attention_heads {config.num_attention_heads}"
        )
    return config


def _parse_backbone(raw: Any, where: str) -> BackboneConfig:
    if not isinstance(raw, dict):
        raise CheckpointError(f"{where}: backbone_config is missing")
    kind = raw.get("model_type")
    if kind == "swin":
        _check_facts(raw, _SWIN_FACTS | {"out_features": _LEVELS}, where)
        return SwinConfig(
            embed_dim=raw.get("embed_dim", 96),
            depths=tuple(raw.get("depths", (2, 2, 6, 2))),
            num_heads=tuple(raw.get("num_heads", (3, 6, 12, 24))),
            window_size=raw.get("window_size", 7),
            mlp_ratio=raw.get("mlp_ratio", 4.0),
            drop_path_rate=raw.get("drop_path_rate", 0.1),
            patch_size=raw.get("patch_size", 4),
        )
    if kind == "resnet":
        _check_facts(raw, _RESNET_FACTS | {"out_features": _LEVELS}, where)
        return ResNetConfig(
            depths=tuple(raw.get("depths", (3, 4, 6, 3))),
            hidden_sizes=tuple(raw.get("hidden_sizes", (256, 512, 1024, 2048))),
            embedding_size=raw.get("embedding_size", 64),
        )
    if kind == "timm_backbone" and raw.get("backbone") == "tf_efficientnet_lite0":
        _check_facts(raw, {"out_indices": [1, 2, 3, 4], "num_channels": 3}, where)
        return EfficientNetLite0Config()
    name = f"timm's {raw.get('backbone')!r}" if kind == "timm_backbone" else repr(kind)
    raise CheckpointError(
        f"{where}: backbone {name} is not supported; "
        "segcli has swin, resnet (bottleneck) and timm's 'tf_efficientnet_lite0'"
    )


def _check_facts(raw: dict[str, Any], facts: dict[str, Any], where: str) -> None:
    for name, expected in facts.items():
        found = raw.get(name, expected)
        if (list(found) if isinstance(found, tuple) else found) != expected:
            raise CheckpointError(f"{where}: {name} is {found!r}; segcli supports {expected!r}")


def _positive(raw: dict[str, Any], name: str, where: str) -> int:
    value = raw[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"{where}: {name} is {value!r}, not a positive whole number")
    return value
