"""`segcli viz matching`: which query is matched to which object, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segcli.cli import options
from segcli.cli.loading import load
from segcli.cli.viz.photo import OUT, JsonOption, PhotoArgument, finish, note_whole, picture_place
from segcli.console import Console

if TYPE_CHECKING:
    from segcli.render.views.matching import Assignment

TruthOption = Annotated[
    Path,
    typer.Option("--truth", metavar="DATA", show_default=False, help="The dataset that the photo belongs to."),
]
MostOption = Annotated[
    int, typer.Option("--most", metavar="N", min=1, help="Pairs to draw, the largest objects first.")
]


def matching(
    photo: PhotoArgument,
    truth: TruthOption,
    most: MostOption = 12,
    task: options.TaskOption = None,
    model: options.ModelOption = None,
    out: options.OutOption = OUT,
    overwrite: options.OverwriteOption = False,
    device: options.DeviceOption = "auto",
    threads: options.ThreadsOption = None,
    as_json: JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Draw how queries are matched to objects: the costs of every query and true object, and the Hungarian assignment.

    Each term of the cost is a matrix of its own; the chosen pairs are marked there, and their masks shown side by side.

    segcli viz matching data/images/photo.jpg --truth data --model runs/data-1/best
    """
    from segcli.inspection.views.matching import find_truth, match_queries
    from segcli.inspection.views.photo import read_photo, share_of
    from segcli.render.views.matching import draw_matching

    say = Console(quiet=quiet)
    shown = read_photo(photo)
    path = picture_place(out, shown.path.stem, "matching", overwrite)
    loaded = load(model, task, device, "fp32", threads, say)
    note_whole(loaded, say)
    found = find_truth(truth, shown, loaded.spec, task)
    for note in found.notes:
        say.note(note)
    assignment = match_queries(loaded, shown, found.sample)
    picture = draw_matching(shown.image, assignment, share_of(shown.prepared(loaded).frame), most)
    finish(picture, path, _record(assignment) if as_json else None, say)


def _record(found: Assignment) -> dict[str, Any]:
    """Every pair with its costs, the largest objects first."""
    pairs = []
    for place in found.order():
        query, target = found.pairs[place]
        said, score = found.says[query]
        pairs.append(
            {
                "object": target,
                "category_name": found.objects[target],
                "query": query,
                "says": said,
                "score": round(score, 4),
                "iou": round(float(found.ious[place, target]), 4),
                "cost": {name: round(value, 4) for name, value in found.cost(place).items()},
            }
        )
    return {"objects": len(found.objects), "queries": len(found.says), "pairs": pairs}
