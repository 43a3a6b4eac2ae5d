"""Pascal VOC: SegmentationClass and SegmentationObject, palette PNGs beside JPEGImages, splits in ImageSets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segcli.codecs.label_png import read_label_map
from segcli.data.class_tables import VOC_NAMES, name_list
from segcli.data.folders import named
from segcli.data.label_values import check_size, numbered, values_of
from segcli.data.pairs import PairedFolders, left_out, paired_records
from segcli.data.records import Found, Record, out_of_range
from segcli.data.semantic_png import SemanticReader
from segcli.data.settings import Settings
from segcli.data.truth import VOID, MapTruth
from segcli.errors import UsageError
from segcli.types import Label

FORMAT = "voc"
_CLASS_FOLDERS = ("segmentationclass", "segmentationclasspng")
_OBJECT_FOLDERS = ("segmentationobject", "segmentationobjectpng")
_BACKGROUND_ID = 0


def _home(root: Path) -> Path | None:
    """The folder that holds JPEGImages: `root`, or VOC2012/, or VOCdevkit/VOC2012/ in it."""
    for folder in (root, *sorted(root.glob("VOC20*")), *sorted(root.glob("VOCdevkit/VOC20*"))):
        if named(folder, ("jpegimages",)) and named(folder, _CLASS_FOLDERS):
            return folder
    return None


def probe(root: Path, settings: Settings) -> str | None:
    """The folders, in a few words; None if this is no VOC tree."""
    home = _home(root)
    if home is None:
        return None
    folders = [named(home, names) for names in (("jpegimages",), _CLASS_FOLDERS, _OBJECT_FOLDERS)]
    return " + ".join(folder.name for folder in folders if folder)


def load(root: Path, settings: Settings) -> Found:
    """The dataset: with objects panoptic (20 things, the background as stuff), without them semantic."""
    home = _home(root)
    if home is None:
        raise UsageError(f"{root}: no JPEGImages/ beside SegmentationClass/ here or in VOCdevkit/VOC20…/")
    photos, classes = named(home, ("jpegimages",)), named(home, _CLASS_FOLDERS)
    objects = named(home, _OBJECT_FOLDERS)
    assert photos is not None
    assert classes is not None
    records, orphans = paired_records(PairedFolders(photos, classes))
    # Most of VOC's photographs were never segmented: only those with a label map belong to this dataset.
    records = [record for record in records if Path(str(record.truth)).is_file()]
    notes: list[str] = []
    names = name_list(home) or name_list(root)
    if not names and not settings.classes:
        names = list(VOC_NAMES)
        notes.append("class names are VOC's own; others go into class_names.txt, one a line, the background first")
    ignore = settings.ignored()
    things = objects is not None
    labels = list(settings.classes) or [
        Label(i, "background" if i == 0 else name, isthing=things and i != _BACKGROUND_ID)
        for i, name in enumerate(names)
    ]
    label_set = settings.label_set([label for label in labels if label.id not in ignore])
    ids = tuple(label_set.ids)
    stuff = tuple(label.id for label in label_set if not label.isthing)
    reader = VocReader(objects, ids, ignore, stuff) if objects else SemanticReader(ids, ignore, tuple(label_set))
    return Found(
        FORMAT,
        f"Pascal VOC: {probe(root, settings)}",
        _splits(home, records),
        label_set,
        ("panoptic", "semantic", "instance") if objects else ("semantic",),
        reader,
        ignore,
        tuple(notes),
        left_out(orphans),
    )


def _splits(home: Path, records: list[Record]) -> dict[str, list[Record]]:
    by_name = {record.image_id: record for record in records}
    splits: dict[str, list[Record]] = {}
    for split in ("train", "val", "test"):
        file = home / "ImageSets" / "Segmentation" / f"{split}.txt"
        if file.is_file():
            names = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
            missing = next((name for name in names if name not in by_name), None)
            if missing and split == "test":
                continue  # VOC's own test photographs are published without their truth
            if missing:
                raise UsageError(f"{file}: names {missing!r}, which has no label map and image in this tree")
            splits[split] = [by_name[name] for name in names]
    return splits or {"all": records}


@dataclass(frozen=True)
class VocReader:
    """Reads a class map and an object map together. stuff: the classes without objects, such as the background."""

    objects: Path
    ids: tuple[int, ...]
    ignore: tuple[int, ...]
    stuff: tuple[int, ...] = (_BACKGROUND_ID,)

    def files(self, record: Record) -> list[Path]:
        """The class map and the object map."""
        file = Path(str(record.truth))
        return [file, self.objects / file.name]

    def read(self, record: Record, size: tuple[int, int]) -> MapTruth:
        """Every object of the object map with the class most of it has; then each class of stuff as one more.

        Pixels of no object that have a class of things are void, as are the outlines (255).
        """
        class_file, object_file = self.files(record)
        class_map, object_map = read_label_map(class_file), read_label_map(object_file)
        for label_map, file in ((class_map, class_file), (object_map, object_file)):
            if label_map.ndim == 3:
                raise UsageError(f"{file}: a label map of colours without a palette; VOC's are palette PNGs")
            check_size(label_map, size, file)
        strange = np.setdiff1d(values_of(class_map), (*self.ids, *self.ignore))
        if len(strange):
            raise out_of_range(class_file, strange.tolist(), self.ids, self.ignore)
        unknown = np.isin(class_map, self.ignore) | np.isin(object_map, self.ignore)
        object_map = np.where(unknown, 0, object_map)
        class_map = np.where(unknown, _BACKGROUND_ID, class_map)
        values = values_of(object_map)
        values = values[values != 0]
        ids = numbered(object_map, values, ())
        votes = np.zeros((len(values) + 1, max(self.ids) + 1), dtype=np.int64)
        np.add.at(votes, (ids[ids > 0], class_map[ids > 0]), 1)
        votes[:, _BACKGROUND_ID] = 0
        classes = votes[1:].argmax(axis=1)
        ids[np.isin(ids, np.flatnonzero(votes[1:].sum(axis=1) == 0) + 1)] = VOID  # objects without a class
        labels = classes.tolist()
        free = (ids == 0) & ~unknown
        ids[ids == 0] = VOID
        for label in self.stuff:
            labels.append(label)
            ids[free & (class_map == label)] = len(labels)
        return MapTruth(ids, np.array(labels, dtype=np.int64), np.zeros(len(labels), dtype=bool))
