"""The input of `segcli viz report`: predictions, a training run or an evaluation, recognised by its files."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from segcli.errors import InputError, SegcliError, UsageError, cut, shown
from segcli.files.json_file import read_json
from segcli.files.toml import read_toml
from segcli.inspection.clip_overlays import clips_in
from segcli.inspection.gallery import Gallery, of_predictions, predictions_beside_truth
from segcli.inspection.report_page import Report, ReportTable
from segcli.render.curves import LEARNING_RATE, Curve
from segcli.results.own import is_own
from segcli.results.readers.predict_records import first_record, is_record
from segcli.training.record.run_files import METRICS
from segcli.training.record.run_log import final, read_runs, validations
from segcli.types import TASKS, Task

if TYPE_CHECKING:
    from segcli.evaluation.folder import EvaluationFolder

EVALUATION = "metrics.json"
_POINTS = 600  # of a curve; more are not to be seen
_MOST_PICTURES = 48


def read_report(path: Path, photos: Path | None = None, task: Task | None = None) -> Report:
    """The report on what `path` holds.

    photos: where the photos of predictions are now. task: which, where results of several lie in one folder.
    Raises UsageError or InputError: nothing there, several evaluations, damaged files.
    """
    if (path / METRICS).is_file():
        return _of_run(path)
    if path.is_dir() and any((folder / EVALUATION).is_file() for folder in (path, *(path / task for task in TASKS))):
        return _of_evaluation(_evaluation(path, task), photos)
    clips = clips_in(str(path))
    if clips and (path.is_file() or not is_own(path)):
        raise UsageError(f"{path}: holds the tracks of a clip; draw them over it with: segcli viz overlays {path}")
    gallery = of_predictions(path, photos, task, every_score=True)
    made_by = _made_by(path)
    gallery = _from_own_score(gallery, path)
    elsewhere = (f"left out: the clip {clip.stem}; see segcli viz overlays {path}" for clip in clips)
    notes = [*gallery.notes, *(f"left out: {reason}" for reason in gallery.broken), *elsewhere]
    facts = [("predictions", path.name), *made_by.items(), *(("note", note) for note in notes)]
    return Report(path.resolve().name, made_by.get("model", ""), gallery, facts=facts)


def _from_own_score(gallery: Gallery, path: Path) -> Gallery:
    """With the slider at the score from which the model shows panoptic segments, of which lower ones were not kept."""
    record = first_record(path) if gallery.scored and not gallery.threshold else None
    if record is None or record.get("task") != "panoptic":
        return gallery
    own = record["rule"].get("score") if isinstance(record.get("rule"), dict) else None
    return dataclasses.replace(gallery, threshold=float(own)) if isinstance(own, int | float) else gallery


def _made_by(path: Path) -> dict[str, str]:
    """The model and the rule of `segcli predict`, by the first record there is."""
    record = _read_record(path) if path.is_file() else first_record(path)
    if record is None:
        return {}
    rule = record["rule"] if isinstance(record.get("rule"), dict) else {}
    kept = {
        "model": record.get("model"),
        "rule": ", ".join(f"{_called(key)} {cut(value)}" for key, value in rule.items() if value is not None),
    }
    return {key: cut(value) for key, value in kept.items() if value}


def _read_record(file: Path) -> dict[str, Any] | None:
    try:
        record = read_json(file)
    except InputError:
        return None
    return record if is_record(record) else None


# ---------------------------------------------------------------------------------------------------------- evaluation


def _evaluation(path: Path, task: Task | None) -> EvaluationFolder:
    from segcli.evaluation.folder import read_evaluations

    found = read_evaluations(path)
    chosen = task or next(iter(found))
    if chosen not in found:
        raise UsageError(f"{path}: holds no evaluation of --task {task}, only of {', '.join(found)}")
    if task is None and len(found) > 1:
        raise UsageError(f"{path}: holds evaluations of {', '.join(found)}; choose one with --task")
    return found[chosen]


def _of_evaluation(evaluation: EvaluationFolder, photos: Path | None) -> Report:
    measured, path = evaluation.metrics, evaluation.path
    try:
        metric, value, data = str(measured["metric"]), measured["value"], dict(measured["data"])
        summary, per_class = dict(measured["summary"]), list(measured["per_class"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path / EVALUATION}: not written by segcli eval ({error!r}); evaluate again") from error
    gallery, notes = _gallery(evaluation, photos, data)
    gallery = gallery and _from_own_score(gallery, path / "predictions")
    rows = [[name, figure] for name, figure in summary.items()]
    of_class = "IoU" if evaluation.task == "semantic" else metric
    measured_classes = [row for row in per_class if row.get(of_class) is not None]
    number = "" if value is None else f"{metric} {_in_percent(value)} %"
    said = [
        evaluation.task if gallery is None else "",
        number,
        _model(measured),
    ]
    facts = _flat({key: measured.get(key) for key in ("model", "predictions", "data", "protocol", "versions")})
    return Report(
        title=" ".join(path.resolve().parts[-2:] if path.name == evaluation.task else [path.resolve().name]),
        subtitle=" · ".join(part for part in said if part),
        gallery=gallery,
        task=evaluation.task,
        metric=metric,
        values=_values(evaluation, [item.name for item in gallery.items]) if gallery else {},
        tables=[
            ReportTable("Result", ("measure", "value"), rows, percent=frozenset({"value"})),
            *_per_class(measured_classes or per_class, "Classes"),
        ],
        pictures=[
            (_CAPTIONS.get(file.stem, file.stem.replace("_", " ")), file)
            for file in sorted((path / "pictures").glob("*.png"))
        ],
        facts=[*facts, *(("note", note) for note in notes)],
    )


_CAPTIONS = {
    "per_class": "Classes with something to measure, the best first",
    "confusion": "What became of the objects or pixels of each class",
    "precision_recall": "Precision against recall: how many of the found are right, as more are found",
    "calibration": "Calibration: how often a prediction with a certain score is right",
}


def _in_percent(figure: Any) -> Any:
    return round(100 * figure, 1) if isinstance(figure, int | float) else None


def _model(measured: Mapping[str, Any]) -> str:
    return str((measured.get("model") or {}).get("name") or measured.get("predictions") or "")


def _gallery(
    evaluation: EvaluationFolder, photos: Path | None, data: Mapping[str, Any]
) -> tuple[Gallery | None, Sequence[str]]:
    """Predictions beside the truth; without the truth if the data are gone, without either if nothing was saved."""
    path, task = evaluation.path, evaluation.task
    if not (path / "predictions").is_dir():
        return None, ["no predictions are in the folder: the page shows tables and pictures only"]
    try:
        gallery = predictions_beside_truth(path, Path(str(data.get("root"))), task, data.get("split"), every_score=True)
    except SegcliError as error:
        gallery = of_predictions(path, photos, task, every_score=True)
        return gallery, [f"without truth: {error}", *gallery.notes]
    return gallery, [*gallery.notes, *(f"left out: {reason}" for reason in gallery.broken)]


def _values(evaluation: EvaluationFolder, names: Sequence[str]) -> dict[str, float]:
    """Each image's own figure by its name in the gallery; one of both names is the end of the other."""
    by_file: dict[str, list[tuple[tuple[str, ...], float]]] = {}
    for row in evaluation.rows():
        parts = PurePosixPath(row["file"]).parts
        if isinstance(row["value"], int | float):
            by_file.setdefault(parts[-1], []).append((parts, float(row["value"])))
    values = {}
    for name in names:
        own = PurePosixPath(name).parts
        for parts, value in by_file.get(own[-1], ()):
            common = min(len(own), len(parts))
            if own[-common:] == parts[-common:]:
                values[name] = value
    return values


