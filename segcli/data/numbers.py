"""Numbers, names and flags as they come out of other people's files, checked once at the border.

What can be read without doubt is read: 7 may be written as "7" or 7.0. Everything else raises ValueError with a few
words that name the field and show the value, cut short.
"""

from __future__ import annotations

import contextlib
import math
import re

from segcli.files.image_names import in_one_line, printable

_WHOLE = re.compile(r"\s*[+-]?\d{1,18}(\.0*)?\s*")
_LARGEST = 2**53  # above it a JSON number is not exact in most tools
_SHOWN = 40
_YES, _NO = {"1", "true", "yes", "1.0"}, {"", "0", "false", "no", "none", "null", "0.0"}


def shown(value: object) -> str:
    """A value for a message: a few words of it at most, whatever it holds. Never builds the whole text of it."""
    if isinstance(value, str):
        text = repr(printable(value[: _SHOWN + 1]))
        return text if len(value) <= _SHOWN else text[:_SHOWN] + "…'"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value) if abs(value) < 10**20 else "a number of more than 20 digits"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object" if len(value) != 1 else f"an object with {shown(next(iter(value)))}"
    return f"a {type(value).__name__}"


def whole(value: object, field: str) -> int:
    """A whole number of at most 2⁵³, which some exporters write as text or with a point."""
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value.strip().split(".")[0])
    if isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LARGEST:
        raise ValueError(f'"{field}" is {shown(value)}; expected a whole number')
    return value


def finite(value: object, field: str, largest: float = 1e9) -> float:
    """A number that a picture can hold: finite, and no larger than `largest`."""
    if isinstance(value, str) and len(value) <= _SHOWN:
        with contextlib.suppress(ValueError):
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -largest <= value <= largest:
        raise ValueError(f"{field} is {'not a number' if value != value else shown(value)}")
    return float(value)


def points_of(value: object, what: str) -> list[tuple[float, float]]:
    """The corners of a shape: pairs, objects of x and y, or numbers one after the other."""
    if isinstance(value, list) and len(value) % 2 == 0 and not any(isinstance(part, list | dict) for part in value):
        value = [list(pair) for pair in zip(value[::2], value[1::2], strict=True)]
    if isinstance(value, list):
        value = [[part["x"], part["y"]] if isinstance(part, dict) and {"x", "y"} <= part.keys() else part
                 for part in value]  # fmt: skip
    if not isinstance(value, list) or not all(isinstance(part, list) and len(part) == 2 for part in value):
        raise ValueError(f"the points of a {what} are {shown(value)}; expected x y pairs")
    return [(finite(x, f"a coordinate of a {what}"), finite(y, f"a coordinate of a {what}")) for x, y in value]


def counted(count: int, one: str, many: str) -> str:
    """A number with the words that fit it: "1 image has", "3 images have"."""
    return f"{count:,} {one if count == 1 else many}"


def is_finite(value: object, largest: float = 1e15) -> bool:
    """Whether a value is a number that can be calculated with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -largest <= value <= largest


def flag(value: object, field: str) -> bool:
    """Yes or no, in any of the ways that tools write it; null, missing and empty mean no."""
    if value is None or isinstance(value, bool):
        return bool(value)
    text = value.strip().lower() if isinstance(value, str) else f"{value:g}" if is_finite(value) else ""
    if isinstance(value, str | int | float) and text in _YES | _NO:
        return text in _YES
    raise ValueError(f'"{field}" is {shown(value)}; expected 0 or 1')


def side(value: object) -> int | None:
    """A stated width or height in pixels; None if nothing is stated: null, 0, −1, "" and what is no number."""
    try:
        number = whole(value, "")
    except ValueError:
        return None
    return number if 0 < number < 1 << 31 else None


def identity(value: object, field: str) -> str:
    """An id as text, the same for 1, 1.0 and "1"."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise ValueError(f'"{field}" is {shown(value)}; expected a number or a text' if value is not None
                         else f'"{field}" is missing')  # fmt: skip
    if isinstance(value, int):
        return str(whole(value, field))
    return printable(value[:500])


def file_name(value: object, field: str = "file_name") -> str:
    """A name that a file can have."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f'"{field}" is {shown(value)}; expected the name of a file')
    if "\0" in value or any(len(part.encode("utf-8", "surrogatepass")) > 255 for part in re.split(r"[/\\]", value)):
        raise ValueError(f'"{field}" is {shown(value)}, which cannot be a file name')
    return value


def class_name(value: object, number: int) -> str:
    """The name of a class, or "class 7" for one that has none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return f"class {number}"
    return in_one_line(str(value)[:500] if isinstance(value, str) else shown(value))
