"""Semantic label maps: one PNG an image, pixel value = class id. Plain folders, ADE20K, Cityscapes and CamVid trees."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segcli.codecs.label_png import Colours, read_black_and_white, read_label_map
from segcli.data.layouts.cityscapes import ENDING as INSTANCE_IDS
from segcli.data.layouts.cityscapes import CityscapesReader
from segcli.data.layouts.class_tables import VOID_NAMES, class_names, colour_table, known_table, roboflow_classes
from segcli.data.layouts.folders import files_in, split_folders
from segcli.data.layouts.label_values import (
    check_size,
    colours_to_ids,
    greys_are_colours,
    numbered,
    palettes_are_colours,
    survey,
    values_of,
)
from segcli.data.layouts.pairs import PairedFolders, label_files, left_out, named_alike, paired_folders, paired_records
from segcli.data.layouts.smoothed import refuse_jpeg, refuse_smoothed
from segcli.data.records import Found, Reader, Record, out_of_range
from segcli.data.settings import FILE_NAME, Settings
from segcli.data.truth import MapTruth
from segcli.errors import UsageError
from segcli.files.image_names import IMAGE_SUFFIXES
from segcli.types import Label, Task

FORMAT = "semantic-png"
SOUGHT = "images beside label maps (images/ and labels/, with train/ and val/ inside or outside)"
WRITTEN_AS = "semantic-png"
PLACES: tuple[str, ...] = ("images", "labels")
EXPLAINS: tuple[str, ...] = ()
IS_LABEL_MAPS = True
_CITYSCAPES_IDS = range(34)  # of which 19 are evaluated
_MAX_CLASSES = 1000
_SAMPLE = 40


@dataclass(frozen=True)
class Tree:
    """A folder layout with what is known about it. only: the ending of its label files, if there are several kinds.
    tells_objects: those hold the numbers of objects too. painted: somebody declared the colours of the classes.
    """

    name: str
    labels: list[Label]
    ignore: tuple[int, ...]
    notes: tuple[str, ...] = ()
    only: str | None = None
    tells_objects: bool = False
    painted: bool = False


def probe(root: Path, settings: Settings) -> str | None:
    """The folders, in a few words; None if there are no images beside label maps."""
    pairs = paired_folders(root, settings)
    if not label_files(pairs, 1):
        return None
    return ", ".join(
        f"{_under(pair.images, root)} + {_under(pair.labels, root)}"
        if pair.labels != pair.images
        else f"label maps beside photos in {_under(pair.images, root)}"
        for pair in pairs.values()
    )


def _under(folder: Path, root: Path) -> str:
    return str(folder.relative_to(root) if folder.is_relative_to(root) else folder)


def known_tree(root: Path, settings: Settings) -> Tree | None:
    """The dataset this tree belongs to, if its layout or its class list tells; then the labels are classes for sure."""
    if settings.classes or settings.binary:
        return None
    recognisers: tuple[Callable[[Path, Settings], Tree | None], ...] = (
        *(_cityscapes, _ade20k, _camvid, _roboflow, _camvid_of_twelve),
    )
    return next((tree for recognise in recognisers if (tree := recognise(root, settings))), None)


def load(root: Path, settings: Settings) -> Found:
    """The dataset. Raises UsageError for label maps of undeclared colours, and where classes cannot be known."""
    pairs = paired_folders(root, settings)
    tree = known_tree(root, settings) or _plain(root, settings, pairs)
    if tree.name == "Cityscapes":
        pairs.pop("test", None)  # its label maps are blank
    splits: dict[str, list[Record]] = {}
    orphans: list[Path] = []
    notes = list(tree.notes)
    for split, pair in pairs.items():
        splits[split], of_split, difference = paired_records(pair, only=tree.only)
        orphans += of_split
        notes += named_alike(split, difference)
    ignore = tree.ignore if settings.ignore is None else settings.ignore
    labels = settings.label_set([label for label in tree.labels if label.id not in ignore], root)
    # Void classes keep their colours: they are declared, though not trained on.
    reader: Reader = SemanticReader(
        tuple(labels.ids), ignore, tuple(tree.labels), _colours(tree, pairs), binary=settings.binary
    )
    tasks: tuple[Task, ...] = ("semantic",)
    if tree.tells_objects:
        things = tuple(label.id for label in labels if label.isthing)
        reader, tasks = CityscapesReader(tuple(labels.ids), things, ignore), ("panoptic", "semantic", "instance")
    what = f"{tree.name}: {probe(root, settings)}"
    return Found(FORMAT, what, splits, labels, tasks, reader, ignore, tuple(notes), left_out(orphans))


def _colours(tree: Tree, pairs: dict[str, PairedFolders]) -> Colours:
    """Which label maps are read by their colours."""
    if not tree.painted:
        return "none"
    files = label_files(pairs, 1 << 40)
    if palettes_are_colours(files, tree.labels, tree.ignore):
        return "all"
    return "grey" if greys_are_colours(files, tree.labels) else "stored"


def _cityscapes(root: Path, settings: Settings) -> Tree | None:
    if not (root / "leftImg8bit").is_dir() or not (root / "gtFine").is_dir():
        return None
    table = known_table("cityscapes_19")
    for ending in (INSTANCE_IDS, "_gtFine_labelIds.png"):
        if next((root / "gtFine").rglob(f"*{ending}"), None):
            ignore = tuple(sorted({*_CITYSCAPES_IDS, 255} - {label.id for label in table}))
            note = ("15 Cityscapes ids that are not evaluated count as void",)
            return Tree("Cityscapes", table, ignore, note, ending, tells_objects=ending == INSTANCE_IDS)
    table = [Label(i, label.name, label.isthing, label.color) for i, label in enumerate(table)]
    return Tree("Cityscapes", table, (255,), ("label maps of training ids (0–18)",), "_gtFine_labelTrainIds.png")


def _ade20k(root: Path, settings: Settings) -> Tree | None:
    folder = split_folders(root / "images").get("train")
    if not (root / "annotations").is_dir() or folder is None:
        return None
    first = next(iter(files_in(folder, frozenset({".jpg"}))), None)
    if (root / "objectInfo150.txt").is_file() or (first and first.name.startswith("ADE_")):
        return Tree("ADE20K", known_table("ade20k_150"), (0,), ("value 0 (other objects) is void in ADE20K",))
    return None


def _camvid(root: Path, settings: Settings) -> Tree | None:
    table = colour_table(root)
    if not table:
        return None
    void = [label for label in table if label.name.lower() in VOID_NAMES]
    notes = tuple(f"class {label.name!r} counts as void" for label in void)
    taken = {label.id for label in table}
    default = tuple(value for value in settings.ignored() if value not in taken)
    return Tree(
        "class colours of class_dict.csv", table, (*(label.id for label in void), *default), notes, painted=True
    )


def _roboflow(root: Path, settings: Settings) -> Tree | None:
    table = roboflow_classes([root, *split_folders(root).values()])
    if not table:
        return None
    taken = {label.id for label in table}
    return Tree("Roboflow semantic masks", table, tuple(value for value in settings.ignored() if value not in taken))


_CAMVID = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "cyclist",
    "unlabelled",
)  # fmt: skip


def _camvid_of_twelve(root: Path, settings: Settings) -> Tree | None:
    """CamVid in 11 classes and void, as SegNet's authors divided it: train/ and trainannot/."""
    folder = root / "train"
    if not (root / "trainannot").is_dir() or not folder.is_dir() or class_names(root):
        return None
    frames = [re.match(r"(0001TP|0006R0|0016E5|Seq05VD)_", file.name) for file in files_in(folder, IMAGE_SUFFIXES)[:20]]
    if not frames or not all(frames):
        return None
    labels = [Label(i, name, isthing=False) for i, name in enumerate(_CAMVID)]
    return Tree("CamVid", labels, (11, 255), ("value 11 (unlabelled) counts as void",))


