"""Small networks of every family, with random weights, as loaded models."""

from __future__ import annotations

from typing import Any

import torch

from segcli.config import (
    DetrConfig,
    EfficientNetLite0Config,
    Mask2FormerConfig,
    MaskFormerConfig,
    ModelConfig,
    PerPixelConfig,
    PerPixelPlusConfig,
    ResNetConfig,
    SwinConfig,
)
from segcli.types import InferenceSpec, InputSize, Label, LabelSet, MergeRule
from segcli.weights.architectures import build_model
from segcli.weights.checkpoint import LoadedModel

LABELS = LabelSet((Label(3, "red", True, (200, 0, 0)), Label(7, "green", True), Label(9, "dark", False)))
SWIN = SwinConfig(16, (2, 2), (1, 2), window_size=3, drop_path_rate=0.0)
SWIN4 = SwinConfig(16, (1, 2, 1, 1), (1, 2, 2, 2), window_size=3, drop_path_rate=0.0)
RESNET = ResNetConfig((1, 1, 1, 1), (32, 64, 96, 128), embedding_size=16)
SMALL: dict[str, Any] = {"num_classes": len(LABELS), "num_queries": 9}


def loaded(config: ModelConfig, **spec: Any) -> LoadedModel:
    """An untrained model, the same every time, whose classifier is sure enough of itself to show something."""
    torch.manual_seed(0)
    model = build_model(config).eval().requires_grad_(False)
    protocol = {"tasks": ("panoptic", "instance", "semantic"), "labels": LABELS, "size": InputSize(64, 96, 32)}
    rule = MergeRule(score=0.3, overlap=0.1, instance_score=0.2)
    return LoadedModel(
        model,
        config,
        InferenceSpec(**(protocol | {"rule": rule} | spec)),
        "small",
        torch.device("cpu"),
        torch.float32,
        {"source": "memory"},
        raw_config(config),
    )


def raw_config(config: ModelConfig) -> dict[str, Any]:
    """config.json of a model, as a checkpoint has it."""
    from segcli.weights.hf_config import hf_config

    return hf_config(config, LABELS)
