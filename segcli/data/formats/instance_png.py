"""Instance maps: one PNG an image, 0 = background, every other value one object of the only class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segcli.codecs.label_png import Colours, read_label_map
from segcli.data.formats import semantic_png
from segcli.data.formats.semantic_png import known_tree
from segcli.data.formats.semantic_png import probe as probe
from segcli.data.layouts.class_tables import class_names
from segcli.data.layouts.label_values import check_size, numbered, numbered_colours, values_of
from segcli.data.layouts.pairs import label_files, left_out, named_alike, paired_folders, paired_records
from segcli.data.layouts.smoothed import refuse_jpeg
from segcli.data.records import Found, Record
from segcli.data.settings import FILE_NAME, Settings
from segcli.data.truth import MapTruth
from segcli.errors import InputError, UsageError
from segcli.types import Label

FORMAT = "instance-png"
SOUGHT = semantic_png.SOUGHT
WRITTEN_AS = "instance-png"
PLACES: tuple[str, ...] = ("images", "labels")
EXPLAINS: tuple[str, ...] = ()
IS_LABEL_MAPS = True
_WHOLE = 0.9  # an object is in one piece if its largest piece has this share of it
_SAMPLE = 40
_MAX_IDS = 60
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def load(root: Path, settings: Settings) -> Found:
    """The dataset. Raises UsageError if several classes are declared: an instance map does not say which is which."""
    if len(settings.classes) > 1:
        raise UsageError(
            f"{root / 'dataset.toml'}: {len(settings.classes)} classes, but instance maps number the objects of one; "
            "use COCO annotations for several"
        )
    label = settings.classes[0] if settings.classes else Label(1, "object", isthing=True)
    ignore = settings.ignore or ()
    splits: dict[str, list[Record]] = {}
    orphans: list[Path] = []
    pairs = paired_folders(root, settings)
    refuse_jpeg(label_files(pairs, _SAMPLE), root / FILE_NAME)
    notes: list[str] = []
    if not settings.classes:
        notes.append('the class is called "object"; its name in dataset.toml: classes = ["nucleus"]')
    for split, pair in pairs.items():
        splits[split], of_split, difference = paired_records(pair)
        orphans += of_split
        notes += named_alike(split, difference)
    labels = settings.label_set([Label(label.id, label.name, isthing=True, color=label.color)], root)
    what = f"instance maps: {probe(root, settings)}"
    reader = InstanceMapReader(label.id, ignore)
    return Found(FORMAT, what, splits, labels, ("instance",), reader, ignore, tuple(notes), left_out(orphans))


@dataclass(frozen=True)
class InstanceMapReader:
    """Reads instance maps. ignore: void values; none unless declared, as 255 may well be an object's number."""

    label: int
    ignore: tuple[int, ...]

    def files(self, record: Record) -> list[Path]:
        """The instance map."""
        return [Path(str(record.truth))]

    def read(self, record: Record, size: tuple[int, int]) -> MapTruth:
        """One object a value, or a colour where the map is one of colours; black is the background."""
        file = Path(str(record.truth))
        label_map = read_label_map(file)
        if label_map.ndim == 3:
            label_map = numbered_colours(label_map)
        check_size(label_map, size, file)
        present = np.setdiff1d(values_of(label_map), (0, *self.ignore))
        ids = numbered(label_map, present, self.ignore)
        return MapTruth(ids, np.full(len(present), self.label, dtype=np.int64), np.zeros(len(present), dtype=bool))


def values_are_objects(root: Path, settings: Settings) -> bool | None:
    """Whether label maps number objects (True) or classes (False); None if they look like both.

    Objects are numbered 1 … n in every image with n changing from image to image, and are mostly in one piece; classes
    skip numbers and lie in many pieces. Judged on a sample of the label maps, unless several classes are named: an
    instance map has one.
    """
    names = settings.classes or class_names(root)
    if len(names) > 1 or settings.binary or known_tree(root, settings):
        return False
    pairs = paired_folders(root, settings)
    refuse_jpeg(label_files(pairs, _SAMPLE), root / FILE_NAME)
    if all(pair.images == pair.labels and _as_cellpose(*pair.files()) for pair in pairs.values()):
        return True
    colours: Colours = "stored" if any(label.color for label in settings.classes) else "none"
    counts: list[int] = []
    gapless: list[bool] = []
    whole: list[bool] = []
    for file in label_files(pairs, _SAMPLE):
        try:
            label_map = read_label_map(file, colours=colours)
        except InputError:
            continue
        if label_map.ndim == 3:
            return False
        values = values_of(label_map)
        values = values[values != 0]
        if len(values):
            counts.append(len(values))
            gapless.append(bool(values[-1] == len(values)))
            whole += _in_one_piece(label_map, values)
    if not counts:
        return None
    if np.mean(gapless) < 0.8 or np.mean(whole) < 0.5:
        return False
    if np.mean(gapless) >= 0.95 and np.mean(whole) >= 0.8 and len(set(counts)) > 1 and max(counts) > 2:
        return True
    return None


def scattered_map(root: Path, settings: Settings) -> Path | None:
    """A label map with a value that lies in many pieces, if there is one: what speaks against numbers of objects."""
    for file in label_files(paired_folders(root, settings), _SAMPLE):
        try:
            label_map = read_label_map(file)
        except InputError:
            continue
        values = values_of(label_map) if label_map.ndim == 2 else np.zeros(0, dtype=np.int64)
        if not all(_in_one_piece(label_map, values[values != 0])):
            return file
    return None


def _as_cellpose(images: list[Path], labels: list[Path]) -> bool:
    """Whether files are called as Cellpose calls its objects: x_img.png (or x.png) and x_masks.png."""
    return all(file.stem.endswith("_masks") for file in labels) and any(i.stem.endswith("_img") for i in images)


def _in_one_piece(label_map: np.ndarray, values: np.ndarray) -> list[bool]:
    from scipy import ndimage

    ids = numbered(label_map, values, ())
    answers = []
    for number, box in enumerate(ndimage.find_objects(ids)[:_MAX_IDS], start=1):
        pieces, count = ndimage.label(ids[box] == number, structure=_EIGHT_NEIGHBOURS)
        sizes = np.bincount(pieces.ravel())[1:]
        answers.append(bool(count == 1 or sizes.max() >= _WHOLE * sizes.sum()))
    return answers
