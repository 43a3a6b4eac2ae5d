"""`dataset.toml`, an optional file beside the data that says what detection cannot know.

format = "semantic-png"          # one of `segcli.data.formats`
task = "semantic"
ignore = [255]                   # label values that mean "unknown"; [] if every value is a class
things = ["car", "person"]       # countable classes, by name (or list the others under `stuff`)
stuff = ["road", "sky"]
boxes = "rectangles"             # rows with a box and no outline are rectangles, instead of left out
binary = true                    # label maps are black and white: what is lighter than half is the object
classes = ["background", "cat"]  # names of the ids 0, 1, …; or with ids of their own:
[[classes]]
id = 7
name = "road"
thing = false                    # optional
color = [128, 64, 128]           # optional; what RGB label images paint this class with

[train]                          # where things lie, relative to this file; the same for [val] and [test]
images = "photos/a"
labels = "truth/a"               # a folder of label files
annotations = "a.json"           # or one COCO file
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segcli.errors import UsageError
from segcli.files.image_names import in_one_line
from segcli.files.toml import Flaw, checked, read_toml
from segcli.types import Label, LabelSet

if TYPE_CHECKING:
    from segcli.data.dataset_toml import SplitTable

FILE_NAME = "dataset.toml"
DEFAULT_IGNORE = (255,)
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class SplitPaths:
    """Where one split lies."""

    images: Path | None = None
    labels: Path | None = None
    annotations: Path | None = None


@dataclass(frozen=True)
class Settings:
    """What the user declared; every field None or empty if nothing was."""

    format: str | None = None
    task: str | None = None
    ignore: tuple[int, ...] | None = None  # label values that mean "unknown"
    things: frozenset[str] = frozenset()  # names of countable classes
    stuff: frozenset[str] = frozenset()  # names of the others
    classes: tuple[Label, ...] = ()
    declared_kinds: frozenset[str] = frozenset()  # classes whose `thing` was written down
    places: dict[str, SplitPaths] = field(default_factory=dict)  # by split
    file: Path = Path(FILE_NAME)  # where it is written, for messages
    boxes: bool = False  # rows with a box in place of an outline are rectangles
    binary: bool = False  # label maps are black and white: what is lighter than half is the object
    chosen: Path | None = None  # the COCO file that was given in place of the folder: alone in its split
    everywhere: bool = False  # nothing lies where it usually does: every folder may hold annotations

    def ignored(self) -> tuple[int, ...]:
        """The ignored label values, 255 unless declared."""
        return DEFAULT_IGNORE if self.ignore is None else self.ignore

    def knows_kind(self, name: str) -> bool:
        """Whether thing or stuff was declared for a class."""
        return name in self.things or name in self.stuff or name in self.declared_kinds or bool(self.things)

    def label(self, label: Label) -> Label:
        """A class as the dataset has it, with the declared name, kind and colour."""
        declared = next((c for c in self.classes if c.id == label.id), None)
        name = in_one_line(declared.name if declared else label.name)
        color = (declared.color if declared else None) or label.color
        isthing = declared.isthing if declared and name in self.declared_kinds else label.isthing
        if name in self.things or name in self.stuff:
            isthing = name in self.things
        elif self.things:
            isthing = False
        return Label(label.id, name, isthing, color)

    def label_set(self, labels: list[Label], source: Path) -> LabelSet:
        """The dataset's classes in the order of their ids, as declared here where something is.

        source: where the names come from. Raises UsageError for classes without a name, and for two of one name.
        """
        result = LabelSet(tuple(self.label(label) for label in sorted(labels, key=lambda label: label.id)))
        _refuse_names(result, source)
        unknown = (self.things | self.stuff) - set(result.names)
        if unknown:
            close = difflib.get_close_matches(min(unknown), result.names, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise UsageError(
                f"{self.file}: {'things' if unknown & self.things else 'stuff'} names {_listed(unknown)}, which is no "
                f"class; the classes are {_listed(result.names)}{hint}"
            )
        return result


def _refuse_names(labels: LabelSet, source: Path) -> None:
    remedy = f"or declare the classes in {FILE_NAME} ([[classes]] id, name)"
    ids: dict[str, int] = {}
    for label in labels:
        if not label.name.strip():
            raise UsageError(f"{source}: class {label.id} has an empty name; name it there, {remedy}")
        if label.name in ids:
            raise UsageError(
                f"{source}: classes {ids[label.name]} and {label.id} are both called {label.name!r}, and a model "
                f"cannot tell them apart; rename one there, {remedy}"
            )
        ids[label.name] = label.id


def read_settings(root: Path) -> Settings:
    """The settings beside the data; empty ones if there is no file.

    Raises UsageError for broken TOML, unknown keys and values of the wrong kind.
    """
    file = root / FILE_NAME
    if not file.is_file():
        return Settings()
    from segcli.data.dataset_toml import DatasetTable

    try:
        table = checked(DatasetTable, read_toml(file))
    except Flaw as flaw:
        raise UsageError(f"{file}: {flaw.sentence}") from None
    return Settings(
        format=table.format,
        task=table.task,
        ignore=table.ignore,
        things=table.things,
        stuff=table.stuff,
        classes=tuple(Label(row.id, row.name, bool(row.thing), row.color) for row in table.classes),
        declared_kinds=frozenset(row.name for row in table.classes if row.thing is not None),
        places={name: _paths(split, name, root, file) for name in _SPLITS if (split := getattr(table, name))},
        file=file,
        boxes=table.boxes is not None,
        binary=table.binary,
    )


def _paths(split: SplitTable, name: str, root: Path, file: Path) -> SplitPaths:
    paths = {
        key: root / text for key in ("images", "labels", "annotations") if (text := getattr(split, key)) is not None
    }
    for key, path in paths.items():
        if not path.exists():
            raise UsageError(f"{file}: [{name}] {key} = {getattr(split, key)!r}: no such file or folder")
    return SplitPaths(**paths)


def _listed(names: Any) -> str:
    ordered = sorted(names) if isinstance(names, set | frozenset) else list(names)
    return ", ".join(str(name) for name in ordered[:12]) + (", …" if len(ordered) > 12 else "")
