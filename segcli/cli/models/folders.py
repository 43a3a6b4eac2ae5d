"""`segcli models convert` and `push`: a model folder made of the authors' own checkpoint, or sent to the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segcli.errors import OutputError
from segcli.types import Task


def convert(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="model_final_*.pkl of Mask2Former or MaskFormer, detr-*.pth; EoMT's pytorch_model.bin or a Lightning "
            ".ckpt.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the model.", show_default=False)],
    task: Annotated[
        Task | None,
        typer.Option(
            "--task",
            "-t",
            metavar="TASK",
            show_default=False,
            help="What it was trained for, if the number of its classes leaves a choice.",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="NAME|FILE",
            show_default=False,
            help="Its classes, if their number leaves a choice: a table of segcli's by name, or a JSON file with "
            "COCO's categories in the order of the outputs.",
        ),
    ] = None,
    dc5: Annotated[
        bool | None,
        typer.Option(
            "--dc5/--no-dc5",
            show_default=False,
            help="Whether the last stage of a DETR's ResNet is dilated, for a file that is not one of the published.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that is there already.")] = False,
) -> None:
    """Convert a checkpoint of the authors' own code into a folder for segcli, and for transformers if it knows it.

    Only arrays are read from the file, no code in it is run. A hash in its name is checked.
    """
    from segcli.console import Console, result
    from segcli.files.locks import owned
    from segcli.files.writing import remove_left_over
    from segcli.weights.checkpoint import save_model
    from segcli.weights.hub import CONFIG
    from segcli.weights.originals.convert import convert as converted

    if (out / CONFIG).exists() and not overwrite:
        raise OutputError(f"{out} holds a model already: choose another folder, or --overwrite")
    say = Console()
    with owned(out, beside=True):
        remove_left_over(out.parent)
        found = converted(file, task, labels, dc5)
        for note in found.notes:
            say.note(note)
        result(save_model(found.loaded, out))


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
