"""`segcli viz curves`: training curves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from segcli import console
from segcli.cli import options
from segcli.console import Console

RunsArgument = Annotated[
    list[Path],
    typer.Argument(metavar="RUN...", show_default=False, help="Folders of segcli train; several are compared."),
]
TermOption = Annotated[
    bool,
    typer.Option("--term", help="Draw in the terminal, as text, and write nothing.", rich_help_panel=options.RESULTS),
]


def curves(
    runs: RunsArgument,
    term: TermOption = False,
    out: options.OutOption = Path("segcli-viz"),
    overwrite: options.OverwriteOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Draw loss terms, learning rate and metric over the steps of runs, as curves.png and curves.svg.

    segcli viz curves runs/data-1 runs/data-2

    segcli viz curves runs/data-1 --term
    """
    from segcli.training.record.run_log import read_runs

    found = read_runs(runs)
    if term:
        from shutil import get_terminal_size

        from segcli.render.term import chart_lines

        width = get_terminal_size((100, 24)).columns
        console.drawing(chart_lines(found, width, colour=sys.stdout.isatty()))
        return
    from segcli.files.writing import refuse_existing, write_file
    from segcli.render.curves import curves_figure
    from segcli.render.plots import encode

    files = [out / "curves.png", out / "curves.svg"]
    if not overwrite:
        refuse_existing(files, "replace it with --overwrite, or choose another --out")
    picture = curves_figure(found)
    say = Console(quiet=quiet)
    for file in files:
        write_file(file, encode(picture, file.suffix))
        say.say(file)
