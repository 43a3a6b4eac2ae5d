"""DETR (arXiv 2005.12872): a backbone, a Transformer on its coarsest map, boxes; masks by convolutions."""

from __future__ import annotations

from segcli.config.detr import DetrConfig
from segcli.models.backbones import build_backbone
from segcli.models.heads import BoxHead
from segcli.models.mask_head import MaskHead
from segcli.models.pixel_decoders.encoded import EncodedMap
from segcli.models.query_decoders.plain import PlainQueryDecoder
from segcli.models.segmenter import Segmenter
from segcli.models.transformer import TransformerEncoder


def build(config: DetrConfig) -> Segmenter:
    """An untrained DETR. Padding is masked in attention and in positions, as published."""
    backbone = build_backbone(config.backbone)
    channels = backbone.channels
    dim, heads = config.hidden_dim, config.num_attention_heads
    encoder = TransformerEncoder(dim, config.encoder_layers, heads, config.dim_feedforward, config.dropout)
    return Segmenter(
        backbone=backbone,
        pixel_decoder=EncodedMap(channels[-1], dim, encoder),
        query_decoder=PlainQueryDecoder(
            dim,
            dim,
            config.num_queries,
            config.decoder_layers,
            heads,
            config.dim_feedforward,
            config.dropout,
            mask_padding=True,
        ),
        head=BoxHead(
            dim,
            config.num_outputs or config.num_classes,
            config.columns,
            MaskHead(dim, heads, channels) if config.masks else None,
        ),
    )
