"""The versions a number was made with."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

import segcli

_PACKAGES = ("torch", "numpy", "scipy", "pillow", "opencv-python", "safetensors", "hotcoco")
_RUNTIMES = ("onnxruntime", "openvino")  # of exported models; told only where one is at work, not where it is installed


def versions() -> dict[str, str]:
    """segcli, Python and the packages that compute."""
    return {"segcli": segcli.__version__, "python": platform.python_version()} | packages()


def packages() -> dict[str, str]:
    """The packages that compute."""
    names = (*_PACKAGES, *(name for name in _RUNTIMES if name in sys.modules))
    return {name: version for name in names if (version := _version(name))}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
