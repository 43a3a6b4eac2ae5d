"""Text as people write it, in files of any system, and numbers as they read them."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
from pathlib import Path

from segcli.errors import UsageError, cut
from segcli.files.image_ref import regular

_MOST_BYTES = 1 << 30
_LONGEST_FIELD = 1 << 26  # characters


def read_plain(file: Path) -> bytes:
    """The bytes of a file that people or tools have written as text. Raises OSError, also for more than a gigabyte, and
    InputError for what is no regular file.
    """
    if regular(file, str(file)).st_size > _MOST_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(file))
    return file.read_bytes()


def encoding_of(head: bytes) -> str:
    """The encoding that a text's first bytes tell: UTF-8, or UTF-16 or UTF-32, which programs on Windows write."""
    found = json.detect_encoding(head)  # by the byte order mark, or by where the zeros are
    if found in ("utf-16", "utf-32"):
        return f"{found}-le" if head[:1] == b"\xff" else f"{found}-be"
    return found.removesuffix("-sig")


def decoded(raw: bytes) -> str:
    """Text without its byte order mark. Raises UnicodeDecodeError if it is in none of these encodings."""
    return raw.decode(encoding_of(raw[:4])).removeprefix("\ufeff")


def read_text(file: Path) -> str:
    """The text of a file, its line ends as newlines. Raises UsageError if it cannot be read or is not Unicode, and
    InputError for what is no regular file.
    """
    try:
        return decoded(read_plain(file)).replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{file}: not UTF-8 (byte {error.start} is {error.object[error.start]:#04x}); save it as UTF-8"
        ) from error


def lines_of(file: Path) -> list[str]:
    """The lines of a list, without blanks around them and without empty ones. Raises UsageError as `read_text` does."""
    return [line.strip() for line in read_text(file).splitlines() if line.strip()]


def table_rows(file: Path, delimiters: str = ",") -> list[dict[str, str]]:
    """The rows of a CSV file by its first line, which tells the delimiter of several. Raises UsageError as `read_text`
    does, and for what is no table.
    """
    text = read_text(file)
    head = text.split("\n", 1)[0]
    csv.field_size_limit(_LONGEST_FIELD)  # Python's own, 131,072, is less than a traced outline may have
    try:
        rows = csv.DictReader(io.StringIO(text, newline=""), restval="", delimiter=max(delimiters, key=head.count))
        return [{key: value for key, value in row.items() if key is not None} for row in rows]  # None: more than named
    except csv.Error as error:
        raise UsageError(f"{file}: not a table that can be read ({cut(error)}); export it again") from error


def some(number: int, what: str) -> str:
    """So many of a thing that takes an s: "1 image", "1,200 images"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def percent(share: float) -> str:
    """A share of 1 as people write metrics: "53.2 %"; "–" for what could not be measured."""
    return f"{100 * share:.1f} %" if math.isfinite(share) else "–"
