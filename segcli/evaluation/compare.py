"""Is evaluation B better than A? Their numbers over the same images, and how much of the difference could be chance.

The images of a split are a sample of the images that could have been taken. A paired bootstrap draws as many of them
again, with repetition, a thousand times, and computes both metrics of each draw from the counts in `per_image.jsonl`:
the middle 95 % of the differences are the interval that is reported.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segcli.errors import InputError, UsageError
from segcli.evaluation.folder import EvaluationFolder, read_evaluations
from segcli.metrics import metrics_of
from segcli.metrics.bootstrap import mean
from segcli.types import OBJECT_TASKS, Task

RESAMPLES, SEED = 1000, 0
LEAST = 10  # images that a verdict takes: drawn from fewer, the interval is far too narrow
_MIDDLE = (2.5, 97.5)
_SAME = 1e-6  # how far a number may be from the one that its own counts give


@dataclass(frozen=True)
class Difference:
    """A number in A and in B, as fractions, and the interval of B − A; NaN where there was nothing to measure."""

    a: float
    b: float
    low: float
    high: float
    images: int  # that have something of it in their truth

    @property
    def shown(self) -> int:
        """1 if B is better beyond chance, -1 if it is worse, 0 if neither is certain (always below `LEAST` images)."""
        return 0 if self.images < LEAST else int(self.low > 0) - int(self.high < 0)

    @property
    def verdict(self) -> str:
        """The same in words."""
        if self.images < LEAST:
            return "too few images"
        return {1: "better", -1: "worse", 0: "no difference"}[self.shown]


@dataclass(frozen=True)
class ClassDifference:
    """One class. id: the dataset's own."""

    id: int
    name: str
    difference: Difference


@dataclass(frozen=True)
class ImageDifference:
    """One image's own numbers, as fractions; NaN where it has nothing to measure."""

    image_id: str
    file: str
    a: float
    b: float


@dataclass(frozen=True)
class Comparison:
    """Two evaluations of one task. classes: in the dataset's order. images: those that changed most first."""

    task: Task
    metric: str
    a: str
    b: str
    difference: Difference
    classes: tuple[ClassDifference, ...]
    images: tuple[ImageDifference, ...]
    resamples: int
    seed: int
    notes: tuple[str, ...] = ()  # what makes the two less comparable

    @property
    def sentence(self) -> str:
        """The result in a sentence."""
        d, count = self.difference, f"{len(self.images)} image" + "s" * (len(self.images) != 1)
        numbers = f"{self.metric} {100 * d.b:.2f} against {100 * d.a:.2f}, {_signed(d.b - d.a)}"
        interval = f"95 % interval {_signed(d.low)} to {_signed(d.high)}"
        if d.images < LEAST:
            few = f"{count}, at least {LEAST} are needed"
            return f"No verdict on whether B is better than A ({few}): {numbers} ({interval})"
        if d.shown:
            return f"B is {'better' if d.shown > 0 else 'worse'} than A: {numbers} ({interval}, {count})"
        return f"No difference between A and B that {count} can show: {numbers} ({interval})"

    def to_json(self) -> dict[str, Any]:
        """Plain values, null instead of NaN."""
        return {
            "kind": "segcli eval --compare",
            "task": self.task,
            "metric": self.metric,
            "a": self.a,
            "b": self.b,
            "verdict": self.difference.verdict,
            "sentence": self.sentence,
            "notes": list(self.notes),
            "difference": _plain(self.difference),
            "per_class": [{"id": c.id, "name": c.name, **_plain(c.difference)} for c in self.classes],
            "per_image": [{key: _finite(value) for key, value in asdict(image).items()} for image in self.images],
            "least_images": LEAST,
            "bootstrap": {
                "resamples": self.resamples,
                "seed": self.seed,
                "interval": "95 %, percentile, paired",
            },
        }


def compare(a: Path, b: Path, *, resamples: int = RESAMPLES, seed: int = SEED) -> list[Comparison]:
    """Compare two folders of `segcli eval --out`, task by task where they hold several.

    Raises:
        UsageError: no evaluation folder, or evaluations of different tasks, splits or data.
        InputError: a folder whose files are damaged or do not belong together.
    """
    first, second = read_evaluations(a), read_evaluations(b)
    tasks = [task for task in first if task in second]
    if not tasks:
        raise UsageError(
            f"{a} is of the task {' and '.join(first)}, {b} of {' and '.join(second)}, so there is nothing to compare; "
            "evaluate both with the same --task"
        )
    return [_compared(first[task], second[task], resamples, seed) for task in tasks]


