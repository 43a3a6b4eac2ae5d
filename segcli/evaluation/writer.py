"""Writes the folder of an evaluation image by image, and resumes one that was stopped."""

from __future__ import annotations

import csv
import heapq
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from segcli.data.dataset import Dataset
from segcli.errors import UsageError
from segcli.evaluation.folder import METRICS, PER_CLASS, PER_IMAGE, PREDICTIONS, SETTINGS, About, as_text, read_json
from segcli.evaluation.observers import Evaluated
from segcli.files.writing import output_error, write_file
from segcli.inference.planning import check_writable
from segcli.results.plan import Photo, plan
from segcli.results.readers import Predictions, open_predictions
from segcli.results.writer import ResultsWriter
from segcli.segments import Segments
from segcli.types import OBJECT_TASKS, LabelSet, Task

_DRAWN = ("pictures", "worst")  # folders of the observers that draw, anew every time
_REPORTS = (METRICS, PER_IMAGE, PER_CLASS, "explain.json")
_KINDS: dict[Task, tuple[str, ...]] = {
    "panoptic": ("png", "json"),
    "semantic": ("png", "json"),
    "instance": ("json", "coco"),
    "detect": ("json", "coco"),
}


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
            self._writer = ResultsWriter(
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
                key = image.id if self.about.task in OBJECT_TASKS else image.file
                self._stored["" if key is None else key] = number  # an id may be 0

    def stored(self, number: int, size: tuple[int, int]) -> Segments | None:
        """The prediction of an earlier run for an image of `size` = (H, W), in the dataset's classes."""
        photo = self._photos[number]
        if self._writer is None or self._predictions is None or not self._writer.is_complete(photo):
            return None
        key = photo.image_id if self.about.task in OBJECT_TASKS else photo.file_name
        if key not in self._stored:  # nothing was found in it
            return _no_instances(size, self._labels) if self.about.task in OBJECT_TASKS else None
        found = self._predictions.read(self._stored[key], size)
        place = {label.id: index for index, label in enumerate(self._labels)}
        labels = np.array([place[id_] for id_ in found.category_ids()], dtype=np.int64)
        return replace(found, label_set=self._labels, labels=labels)

    def see(self, evaluated: Evaluated) -> None:
        """Write an image's prediction and its line."""
        task = self.about.task
        photo, segments = self._photos[evaluated.number], evaluated.segments[task]
        if self._writer is not None and not self._writer.is_complete(photo):
            shown = segments.filter(segments.scores >= self._threshold) if task in OBJECT_TASKS else segments
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
        write_file(self.path / METRICS, as_text(document))
        for part in parts:
            part.unlink(missing_ok=True)


def check_folder(path: Path, about: About, *, overwrite: bool, skip_existing: bool) -> None:
    """Raise UsageError for results that are there already (unless an option says what to do with them) or were made
    otherwise, OutputError for a folder that cannot be written to. Changes nothing.
    """
    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing contradict each other; give one of them")
    check_writable(path)
    if not (overwrite or skip_existing):
        refuse_results(path)
    there = _results(path)
    if there and SETTINGS not in there:
        raise UsageError(f"{path / there[0]}: this evaluation cannot be resumed; choose another --out")
    if there and skip_existing:
        _compare(path / SETTINGS, about)


def refuse_results(path: Path) -> None:
    """Raise UsageError if a folder holds an evaluation."""
    if there := _results(path):
        raise UsageError(
            f"{path / there[0]} exists already: replace the evaluation with --overwrite, continue it with "
            "--skip-existing, or choose another --out"
        )


def _results(path: Path) -> list[str]:
    return [name for name in (METRICS, SETTINGS, PREDICTIONS, PER_IMAGE) if os.path.lexists(path / name)]


def _begin(path: Path, about: About, overwrite: bool) -> None:
    """Remove files of an earlier evaluation."""
    for name in (PREDICTIONS, *_DRAWN) if overwrite else _DRAWN:
        shutil.rmtree(path / name, ignore_errors=True)
    for file in (*(path / name for name in _REPORTS), *path.glob(".per_image-*.jsonl")):
        file.unlink(missing_ok=True)
    write_file(path / SETTINGS, as_text(about.settings()))


def _compare(file: Path, about: About) -> None:
    """Raise UsageError if an evaluation that is to be resumed was started with other settings."""
    earlier, now = read_json(file), json.loads(as_text(about.settings()))
    for side in (earlier, now):  # where a model came from today says nothing of what it computes
        if isinstance(model := side.get("model"), dict):
            model.pop("source", None)
    for what in now:
        old, new = earlier.get(what), now[what]
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            key = next(key for key in (*old, *new) if old.get(key) != new.get(key))
            what, old, new = f"{what}, {key}", old.get(key), new.get(key)
        raise UsageError(
            f"--skip-existing: {file} was started with another {what} ({_short(old)}, now {_short(new)}); "
            "choose another --out, or replace it with --overwrite"
        )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "…"


def _photos(dataset: Dataset) -> list[Photo]:
    """The split's images as `segcli predict` would name their results; in COCO data with the ids of its files."""
    files = [record.image.place for record in dataset.records]
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
