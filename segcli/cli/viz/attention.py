"""`segcli viz attention`: masked attention at work on one photo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from segcli.cli import options
from segcli.cli.loading import load
from segcli.cli.viz.photo import OUT, JsonOption, PhotoArgument, finish, note_whole, picture_place
from segcli.console import Console

if TYPE_CHECKING:
    from segcli.render.views.attention import Strip

QueryOption = Annotated[
    list[int] | None,
    typer.Option("--query", metavar="N", show_default=False, help="Follow this query; may be given several times."),
]
MostOption = Annotated[int, typer.Option("--most", metavar="N", min=1, help="Without --query: how many to follow.")]


def attention(
    photo: PhotoArgument,
    query: QueryOption = None,
    most: MostOption = 3,
    model: options.ModelOption = None,
    out: options.OutOption = OUT,
    overwrite: options.OverwriteOption = False,
    device: options.DeviceOption = "auto",
    threads: options.ThreadsOption = None,
    as_json: JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Draw masked attention: the region that a query's mask opens for the next layer, and the attention within.

    One strip per query: the mask of every prediction, the region it opens at 1/32, 1/16 and 1/8 in turn, the attention.

    segcli viz attention photo.jpg --model facade

    segcli viz attention photo.jpg --query 5 --query 23
    """
    from segcli.inspection.views.attention import attention_strips
    from segcli.inspection.views.photo import read_photo, share_of
    from segcli.render.views.attention import draw_attention

    say = Console(quiet=quiet)
    shown = read_photo(photo)
    path = picture_place(out, shown.path.stem, "attention", overwrite)
    loaded = load(model, None, device, "fp32", threads, say)
    note_whole(loaded, say)
    strips = attention_strips(loaded, shown, query or (), most)
    picture = draw_attention(shown.image, strips, share_of(shown.prepared(loaded).frame))
    finish(picture, path, _record(strips) if as_json else None, say)


def _record(strips: list[Strip]) -> dict[str, Any]:
    """What each query said after each layer, and how much of the map each layer was open to."""
    return {
        "queries": [
            {
                "query": strip.query,
                "predictions": [
                    {"category_name": name, "score": round(score, 4), "pixels": float((mask > 0).mean().round(6))}
                    for name, score, mask in zip(strip.names, strip.scores, strip.masks, strict=True)
                ],
                "layers": [{"stride": s.stride, "open": float(s.region.mean().round(6))} for s in strip.steps],
            }
            for strip in strips
        ]
    }
