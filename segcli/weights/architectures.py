"""Every architecture segcli runs: how its network is built, and how its tensors are named in files.

The third thing that belongs to one, its configuration, is in `segcli.config.MODEL_TYPES`; what trains it is in
`segcli.training.objectives`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

from segcli.config import (
    DetrConfig,
    Mask2FormerConfig,
    MaskFormerConfig,
    ModelConfig,
    PerPixelConfig,
    PerPixelPlusConfig,
)
from segcli.models.detr import build_detr
from segcli.models.mask2former import build_mask2former
from segcli.models.maskformer import build_maskformer
from segcli.models.per_pixel import build_per_pixel, build_per_pixel_plus
from segcli.models.segmenter import Segmenter
from segcli.weights.keymap import KeyMap
from segcli.weights.keys import detr, mask2former, maskformer, per_pixel


@dataclass(frozen=True)
class Architecture:
    """build: an untrained network of a configuration. keys: its `tables` and `constants`."""

    build: Callable[[Any], Segmenter]
    keys: ModuleType


ARCHITECTURES: dict[type[ModelConfig], Architecture] = {
    Mask2FormerConfig: Architecture(build_mask2former, mask2former),
    MaskFormerConfig: Architecture(build_maskformer, maskformer),
    DetrConfig: Architecture(build_detr, detr),
    PerPixelConfig: Architecture(build_per_pixel, per_pixel),
    PerPixelPlusConfig: Architecture(build_per_pixel_plus, per_pixel),
}


def build_model(config: ModelConfig) -> Segmenter:
    """An untrained network."""
    return ARCHITECTURES[type(config)].build(config)


def key_map(config: ModelConfig) -> KeyMap:
    """Between the names of its tensors in Hugging Face files and here."""
    keys = ARCHITECTURES[type(config)].keys
    return KeyMap(keys.tables(config), partial(keys.constants, config))
