"""The per-pixel baselines of the MaskFormer paper (arXiv 2107.06278, §4.1), semantic only.

A pixel's logit of class k is the mask logit of query k, which has that class for certain; so post-processing,
evaluation and views are those of every other model.
"""

from __future__ import annotations

from segcli.config.per_pixel import PerPixelConfig, PerPixelPlusConfig
from segcli.models.backbones import build_backbone
from segcli.models.heads import ClassMaskHead, PixelHead
from segcli.models.pixel_decoders.fpn import FPN
from segcli.models.query_decoders.none import NoQueries
from segcli.models.query_decoders.plain import PlainQueryDecoder
from segcli.models.segmenter import Segmenter


def build(config: PerPixelConfig | PerPixelPlusConfig) -> Segmenter:
    """An untrained network of one of the two."""
    return _per_pixel(config) if isinstance(config, PerPixelConfig) else _per_pixel_plus(config)


def _per_pixel(config: PerPixelConfig) -> Segmenter:
    """An untrained PerPixelBaseline: what MaskFormer has for masks, classified pixel by pixel."""
    backbone = build_backbone(config.backbone)
    return Segmenter(
        backbone=backbone,
        pixel_decoder=FPN(backbone.channels, config.feature_size, config.mask_feature_size),
        query_decoder=NoQueries(),
        head=PixelHead(config.mask_feature_size, config.num_classes),
    )


def _per_pixel_plus(config: PerPixelPlusConfig) -> Segmenter:
    """An untrained PerPixelBaseline+: MaskFormer but for what is asked of a query."""
    backbone = build_backbone(config.backbone)
    channels = backbone.channels
    return Segmenter(
        backbone=backbone,
        pixel_decoder=FPN(channels, config.feature_size, config.mask_feature_size),
        query_decoder=PlainQueryDecoder(
            channels[-1],
            config.hidden_dim,
            config.num_classes,
            config.decoder_layers,
            config.num_attention_heads,
            config.dim_feedforward,
            config.dropout,
        ),
        head=ClassMaskHead(config.hidden_dim, config.mask_feature_size),
    )
