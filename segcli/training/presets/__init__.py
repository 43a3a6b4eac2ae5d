"""Published recipes and the default one, a TOML file each. Torch-free."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any, Literal, get_args

from segcli.errors import UsageError

PresetName = Literal["small", "coco-50ep", "ade-160k", "cityscapes-90k"]
PRESETS: tuple[str, ...] = get_args(PresetName)


def read_preset(name: str) -> dict[str, dict[str, Any]]:
    """The tables of a preset. Raises UsageError listing the presets there are."""
    if name not in PRESETS:
        raise UsageError(f"preset {name!r}: choose one of {', '.join(PRESETS)}")
    text = resources.files("segcli.training.presets").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
