"""Hugging Face names of the backbones, below the prefix an architecture gives them."""

from __future__ import annotations

from collections.abc import Callable

from segcli.config import BackboneConfig, EfficientNetLite0Config, ResNetConfig, SwinConfig
from segcli.weights.keys import efficientnet_lite, resnet
from segcli.weights.keys.table import Table


def backbone_table(config: BackboneConfig, encoder: str, swin: Callable[[str], Table]) -> Table:
    """The table of a backbone whose prefix is `encoder`; transformers has two Swins, so `swin` makes theirs."""
    match config:
        case SwinConfig():
            return swin(encoder)
        case ResNetConfig():
            return resnet.table(encoder)
        case EfficientNetLite0Config():
            return efficientnet_lite.table(f"{encoder}._backbone")