def _plain(root: Path, settings: Settings, pairs: dict[str, PairedFolders]) -> Tree:
    """Label maps without a known tree: declared classes, a list of names, or the values that occur."""
    ignore = settings.ignored()
    if settings.binary:
        return _black_and_white(root, settings)
    refuse_jpeg(label_files(pairs, _SAMPLE), root / FILE_NAME)
    if not any(label.color for label in settings.classes):
        refuse_smoothed(label_files(pairs, _SAMPLE), root / FILE_NAME)
    if settings.classes:
        painted = any(label.color for label in settings.classes)
        return Tree("semantic label maps", list(settings.classes), ignore, painted=painted)
    names = class_names(root)
    if names:
        if _is_binary(survey(label_files(pairs, _SAMPLE)), ignore):  # else the other maps need not be read
            _refuse_binary(survey(label_files(pairs, 1 << 40)), ignore, root)
        void = [i for i, name in names.items() if name.lower() in VOID_NAMES]
        notes = tuple(f"class {names[i]!r} counts as void" for i in void)
        ignore = (*ignore, *void) if settings.ignore is None else ignore
        labels = [Label(i, name, isthing=False) for i, name in names.items() if i not in ignore]
        return Tree("semantic label maps", labels, ignore, notes)
    values = survey(label_files(pairs, 1 << 40))
    _refuse_binary(values, ignore, root)
    void = [value for value in values if value in ignore]
    classes = [value for value in values if value not in ignore]
    if not classes:
        raise UsageError(f"{root}: the label maps hold no class, only ignored values; check them")
    if len(classes) > _MAX_CLASSES:
        raise UsageError(
            f"{root}: {len(classes)} different values in the label maps; if they number objects, "
            "use --format instance-png"
        )
    labels = [Label(value, f"class {value}", isthing=False) for value in classes]
    said = [f"classes have no names; list them in {root / FILE_NAME} or classes.txt"]
    if void and settings.ignore is None:
        said.append(f"value {void[0]} counts as void; if it is a class, write `ignore = []` into {root / FILE_NAME}")
    return Tree("semantic label maps", labels, ignore, tuple(said))


