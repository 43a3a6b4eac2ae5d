"""Configurations from the names and shapes of an authors' checkpoint, which holds none.

Two things shapes do not tell and the authors never varied: 8 attention heads, and strides in the 3×3 convolutions of
ResNet's blocks. A third they did, in DETR: whether the last stage of the ResNet is dilated (DC5).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isqrt

from torch import Tensor

from segcli.config.backbones import BackboneConfig
from segcli.config.backbones.resnet import ResNetConfig
from segcli.config.backbones.swin import SwinConfig
from segcli.config.detr import DetrConfig
from segcli.config.mask2former import Mask2FormerConfig
from segcli.config.maskformer import MaskFormerConfig
from segcli.errors import CheckpointError
from segcli.weights.keys.original import PIXEL, PREDICTOR

_HEADS = 8
_LEVELS, _POINTS = 3, 4  # of deformable attention
_SWIN_DROP_PATH = 0.3  # in every published configuration; used by training alone


@dataclass(frozen=True)
class Shapes:
    """The shapes of a state dict, under the names of `keys.original.modern`. where: the file, for errors."""

    state: Mapping[str, Tensor]
    where: str

    def of(self, name: str, dims: int) -> tuple[int, ...]:
        """The shape of a tensor that must be there and have so many dimensions."""
        if name not in self.state:
            raise CheckpointError(f"{self.where}: has no {name}; not a whole checkpoint of the authors' code")
        shape = tuple(self.state[name].shape)
        if len(shape) != dims:
            raise CheckpointError(f"{self.where}: {name} has {len(shape)} dimensions, not {dims}")
        return shape

    def count(self, prefix: str) -> int:
        """How many modules `prefix`.0, `prefix`.1, … there are."""
        pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
        return max((int(m[1]) + 1 for name in self.state if (m := pattern.match(name))), default=0)


def mask2former(shapes: Shapes) -> Mask2FormerConfig:
    """Of the published design: deformable pixel decoder on three maps, masked decoder."""
    queries, hidden = shapes.of(f"{PREDICTOR}.query_feat.weight", 2)
    layer = f"{PIXEL}.transformer.encoder.layers"
    if f"{layer}.0.self_attn.sampling_offsets.weight" not in shapes.state:
        raise CheckpointError(f"{shapes.where}: a Mask2Former without deformable attention, which segcli does not have")
    mask_features, features, *_ = shapes.of(f"{PIXEL}.mask_features.weight", 4)
    return Mask2FormerConfig(
        backbone=backbone(shapes),
        num_classes=_classes(shapes),
        num_queries=queries,
        hidden_dim=hidden,
        feature_size=features,
        mask_feature_size=mask_features,
        encoder_layers=shapes.count(layer),
        encoder_feedforward_dim=shapes.of(f"{layer}.0.linear1.weight", 2)[0],
        decoder_layers=shapes.count(f"{PREDICTOR}.transformer_ffn_layers") + 1,
        dim_feedforward=shapes.of(f"{PREDICTOR}.transformer_ffn_layers.0.linear1.weight", 2)[0],
        num_attention_heads=shapes.of(f"{layer}.0.self_attn.attention_weights.bias", 1)[0] // (_LEVELS * _POINTS),
        no_object_weight=_no_object(shapes),
    )


def maskformer(shapes: Shapes) -> MaskFormerConfig:
    """With the encoder of the "6Enc" variants or without."""
    queries, hidden = shapes.of(f"{PREDICTOR}.query_embed.weight", 2)
    mask_features, features, *_ = shapes.of(f"{PIXEL}.mask_features.weight", 4)
    layer = f"{PREDICTOR}.transformer.decoder.layers"
    return MaskFormerConfig(
        backbone=backbone(shapes),
        num_classes=_classes(shapes),
        num_queries=queries,
        hidden_dim=hidden,
        feature_size=features,
        mask_feature_size=mask_features,
        encoder_layers=shapes.count(f"{PIXEL}.transformer.encoder.layers"),
        decoder_layers=shapes.count(layer),
        dim_feedforward=shapes.of(f"{layer}.0.linear1.weight", 2)[0],
        num_attention_heads=_HEADS,
        no_object_weight=_no_object(shapes),
    )


def detr(shapes: Shapes) -> DetrConfig:
    """With a class for every output, and not dilated."""
    queries, hidden = shapes.of("query_embed.weight", 2)
    layer = "transformer.encoder.layers"
    stages = [f"backbone.0.body.layer{i}" for i in (1, 2, 3, 4)]
    return DetrConfig(
        backbone=ResNetConfig(
            depths=tuple(shapes.count(stage) for stage in stages),
            hidden_sizes=tuple(shapes.of(f"{stage}.0.conv3.weight", 4)[0] for stage in stages),
            embedding_size=shapes.of("backbone.0.body.conv1.weight", 4)[0],
            frozen_norms=True,
        ),
        num_classes=shapes.of("class_embed.weight", 2)[0] - 1,
        masks="mask_head.lay1.weight" in shapes.state,
        num_queries=queries,
        hidden_dim=hidden,
        encoder_layers=shapes.count(layer),
        decoder_layers=shapes.count("transformer.decoder.layers"),
        dim_feedforward=shapes.of(f"{layer}.0.linear1.weight", 2)[0],
        num_attention_heads=_HEADS,
    )


def dilate(config: DetrConfig) -> DetrConfig:
    """With the last stage dilated, which transformers knows of timm's ResNets alone."""
    if not isinstance(config.backbone, ResNetConfig):
        raise AssertionError("read as a ResNet")
    return replace(config, backbone=replace(config.backbone, dilated=True, timm_names=True))


