"""Options that mean the same in every command that has them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from segcli.data.formats import names as format_names
from segcli.errors import UsageError
from segcli.types import Device, Precision, Task

DATA = "Data"
MODEL = "Model (thresholds and sizes are the checkpoint's own unless given)"
RESULTS = "Results"
SPEED = "Speed and memory"
CLIP = "Video"
TALK = "What is printed"
LOOK = "How it looks"


def complete_model(incomplete: str) -> list[str]:
    """The names in the manifest that begin as typed, for shell completion."""
    from segcli.weights.manifest import manifest

    return [name for name in manifest() if name.startswith(incomplete)]


def local(place: Path | None) -> Path | None:
    """What --out says, for commands that do not write to URLs. Raises UsageError."""
    from segcli.files.remote_folder import url_of

    if place and (url := url_of(place)):
        raise UsageError(f"--out {url}: only segcli predict writes to URLs; give a folder of this machine")
    return place


TaskOption = Annotated[
    Task | None,
    typer.Option(
        "--task",
        "-t",
        metavar="TASK",
        show_default=False,
        help="panoptic, instance, semantic or detect (boxes); if not given, panoptic or the model's only task.",
        rich_help_panel=MODEL,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="REF",
        autocompletion=complete_model,
        show_default=False,
        help="A folder, a name from `segcli models list`, or org/name (or org/name@revision) on the Hugging Face Hub; "
        "if not given, the task's default.",
        rich_help_panel=MODEL,
    ),
]
DeviceOption = Annotated[
    Device,
    typer.Option(
        "--device",
        metavar="NAME",
        help="Where to compute: auto, cpu, gpu, cuda, cuda:1, mps. One that is named must be there.",
        rich_help_panel=SPEED,
    ),
]
DtypeOption = Annotated[
    Precision,
    typer.Option(
        "--dtype",
        help="Precision. auto: fp32, or bf16 where it is fast and the checkpoint loses at most 0.1 points by it.",
        rich_help_panel=SPEED,
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        show_default=False,
        help="CPU threads; all cores if not given.",
        rich_help_panel=SPEED,
    ),
]
WorkersOption = Annotated[
    str,
    typer.Option(
        "--workers",
        metavar="N|auto",
        help="Processes that share the images and the threads, with the same results. auto: as many as threads and "
        "memory allow, if the work left after the first images is worth their start.",
        rich_help_panel=SPEED,
    ),
]
ShortSideOption = Annotated[
    int | None,
    typer.Option(
        "--short-side",
        min=32,
        metavar="PIXELS",
        show_default=False,
        help="Resize the short side of the image, or of its tiles, to this for the network.",
        rich_help_panel=MODEL,
    ),
]
TileOption = Annotated[
    int | None,
    typer.Option(
        "--tile",
        min=0,
        metavar="PIXELS",
        show_default=False,
        help="Predict in square tiles of this side (at least 64): small objects are seen, memory stays flat. 0: as a "
        "whole.",
        rich_help_panel=MODEL,
    ),
]
RectangleOption = Annotated[
    bool,
    typer.Option(
        "--rectangle",
        help="No padding to a square (EoMT): faster where photos are not square, but not what was published.",
        rich_help_panel=MODEL,
    ),
]
LongSideOption = Annotated[
    int | None,
    typer.Option(
        "--long-side",
        min=32,
        metavar="PIXELS",
        show_default=False,
        help="But let the long side not exceed this; scaled along with --short-side if not given.",
        rich_help_panel=MODEL,
    ),
]
BatchSizeOption = Annotated[
    int,
    typer.Option(
        "--batch",
        "--batch-size",
        metavar="N",
        min=1,
        help="Images of equal network size that go together.",
        rich_help_panel=SPEED,
    ),
]
MaxPixelsOption = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        min=1,
        metavar="PIXELS",
        show_default=False,
        help="Refuse larger images before decoding them; 250 million if not given.",
        rich_help_panel=SPEED,
    ),
]
OutOption = Annotated[
    Path,
    typer.Option("--out", "-o", metavar="DIR", help="Folder for the results.", callback=local, rich_help_panel=RESULTS),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace results that are there already.", rich_help_panel=RESULTS)
]
SkipExistingOption = Annotated[
    bool,
    typer.Option(
        "--skip-existing",
        help="Pass over images whose results are all there: continues an interrupted run.",
        rich_help_panel=RESULTS,
    ),
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        show_default=False,
        help=f"The data's format, if it is not clear: {', '.join(format_names())}.",
        rich_help_panel=DATA,
    ),
]
BinaryOption = Annotated[
    bool,
    typer.Option(
        "--binary",
        help="Label maps are black and white: what is lighter than half is the object.",
        rich_help_panel=DATA,
    ),
]
RecursiveOption = Annotated[bool, typer.Option("--recursive", "-r", help="Look into the folders of folders.")]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="One JSON line per image on stdout, and nothing else there.", rich_help_panel=TALK),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print errors and warnings only.", rich_help_panel=TALK)
]
ColorByOption = Annotated[
    Literal["class", "instance", "score", "track"] | None,  # what a colour means
    typer.Option(
        "--color-by",
        show_default=False,
        help="What a colour means; if not given, the class, or the instance where there is one class of things; "
        "of clips the track, which is an object with its id.",
        rich_help_panel=LOOK,
    ),
]
AlphaOption = Annotated[
    float | None,
    typer.Option(
        "--alpha",
        metavar="SHARE",
        min=0,
        max=1,
        show_default=False,
        help="Opacity of the tint; 0.5 if not given, and outlines alone for cells and nuclei.",
        rich_help_panel=LOOK,
    ),
]
LabelsOption = Annotated[
    Literal["names", "ids"],
    typer.Option(
        "--labels",
        help="What is written on segments: names and scores where they fit, or every id, as in the label map "
        "and segments.csv.",
        rich_help_panel=LOOK,
    ),
]
NoLabelsOption = Annotated[
    bool, typer.Option("--no-labels", help="No names, scores and legends.", rich_help_panel=LOOK)
]
NoOutlinesOption = Annotated[bool, typer.Option("--no-outlines", help="No outlines.", rich_help_panel=LOOK)]
BoxesOption = Annotated[bool, typer.Option("--boxes", help="A box around each thing.", rich_help_panel=LOOK)]
ClassesOption = Annotated[
    str | None,
    typer.Option(
        "--classes",
        metavar="NAMES",
        show_default=False,
        help="Only these classes, by name or id, with commas between.",
        rich_help_panel=RESULTS,
    ),
]


def parse_workers(text: str) -> int | None:
    """The number in --workers, None for auto. Raises UsageError."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--workers {text}: give a number of processes, or auto")
    return int(text)
