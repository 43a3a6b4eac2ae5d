"""The names of a run's files, and what can be told from them without torch."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from segcli.errors import InputError, SegcliError, UsageError
from segcli.files.image_ref import regular
from segcli.files.json_file import read_object
from segcli.files.toml import read_toml

CONFIG, FACTS, CHECKPOINT, METRICS = "config.toml", "run.json", "checkpoint.safetensors", "metrics.jsonl"
_LONGEST_HEADER = 100_000_000  # bytes, as in the safetensors library


def default_folder(data: Path) -> Path:
    """runs/<data>-<n>, the first n that is free."""
    name = data.resolve().name or "data"
    number = 1
    while (folder := Path("runs") / f"{name}-{number}").exists():
        number += 1
    return folder


def last_unfinished(runs: Path, data: Path | None) -> Path:
    """The run in the folder `runs` that was written to last and has not come to its end, of some data if given.

    Raises UsageError if there is none.
    """
    for folder in sorted((file.parent for file in runs.glob(f"*/{CONFIG}")), key=_changed, reverse=True):
        if not is_over(folder) and (data is None or _data_of(folder) == data.resolve()):
            return folder
    about = f" of {data}" if data else ""
    raise UsageError(f"--resume: there is no interrupted run{about} in {runs}; give its folder with --out")


def is_over(run: Path) -> bool:
    """Whether a run has come to its end: there is nothing to resume."""
    state = checkpoint_state(run / CHECKPOINT)
    progress = (state or {}).get("progress")
    return bool(isinstance(progress, dict) and progress.get("final"))


def checkpoint_state(file: Path) -> dict[str, Any] | None:
    """What a checkpoint says beside its tensors, read from its header alone; None where that is not possible."""
    try:
        regular(file, str(file))
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size)) if size <= _LONGEST_HEADER else {}
        state = json.loads(header["__metadata__"]["segcli"])
    except (OSError, InputError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return state if isinstance(state, dict) else None


def devices_of(run: Path) -> int:
    """How many processes began a run; 1 if it does not say."""
    devices = _facts(run).get("devices")
    return devices if type(devices) is int and devices > 0 else 1


def run_id(run: Path) -> str:
    """What tells a run from all others, also from one of the same name."""
    own = _facts(run).get("id")
    if isinstance(own, str):
        return own
    return hashlib.blake2b(os.fsencode(run.resolve()), digest_size=6).hexdigest()  # begun before runs had one


def _facts(run: Path) -> dict[str, Any]:
    try:
        return read_object(run / FACTS)
    except SegcliError:
        return {}


def _changed(run: Path) -> int:
    """When a run was last written to."""
    return max(file.stat().st_mtime_ns for name in (CONFIG, METRICS, CHECKPOINT) if (file := run / name).is_file())


def _data_of(run: Path) -> Path | None:
    try:
        return Path(read_toml(run / CONFIG)["data"]["path"])
    except (SegcliError, KeyError, TypeError):
        return None
