"""What a view needs from inside a forward pass, recorded only while somebody asks for it.

    with record("attention") as trace:
        model(batch)
    trace["attention"]   # one entry a layer

Off, a recording point costs one look-up in an empty dictionary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_active: dict[str, list[Any]] = {}


@contextmanager
def record(*names: str) -> Iterator[dict[str, list[Any]]]:
    """Record the named quantities of every forward pass inside the block; yields {name: [value, ...]}."""
    trace: dict[str, list[Any]] = {name: [] for name in names}
    previous = dict(_active)
    _active.update(trace)
    try:
        yield trace
    finally:
        _active.clear()
        _active.update(previous)


def save(name: str, value: Callable[[], Any]) -> None:
    """Keep value() under `name` if that name is being recorded; otherwise value is never computed."""
    if name in _active:
        _active[name].append(value())
