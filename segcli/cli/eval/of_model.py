"""`segcli eval --model`: a model on a dataset."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segcli.cli.loading import introduce, load
from segcli.console import Console
from segcli.types import Device, Precision

if TYPE_CHECKING:
    from segcli.distributed import Ranks
    from segcli.evaluation.run import Evaluation, Output

Where = tuple[Device, Precision, int | None, int, int | None]  # device, dtype, threads, batch size, workers


def of_model(
    data: Path,
    model: str | None,
    task: str | None,
    split: str,
    format: str | None,
    binary: bool,
    *,
    size: dict[str, Any],
    tta: bool,
    explain: bool,
    where: Where,
    images: int | None,
    max_dets: int | None,
    output: Output | None,
    ranks: Ranks,
    say: Console,
) -> Evaluation:
    """The evaluation of a model; reports the data, the matched classes and the model.

    size: what replaces the checkpoint's, as `resized` has it. explain: try other thresholds too.
    """
    from segcli.evaluation.class_colours import in_colours_of
    from segcli.evaluation.dataset import choose_tasks, for_model, open_data, open_tasks, two_truths
    from segcli.evaluation.from_model import of_model
    from segcli.evaluation.protocol import Protocol
    from segcli.inference.predict import resized
    from segcli.metrics.match_classes import match_classes
    from segcli.training.validate import other_thresholds

    info = open_data(data, task, format, split, binary=binary)
    device, dtype, threads, batch_size, workers = where
    loaded = load(model, info.task, device, dtype, threads, say)
    info = for_model(info, loaded.spec, task)
    tasks = choose_tasks(loaded.spec, info, task)
    spec = dataclasses.replace(loaded.spec, size=resized(loaded.spec.size, **size))
    protocol = Protocol.of(spec, tasks, max_dets=max_dets, tta=tta)
    classes = match_classes(loaded.labels, info.source_labels, "the model", tasks[0])
    info = in_colours_of(loaded.labels, info, classes)
    datasets = open_tasks(info, split, tasks)
    for note in (info.found, *info.notes, *two_truths(datasets), *classes.notes):
        say.note(note)
    introduce(loaded, tasks, say)
    return of_model(
        loaded,
        info,
        split,
        datasets,
        protocol,
        classes,
        images=images,
        batch_size=batch_size,
        output=output,
        rules=other_thresholds(spec.rule) if explain else [],
        ranks=ranks,
        workers=workers,
    )
