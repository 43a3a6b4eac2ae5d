"""Text as people write it, in files of any system, and numbers as they read them."""

from __future__ import annotations

import math
from pathlib import Path

from segcli.errors import UsageError


def read_text(file: Path) -> str:
    """The text of a file, without the mark that Windows puts before it. Raises UsageError if it is not in UTF-8."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{file}: not UTF-8 (byte {error.start} is {error.object[error.start]:#04x}); save it as UTF-8"
        ) from error


def lines_of(file: Path) -> list[str]:
    """The lines of a list, without blanks around them and without empty ones. Raises UsageError as `read_text` does."""
    return [line.strip() for line in read_text(file).splitlines() if line.strip()]


def percent(share: float) -> str:
    """A share of 1 as people write metrics: "53.2 %"; "–" for what could not be measured."""
    return f"{100 * share:.1f} %" if math.isfinite(share) else "–"
