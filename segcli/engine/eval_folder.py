"""What `segcli eval --out` leaves behind, written as the images come and read back to compare or to go on.

DIR/metrics.json      the numbers with all that they depend on: model, data, protocol, versions
DIR/per_class.csv     a row per class
DIR/per_image.jsonl   a line per image: its own number, and counts that the metric can be made of (metrics/per_image.py)
DIR/settings.json     what the evaluation was begun with; one that goes on with --skip-existing must agree
DIR/predictions/      what `segcli predict --save` writes: png,json for id maps, json,coco for instances
With `--task all` there is one such folder for each task: DIR/panoptic, DIR/instance, DIR/semantic.
"""

from __future__ import annotations

import csv
import heapq
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from segcli.data.dataset import Dataset
from segcli.engine.observers import Evaluated
from segcli.engine.versions import versions
from segcli.engine.work import check_writable
from segcli.errors import InputError, UsageError
from segcli.metrics import MetricReport
from segcli.results import Photo, Predictions, SaveKind, Writer, open_predictions, plan
from segcli.results.files import output_error, write_file
from segcli.segments import Segments
from segcli.types import TASKS, LabelSet, Task

METRICS, SETTINGS, PER_IMAGE, PER_CLASS = "metrics.json", "settings.json", "per_image.jsonl", "per_class.csv"
PREDICTIONS = "predictions"
_OTHERS = ("pictures", "worst")  # folders of the observers that draw
_KINDS: dict[Task, tuple[SaveKind, ...]] = {
    "panoptic": ("png", "json"),
    "semantic": ("png", "json"),
    "instance": ("json", "coco"),
}


@dataclass(frozen=True)
class About:
    """All that a number depends on, as plain values. model or predictions is None."""

    task: Task
    model: dict[str, Any] | None
    predictions: str | None
    data: dict[str, Any]
    protocol: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As it stands in settings.json."""
        return {"task": self.task, "model": self.model, "predictions": self.predictions} | {
            "data": self.data,
            "protocol": self.protocol,
        }

    def document(self, report: MetricReport, images: int, failed: Sequence[str], seconds: float) -> dict[str, Any]:
        """What metrics.json says, and --json prints. images: so many were scored; failed: why others were not."""
        numbers = {"kind": "segcli eval"} | report.to_json()
        about = self.to_json() | {"data": self.data | {"images": images}}
        return numbers | about | {"failed": list(failed), "seconds": round(seconds, 1), "versions": versions()}


def task_folder(out: Path, task: Task, tasks: Sequence[Task]) -> Path:
    """Where one task's results go."""
    return out if len(tasks) == 1 else out / task


# --------------------------------------------------------------------------------------------------------------- write


