"""Classes that data does not carry itself: declared lists beside it, and the tables of datasets known by their tree."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from segcli.errors import UsageError
from segcli.files.json_file import read_json
from segcli.files.text import lines_of, read_text, table_rows
from segcli.types import Label

_NAME_LISTS = ("classes.txt", "class_names.txt", "labels.txt", "codes.txt", "classes.csv", "labels.csv")
_JSON_LISTS = ("id2label.json", "classes.json", "labels.json", "class_names.json")
_NAME = ("name", "class name", "class_name", "class", "category", "title", "label")
_ID = ("id", "index", "value", "pixel value", "pixel_value", "class id", "class_id", "label id", "label_id", "label")
_COLOUR = (("r", "red"), ("g", "green"), ("b", "blue"))
_NUMBERED_LINE = re.compile(r"(\d{1,5})(\s*[:;,.)=\t]\s*|\s+)(\S.*)")
_BEFORE_FIRST = "__ignore__"  # labelme's lists begin with it: its id is -1

VOID_NAMES = frozenset({
    "void", "unlabelled", "unlabeled", "ignore", "ignored", "__ignore__", "_ignore_", "void--unlabeled", "unknown/void",
})  # fmt: skip
_COLOUR_LINE = re.compile(r"(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})\s+(.+)")
_LABEL_MAP = "labelmap.txt"
_LABEL_MAP_LINE = re.compile(r"(.*?):\s*(?:(\d+)\s*,\s*(\d+)\s*,\s*(\d+))?\s*(?::[^:]*){0,2}")


def known_table(name: str) -> list[Label]:
    """One of segcli's class tables, e.g. "ade20k_150"; the ids are those of the dataset's label maps."""
    text = (resources.files("segcli") / "weights" / "labels" / f"{name}.json").read_text(encoding="utf-8")
    return [
        Label(row["id"], row["name"], row["isthing"], tuple(row["color"]) if "color" in row else None)
        for row in json.loads(text)["categories"]
    ]


def colour_table(root: Path) -> list[Label]:
    """The classes of CamVid's `class_dict.csv` (name, r, g, b) or label_colors.txt, ids by row; empty if neither is."""
    file = next(iter(sorted(root.glob("class_dict*.csv"))), None)
    if file is not None:
        labels = csv_classes(file)
        if not all(label.color for label in labels):
            raise UsageError(f"{file}: expected the columns name, r, g, b")
        return labels
    listed = root / "label_colors.txt"
    lines = map(_COLOUR_LINE.fullmatch, lines_of(listed) if listed.is_file() else [])
    found = [line.groups() for line in lines if line]
    return [Label(i, name.strip(), False, (int(r), int(g), int(b))) for i, (r, g, b, name) in enumerate(found)]


def roboflow_classes(folders: Iterable[Path]) -> list[Label]:
    """The classes of Roboflow's _classes.csv (Pixel Value, Class) in the first folder that has one, else none."""
    file = next((folder / "_classes.csv" for folder in folders if (folder / "_classes.csv").is_file()), None)
    return [] if file is None else csv_classes(file)


def csv_classes(file: Path) -> list[Label]:
    """The classes of a table with a column of names, and maybe of ids (else they count from 0) and of red, green, blue.

    Raises UsageError for a table of other columns.
    """
    rows = [{key.strip().lower(): value.strip() for key, value in row.items()} for row in table_rows(file, ",;\t")]
    known = set(rows[0]) if rows else set()
    name, number, *columns = (next((n for n in names if n in known), None) for names in (_NAME, _ID, *_COLOUR))
    number = None if number == name else number
    colour = [column for column in columns if column]
    try:
        if name is None:
            raise ValueError
        return [
            Label(
                int(row[number]) if number else i,
                row[name],
                isthing=False,
                color=(int(row[colour[0]]), int(row[colour[1]]), int(row[colour[2]])) if len(colour) == 3 else None,
            )
            for i, row in enumerate(rows)
        ]
    except (ValueError, TypeError, KeyError) as error:
        seen = ", ".join(sorted(known)) or "none"
        raise UsageError(
            f"{file}: expected the columns name (or class), perhaps id (or pixel value), r, g, b; found {seen[:120]}"
        ) from error


