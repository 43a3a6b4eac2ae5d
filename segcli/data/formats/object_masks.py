"""A mask an object: ID/images/ID.png and ID/masks/*.png (Data Science Bowl 2018); images/ID.png and masks/ID/*.png."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segcli.codecs.label_png import read_black_and_white
from segcli.codecs.rle import RLE, encode
from segcli.data.layouts.folders import LABEL_SUFFIXES, files_in, named, split_of, subfolders
from segcli.data.layouts.label_values import check_size
from segcli.data.records import Fault, Found, Record
from segcli.data.settings import FILE_NAME, Settings
from segcli.data.truth import LeftOut, ShapeTruth
from segcli.errors import InputError, UsageError
from segcli.files.image_names import IMAGE_SUFFIXES
from segcli.files.image_ref import FileRef
from segcli.types import Label

FORMAT = "object-masks"
SOUGHT = "folders of one mask an object (ID/images, ID/masks)"
WRITTEN_AS = "coco"
PLACES: tuple[str, ...] = ()
EXPLAINS: tuple[str, ...] = ("semantic-png", "instance-png")
IS_LABEL_MAPS = False
_IMAGES, _MASKS = ("images", "image"), ("masks", "mask")
_LOOKED_AT = 3
_MOST_PARTS = 20


def _homes(root: Path) -> dict[Path, bool]:
    """Folders that hold images of this layout -> whether each image has a folder of its own."""
    found = {}
    for folder in [root, *subfolders(root)[:_MOST_PARTS]]:
        own = subfolders(folder)[:_LOOKED_AT]
        if len(own) > 1 and all(_is_sample(child) for child in own):
            found[folder] = True
        elif _masks_in_folders(folder):
            found[folder] = False
    return found


def _is_sample(folder: Path) -> bool:
    """Whether this is the folder of one image, and not of a split, which has many."""
    images, masks = named(folder, _IMAGES), named(folder, _MASKS)
    if images is None or masks is None or split_of(folder.name) == folder.name.lower():
        return False
    return len(files_in(images, IMAGE_SUFFIXES)) == 1 and bool(files_in(masks, LABEL_SUFFIXES))


def _masks_in_folders(folder: Path) -> bool:
    """Whether masks/ has a folder for each of some images."""
    images, masks = named(folder, _IMAGES), named(folder, _MASKS)
    own = subfolders(masks)[:_LOOKED_AT] if images and masks else []
    stems = {file.stem for file in files_in(images, IMAGE_SUFFIXES)} if own and images else set()
    return bool(own) and all(child.name in stems and files_in(child, LABEL_SUFFIXES) for child in own)


def probe(root: Path, settings: Settings) -> str | None:
    """The folders that hold the images; None if there are none."""
    return ", ".join(f"{home.name}/" for home in _homes(root)) or None


def load(root: Path, settings: Settings) -> Found:
    """The dataset. Images without masks (a test set's) are left out, and counted.

    Raises UsageError if several classes are declared: the masks do not say which is which.
    """
    if len(settings.classes) > 1:
        raise UsageError(
            f"{root / FILE_NAME}: {len(settings.classes)} classes, but masks of objects are of one; use COCO "
            "annotations for several"
        )
    label = settings.classes[0] if settings.classes else Label(1, "object", isthing=True)
    notes = (
        () if settings.classes else (f'the class is called "object"; its name in {FILE_NAME}: classes = ["nucleus"]',)
    )
    splits: dict[str, list[Record]] = {}
    without: list[Path] = []
    for home, apart in _homes(root).items():
        split = split_of(home.name) if home != root else None
        for photo, masks in _samples(home, apart):
            if masks is None:
                without.append(photo)
                continue
            image_id = masks.parent.name if apart else photo.stem
            record = Record(image_id, FileRef(str(photo)), str(masks), photo.name)
            splits.setdefault(split or "all", []).append(record)
    faults = [Fault("unannotated", f"{without[0]}: has no masks: left out", len(without))] if without else []
    labels = settings.label_set([Label(label.id, label.name, isthing=True, color=label.color)], root)
    what = f"a mask an object: {probe(root, settings)}"
    reader = ObjectMasksReader(label.id)
    return Found(FORMAT, what, splits, labels, ("instance",), reader, notes=notes, faults=tuple(faults))


def _samples(home: Path, apart: bool) -> list[tuple[Path, Path | None]]:
    """(photo, folder of its masks) of the images in a folder."""
    if apart:
        samples = []
        for child in subfolders(home):
            images, masks = named(child, _IMAGES), named(child, _MASKS)
            samples += [(photo, masks) for photo in (files_in(images, IMAGE_SUFFIXES) if images else [])]
        return samples
    images, masks = named(home, _IMAGES), named(home, _MASKS)
    if images is None or masks is None:
        return []
    own = {child.name: child for child in subfolders(masks)}
    return [(photo, own.get(photo.stem)) for photo in files_in(images, IMAGE_SUFFIXES)]


@dataclass(frozen=True)
class ObjectMasksReader:
    """Reads a folder of masks, which may overlap."""

    label: int

    def files(self, record: Record) -> list[Path]:
        """The masks."""
        return files_in(Path(str(record.truth)), LABEL_SUFFIXES)

    def read(self, record: Record, size: tuple[int, int]) -> ShapeTruth:
        """One object a mask: what is white in it. A mask that cannot be used costs that object."""
        shapes: list[RLE] = []
        left_out: list[LeftOut] = []
        for file in self.files(record):
            try:
                mask = read_black_and_white(file)
                check_size(mask, size, file)
            except InputError as error:
                left_out.append(LeftOut(str(error), str(file), self.label))
                continue
            if mask.any():
                shapes.append(encode(mask))
        labels = np.full(len(shapes), self.label, dtype=np.int64)
        return ShapeTruth(size, shapes, labels, np.zeros(len(shapes), dtype=bool), left_out=tuple(left_out))
