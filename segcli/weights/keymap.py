"""Translation of tensor names in state dicts by the tables in `keys/`, both ways, nothing lost."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from segcli.errors import CheckpointError
from segcli.weights.keys.table import Table

# A suffix a row may leave open: parameters and statistics of a layer, nested projections of an attention.
_SUFFIX = r"((?:\.[a-z_]+)*)"


@dataclass(frozen=True)
class _Row:
    """One row of a table: `theirs` are joined along dimension 0 into `ours`."""

    theirs: tuple[str, ...]
    ours: str

    def read(self, name: str) -> tuple[str, int] | None:
        """Their name -> our name and which part of it this is."""
        for part, pattern in enumerate(self.theirs):
            if (found := translate(name, pattern, self.ours)) is not None:
                return found, part
        return None

    def write(self, name: str) -> list[str] | None:
        """Our name -> their names, in order."""
        found = [translate(name, self.ours, pattern) for pattern in self.theirs]
        return None if found[0] is None else [f for f in found if f is not None]


def translate(name: str, source: str, target: str) -> str | None:
    """`name` under the pattern `target` if it fits the pattern `source`, else None."""
    if not name.startswith(source.partition("*")[0]):  # most rows, without trying the pattern
        return None
    match = _pattern(source).fullmatch(name)
    if match is None:
        return None
    *indices, suffix = match.groups()
    return target.replace("*", "{}").format(*indices) + suffix


@cache
def _pattern(row: str) -> re.Pattern[str]:
    return re.compile(re.escape(row).replace(r"\*", r"(\d+)") + _SUFFIX)


class KeyMap:
    """Names of one network in its files and here.

    constants: what a file holds that is no weight here, made when one is written.
    defaults: tensors of ours that a file may lack.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        constants: Callable[[], dict[str, Tensor]] = dict,
        defaults: Callable[[], dict[str, Tensor]] = dict,
    ) -> None:
        self.constants, self.defaults = constants, defaults
        self.moved = {old: new for table in tables for old, new in table.moved.items()}
        self.unpacked = {name for table in tables for name in table.unpacked}
        self.aliases = {old: new for table in tables for old, new in table.aliases.items()}
        self.dropped = re.compile("|".join(f"(?:{pattern})" for table in tables for pattern in table.dropped))
        self.rows = [_Row(theirs, ours) for table in tables for theirs, ours in table.joined.items()] + [
            _Row((theirs,), ours) for table in tables for theirs, ours in table.renamed.items()
        ]

    def read(self, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Their tensors -> ours, and the names no row knows."""
        ours: dict[str, Tensor] = {}
        parts: dict[str, dict[int, Tensor]] = {}
        unknown = []
        for name, tensor in state.items():
            name = self._canonical(name)
            if self.dropped.fullmatch(name):
                continue
            if name in self.unpacked and tensor.shape[:1] == (1,):
                tensor = tensor[0]
            for row in self.rows:
                if (found := row.read(name)) is not None:
                    own = _renamed(found[0], self.moved)
                    if len(row.theirs) == 1:
                        ours[own] = tensor
                    else:
                        parts.setdefault(own, {})[found[1]] = tensor
                    break
            else:
                unknown.append(name)
        for name, pieces in parts.items():
            if len(pieces) < len(self.names(name)):
                continue
            try:
                ours[name] = torch.cat([pieces[i] for i in range(len(pieces))])
            except RuntimeError as error:
                shapes = ", ".join(str(tuple(pieces[i].shape)) for i in range(len(pieces)))
                raise CheckpointError(f"the parts of {name} do not fit together: {shapes}") from error
        return self.defaults() | ours, unknown

    def write(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Our tensors -> theirs, with what they store beside the weights."""
        theirs: dict[str, Tensor] = {}
        for name, tensor in state.items():
            names = self.names(name)
            pieces = tensor.chunk(len(names)) if len(names) > 1 else (tensor,)
            for their_name, piece in zip(names, pieces, strict=True):
                theirs[their_name] = piece.contiguous()
        theirs |= self.constants()
        return theirs

    def names(self, name: str) -> list[str]:
        """Their names of one of our tensors, several if they store it in parts."""
        name = _renamed(name, {new: old for old, new in self.moved.items()})
        for row in self.rows:
            if (found := row.write(name)) is not None:
                return found
        raise KeyError(name)

    def _canonical(self, name: str) -> str:
        for new, old in self.aliases.items():
            name = name.replace(new, old)
        return name


def _renamed(name: str, prefixes: Mapping[str, str]) -> str:
    """With the prefix that it has replaced, if it has one of these."""
    for old, new in prefixes.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
