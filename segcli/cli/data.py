"""`segcli data`: what a dataset holds, what is wrong with it, and how to convert and split it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from segcli.cli import options
from segcli.cli.app import App
from segcli.data.converting.writers import names as writer_names
from segcli.types import Task

if TYPE_CHECKING:
    from segcli.console import Console
    from segcli.data.converting.convert import Written
    from segcli.data.records import DatasetInfo

app = App(
    help="""Check, convert, analyse and split datasets, in every format that `train` reads.

    segcli data check data/

    segcli data convert voc/ coco/ --to coco

    segcli data stats data/ --out charts

    segcli data stats segcli-out/
    """
)
LINES = 8  # findings of a kind that are shown one by one; all are in --json


DataArgument = Annotated[
    Path, typer.Argument(metavar="DATA", show_default=False, help="The folder with the images and their annotations.")
]
TaskOption = Annotated[
    Task | None,
    typer.Option("--task", "-t", metavar="TASK", show_default=False, help="Default: the data's own."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON value to stdout and nothing else.", rich_help_panel=options.TALK)
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        show_default=False,
        help="Default: all cores.",
        rich_help_panel=options.SPEED,
    ),
]


@app.command()
def check(
    data: DataArgument,
    format: options.FormatOption = None,
    binary: options.BinaryOption = False,
    task: TaskOption = None,
    queries: Annotated[
        int | None,
        typer.Option(
            "--queries",
            metavar="N",
            min=1,
            show_default=False,
            help="Queries of the model: the most objects it can find in an image. Default: those of the model that "
            "train starts from.",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with code 1 if a fault was found; remarks do not count.")
    ] = False,
    fix: Annotated[
        Path | None,
        typer.Option("--fix", metavar="OUT", show_default=False, help="Write a cleaned copy to this new folder."),
    ] = None,
    as_json: JsonOption = False,
    threads: ThreadsOption = None,
    quiet: options.QuietOption = False,
) -> None:
    """Find what is wrong with a dataset before it costs a night of training.

    segcli data check data/

    segcli data check data/ --fix cleaned/
    """
    from segcli import console
    from segcli.cli.screens.data_screen import findings_as_json, show_findings
    from segcli.config.mask2former import Mask2FormerConfig
    from segcli.console import Console
    from segcli.data.checking.check import check as look
    from segcli.data.converting.convert import refuse_taken
    from segcli.data.detect import detect_for_checking
    from segcli.weights.manifest import manifest, offline_default

    say = Console(quiet=quiet)
    info = detect_for_checking(data, format=format, task=task, binary=binary)
    model = "a model of so many queries"
    if queries is None:
        start = manifest().get(offline_default() or "")
        queries = (start and start.queries) or Mask2FormerConfig.num_queries
        model = f"{start.name}, from which train starts," if start else "a new model"
    if fix is not None:
        refuse_taken(fix, info.root)
    _announce(say, info)
    with _progress(say, "checking", info) as advance:
        report = look(info, queries=queries, model=model, threads=threads, progress=advance)
    if as_json:
        console.json_document(findings_as_json(info, report))
    elif not quiet:
        show_findings(report, info.task, LINES)
    if fix is not None:
        _fix(say, data, info, report, fix, threads)
    if strict and report.faults:
        raise typer.Exit(1)


def _fix(say: Console, data: Path, info: DatasetInfo, report: object, out: Path, threads: int | None) -> None:
    from segcli.cli.screens.data_screen import show_rest
    from segcli.data.checking.check import CheckReport
    from segcli.data.checking.mend import mended, unmended

    assert isinstance(report, CheckReport)
    clean = mended(info, report)
    to = _own_format(say, info)
    _write(say, clean, out, to, threads)
    show_rest(say, unmended(report))


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="IN", show_default=False, help="A dataset, or what `segcli predict` wrote.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", show_default=False, help="A new folder.")],
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="FORMAT", show_default=False, help=f"The format to write: {', '.join(writer_names())}."
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="DIR",
            show_default=False,
            help="The photos, if IN holds predictions of them.",
        ),
    ] = None,
    outlines: Annotated[
        Literal["exact", "polygons"],
        typer.Option("--outlines", help="For --to coco: polygons, which labelling tools can edit, in place of masks."),
    ] = "exact",
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance",
            metavar="PIXELS",
            min=0,
            max=100,
            help="How far simplified outlines may deviate from the masks; 0 follows the pixel edges.",
        ),
    ] = 0.0,
    format: options.FormatOption = None,
    binary: options.BinaryOption = False,
    threads: ThreadsOption = None,
    quiet: options.QuietOption = False,
) -> None:
    """Write a dataset in another format, exact to the pixel where the format allows it; losses are reported.

    segcli data convert voc/ coco/ --to coco

    segcli data convert segcli-out/ annotations/ --to coco --images photos/

    segcli data convert segcli-out/ drafts/ --to labelme --images photos/ --tolerance 1
    """
    from segcli.console import Console
    from segcli.evaluation.predicted_data import open_source

    say = Console(quiet=quiet)
    info = open_source(source, images, format, binary=binary)
    _announce(say, info)
    _write(say, info, out, to, threads, outlines, tolerance)


@app.command()
def stats(
    data: DataArgument,
    format: options.FormatOption = None,
    binary: options.BinaryOption = False,
    task: TaskOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", show_default=False, help="Folder for charts.")
    ] = None,
    as_json: JsonOption = False,
    threads: ThreadsOption = None,
    quiet: options.QuietOption = False,
) -> None:
    """Count a dataset or what `segcli predict` wrote: image sizes, classes, objects per image, mask areas.

    segcli data stats data/ --out charts

    segcli data stats segcli-out/
    """
    from segcli import console
    from segcli.cli.screens.data_screen import show_stats
    from segcli.console import Console
    from segcli.data.checking.stats import stats as count
    from segcli.data.detect import detect
    from segcli.errors import UsageError
    from segcli.evaluation.predicted_data import count_predictions, predictions_to_count

    say = Console(quiet=quiet)
    try:
        info = detect(data, format=format, task=task, training=False, binary=binary)
    except UsageError:
        predictions = predictions_to_count(data) if data.exists() and format is None else None
        if predictions is None:
            raise
        what, answered = predictions.what, predictions.task
        if task not in (None, answered):
            raise UsageError(f"--task {task}: {data} holds {what} for {answered}") from None
        say.note(f"{data}: {what}: {len(predictions.images)} images; task {answered}")
        with say.progress("counting", len(predictions.images)) as move:
            splits = [count_predictions(predictions, lambda: move(1))]
    else:
        what, answered = info.format, info.task
        _announce(say, info)
        with _progress(say, "counting", info) as advance:
            splits = count(info, threads=threads, progress=advance)
    if as_json:
        console.json_document({"kind": "segcli data stats", "data": str(data), "format": what,
                               "task": answered, "splits": [of_split.to_json() for of_split in splits]})  # fmt: skip
    elif not quiet:
        show_stats(splits)
    if out is not None:
        from segcli.inspection.data_charts import write_charts

        for path in write_charts(splits, answered, out):
            say.note(path)


@app.command()
def split(
    data: DataArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", show_default=False, help="A new folder.")],
    val: Annotated[float, typer.Option("--val", metavar="PART", help="Fraction of the images for validation.")] = 0.1,
    test: Annotated[float, typer.Option("--test", metavar="PART", help="Fraction of the images for testing.")] = 0.0,
    group: Annotated[
        str | None,
        typer.Option(
            "--group",
            metavar="PATTERN",
            show_default=False,
            help="Keep images together in whose file names this regular expression matches the same text, such as "
            "'^[^_]+'.",
        ),
    ] = None,
    format: options.FormatOption = None,
    binary: options.BinaryOption = False,
    threads: ThreadsOption = None,
    quiet: options.QuietOption = False,
) -> None:
    """Split a dataset into training, validation and test images, whatever its splits are now.

    A hash of its name decides where an image (or a group) goes: it stays there when others are added or removed.

    segcli data split data/ divided/ --val 0.2 --group '^[0-9]{8}'
    """
    from segcli.console import Console
    from segcli.data.converting.split import divided
    from segcli.data.detect import detect

    say = Console(quiet=quiet)
    info = detect(data, format=format, training=False, binary=binary)
    _announce(say, info)
    shares = {"val": val, "test": test} if test else {"val": val}
    division = divided(info, shares, group)
    unit = "groups" if group else "images"
    say.note(f"{unit}: " + ", ".join(f"{number} {name}" for name, number in division.groups.items()))
    _warn_of_twins(say, info, division.info, threads)
    _write(say, division.info, out, _own_format(say, info), threads)


def _warn_of_twins(say: Console, info: DatasetInfo, divided: DatasetInfo, threads: int | None) -> None:
    """Warn of near-duplicates in different splits, and name the option that keeps them together."""
    from segcli.data.converting.alike import alike_across, grouping

    with _progress(say, "comparing", info) as advance:
        pairs = alike_across(info, divided, threads=threads, progress=advance)
    if not pairs:
        return
    one, other = pairs[0]
    pattern = grouping(pairs, info, len(divided.splits))
    remedy = f"--group '{pattern}'" if pattern else "--group PATTERN"
    number = (
        "1 pair of near-duplicate images is"
        if len(pairs) == 1
        else f"{len(pairs):,} pairs of near-duplicate images are"
    )
    say.note(f"warning: {number} divided, such as {one.name} and {other.name}; {remedy} keeps them together")


def _own_format(say: Console, info: DatasetInfo) -> str:
    from segcli.data.formats import formats

    if info.format == "labelme":
        say.note("labelme has no splits, so the data is written as COCO")
    return formats()[info.format].WRITTEN_AS


def _announce(say: Console, info: DatasetInfo) -> None:
    say.note(f"data: {info.found}")
    for note in info.notes:
        say.note(note)


def _write(
    say: Console,
    info: DatasetInfo,
    out: Path,
    to: str,
    threads: int | None,
    outlines: str = "exact",
    tolerance: float = 0.0,
) -> None:
    """Write the dataset and report the result. Exits with 1 if images had to be left out."""
    from segcli.data.converting.convert import write_dataset
    from segcli.data.converting.writers import writer_for
    from segcli.files.locks import owned
    from segcli.files.writing import remove_left_over

    writer = writer_for(to, info, as_polygons=outlines == "polygons", tolerance=tolerance)
    with _progress(say, "writing", info) as advance, owned(out, beside=True):
        remove_left_over(out.parent)
        written: Written = write_dataset(info, out, writer, threads=threads, progress=lambda done, total: advance())
    from segcli.cli.screens.data_screen import show_written

    show_written(say, written, out)
    if written.problems:
        raise typer.Exit(1)


@contextmanager
def _progress(say: Console, what: str, info: DatasetInfo) -> Iterator[Callable[[], None]]:
    with say.progress(what, sum(len(records) for records in info.splits.values())) as advance:
        yield lambda: advance(1)
