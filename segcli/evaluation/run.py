"""One evaluation from its first image to its files: the stream, who looks on, and the ranks that share it.

evaluation = of_model(loaded, info, "val", tasks, protocol, …)
for evaluated in evaluation.run(): …             # one step an image
documents = evaluation.finish()                  # what metrics.json says, by task; on the first rank
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from segcli.data.dataset import Dataset, Sample
from segcli.data.records import DatasetInfo
from segcli.distributed import Ranks
from segcli.errors import InputError
from segcli.evaluation.folder import About, task_folder
from segcli.evaluation.observers import Evaluated, Observer, Scores
from segcli.evaluation.protocol import Protocol
from segcli.evaluation.stream import evaluate
from segcli.evaluation.writer import EvaluationWriter, check_folder
from segcli.metrics import COCO_DETS
from segcli.metrics.match_classes import ClassMatch
from segcli.segments import Segments
from segcli.types import MergeRule, Task
from segcli.weights.device import name_of

if TYPE_CHECKING:
    from segcli.weights.checkpoint import LoadedModel

_IDENTITY = ("revision", "source", "instead_of")


@dataclass
class Output:
    """Where an evaluation goes, and what becomes of what is there."""

    folder: Path
    overwrite: bool = False
    skip_existing: bool = False


@dataclass
class Evaluation:
    """datasets: the split as each task has it. stream: this rank's share of its images. observers: of each task, whose
    files go into its folder. failed: why images were left out, filled while it runs. crowded: images with more objects
    of a class than count. protocol: the model's; None for files. rules: others that panoptic results come by.
    """

    datasets: Mapping[Task, Dataset]
    abouts: Mapping[Task, About]
    stream: Iterator[Evaluated]
    scores: Scores
    images: int
    failed: list[str]
    ranks: Ranks = field(default_factory=Ranks)
    writers: Mapping[Task, EvaluationWriter] = field(default_factory=dict)
    observers: dict[Task, list[Observer]] = field(default_factory=dict)
    max_dets: int = COCO_DETS
    crowded: int = 0
    protocol: Protocol | None = None
    rules: Sequence[MergeRule] = ()

    def in_words(self, task: Task) -> str:
        """How the number comes about, in a line for a person."""
        return self.protocol.in_words(task) if self.protocol else "predictions as they were written"

    def watch(self, task: Task, observer: Observer) -> None:
        """Let one more look on."""
        self.observers.setdefault(task, []).append(observer)

    def run(self) -> Iterator[Evaluated]:
        """Show every image to everybody, then hand it on."""
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
        """Bring the ranks together and write everything. Returns what metrics.json says; nothing but on the first."""
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


def of_model(
    loaded: LoadedModel,
    info: DatasetInfo,
    split: str,
    datasets: Mapping[Task, Dataset],
    protocol: Protocol,
    classes: ClassMatch,
    *,
    images: int | None = None,
    batch_size: int = 1,
    output: Output | None = None,
    rules: Sequence[MergeRule] = (),
    ranks: Ranks | None = None,
) -> Evaluation:
    """The evaluation of a model. images: only the first so many. output: write predictions and numbers there. rules:
    others that a panoptic result is wanted by, for who looks on.

    Raises as `EvaluationWriter`.
    """
    ranks = ranks or Ranks()
    tasks = tuple(datasets)
    model = describe_model(loaded)
    precision = name_of(loaded.dtype)
    abouts = {
        task: About(task, model, None, describe_data(info, split), protocol.describe(task) | {"dtype": precision})
        for task in tasks
    }
    count = min(images or len(datasets[tasks[0]]), len(datasets[tasks[0]]))
    failed: list[str] = []
    writers: dict[Task, EvaluationWriter] = {}
    if output is not None:
        writers = open_writers(
            output,
            abouts,
            datasets,
            ranks,
            run={"model": loaded.name, "input": protocol.spec.size.to_table(), "rule": asdict(protocol.spec.rule)},
            threshold=protocol.spec.rule.instance_score,
        )
    stream = evaluate(
        loaded,
        datasets,
        protocol,
        classes,
        numbers=range(ranks.rank, count, ranks.size),
        batch_size=batch_size,
        stored=_stored(writers) if output is not None and output.skip_existing else None,
        rules=rules,
        pixels=output is not None,
        failed=failed.append,
    )
    labels = {task: dataset.labels for task, dataset in datasets.items()}
    scores = Scores(labels, protocol.max_dets)
    mine = len(range(ranks.rank, count, ranks.size))
    return Evaluation(
        datasets,
        abouts,
        stream,
        scores,
        mine,
        failed,
        ranks,
        writers,
        max_dets=protocol.max_dets,
        protocol=protocol,
        rules=rules,
    )


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
    ranks.broadcast(None)  # the others find the folders made
    return made if ranks.is_first else make()


def _stored(writers: Mapping[Task, EvaluationWriter]) -> Callable[[int, Mapping[Task, Sample]], Any]:
    def stored(number: int, samples: Mapping[Task, Sample]) -> dict[Task, Segments] | None:
        found = {task: writer.stored(number, samples[task].size) for task, writer in writers.items()}
        whole = {task: segments for task, segments in found.items() if segments is not None}
        return whole if len(whole) == len(writers) else None

    return stored


def _is_crowded(evaluated: Evaluated) -> bool:
    sample = evaluated.samples.get("instance")
    if sample is None:
        return False
    objects = sample.labels[~sample.crowd]
    return bool(len(objects)) and int(torch.bincount(torch.from_numpy(objects)).max()) > evaluated.max_dets


def describe_data(info: DatasetInfo, split: str) -> dict[str, Any]:
    """Which images: the folder, its format and the split."""
    return {"root": str(info.root.resolve()), "format": info.format, "split": split}


def describe_model(loaded: LoadedModel) -> dict[str, Any]:
    """Which model. weights: a hash of every tensor, as a folder's content may change under its name."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(loaded.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    facts = {key: loaded.facts[key] for key in _IDENTITY if key in loaded.facts}
    return {"name": loaded.name} | facts | {"weights": digest.hexdigest()}
