"""Which folders `segcli predict` wrote, told by what lies in them."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

from segcli.results.readers.masks import mask_folders
from segcli.results.readers.records import is_record

_LOOKED_AT = 50  # JSON files in a folder until one is a record


def is_own(folder: Path) -> bool:
    """Whether a folder holds results of `segcli predict` with masks in them."""
    if (folder / "predictions.json").is_file() or (
        (folder / "panoptic.json").is_file() and (folder / "panoptic").is_dir()
    ):
        return True
    return any(map(holds_record, islice(folder.rglob("*.json"), _LOOKED_AT))) or bool(mask_folders(folder))


def newest(here: Path) -> Path | None:
    """The folder in `here` that such results were written to last, if there is any."""
    folders = [path for path in sorted(here.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    own = [folder for folder in folders if is_own(folder)]
    return max(own, key=lambda folder: max(file.stat().st_mtime for file in folder.rglob("*")), default=None)


def holds_record(file: Path) -> bool:
    """Whether a file is a record of `segcli predict`."""
    try:
        return is_record(json.loads(file.read_bytes()))
    except (OSError, ValueError):
        return False
