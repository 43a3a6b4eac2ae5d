"""Hugging Face names of a ResNet backbone."""

from __future__ import annotations

from torch import Tensor

from segcli.config.backbones.resnet import ResNetConfig
from segcli.weights.keys.backbones import Flavour
from segcli.weights.keys.table import Table

OURS = "backbone.stages.*.*"


def table(encoder: str, flavour: Flavour) -> Table:
    """Names below the prefix `encoder`."""
    block = f"{encoder}.encoder.stages.*.layers.*"
    return Table(
        {
            f"{encoder}.embedder.embedder.convolution": "backbone.stem.conv",
            f"{encoder}.embedder.embedder.normalization": "backbone.stem.norm",
            f"{block}.shortcut.convolution": f"{OURS}.shortcut.conv",
            f"{block}.shortcut.normalization": f"{OURS}.shortcut.norm",
            **{f"{block}.layer.{i}.convolution": f"{OURS}.conv{i + 1}.conv" for i in range(3)},
            **{f"{block}.layer.{i}.normalization": f"{OURS}.conv{i + 1}.norm" for i in range(3)},
        }
    )


def constants(config: ResNetConfig, encoder: str, flavour: Flavour) -> dict[str, Tensor]:
    """Nothing beside the weights."""
    return {}
