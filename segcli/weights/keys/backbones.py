"""Hugging Face names of the backbones, below the prefix an architecture gives them.

Each backbone's module here has `table(encoder, flavour)` and `constants(config, encoder, flavour)`.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Literal

from torch import Tensor

from segcli.config.backbones import BackboneConfig
from segcli.weights.keys.table import Table

# transformers has two networks of Swin: its own, and a copy inside MaskFormer with other names.
Flavour = Literal["backbone", "maskformer"]


def backbone_table(config: BackboneConfig, encoder: str, flavour: Flavour = "backbone") -> Table:
    """The names of a backbone's tensors; encoder: their prefix."""
    table: Table = _module(config).table(encoder, flavour)
    return table


def backbone_constants(config: BackboneConfig, encoder: str, flavour: Flavour = "backbone") -> dict[str, Tensor]:
    """What files hold beside a backbone's weights, computed from its configuration."""
    constants: dict[str, Tensor] = _module(config).constants(config, encoder, flavour)
    return constants


def _module(config: BackboneConfig) -> ModuleType:
    return importlib.import_module(f"segcli.weights.keys.{config.module}")
