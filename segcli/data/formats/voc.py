"""Pascal VOC: SegmentationClass and SegmentationObject, palette PNGs beside JPEGImages, splits in ImageSets.

CVAT ("Segmentation mask") and datumaro write the same tree with a labelmap.txt: their classes are told by colours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segcli.codecs.label_png import Colours, read_label_map
from segcli.data.formats.semantic_png import SemanticReader
from segcli.data.layouts.class_tables import (
    VOC_NAMES,
    VOID_NAMES,
    class_names,
    labelmap_classes,
    labelmap_file,
    voc_colour,
)
from segcli.data.layouts.folders import LABEL_SUFFIXES, files_in, named
from segcli.data.layouts.label_values import check_size, colours_to_ids, numbered, numbered_colours, values_of
from segcli.data.layouts.pairs import IMAGE_FOLDERS, PairedFolders, left_out, paired_records
from segcli.data.records import Fault, Found, Reader, Record, out_of_range
from segcli.data.settings import DEFAULT_IGNORE, Settings
from segcli.data.truth import VOID, MapTruth
from segcli.errors import UsageError
from segcli.files.image_places import with_slashes
from segcli.files.text import lines_of
from segcli.types import Label

FORMAT = "voc"
SOUGHT = "Pascal VOC (JPEGImages and SegmentationClass)"
WRITTEN_AS = "voc"
PLACES: tuple[str, ...] = ()
EXPLAINS: tuple[str, ...] = ()
IS_LABEL_MAPS = False
_CLASS_FOLDERS = ("segmentationclass", "segmentationclasspng", "segmentationclassaug")
_OBJECT_FOLDERS = ("segmentationobject", "segmentationobjectpng")
_BACKGROUND_ID = 0
_LISTS = {"train": ("train", "Train"), "val": ("val", "Val", "Validation"), "test": ("test", "Test")}  # CVAT: capitals


def _home(root: Path) -> Path | None:
    """The folder that holds JPEGImages: `root`, or VOC2012/, or VOCdevkit/VOC2012/ in it.

    A labelmap.txt is enough to know the tree: CVAT leaves out the images unless told otherwise.
    """
    for folder in (root, *sorted(root.glob("VOC20*")), *sorted(root.glob("VOCdevkit/VOC20*"))):
        if named(folder, _CLASS_FOLDERS) and (named(folder, ("jpegimages",)) or labelmap_file(folder)):
            return folder
    return None


def _label_folder(home: Path, names: tuple[str, ...]) -> Path | None:
    """The first of these folders with label files: labelme2voc writes some as PNG beside others in numpy's form."""
    folders = [folder for name in names if (folder := named(home, (name,)))]
    return next((folder for folder in folders if files_in(folder, LABEL_SUFFIXES)), next(iter(folders), None))


def _photos(home: Path) -> Path | None:
    return named(home, ("jpegimages", *(IMAGE_FOLDERS if labelmap_file(home) else ())))


def probe(root: Path, settings: Settings) -> str | None:
    """The folders, in a few words; None if this is no VOC tree."""
    home = _home(root)
    if home is None:
        return None
    folders = [_photos(home), _label_folder(home, _CLASS_FOLDERS), _label_folder(home, _OBJECT_FOLDERS)]
    return " + ".join(folder.name for folder in folders if folder)


def load(root: Path, settings: Settings) -> Found:
    """The dataset: with objects panoptic (20 things, the background as stuff), without them semantic."""
    home = _home(root)
    if home is None:
        raise UsageError(f"{root}: no JPEGImages/ beside SegmentationClass/ here or in VOCdevkit/VOC20…/")
    photos = _photos(home)
    classes, objects = _label_folder(home, _CLASS_FOLDERS), _label_folder(home, _OBJECT_FOLDERS)
    assert classes is not None
    if photos is None:
        raise UsageError(
            f'{home}: holds masks and no images; export again with "Save images", or put them into JPEGImages/'
        )
    records, orphans, _ = paired_records(PairedFolders(photos, classes))
    # Most of VOC's photographs were never segmented: only those with a label map belong to this dataset.
    records = [record for record in records if Path(str(record.truth)).is_file()]
    classes_known = _classes(root, home, settings)
    ignore, notes, colours = classes_known.ignore, classes_known.notes, classes_known.colours
    labels = [
        label if settings.classes else replace(label, isthing=bool(objects) and label.id != _BACKGROUND_ID)
        for label in classes_known.labels
    ]
    label_set = settings.label_set([label for label in labels if label.id not in ignore], home)
    ids = tuple(label_set.ids)
    stuff = tuple(label.id for label in label_set if not label.isthing)
    reader: Reader = SemanticReader(ids, ignore, colours or tuple(label_set), _colours_of(settings, colours))
    if objects:
        reader = VocReader(objects, ids, ignore, stuff, colours)
    faults = list(left_out(orphans))
    splits = _splits(home, records, faults)
    return Found(
        FORMAT,
        f"Pascal VOC: {probe(root, settings)}",
        splits,
        label_set,
        ("panoptic", "semantic", "instance") if objects else ("semantic",),
        reader,
        ignore,
        notes,
        tuple(faults),
    )


