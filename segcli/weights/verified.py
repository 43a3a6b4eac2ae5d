"""The user's own results of `segcli models verify`, in a file."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from segcli.errors import OutputError
from segcli.files.writing import replace_file

VARIABLE = "SEGCLI_VERIFIED"
AVERAGED = "mIoU (ms+flip)"  # is measured apart from the others, in many times their time


@dataclass(frozen=True)
class Measured:
    """One number: as published, as measured, both in percentage points; whether they agree."""

    metric: str
    published: float
    measured: float
    agrees: bool

    @property
    def difference(self) -> float:
        """Measured less published."""
        return self.measured - self.published


@dataclass(frozen=True)
class Verification:
    """One measurement. weights: a hash of the tensors; date: ISO; passed: on all of the data, the headline agrees."""

    name: str
    weights: str
    date: str
    segcli: str
    data: dict[str, Any]
    protocol: dict[str, Any]
    metrics: tuple[Measured, ...]
    passed: bool


def verified_file() -> Path:
    """$SEGCLI_VERIFIED, else verified.json where the platform keeps a program's own data."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    if sys.platform == "win32":
        place = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        place = Path.home() / "Library" / "Application Support"
    else:
        place = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return place / "segcli" / "verified.json"


def verifications() -> dict[str, Verification]:
    """The last measurement of each model, by its name; none if the file is not there or is not ours."""
    try:
        rows = json.loads(verified_file().read_text(encoding="utf-8"))
        return {
            name: Verification(**row | {"metrics": tuple(Measured(**metric) for metric in row["metrics"])})
            for name, row in rows.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def keep(verification: Verification) -> Path:
    """Write a measurement into the file, in the place of an earlier one of the model; returns the file.

    What was measured of the same weights on the same data, and is not measured again, stays.
    Raises OutputError if it cannot be written.
    """
    file, known = verified_file(), verifications()
    old = known.get(verification.name)
    if old and (old.weights, old.data) == (verification.weights, verification.data):
        verification = _joined(old, verification)
    rows = {name: asdict(row) for name, row in (known | {verification.name: verification}).items()}
    text = json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, lambda part: part.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise OutputError(
            f"{file}: cannot be written ({error.strerror or error}); choose another with {VARIABLE}=FILE"
        ) from error
    return file


def _joined(old: Verification, new: Verification) -> Verification:
    measured = {row.metric for row in new.metrics}
    rows = [*new.metrics, *(row for row in old.metrics if row.metric not in measured)]
    rows.sort(key=lambda row: row.metric == AVERAGED)
    passed = old.passed if measured == {AVERAGED} else new.passed
    return replace(new, protocol=old.protocol | new.protocol, metrics=tuple(rows), passed=passed)
