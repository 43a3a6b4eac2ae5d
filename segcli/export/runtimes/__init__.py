"""Every runtime that executes exported networks. A runtime is one module here, which registers its class."""

from __future__ import annotations

import importlib
import pkgutil

from segcli.export.runtimes.runtime import RUNTIMES, Runtime

for _module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")

__all__ = ["RUNTIMES", "Runtime"]
