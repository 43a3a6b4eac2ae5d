"""What may stand in a `dataset.toml` (see `settings`), as types. Imports pydantic: only for data that have the file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, Strict
from pydantic.dataclasses import dataclass

from segcli.types import Task

_strict = ConfigDict(extra="forbid")
Whole = Annotated[int, Strict(), Field(ge=-(2**31), lt=2**31)]
Byte = Annotated[int, Strict(), Field(ge=0, le=255)]


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _numbered(value: Any) -> Any:
    """Class names by themselves have the ids 0, 1, …"""
    if not isinstance(value, list):
        return value
    return [{"id": index, "name": row} if isinstance(row, str) else row for index, row in enumerate(value)]


@dataclass(frozen=True, kw_only=True, config=_strict)
class ClassRow:
    """One [[classes]] table."""

    id: Whole
    name: str
    thing: Annotated[bool, Strict()] | None = None
    color: tuple[Byte, Byte, Byte] | None = None  # RGB


@dataclass(frozen=True, kw_only=True, config=_strict)
class SplitTable:
    """[train], [val] or [test]: paths relative to the file."""

    images: str | None = None
    labels: str | None = None
    annotations: str | None = None


@dataclass(frozen=True, kw_only=True, config=_strict)
class DatasetTable:
    """The whole file."""

    format: str | None = None
    task: Task | None = None
    ignore: Annotated[tuple[Whole, ...], BeforeValidator(_listed)] | None = None
    boxes: Literal["rectangles"] | None = None
    binary: Annotated[bool, Strict()] = False
    things: frozenset[str] = frozenset()
    stuff: frozenset[str] = frozenset()
    classes: Annotated[tuple[ClassRow, ...], BeforeValidator(_numbered)] = ()
    train: SplitTable | None = None
    val: SplitTable | None = None
    test: SplitTable | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for what contradicts itself."""
        if both := self.things & self.stuff:
            raise ValueError(f"things and stuff both name {', '.join(sorted(both)[:12])}; a class can be one of them")
        ids = [row.id for row in self.classes]
        if twice := sorted({id for id in ids if ids.count(id) > 1}):
            raise ValueError(f"classes: {ids.count(twice[0])} have the id {twice[0]}; every class needs its own")
