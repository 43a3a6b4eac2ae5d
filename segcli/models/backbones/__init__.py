"""Backbones: one module a kind, with `build(config)`, found by the name its configuration gives it."""

from __future__ import annotations

import importlib

from segcli.config.backbones import BackboneConfig
from segcli.models.parts import Backbone


def build_backbone(config: BackboneConfig) -> Backbone:
    """The untrained backbone of a configuration."""
    built: Backbone = importlib.import_module(f"{__name__}.{config.module}").build(config)
    return built
