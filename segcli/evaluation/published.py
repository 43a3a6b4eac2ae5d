"""Does a model reach its published numbers? Evaluates with its own protocol on the data they were measured on."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import segcli
from segcli.errors import UsageError
from segcli.evaluation.dataset import open_data, open_tasks
from segcli.evaluation.from_model import of_model
from segcli.evaluation.protocol import Protocol
from segcli.evaluation.run import Evaluation
from segcli.metrics.match_classes import match_classes
from segcli.types import OBJECT_TASKS, TASKS, Task
from segcli.weights.manifest import ManifestEntry
from segcli.weights.verified import AVERAGED, Measured, Verification

if TYPE_CHECKING:
    from segcli.weights.checkpoint import LoadedModel

TOLERANCE = 0.1  # points: published numbers have one decimal, and kernels differ
_TASK_OF: dict[str, Task] = {
    "PQ": "panoptic",
    "AP": "instance",
    "AP50": "instance",
    "box AP": "detect",
    "mIoU": "semantic",
    AVERAGED: "semantic",
}
_IMAGES = {  # of the data in `measured` of weights.toml; on fewer the number is another
    "COCO val2017": 5000,
    "ADE20K val": 2000,
    "Cityscapes val": 500,
    "Mapillary Vistas v1.2 val": 2000,
    "105 facade photographs": 105,
}


def _numbers(entry: ManifestEntry, tta: bool) -> list[str]:
    """The published metrics that segcli measures: of one scale, or of several."""
    return [metric for metric in entry.metrics if metric in _TASK_OF and (metric == AVERAGED) == tta]


def measurable(entry: ManifestEntry, *, tta: bool = False) -> tuple[Task, ...]:
    """The tasks that the published numbers are of: those of one scale, or with tta those of several.

    Raises UsageError if there are none.
    """
    wanted = {_TASK_OF[metric] for metric in _numbers(entry, tta)}
    if not wanted:
        what = "that averages over sizes; leave out --tta" if tta else "that segcli measures"
        raise UsageError(f"{entry.name} has no published metric {what} ({', '.join(entry.metrics) or '-'})")
    return tuple(task for task in TASKS if task in wanted)


def open_verification(
    loaded: LoadedModel,
    entry: ManifestEntry,
    data: Path,
    *,
    split: str = "val",
    batch_size: int = 1,
    tta: bool = False,
) -> Evaluation:
    """The evaluation of all published numbers of one scale, or of several, from one pass.

    Raises UsageError for data that does not have the model's classes, and as `open_data`.
    """
    tasks = measurable(entry, tta=tta)
    info = open_data(data, tasks[0], None, split)
    classes = match_classes(loaded.labels, info.source_labels, "the model", tasks[0])
    things_only = set(tasks) <= set(OBJECT_TASKS)
    unknown = [
        label.name
        for label, index in zip(loaded.labels, classes.index, strict=True)
        if index < 0 and (label.isthing or not things_only)
    ]
    if unknown or classes.by != "id":
        raise UsageError(
            f"{data}: not the data of the published numbers, {entry.measured}: it has other classes "
            f"({', '.join(unknown[:3]) or 'other ids'}); segcli eval measures on any data"
        )
    datasets = open_tasks(info, split, tasks)
    protocol = Protocol.of(loaded.spec, tasks, tta=tta)
    return of_model(loaded, info, split, datasets, protocol, classes, batch_size=batch_size)


def verification(
    entry: ManifestEntry, evaluation: Evaluation, documents: Mapping[Task, Mapping[str, Any]]
) -> Verification:
    """The published numbers beside the measured ones."""
    tta = evaluation.protocol is not None and evaluation.protocol.tta
    metrics = []
    for metric in _numbers(entry, tta):
        published, value = entry.metrics[metric], documents[_TASK_OF[metric]]["summary"]["mIoU" if tta else metric]
        measured = float("nan") if value is None else 100 * value
        metrics.append(Measured(metric, published, measured, abs(measured - published) <= TOLERANCE + 1e-9))
    first = next(iter(documents.values()))
    complete = expected_images(entry) in (None, evaluation.scores.images)
    return Verification(
        name=entry.name,
        weights=first["model"]["weights"],
        date=datetime.date.today().isoformat(),
        segcli=segcli.__version__,
        data=dict(first["data"]),
        protocol={AVERAGED if tta else task: document["protocol"] for task, document in documents.items()},
        metrics=tuple(metrics),
        passed=complete and not tta and metrics[0].agrees,
    )


def expected_images(entry: ManifestEntry) -> int | None:
    """How many images the published numbers are of, if that is known."""
    return _IMAGES.get(entry.measured or "")
