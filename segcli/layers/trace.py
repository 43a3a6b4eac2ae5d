"""What a view needs from inside a forward pass, recorded only while somebody asks for it.

    with record("cross_attention") as trace:
        model(batch)
    trace["cross_attention"]   # one entry a layer

| name | recorded | from |
|---|---|---|
| cross_attention | where each query looks, [B, heads, Q, N] fp32 | layers/attention.py |
| self_attention | how the queries look at one another, [B, heads, Q, Q] fp32 | layers/attention.py |
| attention_mask | where each query may look, [B, Q, h, w] bool | models/query_decoders/masked.py |
| sampling | where deformable attention reads in [0, 1], [B, S, heads, levels · points, 2] | layers/deformable.py |
| sampling_weights | and how much of it, [B, S, heads, levels · points] fp32, 1 in sum a head | layers/deformable.py |

Off, a recording point costs one look-up in an empty dictionary.

The other thing traced here is the network as a graph for another runtime:

    with exporting():
        torch.export.export(network, …)

Inside it every shortcut that depends on the device, the dtype or a size is replaced by the definition it computes
(`is_exporting`), and nothing is kept in a cache (`geometry_cache`): sizes are symbols there, tensors stand-ins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_active: dict[str, list[Any]] = {}
_exports: list[bool] = []  # one entry for each `exporting` that is under way


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


@contextmanager
def exporting() -> Iterator[None]:
    """Inside the block a network computes by its definitions alone, so that a trace of it holds for every input."""
    _exports.append(True)
    try:
        yield
    finally:
        _exports.pop()


def is_exporting() -> bool:
    """Whether the network is being traced for another runtime."""
    return bool(_exports)


def geometry_cache(maxsize: int) -> Callable[[Callable[_Parameters, _Result]], Callable[_Parameters, _Result]]:
    """`functools.lru_cache` for what follows from sizes alone, left out while exporting."""

    def decorate(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
        cached = lru_cache(maxsize)(function)

        @wraps(function)
        def call(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
            return function(*args, **kwargs) if _exports else cached(*args, **kwargs)  # type: ignore[arg-type]  # sizes are hashable

        return call

    return decorate
