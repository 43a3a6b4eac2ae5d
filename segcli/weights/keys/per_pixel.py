"""Names of the per-pixel baselines in segcli's own files: MaskFormer's, for the parts they share with it."""

from __future__ import annotations

from torch import Tensor

from segcli.config.per_pixel import PerPixelConfig, PerPixelPlusConfig
from segcli.weights.keys.backbones import backbone_table
from segcli.weights.keys.maskformer import DECODER, ENCODER
from segcli.weights.keys.table import Table


def tables(config: PerPixelConfig | PerPixelPlusConfig) -> list[Table]:
    """Every name of a file."""
    return [backbone_table(config.backbone, ENCODER, "maskformer"), *DECODER]


def constants(config: PerPixelConfig | PerPixelPlusConfig) -> dict[str, Tensor]:
    """Nothing beside the weights."""
    return {}