# ----------------------------------------------------------------------------------------------------------------- run


def _of_run(path: Path) -> Report:
    run = read_runs([path])[0]
    measured = validations(path)
    tables = []
    if measured:
        tables += [_by_step(measured), *_per_class(measured[-1].get("per_class") or [], _at_step(measured[-1]))]
    if recipe := _recipe(path / "config.toml"):
        tables.append(ReportTable("Recipe", ("section", "setting", "value"), recipe))
    steps = [int(curve.steps[-1]) for curve in (*run.noisy.values(), *run.metric.values())]
    best = [
        f"{title.split()[0]} {np.nanmax(curve.values):.1f} % at best in the validations during training"
        for title, curve in run.metric.items()
        if np.isfinite(curve.values).any()
    ]
    if (last := final(path)) is not None:
        best.insert(0, f"{last['metric']} {_in_percent(last['value'])} % (best/, as predict and eval use it)")
    return Report(
        title=path.resolve().name,
        subtitle=" · ".join(["training run", f"step {max(steps):,}", *best]),
        tables=tables,
        curves=[
            *(_curve(title, curve, marked=True) for title, curve in run.metric.items()),
            *(_curve(title, curve, marked=False) for title, curve in run.noisy.items()),
        ],
        pictures=_validation_pictures(path / "pictures"),
    )


def _at_step(record: Mapping[str, Any]) -> str:
    return f"Classes at step {record['step']:,}"


