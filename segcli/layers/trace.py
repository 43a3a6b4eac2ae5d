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
