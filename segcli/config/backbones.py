"""Backbones, as the `backbone_config` of a Hugging Face `config.json` describes them; read and written here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from segcli.config.checks import check_facts
from segcli.errors import CheckpointError

LEVELS = ["stage1", "stage2", "stage3", "stage4"]


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
    """ResNet with bottleneck blocks.

    dilated: the last stage keeps the stride of the one before (DC5). frozen_norms: norms are constants of the network.
    timm_names: its files have timm's names, not transformers' own. The three are DETR's.
    """

    depths: tuple[int, ...]
    hidden_sizes: tuple[int, ...]
    embedding_size: int = 64
    dilated: bool = False
    frozen_norms: bool = False
    timm_names: bool = False


@dataclass(frozen=True)
class EfficientNetLite0Config:
    """EfficientNet-Lite0; it has no settings."""


BackboneConfig = SwinConfig | ResNetConfig | EfficientNetLite0Config

_SWIN_FACTS = {"hidden_act": "gelu", "qkv_bias": True, "use_absolute_embeddings": False, "num_channels": 3}
_RESNET_FACTS = {
    "hidden_act": "relu",
    "layer_type": "bottleneck",
    "downsample_in_first_stage": False,
    "downsample_in_bottleneck": False,
    "num_channels": 3,
}


def parse_backbone(raw: Any, where: str) -> BackboneConfig:
    """Raises CheckpointError for a backbone, or a setting of one, that is not here."""
    if not isinstance(raw, dict):
        raise CheckpointError(f"{where}: backbone_config is missing")
    kind = raw.get("model_type")
    if kind in ("swin", "maskformer-swin"):  # the second is transformers' own copy for MaskFormer, the same network
        check_facts(raw, _SWIN_FACTS | {"out_features": LEVELS}, where)
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
        check_facts(raw, _RESNET_FACTS | {"out_features": LEVELS}, where)
        return ResNetConfig(
            depths=tuple(raw.get("depths", (3, 4, 6, 3))),
            hidden_sizes=tuple(raw.get("hidden_sizes", (256, 512, 1024, 2048))),
            embedding_size=raw.get("embedding_size", 64),
        )
    if kind == "timm_backbone" and raw.get("backbone") == "tf_efficientnet_lite0":
        check_facts(raw, {"out_indices": [1, 2, 3, 4], "num_channels": 3}, where)
        return EfficientNetLite0Config()
    name = f"timm's {raw.get('backbone')!r}" if kind == "timm_backbone" else repr(kind)
    raise CheckpointError(
        f"{where}: backbone {name} is not supported; "
        "segcli has swin, resnet (bottleneck) and timm's 'tf_efficientnet_lite0'"
    )


def raw_backbone(config: BackboneConfig) -> dict[str, Any]:
    """The `backbone_config`; `parse_backbone` reads it back."""
    match config:
        case SwinConfig():
            return {
                "model_type": "swin",
                "embed_dim": config.embed_dim,
                "depths": list(config.depths),
                "num_heads": list(config.num_heads),
                "window_size": config.window_size,
                "mlp_ratio": config.mlp_ratio,
                "drop_path_rate": config.drop_path_rate,
                "patch_size": config.patch_size,
                "out_features": LEVELS,
            } | _SWIN_FACTS
        case ResNetConfig():
            return {
                "model_type": "resnet",
                "depths": list(config.depths),
                "hidden_sizes": list(config.hidden_sizes),
                "embedding_size": config.embedding_size,
                "out_features": LEVELS,
            } | _RESNET_FACTS
        case EfficientNetLite0Config():
            return {
                "model_type": "timm_backbone",
                "backbone": "tf_efficientnet_lite0",
                "features_only": True,
                "freeze_batch_norm_2d": False,
                "num_channels": 3,
                "out_indices": [1, 2, 3, 4],
                "use_pretrained_backbone": False,
            }
