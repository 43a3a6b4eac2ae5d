"""What detection hands on: where things lie and what the classes are. No pixels, no masks, no open files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from segcli.data.truth import Truth
from segcli.errors import InputError, UsageError
from segcli.files.image_ref import ImageRef
from segcli.types import LabelSet, Task

TRAIN_FROM = "under [train] in dataset.toml"


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a split.

    truth: the label file, or (number, offset, length) of a piece in one of the reader's packs, or None for an image
    that is known to hold no objects.
    """

    image_id: str  # unique within its split
    image: ImageRef
    truth: str | tuple[int, int, int] | None
    name: str | None = None  # what it is known by where image_id changes: COCO's numbers are others in the next export


@dataclass(frozen=True, slots=True)
class Stated:
    """What an annotation says of one object besides its mask, to be compared with it.

    name: what the file calls the object ("annotation 12"). area: pixels; box: x, y, w, h; None where nothing is said.
    """

    name: str
    area: float | None = None
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with the data. kind: one of `checking.check.KINDS`. amount: of what the kind counts."""

    kind: str
    message: str
    amount: int = 1


def bad_rows(source: str, reason: str, first: str, count: int) -> Fault:
    """Rows of one file (or of many, named by the first) that are left out for one reason."""
    rows = "1 row is" if count == 1 else f"{count:,} rows are"
    where = first if count == 1 else f"the first: {first}"
    return Fault("bad-row", f"{source}: {rows} left out: {reason} ({where})", count)


class Reader(Protocol):
    """Turns a record into its truth. Small, picklable, without open files: it goes to every worker."""

    def read(self, record: Record, size: tuple[int, int]) -> Truth:
        """The truth of an image that is `size` = (H, W) as decoded, its labels the dataset's own ids.

        Raises:
            InputError: the label file is missing, damaged or of another size.
            UsageError: a label outside of the declared classes.
        """

    def files(self, record: Record) -> list[Path]:
        """The label files that are read for this record alone."""


@dataclass(frozen=True)
class DatasetInfo:
    """A dataset that was found.

    found: one line for a person. notes: what else should be said aloud (held-out images, classes left out, …).
    faults: what is known to be wrong before an image is read; these are among the notes too.
    ignore: label values that mean "void". source_labels: every class of the dataset, before `task` selects.
    outlines: its stuff is drawn as objects are, and may lie under or over them. held_out: "val" is no split of the
    data, but a part of the images to train on.
    """

    root: Path
    format: str
    found: str
    task: Task
    tasks: tuple[Task, ...]
    labels: LabelSet
    source_labels: LabelSet
    splits: dict[str, list[Record]]
    reader: Reader
    ignore: tuple[int, ...] = ()
    notes: tuple[str, ...] = field(default=())
    faults: tuple[Fault, ...] = field(default=())
    outlines: bool = False
    held_out: bool = False
    rows: dict[int | None, tuple[int, int]] = field(default_factory=dict)  # class -> unusable, all; known beforehand
    levels: tuple[float, float] | None = None  # black and white in pictures of more than 8 bits; None: each one's own

    def find(self, photo: Path, split: str | None = None) -> tuple[str, int]:
        """(split, number of its record) of a photo: the image that is that file, else the only one of its name.

        split: look only there. Raises InputError if there is no such image, or several that are other files.
        """
        same = [
            (name, number, record.image.place)
            for name, records in self.splits.items()
            if split in (None, name)
            for number, record in enumerate(records)
            if record.image.name == photo.name
        ]
        same = [place for place in same if place[2].resolve() == photo.resolve()][:1] or same
        if len(same) == 1:
            return same[0][:2]
        if not same:
            some = next((records[0].image.name for records in self.splits.values() if records), "none")
            raise InputError(f"{photo}: {self.root} has no image of this name; it has {some}, for example")
        raise InputError(f"{photo}: {self.root} has {len(same)} images of this name; give the one that lies there")

    def without(self, files: Iterable[str]) -> DatasetInfo:
        """The same dataset with some images, named by their files, left out."""
        dropped = set(files)
        splits = {name: [r for r in records if str(r.image) not in dropped] for name, records in self.splits.items()}
        return replace(self, splits=splits)


@dataclass(frozen=True)
class Found:
    """A format's answer: everything that does not depend on the wanted task. The first of `tasks` is the default.

    splits: by name, as the data itself has them; images of no split are under "all". train_from: where the user would
    name the images to train on.
    """

    format: str
    what: str
    splits: dict[str, list[Record]]
    labels: LabelSet
    tasks: tuple[Task, ...]
    reader: Reader
    ignore: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    train_from: str = TRAIN_FROM
    rows: dict[int | None, tuple[int, int]] = field(default_factory=dict)  # class -> rows that are unusable, and all


def out_of_range(file: object, values: Sequence[object], allowed: Sequence[int], ignore: Sequence[int]) -> UsageError:
    """The error for labels that no class has: file, value, allowed range, remedy."""
    shown = ", ".join(str(value) for value in values[:5]) + (", …" if len(values) > 5 else "")
    ignored = f"; ignored: {as_ranges(ignore)}" if ignore else ""
    return UsageError(
        f"{file}: label {shown} is not a class of this dataset (allowed: {as_ranges(allowed)}{ignored}); "
        "correct the file, or declare the class or the ignored value in dataset.toml"
    )


def as_ranges(values: Sequence[int]) -> str:
    """[1, 2, 3, 7] -> "1–3, 7"."""
    parts: list[list[int]] = []
    for value in sorted(set(values)):
        if parts and value == parts[-1][1] + 1:
            parts[-1][1] = value
        else:
            parts.append([value, value])
    return ", ".join(str(low) if low == high else f"{low}–{high}" for low, high in parts)
