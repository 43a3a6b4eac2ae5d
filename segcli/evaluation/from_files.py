"""Predictions from files of any tool, evaluated like a model's.

predictions = open_predictions(path)
matched = match(predictions, info, "val")       # which image, which class; notes for the user
evaluation = of_predictions(matched, info, "val", datasets)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from segcli.data.cache import digest, signature
from segcli.data.dataset import Dataset
from segcli.data.records import DatasetInfo
from segcli.distributed import Ranks
from segcli.errors import InputError, SegcliError
from segcli.evaluation.dataset import read_samples
from segcli.evaluation.folder import About
from segcli.evaluation.match_predictions import Matched
from segcli.evaluation.observers import Evaluated, Scores
from segcli.evaluation.run import Evaluation, Output, describe_data, open_writers
from segcli.metrics import COCO_DETS
from segcli.metrics.match_classes import ClassMatch
from segcli.segments import Segments
from segcli.types import OBJECT_TASKS, LabelSet, MergeRule, Task


def of_predictions(
    matched: Matched,
    info: DatasetInfo,
    split: str,
    datasets: Mapping[Task, Dataset],
    *,
    images: int | None = None,
    max_dets: int = COCO_DETS,
    output: Output | None = None,
    ranks: Ranks | None = None,
) -> Evaluation:
    """The evaluation of predictions. images: only the first so many. output: write numbers and predictions there.

    An image whose prediction cannot be read is left out, and named in `failed`. Raises as `EvaluationWriter`.
    """
    ranks = ranks or Ranks()
    path, tasks = str(matched.predictions.path), tuple(datasets)
    data, state = describe_data(info, split), _state(matched.predictions.path) if output else None
    abouts = {task: About(task, None, path, data, describe(matched, task, max_dets), state) for task in tasks}
    count = min(images or len(datasets[tasks[0]]), len(datasets[tasks[0]]))
    shown = MergeRule().instance_score
    run = {"predictions": path, "rule": {"instance_score": shown}}
    writers = open_writers(output, abouts, datasets, ranks, run=run, threshold=shown) if output else {}
    numbers, failed = range(ranks.rank, count, ranks.size), list[str]()
    stream = score(matched, datasets, numbers=numbers, max_dets=max_dets, failed=failed.append)
    scores = Scores({task: dataset.labels for task, dataset in datasets.items()}, max_dets)
    lacking = {task: matched.classes.onto(dataset.labels).lacking() for task, dataset in datasets.items()}
    return Evaluation(
        *(datasets, abouts, stream, scores, len(numbers), failed, ranks, writers), lacking=lacking, max_dets=max_dets
    )


def _state(path: Path) -> str:
    """What tells a file, or the files of a folder, from what they were before they changed."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return digest(*files, signature(files))


def describe(matched: Matched, task: Task, max_dets: int) -> dict[str, Any]:
    """What is reported beside the metric: the format, how classes were matched, and limitations."""
    facts = {"format": matched.predictions.what, "classes matched by": matched.classes.by}
    if task not in OBJECT_TASKS:
        return facts
    return facts | {"least score": matched.predictions.least_score, "max_dets": max_dets}


def score(
    matched: Matched,
    datasets: Mapping[Task, Dataset],
    *,
    numbers: Sequence[int],
    failed: Callable[[str], None],
    max_dets: int = COCO_DETS,
) -> Iterator[Evaluated]:
    """Some images of the split with their predictions; one without a prediction is empty.

    datasets: the split as each wanted task has it. max_dets: handed on. failed(reason) hears of an image that cannot be
    read, or whose prediction cannot; the others go on.
    """
    matches = {task: matched.classes.onto(dataset.labels) for task, dataset in datasets.items()}
    for number in numbers:
        try:
            samples = read_samples(datasets, number)
            size = next(iter(samples.values())).size
            start = time.perf_counter()
            found = _found(matched, number, size)
            segments = {task: _answer(found, task, classes, size) for task, classes in matches.items()}
        except SegcliError as error:
            failed(str(error))
            continue
        yield Evaluated(number, samples, segments, time.perf_counter() - start, max_dets)


def _found(matched: Matched, number: int, size: tuple[int, int]) -> Segments | None:
    place = matched.places.get(number)
    if place is None:
        return None
    found = matched.predictions.read(place, size)
    if found.task in OBJECT_TASKS and np.isnan(found.scores).any():
        raise InputError(
            f"{matched.predictions.path}: {matched.predictions.images[place]} has instances without scores, which AP "
            "ranks them by; predict with --save coco"
        )
    return found


def _answer(found: Segments | None, task: Task, classes: ClassMatch, size: tuple[int, int]) -> Segments:
    if found is None:
        return empty(task, size, classes.labels)
    if task == "semantic":
        return as_semantic(classes.apply(found))
    return replace(classes.apply(found), task=task)  # the boxes of instances are detections


def empty(task: Task, size: tuple[int, int], labels: LabelSet) -> Segments:
    """What an image without a prediction counts as."""
    nothing = np.zeros(0, dtype=np.int64)
    scores = np.zeros(0, dtype=np.float32)
    if task in OBJECT_TASKS:
        return Segments(task, size, labels, nothing, scores, rles=())
    return Segments(task, size, labels, nothing, scores, np.zeros(size, dtype=np.uint16))


def as_semantic(segments: Segments) -> Segments:
    """A panoptic result as a semantic one: the segments of a class are one, and have no score."""
    assert segments.map is not None
    classes, place = np.unique(segments.labels, return_inverse=True)
    numbers = np.append(0, place + 1).astype(np.uint16)
    scores = np.full(len(classes), np.nan, dtype=np.float32)
    return Segments("semantic", segments.size, segments.label_set, classes, scores, numbers[segments.map])
