"""What `segcli eval --out` leaves behind, and how it is read back.

DIR/metrics.json      the numbers with all that they depend on: model, data, protocol, versions
DIR/per_class.csv     a row per class
DIR/per_image.jsonl   a line per image: its own number, and counts that the metric can be made of (metrics/per_image.py)
DIR/settings.json     what the evaluation was begun with; one that goes on with --skip-existing must agree
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

from segcli.errors import InputError, UsageError
from segcli.metrics import MetricReport
from segcli.types import TASKS, Task
from segcli.versions import versions

METRICS, SETTINGS, PER_IMAGE, PER_CLASS = "metrics.json", "settings.json", "per_image.jsonl", "per_class.csv"
PREDICTIONS = "predictions"


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


def as_text(document: Mapping[str, Any]) -> bytes:
    """A JSON file's content, for people too."""
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode(
        "utf-8", "backslashreplace"
    )


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
        metrics = read_json(file)
        if metrics.get("kind") != "segcli eval" or metrics.get("task") not in TASKS:
            raise UsageError(f"{file} was not written by segcli eval; give the folder of segcli eval --out")
        found.setdefault(metrics["task"], EvaluationFolder(folder, metrics["task"], metrics))
    if not found:
        hint = "it was not finished: go on with --skip-existing" if any(path.rglob(SETTINGS)) else "give one"
        raise UsageError(f"{path}: no evaluation here, which is the folder of segcli eval --out; {hint}")
    return found


def read_json(file: Path) -> dict[str, Any]:
    """One of the folder's JSON files. Raises InputError if it cannot be read or is damaged."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise InputError(f"{file}: not valid JSON ({error}); evaluate again") from error
    if not isinstance(value, dict):
        raise InputError(f"{file}: not what segcli eval writes; evaluate again")
    return value