def class_names(root: Path) -> dict[int, str]:
    """The names of classes by their ids that a list beside the data gives, in one of the forms that are common: a name
    a line, with or without its number; a table; or JSON, as Hugging Face's id2label. Empty if there is none.
    """
    for name in _NAME_LISTS:
        if (file := root / name).is_file():
            return csv_names(file) if file.suffix == ".csv" else _numbered(lines_of(file))
    for name in _JSON_LISTS:
        if (file := root / name).is_file() and (found := _of_json(read_json(file, UsageError))):
            return found
    return {}


def csv_names(file: Path) -> dict[int, str]:
    """The names by their ids of a table of classes."""
    return {label.id: label.name for label in csv_classes(file)}


def _numbered(lines: list[str]) -> dict[int, str]:
    if lines[:1] == [_BEFORE_FIRST]:
        lines = lines[1:]
    if len(lines) == 1 and "," in lines[0]:
        lines = [name.strip() for name in lines[0].split(",") if name.strip()]
    found = [match.groups() for line in lines if (match := _NUMBERED_LINE.fullmatch(line))]
    numbers = [int(number) for number, _, _ in found]
    counted = numbers in (list(range(len(lines))), list(range(1, len(lines) + 1)))
    marked = len(found) == len(lines) and all(mark.strip() for _, mark, _ in found)
    if len({name for _, _, name in found}) == len(set(numbers)) == len(lines) and (counted or marked):
        return {number: name for number, (_, _, name) in zip(numbers, found, strict=True)}
    return dict(enumerate(lines))


def _of_json(value: Any) -> dict[int, str]:
    if isinstance(value, dict) and isinstance(value.get("id2label"), dict):
        value = value["id2label"]
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return dict(enumerate(value))
    if isinstance(value, dict) and value and all(str(k).isdecimal() and isinstance(v, str) for k, v in value.items()):
        return {int(number): name for number, name in value.items()}
    return {}


def labelmap_file(folder: Path) -> Path | None:
    """CVAT's and datumaro's labelmap.txt, if there is one."""
    return folder / _LABEL_MAP if (folder / _LABEL_MAP).is_file() else None


def labelmap_classes(file: Path) -> list[Label]:
    """The classes of a labelmap.txt (name:r,g,b:parts:actions) in its order, but the background is always the first.

    Raises UsageError for a line of another form, and for a colour that is missing or given twice.
    """
    rows: list[tuple[str, tuple[int, int, int] | None]] = []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LABEL_MAP_LINE.fullmatch(line.strip())
        name, *color = match.groups() if match else ("",)
        if match is None or any(value and int(value) > 255 for value in color):
            raise UsageError(f"{file}:{number}: {line.strip()!r}; expected name:r,g,b:: with r, g, b of 0–255")
        rows.append((name.strip(), (int(color[0]), int(color[1]), int(color[2])) if color[0] else None))
    rows.sort(key=lambda row: row[0].lower() != "background")
    colors = [color for _, color in rows if color]
    if colors and (len(colors) < len(rows) or len(set(colors)) < len(colors)):
        raise UsageError(f"{file}: a class has no color, or that of another class; give each a color of its own")
    if rows and rows[0][0].lower() != "background":
        rows.insert(0, ("background", (0, 0, 0) if colors and (0, 0, 0) not in colors else None))
    return [Label(i, name, isthing=False, color=color) for i, (name, color) in enumerate(rows)]


VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def voc_colour(index: int) -> tuple[int, int, int]:
    """What Pascal VOC paints an index with: its bits, spread over the three channels from the highest down."""
    channels = [sum(((index >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(8)) for channel in range(3)]
    return channels[0], channels[1], channels[2]