def _compared(a: EvaluationFolder, b: EvaluationFolder, resamples: int, seed: int) -> Comparison:
    rows = _paired(a, b)
    labels, images = a.metrics["per_class"], len(rows)
    ids = [row["id"] for row in labels]
    draws = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), resamples)
    weights = np.concatenate([np.ones((1, images), dtype=np.int64), draws])
    task = a.task
    classes = [metrics_of(task)[0].resample([row[side]["counts"] for row in rows], ids, weights) for side in (0, 1)]
    whole = [mean(per_class) for per_class in classes]
    for side, folder in enumerate((a, b)):
        _check(folder, float(whole[side][0]))
    present = Counter(id_ for one, _ in rows for id_ in _truth(task, one["counts"]))
    per_image = [
        ImageDifference(one["image_id"], one["file"], _number(one["value"]), _number(other["value"]))
        for one, other in rows
    ]
    return Comparison(
        task,
        a.metrics["metric"],
        str(a.path),
        str(b.path),
        _difference(whole[0], whole[1], images),
        tuple(
            ClassDifference(
                row["id"],
                row["name"],
                _difference(classes[0][:, index], classes[1][:, index], present[str(row["id"])]),
            )
            for index, row in enumerate(labels)
        ),
        tuple(sorted(per_image, key=lambda image: -abs(np.nan_to_num(image.b - image.a)))),
        resamples,
        seed,
        _notes(a, b),
    )


def _notes(a: EvaluationFolder, b: EvaluationFolder) -> tuple[str, ...]:
    """What else differs than the predictions: how many instances counted."""
    one, other = (_at(folder.metrics, ("protocol", "max_dets")) for folder in (a, b))
    if one == other or one is None or other is None:
        return ()
    return (f"A counts {one} instances of a class and image, B {other}: evaluate both with the same --max-dets",)


def _difference(a: np.ndarray, b: np.ndarray, images: int) -> Difference:
    """From the value of the dataset, which is first, and those of the draws."""
    apart = (b - a)[1:]
    apart = apart[~np.isnan(apart)]
    low, high = np.percentile(apart, _MIDDLE) if len(apart) else (math.nan, math.nan)
    return Difference(float(a[0]), float(b[0]), float(low), float(high), images)


def _paired(a: EvaluationFolder, b: EvaluationFolder) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The rows of the same images. Raises UsageError if these or their truth are not the same."""
    for what, keys in (("the split", ("data", "split")), ("the metric", ("metric",))):
        one, other = (_at(folder.metrics, keys) for folder in (a, b))
        if one != other:
            raise UsageError(f"{what} of {a.path} is {one}, that of {b.path} {other}; evaluate both on the same data")
    classes = [[(row["id"], row["name"]) for row in folder.metrics["per_class"]] for folder in (a, b)]
    if classes[0] != classes[1]:
        raise UsageError(f"{a.path} and {b.path} have different classes; evaluate both on the same data")
    sides = [{row["image_id"]: row for row in folder.rows()} for folder in (a, b)]
    for image_id in sides[0].keys() ^ sides[1].keys():
        here, there = (a, b) if image_id in sides[0] else (b, a)
        raise UsageError(
            f"image {image_id} is in {here.path} and not in {there.path}; evaluate both on the same images"
        )
    if not sides[0]:
        raise UsageError(f"{a.path}: no image was evaluated; there is nothing to compare")
    for image_id, row in sides[0].items():
        if _truth(a.task, row["counts"]) != _truth(a.task, sides[1][image_id]["counts"]):
            raise UsageError(
                f"the truth of image {image_id} is not the same in {a.path} and {b.path}: the data has changed between "
                "them; evaluate both again"
            )
    return [(row, sides[1][image_id]) for image_id, row in sides[0].items()]


def _truth(task: Task, counts: dict[str, Any]) -> dict[str, float]:
    """How much of each class an image holds, by its counts."""
    if task in OBJECT_TASKS:
        true = {id_: entry["true"] for id_, entry in counts.items()}
    elif task == "panoptic":
        true = {id_: matched + missed for id_, (_, matched, _, missed) in counts.items()}
    else:
        true = {id_: true for id_, (_, _, true) in counts.items()}
    return {id_: number for id_, number in true.items() if number}


def _check(folder: EvaluationFolder, value: float) -> None:
    stated = _number(folder.metrics["value"])
    if not (math.isnan(stated) and math.isnan(value)) and not abs(stated - value) <= _SAME:
        raise InputError(
            f"{folder.path}: per_image.jsonl gives {folder.metrics['metric']} {100 * value:.3f}, metrics.json says "
            f"{100 * stated:.3f}; they come from different evaluations; evaluate again"
        )


def _at(record: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        record = record.get(key) if isinstance(record, dict) else None
    return record


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _plain(difference: Difference) -> dict[str, Any]:
    return {key: _finite(value) for key, value in asdict(difference).items()} | {
        "b - a": _finite(difference.b - difference.a)
    }


def _signed(value: float) -> str:
    """A difference of fractions in points."""
    return f"{100 * value:+.2f}".replace("-", "−")
