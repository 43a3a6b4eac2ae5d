"""ResNet with bottleneck blocks (arXiv 1512.03385)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from segcli.config.backbones import LEVELS, PRETRAINED, BackboneConfig, Pretrained
from segcli.config.checks import check_facts, per_stage, settings
from segcli.errors import CheckpointError

WIDTHS = (256, 512, 1024, 2048)
DEPTHS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
_FACTS = {
    "hidden_act": "relu",
    "layer_type": "bottleneck",
    "downsample_in_first_stage": False,
    "downsample_in_bottleneck": False,
    "num_channels": 3,
}


@dataclass(frozen=True)
class ResNetConfig(BackboneConfig):
    """ResNet, in the names of its Hugging Face configuration; the last three fields are DETR's."""

    depths: tuple[int, ...]
    hidden_sizes: tuple[int, ...]
    embedding_size: int = 64
    dilated: bool = False  # the last stage keeps the stride of the one before (DC5)
    frozen_norms: bool = False  # norms are constants of the network
    timm_names: bool = False  # its files have timm's names, not transformers' own

    module: ClassVar[str] = "resnet"
    described: ClassVar[str] = "resnet (bottleneck)"

    @classmethod
    def parse(cls, raw: dict[str, Any], where: str) -> Self | None:
        """Of a `backbone_config`; None if it is of another kind."""
        if raw.get("model_type") != "resnet":
            return None
        check_facts(raw, _FACTS | {"out_features": LEVELS}, where)
        widths = per_stage(raw, "hidden_sizes", WIDTHS, where)
        if any(width % 4 for width in widths):
            raise CheckpointError(f"{where}: hidden_sizes {list(widths)} are not multiples of 4")
        return cls(
            depths=per_stage(raw, "depths", (3, 4, 6, 3), where),
            hidden_sizes=widths,
            embedding_size=settings(raw, where).whole("embedding_size", 64, least=1),
        )

    def raw(self) -> dict[str, Any]:
        """The `backbone_config`; `parse` reads it back."""
        return {
            "model_type": "resnet",
            "depths": list(self.depths),
            "hidden_sizes": list(self.hidden_sizes),
            "embedding_size": self.embedding_size,
            "out_features": LEVELS,
        } | _FACTS

    @property
    def name(self) -> str:
        """ "resnet50", …, by the number of its layers."""
        return f"resnet{3 * sum(self.depths) + 2}"


for _name, _depths in DEPTHS.items():
    PRETRAINED[_name] = Pretrained(
        ResNetConfig(_depths, WIDTHS),
        "timm_resnet",
        "BSD-3-Clause",
        f"timm/{_name}.tv_in1k",
        torchvision=f"{_name.replace('resnet', 'ResNet')}_Weights.IMAGENET1K_V1",
    )
