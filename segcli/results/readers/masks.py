"""What `segcli predict --save masks` writes: a folder <stem>.masks per image, a PNG per segment, 007-traffic-light.png.

The file names hold the class's name, but neither its id nor a score.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from segcli.codecs.label_png import read_label_map
from segcli.codecs.rle import encode
from segcli.errors import InputError
from segcli.results.readers.predictions import PredictedImage, in_pixels
from segcli.segments import Segments
from segcli.types import Label, LabelSet, Task

_SUFFIX = ".masks"
_SEGMENT = re.compile(r"\d{3,}-?(.*)\.png")


def mask_folders(folder: Path) -> list[Path]:
    """The folders of masks below a folder, sorted."""
    return sorted(path for path in folder.rglob(f"*{_SUFFIX}") if path.is_dir() and not path.name.startswith("."))


class MaskFolders:
    """Folders of masks, which may overlap. Classes are numbered from 1 in the order of their names."""

    task: Task = "instance"
    what = "masks of segcli predict"
    least_score: float | None = None

    def __init__(self, path: Path, folders: list[Path]) -> None:
        self.path, self._folders = path, folders
        self.images = [
            PredictedImage(None, folder.relative_to(path).as_posix().removesuffix(_SUFFIX)) for folder in folders
        ]
        names = sorted({name for folder in folders for _, name in _segments(folder)})
        self.labels = LabelSet(tuple(Label(number, name, isthing=True) for number, name in enumerate(names, start=1)))

    def read(self, number: int, size: tuple[int, int]) -> Segments:
        """One image's segments, without scores, in the order of their numbers."""
        index = {label.name: position for position, label in enumerate(self.labels)}
        labels, masks = [], []
        for file, name in _segments(self._folders[number]):
            mask = read_label_map(file)
            if mask.shape != tuple(size):
                raise InputError(
                    f"{file}: {in_pixels(mask.shape[:2])} pixels, the image has {in_pixels(size)}; they must agree"
                )
            labels.append(index[name])
            masks.append(encode(mask))
        scores = np.full(len(labels), np.nan, dtype=np.float32)
        return Segments("instance", size, self.labels, np.array(labels, dtype=np.int64), scores, rles=tuple(masks))


def _segments(folder: Path) -> list[tuple[Path, str]]:
    """(file, class name) of each mask."""
    found = ((file, _SEGMENT.fullmatch(file.name)) for file in sorted(folder.iterdir()))
    return [(file, match[1].replace("-", " ")) for file, match in found if match]