def _curve(title: str, curve: Curve, *, marked: bool) -> dict[str, Any]:
    """A metric's curve with a mark a validation; any other as single steps, pale, and their mean, strong."""
    smooth = not marked and title != LEARNING_RATE
    stride = max(1, -(-len(curve.steps) // _POINTS))
    kept = np.unique(np.append(np.arange(0, len(curve.steps), stride), len(curve.steps) - 1))

    def series(values: np.ndarray, **look: bool) -> dict[str, Any]:
        known = [float(f"{value:.5g}") if math.isfinite(value) else None for value in values[kept]]
        return {"steps": curve.steps[kept].tolist(), "values": known, **look}

    pale = [series(curve.values, pale=True)] if smooth else []
    strong = series(curve.smoothed() if smooth else curve.values, marks=marked)
    return {"title": title, "series": [*pale, strong], "zero": not smooth}


def _recipe(file: Path) -> list[list[Any]]:
    try:
        recipe = read_toml(file)
    except SegcliError:
        return []  # a run that stands without it: its curves are what was asked for
    tables = {"": {k: v for k, v in recipe.items() if not isinstance(v, dict)}}
    tables |= {k: v for k, v in recipe.items() if isinstance(v, dict)}
    return [[name, key, _written(value)] for name, table in tables.items() for key, value in table.items()]


_OF_STEP = re.compile(r"(.+)-(\d{7})")


def _validation_pictures(folder: Path) -> list[tuple[str, Path]]:
    """Pictures of validations, an image after the other, each as it came to be; of many, evenly chosen steps."""
    found = {file: _OF_STEP.fullmatch(file.stem) for file in sorted(folder.glob("*.png"))}
    steps = sorted({int(match[2]) for match in found.values() if match})
    images = len({match[1] for match in found.values() if match})
    most = max(2, _MOST_PICTURES // max(images, 1))
    if len(steps) > most:
        steps = [steps[round(place)] for place in np.linspace(0, len(steps) - 1, most)]
    return [
        (f"{match[1]}, step {int(match[2]):,}" if match else file.stem, file)
        for file, match in found.items()
        if not match or int(match[2]) in steps
    ]


# -------------------------------------------------------------------------------------------------------------- tables


def _by_step(measured: Sequence[Mapping[str, Any]]) -> ReportTable:
    names = list(dict.fromkeys(key for record in measured for key in record.get("summary") or {}))
    rows = [[record["step"], *((record.get("summary") or {}).get(name) for name in names)] for record in measured]
    return _percent(ReportTable("Validations", ("step", *names), rows))


def _per_class(records: Sequence[Mapping[str, Any]], title: str) -> list[ReportTable]:
    """One row per class: its name, then all that was measured."""
    names = [key for key in dict.fromkeys(key for record in records for key in record) if key not in ("id", "name")]
    names = [name for name in names if not any(isinstance(record.get(name), bool) for record in records)]
    if not names:
        return []
    rows = [[str(record.get("name")), *(record.get(name) for name in names)] for record in records]
    return [_percent(ReportTable(title, ("class", *names), rows))]


def _percent(table: ReportTable) -> ReportTable:
    """The columns of shares (fractions, none beyond 1) are shown times 100."""
    shares = set()
    for place, name in enumerate(table.columns):
        values = [row[place] for row in table.rows if row[place] is not None]
        if any(isinstance(v, float) for v in values) and all(isinstance(v, int | float) and v <= 1 for v in values):
            shares.add(name)
    return dataclasses.replace(table, percent=frozenset(shares))


_MOST_LEVELS = 20  # of a document that is shown line by line


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """{"data": {"split": "val"}} -> ("data split", "val")."""
    for key, value in values.items():
        if isinstance(value, Mapping) and before.count(" ") < _MOST_LEVELS:
            yield from _flat(value, f"{before}{key} ")
        elif value is not None:
            yield before + _called(key), _written(value)


_NAMES = {
    "score": "least score",
    "instance_score": "least score of instances",
    "overlap": "least uncovered share of a mask",
    "mask_min": "least mask probability",
    "part_min": "least share of the largest part",
    "repeat_iou": "duplicate from IoU",
    "min_area": "largest area that is dropped",
    "top_k": "most instances",
    "max_dets": "instances of a class and image that count",
    "normalise": "mask probabilities by",
}


def _called(key: str) -> str:
    """What a setting is called on the page."""
    return _NAMES.get(key, key.replace("_", " "))


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    parts = value if isinstance(value, list) else [value]
    return ", ".join(str(part) if isinstance(part, str | float) else shown(part) for part in parts)
