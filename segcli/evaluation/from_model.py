"""A model evaluated on one split of a dataset: every image once through the network, for all tasks asked for.

datasets = open_tasks(info, "val", tasks)
evaluation = of_model(loaded, info, "val", datasets, protocol, classes)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from segcli.data.dataset import Dataset, Sample
from segcli.data.records import DatasetInfo
from segcli.distributed import Ranks
from segcli.evaluation.data import read_samples
from segcli.evaluation.folder import About
from segcli.evaluation.observers import Evaluated, Scores
from segcli.evaluation.protocol import Protocol
from segcli.evaluation.run import Evaluation, Output, describe_data, open_writers
from segcli.evaluation.writer import EvaluationWriter
from segcli.inference.predict import Settings, forward
from segcli.inference.preprocess import Prepared
from segcli.inference.stream import Read, segment_all
from segcli.inference.tiling import Box
from segcli.metrics.match_classes import ClassMatch
from segcli.postprocess import pixel_scores
from segcli.segments import Segments
from segcli.types import OBJECT_TASKS, MergeRule, QueryPredictions, Task
from segcli.weights.device import name_of

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
) -> Evaluation:
    """The evaluation of a model.

    images: only the first so many. output: write predictions and numbers there. rules: further rules by which a
    panoptic result is wanted, for observers. Raises as `EvaluationWriter`.
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
    stream = evaluate(
        loaded,
        datasets,
        protocol,
        classes,
        numbers=numbers,
        batch_size=batch_size,
        stored=_stored(writers) if output is not None and output.skip_existing else None,
        rules=rules,
        pixels=output is not None,
        failed=failed.append,
    )
    return Evaluation(
        datasets,
        abouts,
        stream,
        Scores({task: dataset.labels for task, dataset in datasets.items()}, protocol.max_dets),
        len(numbers),
        failed,
        ranks,
        writers,
        max_dets=protocol.max_dets,
        protocol=protocol,
        rules=rules,
    )


def evaluate(
    loaded: LoadedModel,
    datasets: Mapping[Task, Dataset],
    protocol: Protocol,
    classes: ClassMatch,
    *,
    numbers: Sequence[int] | None = None,
    batch_size: int = 1,
    stored: Stored | None = None,
    rules: Sequence[MergeRule] = (),
    pixels: bool = False,
    failed: Callable[[str], None],
) -> Iterator[Evaluated]:
    """Predict the images of a split, in order.

    datasets: the split as each task has it.
    classes: from the model's classes to all of the dataset's.
    numbers: which images; None means all.
    stored: (number, samples) -> the results of an earlier run, which spare the network.
    rules, pixels: what else is wanted of a panoptic or semantic result (`Evaluated.others`, `Evaluated.pixels`).
    failed: told why an image cannot be read or does not fit into memory; the others go on.
    Raises CheckpointError if the network's prediction is not finite.
    """
    matches = {task: classes.onto(dataset.labels) for task, dataset in datasets.items()}
    first, spec = next(iter(datasets.values())), protocol.spec
    choices = [Settings(task, spec, keep_all=task in OBJECT_TASKS) for task in matches]
    if "panoptic" in matches:
        choices += [Settings("panoptic", replace(spec, rule=rule)) for rule in rules]
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
        range(len(first)) if numbers is None else numbers,
        read,
        lambda inputs: forward(loaded, inputs),
        choices,
        batch_size=batch_size,
        tta=protocol.tta,
        name=lambda number: str(first.records[number].image),
        look=look if pixels and "semantic" in matches else None,
    )
    with closing(stream):
        for outcome in stream:
            if outcome.error is not None or outcome.read is None:
                failed(str(outcome.error))
                continue
            results = outcome.results
            if outcome.read.results is None:  # else they are in the dataset's classes already
                results = [matches[how.task].apply(result) for how, result in zip(choices, results, strict=True)]
            yield Evaluated(
                outcome.item,
                outcome.read.extra,
                dict(zip(matches, results, strict=False)),
                (outcome.timings.model + outcome.timings.post) / 1000,
                protocol.max_dets,
                others=tuple(results[len(matches) :]),
                pixels=tuple(seen.pop(outcome.item, ())),
            )


def _stored(writers: Mapping[Task, EvaluationWriter]) -> Stored:
    def stored(number: int, samples: Mapping[Task, Sample]) -> dict[Task, Segments] | None:
        found = {task: writer.stored(number, samples[task].size) for task, writer in writers.items()}
        whole = {task: segments for task, segments in found.items() if segments is not None}
        return whole if len(whole) == len(writers) else None

    return stored


def describe_model(loaded: LoadedModel) -> dict[str, Any]:
    """Which model. weights: a hash of every tensor, as a folder's content may change under its name."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(loaded.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    facts = {key: loaded.facts[key] for key in _IDENTITY if key in loaded.facts}
    return {"name": loaded.name} | facts | {"weights": digest.hexdigest()}