class EvaluationWriter:
    """Writes one task's folder; an observer of the stream. Of several ranks the first must be made first.

    dataset: the split as the task has it. run, threshold: what the records say of the run, and the score that
    instances are shown from; run None writes no predictions. `check_folder` comes before.
    Raises OutputError for a folder that cannot be written to.
    """

    def __init__(
        self,
        path: Path,
        about: About,
        dataset: Dataset,
        *,
        run: Mapping[str, Any] | None,
        threshold: float = 0.0,
        rank: int = 0,
        overwrite: bool = False,
        skip_existing: bool = False,
    ) -> None:
        self.path, self.about, self._threshold = path, about, threshold
        self._labels, self._rank = dataset.labels, rank
        if rank == 0:
            _begin(path, about, overwrite)
        self._photos = _photos(dataset)
        self._writer = None
        self._stored: dict[int | str, int] = {}
        self._predictions: Predictions | None = None
        if run is not None:
            kinds, again = _KINDS[about.task], skip_existing or rank > 0
            self._writer = Writer(
                path / PREDICTIONS,
                kinds,
                self._photos,
                task=about.task,
                labels=dataset.labels,
                run=run,
                skip_existing=again,
            )
            if skip_existing:
                self._take_up(rank)
        self._lines = _part(path, rank)
        self._file = _open(self._lines)

    def _take_up(self, rank: int) -> None:
        """Find the results of an earlier run."""
        assert self._writer is not None
        if rank == 0:
            self._writer.close()  # one that was killed left lines
        if any(self._writer.is_complete(photo) for photo in self._photos):
            self._predictions = open_predictions(self.path / PREDICTIONS, self.about.task)
            for number, image in enumerate(self._predictions.images):
                key = image.id if self.about.task == "instance" else image.file
                self._stored[key or ""] = number

    def stored(self, number: int, size: tuple[int, int]) -> Segments | None:
        """The prediction of an earlier run for an image of `size` = (H, W), in the dataset's classes."""
        photo = self._photos[number]
        if self._writer is None or self._predictions is None or not self._writer.is_complete(photo):
            return None
        key = photo.image_id if self.about.task == "instance" else photo.file_name
        if key not in self._stored:  # nothing was found in it
            return _no_instances(size, self._labels) if self.about.task == "instance" else None
        found = self._predictions.read(self._stored[key], size)
        place = {label.id: index for index, label in enumerate(self._labels)}
        labels = np.array([place[id_] for id_ in found.category_ids()], dtype=np.int64)
        return replace(found, label_set=self._labels, labels=labels)

    def see(self, evaluated: Evaluated) -> None:
        """Write an image's prediction and its line."""
        task = self.about.task
        photo, segments = self._photos[evaluated.number], evaluated.segments[task]
        if self._writer is not None and not self._writer.is_complete(photo):
            shown = segments.filter(segments.scores >= self._threshold) if task == "instance" else segments
            spent = {"model": evaluated.seconds * 1000}
            self._writer.write(photo, None, shown, unthresholded=segments, timings=spent)
        counted = evaluated.counts(task)
        value = counted.value if np.isfinite(counted.value) else None
        row = {"image_id": evaluated.samples[task].image_id, "file": photo.file_name, "value": value}
        line = json.dumps(row | {"counts": counted.counts}, ensure_ascii=False, allow_nan=False)
        try:
            self._file.write(b"%d\t" % evaluated.number + line.encode("utf-8", "backslashreplace") + b"\n")
        except OSError as error:
            raise output_error(self._lines, error) from error

    def close(self) -> None:
        """Bring this rank's part to the disk."""
        self._file.close()

    def finish(self, document: Mapping[str, Any], ranks: int = 1) -> None:
        """On the first rank, when all have closed: bring everything into its final form."""
        if self._writer is not None:
            self._writer.close()
        parts = [_part(self.path, rank) for rank in range(ranks)]
        write_file(self.path / PER_IMAGE, _merged(parts))
        write_file(self.path / PER_CLASS, _csv(document["per_class"]).encode())
        write_file(self.path / METRICS, _text(document))
        for part in parts:
            part.unlink(missing_ok=True)


def check_folder(path: Path, about: About, *, overwrite: bool, skip_existing: bool) -> None:
    """Raise UsageError for results that are there already (unless an option says what to do with them) or were made
    otherwise, OutputError for a folder that cannot be written to. Changes nothing.
    """
    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing contradict each other; give one of them")
    check_writable(path)
    there = [name for name in (METRICS, SETTINGS, PREDICTIONS, PER_IMAGE) if os.path.lexists(path / name)]
    if there and not (overwrite or skip_existing):
        raise UsageError(
            f"{path / there[0]} exists already: replace the evaluation with --overwrite, go on with it with "
            "--skip-existing, or choose another --out"
        )
    if there and SETTINGS not in there:
        raise UsageError(f"{path / there[0]} is not of an evaluation that can be gone on with; choose another --out")
    if there and skip_existing:
        _compare(path / SETTINGS, about)


def _begin(path: Path, about: About, overwrite: bool) -> None:
    """Clear away what must not be taken for the new evaluation's."""
    for name in (PREDICTIONS, *_OTHERS) if overwrite else ():
        shutil.rmtree(path / name, ignore_errors=True)
    for file in (path / METRICS, path / PER_IMAGE, path / PER_CLASS, *path.glob(".per_image-*.jsonl")):
        file.unlink(missing_ok=True)
    write_file(path / SETTINGS, _text(about.to_json()))


