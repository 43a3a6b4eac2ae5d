"""Backbones; every one has `channels`, fine to coarse, and gives one map a level."""

from __future__ import annotations

from torch import nn

from segcli.config import BackboneConfig, EfficientNetLite0Config, ResNetConfig, SwinConfig
from segcli.models.backbones.efficientnet_lite import EfficientNetLite0
from segcli.models.backbones.resnet import ResNet
from segcli.models.backbones.swin import Swin


def build_backbone(config: BackboneConfig) -> nn.Module:
    """The untrained backbone of a configuration."""
    match config:
        case SwinConfig():
            return Swin(
                config.embed_dim,
                list(config.depths),
                list(config.num_heads),
                config.window_size,
                config.mlp_ratio,
                config.drop_path_rate,
                config.patch_size,
            )
        case ResNetConfig():
            return ResNet(
                list(config.depths),
                list(config.hidden_sizes),
                config.embedding_size,
                config.dilated,
                config.frozen_norms,
            )
        case EfficientNetLite0Config():
            return EfficientNetLite0()


def channels_of(backbone: nn.Module) -> list[int]:
    """Channels of its maps, fine to coarse."""
    channels: list[int] = backbone.channels  # type: ignore[assignment]  # plain attribute of every backbone
    return channels
