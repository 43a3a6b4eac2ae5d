"""Every kind of `--save`. A kind is one module here, which registers its class; nothing else has to know of it.

Importing this package imports neither numpy nor an image library: the command's help lists the kinds.
"""

from __future__ import annotations

import importlib
import pkgutil

from segcli.results.kinds.kind import SAVE_KINDS, Answer, SaveKind, SaveRun, list_kinds, parse_kinds

for _module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")
for _name in sorted(SAVE_KINDS):  # as they are listed, whatever their modules are called
    SAVE_KINDS[_name] = SAVE_KINDS.pop(_name)

__all__ = ["SAVE_KINDS", "Answer", "SaveKind", "SaveRun", "list_kinds", "parse_kinds"]
