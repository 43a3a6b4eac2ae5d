"""`segcli predict`: photos in, segments out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from segcli.cli import options
from segcli.cli.predict.clips import clips_among, hint_at_clips, parse_every, predict_clips
from segcli.cli.predict.destination import at_destination
from segcli.cli.predict.photos import predict_photos
from segcli.cli.predict.request import PredictRequest
from segcli.cli.predict.shards import choose_shard
from segcli.console import Console
from segcli.errors import UsageError
from segcli.results.kinds import SAVE_KINDS, list_kinds, parse_kinds

if TYPE_CHECKING:
    from segcli.inference.sources import Source

SourcesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCES...",
        show_default=False,
        help="Images, folders, globs, - for an image on stdin, archives and tables of images, URLs; or clips: video "
        "files, camera:0, rtsp://…, frames/%06d.png.",
    ),
]
OutOption = Annotated[
    Path,
    typer.Option(
        *("--out", "-o"),
        metavar="DIR",
        help="Folder for the results, or the URL of one: s3://bucket/folder.",
        rich_help_panel=options.RESULTS,
    ),
]
SaveOption = Annotated[
    str,
    typer.Option(
        "--save",
        "-s",
        metavar="KINDS",
        help=f"What to write, comma-separated: {list_kinds()}.",
        rich_help_panel=options.RESULTS,
    ),
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        metavar="SCORE",
        min=0,
        max=1,
        show_default=False,
        help="Minimum score of what is shown and written (panoptic, instance, detect).",
        rich_help_panel=options.MODEL,
    ),
]
MaskThresholdOption = Annotated[
    float | None,
    typer.Option(
        "--mask-threshold",
        metavar="SHARE",
        min=0,
        max=1,
        show_default=False,
        help="Minimum mask probability of a segment's pixels (panoptic).",
        rich_help_panel=options.MODEL,
    ),
]
OverlapThresholdOption = Annotated[
    float | None,
    typer.Option(
        "--overlap-threshold",
        metavar="SHARE",
        min=0,
        max=1,
        show_default=False,
        help="Minimum fraction of a segment's mask that no better segment covers (panoptic, instance).",
        rich_help_panel=options.MODEL,
    ),
]
TopKOption = Annotated[
    int | None,
    typer.Option(
        "--top-k",
        metavar="N",
        min=1,
        show_default=False,
        help="Maximum number of instances per image or tile.",
        rich_help_panel=options.MODEL,
    ),
]
TileOverlapOption = Annotated[
    float | None,
    typer.Option(
        "--tile-overlap",
        metavar="SHARE",
        min=0,
        max=0.5,
        show_default=False,
        help="Fraction of a tile that overlaps its neighbour. Default: the checkpoint's, else 0.2.",
        rich_help_panel=options.MODEL,
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        show_default=False,
        help="Only the I-th of N parts of the images, counted from 0; segcli results merge joins what they write.",
        rich_help_panel=options.SPEED,
    ),
]
FpsOption = Annotated[
    float | None,
    typer.Option(
        "--fps",
        metavar="RATE",
        min=0.01,
        show_default=False,
        help="Treat numbered frames, or the pictures of a folder, as a clip with this frame rate.",
        rich_help_panel=options.CLIP,
    ),
]
EveryOption = Annotated[
    str | None,
    typer.Option(
        "--every",
        metavar="N",
        show_default=False,
        help="Only every N-th frame; auto skips what a camera or stream shows meanwhile, as is the default there.",
        rich_help_panel=options.CLIP,
    ),
]
StartOption = Annotated[
    float,
    typer.Option("--start", metavar="SECONDS", min=0, help="Begin there.", rich_help_panel=options.CLIP),
]
EndOption = Annotated[
    float | None,
    typer.Option("--end", metavar="SECONDS", show_default=False, help="End there.", rich_help_panel=options.CLIP),
]
PagesOption = Annotated[
    Literal["first", "all"],
    typer.Option(
        "--pages",
        help="Of a TIFF with several pages: results for its first, or for each. all: a GIF is pages too, not a clip.",
    ),
]
ProfileOption = Annotated[
    bool,
    typer.Option("--profile", help="Print how many milliseconds each stage took.", rich_help_panel=options.TALK),
]


def predict(
    sources: SourcesArgument,
    task: options.TaskOption = None,
    model: options.ModelOption = None,
    threshold: ThresholdOption = None,
    mask_threshold: MaskThresholdOption = None,
    overlap_threshold: OverlapThresholdOption = None,
    top_k: TopKOption = None,
    short_side: options.ShortSideOption = None,
    long_side: options.LongSideOption = None,
    rectangle: options.RectangleOption = False,
    recursive: options.RecursiveOption = False,
    pages: PagesOption = "first",
    classes: options.ClassesOption = None,
    out: OutOption = Path("segcli-out"),
    save: SaveOption = "overlay,png,json",
    overwrite: options.OverwriteOption = False,
    skip_existing: options.SkipExistingOption = False,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "auto",
    threads: options.ThreadsOption = None,
    workers: options.WorkersOption = "auto",
    shard: ShardOption = None,
    batch_size: options.BatchSizeOption = 1,
    tile: options.TileOption = None,
    tile_overlap: TileOverlapOption = None,
    max_pixels: options.MaxPixelsOption = None,
    color_by: options.ColorByOption = None,
    alpha: options.AlphaOption = None,
    labels: options.LabelsOption = "names",
    no_labels: options.NoLabelsOption = False,
    no_outlines: options.NoOutlinesOption = False,
    boxes: options.BoxesOption = False,
    fps: FpsOption = None,
    every: EveryOption = None,
    start: StartOption = 0.0,
    end: EndOption = None,
    as_json: options.JsonOption = False,
    quiet: options.QuietOption = False,
    profile: ProfileOption = False,
) -> None:
    """Segment images: an overlay to look at, an id map and a JSON file to work with, for each.

    segcli predict photo.jpg --task panoptic

    segcli predict photos/ --recursive --task instance --save coco,csv --out results

    segcli predict photo.jpg --classes person,dog --save rgba

    segcli predict clip.mp4

    curl -s https://example.org/photo.jpg | segcli predict - --save none --json
    """
    if stray := next((name for name in sources if name in SAVE_KINDS and not Path(name).exists()), None):
        raise UsageError(f"{stray}: no such file or folder; kinds of --save have commas between: --save {save},{stray}")
    say = Console(quiet=quiet)
    rules = {
        "threshold": threshold,
        "mask_threshold": mask_threshold,
        "overlap_threshold": overlap_threshold,
        "top_k": top_k,
        "short_side": short_side,
        "long_side": long_side,
        "tile": tile,
        "tile_overlap": tile_overlap,
        "rectangle": rectangle,
        "classes": classes,
    }
    request = PredictRequest(
        *(task, model, rules, out, parse_kinds(save), overwrite, skip_existing, device, dtype, threads, batch_size),
        *(max_pixels, color_by, alpha, not no_labels, labels == "ids", not no_outlines, boxes, as_json, profile),
    )
    clips = clips_among(sources, fps) if pages == "first" else []
    part = choose_shard(shard, device, out)
    if clips and part:
        raise UsageError(f"{clips[0]}: a clip is predicted in one piece; leave out --shard and torchrun")
    with at_destination(request, part) as request:
        if clips:
            how = {"fps": fps, "every": parse_every(every), "start": start, "end": end}
            failed = predict_clips(clips, request, how, say)
        else:
            found = _find(sources, request, recursive, pages, say)
            failed = predict_photos(found, request, part, options.parse_workers(workers), say)
    if failed:
        raise typer.Exit(1)


def _find(
    sources: list[str], request: PredictRequest, recursive: bool, pages: Literal["first", "all"], say: Console
) -> list[Source]:
    """The images among the sources, without pictures that segcli wrote, which are counted."""
    from segcli.inference.sources import find_sources

    own: list[Path] = []
    found = find_sources(sources, recursive=recursive, skip=request.out, passed=own.append)
    if own:
        say.note(f"skipped {len(own)} pictures that segcli wrote, such as {own[0]}")
    for folder in [Path(name) for name in sources if Path(name).is_dir()]:
        hint_at_clips(folder, [source.path for source in found if source.folder == folder], say)
    if pages == "all":
        from segcli.inference.pages import pages_of

        found = list(pages_of(found))
    return found
