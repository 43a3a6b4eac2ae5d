"""A model evaluated on one split of a dataset: one forward pass per image for all wanted tasks.

datasets = open_tasks(info, "val", tasks)
evaluation = of_model(loaded, info, "val", datasets, protocol, classes)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from segcli.data.dataset import Dataset, Sample
from segcli.data.records import DatasetInfo
from segcli.distributed import Ranks
from segcli.errors import InputError
from segcli.evaluation.dataset import read_samples
from segcli.evaluation.folder import About
from segcli.evaluation.observers import Evaluated, Scores
from segcli.evaluation.protocol import Protocol
from segcli.evaluation.run import Evaluation, Output, describe_data, open_writers
from segcli.evaluation.writer import EvaluationWriter
from segcli.inference.predict import PredictSettings, forward
from segcli.inference.preprocess import Prepared
from segcli.inference.stream import Read, segment_all
from segcli.inference.tiling import Box
from segcli.inference.workers import KILLED, Job, run_all
from segcli.metrics.match_classes import ClassMatch
from segcli.postprocess import pixel_scores
from segcli.segments import Segments
from segcli.types import OBJECT_TASKS, MergeRule, QueryPredictions, Task

if TYPE_CHECKING:
    from segcli.weights.checkpoint import LoadedModel

Stored = Callable[[int, Mapping[Task, Sample]], dict[Task, Segments] | None]

_IDENTITY = ("revision", "source", "instead_of")


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
    workers: int | None = 1,
) -> Evaluation:
    """The evaluation of a model.

    images: only the first so many. output: write predictions and numbers there. rules: further rules by which a
    panoptic result is wanted, for observers. workers: processes that predict, None to decide by itself; of several
    ranks each has one. Raises as `EvaluationWriter`.
    """
    ranks = ranks or Ranks()
    tasks = tuple(datasets)
    model = describe_model(loaded)
    data, precision = describe_data(info, split), {"dtype": loaded.precision}
    abouts = {task: About(task, model, None, data, protocol.describe(task) | precision) for task in tasks}
    count = min(images or len(datasets[tasks[0]]), len(datasets[tasks[0]]))
    numbers = range(ranks.rank, count, ranks.size)
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
    how = EvaluateJob(
        *(loaded.ref, loaded.place, loaded.precision, datasets, protocol, classes, batch_size, tuple(rules)),
        pixels=output is not None,
    )
    stored = _stored(writers) if output is not None and output.skip_existing else None
    results = run_all(
        lambda some: how.evaluate(loaded, some, stored),
        how,
        numbers,
        workers=1 if ranks.size > 1 or stored else workers,
        threads=torch.get_num_threads(),
        on_cpu=loaded.place == "cpu",
    )
    stream = _evaluated(results, failed)
    return Evaluation(
        datasets,
        abouts,
        stream,
        Scores({task: dataset.labels for task, dataset in datasets.items()}, protocol.max_dets),
        len(numbers),
        failed,
        ranks,
        writers,
        lacking={task: classes.onto(dataset.labels).lacking() for task, dataset in datasets.items()},
        max_dets=protocol.max_dets,
        protocol=protocol,
        rules=rules,
    )


@dataclass(frozen=True)
class UnreadImage:
    """An image that cannot be read or does not fit into memory."""

    reason: str


@dataclass(frozen=True)
class EvaluateJob(Job[int, Evaluated | UnreadImage]):
    """How the images of a split are predicted, in this process or in others."""

    ref: str  # of the model
    device: str
    dtype: str
    datasets: Mapping[Task, Dataset]  # the split as each task has it
    protocol: Protocol
    classes: ClassMatch  # from the model's classes to all of the dataset's
    batch_size: int = 1
    rules: tuple[MergeRule, ...] = ()  # further ones that a panoptic result is wanted by: `Evaluated.others`
    pixels: bool = False  # whether a semantic result is wanted with `Evaluated.pixels`

    def open(self) -> Callable[[Sequence[int]], Generator[Evaluated | UnreadImage, None, None]]:
        from segcli.weights.checkpoint import load_model

        loaded = load_model(self.ref, self.device, self.dtype)
        return lambda numbers: self._counted(self.evaluate(loaded, numbers))

    def lost(self, item: int) -> UnreadImage:
        return UnreadImage(f"{self._name(item)}: {KILLED}")

    def _name(self, number: int) -> str:
        return str(next(iter(self.datasets.values())).records[number].image)

    @staticmethod
    def _counted(
        stream: Generator[Evaluated | UnreadImage, None, None],
    ) -> Generator[Evaluated | UnreadImage, None, None]:
        """Also counts what each image adds to the metrics, so that workers share this work."""
        with closing(stream):
            for result in stream:
                if isinstance(result, Evaluated):
                    with suppress(InputError):  # prediction and truth do not fit, as the observers will find
                        for task in result.samples:
                            result.counts(task)
                yield result

    def evaluate(
        self, loaded: LoadedModel, numbers: Sequence[int], stored: Stored | None = None
    ) -> Generator[Evaluated | UnreadImage, None, None]:
        """Predict some images of the split, in order.

        stored: (number, samples) -> the results of an earlier run, which spare the network.
        Raises CheckpointError if the network's prediction is not finite.
        """
        datasets, spec = self.datasets, self.protocol.spec
        matches = {task: self.classes.onto(dataset.labels) for task, dataset in datasets.items()}
        choices = [PredictSettings(task, spec, keep_all=task in OBJECT_TASKS) for task in matches]
        if "panoptic" in matches:
            choices += [PredictSettings("panoptic", replace(spec, rule=rule)) for rule in self.rules]
        seen: dict[int, list[tuple[Box, np.ndarray, np.ndarray]]] = {}

        def read(number: int) -> Read[dict[Task, Sample]]:
            samples = read_samples(datasets, number)
            earlier = stored(number, samples) if stored else None
            image = next(iter(samples.values())).image
            return Read(image, samples, None if earlier is None else [earlier[task] for task in matches])

        def look(number: int, box: Box, shown: Prepared, prediction: QueryPredictions) -> None:
            found, scores = pixel_scores(prediction, 0, shown.frame, spec.rule)
            seen.setdefault(number, []).append((box, matches["semantic"].index[found], scores))

        stream = segment_all(
            numbers,
            read,
            lambda inputs: forward(loaded, inputs),
            choices,
            batch_size=self.batch_size,
            tta=self.protocol.tta,
            name=self._name,
            look=look if self.pixels and "semantic" in matches else None,
        )
        with closing(stream):
            for outcome in stream:
                if outcome.error is not None or outcome.read is None:
                    yield UnreadImage(str(outcome.error))
                    continue
                results = outcome.results
                if outcome.read.results is None:  # else they are in the dataset's classes already
                    results = [matches[how.task].apply(result) for how, result in zip(choices, results, strict=True)]
                yield Evaluated(
                    outcome.item,
                    outcome.read.extra,
                    dict(zip(matches, results, strict=False)),
                    (outcome.timings.model + outcome.timings.post) / 1000,
                    self.protocol.max_dets,
                    others=tuple(results[len(matches) :]),
                    pixels=tuple(seen.pop(outcome.item, ())),
                )


def _evaluated(
    results: Generator[Evaluated | UnreadImage, None, None], failed: list[str]
) -> Generator[Evaluated, None, None]:
    with closing(results):
        for result in results:
            if isinstance(result, UnreadImage):
                failed.append(result.reason)
            else:
                yield result


def _stored(writers: Mapping[Task, EvaluationWriter]) -> Stored:
    def stored(number: int, samples: Mapping[Task, Sample]) -> dict[Task, Segments] | None:
        found = {task: writer.stored(number, samples[task].size) for task, writer in writers.items()}
        whole = {task: segments for task, segments in found.items() if segments is not None}
        return whole if len(whole) == len(writers) else None

    return stored


def describe_model(loaded: LoadedModel) -> dict[str, Any]:
    """Which model. weights: a hash of every tensor, as a folder's content may change under its name."""
    digest = hashlib.blake2b(digest_size=8)
    for file in getattr(loaded.model, "files", ()):  # an exported model's graph
        with file.open("rb") as stream:
            while part := stream.read(1 << 20):
                digest.update(part)
    for name, tensor in sorted(loaded.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    facts = {key: loaded.facts[key] for key in _IDENTITY if key in loaded.facts}
    return {"name": loaded.name} | facts | {"weights": digest.hexdigest()}
