"""What a run of `segcli train` has measured so far, read from its metrics.jsonl while it may still be growing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segcli.errors import InputError, UsageError
from segcli.files.text import read_plain
from segcli.render.curves import LEARNING_RATE, Curve, RunCurves
from segcli.training.record.run_files import METRICS

_MOST_STEPS = 1 << 53  # which charts can tell apart
_TITLES = {"loss": "loss (weighted sum)", "lr": LEARNING_RATE}


def read_runs(paths: Sequence[Path]) -> list[RunCurves]:
    """The curves of several runs, each a folder of `segcli train` or its metrics.jsonl.

    Raises:
        UsageError: nothing there, or not a run.
        InputError: a file that cannot be read, or has no step in it.
    """
    files = [_file(path) for path in paths]
    return [_curves(file, name) for file, name in zip(files, _names(files), strict=True)]


def final(path: Path) -> dict[str, Any] | None:
    """What best/ was measured to have after training; None if it was not yet. Raises as `read_runs`."""
    return next((record for record in _records(_file(path)) if record["kind"] == "final"), None)


def validations(path: Path) -> list[dict[str, Any]]:
    """What each validation of a run measured, as its lines have it. Raises as `read_runs`."""
    return [record for record in _records(_file(path)) if record["kind"] == "validation"]


def _file(path: Path) -> Path:
    file = path / METRICS if path.is_dir() else path
    if not path.exists():
        raise UsageError(f"{path}: no such folder; give the folder of a training run")
    if not file.exists():
        raise UsageError(f"{path}: not a training run, as there is no {METRICS} in it; give the --out of segcli train")
    return file


def _names(files: Sequence[Path]) -> list[str]:
    """The runs' folders, with as much of the path in front as tells them apart."""
    parts = [file.resolve().parent.parts[1:] or ("run",) for file in files]
    length = 1
    while length < max(map(len, parts)) and len({p[-length:] for p in parts}) < len({tuple(p) for p in parts}):
        length += 1
    return ["/".join(own[-length:]) for own in parts]


def _curves(file: Path, name: str) -> RunCurves:
    noisy: dict[str, list[tuple[int, float]]] = {}
    metric: dict[str, list[tuple[int, float]]] = {}
    for record in _records(file):
        if record["kind"] == "train":
            for key in ("loss", *(key for key in record if key.startswith("loss/")), "lr"):
                title = _TITLES.get(key) or f"{key.removeprefix('loss/')} loss (last layer)"
                noisy.setdefault(title, []).append((record["step"], _number(record.get(key))))
        elif record["kind"] == "validation":
            title = f"{record.get('metric', 'metric')} on validation (%)"
            metric.setdefault(title, []).append((record["step"], 100 * _number(record.get("value"))))
    if not noisy and not metric:
        raise InputError(f"{file}: no step in it yet; wait for the first, or give another run")
    return RunCurves(name, {t: _curve(v) for t, v in noisy.items()}, {t: _curve(v) for t, v in metric.items()})


def _records(file: Path) -> Iterator[dict[str, Any]]:
    """The lines of the file. The last may be half written, as a run writes and we read."""
    try:
        text = read_plain(file).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read ({error}); give a run of segcli train") from error
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            if not (isinstance(record["step"], int) and 0 <= record["step"] < _MOST_STEPS):
                raise TypeError("no step")
            if not isinstance(record["kind"], str):
                raise TypeError("no kind")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if number == len(lines) and not line.endswith("\n"):
                return
            raise InputError(
                f"{file}, line {number}: not a line of segcli train; give a run of segcli train"
            ) from error
        yield record


def _number(value: object) -> float:
    """A measured value; null, which stands for a value that was not finite, is NaN."""
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:  # hundreds of digits
        return math.nan


def _curve(points: list[tuple[int, float]]) -> Curve:
    steps, values = zip(*sorted(points, key=lambda point: point[0]), strict=True)
    return Curve(np.array(steps, dtype=np.int64), np.array(values, dtype=np.float64))
