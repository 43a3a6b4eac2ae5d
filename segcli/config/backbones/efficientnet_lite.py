"""EfficientNet-Lite0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from segcli.config.backbones import PRETRAINED, BackboneConfig, Pretrained
from segcli.config.checks import check_facts

_FACTS = {"out_indices": [1, 2, 3, 4], "num_channels": 3}
_TIMM = {"model_type": "timm_backbone", "backbone": "tf_efficientnet_lite0"}


@dataclass(frozen=True)
class EfficientNetLite0Config(BackboneConfig):
    """EfficientNet-Lite0; it has no settings."""

    module: ClassVar[str] = "efficientnet_lite"
    described: ClassVar[str] = "timm's 'tf_efficientnet_lite0'"

    @classmethod
    def parse(cls, raw: dict[str, Any], where: str) -> Self | None:
        """Of a `backbone_config`; None if it is of another kind."""
        if any(raw.get(key) != value for key, value in _TIMM.items()):
            return None
        check_facts(raw, _FACTS, where)
        return cls()

    def raw(self) -> dict[str, Any]:
        """The `backbone_config`; `parse` reads it back."""
        options = {"features_only": True, "freeze_batch_norm_2d": False, "use_pretrained_backbone": False}
        return _TIMM | options | _FACTS

    @property
    def name(self) -> str:
        return "efficientnet-lite0"


PRETRAINED["lite0"] = Pretrained(
    EfficientNetLite0Config(), "lite0", "Apache-2.0", mean=(127.0,) * 3, std=(128.0,) * 3, small=True
)
