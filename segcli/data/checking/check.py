"""What is wrong with a dataset, image by image and as a whole."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from segcli.data.checking.facts import Facts, facts_of
from segcli.data.checking.near import near_pairs
from segcli.data.checking.scan import tiles_for
from segcli.data.records import DatasetInfo, Record
from segcli.files.image_ref import ImageRef
from segcli.types import Label

_RARE_OBJECTS, _RARE_RATIO = 10, 100
_SHORT = 512  # the short side that train resizes larger photos to on a processor


@dataclass(frozen=True)
class Kind:
    """A kind of finding."""

    what: str  # in a few words, for a table
    mend: str = ""  # what `mended` does about it; empty: nothing
    is_remark: bool = False  # worth knowing and often meant so, no fault: `--strict` passes over it


KINDS: dict[str, Kind] = {
    "unreadable": Kind("image or label file missing, damaged or of another size", "image left out"),
    "labels": Kind("labels that no class has, ids that the JSON does not list", "image left out"),
    "rotation": Kind("image turned by its EXIF tag, masks not", "masks turned"),
    "listed-twice": Kind("image listed more than once", "listed once"),
    "leakage": Kind("image in two splits, or nearly the same one", "left out of the training split"),
    "unannotated": Kind("listed image without annotation", "image left out"),
    "orphan": Kind("label file without an image", "left out"),
    "bad-row": Kind("annotation (row, line, shape) that cannot be used", "left out"),
    "no-mask": Kind("annotation without a mask", "left out"),
    "repeated-id": Kind("id used more than once", "renumbered"),
    "no-pixels": Kind("object or segment without a pixel", "left out"),
    "off-image": Kind("polygon outside of the image", "cut off at the edge"),
    "twice": Kind("the same object twice", "one left out"),
    "pieces": Kind("one object of many separate parts: a mask of all objects?"),
    "area": Kind("area that differs from the mask's", "recomputed"),
    "box": Kind("bbox that differs from the mask's", "recomputed"),
    "all-void": Kind("image that is void all over", "image left out"),
    "pages": Kind("image with more than one page"),
    "overlap": Kind("objects that overlap", is_remark=True),
    "crowded": Kind("more objects than a model finds in an image (--queries)"),
    "unseen": Kind("class without an object to train on"),
    "imbalance": Kind("class that is rare in training", is_remark=True),
}
"""Every kind, the worst first."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. split, file: where, if it is in one place. amount: pixels of an overlap, objects of a
    crowded image, how often something occurs; else 1. classes: the classes concerned, where that is the point."""

    kind: str
    message: str
    split: str | None = None
    file: str | None = None
    amount: int = 1
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SplitCount:
    """A split in numbers."""

    name: str
    images: int
    unusable: int
    objects: int  # as the task counts them, crowds among them
    empty: int
    void: float  # share of all pixels
    crowds: int = 0  # regions of many objects, which `stats` counts apart


@dataclass
class CheckReport:
    """What was found, by kind and in the order of the images, and what there is."""

    splits: list[SplitCount]
    findings: list[Finding] = field(default_factory=list)
    advice: str | None = None  # options of train for objects that are tiny against the image

    @property
    def faults(self) -> list[Finding]:
        """The findings that are faults, not remarks."""
        return [finding for finding in self.findings if not KINDS[finding.kind].is_remark]

    def of_kind(self, kind: str) -> list[Finding]:
        """The findings of one kind."""
        return [finding for finding in self.findings if finding.kind == kind]


def check(
    info: DatasetInfo,
    *,
    queries: int = 100,
    model: str = "the model",
    threads: int | None = None,
    progress: Callable[[], None] | None = None,
) -> CheckReport:
    """Look at every image of every split. queries: how many objects `model` can tell apart in an image.

    `progress()` is called after each image. Nothing is raised for what is wrong with images or annotations: it is what
    is reported.
    """
    findings = [Finding(fault.kind, fault.message, amount=fault.amount) for fault in info.faults]
    splits: list[SplitCount] = []
    thumbs: dict[str, list[tuple[ImageRef, str]]] = {}
    counts: dict[str, _ClassCounts] = {}
    sides: list[tuple[float, int]] = []
    for split, records in info.splits.items():
        tally, seen = _Tally(info), _ClassCounts(info)
        thumbs[split] = []
        findings += _listed_twice(records, split)
        for record, facts in zip(records, facts_of(info, split, threads=threads, progress=progress), strict=True):
            findings += _of_image(info, split, record, facts)
            objects = tally.add(facts)
            seen.add(facts)
            thumbs[split].append((record.image, facts.thumb))
            if objects > queries:
                message = (
                    f"{record.image}: {objects} objects; {model} finds at most {queries} in an image (its queries)"
                )
                findings.append(Finding("crowded", message, split, str(record.image), objects))
        splits.append(tally.count(split))
        counts[split] = seen
        if split in ("train", "all"):
            sides = tally.sides
    findings += _leaks(thumbs)
    findings += _rare(info, counts)
    order = {kind: place for place, kind in enumerate(KINDS)}
    return CheckReport(splits, sorted(findings, key=lambda finding: order[finding.kind]), _advice(sides))


def _advice(sides: list[tuple[float, int]]) -> str | None:
    """What train would say of tiny objects, on a processor and with its own settings; see `tiles_for`."""
    if not sides:
        return None
    short = min(int(np.median([side for _, side in sides])), _SHORT)
    return tiles_for(np.array(sides, dtype=float), short)


def _of_image(info: DatasetInfo, split: str, record: Record, facts: Facts) -> Iterable[Finding]:
    for fault in facts.faults:
        yield Finding(fault.kind, fault.message, split, str(record.image), fault.amount)
    if info.tasks == ("detect",):
        return  # boxes overlap where objects do not
    names = {label.id: label.name for label in info.source_labels}
    for first, second, pixels in facts.overlaps:
        pair = (str(names.get(first, first)), str(names.get(second, second)))
        message = f"{record.image}: {pair[0]} and {pair[1]} share {pixels} pixels"
        yield Finding("overlap", message, split, str(record.image), pixels, pair)


def _listed_twice(records: list[Record], split: str) -> Iterable[Finding]:
    for file, count in Counter(str(record.image) for record in records).items():
        if count > 1:
            yield Finding("listed-twice", f"{file}: {count} times in the {split} split", split, file, count)


def _leaks(thumbs: dict[str, list[tuple[ImageRef, str]]]) -> Iterable[Finding]:
    """Pairs of images over splits; the finding is the training split's (or the first split's) image."""
    for first, second in combinations(thumbs, 2):
        for i, j in near_pairs(thumbs[first], thumbs[second]):
            file, other = thumbs[first][i][0], thumbs[second][j][0]
            same = f"{file} is in both" if file == other else f"{file} ({first}) and {other} ({second}) show the same"
            yield Finding("leakage", f"{same}: what is measured on one was seen in the other", first, str(file))


def _rare(info: DatasetInfo, counts: dict[str, _ClassCounts]) -> Iterable[Finding]:
    """Classes with too little to learn from. Objects are counted for things, images for everything else."""
    train = counts.get("train") or counts.get("all")
    if train is None:
        return
    for group in (True, False):
        labels = [label for label in info.labels if (label.isthing and info.task != "semantic") is group]
        most = max((train.of(label) for label in labels), default=0)
        unit = "objects" if group else "images"
        top = next((label.name for label in labels if train.of(label) == most), "")
        for label in labels:
            number = train.of(label)
            if not number:
                elsewhere = [name for name, other in counts.items() if other.of(label)]
                more = f" but some in {', '.join(elsewhere)}" if elsewhere else ""
                yield Finding("unseen", f"{label.name}: no {unit} to train on{more}", classes=(label.name,))
            elif number < _RARE_OBJECTS or number * _RARE_RATIO < most:
                ratio = f", {most / number:.0f} × fewer than {top}" if most > number else ""
                message = f"{label.name}: {number:,} {unit if number > 1 else unit[:-1]} to train on{ratio}"
                yield Finding("imbalance", message, amount=number, classes=(label.name,))


class _ClassCounts:
    """Objects of things, and images of everything else."""

    def __init__(self, info: DatasetInfo) -> None:
        self._counts_objects = info.task != "semantic"
        self._objects: Counter[int] = Counter()
        self._images: Counter[int] = Counter()

    def add(self, facts: Facts) -> None:
        self._objects.update(label for label, _, _ in facts.objects)
        self._images.update({label for label, _, _ in facts.objects})

    def of(self, label: Label) -> int:
        return (self._objects if self._counts_objects and label.isthing else self._images)[label.id]


class _Tally:
    """Images, objects and pixels of a split."""

    def __init__(self, info: DatasetInfo) -> None:
        self._ids = {label.id for label in info.labels}
        self._once = {
            label.id
            for label in info.labels
            if info.task == "semantic" or (info.task == "panoptic" and not label.isthing)
        }
        self._images = self._unusable = self._objects = self._empty = self._void = self._pixels = self._crowds = 0
        self.sides: list[tuple[float, int]] = []  # of each thing, the root of its area, and its image's short side

    def add(self, facts: Facts) -> int:
        """-> the objects of this image."""
        self._images += 1
        if not facts.usable:
            self._unusable += 1
            return 0
        labels = [label for label, _, _ in facts.objects if label in self._ids]
        objects = sum(label not in self._once for label in labels) + len(self._once.intersection(labels))
        self._objects += objects
        self.sides += [
            (math.sqrt(area), min(facts.size))
            for label, area, crowd in facts.objects
            if label in self._ids - self._once and not crowd
        ]
        self._crowds += sum(crowd and label in self._ids - self._once for label, _, crowd in facts.objects)
        self._empty += objects == 0
        self._void += facts.void
        self._pixels += facts.size[0] * facts.size[1]
        return objects

    def count(self, name: str) -> SplitCount:
        """The whole split."""
        void = self._void / max(1, self._pixels)
        return SplitCount(name, self._images, self._unusable, self._objects, self._empty, void, self._crowds)
