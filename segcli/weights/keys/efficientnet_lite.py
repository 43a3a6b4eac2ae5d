"""timm's names of EfficientNet-Lite, below transformers' prefix of a timm backbone."""

from __future__ import annotations

from torch import Tensor

from segcli.config.backbones.efficientnet_lite import EfficientNetLiteConfig
from segcli.weights.keys.backbones import Flavour
from segcli.weights.keys.table import Table


def table(encoder: str, flavour: Flavour) -> Table:
    """Names below the prefix `encoder`.

    The first stage has no expansion, so its 1×1 convolution is the projection: its rows come before the general ones.
    """
    encoder = f"{encoder}._backbone"
    return Table(
        {
            f"{encoder}.conv_stem": "backbone.stem.conv",
            f"{encoder}.bn1": "backbone.stem.norm",
            f"{encoder}.blocks.0.*.conv_dw": "backbone.stages.0.*.depthwise.conv",
            f"{encoder}.blocks.0.*.bn1": "backbone.stages.0.*.depthwise.norm",
            f"{encoder}.blocks.0.*.conv_pw": "backbone.stages.0.*.project.conv",
            f"{encoder}.blocks.0.*.bn2": "backbone.stages.0.*.project.norm",
            f"{encoder}.blocks.*.*.conv_pw": "backbone.stages.*.*.expand.conv",
            f"{encoder}.blocks.*.*.bn1": "backbone.stages.*.*.expand.norm",
            f"{encoder}.blocks.*.*.conv_dw": "backbone.stages.*.*.depthwise.conv",
            f"{encoder}.blocks.*.*.bn2": "backbone.stages.*.*.depthwise.norm",
            f"{encoder}.blocks.*.*.conv_pwl": "backbone.stages.*.*.project.conv",
            f"{encoder}.blocks.*.*.bn3": "backbone.stages.*.*.project.norm",
        }
    )


def constants(config: EfficientNetLiteConfig, encoder: str, flavour: Flavour) -> dict[str, Tensor]:
    """Nothing beside the weights."""
    return {}
