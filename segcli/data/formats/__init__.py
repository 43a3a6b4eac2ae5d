"""The dataset formats that are read: one module a format, found by being here.

A new format is a new module of this package that has what `Format` lists, and its test. Its name for `--format` is the
module's, with dashes. Detection, the help text and the "looked for …" message follow from the modules that are here.
What several formats share lies in `data/layouts` (folders, pairs, label values) and `data/coco`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from pathlib import Path

    from segcli.data.records import Found
    from segcli.data.settings import Settings


class Format(Protocol):
    """What a module of this package offers."""

    SOUGHT: str  # what it is recognised by, to follow "looked for"; formats with one answer share it
    WRITTEN_AS: str  # the writer of data/converting/writers that keeps such a dataset what it is
    PLACES: tuple[str, ...]  # which declarations of a split in dataset.toml it reads: images, labels, annotations
    EXPLAINS: tuple[str, ...]  # other formats that its folders look like too, which it is not to be mistaken for
    IS_LABEL_MAPS: bool  # recognised by pictures beside pictures, which could mean several things

    def probe(self, root: Path, settings: Settings, /) -> str | None:
        """What in a folder speaks for this format, in a few words; None if nothing does. Fast: nothing is read whole.

        Raises UsageError for files of this format that contradict each other.
        """

    def load(self, root: Path, settings: Settings, /) -> Found:
        """The dataset in a folder for which `probe` had an answer.

        Raises UsageError for what makes all of it unusable. A row that cannot be used costs that row: it is left out
        and counted (`data.rows`), and an image that cannot be read is found by the scan.
        """


def names() -> list[str]:
    """The formats by the names that `--format` takes. Imports none of them."""
    return sorted(module.name.replace("_", "-") for module in iter_modules(__path__))


@cache
def formats() -> dict[str, Format]:
    """Every format by its name; those that label maps could mean come last."""
    found = {name: cast(Format, import_module(f"{__name__}.{name.replace('-', '_')}")) for name in names()}
    return dict(sorted(found.items(), key=lambda item: item[1].IS_LABEL_MAPS))
