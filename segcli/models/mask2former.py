"""Mask2Former (arXiv 2112.01527): a backbone, deformable attention over three levels, masked attention, a mask head."""

from __future__ import annotations

from torch import nn

from segcli.config import BackboneConfig, EfficientNetLite0Config, Mask2FormerConfig, ResNetConfig, SwinConfig
from segcli.models.backbones.efficientnet_lite import EfficientNetLite0
from segcli.models.backbones.resnet import ResNet
from segcli.models.backbones.swin import Swin
from segcli.models.heads import MaskClassificationHead
from segcli.models.pixel_decoders.deformable import DeformablePixelDecoder
from segcli.models.query_decoders.masked import MaskedQueryDecoder
from segcli.models.segmenter import Segmenter


def build_backbone(config: BackboneConfig) -> nn.Module:
    """The backbone of a configuration; every backbone has `channels`, fine to coarse."""
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
            return ResNet(list(config.depths), list(config.hidden_sizes), config.embedding_size)
        case EfficientNetLite0Config():
            return EfficientNetLite0()


def build_mask2former(config: Mask2FormerConfig) -> Segmenter:
    """An untrained Mask2Former."""
    backbone = build_backbone(config.backbone)
    channels: list[int] = backbone.channels  # type: ignore[assignment]  # plain attribute of every backbone
    return Segmenter(
        backbone=backbone,
        pixel_decoder=DeformablePixelDecoder(
            channels,
            config.feature_size,
            config.mask_feature_size,
            config.encoder_layers,
            config.num_attention_heads,
            config.encoder_feedforward_dim,
        ),
        query_decoder=MaskedQueryDecoder(
            config.hidden_dim,
            config.num_queries,
            config.decoder_layers - 1,
            config.num_attention_heads,
            config.dim_feedforward,
        ),
        head=MaskClassificationHead(config.hidden_dim, config.num_classes, config.mask_feature_size),
    )
