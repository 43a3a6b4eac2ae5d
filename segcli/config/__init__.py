"""Model configurations, read from a Hugging Face `config.json` and checked: what this code cannot build is an error.

One class an architecture, in the table `MODEL_TYPES`. Nothing here imports torch.
"""

from __future__ import annotations

from typing import Any

from segcli.config.backbones import BackboneConfig, EfficientNetLite0Config, ResNetConfig, SwinConfig
from segcli.config.mask2former import Mask2FormerConfig
from segcli.config.maskformer import MaskFormerConfig
from segcli.config.per_pixel import PerPixelConfig, PerPixelPlusConfig
from segcli.errors import CheckpointError

ModelConfig = Mask2FormerConfig | MaskFormerConfig | PerPixelConfig | PerPixelPlusConfig
_KINDS: tuple[type[ModelConfig], ...] = (Mask2FormerConfig, MaskFormerConfig, PerPixelConfig, PerPixelPlusConfig)
# By the `model_type` of config.json, which is also the name of the architecture on the command line.
MODEL_TYPES: dict[str, type[ModelConfig]] = {kind.model_type: kind for kind in _KINDS}

__all__ = [
    "MODEL_TYPES",
    "BackboneConfig",
    "EfficientNetLite0Config",
    "Mask2FormerConfig",
    "MaskFormerConfig",
    "ModelConfig",
    "PerPixelConfig",
    "PerPixelPlusConfig",
    "ResNetConfig",
    "SwinConfig",
    "parse_config",
]


def parse_config(raw: dict[str, Any], where: str) -> ModelConfig:
    """The configuration in a parsed `config.json`; `where` names the file in errors.

    Raises CheckpointError for another architecture, an unsupported backbone or an unsupported setting.
    """
    kind = raw.get("model_type")
    if kind not in MODEL_TYPES:
        known = ", ".join(repr(name) for name in MODEL_TYPES)
        raise CheckpointError(f"{where}: model_type is {kind!r}; segcli runs {known} checkpoints")
    return MODEL_TYPES[kind].parse(raw, where)
