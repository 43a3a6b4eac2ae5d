"""EoMT (arXiv 2503.19108): a plain ViT over patches and, in its last blocks, queries; nothing else but upscaling."""

from __future__ import annotations

from segcli.config.eomt import EomtConfig
from segcli.models.backbones.vit import ViT
from segcli.models.heads import MaskClassificationHead
from segcli.models.pixel_decoders.upscaling import UpscalingPixelDecoder
from segcli.models.query_decoders.joint import JointQueryDecoder
from segcli.models.segmenter import Segmenter


def build(config: EomtConfig) -> Segmenter:
    """An untrained EoMT. Padding takes part in everything, as published."""
    vit = config.vit
    first = vit.depth - config.joint_blocks
    return Segmenter(
        backbone=ViT(vit, first),
        pixel_decoder=UpscalingPixelDecoder(vit.dim, config.upscale_blocks),
        query_decoder=JointQueryDecoder(vit, first, config.num_queries, config.annealing),
        head=MaskClassificationHead(vit.dim, config.num_classes, vit.dim, norm=False, gelu=True),
    )
