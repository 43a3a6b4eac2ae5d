"""The formats that are written: one module with one `Writer` a format, found by being here.

A new format to write is a new module of this package and its test. Its name for `--to` is the module's, with dashes.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from segcli.errors import UsageError

if TYPE_CHECKING:
    from segcli.data.converting.writing import Writer
    from segcli.data.records import DatasetInfo


def names() -> list[str]:
    """The formats by the names that `--to` takes. Imports none of them."""
    return sorted(module.name.replace("_", "-") for module in iter_modules(__path__))


def writer_class(name: str) -> type[Writer]:
    """The class that writes a format."""
    from segcli.data.converting.writing import Writer

    module = import_module(f"{__name__}.{name.replace('-', '_')}")
    [found] = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Writer) and value.__module__ == module.__name__
    ]
    return found


def writer_for(to: str, info: DatasetInfo, *, as_polygons: bool = False, tolerance: float = 0.0) -> Writer:
    """The writer for a format.

    as_polygons: no run-length masks, in a format that holds both; tolerance: pixels that outlines may lie off. Raises
    UsageError if the format cannot hold this data, or has no outlines.
    """
    from segcli.data.converting.writing import kind_of, things_of

    if to not in names():
        raise UsageError(f"--to {to}: unknown format; known are {', '.join(names())}")
    if info.tasks == ("detect",):
        raise UsageError(f"{info.root}: holds boxes without masks, and every format that can be written needs masks")
    kind = kind_of(info)
    cls = writer_class(to)
    of_classes = kind == "semantic" or not len(things_of(info.source_labels))
    if cls.NEEDS_OBJECTS and of_classes and not (info.outlines and cls.HOLDS_OVERLAPS):
        possible = ", ".join(name for name in names() if not writer_class(name).NEEDS_OBJECTS)
        raise UsageError(
            f"{info.root}: its annotations do not separate objects, which --to {to} needs; possible here: {possible}"
        )
    writer = cls(info.source_labels, kind)
    if (as_polygons and not hasattr(writer, "as_polygons")) or (tolerance and not cls.HOLDS_OVERLAPS):
        option = "--outlines polygons" if as_polygons else "--tolerance"
        raise UsageError(f"{option}: not for --to {to}; for coco" + ("" if as_polygons else " and labelling tools"))
    if as_polygons:
        writer.as_polygons = True
    writer.tolerance = tolerance
    return writer
