"""A dataset in numbers: image sizes, classes, objects per image, mask areas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segcli.data.checking.facts import Facts, facts_of
from segcli.data.records import DatasetInfo
from segcli.types import Label, LabelSet, Task

SMALL, MEDIUM = 32**2, 96**2  # COCO's bounds of small, medium and large, in pixels
_LEVELS = {"least": 0, "5 %": 5, "median": 50, "95 %": 95, "most": 100}


@dataclass
class ClassStats:
    """One class. objects: crowds left out; stuff has none. share: of all pixels. areas: pixels of its objects, of
    stuff and of semantic classes those of each image."""

    label: Label
    images: int = 0
    objects: int = 0
    crowds: int = 0
    share: float = 0.0
    areas: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64), repr=False)


@dataclass
class SplitStats:
    """One split. sizes: int64 [N, 2] H, W. objects: int64 [N] of each image: things without crowds, none if semantic.
    present: int64 [N], the classes in each image. paged: images with more than one page, of which the first counts."""

    name: str
    sizes: np.ndarray
    objects: np.ndarray
    present: np.ndarray
    classes: list[ClassStats]
    unusable: int
    void: float
    paged: int = 0

    @property
    def areas(self) -> np.ndarray:
        """Pixels of every object of a countable class."""
        return np.concatenate([np.zeros(0, dtype=np.int64), *(c.areas for c in self.classes if c.label.isthing)])

    def to_json(self) -> dict[str, Any]:
        """The numbers, without the list of every image and object."""
        height, width = self.sizes.T if len(self.sizes) else np.zeros((2, 0), dtype=np.int64)
        areas = self.areas
        return {
            "split": self.name,
            "images": len(self.sizes),
            "unusable": self.unusable,
            "of_several_pages": self.paged,
            "void_share": self.void,
            "width": levels(width),
            "height": levels(height),
            "objects": int(self.objects.sum()),
            "objects_per_image": levels(self.objects),
            "classes_per_image": levels(self.present),
            "empty_images": int((self.present == 0).sum()),
            "object_area": levels(areas),
            "small_medium_large": [int(n) for n in by_size(areas)],
            "classes": [
                {
                    "id": c.label.id,
                    "name": c.label.name,
                    "isthing": c.label.isthing,
                    "images": c.images,
                    "objects": c.objects,
                    "crowds": c.crowds,
                    "pixel_share": c.share,
                    "median_area": float(np.median(c.areas)) if len(c.areas) else None,
                }
                for c in self.classes
            ],
        }


def levels(values: np.ndarray) -> dict[str, float] | None:
    """Least, 5 %, median, 95 % and most of some values; None if there are none."""
    if not len(values):
        return None
    return {name: float(np.percentile(values, level)) for name, level in _LEVELS.items()}


def by_size(areas: np.ndarray) -> tuple[int, int, int]:
    """How many objects are small, medium and large, as COCO has it."""
    small, large = int((areas < SMALL).sum()), int((areas >= MEDIUM).sum())
    return small, len(areas) - small - large, large


def stats(
    info: DatasetInfo, *, threads: int | None = None, progress: Callable[[], None] | None = None
) -> list[SplitStats]:
    """Count every split. Images that cannot be used are counted as such, and nowhere else."""
    return [
        counted(info.labels, info.task, split, list(facts_of(info, split, threads=threads, progress=progress)))
        for split in info.splits
    ]


def counted(labels: LabelSet, task: Task, name: str, rows: list[Facts]) -> SplitStats:
    """Add up what is known of each image of a split."""
    usable = [facts for facts in rows if facts.usable]
    pixels = sum(facts.size[0] * facts.size[1] for facts in usable)
    classes = {label.id: ClassStats(label) for label in labels}
    areas: dict[int, list[int]] = {label.id: [] for label in labels}
    covered = dict.fromkeys(classes, 0)
    counts, kinds = [], []
    for facts in usable:
        present = [row for row in facts.objects if row[0] in classes]
        once = {i for i, _, _ in present if task == "semantic" or not classes[i].label.isthing}
        counts.append(sum(label not in once and not crowd for label, _, crowd in present))
        kinds.append(len({label for label, _, _ in present}))
        for label in {label for label, _, _ in present}:
            classes[label].images += 1
        for label in once:
            areas[label].append(sum(area for i, area, _ in present if i == label))
        for label, area, crowd in present:
            covered[label] += area
            if label in once:
                continue
            if crowd:
                classes[label].crowds += 1
            else:
                classes[label].objects += 1
                areas[label].append(area)
    for label, of_class in classes.items():
        of_class.areas = np.array(areas[label], dtype=np.int64)
        of_class.share = covered[label] / max(1, pixels)
    return SplitStats(
        name,
        np.array([facts.size for facts in usable], dtype=np.int64).reshape(-1, 2),
        np.array(counts, dtype=np.int64),
        np.array(kinds, dtype=np.int64),
        list(classes.values()),
        len(rows) - len(usable),
        sum(facts.void for facts in usable) / max(1, pixels),
        sum(any(fault.kind == "pages" for fault in facts.faults) for facts in usable),
    )
