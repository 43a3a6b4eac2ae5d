"""What the writers of all formats have in common: an image in, the bytes and rows of its truth out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, ClassVar, Literal

import numpy as np

from segcli.data.records import DatasetInfo
from segcli.data.truth import NOTHING, VOID, Truth
from segcli.errors import UsageError
from segcli.types import Label, LabelSet

Kind = Literal["panoptic", "instance", "semantic", "outlines"]
BACKGROUND = "background"
SHARED = "pixels of several objects become one's"
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

    NEEDS_OBJECTS: ClassVar[bool] = False  # classes alone cannot be written
    HOLDS_OVERLAPS: ClassVar[bool] = False  # outlines of objects and of stuff that lie over each other
    notes: tuple[str, ...] = ()  # what is different in all images

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
        raise UsageError(
            f"{item.name}: {int(single.sum())} objects, and this format has numbers for {void - 1} an image"
        )
    table = np.zeros(len(kept), dtype=np.int32)
    table[single] = np.arange(1, int(single.sum()) + 1)
    table[kept & crowd] = void
    done.losses[BURIED] += int((kept & ~seen).sum())
    done.losses["crowd regions become pixels of unknown truth"] += int((kept & crowd & seen).sum())
    return values(ids, table, 0, void), done


def image_row(item: Item) -> dict[str, Any]:
    """The image as a row of a COCO table."""
    return {"id": item.image_id, "file_name": item.name, "height": item.size[0], "width": item.size[1]}
