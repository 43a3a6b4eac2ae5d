"""What every configuration reader checks. A setting this code cannot build would load and answer wrongly."""

from __future__ import annotations

from typing import Any

from segcli.errors import CheckpointError, shown
from segcli.files.fields import Fields

MOST_CLASSES = 100_000
MOST_LAYERS = 1_000  # in one part of a network
_MOST = 1_000_000  # of widths and the like; a checkpoint's tensors bound them closer (weights/plausible.py)


def check_facts(raw: dict[str, Any], facts: dict[str, Any], where: str) -> None:
    """Raises CheckpointError for a setting that is there and is not what the code here is built for."""
    for name, expected in facts.items():
        found = raw.get(name, expected)
        if (list(found) if isinstance(found, tuple) else found) != expected:
            raise CheckpointError(f"{where}: {name} is {shown(found)}; segcli supports {expected!r}")


def settings(raw: Any, where: str) -> Fields:
    """An object of a configuration, whose entries raise CheckpointError."""
    return Fields(raw, where, CheckpointError)


def numbers(raw: dict[str, Any], names: dict[str, str], where: str) -> dict[str, int]:
    """Those of the fields that are there: {our name: their name} -> {our name: positive whole number}."""
    found = settings(raw, where)
    return {
        ours: found.whole(theirs, least=1, most=MOST_LAYERS if theirs.endswith("layers") else _MOST)
        for ours, theirs in names.items()
        if theirs in raw
    }


def share(raw: dict[str, Any], name: str, default: float, where: str) -> float:
    """A number from 0 to 1, such as a probability."""
    return settings(raw, where).number(name, default, least=0, most=1)


def per_stage(raw: dict[str, Any], name: str, default: tuple[int, ...], where: str) -> tuple[int, ...]:
    """A positive whole number for each of a backbone's four stages."""
    most = MOST_LAYERS if name == "depths" else _MOST
    return settings(raw, where).wholes(name, len(default), least=1, most=most) if name in raw else default


def class_count(raw: dict[str, Any], where: str) -> int:
    """How many classes the file names. transformers leaves its default out: two, without names of their own."""
    names = raw.get("id2label")
    count = len(names) if isinstance(names, dict) and names else raw.get("num_labels", 2 if names is None else None)
    if type(count) is not int or not 1 <= count <= MOST_CLASSES:
        raise CheckpointError(f"{where}: id2label is missing, so the number of classes is unknown")
    return count


def check_heads(hidden_dim: int, heads: int, where: str) -> None:
    """Raises CheckpointError for attention heads of unequal width."""
    if hidden_dim % heads:
        raise CheckpointError(f"{where}: hidden_dim {hidden_dim} is not a multiple of num_attention_heads {heads}")
