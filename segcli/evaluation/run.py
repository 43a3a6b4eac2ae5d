"""One evaluation from its first image to its files: the images, their observers, and the ranks that share the work.

evaluation = of_model(loaded, info, "val", tasks, protocol, …)      # or of_predictions(…)
for evaluated in evaluation.run(): …             # one step per image
documents = evaluation.finish()                  # what metrics.json says, by task; on the first rank
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from segcli.data.dataset import Dataset
from segcli.data.records import DatasetInfo
from segcli.distributed import Ranks
from segcli.errors import InputError
from segcli.evaluation.folder import About, task_folder
from segcli.evaluation.observers import Evaluated, Observer, Scores
from segcli.evaluation.protocol import Protocol
from segcli.evaluation.writer import EvaluationWriter, check_folder
from segcli.metrics import COCO_DETS
from segcli.types import MergeRule, Task


@dataclass
class Output:
    """Where an evaluation is written, and what happens to earlier results there."""

    folder: Path
    overwrite: bool = False
    skip_existing: bool = False


@dataclass
class Evaluation:
    """This rank's share of an evaluation."""

    datasets: Mapping[Task, Dataset]  # the split as each task has it
    abouts: Mapping[Task, About]
    stream: Iterator[Evaluated]
    scores: Scores
    images: int  # in the stream
    failed: list[str]  # why images were left out, filled while it runs
    ranks: Ranks = field(default_factory=Ranks)
    writers: Mapping[Task, EvaluationWriter] = field(default_factory=dict)
    observers: dict[Task, list[Observer]] = field(default_factory=dict)  # their files go into the task's folder
    lacking: Mapping[Task, frozenset[int]] = field(default_factory=dict)  # places of classes that are never predicted
    max_dets: int = COCO_DETS
    crowded: int = 0  # images with more objects of a class than count
    protocol: Protocol | None = None  # the model's; None for predictions from files
    rules: Sequence[MergeRule] = ()  # further rules by which panoptic results are made

    def in_words(self, task: Task) -> str:
        """How the number was obtained, in one line for a person."""
        return self.protocol.in_words(task) if self.protocol else "predictions as they were written"

    def watch(self, task: Task, observer: Observer) -> None:
        """Add an observer."""
        self.observers.setdefault(task, []).append(observer)

    def run(self) -> Iterator[Evaluated]:
        """Show every image to all observers, then yield it."""
        self._began = time.monotonic()
        for evaluated in self.stream:
            try:
                self.scores.see(evaluated)
            except InputError as error:  # prediction and truth of this image do not fit
                self.failed.append(str(error))
                continue
            for writer in self.writers.values():
                writer.see(evaluated)
            for observers in self.observers.values():
                for observer in observers:
                    observer.see(evaluated)
            self.crowded += _is_crowded(evaluated)
            yield evaluated

    def finish(self) -> dict[Task, dict[str, Any]]:
        """Merge the ranks and write everything. Returns what metrics.json says; nothing on ranks but the first."""
        for writer in self.writers.values():
            writer.close()
        mine = (self.scores, self.observers, self.failed, self.crowded)
        everybody = self.ranks.gather(mine)
        if not self.ranks.is_first:
            return {}
        for scores, observers, failed, crowded in everybody[1:]:
            self.scores.merge(scores)
            self.failed += failed
            self.crowded += crowded
            for task, others in observers.items():
                for observer, other in zip(self.observers[task], others, strict=True):
                    observer.merge(other)
        seconds = time.monotonic() - self._began
        documents = {
            task: self.abouts[task].document(report, self.scores.images, self.failed, seconds)
            for task, report in self.scores.reports().items()
        }
        for task, document in documents.items():
            folder = None
            if task in self.writers:
                self.writers[task].finish(document, self.ranks.size)
                folder = self.writers[task].path
            for observer in self.observers.get(task, []):
                observer.finish(folder)
        return documents


def open_writers(
    output: Output,
    abouts: Mapping[Task, About],
    datasets: Mapping[Task, Dataset],
    ranks: Ranks,
    *,
    run: Mapping[str, Any] | None,
    threshold: float = 0.0,
) -> dict[Task, EvaluationWriter]:
    """Every task's folder. run, threshold: see `EvaluationWriter`. Raises as `check_folder` before anything changes."""

    def make() -> dict[Task, EvaluationWriter]:
        return {
            task: EvaluationWriter(
                task_folder(output.folder, task, tuple(abouts)),
                about,
                datasets[task],
                run=run,
                threshold=threshold,
                rank=ranks.rank,
                overwrite=output.overwrite,
                skip_existing=output.skip_existing,
            )
            for task, about in abouts.items()
        }

    if ranks.is_first:
        for task, about in abouts.items():
            folder = task_folder(output.folder, task, tuple(abouts))
            check_folder(folder, about, overwrite=output.overwrite, skip_existing=output.skip_existing)
        made = make()
    ranks.broadcast(None)  # the other ranks find the folders made
    return made if ranks.is_first else make()


def _is_crowded(evaluated: Evaluated) -> bool:
    sample = evaluated.samples.get("instance")
    if sample is None:
        return False
    objects = sample.labels[~sample.crowd]
    return bool(len(objects)) and int(torch.bincount(torch.from_numpy(objects)).max()) > evaluated.max_dets


def describe_data(info: DatasetInfo, split: str) -> dict[str, Any]:
    """Which images: the folder, its format and the split."""
    return {"root": str(info.root.resolve()), "format": info.format, "split": split}
