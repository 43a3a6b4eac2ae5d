"""`segcli viz report`: predictions, an evaluation or a training run as a page for the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segcli import console
from segcli.cli import options
from segcli.console import Console

SourceArgument = Annotated[
    Path,
    typer.Argument(
        metavar="DIR|RUN|EVAL",
        show_default=False,
        help="A folder that segcli predict, segcli train or segcli eval wrote, or predictions of another tool.",
    ),
]
OutOption = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="PAGE",
        callback=options.local,
        help="The page to write. More than 200 images go into a folder beside it, named PAGE_files.",
        rich_help_panel=options.RESULTS,
    ),
]
PhotosOption = Annotated[
    Path | None,
    typer.Option("--photos", metavar="DIR", show_default=False, help="Where the photos of predictions are now."),
]


def report(
    source: SourceArgument,
    photos: PhotosOption = None,
    task: options.TaskOption = None,
    out: OutOption = Path("segcli-viz/report.html"),
    overwrite: options.OverwriteOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Write an HTML page to browse: images with their segments, filters and thresholds, tables and curves.

    It needs no server and no network. Hover over a segment to see what it is; the page lists its keys.

    segcli viz report segcli-out/

    segcli viz report runs/data-1 --out run.html
    """
    from segcli.files.locks import owned
    from segcli.files.writing import refuse_existing, remove_left_over
    from segcli.inspection.report_inputs import read_report
    from segcli.inspection.report_page import MOST_IN_A_FILE, folder_of, write_report

    say = Console(quiet=quiet)
    page = out if out.suffix.lower() in (".html", ".htm") and not out.is_dir() else out / "report.html"
    made = read_report(source, photos, task)
    images, broken = (len(made.gallery.items), len(made.gallery.broken)) if made.gallery else (0, 0)
    if not overwrite:
        files = [page, *([folder_of(page)] if images > MOST_IN_A_FILE else [])]
        refuse_existing(files, "replace it with --overwrite, or choose another --out")
    problems: list[str] = []

    def problem(message: str) -> None:
        problems.append(message)
        console.error(message)

    for reason in made.gallery.broken if made.gallery else ():
        problem(reason)
    with say.progress("packing", images) as advance, owned(page, beside=True):
        remove_left_over(page.parent)
        write_report(made, page, problem=problem, advance=advance)
    say.say(page)
    if problems:
        if images > 1:
            console.error(f"{len(problems)} of {images + broken} images cannot be shown; the page lists them")
        raise typer.Exit(1)
