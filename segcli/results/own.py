"""Which folders `segcli predict` wrote, recognised by their files."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from segcli.codecs.label_png import read_label_map
from segcli.errors import InputError
from segcli.files.json_file import read_json
from segcli.results.readers.masks import mask_folders
from segcli.results.readers.predict_records import is_record

_LOOKED_AT = 50  # JSON files in a folder until one is a record
_FLAT = 0.9  # share of pixels in an id map, at least, that are as their neighbour
_FEW = 64  # values of a label map in grey


def is_own(folder: Path) -> bool:
    """Whether a folder holds results of `segcli predict` with masks in them."""
    if (folder / "predictions.json").is_file() or (
        (folder / "panoptic.json").is_file() and (folder / "panoptic").is_dir()
    ):
        return True
    return any(map(holds_record, islice(folder.rglob("*.json"), _LOOKED_AT))) or bool(mask_folders(folder))


def holds_id_maps(folder: Path) -> bool:
    """Whether a folder's pictures are the maps that `--save png` writes, without their records, rather than photos.

    The first two are checked: unlike photos they are made of flat areas, which have few values, or colours that
    read as COCO's ids are 1 to N without a gap.
    """
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))[:2]
    return bool(files) and all(file.suffix.lower() == ".png" and _is_id_map(file) for file in files)


def _is_id_map(file: Path) -> bool:
    try:
        values = read_label_map(file)
    except InputError:
        return False
    if of_colours := values.ndim == 3:
        values = values.astype(np.int32) @ np.array([1, 256, 65536], dtype=np.int32)
    present = np.unique(values)
    flat = bool((values[:, 1:] == values[:, :-1]).mean() > _FLAT) if values.shape[1] > 1 else False
    without_gap = present[-1] == np.count_nonzero(present)
    return flat and bool(without_gap or (not of_colours and len(present) <= _FEW))


def newest(here: Path) -> Path | None:
    """The folder in `here` that such results were written to last, if there is any."""
    folders = [path for path in sorted(here.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    own = [folder for folder in folders if is_own(folder)]
    return max(own, key=lambda folder: max(file.stat().st_mtime for file in folder.rglob("*")), default=None)


def holds_record(file: Path) -> bool:
    """Whether a file is a record of `segcli predict`."""
    try:
        return is_record(read_json(file))
    except InputError:
        return False