def _colours_of(settings: Settings, mapped: tuple[Label, ...]) -> Colours:
    """Which label maps are read by their colours."""
    if mapped:
        return "all"
    return "stored" if any(label.color for label in settings.classes) else "none"


@dataclass(frozen=True)
class _Classes:
    """What is known of the classes. colours: all of a labelmap.txt, void ones too, if colours tell them apart."""

    labels: tuple[Label, ...]
    ignore: tuple[int, ...]
    notes: tuple[str, ...] = ()
    colours: tuple[Label, ...] = ()


def _classes(root: Path, home: Path, settings: Settings) -> _Classes:
    file = labelmap_file(home) or labelmap_file(root)
    mapped = tuple(labelmap_classes(file)) if file else ()
    declared = {label.name: label.id for label in settings.classes}
    if declared.keys() >= {label.name for label in mapped} - VOID_NAMES - {"background"}:  # as segcli writes it
        ids = {**dict.fromkeys(VOID_NAMES, DEFAULT_IGNORE[0]), **declared}
        mapped = tuple(replace(label, id=ids[label.name]) for label in mapped if label.name in ids)
    if any(label.color for label in mapped):
        void = [label for label in mapped if label.name.lower() in VOID_NAMES]
        ignore = (*(label.id for label in void), *(settings.ignore or ()))
        notes = tuple(f"class {label.name!r} counts as void" for label in void)
        return _Classes(settings.classes or mapped, ignore, notes, mapped)
    if settings.classes or mapped:
        return _Classes(settings.classes or mapped, settings.ignored())
    names, notes = class_names(home) or class_names(root), ()
    if not names:
        names = dict(enumerate(VOC_NAMES))
        notes = ("class names are VOC's own; put others into class_names.txt, one per line, background first",)
    labels = [Label(i, "background" if i == 0 else name, isthing=False) for i, name in names.items()]
    return _Classes(tuple(labels), settings.ignored(), notes)


def _splits(home: Path, records: list[Record], faults: list[Fault]) -> dict[str, list[Record]]:
    by_name = {record.image_id: record for record in records}
    splits: dict[str, list[Record]] = {}
    for split, stems in _LISTS.items():
        files = [home / "ImageSets" / "Segmentation" / f"{stem}.txt" for stem in stems]
        file = next((file for file in files if file.is_file()), None)
        if file:
            names = [Path(with_slashes(line)).name for line in lines_of(file)]
            names = [name if name in by_name else Path(name).stem for name in names]
            missing = [name for name in names if name not in by_name]
            if missing and split == "test":
                continue  # VOC's own test photographs are published without their truth
            if 2 * len(missing) > len(names):
                raise UsageError(f"{file}: names {missing[0]!r}, which has no label map and image in this tree")
            if missing:
                message = f"{file.name}: {len(missing)} of its names have no label map and image: {missing[0]}"
                faults.append(Fault("unannotated", message, len(missing)))
            splits[split] = [by_name[name] for name in names if name in by_name]
    return splits or {"all": records}


@dataclass(frozen=True)
class VocReader:
    """Reads a class map and an object map together. stuff: the classes without objects, such as the background.
    colours: the classes by their colours, where these count and not the indices.
    """

    objects: Path
    ids: tuple[int, ...]
    ignore: tuple[int, ...]
    stuff: tuple[int, ...] = (_BACKGROUND_ID,)
    colours: tuple[Label, ...] = ()

    def files(self, record: Record) -> list[Path]:
        """The class map and the object map."""
        file = Path(str(record.truth))
        return [file, self.objects / file.name]

    def read(self, record: Record, size: tuple[int, int]) -> MapTruth:
        """Every object of the object map with the class most of it has; then each class of stuff as one more.

        Pixels of no object that have a class of things are void, as are the outlines (255).
        """
        class_file, object_file = self.files(record)
        class_map = read_label_map(class_file, colours="all" if self.colours else "none")
        object_map = read_label_map(object_file)
        check_size(class_map, size, class_file)
        check_size(object_map, size, object_file)
        told_by_colours = object_map.ndim == 3
        if class_map.ndim == 3:  # without a labelmap.txt colours are VOC's own
            own = [Label(i, str(i), isthing=False, color=voc_colour(i)) for i in (*self.ids, *self.ignore)]
            class_map = colours_to_ids(class_map, self.colours or own, class_file)
        object_map = numbered_colours(object_map) if told_by_colours else object_map
        strange = np.setdiff1d(values_of(class_map), (*self.ids, *self.ignore))
        if len(strange):
            raise out_of_range(class_file, strange.tolist(), self.ids, self.ignore)
        unknown = np.isin(class_map, self.ignore)
        if not (self.colours or told_by_colours):  # else outlines have a colour of their own in the class map
            unknown |= np.isin(object_map, self.ignore)
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
