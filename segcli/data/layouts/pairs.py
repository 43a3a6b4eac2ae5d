"""Image folders beside label folders: the layouts, and which label file belongs to which image.

train/images  train/labels   val/images  val/labels          split outside
images/train  labels/train   images/val  labels/val          split inside (ADE20K: images/training, annotations/…)
images        labels                                         no split
train  train_labels          val  val_labels                 CamVid (train_labels or trainannot)
leftImg8bit/train/city       gtFine/train/city               Cityscapes (same layout, one folder deeper)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from segcli.codecs.image_names import IMAGE_SUFFIXES
from segcli.codecs.image_ref import FileRef
from segcli.data.layouts.folders import LABEL_SUFFIXES, files_in, named, split_folders, subfolders
from segcli.data.records import Fault, Record
from segcli.data.settings import Settings
from segcli.errors import UsageError

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "leftimg8bit", "photos", "rgb")
LABEL_FOLDERS = (
    "labels", "label", "masks", "mask", "annotations", "annotation", "segmentationclass", "segmentationclasspng",
    "gtfine", "gt", "ground_truth", "groundtruth", "segmentation", "segmentations", "instances",
)  # fmt: skip
_ENDINGS = re.compile(
    r"(_leftImg8bit|_gtFine_label(Train)?Ids|_gtFine_instanceIds|_(L|P|mask|masks|label|labels|gt|seg))$"
)


@dataclass(frozen=True)
class PairedFolders:
    """One split's folder of images and its folder of label files."""

    images: Path
    labels: Path


def paired_folders(root: Path, settings: Settings) -> dict[str, PairedFolders]:
    """split (or "all") -> its two folders, by the first layout that fits; empty if none does.

    Raises UsageError if images and label files are declared to be in one folder.
    """
    declared = {
        split: PairedFolders(place.images, place.labels)
        for split, place in settings.places.items()
        if place.images and place.labels
    }
    for pair in declared.values():
        if pair.images.resolve() == pair.labels.resolve():
            raise UsageError(
                f"{settings.file}: images and labels are both {pair.images}, so that photos would be their own label "
                "maps; move the label maps into a folder of their own"
            )
    return declared or _split_outside(root) or _split_inside(root) or _beside(root)


def _split_outside(root: Path) -> dict[str, PairedFolders]:
    pairs = {split: _pair_in(folder) for split, folder in split_folders(root).items()}
    return {split: pair for split, pair in pairs.items() if pair}


def _split_inside(root: Path) -> dict[str, PairedFolders]:
    pair = _pair_in(root)
    if not pair:
        return {}
    images, labels = split_folders(pair.images), split_folders(pair.labels)
    common = {split: PairedFolders(images[split], labels[split]) for split in images if split in labels}
    return common or {"all": pair}


def _pair_in(folder: Path) -> PairedFolders | None:
    images, labels = named(folder, IMAGE_FOLDERS), named(folder, LABEL_FOLDERS)
    return PairedFolders(images, labels) if images and labels else None


def _beside(root: Path) -> dict[str, PairedFolders]:
    """CamVid: train/ and train_labels/ (or trainannot/) in one folder."""
    folders = {child.name.lower(): child for child in subfolders(root)}
    pairs: dict[str, PairedFolders] = {}
    for split, images in split_folders(root).items():
        for ending in ("_labels", "_label", "_masks", "_mask", "annot", "_annot", "_annotations"):
            labels = folders.get(images.name.lower() + ending)
            if labels:
                pairs[split] = PairedFolders(images, labels)
    return pairs


def paired_records(pair: PairedFolders, *, only: str | None = None) -> tuple[list[Record], list[Path]]:
    """(a record an image, label files without an image). An image without a label file gets the path where it ought
    to be, and the scan will say that it is missing.

    only: take label files that end in this, where a folder has several kinds ("_gtFine_labelIds.png").
    """
    labels: dict[str, Path] = {}
    for file in files_in(pair.labels, LABEL_SUFFIXES, deep=True):
        if only is None or file.name.endswith(only):
            key = _key(file, pair.labels)
            if key in labels:
                raise UsageError(f"{file}: {labels[key].name} is a label file of the same image; keep one of the two")
            labels[key] = file
    records = []
    for image in files_in(pair.images, IMAGE_SUFFIXES, deep=True):
        key = _key(image, pair.images)
        label = labels.pop(key, None) or pair.labels / f"{key}{only or '.png'}"
        records.append(Record(key, FileRef(str(image)), str(label)))
    return records, list(labels.values())


def image_key(stem: str) -> str:
    """What an image and its label file have in common: a name without the endings that say which of the two it is."""
    return _ENDINGS.sub("", stem)


def _key(file: Path, folder: Path) -> str:
    place = file.relative_to(folder)
    return (place.parent / image_key(place.stem)).as_posix()


def left_out(orphans: list[Path]) -> tuple[Fault, ...]:
    """What to say of label files without an image."""
    if not orphans:
        return ()
    message = f"{len(orphans)} label maps without an image are left out, such as {orphans[0]}"
    return (Fault("orphan", message, len(orphans)),)


def label_files(pairs: dict[str, PairedFolders], count: int) -> list[Path]:
    """Up to `count` label files, spread evenly over all splits."""
    files = [file for pair in pairs.values() for file in files_in(pair.labels, LABEL_SUFFIXES, deep=True)]
    return files[:: max(1, len(files) // count)][:count]
