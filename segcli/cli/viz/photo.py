"""What the views of one photo have in common on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segcli import console
from segcli.console import Console

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from segcli.weights.checkpoint import LoadedModel

PhotoArgument = Annotated[str, typer.Argument(metavar="PHOTO", show_default=False, help="One image, or - for stdin.")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the numbers as JSON, and nothing else.", rich_help_panel="What is printed")
]
OUT = Path("segcli-viz")


def picture_place(out: Path, name: str, view: str, overwrite: bool) -> Path:
    """Where a view's picture goes, checked before any work. Raises UsageError if it exists already."""
    from segcli.files.writing import refuse_existing

    path = out / f"{name}.{view}.png"
    if not overwrite:
        refuse_existing([path], "replace it with --overwrite, or choose another --out")
    return path


def note_whole(loaded: LoadedModel, say: Console) -> None:
    """Note that a view shows the photo as a whole also where its model predicts in tiles."""
    if tile := loaded.spec.size.tile:
        say.note(f"{loaded.name} predicts in tiles of {tile} pixels; this view shows the photo as one of them")


def finish(picture: Figure, path: Path, record: dict[str, Any] | None, say: Console) -> None:
    """Write the picture; print its place, or the record as JSON. Raises OutputError if it cannot be written."""
    from segcli.files.writing import write_file
    from segcli.render.plots import encode

    write_file(path, encode(picture, path.suffix))
    if record is None:
        say.say(path)
    else:
        console.json_document({"picture": str(path)} | record)
