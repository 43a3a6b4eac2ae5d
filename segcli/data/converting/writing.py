"""What the writers of all formats have in common: an image in, the bytes and rows of its truth out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, ClassVar, Literal

import numpy as np

from segcli.codecs.outlines import parts
from segcli.codecs.rle import RLE
from segcli.data.objects import rles_of, unknown_pixels
from segcli.data.records import DatasetInfo
from segcli.data.truth import NOTHING, VOID, ShapeTruth, Truth
from segcli.errors import UsageError
from segcli.types import Label, LabelSet

Kind = Literal["panoptic", "instance", "semantic", "outlines"]
BACKGROUND = "background"
SHARED = "pixels shared by several objects go to one of them"
BURIED = "objects hidden by others are left out"
VOID_8, VOID_16 = 255, 65_535


@dataclass(frozen=True)
class Item:
    """One image to be written. name: its file name in the new dataset, unique there, as is its stem.

    truth: labels are the ids of the source dataset.
    """

    split: str
    name: str
    image_id: int
    size: tuple[int, int]
    truth: Truth

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem


@dataclass
class Encoded:
    """What belongs to one image. files: by their places in the dataset. image, annotations: rows of a JSON file.

    losses: what the format cannot hold, and changes: what it holds in another form -> how much of it there was.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    image: dict[str, Any] | None = None
    annotations: list[dict[str, Any]] = field(default_factory=list)
    losses: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)


class Writer(ABC):
    """Writes one format: a module of `converting/writers` each. `encode` only computes, so that images can be encoded
    in threads."""

    IS_FOR_EDITING: ClassVar[bool] = False  # of a labelling tool, which may save over the images: they are copied
    NEEDS_OBJECTS: ClassVar[bool] = False  # classes alone cannot be written
    HOLDS_OVERLAPS: ClassVar[bool] = False  # outlines of objects and of stuff that lie over each other
    notes: tuple[str, ...] = ()  # what is different in all images
    as_polygons: bool  # of formats that hold run-length masks too: no such masks
    tolerance: float = 0.0  # pixels that outlines may lie away from the masks, where a format has outlines

    @abstractmethod
    def __init__(self, labels: LabelSet, kind: Kind) -> None:
        """labels: the classes of the source. Raises UsageError for classes that the format cannot hold."""

    @abstractmethod
    def image_place(self, split: str, name: str) -> str:
        """Where an image goes, relative to the dataset."""

    @abstractmethod
    def encode(self, item: Item) -> Encoded:
        """The truth of one image in this format."""

    def finish(self, names: dict[str, list[str]]) -> dict[str, str]:
        """The small files that make a dataset of it: place -> text. names: split -> its images."""
        return {}

    def table_place(self, split: str) -> str | None:
        """Where a split's COCO table goes, for formats that have one."""
        return None

    def categories(self) -> list[dict[str, Any]]:
        """The classes, as rows of a COCO table."""
        return []


def kind_of(info: DatasetInfo) -> Kind:
    """What a source tells apart: objects and stuff, objects alone, classes alone, or outlines of objects and of stuff,
    which may overlap."""
    if info.outlines:
        return "outlines"
    if "panoptic" in info.tasks:
        return "panoptic"
    return "instance" if "instance" in info.tasks else "semantic"


def background_name(labels: LabelSet) -> str:
    """A name for the pixels of no object that no class has."""
    taken = set(labels.names)
    return next(name for name in (BACKGROUND, "no object", *(f"no object {i}" for i in range(9))) if name not in taken)


def renumbered(labels: LabelSet, first: int) -> dict[int, int]:
    """Class ids -> first, first + 1, …"""
    return {label.id: first + number for number, label in enumerate(labels)}


def with_ids(labels: LabelSet, ids: dict[int, int]) -> LabelSet:
    """The same classes under other ids, those without one left out."""
    kept = [Label(ids[label.id], label.name, label.isthing, label.color) for label in labels if label.id in ids]
    return LabelSet(tuple(kept))


