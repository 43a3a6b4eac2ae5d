"""Objects of JSON, TOML and YAML files, whose entries are checked as they are taken.

    row = Fields(value, "results.json: annotation 3")
    row.whole("id", least=0), row.text("file_name"), row.sub("size").whole("height", least=1)

Whatever a file holds in their place, the error is one line that names the file, the entry, its value cut short, and
what it must be. Nothing read through this can be of another kind than it is declared as.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Any, TypeVar

from segcli.errors import InputError, SegcliError, kind_of, shown

_MISSING: Any = object()
_Default = TypeVar("_Default")
MOST = 2**31 - 1  # of whole numbers unless said otherwise: counts, and ids that must fit every format
MOST_ID = 2**53  # of the ids in files of any tool, some of which are made of a time or a hash


class Fields:
    """One object. where: the file and the place in it; error: what is raised."""

    def __init__(self, raw: Any, where: str, error: type[SegcliError] = InputError) -> None:
        if not isinstance(raw, dict):
            raise error(f"{where} is {kind_of(raw)} ({shown(raw)}); expected an object with names and values")
        self.raw, self.where, self.error = raw, where, error

    def __contains__(self, name: str) -> bool:
        return name in self.raw

    def wrong(self, name: str, expected: str) -> SegcliError:
        """The error for an entry that is not what it must be."""
        if name not in self.raw:
            return self.error(f"{self.where}: {name} is missing; expected {expected}")
        return self.error(f"{self.where}: {name} is {shown(self.raw[name])}; expected {expected}")

    def only(self, known: Collection[str]) -> None:
        """Refuse entries of other names."""
        if unknown := sorted(str(name) for name in self.raw if name not in known):
            raise self.error(f"{self.where}: unknown {', '.join(shown(name) for name in unknown[:5])}")

    # ------------------------------------------------------------------------------------------------- single values

    def whole(self, name: str, default: _Default = _MISSING, *, least: int = 0, most: int = MOST) -> int | _Default:
        """A whole number; 3.0 is one, as some tools write it."""
        if name not in self.raw and default is not _MISSING:
            return default
        value = whole(self.raw.get(name), least, most)
        if value is None:
            raise self.wrong(name, f"a whole number{_between(least, most)}")
        return value

    def number(
        self, name: str, default: _Default = _MISSING, *, least: float = -math.inf, most: float = math.inf
    ) -> float | _Default:
        """A finite number."""
        if name not in self.raw and default is not _MISSING:
            return default
        value = finite(self.raw.get(name))
        if value is None or not least <= value <= most:
            raise self.wrong(name, f"a number{_between(least, most)}")
        return value

    def text(self, name: str, default: _Default = _MISSING) -> str | _Default:
        """Text."""
        if name not in self.raw and default is not _MISSING:
            return default
        value = self.raw.get(name)
        if not isinstance(value, str):
            raise self.wrong(name, "text")
        return value

    def file_name(self, name: str) -> str:
        """Text that a file can be named by, with its folders."""
        value = self.text(name)
        if not is_file_name(value):
            raise self.wrong(name, "a name that a file can have")
        return value

    def flag(self, name: str, default: _Default = _MISSING) -> bool | _Default:
        """True or false, also as 1 or 0."""
        if name not in self.raw and default is not _MISSING:
            return default
        value = self.raw.get(name)
        if value is True or value is False or (type(value) in (int, float) and value in (0, 1)):
            return bool(value)
        raise self.wrong(name, "true or false")

    def one_of(self, name: str, choices: Collection[Any], default: _Default = _MISSING) -> Any:
        """One of a few values."""
        if name not in self.raw and default is not _MISSING:
            return default
        value = self.raw.get(name)
        for choice in choices:
            if type(value) is type(choice) and value == choice:
                return choice
        raise self.wrong(name, f"one of {', '.join(map(str, choices))}")

    # ---------------------------------------------------------------------------------------------------- containers

    def values(self, name: str, default: _Default = _MISSING) -> list[Any] | _Default:
        """A list of anything."""
        if name not in self.raw and default is not _MISSING:
            return default
        value = self.raw.get(name)
        if not isinstance(value, list | tuple):
            raise self.wrong(name, "a list")
        return list(value)

    def rows(self, name: str, default: _Default = _MISSING) -> Iterator[Fields]:
        """The objects of a list, each of which says its place in errors."""
        for number, value in enumerate(self.values(name, default) or ()):  # type: ignore[arg-type]
            yield Fields(value, f"{self.where}: {name}[{number}]", self.error)

    def sub(self, name: str) -> Fields:
        """An object in this one."""
        if name not in self.raw:
            raise self.wrong(name, "an object")
        return Fields(self.raw[name], f"{self.where}: {name}", self.error)

    def wholes(self, name: str, count: int | None = None, *, least: int = 0, most: int = MOST) -> tuple[int, ...]:
        """A list of whole numbers, of a certain length."""
        raw = self.values(name)
        found = [value for part in raw if (value := whole(part, least, most)) is not None]
        if len(found) < len(raw) or count not in (None, len(found)):
            raise self.wrong(name, f"{'' if count is None else f'{count} '}whole numbers{_between(least, most)}")
        return tuple(found)

    def numbers(self, name: str, count: int, *, least: float = -math.inf, most: float = math.inf) -> tuple[float, ...]:
        """A list of finite numbers, of a certain length."""
        found = [finite(part) for part in self.values(name)]
        numbers = tuple(value for value in found if value is not None and least <= value <= most)
        if len(numbers) < len(found) or len(found) != count:
            raise self.wrong(name, f"{count} numbers{_between(least, most)}")
        return numbers


def whole(value: Any, least: int = 0, most: int = MOST) -> int | None:
    """A value as a whole number between two others, or None; 3.0 is one, True is none."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return value if type(value) is int and least <= value <= most else None


def is_file_name(text: str) -> bool:
    """Whether a file system takes a path: no zero byte, no part above 240 bytes, to which endings are added."""
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    parts = raw.replace(b"\\", b"/").split(b"/")
    return 0 < len(raw) < 4000 and b"\0" not in raw and all(len(part) <= 240 for part in parts)


def finite(value: Any) -> float | None:
    """A value as a finite number, or None."""
    if type(value) is int and value.bit_length() < 1000:
        return float(value)
    return value if type(value) is float and math.isfinite(value) else None


def _between(least: float, most: float) -> str:
    """The limits in words, but for those that only keep numbers within their type."""
    low = None if least in (-math.inf, -MOST, -MOST_ID) else f"{least:,}" if isinstance(least, int) else f"{least:g}"
    high = None if most in (math.inf, MOST, MOST_ID) else f"{most:,}" if isinstance(most, int) else f"{most:g}"
    if low is None or high is None:
        return f" of at least {low}" if low else f" of at most {high}" if high else ""
    return f" from {low} to {high}"
