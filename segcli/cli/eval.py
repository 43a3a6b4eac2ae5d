"""`segcli eval`: the official numbers of a model, or of anybody's predictions, on a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segcli import console
from segcli.cli import options
from segcli.cli.loading import introduce, load
from segcli.console import Console
from segcli.errors import UsageError

if TYPE_CHECKING:
    from segcli.engine.distributed import Ranks
    from segcli.engine.evaluation import Evaluation
    from segcli.engine.explain import Explain
    from segcli.metrics.match_classes import ClassMatch
    from segcli.types import InferenceSpec, Task

DATA = "Data"


class TaskName(StrEnum):
    """What can be scored."""

    panoptic = "panoptic"
    instance = "instance"
    semantic = "semantic"
    all = "all"


DataArgument = Annotated[
    Path, typer.Argument(metavar="DATA", show_default=False, help="The folder with the images and their annotations.")
]
TaskOption = Annotated[
    TaskName | None,
    typer.Option(
        "--task",
        "-t",
        metavar="TASK",
        show_default=False,
        help="panoptic, instance, semantic, or all that data and model can do, from one pass; the data's own if not "
        "given.",
        rich_help_panel=DATA,
    ),
]
SplitOption = Annotated[
    str, typer.Option("--split", metavar="NAME", help="Which part of the data.", rich_help_panel=DATA)
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        show_default=False,
        help="The data's format, if it is not clear.",
        rich_help_panel=DATA,
    ),
]
ImagesOption = Annotated[
    int | None,
    typer.Option(
        "--images",
        metavar="N",
        min=1,
        show_default=False,
        help="Only the first N: for a look, the number is not the split's.",
        rich_help_panel=DATA,
    ),
]
MaxDetsOption = Annotated[
    int | None,
    typer.Option(
        "--max-dets",
        metavar="N",
        min=1,
        show_default=False,
        help="The most instances of an image that are kept and counted; if not given COCO's 100, or the model's own "
        "number where that is more.",
        rich_help_panel=options.MODEL,
    ),
]
TtaOption = Annotated[
    bool,
    typer.Option(
        "--tta",
        help="Average over six sizes and mirror images, the published ms+flip (semantic); 12 times the work and more.",
        rich_help_panel=options.MODEL,
    ),
]
ExplainOption = Annotated[
    bool,
    typer.Option(
        "--explain",
        help="Say what holds the model back: the metric if classes, masks, thresholds or recall were right.",
        rich_help_panel=options.RESULTS,
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        show_default=False,
        help="Write numbers, predictions and pictures there.",
        rich_help_panel=options.RESULTS,
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print what metrics.json says, and nothing else.", rich_help_panel=options.TALK),
]


def evaluate(
    data: DataArgument,
    model: options.ModelOption = None,
    task: TaskOption = None,
    split: SplitOption = "val",
    format: FormatOption = None,
    images: ImagesOption = None,
    max_dets: MaxDetsOption = None,
    tta: TtaOption = False,
    explain: ExplainOption = False,
    out: OutOption = None,
    overwrite: options.OverwriteOption = False,
    skip_existing: options.SkipExistingOption = False,
    device: options.DeviceOption = options.DeviceName.auto,
    dtype: options.DtypeOption = options.DtypeName.auto,
    threads: options.ThreadsOption = None,
    batch_size: options.BatchSizeOption = 1,
    as_json: JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Measure a model on annotated images: PQ, AP or mIoU, equal to the official tools' numbers.

    segcli eval data/ --model runs/data-1/best

    segcli eval data/ --model facade --task all --out scores
    """
    if out is None and (overwrite or skip_existing):
        raise UsageError("--overwrite and --skip-existing are about earlier results; name their folder with --out")
    from segcli.engine.evaluate import Protocol, choose_tasks, for_model, open_data, open_tasks
    from segcli.engine.evaluation import Output, of_model
    from segcli.metrics.match_classes import match_classes

    with _ranks(device.value) as ranks:
        say = Console(quiet=quiet or not ranks.is_first)
        wanted = task and task.value
        info = open_data(data, wanted, format, split)
        loaded = load(model, options.TaskName(info.task), device, dtype, threads, say)
        info = for_model(info, loaded.spec, wanted)
        tasks = choose_tasks(loaded.spec, info, wanted)
        protocol = Protocol.of(loaded.spec, tasks, max_dets=max_dets, tta=tta)
        classes = match_classes(loaded.labels, info.source_labels, "the model", tasks[0])
        for note in (info.found, *info.notes, *classes.notes):
            say.note(note)
        introduce(loaded, tasks, say)
        evaluation = of_model(
            loaded,
            info,
            split,
            open_tasks(info, split, tasks),
            protocol,
            classes,
            images=images,
            batch_size=batch_size,
            output=None if out is None else Output(out, overwrite, skip_existing),
            ranks=ranks,
        )
        ladders = _ladders(evaluation, protocol.max_dets, protocol.spec, classes) if explain else {}
        words = {own: protocol.in_words(own) for own in tasks}
        _run(evaluation, words, ladders, say, as_json=as_json)


def _ladders(
    evaluation: Evaluation, max_dets: int, spec: InferenceSpec | None = None, classes: ClassMatch | None = None
) -> dict[Task, Explain]:
    """Have the oracle ladder of every task climbed."""
    from segcli.engine.explain import Explain

    ladders = {
        task: Explain(task, dataset.labels, spec=spec, classes=classes, max_dets=max_dets)
        for task, dataset in evaluation.datasets.items()
    }
    for task, ladder in ladders.items():
        evaluation.watch(task, ladder)
    return ladders


def _run(
    evaluation: Evaluation,
    protocols: Mapping[Task, str],
    ladders: Mapping[Task, Explain],
    say: Console,
    *,
    as_json: bool,
) -> None:
    """Measure, show and write; exits with 1 if images had to be left out."""
    from segcli.cli.eval_screen import EvalScreen, show, show_ladder

    with EvalScreen(say, evaluation) as screen:
        for _ in evaluation.run():
            screen.step()
        documents = evaluation.finish()
    if not evaluation.ranks.is_first:
        return
    if as_json:
        whole = {
            task: document | ({"explain": ladders[task].report().to_json()} if ladders else {})
            for task, document in documents.items()
        }
        console.json_document(next(iter(whole.values())) if len(whole) == 1 else whole)
    else:
        for number, (task, document) in enumerate(documents.items()):
            if number:
                say.say()
            show(say, document, protocols[task])
            if ladders:
                show_ladder(say, ladders[task].report())
    if evaluation.crowded:
        console.warning(
            f"{evaluation.crowded} images hold more objects of a class than the {evaluation.max_dets} instances that "
            "count: --max-dets N counts more, if the model has as many queries"
        )
    for reason in evaluation.failed:
        console.error(f"left out: {reason}")
    if evaluation.failed:
        raise typer.Exit(1)


@contextmanager
def _ranks(device: str) -> Iterator[Ranks]:
    """This process among those that torchrun started; a peer that has gone has told why."""
    from segcli.engine.distributed import is_lost_peer, join, leave

    ranks = join(device)
    try:
        yield ranks
    except RuntimeError as error:
        if ranks.size == 1 or not is_lost_peer(error):
            raise
        raise typer.Exit(1) from error
    finally:
        leave()
