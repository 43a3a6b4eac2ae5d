"""`dataset.toml`, an optional file beside the data that says what detection cannot know.

format = "semantic-png"          # one of `segcli.data.formats`
task = "semantic"
ignore = [255]                   # label values that mean "unknown"; [] if every value is a class
things = ["car", "person"]       # countable classes, by name (or list the others under `stuff`)
stuff = ["road", "sky"]
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
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segcli.codecs.text import read_text
from segcli.errors import UsageError
from segcli.types import TASKS, Label, LabelSet

FILE_NAME = "dataset.toml"
DEFAULT_IGNORE = (255,)
_SPLITS = ("train", "val", "test")
_KEYS = {"format", "task", "ignore", "things", "stuff", "classes", *_SPLITS}


@dataclass(frozen=True)
class Place:
    """Where one split lies."""

    images: Path | None = None
    labels: Path | None = None
    annotations: Path | None = None


@dataclass(frozen=True)
class Settings:
    """What the user declared; every field None or empty if nothing was."""

    format: str | None = None
    task: str | None = None
    ignore: tuple[int, ...] | None = None
    things: frozenset[str] = frozenset()
    stuff: frozenset[str] = frozenset()
    classes: tuple[Label, ...] = ()
    declared_kinds: frozenset[str] = frozenset()  # classes whose `thing` was written down
    places: dict[str, Place] = field(default_factory=dict)
    file: Path = Path(FILE_NAME)

    def ignored(self) -> tuple[int, ...]:
        """The ignored label values, 255 unless declared."""
        return DEFAULT_IGNORE if self.ignore is None else self.ignore

    def knows_kind(self, name: str) -> bool:
        """Whether thing or stuff was declared for a class."""
        return name in self.things or name in self.stuff or name in self.declared_kinds or bool(self.things)

    def label(self, label: Label) -> Label:
        """A class as the dataset has it, with the declared name, kind and colour."""
        declared = next((c for c in self.classes if c.id == label.id), None)
        name = declared.name if declared else label.name
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
    try:
        raw = tomllib.loads(read_text(file))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file}: not valid TOML ({error})") from error
    unknown = set(raw) - _KEYS
    if unknown:
        raise UsageError(f"{file}: unknown key {_listed(unknown)}; known are {_listed(_KEYS)}")
    if not isinstance(raw.get("format", ""), str):
        raise UsageError(f"{file}: format is {raw['format']!r}; expected a name in quotes, as for --format")
    if "task" in raw and raw["task"] not in TASKS:
        raise UsageError(f"{file}: task is {raw['task']!r}; expected one of {', '.join(TASKS)}")
    classes, kinds = _classes(raw.get("classes", []), file)
    things, stuff = _names(raw, "things", file), _names(raw, "stuff", file)
    if things & stuff:
        raise UsageError(f"{file}: {_listed(things & stuff)} is among things and among stuff; it can be one of them")
    return Settings(
        format=raw.get("format"),
        task=raw.get("task"),
        ignore=_ints(raw["ignore"], file) if "ignore" in raw else None,
        things=things,
        stuff=stuff,
        classes=classes,
        declared_kinds=kinds,
        places={name: _place(raw[name], name, root, file) for name in _SPLITS if name in raw},
        file=file,
    )


def _ints(value: Any, file: Path) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    if not all(map(_is_whole, values)):
        raise UsageError(f"{file}: ignore is {value!r}; expected a whole number or a list of them")
    return tuple(values)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_colour(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_is_whole(c) and 0 <= c <= 255 for c in value)


def _names(raw: dict[str, Any], key: str, file: Path) -> frozenset[str]:
    value = raw.get(key, [])
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise UsageError(f"{file}: {key} is {value!r}; expected a list of class names")
    return frozenset(value)


def _classes(value: Any, file: Path) -> tuple[tuple[Label, ...], frozenset[str]]:
    if not isinstance(value, list):
        raise UsageError(f"{file}: classes is {value!r}; expected a list of names or [[classes]] tables")
    labels: list[Label] = []
    kinds: set[str] = set()
    for position, row in enumerate(value):
        row = {"id": position, "name": row} if isinstance(row, str) else row
        if not isinstance(row, dict) or set(row) - {"id", "name", "thing", "color"} or not {"id", "name"} <= set(row):
            raise UsageError(f"{file}: class {position} is {row!r}; expected id, name and maybe thing, color")
        if not _is_whole(row["id"]) or not isinstance(row["name"], str):
            raise UsageError(f"{file}: class {position} is {row!r}; its id is a whole number and its name in quotes")
        if not isinstance(row.get("thing", False), bool):
            raise UsageError(f"{file}: thing of class {row['name']!r} is {row['thing']!r}; expected true or false")
        color = row.get("color")
        if color is not None and not _is_colour(color):
            raise UsageError(f"{file}: the color of class {row['name']!r} is {color!r}; expected [R, G, B] of 0–255")
        labels.append(Label(row["id"], row["name"], row.get("thing", False), color and tuple(color)))
        if "thing" in row:
            kinds.add(row["name"])
    if len({label.id for label in labels}) != len(labels):
        raise UsageError(f"{file}: two classes share an id; every class needs its own")
    return tuple(labels), frozenset(kinds)


def _place(value: Any, split: str, root: Path, file: Path) -> Place:
    if not isinstance(value, dict) or set(value) - {"images", "labels", "annotations"}:
        raise UsageError(f"{file}: [{split}] is {value!r}; it can hold images, labels and annotations, all paths")
    paths: dict[str, Path] = {}
    for key, text in value.items():
        path = root / str(text)
        if not path.exists():
            raise UsageError(f"{file}: [{split}] {key} = {text!r}: no such file or folder")
        paths[key] = path
    return Place(**paths)


def _listed(names: Any) -> str:
    ordered = sorted(names) if isinstance(names, set | frozenset) else list(names)
    return ", ".join(str(name) for name in ordered[:12]) + (", …" if len(ordered) > 12 else "")
