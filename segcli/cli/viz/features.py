"""`segcli viz features`: the feature maps of a network for one photo."""

from __future__ import annotations

from typing import Annotated

import typer

from segcli.cli import options
from segcli.cli.loading import load
from segcli.cli.viz.photo import OUT, JsonOption, PhotoArgument, finish, note_whole, picture_place
from segcli.console import Console
from segcli.errors import UsageError

AtOption = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="X,Y",
        show_default=False,
        help="A pixel of the photo: show where deformable attention reads for it.",
    ),
]


def features(
    photo: PhotoArgument,
    at: AtOption = None,
    model: options.ModelOption = None,
    out: options.OutOption = OUT,
    overwrite: options.OverwriteOption = False,
    device: options.DeviceOption = "auto",
    threads: options.ThreadsOption = None,
    as_json: JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Draw the backbone's pyramid, the pixel decoder's levels and the mask features, and where attention reads.

    Of each map the three principal components as red, green and blue.

    segcli viz features photo.jpg --model facade

    segcli viz features photo.jpg --at 320,200
    """
    from segcli.inspection.views.features import feature_maps
    from segcli.inspection.views.photo import read_photo
    from segcli.render.views.features import draw_features

    say = Console(quiet=quiet)
    place = None if at is None else _pixel(at)
    shown = read_photo(photo)
    path = picture_place(out, shown.path.stem, "features", overwrite)
    loaded = load(model, None, device, "fp32", threads, say)
    note_whole(loaded, say)
    maps, samples = feature_maps(loaded, shown, place)
    keys = ("part", "stride", "channels")
    record = {"maps": [{k: getattr(m, k) for k in keys} | {"explained": round(m.explained, 4)} for m in maps]}
    finish(draw_features(shown.image, maps, samples), path, record if as_json else None, say)


def _pixel(text: str) -> tuple[float, float]:
    """ "320,200" -> (320.0, 200.0)."""
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--at {text}: give a pixel as X,Y, such as 320,200") from None
    return x, y
