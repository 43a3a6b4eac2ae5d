"""`segcli viz overlays`: predictions or ground truth drawn on the photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segcli import console
from segcli.cli import options
from segcli.cli.loading import load
from segcli.console import Console
from segcli.errors import UsageError

if TYPE_CHECKING:
    from segcli.inspection.clip_overlays import ClipResults
    from segcli.render import Style

SourceArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[SOURCE]",
        show_default=False,
        help="Results of segcli predict (default: the newest here) or of another tool; photos, which are predicted "
        "first; or a dataset, whose ground truth is drawn.",
    ),
]
TruthOption = Annotated[
    Path | None,
    typer.Option(
        "--truth", metavar="DATA", show_default=False, help="A dataset: draw truth, prediction and errors side by side."
    ),
]
SplitOption = Annotated[
    str | None, typer.Option("--split", metavar="NAME", show_default=False, help="Split of a dataset. Default: val.")
]
PhotosOption = Annotated[
    Path | None,
    typer.Option(
        "--photos", metavar="PATH", show_default=False, help="Where the predicted photos, or the clip, are now."
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
        help="Minimum score of predictions. Default: the model's own.",
        rich_help_panel=options.LOOK,
    ),
]
GridOption = Annotated[
    int | None,
    typer.Option(
        "--grid",
        metavar="COLS",
        min=1,
        max=12,
        show_default=False,
        help="Draw contact sheets with this many columns instead of one picture per image.",
        rich_help_panel=options.RESULTS,
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        min=1,
        show_default=False,
        help="Only the first N images.",
        rich_help_panel=options.RESULTS,
    ),
]


def overlays(
    source: SourceArgument = None,
    truth: TruthOption = None,
    split: SplitOption = None,
    photos: PhotosOption = None,
    recursive: options.RecursiveOption = False,
    task: options.TaskOption = None,
    model: options.ModelOption = None,
    color_by: options.ColorByOption = None,
    alpha: options.AlphaOption = None,
    labels: options.LabelsOption = "names",
    no_labels: options.NoLabelsOption = False,
    no_outlines: options.NoOutlinesOption = False,
    boxes: options.BoxesOption = False,
    classes: options.ClassesOption = None,
    threshold: ThresholdOption = None,
    grid: GridOption = None,
    limit: LimitOption = None,
    out: options.OutOption = Path("segcli-viz"),
    overwrite: options.OverwriteOption = False,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "auto",
    threads: options.ThreadsOption = None,
    quiet: options.QuietOption = False,
) -> None:
    """Draw masks, names and scores over photos: of predictions, of a dataset's ground truth, or of both side by side.

    segcli viz overlays

    segcli viz overlays data/ --split train --limit 20 --grid 5

    segcli viz overlays segcli-out/ --truth data/

    segcli viz overlays segcli-out/clip.jsonl --color-by class
    """
    from segcli.class_names import choose_classes
    from segcli.files.writing import refuse_existing
    from segcli.inspection.clip_overlays import clips_in
    from segcli.inspection.gallery import open_gallery
    from segcli.inspection.overlays import Selection, draw_gallery, targets
    from segcli.render import Style

    say = Console(quiet=quiet)
    style = Style(color_by, alpha, not no_labels, labels == "ids", not no_outlines, boxes)
    clips, of_photos = clips_in(source), {"--truth": truth, "--model": model, "--grid": grid}
    given = [option for option, value in of_photos.items() if value is not None]
    if clips and given and source and Path(source).is_file():
        raise UsageError(f"{given[0]}: is for photos; the frames of a clip are drawn one after the other")
    if clips and not given:
        _draw_clips(clips, photos, classes, threshold, style, out, limit, overwrite, say)
        return
    if color_by == "track":
        raise UsageError("--color-by track: only clips have tracks; choose class, instance or score")
    gallery = open_gallery(
        source,
        truth=truth,
        split=split,
        photos=photos,
        recursive=recursive,
        task=task,
        model=lambda: load(model, task, device, dtype, threads, say),
        with_model=model is not None,
        skip=out,
        every_score=threshold is not None,
    )
    for note in gallery.notes:
        say.note(note)
    for reason in gallery.broken:
        console.error(reason)
    items = gallery.items[:limit]
    if not items:
        raise UsageError("it holds no images, so there is nothing to show")
    if color_by == "score" and not gallery.scored:
        what = "truth has" if gallery.view == "truth" else "semantic results have"
        raise UsageError(f"--color-by score: {what} no scores; choose class or instance")
    least = gallery.threshold if threshold is None else threshold
    selection = Selection(choose_classes(classes, gallery.labels) if classes is not None else None, least)
    if not overwrite:
        refuse_existing(targets(gallery, items, out, grid), "replace it with --overwrite, or choose another --out")
    failed = len(gallery.broken)
    with say.progress("drawing", len(items)) as advance:
        for drawn in draw_gallery(gallery, items, selection, style, out, grid):
            if drawn.error is not None:
                failed += 1
                console.error(drawn.error)
            else:
                say.say(drawn.path)
            advance(1)
    if failed:
        raise typer.Exit(1)


def _draw_clips(
    clips: Sequence[ClipResults],
    folder: Path | None,
    classes: str | None,
    threshold: float | None,
    style: Style,
    out: Path,
    limit: int | None,
    overwrite: bool,
    say: Console,
) -> None:
    """The tracks of clips, each drawn into a clip of its own."""
    from segcli.class_names import choose_classes
    from segcli.files.writing import refuse_existing
    from segcli.inspection.clip_overlays import clip_target, draw_clip
    from segcli.inspection.overlays import Selection

    targets = [clip_target(clip, out) for clip in clips]
    if not overwrite:
        refuse_existing(targets, "replace it with --overwrite, or choose another --out")
    for clip, target in zip(clips, targets, strict=True):
        chosen = choose_classes(classes, clip.labels) if classes is not None else None
        with say.progress(f"drawing {clip.stem}", None) as advance:
            for _ in draw_clip(clip, folder, Selection(chosen, threshold or 0.0), style, out, limit):
                advance(1)
        say.say(target)
