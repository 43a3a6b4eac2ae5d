"""Classes that data does not carry itself: declared lists beside it, and the tables of datasets known by their tree."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from segcli.errors import UsageError
from segcli.files.text import lines_of, read_text
from segcli.types import Label

_NAME_LISTS = ("classes.txt", "class_names.txt", "labels.txt", "codes.txt")
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
    if file is None:
        listed = root / "label_colors.txt"
        lines = map(_COLOUR_LINE.fullmatch, lines_of(listed) if listed.is_file() else [])
        found = [line.groups() for line in lines if line]
        return [Label(i, name.strip(), False, (int(r), int(g), int(b))) for i, (r, g, b, name) in enumerate(found)]
    try:
        table = csv.DictReader(io.StringIO(read_text(file), newline=""))
        rows = [{key.strip().lower(): value for key, value in row.items()} for row in table]
        return [
            Label(i, row["name"].strip(), False, (int(row["r"]), int(row["g"]), int(row["b"])))
            for i, row in enumerate(rows)
        ]
    except (KeyError, ValueError, AttributeError) as error:
        raise UsageError(f"{file}: expected the columns name, r, g, b ({error!r})") from error


def roboflow_classes(folders: Iterable[Path]) -> list[Label]:
    """The classes of Roboflow's _classes.csv (Pixel Value, Class) in the first folder that has one, else none.

    Raises UsageError for a table of other columns.
    """
    file = next((folder / "_classes.csv" for folder in folders if (folder / "_classes.csv").is_file()), None)
    if file is None:
        return []
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(read_text(file), newline="")) if row]
    try:
        return [Label(int(row[0]), row[1], isthing=False) for row in rows[1:]]
    except (ValueError, IndexError) as error:
        raise UsageError(f"{file}: expected the columns Pixel Value, Class; export it again") from error


def name_list(root: Path) -> list[str]:
    """The lines of a list of class names beside the data, for the ids 0, 1, …; empty if there is none."""
    file = next((root / name for name in _NAME_LISTS if (root / name).is_file()), None)
    names = lines_of(file) if file else []
    return names[1:] if names[:1] == [_BEFORE_FIRST] else names


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
