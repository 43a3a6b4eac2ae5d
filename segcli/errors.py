"""Errors a user can cause or meet. Each carries one line for the terminal and the exit code that goes with it."""

from __future__ import annotations

_MOST = 1500  # characters of a message


class SegcliWarning(UserWarning):
    """A condition worth a line on stderr that does not stop the work."""


class SegcliError(Exception):
    """Base of every error that is shown as one line, never as a traceback.

    The message names the file, the offending value and the remedy. It may quote a file, whose names and values have any
    length: of a very long one the middle is left out.
    """

    exit_code = 1

    def __str__(self) -> str:
        text = super().__str__().replace("\n", "\\n").replace("\r", "\\r")
        return text if len(text) <= _MOST else f"{text[: _MOST // 2]} … {text[-_MOST // 3 :]}"


class UsageError(SegcliError):
    """Wrong options, an impossible combination, a model that cannot do the task (exit code 2)."""

    exit_code = 2


class InputError(SegcliError):
    """One input could not be read or processed; the others go on (exit code 1 at the end)."""

    exit_code = 1


class OutputError(SegcliError):
    """A result could not be written: folder not writable, disk full (exit code 1)."""

    exit_code = 1


class CheckpointError(SegcliError):
    """A checkpoint that is there but cannot be used: unknown architecture, wrong tensors, NaN weights (exit code 3)."""

    exit_code = 3


class WeightsUnavailable(SegcliError):
    """Weights that are neither here nor downloadable now (exit code 3)."""

    exit_code = 3


def shown(value: object, most: int = 60) -> str:
    """A value from a file for a message: one line of about `most` characters, however large or deep the value is."""
    if isinstance(value, str):
        return repr(value) if len(value) <= most else f"{value[:most]!r}…"
    if isinstance(value, bool | float | None):
        return repr(value)
    if isinstance(value, int):
        return f"a number of {value.bit_length():,} bits" if value.bit_length() > 128 else str(value)
    if isinstance(value, list | tuple):
        if len(value) <= 8 and not any(isinstance(part, list | tuple | dict) for part in value):
            return f"[{', '.join(shown(part, 20) for part in value)}]"
        return f"a list of {len(value):,} values"
    if isinstance(value, dict):
        return f"an object of {len(value):,} entries" if value else "{}"
    return kind_of(value)


def kind_of(value: object) -> str:
    """The kind of a value from a file, as a person calls it."""
    return _KINDS.get(type(value), type(value).__name__)


_KINDS: dict[type, str] = {
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    tuple: "a list",
    dict: "an object",
    type(None): "nothing",
}


def cut(text: object, most: int = 160) -> str:
    """The first line of a text, or of an error's message, of at most `most` characters."""
    line = next(iter(str(text).splitlines()), "") or type(text).__name__
    return line if len(line) <= most else f"{line[:most]}…"