def _black_and_white(root: Path, settings: Settings) -> Tree:
    """Two classes: what is darker than half, and what is lighter."""
    names = [label.name for label in settings.classes] or list(class_names(root).values())
    names = names or ["background", "object"]
    if len(names) != 2:
        raise UsageError(
            f"{settings.file}: black and white masks (--binary, binary = true) have two classes, here are {len(names)}"
        )
    labels = list(settings.classes) or [Label(i, name, isthing=False) for i, name in enumerate(names)]
    return Tree("black and white masks", labels, settings.ignore or ())


def _is_binary(values: dict[int, str], ignore: tuple[int, ...]) -> bool:
    """Whether label maps are black and white, and white is void."""
    return set(values) <= {0, 255} and 255 in ignore and 255 in values


def _refuse_binary(values: dict[int, str], ignore: tuple[int, ...], root: Path) -> None:
    if _is_binary(values, ignore):
        raise UsageError(
            f"{values[255]}: holds only 0 and 255, and 255 means ignored unless declared; if 255 is the object, give "
            f"--binary, or write `binary = true` into {root / FILE_NAME} (or ignore = [] and two [[classes]], id = 0 "
            "and id = 255)"
        )


@dataclass(frozen=True)
class SemanticReader:
    """Reads label maps. ids: the classes; ignore: void values; declared: classes (void ones too) with their colours.
    colours: which label maps are read by these, and not by their values.
    """

    ids: tuple[int, ...]
    ignore: tuple[int, ...]
    declared: tuple[Label, ...]
    colours: Colours = "none"
    binary: bool = False  # black and white: what is lighter than half is the second class

    def files(self, record: Record) -> list[Path]:
        """The label map."""
        return [Path(str(record.truth))]

    def read(self, record: Record, size: tuple[int, int]) -> MapTruth:
        """One object a class that occurs."""
        file = Path(str(record.truth))
        if self.binary:
            label_map = np.array(self.ids, dtype=np.int32)[read_black_and_white(file).astype(np.int8)]
        else:
            label_map = read_label_map(file, colours=self.colours)
        check_size(label_map, size, file)
        if label_map.ndim == 3:
            numbers = () if self.colours == "all" else (*self.ids, *self.ignore)
            label_map = colours_to_ids(label_map, self.declared, file, numbers)
        values = values_of(label_map)
        strange = np.setdiff1d(values, (*self.ids, *self.ignore))
        if len(strange):
            raise out_of_range(file, strange.tolist(), self.ids, self.ignore)
        present = np.setdiff1d(values, self.ignore)
        ids = numbered(label_map, present, self.ignore)
        return MapTruth(ids, present.astype(np.int64), np.zeros(len(present), dtype=bool))
