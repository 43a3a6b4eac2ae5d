"""Weights to start training from, as the original implementations of Mask2Former and MaskFormer set them (arXiv
2112.01527 and 2107.06278, code).

Building a model already gives PyTorch's own values, which the originals keep for the class head, the mask MLP and the
biases of feed-forward parts; here is what differs from them. All draws come from torch's global generator.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from segcli.layers.attention import Attention
from segcli.layers.deformable import DeformableAttention
from segcli.models.heads import BoxHead, ClassMaskHead, MaskClassificationHead, PixelHead
from segcli.models.mask_head import MaskHead
from segcli.models.pixel_decoders.deformable import DeformableLayer, DeformablePixelDecoder
from segcli.models.pixel_decoders.fpn import FPN
from segcli.models.query_decoders.joint import JointQueryDecoder
from segcli.models.query_decoders.masked import MaskedLayer, MaskedQueryDecoder
from segcli.models.query_decoders.plain import PlainQueryDecoder
from segcli.models.segmenter import Segmenter
from segcli.models.transformer import TransformerLayer


@torch.no_grad()
def initialise(model: Segmenter) -> None:
    """Fresh weights for everything but the backbone, in place."""
    for module in model.modules():
        match module:
            case DeformablePixelDecoder():
                _pixel_decoder(module)
            case FPN():
                _pyramid(module)
            case MaskedQueryDecoder():
                _normal(module.query_features, module.query_positions, module.level_embed)
            case JointQueryDecoder():
                _normal(module.query_features)
            case PlainQueryDecoder():
                _normal(module.query_positions)
                if module.input_proj is not None:
                    _caffe(module.input_proj)
            case MaskClassificationHead() | ClassMaskHead():
                _head(module)
            case BoxHead():
                _head(module)
            case MaskHead():
                _mask_head(module)
            case PixelHead():
                nn.init.kaiming_normal_(module.classifier.weight, mode="fan_out", nonlinearity="relu")
                _zero_bias(module.classifier)
    for module in model.modules():  # after their parents, which only know the kind of their weights
        match module:
            case DeformableLayer() | MaskedLayer() | TransformerLayer():
                _xavier(module)
            case nn.GroupNorm():
                module.reset_parameters()
    for module in model.modules():
        match module:
            case DeformableAttention():
                _deformable_attention(module)
            case Attention():
                nn.init.zeros_(module.in_proj_bias)
                nn.init.zeros_(module.out_proj.bias)


def _head(head: nn.Module) -> None:
    for module in head.modules():
        if isinstance(module, nn.Linear | nn.LayerNorm):
            module.reset_parameters()


def _mask_head(head: MaskHead) -> None:
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            _caffe(module)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)


def _normal(*parameters: nn.Parameter) -> None:
    for parameter in parameters:
        nn.init.normal_(parameter)


def _pixel_decoder(decoder: DeformablePixelDecoder) -> None:
    nn.init.normal_(decoder.level_embed)
    for projection in decoder.input_proj.modules():
        if isinstance(projection, nn.Conv2d):
            nn.init.xavier_uniform_(projection.weight)
            _zero_bias(projection)
    for conv in (decoder.lateral.conv, decoder.output.conv, decoder.mask_proj):
        _caffe(conv)


def _pyramid(decoder: FPN) -> None:
    for part in (decoder.input_proj, decoder.stem, decoder.laterals, decoder.outputs, decoder.mask_proj):
        for conv in part.modules() if part is not None else ():
            if isinstance(conv, nn.Conv2d):
                _caffe(conv)


def _caffe(conv: nn.Conv2d) -> None:
    """Caffe2's "XavierFill", which divides by the inputs alone."""
    nn.init.kaiming_uniform_(conv.weight, a=1)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def _zero_bias(conv: nn.Conv2d) -> None:
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)


def _xavier(layer: nn.Module) -> None:
    for module in layer.modules():
        if isinstance(module, nn.Linear | nn.LayerNorm):
            module.reset_parameters()
    for parameter in layer.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)


def _deformable_attention(attention: DeformableAttention) -> None:
    """At first every head looks straight ahead in its own direction, point p at a distance of p pixels."""
    nn.init.zeros_(attention.sampling_offsets.weight)
    nn.init.zeros_(attention.attention_weights.weight)
    nn.init.zeros_(attention.attention_weights.bias)
    nn.init.zeros_(attention.value_proj.bias)
    nn.init.zeros_(attention.output_proj.bias)
    attention.sampling_offsets.bias.copy_(_compass(attention.num_heads, attention.num_levels, attention.num_points))


def _compass(heads: int, levels: int, points: int) -> Tensor:
    """-> [heads · levels · points · 2] offsets in pixels."""
    angle = torch.arange(heads) * (2 * math.pi / heads)
    direction = torch.stack((angle.cos(), angle.sin()), dim=-1)
    direction = direction / direction.abs().amax(-1, keepdim=True)
    steps = torch.arange(1, points + 1)[:, None]
    return (direction[:, None, None] * steps).expand(heads, levels, points, 2).flatten()
