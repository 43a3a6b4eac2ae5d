"""Configurations from the names and shapes of an authors' checkpoint, which holds none.

Shapes do not tell, and the authors never varied, the number of attention heads (8; in a ViT one for 64 channels) and
the strides in the 3×3 convolutions of ResNet's blocks. One thing they did vary, in DETR: whether the last stage of the
ResNet is dilated (DC5).
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
from segcli.config.backbones.vit import ViTConfig
from segcli.config.detr import DetrConfig
from segcli.config.eomt import EomtConfig, joint_blocks
from segcli.config.mask2former import Mask2FormerConfig
from segcli.config.maskformer import MaskFormerConfig
from segcli.errors import CheckpointError
from segcli.weights.keys.eomt import ENCODER
from segcli.weights.keys.original import PIXEL, PREDICTOR

_HEADS = 8
_VIT_HEAD = 64  # numbers of an attention head of every ViT
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


def eomt(shapes: Shapes) -> EomtConfig:
    """On DINOv2 or DINOv3, whose files call the patches differently. Only a table of positions tells the square that it
    was made for; without one that is the usual.
    """
    queries, dim = shapes.of("network.q.weight", 2)
    rotary = f"{ENCODER}.patch_embed.patch_embeddings.weight" in shapes.state
    depth, heads = shapes.count(f"{ENCODER}.blocks"), max(1, dim // _VIT_HEAD)
    if rotary:
        hidden = shapes.of(f"{ENCODER}.blocks.0.mlp.up_proj.weight", 2)[0]
        registers = shapes.of(f"{ENCODER}.patch_embed.register_tokens", 3)[1]
        patch = shapes.of(f"{ENCODER}.patch_embed.patch_embeddings.weight", 4)[3]
        vit = ViTConfig(
            dim, depth, heads, hidden, patch, registers=registers, positions="rotary", norm_eps=1e-5, layer_scale=1.0
        )
    else:
        hidden = shapes.of(f"{ENCODER}.blocks.0.mlp.fc2.weight", 2)[1]
        registers = shapes.of(f"{ENCODER}.reg_token", 3)[1] if f"{ENCODER}.reg_token" in shapes.state else 0
        patch = shapes.of(f"{ENCODER}.patch_embed.proj.weight", 4)[3]
        side = isqrt(shapes.of(f"{ENCODER}.pos_embed", 3)[1]) * patch
        gated = shapes.of(f"{ENCODER}.blocks.0.mlp.fc1.weight", 2)[0] == 2 * hidden
        vit = ViTConfig(dim, depth, heads, hidden, patch, image_size=side, registers=registers, gated=gated)
    masks = "network.attn_mask_probs"
    return EomtConfig(
        backbone=vit,
        num_classes=shapes.of("network.class_head.weight", 2)[0] - 1,
        num_queries=queries,
        joint_blocks=shapes.of(masks, 1)[0] if masks in shapes.state else joint_blocks(depth),
        upscale_blocks=shapes.count("network.upscale"),
        no_object_weight=_no_object(shapes),
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
