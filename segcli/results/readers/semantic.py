"""Semantic label maps: a folder of PNGs, one per image, whose values are the dataset's own class ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segcli.codecs.label_png import read_black_and_white, read_label_map
from segcli.errors import InputError, UsageError
from segcli.results.readers.predictions import PredictedImage, in_pixels
from segcli.segments import Segments
from segcli.types import LabelSet, Task

_NOTHING = (255, 65535)  # what stands for "no class" in maps of 8 and 16 bits, unless it is one


class LabelMaps:
    """A folder of label maps, found by the names of their images.

    labels: what the values mean, which the files do not say: whoever knows the dataset sets them, with the values that
    it ignores. black_and_white: what is lighter than half is the second class, unless the maps hold the ids themselves.

    Raises UsageError if the first file is no map but a picture of colours: panoptic ids without their JSON, or no
    prediction at all. One among others is told when it is read.
    """

    task: Task = "semantic"
    what = "semantic label maps"
    least_score: float | None = None

    def __init__(self, path: Path, files: list[Path]) -> None:
        if _is_of_colours(files[0]):
            raise UsageError(
                f"{path}: holds no predictions: {files[0].name} is a picture of colours (panoptic ids?) without the "
                "JSON that says what they mean; write both, segcli predict --save png,json or --save coco-panoptic"
            )
        self.path, self._files = path, files
        self.images = [PredictedImage(None, file.relative_to(path).as_posix()) for file in files]
        self.labels = LabelSet(())
        self.ignored: tuple[int, ...] = ()
        self.black_and_white = False

    def read(self, number: int, size: tuple[int, int]) -> Segments:
        """One image's classes."""
        return semantic_segments(self._files[number], size, self.labels, self.ignored, self.black_and_white)


def _is_of_colours(file: Path) -> bool:
    try:
        return read_label_map(file).ndim == 3
    except InputError:  # told when its turn comes
        return False


def _holds_ids(values: np.ndarray, labels: LabelSet) -> bool:
    """Whether a map for black and white data holds 0 and 1, or what else the two ids are, and not 0 and 255."""
    present = set(np.unique(values).tolist())
    return present <= set(labels.ids) or (labels.ids[1] in present and present <= {*labels.ids, *_NOTHING})


def semantic_segments(
    file: Path,
    size: tuple[int, int],
    labels: LabelSet,
    ignored: tuple[int, ...] = (),
    black_and_white: bool = False,
) -> Segments:
    """Segments from a PNG of class ids, one for each class that occurs.

    Raises:
        InputError: missing, unreadable, of colours, of another size, or with a value that is no class.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file (label map of a prediction); predict with --save png,json")
    values = read_label_map(file)
    if black_and_white and (values.ndim == 3 or not _holds_ids(values, labels)):
        values = np.array(labels.ids)[read_black_and_white(file).astype(np.int8)]
    if values.ndim == 3:
        raise InputError(f"{file}: a picture of colours; a label map has one value a pixel, the dataset's class id")
    if values.shape != tuple(size):
        raise InputError(f"{file}: {in_pixels(values.shape)} pixels, the image has {in_pixels(size)}; they must agree")
    index = {label.id: place for place, label in enumerate(labels)}
    present, numbers = np.unique(values, return_inverse=True)
    classes, table = [], np.zeros(len(present), dtype=np.int32)
    for place, value in enumerate(present.tolist()):
        if value in index:
            classes.append(index[value])
            table[place] = len(classes)
        elif value not in (*ignored, *_NOTHING):
            raise InputError(
                f"{file}: value {value} is not a class of the data, whose {len(labels)} ids are {min(index)} to "
                f"{max(index)}; write the data's own ids, and 255 (in 16 bits 65535) for none"
            )
    scores = np.full(len(classes), np.nan, dtype=np.float32)
    return Segments("semantic", size, labels, np.array(classes, dtype=np.int64), scores, table[numbers].reshape(size))
