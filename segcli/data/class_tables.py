"""Classes that data does not carry itself: declared lists beside it, and the tables of datasets known by their tree."""

from __future__ import annotations

import csv
import json
from importlib import resources
from pathlib import Path

from segcli.errors import UsageError
from segcli.types import Label

_NAME_LISTS = ("classes.txt", "class_names.txt", "labels.txt", "codes.txt")


def known_table(name: str) -> list[Label]:
    """One of segcli's class tables, e.g. "ade20k_150"; the ids are those of the dataset's label maps."""
    text = (resources.files("segcli") / "weights" / "labels" / f"{name}.json").read_text(encoding="utf-8")
    return [
        Label(row["id"], row["name"], row["isthing"], tuple(row["color"]) if "color" in row else None)
        for row in json.loads(text)["categories"]
    ]


def colour_table(root: Path) -> list[Label]:
    """The classes of CamVid's `class_dict.csv` (name, r, g, b), ids by row; empty if there is none."""
    file = next(iter(sorted(root.glob("class_dict*.csv"))), None)
    if file is None:
        return []
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = [{key.strip().lower(): value for key, value in row.items()} for row in csv.DictReader(stream)]
        return [
            Label(i, row["name"].strip(), False, (int(row["r"]), int(row["g"]), int(row["b"])))
            for i, row in enumerate(rows)
        ]
    except (KeyError, ValueError, AttributeError) as error:
        raise UsageError(f"{file}: expected the columns name, r, g, b ({error!r})") from error


def name_list(root: Path) -> list[str]:
    """The lines of a list of class names beside the data; empty if there is none."""
    for name in _NAME_LISTS:
        if (root / name).is_file():
            lines = (root / name).read_text(encoding="utf-8-sig").splitlines()
            return [line.strip() for line in lines if line.strip()]
    return []


VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
