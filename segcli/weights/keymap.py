"""Foreign tensor names stop here: translation of state dicts by the tables in `keys/`, both ways, nothing lost.

In a table `*` stands for one index. A row whose name ends before `.weight`, `.bias` or a statistic covers all of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from segcli.config import EfficientNetLite0Config, Mask2FormerConfig, ResNetConfig, SwinConfig
from segcli.errors import CheckpointError
from segcli.weights.keys import efficientnet_lite, mask2former, resnet, swin

# A suffix a row may leave open: parameters and statistics of a layer, nested projections of an attention.
_SUFFIX = r"((?:\.[a-z_]+)*)"
# Computed or never used: dropped on reading, restored on writing where transformers would miss them.
_DERIVED = re.compile(r"(criterion\.empty_weight|.*\.relative_position_index|.*\.encoder\.layernorm\.(weight|bias))$")


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
    match = re.fullmatch(re.escape(source).replace(r"\*", r"(\d+)") + _SUFFIX, name)
    if match is None:
        return None
    *indices, suffix = match.groups()
    return target.replace("*", "{}").format(*indices) + suffix


class KeyMap:
    """Names of one architecture in Hugging Face checkpoints and here."""

    def __init__(self, config: Mask2FormerConfig) -> None:
        self.config = config
        backbone = {SwinConfig: swin, ResNetConfig: resnet, EfficientNetLite0Config: efficientnet_lite}
        tables = (backbone[type(config.backbone)], mask2former)
        self.aliases = {old: new for table in tables for old, new in table.ALIASES.items()}
        self.rows = [
            _Row(theirs if isinstance(theirs, tuple) else (theirs,), ours)
            for theirs, ours in chain.from_iterable([*table.JOINED.items(), *table.RENAMED.items()] for table in tables)
        ]

    def read(self, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Their tensors -> ours, and the names no row knows."""
        ours: dict[str, Tensor] = {}
        parts: dict[str, dict[int, Tensor]] = {}
        unknown = []
        for name, tensor in state.items():
            name = self._canonical(name)
            if _DERIVED.fullmatch(name):
                continue
            for row in self.rows:
                if (found := row.read(name)) is not None:
                    if len(row.theirs) == 1:
                        ours[found[0]] = tensor
                    else:
                        parts.setdefault(found[0], {})[found[1]] = tensor
                    break
            else:
                unknown.append(name)
        for name, pieces in parts.items():
            if sorted(pieces) == [0, 1, 2]:
                try:
                    ours[name] = torch.cat([pieces[i] for i in range(3)])
                except RuntimeError as error:
                    shapes = ", ".join(str(tuple(pieces[i].shape)) for i in range(3))
                    raise CheckpointError(f"query, key and value of {name} do not fit together: {shapes}") from error
        return ours, unknown

    def write(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Our tensors -> theirs, with what they store beside the weights."""
        theirs: dict[str, Tensor] = {}
        for name, tensor in state.items():
            names = self.names(name)
            pieces = tensor.chunk(len(names)) if len(names) > 1 else (tensor,)
            for their_name, piece in zip(names, pieces, strict=True):
                theirs[their_name] = piece.contiguous()
        theirs["criterion.empty_weight"] = torch.ones(self.config.num_classes + 1)
        theirs["criterion.empty_weight"][-1] = self.config.no_object_weight
        if isinstance(self.config.backbone, SwinConfig):
            # transformers 5 gives its backbone a final norm that nothing reads, and misses it if a file has none.
            dim = self.config.backbone.embed_dim * 2 ** (len(self.config.backbone.depths) - 1)
            theirs[f"{swin.ENCODER}.swin.layernorm.weight"] = torch.ones(dim)
            theirs[f"{swin.ENCODER}.swin.layernorm.bias"] = torch.zeros(dim)
        return theirs

    def names(self, name: str) -> list[str]:
        """Their names of one of our tensors, several if they store it in parts."""
        for row in self.rows:
            if (found := row.write(name)) is not None:
                return found
        raise KeyError(name)

    def _canonical(self, name: str) -> str:
        for new, old in self.aliases.items():
            name = name.replace(new, old)
        return name
