"""What every configuration reader checks. A setting this code cannot build would load and answer wrongly."""

from __future__ import annotations

from typing import Any

from segcli.errors import CheckpointError


def check_facts(raw: dict[str, Any], facts: dict[str, Any], where: str) -> None:
    """Raises CheckpointError for a setting that is there and is not what the code here is built for."""
    for name, expected in facts.items():
        found = raw.get(name, expected)
        if (list(found) if isinstance(found, tuple) else found) != expected:
            raise CheckpointError(f"{where}: {name} is {found!r}; segcli supports {expected!r}")


def positive(raw: dict[str, Any], name: str, where: str) -> int:
    """A positive whole number, or CheckpointError."""
    value = raw[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"{where}: {name} is {value!r}, not a positive whole number")
    return value


def numbers(raw: dict[str, Any], names: dict[str, str], where: str) -> dict[str, int]:
    """Those of the fields that are there: {our name: their name} -> {our name: positive whole number}."""
    return {ours: positive(raw, theirs, where) for ours, theirs in names.items() if theirs in raw}


def class_count(raw: dict[str, Any], where: str) -> int:
    """How many classes the file names."""
    names = raw.get("id2label")
    count = len(names) if isinstance(names, dict) and names else raw.get("num_labels")
    if not isinstance(count, int) or count < 1:
        raise CheckpointError(f"{where}: id2label is missing, so the number of classes is unknown")
    return count


def check_heads(hidden_dim: int, heads: int, where: str) -> None:
    """Raises CheckpointError for attention heads of unequal width."""
    if hidden_dim % heads:
        raise CheckpointError(f"{where}: hidden_dim {hidden_dim} is not a multiple of num_attention_heads {heads}")
