"""segcli: panoptic, instance and semantic segmentation, from the command line and from Python.

    loaded = segcli.load_model("org/name")
    segments = segcli.predict(loaded, "photo.jpg", task="panoptic")

The names below are imported when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segcli.inference.predict import predict as predict
    from segcli.inference.predictor import Predictor as Predictor
    from segcli.segments import Segments as Segments
    from segcli.weights.checkpoint import load_model as load_model

    __version__: str

_HOMES = {
    "load_model": "segcli.weights.checkpoint",
    "predict": "segcli.inference.predict",
    "Predictor": "segcli.inference.predictor",
    "Segments": "segcli.segments",
}

__all__ = ["Predictor", "Segments", "__version__", "load_model", "predict"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("segcli")
        except PackageNotFoundError:  # run from a source tree that was never installed
            return "0+unknown"
    raise AttributeError(f"module 'segcli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
