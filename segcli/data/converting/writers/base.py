"""What the writers of all formats have in common: an image in, the bytes and rows of its truth out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal, Protocol

import numpy as np

from segcli.data.records import DatasetInfo
from segcli.data.truth import NOTHING, VOID, Truth
from segcli.types import Label, LabelSet

Kind = Literal["panoptic", "instance", "semantic", "outlines"]
BACKGROUND = "background"


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


class Writer(Protocol):
    """Writes one format. `encode` only computes, so that images can be encoded in threads."""

    notes: tuple[str, ...]

    def image_place(self, split: str, name: str) -> str:
        """Where an image goes, relative to the dataset."""

    def encode(self, item: Item) -> Encoded:
        """The truth of one image in this format."""

    def finish(self, names: dict[str, list[str]]) -> dict[str, str]:
        """The small files that make a dataset of it: place -> text. names: split -> its images."""


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
