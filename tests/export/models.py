"""Small networks of every family, with random weights, as loaded models."""

from __future__ import annotations

from typing import Any

import torch

from segcli.config import ModelConfig
from segcli.config.backbones.efficientnet_lite import EfficientNetLiteConfig
from segcli.config.backbones.resnet import ResNetConfig
from segcli.config.backbones.swin import SwinConfig
from segcli.config.backbones.vit import ViTConfig
from segcli.config.detr import DetrConfig
from segcli.config.eomt import EomtConfig
from segcli.config.mask2former import Mask2FormerConfig
from segcli.config.maskformer import MaskFormerConfig
from segcli.config.per_pixel import PerPixelConfig, PerPixelPlusConfig
from segcli.types import InferenceSpec, InputSize, Label, LabelSet, MergeRule
from segcli.weights.architectures import build_model
from segcli.weights.checkpoint import LoadedModel
from segcli.weights.hf_config import raw_config

LABELS = LabelSet((Label(3, "red", True, (200, 0, 0)), Label(7, "green", True), Label(9, "dark", False)))
LITE0 = EfficientNetLiteConfig()
SWIN = SwinConfig(16, (1, 2, 1, 1), (1, 2, 2, 2), window_size=3)
RESNET = ResNetConfig((1, 1, 1, 1), (32, 64, 96, 128), embedding_size=16)
_HEADS = {"hidden_dim": 32, "dim_feedforward": 48, "num_attention_heads": 4}
_MASK2FORMER: dict[str, Any] = _HEADS | {
    "num_queries": 9, "feature_size": 32, "mask_feature_size": 16, "encoder_layers": 1, "encoder_feedforward_dim": 48,
    "decoder_layers": 4,
}  # fmt: skip
_PLAIN = _HEADS | {"decoder_layers": 1}
_WIDE = _PLAIN | {"hidden_dim": 128, "num_attention_heads": 8}  # the mask head narrows in steps of 8 groups
_FPN = {"feature_size": 32, "mask_feature_size": 16}

FAMILIES: dict[str, ModelConfig] = {
    "mask2former lite0": Mask2FormerConfig(LITE0, 3, **_MASK2FORMER),
    "mask2former swin": Mask2FormerConfig(SWIN, 3, **_MASK2FORMER),
    "mask2former resnet": Mask2FormerConfig(RESNET, 3, **_MASK2FORMER),
    "maskformer swin": MaskFormerConfig(SWIN, 3, num_queries=9, **_PLAIN, **_FPN),
    "maskformer encoder": MaskFormerConfig(RESNET, 3, num_queries=9, encoder_layers=1, **_PLAIN, **_FPN),
    "per-pixel": PerPixelConfig(RESNET, 3, **_FPN),
    "per-pixel plus": PerPixelPlusConfig(RESNET, 3, **_PLAIN, **_FPN),
    "eomt table": EomtConfig(ViTConfig(32, 3, 4, 64, image_size=64), 3, num_queries=9, joint_blocks=2),
    "eomt rotary": EomtConfig(
        ViTConfig(32, 3, 4, 64, image_size=64, positions="rotary"), 3, num_queries=9, joint_blocks=2
    ),
    "detr boxes": DetrConfig(RESNET, 3, num_queries=9, encoder_layers=1, **_PLAIN),
    "detr masks": DetrConfig(RESNET, 3, masks=True, num_queries=9, encoder_layers=1, **_WIDE),
}
EXPORTED = "mask2former resnet"  # the one that the `exported` fixture holds


def small(family: str, **spec: Any) -> LoadedModel:
    """An untrained model, the same every time. spec: what differs from the protocol below."""
    config = FAMILIES[family]
    torch.manual_seed(0)
    protocol = {
        "tasks": config.answers,
        "labels": LABELS,
        "size": InputSize(64, 96, config.size.divisor, config.size.rounding),
        "rule": MergeRule(score=0.3, overlap=0.1, instance_score=0.2, mask_min=config.rule.mask_min,
                          normalise=config.rule.normalise, instances=config.rule.instances),
    }  # fmt: skip
    return LoadedModel(
        build_model(config).eval().requires_grad_(False),
        config,
        InferenceSpec(**(protocol | spec)),
        "small",
        torch.device("cpu"),
        torch.float32,
        {"source": "memory"},
        raw_config(config, LABELS),
    )
