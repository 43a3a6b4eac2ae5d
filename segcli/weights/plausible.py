"""Checks that a configuration can belong to some tensors, before a network is built from it.

A configuration is text: it may ask for a hundred thousand layers, whose modules alone take hours and gigabytes. Every
layer has tensors and every width is a side of one, so what a file holds bounds both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from segcli.errors import CheckpointError

_LAYERS = ("layers", "depths", "depth")  # how the fields end that count modules
_MOST_TENSORS = 20_000  # of the largest network here, there are 700
_ALWAYS = 4096  # sides that cost nothing to build, whatever the tensors are


def refuse_implausible(config: Any, state: Mapping[str, Tensor], where: str, meant_by: str) -> None:
    """Raises CheckpointError for more layers than the file has tensors, a width above every side of them, or a file of
    more tensors than any network has.
    """
    if len(state) > _MOST_TENSORS:
        raise CheckpointError(f"{where} holds {len(state):,} tensors; no network that segcli runs has so many")
    most = max((side for tensor in state.values() for side in tensor.shape), default=0)
    for name, value in _numbers(config):
        if name.endswith(_LAYERS):
            if value > len(state):
                raise CheckpointError(
                    f"{where} does not fit its {meant_by}: {name} {value:,} need more than its {len(state):,} tensors"
                )
        elif value > max(most, _ALWAYS):
            raise CheckpointError(
                f"{where} does not fit its {meant_by}: {name} is {value:,}, but no tensor has a side above {most:,}"
            )


def _numbers(config: Any) -> Iterator[tuple[str, int]]:
    """The whole numbers of a configuration and of those in it; of numbers of layers, their sum."""
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from _numbers(value)
        elif isinstance(value, tuple) and all(type(part) is int for part in value):
            yield field.name, sum(value) if field.name.endswith(_LAYERS) else max(value, default=0)
        elif type(value) is int:
            yield field.name, value
