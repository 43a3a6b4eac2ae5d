"""`segcli predict`: photos in, segments out."""

from __future__ import annotations

import time
from contextlib import closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from segcli import console
from segcli.cli import options
from segcli.cli.loading import introduce, load
from segcli.cli.predict_clips import clips_among, predict_clips
from segcli.cli.predict_shards import choose_shard, finish_shard
from segcli.cli.screens.predict_screen import TABLES_UP_TO, RunReport
from segcli.console import Console
from segcli.results.kinds import SAVE_KINDS, list_kinds, parse_kinds

if TYPE_CHECKING:
    from segcli.inference.planning import Work
    from segcli.inference.predict import Settings
    from segcli.render import Style
    from segcli.results.writer import ResultsWriter
    from segcli.weights.checkpoint import LoadedModel

SourcesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCES...",
        show_default=False,
        help="Images, folders, globs, - for an image on stdin, archives and tables of images, URLs; or clips: video "
        "files, camera:0, rtsp://…, frames/%06d.png.",
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
        help="Minimum fraction of a segment's mask that no better segment covers (panoptic).",
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
    int,
    typer.Option("--every", metavar="N", min=1, help="Only every N-th frame.", rich_help_panel=options.CLIP),
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
    typer.Option("--pages", help="Of a TIFF with several pages or a GIF: results for its first, or for each."),
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
    out: options.OutOption = Path("segcli-out"),
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
    no_labels: options.NoLabelsOption = False,
    no_outlines: options.NoOutlinesOption = False,
    boxes: options.BoxesOption = False,
    fps: FpsOption = None,
    every: EveryOption = 1,
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
    from segcli.inference.planning import plan_work, refuse_other_run
    from segcli.inference.sources import find_sources
    from segcli.results.writer import ResultsWriter

    say = Console(quiet=quiet)
    kinds, processes = parse_kinds(save), options.parse_workers(workers)
    thresholds: dict[str, Any] = {
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
    if clips := clips_among(sources, fps) if pages == "first" else []:
        frames = {"fps": fps, "every": every, "start": start, "end": end}
        where = {"device": device, "dtype": dtype, "threads": threads}
        predict_clips(
            *(clips, task, model, out, kinds, frames, where, thresholds, say),
            overwrite=overwrite,
            skip_existing=skip_existing,
            as_json=as_json,
        )
        return
    own: list[Path] = []
    found = find_sources(sources, recursive=recursive, skip=out, passed=own.append)
    if own:
        say.note(f"skipped {len(own)} pictures that segcli wrote, such as {own[0]}")
    if pages == "all":
        from segcli.inference.pages import pages_of

        found = list(pages_of(found))
    part = choose_shard(shard, device, out)
    work = plan_work(found, out, kinds, overwrite=overwrite, skip_existing=skip_existing, shard=part)
    if skip_existing and task:
        refuse_other_run(work, {"task": task})
    many = len(work.images) > TABLES_UP_TO
    report = RunReport(say, out if kinds else None, None, many=many, json=as_json)
    report.skip(work.done, work)
    missing = [source.missing for source, _ in work.images if source.missing]
    if len(missing) == len(work.images) and part is None:  # nothing to load a model for
        for reason in missing:  # wrong use, as in every command whose source is not there
            console.error(reason)
        if not missing:
            say.note("nothing left to do: all results are there")
        raise typer.Exit(2 if missing else 0)

    started = time.perf_counter()
    loaded = load(model, task, device, dtype, threads, say)
    ready = time.perf_counter()

    from segcli.codecs.image import MAX_PIXELS
    from segcli.files.locks import owned
    from segcli.files.writing import remove_left_over
    from segcli.inference.predict import resolve

    settings = resolve(
        loaded.spec,
        task,
        soft=any(SAVE_KINDS[kind].needs_soft for kind in work.kinds),
        keep_all="coco" in work.kinds,
        **thresholds,
    )
    if skip_existing:
        refuse_other_run(work, {"task": settings.task} | _made_with(loaded, settings))
    introduce(loaded, (settings.task,), say, profile=profile)
    report.threshold = settings.threshold
    from segcli.render import Style, overlay

    style = Style(color_by, alpha, not no_labels, not no_outlines, boxes)
    try:
        with owned(out, shard=f"{part.index}-of-{part.count}" if part else None) if kinds else nullcontext():
            if kinds and part is None:
                remove_left_over(out)
            with ResultsWriter(
                work.out,
                work.kinds,
                work.photos,
                task=settings.task,
                labels=settings.spec.labels,
                run=_made_with(loaded, settings) | _instead_of(loaded),
                draw=lambda image, segments: overlay(image, segments, style),
                overwrite=overwrite,
                skip_existing=skip_existing,
                shard=part,
            ) as writer:
                how = {"batch_size": batch_size, "max_pixels": max_pixels or MAX_PIXELS}
                _run(loaded, settings, work, writer, report, style, how, processes)
    finally:
        report.finish(time.perf_counter() - ready)
        if profile:
            report.profile(load=(ready - started) * 1000)
    if part:
        facts = {"images": work.digest, "save": list(kinds), "task": settings.task} | _made_with(loaded, settings)
        finish_shard(out, part, facts | {"failed": len(report.failed)}, say)
    if report.failed:
        raise typer.Exit(1)


def _made_with(loaded: LoadedModel, settings: Settings) -> dict[str, Any]:
    """What every result records of the run, and a run that is continued must share."""
    spec = settings.spec
    made = {"model": loaded.name, "input": spec.size.to_table(), "rule": asdict(spec.rule)}
    if settings.classes is not None:
        made["only"] = [spec.labels[place].name for place in sorted(settings.classes)]
    return made


def _instead_of(loaded: LoadedModel) -> dict[str, Any]:
    """The model that was asked for, where another one replaces it."""
    return {"instead_of": loaded.facts["instead_of"]} if "instead_of" in loaded.facts else {}


def _run(
    loaded: LoadedModel,
    settings: Settings,
    work: Work,
    writer: ResultsWriter,
    report: RunReport,
    style: Style,
    how: dict[str, Any],
    workers: int | None,
) -> None:
    """Predict and write every image that is not done yet, showing each as it is done.

    how: batch size and the most pixels of an image. workers: None decides by itself.
    """
    import torch

    from segcli.inference.failures import FailureList
    from segcli.inference.pipeline import PredictJob, predict_all
    from segcli.inference.workers import run_all
    from segcli.weights.device import name_of

    complete = [work.skip_existing and writer.is_complete(photo) for _, photo in work.images]
    images = [image for image, done in zip(work.images, complete, strict=True) if not done]
    report.skip([image for image, done in zip(work.images, complete, strict=True) if done], work)
    report.expected = len(images)
    tiled = settings.spec.size.tile is not None  # then a single image may take minutes, and the bar goes by tiles
    with report.console.progress("predicting", len(images), parts=tiled) as advance:
        moved = 0.0

        def move(images: float) -> None:
            nonlocal moved
            moved += images
            advance(images)

        job = PredictJob(
            *(
                loaded.name,
                str(loaded.device),
                name_of(loaded.dtype),
                settings,
                work.out,
                work.kinds,
                writer.run,
                style,
            ),
            overwrite=writer.overwrite,
            skip_existing=work.skip_existing,
            **how,
        )
        stream = run_all(
            lambda some: predict_all(loaded, some, settings, writer, advance=move, **how),
            job,
            images,
            workers=workers,
            threads=torch.get_num_threads(),
            on_cpu=loaded.device.type == "cpu",
            started=lambda count: report.console.note(f"{count} worker processes continue"),
        )
        failures = FailureList(work.out, work.shard) if work.kinds else None
        with closing(stream), closing(failures) if failures else nullcontext():
            for done, image in enumerate(stream, start=1):
                writer.keep(image.entries)
                if failures and image.error is None:
                    failures.succeeded = True
                elif failures:
                    failures.add(image.source, str(image.error))
                report.show(image)
                move(max(0.0, done - moved))  # tiles of the next image may be done already
