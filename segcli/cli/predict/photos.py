"""`segcli predict` of photos: images in, results out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any

import typer

from segcli import console
from segcli.cli.loading import introduce
from segcli.cli.predict.request import PredictRequest, made_with
from segcli.cli.predict.shards import finish_shard
from segcli.cli.screens.predict_screen import TABLES_UP_TO, RunReport
from segcli.console import Console
from segcli.errors import SegcliError, UsageError
from segcli.results.kinds import SAVE_KINDS

if TYPE_CHECKING:
    from segcli.inference.planning import Work
    from segcli.inference.predict import PredictSettings
    from segcli.inference.sources import Source
    from segcli.results.kinds.kind import Shard
    from segcli.results.writer import ResultsWriter
    from segcli.weights.checkpoint import LoadedModel


def predict_photos(
    found: Sequence[Source], request: PredictRequest, part: Shard | None, workers: int | None, say: Console
) -> int:
    """Predict images, of which `part` may be another process's, and show each; returns how many failed.

    workers: processes; None decides by itself. Exits at once where nothing is left to do, or nothing is there.
    """
    from segcli.inference.planning import plan_work, refuse_other_run

    if request.color_by == "track":
        raise UsageError("--color-by track: photos have no tracks, clips do; choose class, instance or score")
    out, kinds, skip_existing = request.out, request.kinds, request.skip_existing
    try:
        work = plan_work(found, out, kinds, overwrite=request.overwrite, skip_existing=skip_existing, shard=part)
    except SegcliError:
        request.check()
        raise
    if skip_existing and request.task:
        refuse_other_run(work, {"task": request.task})
    many = len(work.images) > TABLES_UP_TO
    report = RunReport(say, out if kinds else None, None, many=many, json=request.as_json)
    report.skip(work.done, work)
    missing = [source.missing for source, _ in work.images if source.missing]
    if len(missing) == len(work.images) and part is None:  # nothing to load a model for
        for reason in missing:  # wrong use, as in every command whose source is not there
            console.error(reason)
        if not missing:
            say.note("nothing left to do: all results are there")
        raise typer.Exit(2 if missing else 0)

    started = time.perf_counter()
    loaded = request.load(say)
    ready = time.perf_counter()
    settings = request.resolve(
        loaded, soft=any(SAVE_KINDS[kind].needs_soft for kind in work.kinds), keep_all="coco" in work.kinds
    )
    if skip_existing:
        refuse_other_run(work, {"task": settings.task} | made_with(loaded, settings))
    introduce(loaded, (settings.task,), say, profile=request.profile)
    report.threshold = settings.threshold
    try:
        _write(loaded, settings, work, request, part, workers, report)
    finally:
        report.finish(time.perf_counter() - ready)
        if request.profile:
            report.profile(load=(ready - started) * 1000)
    if part:
        facts = {"images": work.digest, "save": list(kinds), "task": settings.task} | made_with(loaded, settings)
        finish_shard(out, part, facts | {"failed": len(report.failed)}, say)
    return len(report.failed)


def _write(
    loaded: LoadedModel,
    settings: PredictSettings,
    work: Work,
    request: PredictRequest,
    part: Shard | None,
    workers: int | None,
    report: RunReport,
) -> None:
    """Predict and write all of it, as the folder's only writer."""
    from segcli.files.locks import owned
    from segcli.render import overlay
    from segcli.results.writer import ResultsWriter

    style = request.style
    own = owned(work.out, shard=f"{part.index}-of-{part.count}" if part else None) if request.kinds else nullcontext()
    with (
        own,
        ResultsWriter(
            work.out,
            work.kinds,
            work.photos,
            task=settings.task,
            labels=settings.spec.labels,
            run=made_with(loaded, settings) | _instead_of(loaded),
            draw=lambda image, segments: overlay(image, segments, style),
            overwrite=request.overwrite,
            skip_existing=request.skip_existing,
            shard=part,
        ) as writer,
    ):
        _run(loaded, settings, work, writer, report, request, workers)


def _instead_of(loaded: LoadedModel) -> dict[str, Any]:
    """The model that was asked for, where another one replaces it."""
    return {"instead_of": loaded.facts["instead_of"]} if "instead_of" in loaded.facts else {}


def _run(
    loaded: LoadedModel,
    settings: PredictSettings,
    work: Work,
    writer: ResultsWriter,
    report: RunReport,
    request: PredictRequest,
    workers: int | None,
) -> None:
    """Predict and write every image that is not done yet, showing each as it is done.

    workers: None decides by itself.
    """
    import torch

    from segcli.codecs.image import MAX_PIXELS
    from segcli.inference.failures import FailureList
    from segcli.inference.pipeline import PredictJob, predict_all
    from segcli.inference.workers import run_all

    how: dict[str, Any] = {"batch_size": request.batch_size, "max_pixels": request.max_pixels or MAX_PIXELS}
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
                loaded.ref,
                loaded.place,
                loaded.precision,
                settings,
                work.out,
                work.kinds,
                writer.run,
                request.style,
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
            on_cpu=loaded.place == "cpu",
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
                if request.remote:
                    request.remote.send(image.outputs)
                report.show(image)
                move(max(0.0, done - moved))  # tiles of the next image may be done already
