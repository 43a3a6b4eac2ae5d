"""What `segcli eval --out` leaves behind, and how it is read back.

DIR/metrics.json      the numbers with all that they depend on: model, data, protocol, versions
DIR/per_class.csv     a row per class
DIR/per_image.jsonl   a line per image: its own number, and counts that the metric can be made of (metrics/per_image.py)
DIR/settings.json     the settings of the evaluation; one resumed with --skip-existing must agree
DIR/predictions/      what `segcli predict --save` writes: png,json for id maps, json,coco for instances
DIR/explain.json      the oracle ladder (evaluation/explain.py), with --explain
DIR/pictures/, worst/ charts, and the images it is lowest on (evaluation/pictures.py)
With `--task all` there is one such folder for each task: DIR/panoptic, DIR/instance, DIR/semantic.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segcli.errors import InputError, UsageError, cut
from segcli.files.fields import MOST, Fields
from segcli.files.image_ref import regular
from segcli.files.json_file import parse_json, read_object
from segcli.metrics import MetricReport
from segcli.types import TASKS, Task
from segcli.versions import versions

METRICS, SETTINGS, PER_IMAGE, PER_CLASS = "metrics.json", "settings.json", "per_image.jsonl", "per_class.csv"
PREDICTIONS = "predictions"


@dataclass(frozen=True)
class About:
    """Everything that a metric depends on, as plain values. model or predictions is None.

    state: tells the predictions' files from those that they were or become.
    """

    task: Task
    model: dict[str, Any] | None
    predictions: str | None
    data: dict[str, Any]
    protocol: dict[str, Any]
    state: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As it stands in metrics.json."""
        return {"task": self.task, "model": self.model, "predictions": self.predictions} | {
            "data": self.data,
            "protocol": self.protocol,
        }

    def settings(self) -> dict[str, Any]:
        """As it stands in settings.json."""
        return self.to_json() | ({"state of the predictions": self.state} if self.state else {})

    def document(self, report: MetricReport, images: int, failed: Sequence[str], seconds: float) -> dict[str, Any]:
        """What metrics.json says, and --json prints. images: so many were scored; failed: why others were not."""
        numbers = {"kind": "segcli eval"} | report.to_json()
        about = self.to_json() | {"data": self.data | {"images": images}}
        return numbers | about | {"failed": list(failed), "seconds": round(seconds, 1), "versions": versions()}


def task_folder(out: Path, task: Task, tasks: Sequence[Task]) -> Path:
    """Where one task's results go."""
    return out if len(tasks) == 1 else out / task


def as_text(document: Mapping[str, Any]) -> bytes:
    """A JSON file's content, for people too."""
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode(
        "utf-8", "backslashreplace"
    )


_LONGEST_LINE = 1 << 26  # characters of one image's row; a file that is no such list may have no line at all


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
            regular(file, str(file))
            with file.open(encoding="utf-8") as lines:
                for number, line in enumerate(iter(lambda: lines.readline(_LONGEST_LINE), ""), start=1):
                    where = f"{file}: line {number}"
                    row = Fields(parse_json(line, where, remedy="evaluate again"), where)
                    for name in ("image_id", "file"):
                        row.text(name)
                    if row.raw.get("value") is not None:
                        row.number("value")
                    if "counts" not in row:
                        raise row.wrong("counts", "the counts that the metric is computed from")
                    yield row.raw
        except (OSError, ValueError) as error:
            raise InputError(f"{file}: cannot be read ({cut(error)}); evaluate again") from error


def read_evaluations(path: Path) -> dict[Task, EvaluationFolder]:
    """The finished evaluations in a folder of `segcli eval --out`.

    Raises UsageError if there is none, InputError for a metrics.json that is damaged.
    """
    found: dict[Task, EvaluationFolder] = {}
    for folder in (path, *(path / task for task in TASKS)):
        file = folder / METRICS
        if not file.is_file():
            continue
        metrics = read_json(file)
        task = metrics.get("task")
        if metrics.get("kind") != "segcli eval" or not isinstance(task, str) or task not in TASKS:
            raise UsageError(f"{file} was not written by segcli eval; give the folder of segcli eval --out")
        try:
            _check(metrics, file)
        except InputError as error:
            raise InputError(f"{error}; evaluate again") from error
        found.setdefault(metrics["task"], EvaluationFolder(folder, metrics["task"], metrics))
    if not found:
        hint = (
            "it was not finished: continue with --skip-existing"
            if any(path.rglob(SETTINGS))
            else "give a folder that segcli eval --out wrote"
        )
        raise UsageError(f"{path}: holds no evaluation; {hint}")
    return found


def stored_max_dets(path: Path, task: Task) -> int | None:
    """How many instances of a class and image counted where these predictions were evaluated before; None if they were
    not, for predictions of any kind."""
    for folder in (path, path / task, path.parent if path.name == PREDICTIONS else path):
        if (folder / METRICS).is_file():
            most = read_json(folder / METRICS).get("protocol")
            most = most.get("max_dets") if isinstance(most, dict) else None
            return most if type(most) is int and most > 0 else None
    return None


def read_json(file: Path) -> dict[str, Any]:
    """One of the folder's JSON files. Raises InputError if it cannot be read or is damaged."""
    return read_object(file, InputError, "evaluate again")


def _check(metrics: dict[str, Any], file: Path) -> None:
    """Raises InputError for a metrics.json with an entry of another kind than segcli eval writes."""
    entries = Fields(metrics, str(file))
    entries.text("metric")
    tables = (entries, entries.sub("summary")) if "summary" in entries else (entries,)
    for table in tables:
        for name in ("value",) if table is entries else tuple(table.raw):
            if table.raw.get(name) is not None:
                table.number(name)
    for row in entries.rows("per_class"):
        row.whole("id", least=-MOST)
        row.text("name")
        for name in row.raw.keys() - {"id", "name"}:
            if not isinstance(row.raw[name], str | bool) and row.raw[name] is not None:
                row.number(name)
    entries.sub("data")
    for name in ("model", "protocol"):
        if metrics.get(name) is not None:
            entries.sub(name)
