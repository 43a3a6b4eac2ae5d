"""What a kind of `--save` is: a class that says where its results go and writes those of one photo at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from segcli.errors import UsageError
from segcli.results.ledger import Ledger
from segcli.types import TASKS, Task

if TYPE_CHECKING:
    import numpy as np

    from segcli.results.plan import Photo
    from segcli.segments import Segments
    from segcli.types import LabelSet

NONE = "none"  # `--save none`: write nothing
SAVE_KINDS: dict[str, type[SaveKind]] = {}
_IMAGEJ = "for ImageJ: segcli data convert RESULTS OUT --to imagej-roi --images PHOTOS"
_ELSEWHERE = dict.fromkeys(
    ("imagej", "imagej-roi", "fiji", "roi", "rois"), _IMAGEJ
)  # what is asked for, and where it is
_ELSEWHERE |= dict.fromkeys(("xlsx", "xls", "excel", "tsv"), "csv opens in every spreadsheet")
_ELSEWHERE |= dict.fromkeys(
    ("yolo", "voc", "labelme", "cvat", "geojson", "label-studio"),
    "other formats: segcli data convert RESULTS OUT --to …",
)


@dataclass(frozen=True)
class Shard:
    """One of several runs that share the photos of a command, each on its own machine or at its own time."""

    index: int  # 0 … count - 1
    count: int

    def part_of(self, name: str) -> str:
        """predictions.json -> predictions-00003-of-00016.json."""
        stem, dot, suffix = name.rpartition(".")
        return f"{stem}-{self.index:05d}-of-{self.count:05d}{dot}{suffix}"

    def share(self, length: int) -> range:
        """Its part of a list: runs side by side, so that the parts in order are the whole in order."""
        return range(length * self.index // self.count, length * (self.index + 1) // self.count)


@dataclass(frozen=True)
class SaveRun:
    """What is the same for every photo of a run."""

    out: Path  # the folder below which everything is written
    task: Task
    labels: LabelSet  # all classes of the model
    facts: Mapping[str, Any] = field(default_factory=dict)  # for the records: {"model": …, "input": …, "rule": …}
    draw: Callable[[np.ndarray, Segments], np.ndarray] | None = None  # photo and segments -> the overlay picture
    overwrite: bool = False  # replace what is there
    resume: bool = False  # keep what is there and add what is missing
    shard: Shard | None = None  # of the photos, whose files for all photos are parts
    relays: bool = False  # another process writes the files for all photos: see `Ledger.relayed`

    def file(self, name: str) -> Path:
        """Where a file for all photos goes."""
        return self.out / (self.shard.part_of(name) if self.shard else name)

    def ledger_options(self) -> dict[str, Any]:
        """What every `Ledger` of the run is made with."""
        return {"overwrite": self.overwrite, "resume": self.resume, "relays": self.relays}


@dataclass(frozen=True)
class Answer:
    """One photo's segments, with what kinds need to write them."""

    photo: Photo
    segments: Segments  # what is shown
    image: np.ndarray | None  # uint8 RGB [H, W, 3]; None unless a kind needs it
    unthresholded: Segments  # with the instances that were not sure enough to be shown, which an evaluator wants
    timings: Mapping[str, float]  # milliseconds by step


class SaveKind(ABC):
    """Base of the kinds; a subclass with a `name` registers itself under it.

    A kind has a file or folder for every photo (`suffix`), files for all photos together (`files`), or both.
    """

    name: ClassVar[str] = ""  # what --save calls it
    about: ClassVar[str] = ""  # what it writes, in a few words for the help
    tasks: ClassVar[tuple[Task, ...]] = TASKS  # whose answers can be written so
    suffix: ClassVar[str | None] = None  # of a photo's own file or folder, after its stem
    is_folder: ClassVar[bool] = False  # whether that is a folder
    files: ClassVar[tuple[str, ...]] = ()  # names of those for all photos
    needs_image: ClassVar[bool] = False  # whether writing takes the photo itself
    needs_soft: ClassVar[bool] = False  # whether it takes soft edges (`Segments.soft`)
    comes_last: ClassVar[bool] = False  # a record is written last: where it is, everything else is

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.name:
            SAVE_KINDS[cls.name] = cls

    def __init__(self, run: SaveRun) -> None:
        self.run = run
        self.ledgers: tuple[Ledger, ...] = ()

    @classmethod
    def check(cls, task: Task) -> None:
        """Raise UsageError if this kind does not support the task."""
        if task not in cls.tasks:
            raise UsageError(f"--save {cls.name} needs --task {' or '.join(cls.tasks)}, not {task}")

    @classmethod
    def target(cls, out: Path, photo: Photo) -> Path | None:
        """The file or folder below `out` that belongs to one photo alone."""
        if cls.suffix is None:
            return None
        return out / photo.stem.parent / f"{photo.stem.name}{cls.suffix}"

    def is_done(self, photo: Photo) -> bool:
        """Whether nothing is left to write for a photo."""
        path = self.target(self.run.out, photo)
        return all(photo.image_id in ledger.done for ledger in self.ledgers) and (path is None or path.exists())

    def check_photos(self, photos: Iterable[Photo]) -> None:
        """Raise OutputError if the files for all photos hold image ids of another kind than these photos have."""
        ids = [photo.image_id for photo in photos]
        for ledger in self.ledgers:
            ledger.check_ids(ids)

    @abstractmethod
    def write(self, answer: Answer, path: Path | None) -> None:
        """Write one photo's answer, to `path` = `target(…)` or into the files for all photos.

        Raises OutputError if it cannot be written; nothing half-written is left.
        """

    def close(self) -> list[Path]:
        """Finish the files for all photos; returns them."""
        return [ledger.close() for ledger in self.ledgers]


def parse_kinds(text: str) -> tuple[str, ...]:
    """The kinds in "overlay,png,json", those that come last at the end; "none" gives none.

    Raises UsageError naming the kinds there are.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    choices = f"choose from {', '.join([*SAVE_KINDS, NONE])}"
    for name in names:
        if name not in SAVE_KINDS and name != NONE:
            hint = f"; {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
            raise UsageError(f"--save {name}: there is no such kind{hint}; {choices}")
    if not names:
        raise UsageError(f"--save is empty; {choices}")
    if NONE in names and len(names) > 1:
        raise UsageError(f"--save {text}: none cannot be combined with other kinds")
    return in_order(name for name in names if name != NONE)


def in_order(names: Collection[str] | Any) -> tuple[str, ...]:
    """Names of kinds in the order in which they are written."""
    chosen = set(names)
    return tuple(sorted(chosen, key=lambda name: (SAVE_KINDS[name].comes_last, name)))


def list_kinds() -> str:
    """Every kind and what it writes, for the help."""
    return ", ".join([*(f"{name} ({kind.about})" for name, kind in SAVE_KINDS.items()), f"or {NONE}"])