def _classes(shapes: Shapes) -> int:
    """Without "no object"."""
    return shapes.of(f"{PREDICTOR}.class_embed.weight", 2)[0] - 1


def _no_object(shapes: Shapes) -> float:
    weights = shapes.state.get("criterion.empty_weight")
    return 0.1 if weights is None else round(float(weights[-1]), 6)


def backbone(shapes: Shapes) -> BackboneConfig:
    """Raises CheckpointError for a backbone that segcli does not have."""
    if "backbone.patch_embed.proj.weight" in shapes.state:
        return _swin(shapes)
    if "backbone.stem.conv1.weight" in shapes.state:
        return _resnet(shapes)
    raise CheckpointError(f"{shapes.where}: its backbone is neither a Swin nor a ResNet of detectron2's")


def _swin(shapes: Shapes) -> SwinConfig:
    dim, _, patch, _ = shapes.of("backbone.patch_embed.proj.weight", 4)
    stages = range(shapes.count("backbone.layers"))
    tables = [shapes.of(f"backbone.layers.{i}.blocks.0.attn.relative_position_bias_table", 2) for i in stages]
    return SwinConfig(
        embed_dim=dim,
        depths=tuple(shapes.count(f"backbone.layers.{i}.blocks") for i in stages),
        num_heads=tuple(heads for _, heads in tables),
        window_size=(isqrt(tables[0][0]) + 1) // 2,  # a table has a row for each of (2·window - 1)² differences
        mlp_ratio=shapes.of("backbone.layers.0.blocks.0.mlp.fc1.weight", 2)[0] / dim,
        drop_path_rate=_SWIN_DROP_PATH,
        patch_size=patch,
    )


def _resnet(shapes: Shapes) -> ResNetConfig:
    if "backbone.stem.conv2.weight" in shapes.state:
        raise CheckpointError(
            f"{shapes.where}: its ResNet begins with three convolutions (R50c, R101c), which segcli does not have"
        )
    return ResNetConfig(
        depths=tuple(shapes.count(f"backbone.res{stage}") for stage in (2, 3, 4, 5)),
        hidden_sizes=tuple(shapes.of(f"backbone.res{stage}.0.conv3.weight", 4)[0] for stage in (2, 3, 4, 5)),
        embedding_size=shapes.of("backbone.stem.conv1.weight", 4)[0],
    )