def _compare(file: Path, about: About) -> None:
    """Raise UsageError if an evaluation that shall go on was begun otherwise."""
    earlier, now = _read_json(file), json.loads(_text(about.to_json()))
    for side in (earlier, now):  # where a model came from today says nothing of what it computes
        (side.get("model") or {}).pop("source", None)
    for what in now:
        old, new = earlier.get(what), now[what]
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            key = next(key for key in (*old, *new) if old.get(key) != new.get(key))
            what, old, new = f"{what}, {key}", old.get(key), new.get(key)
        raise UsageError(
            f"--skip-existing: {file} was begun with another {what} ({_short(old)}, now {_short(new)}); "
            "choose another --out, or replace it with --overwrite"
        )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "…"


def _photos(dataset: Dataset) -> list[Photo]:
    """The split's images as `segcli predict` would name their results; in COCO data with the ids of its files."""
    files = [Path(record.image) for record in dataset.records]
    root = Path(os.path.commonpath([file.parent.absolute() for file in files])) if files else None
    photos = plan([(file.absolute(), root) for file in files])
    ids = [record.image_id for record in dataset.records]
    if all(id_.isdecimal() and str(int(id_)) == id_ for id_ in ids):
        return [replace(photo, image_id=int(id_)) for photo, id_ in zip(photos, ids, strict=True)]
    return photos


def _no_instances(size: tuple[int, int], labels: LabelSet) -> Segments:
    return Segments("instance", size, labels, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32), rles=())


def _part(path: Path, rank: int) -> Path:
    return path / f".per_image-{rank}.jsonl"


def _open(path: Path) -> BinaryIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")
    except OSError as error:
        raise output_error(path, error) from error


def _merged(parts: Sequence[Path]) -> Iterator[bytes]:
    """The lines of all ranks in the order of the split."""

    def lines(part: Path) -> Iterator[tuple[int, bytes]]:
        with part.open("rb") as file:
            for line in file:
                number, _, row = line.partition(b"\t")
                yield int(number), row

    yield from (row for _, row in heapq.merge(*map(lines, parts), key=lambda pair: pair[0]))


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def _text(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode(
        "utf-8", "backslashreplace"
    )


# ---------------------------------------------------------------------------------------------------------------- read


@dataclass(frozen=True)
class EvaluationFolder:
    """One task's finished evaluation. metrics: what metrics.json says."""

    path: Path
    task: Task
    metrics: dict[str, Any]

    def rows(self) -> Iterator[dict[str, Any]]:
        """The lines of per_image.jsonl. Raises InputError naming a line that is damaged."""
        file = self.path / PER_IMAGE
        try:
            with file.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines, start=1):
                    try:
                        row = json.loads(line)
                        row["image_id"], row["file"], row["value"], row["counts"]
                    except (ValueError, KeyError, TypeError) as error:
                        raise InputError(f"{file}: line {number} is damaged ({error}); evaluate again") from error
                    yield row
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({error.strerror or error}); evaluate again") from error


def read_evaluations(path: Path) -> dict[Task, EvaluationFolder]:
    """The finished evaluations in a folder of `segcli eval --out`.

    Raises UsageError if there is none, InputError for a metrics.json that is damaged.
    """
    found: dict[Task, EvaluationFolder] = {}
    for folder in (path, *(path / task for task in TASKS)):
        file = folder / METRICS
        if not file.is_file():
            continue
        metrics = _read_json(file)
        if metrics.get("kind") != "segcli eval" or metrics.get("task") not in TASKS:
            raise UsageError(f"{file} was not written by segcli eval; give the folder of segcli eval --out")
        found.setdefault(metrics["task"], EvaluationFolder(folder, metrics["task"], metrics))
    if not found:
        hint = "it was not finished: go on with --skip-existing" if any(path.rglob(SETTINGS)) else "give one"
        raise UsageError(f"{path}: no evaluation here, which is the folder of segcli eval --out; {hint}")
    return found


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise InputError(f"{file}: not valid JSON ({error}); evaluate again") from error
    if not isinstance(value, dict):
        raise InputError(f"{file}: not what segcli eval writes; evaluate again")
    return value
