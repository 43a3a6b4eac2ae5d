"""Mask2Former (arXiv 2112.01527): a backbone, deformable attention over three levels, masked attention, a mask head."""

from __future__ import annotations

from segcli.config.mask2former import Mask2FormerConfig
from segcli.models.backbones import build_backbone
from segcli.models.heads import MaskClassificationHead
from segcli.models.pixel_decoders.deformable import DeformablePixelDecoder
from segcli.models.query_decoders.masked import MaskedQueryDecoder
from segcli.models.segmenter import Segmenter


def build(config: Mask2FormerConfig) -> Segmenter:
    """An untrained Mask2Former."""
    backbone = build_backbone(config.backbone)
    return Segmenter(
        backbone=backbone,
        pixel_decoder=DeformablePixelDecoder(
            backbone.channels,
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
