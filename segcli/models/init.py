"""Weights to start training from, as the original implementation of Mask2Former sets them (arXiv 2112.01527, code).

Building a model already gives PyTorch's own values, which the original keeps for the class head, the mask MLP and the
biases of feed-forward parts; here is what differs from them. All draws come from torch's global generator.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from segcli.layers.attention import Attention
from segcli.layers.deformable import DeformableAttention
from segcli.models.heads import MaskClassificationHead
from segcli.models.pixel_decoders.deformable import DeformableLayer, DeformablePixelDecoder
from segcli.models.query_decoders.masked import MaskedLayer, MaskedQueryDecoder
from segcli.models.segmenter import Segmenter


@torch.no_grad()
def initialise(model: Segmenter) -> None:
    """Fresh weights for everything but the backbone, in place."""
    for module in model.modules():
        match module:
            case DeformablePixelDecoder():
                _pixel_decoder(module)
            case MaskedQueryDecoder():
                initialise_queries(module)
            case MaskClassificationHead():
                initialise_head(module)
    for module in model.modules():  # after their parents, which only know the kind of their weights
        match module:
            case DeformableLayer() | MaskedLayer():
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


@torch.no_grad()
def initialise_head(head: MaskClassificationHead) -> None:
    """Fresh class and mask outputs, for instance for other classes."""
    head.norm.reset_parameters()
    for module in head.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()


@torch.no_grad()
def initialise_queries(decoder: MaskedQueryDecoder) -> None:
    """Fresh learnable queries and level embeddings, for instance for another number of queries."""
    for parameter in (decoder.query_features, decoder.query_positions, decoder.level_embed):
        nn.init.normal_(parameter)


def _pixel_decoder(decoder: DeformablePixelDecoder) -> None:
    nn.init.normal_(decoder.level_embed)
    for projection in decoder.input_proj.modules():
        if isinstance(projection, nn.Conv2d):
            nn.init.xavier_uniform_(projection.weight)
            _zero_bias(projection)
    for conv in (decoder.lateral.conv, decoder.output.conv, decoder.mask_proj):
        nn.init.kaiming_uniform_(conv.weight, a=1)  # Caffe2's "XavierFill", which divides by the inputs alone
    _zero_bias(decoder.mask_proj)


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
