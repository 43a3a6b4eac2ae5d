"""Reading whole JSON files that somebody else may have written. Large ones go through `json_stream`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from segcli.errors import InputError, SegcliError, cut
from segcli.files.image_ref import regular
from segcli.files.text import decoded

_MOST_BYTES = 1 << 30


def read_json(file: Path, error: type[SegcliError] = InputError, remedy: str = "") -> Any:
    """The value of a JSON file. remedy: what the user can do, for errors.

    Raises `error`, in one line, for a file that cannot be read, is not UTF-8, not JSON, nested too deeply, or has
    numbers too long to be any.
    """
    try:
        size = regular(file, str(file)).st_size
        if size > _MOST_BYTES:
            raise error(f"{file}: {size:,} bytes, more than a JSON file here can have")
        raw = file.read_bytes()
    except InputError as problem:
        raise error(str(problem)) from problem
    except (OSError, ValueError) as problem:
        raise error(f"{file}: cannot be read ({cut(getattr(problem, 'strerror', None) or problem)})") from problem
    return parse_json(raw, str(file), error, remedy)


def parse_json(raw: bytes | str, where: str, error: type[SegcliError] = InputError, remedy: str = "") -> Any:
    """The value of JSON text; as `read_json`."""
    try:
        return json.loads(decoded(raw) if isinstance(raw, bytes) else raw)
    except UnicodeDecodeError as problem:
        reason = f"byte {problem.start:,} is not UTF-8"
    except json.JSONDecodeError as problem:
        reason = f"{problem.msg[:1].lower()}{problem.msg[1:]}, line {problem.lineno}, column {problem.colno}"
    except RecursionError:
        reason = "nested too deeply"
    except ValueError:
        reason = "a number of thousands of digits"
    raise error(f"{where}: not valid JSON ({reason}){remedy and '; '}{remedy}")


def read_object(file: Path, error: type[SegcliError] = InputError, remedy: str = "") -> dict[str, Any]:
    """The object that a JSON file holds; as `read_json`, and an error if it is anything else."""
    value = read_json(file, error, remedy)
    if not isinstance(value, dict):
        raise error(f"{file}: expected a JSON object{remedy and '; '}{remedy}")
    return value
