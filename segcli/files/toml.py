"""TOML files that people write by hand: read as tables, and held against the types that describe them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from segcli import errors
from segcli.errors import UsageError
from segcli.files.text import read_text

T = TypeVar("T")
_VAST = 1e6  # limits beyond are the machine's: nobody needs to be told
_LONGEST = 60  # characters of a wrong value that are shown


def read_toml(file: Path) -> dict[str, Any]:
    """The tables of a file. Raises UsageError for a file that cannot be read or is not TOML."""
    try:
        return tomllib.loads(read_text(file))
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, tables thousands deep
        raise UsageError(f"{file}: not valid TOML ({str(error)[:200]})") from error


class Flaw(Exception):
    """The first thing that is wrong with some tables."""

    def __init__(self, path: tuple[str | int, ...], text: str, *, is_unknown: bool = False) -> None:
        super().__init__(text)
        self.path = path  # keys and positions that lead to it
        self.text = text  # what is wrong, to be read after the name of the key; of an unknown key, of its table
        self.is_unknown = is_unknown

    @property
    def sentence(self) -> str:
        """Where it is and what is wrong: "[table] key = 3; expected …"."""
        where = [f"[{part}]" if isinstance(part, str) else f"entry {part + 1}" for part in self.path[:-1]]
        key = [] if self.is_unknown or not self.path else [str(self.path[-1])]
        return " ".join([*where, *key, self.text])


def checked(kind: type[T], tables: object) -> T:
    """The tables as a pydantic dataclass. Raises Flaw where they do not fit it."""
    from pydantic import TypeAdapter, ValidationError

    adapter = TypeAdapter(kind)
    try:
        return adapter.validate_python(tables)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    path = first["loc"]
    if first["type"] == "value_error":  # a check of our own, which has said it in its own words
        raise Flaw(path, str(first["ctx"]["error"]))
    schema = adapter.json_schema()
    if first["type"] == "unexpected_keyword_argument":
        known = ", ".join(_inside(schema, path[:-1])["properties"])
        raise Flaw(path, f"has no key {path[-1]!r}; it has {known}", is_unknown=True)
    if first["type"] in ("missing", "missing_argument") and isinstance(path[-1], str):
        raise Flaw(path, f"is missing; expected {in_words(_inside(schema, path))}")
    # Of a list of numbers that is wrong in one place all is shown: a position says little.
    own = max((number for number, part in enumerate(path, start=1) if isinstance(part, str)), default=0)
    value = first["input"] if own == len(path) else _value_at(tables, path[:own])
    raise Flaw(path[:own], f"= {shown(value)}; expected {in_words(_inside(schema, path[:own]))}")


def _value_at(tables: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        tables = tables[part]
    return tables


def shown(value: object) -> str:
    """A value for a message, cut short."""
    value = list(value) if isinstance(value, tuple) else value
    try:
        text = str(value).lower() if isinstance(value, bool) else repr(value)
    except (ValueError, RecursionError):  # 0x… of thousands of digits, lists hundreds deep
        return errors.shown(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _inside(schema: dict[str, Any], path: tuple[str | int, ...]) -> dict[str, Any]:
    """The part of a JSON schema that a path leads to."""
    part = _plain(schema, schema.get("$defs", {}))
    for key in path:
        part = part["items"] if isinstance(key, int) else part["properties"][key]
    return part


def _plain(part: Any, named: dict[str, Any]) -> Any:
    """A JSON schema without references and without the `null` around what may be left out."""
    if isinstance(part, list):
        return [_plain(item, named) for item in part]
    if not isinstance(part, dict):
        return part
    if "anyOf" in part:
        return _plain(next(option for option in part["anyOf"] if option.get("type") != "null"), named)
    if "$ref" in part:
        return _plain(named[part["$ref"].rpartition("/")[2]], named)
    return {key: _plain(item, named) for key, item in part.items() if key != "$defs"}


def in_words(schema: dict[str, Any]) -> str:
    """What a JSON schema accepts, for a person."""
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if schema["type"] == "array":
        items = schema["prefixItems"][0] if "prefixItems" in schema else schema["items"]
        count = f" of {schema['maxItems']}" if "maxItems" in schema else ""
        return f"a list{count}, each {in_words(items)}"
    if schema["type"] == "object":
        return f"a table with {', '.join(schema['properties'])}"
    kinds = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text in quotes"}
    kind = kinds[schema["type"]]
    low, high, below = (schema.get(name) for name in ("minimum", "maximum", "exclusiveMaximum"))
    if low is not None and high is not None:
        return f"{kind} from {low:g} to {high:g}"
    limits = [
        f"above {schema['exclusiveMinimum']:g}" if "exclusiveMinimum" in schema else "",
        f"of at least {low:g}" if low is not None and low > -_VAST else "",
        f"below {below:g}" if below is not None and below < _VAST else "",
    ]
    multiple = [f"a multiple of {schema['multipleOf']}"] if "multipleOf" in schema else []
    return ", ".join([" ".join([kind, " and ".join(filter(None, limits))]).strip(), *multiple])
