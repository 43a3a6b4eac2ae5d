"""`segcli eval`: the official metrics of a model, or of any tool's predictions, on a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from segcli import console
from segcli.cli import options
from segcli.console import Console
from segcli.errors import UsageError
from segcli.types import TASKS, Task

if TYPE_CHECKING:
    from segcli.distributed import Ranks
    from segcli.evaluation.explain import Explain
    from segcli.evaluation.run import Evaluation


DataArgument = Annotated[
    Path | None,
    typer.Argument(metavar="DATA", show_default=False, help="The folder with the images and their annotations."),
]
PredictionsOption = Annotated[
    Path | None,
    typer.Option(
        "--predictions",
        "-p",
        metavar="FILE|DIR",
        show_default=False,
        help="Score these instead of a model: COCO results JSON, COCO panoptic JSON with its PNGs, a folder of label "
        "maps, or what segcli predict wrote.",
        rich_help_panel=options.DATA,
    ),
]
CompareOption = Annotated[
    tuple[Path, Path] | None,
    typer.Option(
        "--compare",
        metavar="A B",
        show_default=False,
        help="Compare two folders of --out (without DATA): is B better than A, or could it be chance?",
        rich_help_panel=options.DATA,
    ),
]
TaskOption = Annotated[
    Literal[Task, "all"] | None,
    typer.Option(
        "--task",
        "-t",
        metavar="TASK",
        show_default=False,
        help="panoptic, instance, semantic, detect, or all (every task that data and model support, in one pass). "
        "Default: the data's own.",
        rich_help_panel=options.DATA,
    ),
]
SplitOption = Annotated[
    str, typer.Option("--split", metavar="NAME", help="Which split of the data.", rich_help_panel=options.DATA)
]
ImagesOption = Annotated[
    int | None,
    typer.Option(
        "--images",
        metavar="N",
        min=1,
        show_default=False,
        help="Only the first N images: a quick look, not a result for the whole split.",
        rich_help_panel=options.DATA,
    ),
]
MaxDetsOption = Annotated[
    int | None,
    typer.Option(
        "--max-dets",
        metavar="N",
        min=1,
        show_default=False,
        help="Most instances per image that are kept and scored. Default: COCO's 100, or the model's own number if "
        "that is larger (500 with tiles).",
        rich_help_panel=options.MODEL,
    ),
]
TtaOption = Annotated[
    bool,
    typer.Option(
        "--tta",
        help="Average over six sizes and mirror images, the published ms+flip (semantic); 17 times the work.",
        rich_help_panel=options.MODEL,
    ),
]
ExplainOption = Annotated[
    bool,
    typer.Option(
        "--explain",
        help="Show what limits the model: the metric if classes, masks, thresholds or recall were perfect.",
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
        callback=options.local,
        help="Write numbers, predictions and pictures there.",
        rich_help_panel=options.RESULTS,
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print the contents of metrics.json and nothing else.", rich_help_panel=options.TALK),
]


def evaluate(
    data: DataArgument = None,
    model: options.ModelOption = None,
    predictions: PredictionsOption = None,
    compare: CompareOption = None,
    task: TaskOption = None,
    split: SplitOption = "val",
    format: options.FormatOption = None,
    binary: options.BinaryOption = False,
    images: ImagesOption = None,
    short_side: options.ShortSideOption = None,
    tile: options.TileOption = None,
    rectangle: options.RectangleOption = False,
    max_dets: MaxDetsOption = None,
    tta: TtaOption = False,
    explain: ExplainOption = False,
    out: OutOption = None,
    overwrite: options.OverwriteOption = False,
    skip_existing: options.SkipExistingOption = False,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "auto",
    threads: options.ThreadsOption = None,
    workers: options.WorkersOption = "auto",
    batch_size: options.BatchSizeOption = 1,
    as_json: JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Measure a model, or predictions of any tool, as the official tools do: PQ, AP or mIoU.

    segcli eval data/ --model runs/data-1/best

    segcli eval data/ --model facade --task all --out scores

    segcli eval data/ --predictions results.json

    segcli eval --compare scores-before scores-after
    """
    if compare is not None:
        from segcli.cli.eval.of_files import show_comparisons

        if data is not None or model is not None or predictions is not None or out is not None:
            raise UsageError("--compare takes two folders that eval --out wrote and nothing else; leave out the rest")
        show_comparisons(compare, Console(quiet=quiet), as_json=as_json)
        return
    if data is None:
        raise UsageError("the data folder is missing: segcli eval DATA, or segcli eval --compare A B")
    if predictions is not None and (model is not None or tta or short_side is not None or tile is not None):
        raise UsageError("--predictions scores existing predictions; leave out --model, --short-side, --tile and --tta")
    if out is None and (overwrite or skip_existing):
        raise UsageError("--overwrite and --skip-existing need the folder of the earlier results; add --out")
    if out is not None and not (overwrite or skip_existing):
        from segcli.evaluation.writer import refuse_results

        for folder in (out, *(out / own for own in TASKS)):  # before a model is loaded
            refuse_results(folder)
    from segcli.evaluation.run import Output
    from segcli.files.locks import owned
    from segcli.files.writing import remove_left_over

    with _ranks(device) as ranks, owned(out) if out is not None and ranks.is_first else nullcontext():
        if out is not None and ranks.is_first:
            remove_left_over(out)
        say = Console(quiet=quiet or not ranks.is_first)
        wanted = task
        what: dict[str, Any] = {"images": images, "max_dets": max_dets, "ranks": ranks, "say": say}
        what["output"] = None if out is None else Output(out, overwrite, skip_existing)
        if predictions is not None:
            from segcli.cli.eval.of_files import of_files

            evaluation = of_files(data, predictions, wanted, split, format, binary, **what)
        else:
            from segcli.cli.eval.of_model import of_model

            where = (device, dtype, threads, batch_size, options.parse_workers(workers))
            size = {"short_side": short_side, "tile": tile, "rectangle": rectangle}
            how: dict[str, Any] = {"size": size, "tta": tta, "explain": explain, "where": where}
            evaluation = of_model(data, model, wanted, split, format, binary, **how, **what)
        _run(evaluation, say, explain=explain, as_json=as_json)


