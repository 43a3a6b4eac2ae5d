"""The two forms of `segcli eval` that need no model: predictions from files, and two evaluations compared."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from segcli import console
from segcli.cli.screens.eval_screen import percent
from segcli.console import Column, Console

if TYPE_CHECKING:
    from segcli.distributed import Ranks
    from segcli.evaluation.compare import Comparison, Difference
    from segcli.evaluation.run import Evaluation, Output

_CHANGED = 5  # images listed in each direction


def of_files(
    data: Path,
    files: Path,
    task: str | None,
    split: str,
    format: str | None,
    binary: bool,
    *,
    images: int | None,
    max_dets: int | None,
    output: Output | None,
    ranks: Ranks,
    say: Console,
) -> Evaluation:
    """The evaluation of predictions from files; says what was found, and how images and classes were matched."""
    from segcli.evaluation.class_colours import in_colours_of
    from segcli.evaluation.dataset import open_data, open_tasks
    from segcli.evaluation.folder import stored_max_dets
    from segcli.evaluation.from_files import of_predictions
    from segcli.evaluation.match_predictions import match, tasks_of, truth_of
    from segcli.metrics import COCO_DETS
    from segcli.results.readers import open_predictions

    predictions = open_predictions(files, None if task in (None, "all") else task)  # type: ignore[arg-type]
    asked = None if task in (None, "all") else task
    with nullcontext() if asked else truth_of(predictions, data):
        info = open_data(data, asked or predictions.task, format, split, binary=binary)
    matched = match(predictions, info, split, images=images)
    info = in_colours_of(predictions.labels, info, matched.classes)
    count = f"{len(predictions.images)} image" + "s" * (len(predictions.images) != 1)
    for note in (info.found, *info.notes, f"{files}: {predictions.what} of {count}", *matched.notes):
        say.note(note)
    if max_dets is None and (max_dets := stored_max_dets(files, predictions.task)):
        say.note(f"max_dets {max_dets}, as {files} was evaluated")
    max_dets = max_dets or COCO_DETS
    if ranks.is_first:
        for warning in matched.warnings:
            console.warning(warning)
    return of_predictions(
        matched,
        info,
        split,
        open_tasks(info, split, tasks_of(predictions, info, task)),
        images=images,
        max_dets=max_dets,
        output=output,
        ranks=ranks,
    )


def show_comparisons(folders: tuple[Path, Path], say: Console, *, as_json: bool) -> None:
    """Compare two evaluation folders and print a summary, or everything as JSON."""
    from segcli.evaluation.compare import compare

    comparisons = compare(*folders)
    if as_json:
        documents = {comparison.task: comparison.to_json() for comparison in comparisons}
        console.json_document(next(iter(documents.values())) if len(documents) == 1 else documents)
        return
    for number, comparison in enumerate(comparisons):
        if number:
            say.say()
        _show(comparison, say)


def _show(comparison: Comparison, say: Console) -> None:
    say.note(f"{comparison.task}: A is {comparison.a}, B is {comparison.b}")
    for note in comparison.notes:
        console.warning(note)
    heads = [Column(head, numeric=True) for head in ("A", "B", "B − A", "95 % interval")]
    rows = [[comparison.metric, *_cells(comparison.difference)]]
    rows += [[own.name, *_cells(own.difference)] for own in comparison.classes]
    say.table([Column("class"), *heads, Column("")], rows, title="in %, B − A in points", full="--json")
    better = [image for image in comparison.images if image.b > image.a]
    worse = [image for image in comparison.images if image.b < image.a]
    changed = [*better[:_CHANGED], *worse[:_CHANGED]]
    if changed:
        say.say(f"{len(better)} images are better, {len(worse)} worse; those that changed most:")
        say.table(
            [Column("image"), *heads[:3]],
            [[image.file, percent(image.a), percent(image.b), _points(image.b - image.a)] for image in changed],
        )
    say.say(comparison.sentence)


def _cells(difference: Difference) -> list[str]:
    from segcli.evaluation.compare import LEAST

    if difference.low != difference.low:
        return [percent(difference.a), percent(difference.b), "-", "-", ""]
    interval = f"{_points(difference.low)} to {_points(difference.high)}"
    verdict = {1: "better", -1: "worse", 0: ""}[difference.shown]
    if difference.images < LEAST:
        verdict = f"too few: {difference.images} image{'s' * (difference.images != 1)}"
    return [percent(difference.a), percent(difference.b), _points(difference.b - difference.a), interval, verdict]


def _points(value: float) -> str:
    """A difference of fractions, in percentage points."""
    return f"{100 * value:+.2f}".replace("-", "−")
