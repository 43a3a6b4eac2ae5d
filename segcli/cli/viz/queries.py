"""`segcli viz queries`: what each learnable query has learned to find."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from segcli import console
from segcli.cli import options
from segcli.cli.loading import load
from segcli.cli.viz.photo import OUT, JsonOption, finish, note_whole, picture_place
from segcli.console import Column, Console

if TYPE_CHECKING:
    from segcli.render.views.queries import QueryStatistics

SourcesArgument = Annotated[
    list[str],
    typer.Argument(metavar="DATA|PHOTOS...", show_default=False, help="A dataset, or images, folders, globs."),
]
SplitOption = Annotated[str, typer.Option("--split", metavar="NAME", help="Split of a dataset.")]
LimitOption = Annotated[
    int, typer.Option("--limit", metavar="N", min=0, help="Number of images, evenly spread over all; 0 takes all.")
]
MostOption = Annotated[int, typer.Option("--most", metavar="N", min=1, help="Queries to draw, the busiest first.")]


def queries(
    sources: SourcesArgument,
    split: SplitOption = "val",
    limit: LimitOption = 200,
    most: MostOption = 20,
    recursive: options.RecursiveOption = False,
    model: options.ModelOption = None,
    out: options.OutOption = OUT,
    overwrite: options.OverwriteOption = False,
    device: options.DeviceOption = "auto",
    threads: options.ThreadsOption = None,
    as_json: JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Draw what each learnable query has learned to find over a dataset or some photos.

    Where on the image its masks lie, the centres of their boxes coloured by size, the classes it wins, how often it is
    used. Queries that are never used are listed.

    segcli viz queries data --model runs/data-1/best

    segcli viz queries photos/ --limit 50
    """
    from segcli.inspection.views.photo import OpenedPhoto
    from segcli.inspection.views.photos import find_photos, read_each
    from segcli.inspection.views.queries import count_queries
    from segcli.render.views.queries import draw_queries

    say = Console(quiet=quiet)
    found = find_photos(sources, split, limit, recursive=recursive, skip=out)
    path = picture_place(out, found.name, "queries", overwrite)
    loaded = load(model, None, device, "fp32", threads, say)
    note_whole(loaded, say)
    failed: list[str] = []

    def report(error: Exception) -> None:
        failed.append(str(error))
        console.error(error)

    with say.progress("looking", len(found.paths)) as advance:

        def counted(photo: OpenedPhoto) -> OpenedPhoto:
            advance(1)
            return photo

        statistics = count_queries(loaded, map(counted, read_each(found.paths, report)), loaded.spec.rule)
    if not statistics.images:
        raise typer.Exit(1)
    finish(draw_queries(statistics, most), path, _record(statistics) if as_json else None, say)
    if not as_json:
        _table(statistics, most, say)
    if failed:
        raise typer.Exit(1)


def _record(statistics: QueryStatistics) -> dict[str, Any]:
    """What every query did."""
    return {
        "images": statistics.images,
        "queries": [
            {"query": query, "used": int(used), "classes": dict(statistics.classes(query))}
            for query, used in enumerate(statistics.used)
        ],
        "dead": statistics.dead,
    }


def _table(statistics: QueryStatistics, most: int, say: Console) -> None:
    rows = [
        (query, f"{statistics.used[query] / statistics.images:.0%}", _classes(statistics, query))
        for query in statistics.order()[:most]
    ]
    say.table([Column("query", numeric=True), Column("used in", numeric=True), Column("as")], rows)
    if (rest := len(statistics.order()) - len(rows)) > 0:
        say.say(f"and {rest} more that are used; --most {len(rows) + rest} draws and lists all, --json lists them too")
    dead = statistics.dead
    say.say(f"never used in {statistics.images} images: {', '.join(map(str, dead)) if dead else 'none'}")


def _classes(statistics: QueryStatistics, query: int) -> str:
    used = statistics.used[query]
    return ", ".join(f"{name} {images / used:.0%}" for name, images in statistics.classes(query)[:4])
