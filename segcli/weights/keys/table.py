"""The form of a table of names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """Names of one part of a network: theirs on the left, ours on the right.

    In a name `*` stands for one index. One that ends before `.weight`, `.bias` or a statistic covers all of them.
    Of several rows for one tensor here all are read, and the first is written, those of `joined` before `renamed`.
    """

    renamed: Mapping[str, str]
    # Tensors that lie apart in their files and are one tensor here, joined along dimension 0.
    joined: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)  # other spellings that are read as the second one
    dropped: tuple[str, ...] = ()  # patterns of what a file may hold and nothing here reads: computed, or never used
    # Prefixes of names here, after the rows: {as the rows have it: as it is}.
    moved: Mapping[str, str] = field(default_factory=dict)
    unpacked: tuple[str, ...] = ()  # their tensors whose first dimension, of 1, is not here


def split_attention(theirs: str, ours: str) -> dict[tuple[str, ...], str]:
    """Rows for an attention whose query, key and value projections are stored apart, `q_proj`, `k_proj`, `v_proj`."""
    return {
        tuple(f"{theirs}.{part}_proj.{kind}" for part in "qkv"): f"{ours}.in_proj_{kind}" for kind in ("weight", "bias")
    }
