"""`segcli models push`: upload a model folder to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def push(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A model, such as RUN/best.", show_default=False)],
    repo: Annotated[str, typer.Argument(metavar="ORG/NAME", help="The repository on the Hub.", show_default=False)],
    private: Annotated[bool, typer.Option("--private", help="Create a new repository as private.")] = False,
) -> None:
    """Upload a model and its card to the Hugging Face Hub, and print its address.

    segcli models push runs/data-1/best my-name/my-model
    """
    from segcli.console import Console, result
    from segcli.weights.publish import CARD
    from segcli.weights.publish import push as pushed

    if folder.is_dir() and not (folder / CARD).is_file():
        Console().note(f"{folder} has no {CARD}, the model card that the Hub shows: write one there and push again")
    result(pushed(folder, repo, private=private))
