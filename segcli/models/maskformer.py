"""MaskFormer (arXiv 2107.06278): a backbone, FPN, DETR's decoder on the coarsest map, a mask head."""

from __future__ import annotations

from segcli.config.maskformer import MaskFormerConfig
from segcli.models.backbones import build_backbone
from segcli.models.heads import MaskClassificationHead
from segcli.models.pixel_decoders.fpn import FPN
from segcli.models.query_decoders.plain import PlainQueryDecoder
from segcli.models.segmenter import Segmenter
from segcli.models.transformer import TransformerEncoder


def build(config: MaskFormerConfig) -> Segmenter:
    """An untrained MaskFormer. Padding takes part in everything, as published."""
    backbone = build_backbone(config.backbone)
    channels = backbone.channels
    encoder = None
    if config.encoder_layers:
        encoder = TransformerEncoder(
            config.feature_size,
            config.encoder_layers,
            config.num_attention_heads,
            config.dim_feedforward,
            config.dropout,
        )
    return Segmenter(
        backbone=backbone,
        pixel_decoder=FPN(channels, config.feature_size, config.mask_feature_size, encoder),
        query_decoder=PlainQueryDecoder(
            config.feature_size if encoder else channels[-1],
            config.hidden_dim,
            config.num_queries,
            config.decoder_layers,
            config.num_attention_heads,
            config.dim_feedforward,
            config.dropout,
        ),
        head=MaskClassificationHead(config.hidden_dim, config.num_classes, config.mask_feature_size),
    )
