"""Observers of `segcli eval`: each sees every image once, with its ground truth and prediction.

Metrics, prediction files, pictures and the oracle ladder are observers of one stream, so that each image goes through
the network once, whatever is asked for. An observer keeps counts, not images: memory stays flat over a dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from segcli.data.dataset import Sample
from segcli.inference.tiling import Box
from segcli.metrics import ImageCounts, MetricReport, count_image, metric_for, metrics_of
from segcli.segments import Segments
from segcli.types import OBJECT_TASKS, LabelSet, Task


@dataclass(frozen=True, eq=False)
class Evaluated:
    """One image of the stream.

    number: its place in the split, the same whichever rank evaluates it.
    samples: image and truth as each task has it (a panoptic truth without its stuff is the truth for instances).
    segments: what was predicted, for each task, in the dataset's own classes: `segments[task].label_set` is that of
        the truth. Instances are unthresholded; panoptic and semantic results follow the checkpoint's merge rule.
    seconds: spent on the network and on post-processing.
    max_dets: the most instances of a class that count.
    others: panoptic results by the other rules that were asked for, in that order; none where the network was not
        asked: results from disk or of another tool.
    pixels: if asked for of a semantic result, a box of the photo with the class of each of the network's pixels in it,
        −1 = none of the dataset's, and its score, [h, w] both; one, or one of each tile. None with --tta, or as above.
    """

    number: int
    samples: dict[Task, Sample]
    segments: dict[Task, Segments]
    seconds: float
    max_dets: int = 100
    others: tuple[Segments, ...] = ()
    pixels: tuple[tuple[Box, np.ndarray, np.ndarray], ...] = ()
    _counts: dict[Task, ImageCounts] = field(default_factory=dict, init=False, repr=False)

    @property
    def sample(self) -> Sample:
        """Image and truth for the first task."""
        return next(iter(self.samples.values()))

    def counts(self, task: Task) -> ImageCounts:
        """The image's own metric and what it adds to the dataset's; counted when first asked for."""
        if task not in self._counts:
            segments, truth = self.segments[task], self.samples[task]
            self._counts[task] = count_image(segments, truth, segments.label_set, max_dets=self.max_dets)
        return self._counts[task]


class Observer(Protocol):
    """Sees every image of an evaluation. Picklable before `finish`: ranks send theirs to the first, which merges."""

    def see(self, evaluated: Evaluated) -> None:
        """Take note of one image."""

    def merge(self, other: Self) -> None:
        """Add what the same observer has seen on another rank, of other images."""

    def finish(self, folder: Path | None) -> None:
        """Everything has been seen; called once, on the first rank. folder: where to write, None = nowhere."""


class Scores:
    """The metrics of each task over what has been seen.

    labels: the truth's classes, for each task. max_dets: the most instances of a class and image that count.
    """

    def __init__(self, labels: Mapping[Task, LabelSet], max_dets: int = 100) -> None:
        self._metrics = {task: metric_for(task, classes, max_dets=max_dets) for task, classes in labels.items()}
        self._others = {
            task: [metric(classes, max_dets=max_dets) for metric in metrics_of(task)[1:]]
            for task, classes in labels.items()
        }
        self.images = 0

    def see(self, evaluated: Evaluated) -> None:
        """Count one image. Raises InputError if prediction and truth do not fit."""
        for task, metric in self._metrics.items():
            counted = None if task in OBJECT_TASKS else evaluated.counts(task).metric
            if counted is None:
                metric.update(evaluated.segments[task], evaluated.samples[task])
            else:
                metric.merge(counted)
            for other in self._others[task]:
                other.update(evaluated.segments[task], evaluated.samples[task])
        self.images += 1

    def merge(self, other: Scores) -> None:
        """Add what another rank has seen."""
        for task, metric in self._metrics.items():
            metric.merge(other._metrics[task])
            for mine, theirs in zip(self._others[task], other._others[task], strict=True):
                mine.merge(theirs)
        self.images += other.images

    def finish(self, folder: Path | None) -> None:
        """Nothing: the numbers are asked for with `reports`."""

    def reports(self) -> dict[Task, MetricReport]:
        """The headline's numbers so far, and beside them those of the task's other metrics."""
        reports = {task: metric.compute() for task, metric in self._metrics.items()}
        for task, others in self._others.items():
            for metric in others:
                report = metric.compute()
                added = {name: value for name, value in report.summary.items() if name not in reports[task].summary}
                reports[task] = replace(reports[task], summary=reports[task].summary | added)
        return reports