def _run(evaluation: Evaluation, say: Console, *, explain: bool, as_json: bool) -> None:
    """Measure, show and write; exits with 1 if images had to be left out."""
    from segcli.cli.screens.eval_screen import EvalScreen, show, show_ladder

    ladders = _ladders(evaluation) if explain else {}
    if evaluation.writers:
        _draw(evaluation)
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
            show(say, document, evaluation.in_words(task))
            if ladders:
                show_ladder(say, ladders[task].report())
    if evaluation.writers:
        folders = ", ".join(str(writer.path) for writer in evaluation.writers.values())
        say.note(f"numbers, predictions and pictures are in {folders}")
    if evaluation.crowded:
        enough = ", if the model has as many queries" if evaluation.protocol else ""
        console.warning(
            f"images with more objects of a class than the {evaluation.max_dets} instances that count: "
            f"{evaluation.crowded}; --max-dets N counts more{enough}"
        )
    for reason in evaluation.failed:
        console.error(f"left out: {reason}")
    if evaluation.failed:
        raise typer.Exit(1)


def _ladders(evaluation: Evaluation) -> dict[Task, Explain]:
    """Add the oracle ladder of every task."""
    from segcli.evaluation.explain import Explain

    rule = evaluation.protocol.spec.rule if evaluation.protocol else None
    ladders = {
        task: Explain(
            *(task, dataset.labels),
            rule=rule,
            others=evaluation.rules,
            max_dets=evaluation.max_dets,
            lacking=evaluation.lacking.get(task, frozenset()),
        )
        for task, dataset in evaluation.datasets.items()
    }
    for task, ladder in ladders.items():
        evaluation.watch(task, ladder)
    return ladders


def _draw(evaluation: Evaluation) -> None:
    """Add the pictures of every task."""
    from segcli.evaluation.pictures import EvalPictures
    from segcli.types import MergeRule

    rule = evaluation.protocol.spec.rule if evaluation.protocol else MergeRule()
    for task, dataset in evaluation.datasets.items():
        evaluation.watch(task, EvalPictures(task, dataset.labels, threshold=rule.instance_score))


@contextmanager
def _ranks(device: str) -> Iterator[Ranks]:
    """This process among those that torchrun started; a peer that failed has reported why."""
    from segcli.distributed import is_lost_peer, join, leave

    ranks = join(device)
    try:
        yield ranks
    except RuntimeError as error:
        if ranks.size == 1 or not is_lost_peer(error):
            raise
        raise typer.Exit(1) from error
    finally:
        leave()