def things_of(labels: LabelSet) -> LabelSet:
    """The countable classes."""
    return LabelSet(tuple(label for label in labels if label.isthing))


def values(ids: np.ndarray, table: np.ndarray, nothing: int, void: int) -> np.ndarray:
    """A map of object numbers -> what a format stores: table[i] for object i, and values for no object and void."""
    full = np.empty(len(table) + 2, dtype=np.int32)
    full[VOID + 1], full[NOTHING + 1], full[2:] = void, nothing, table
    return full[ids + 1]


def pair_place(split: str, name: str, folder: str) -> str:
    """A file of images/ or labels/, inside of its split's folder."""
    return f"{folder}/{name}" if split == "all" else f"{split}/{folder}/{name}"


def numbered_objects(item: Item, ids: np.ndarray, kept: np.ndarray, void: int) -> tuple[np.ndarray, Encoded]:
    """Numbers 1 … n for the kept objects that are to be seen; void for crowds, which no single number can stand for."""
    done = Encoded()
    crowd = item.truth.crowd
    seen = np.bincount(ids[ids > 0], minlength=len(kept) + 1)[1:] > 0
    single = kept & ~crowd & seen
    if int(single.sum()) >= void:
        raise UsageError(f"{item.name}: {int(single.sum())} objects; this format holds at most {void - 1} per image")
    table = np.zeros(len(kept), dtype=np.int32)
    table[single] = np.arange(1, int(single.sum()) + 1)
    table[kept & crowd] = void
    done.losses[BURIED] += int((kept & ~seen).sum())
    done.losses["crowd regions become pixels of unknown truth"] += int((kept & crowd & seen).sum())
    return values(ids, table, 0, void), done


def image_row(item: Item) -> dict[str, Any]:
    """The image as a row of a COCO table."""
    return {"id": item.image_id, "file_name": item.name, "height": item.size[0], "width": item.size[1]}


@dataclass(frozen=True)
class Outlined:
    """One object with its outlines, for the tools that people draw with."""

    number: int  # from 1, in its image
    name: str
    parts: list[tuple[np.ndarray, list[np.ndarray]]]  # (outline, holes) in pixels of the image, float [n, 2] x, y
    rle: RLE
    score: float | None = None  # of a prediction

    @property
    def is_simple(self) -> bool:
        """Whether one closed line is all there is: no holes, no other parts."""
        return len(self.parts) == 1 and not self.parts[0][1]


def outlined(item: Item, labels: LabelSet, tolerance: float, done: Encoded) -> Iterator[Outlined]:
    """The objects of an image with their outlines; what is left out is counted. Own polygons stay as they are where
    nothing may be moved and nothing is joined."""
    names = {label.id: label.name for label in labels}
    truth = item.truth
    scores = truth.scores if isinstance(truth, ShapeTruth) else None
    for index, rle in enumerate(rles_of(truth)):
        name = names.get(int(truth.labels[index]))
        if name is None:
            done.losses["regions of stuff classes are left out"] += 1
        elif truth.crowd[index]:
            done.losses["crowd regions are left out"] += 1
        elif not rle.area:
            done.losses["objects without a pixel are left out"] += 1
        else:
            score = None if scores is None else round(float(scores[index]), 4)
            yield Outlined(index + 1, name, _parts_of(truth, index, rle, tolerance), rle, score)
    done.losses["pixels of unknown truth become background"] += unknown_pixels(truth)


def _parts_of(truth: Truth, index: int, rle: RLE, tolerance: float) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    shape = truth.shapes[index] if isinstance(truth, ShapeTruth) else rle
    if not isinstance(shape, RLE) and len(shape) == 1:
        return [(shape[0], [])]
    x, y, mask = rle.decode_crop()
    corner = np.array([x, y])
    return [(loop + corner, [hole + corner for hole in holes]) for loop, holes in parts(mask, tolerance)]
