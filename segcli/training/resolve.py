"""Which recipe is meant: preset, `--config` file and options on top of each other.

The tables of `presets/small.toml` are the defaults; another preset or a `--config` file names what it changes. What a
run really used is written into its folder in the same form and can be given back. Torch-free.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segcli.config import MODEL_TYPES
from segcli.errors import UsageError
from segcli.files.toml import Flaw, checked, read_toml, shown
from segcli.training.presets import read_preset
from segcli.training.recipe import TABLES, Recipe, Tables
from segcli.weights.manifest import family_of

# Keys that exclude each other, and why; of each pair the one named last holds.
_RIVALS = {
    ("model", "start", "backbone"): "a checkpoint has its backbone already",
    ("schedule", "steps", "epochs"): "both say how long",
}


def resolve(
    preset: str | None, config: Path | None, options: Tables, spelled: Mapping[tuple[str, str], str] | None = None
) -> Recipe:
    """small ← preset ← architecture ← config file ← options, later ones winning.

    spelled: the option behind a table's key, for messages. Raises UsageError for unknown keys and wrong values.
    """
    given = dict(read_toml(config)) if config else {}
    chosen = preset or given.pop("preset", None) or "small"
    given.pop("preset", None)
    if not isinstance(chosen, str):
        raise UsageError(f"{config}: preset = {shown(chosen)}; expected a name in quotes")
    for (name, one, other), why in _RIVALS.items():
        if {one, other} <= options.get(name, {}).keys():
            names = [(spelled or {}).get((name, key), key) for key in (one, other)]
            raise UsageError(f"{' and '.join(names)}: {why}; give one of them")
    merged: Tables = {name: {} for name in TABLES}
    sources: dict[tuple[str, str], str] = {}  # what named a value last
    for source, tables in (
        ("presets/small.toml", read_preset("small")),
        (f"presets/{chosen}.toml", read_preset(chosen)),
        ("the architecture", _of_architecture(given.get("model"), options.get("model"))),
        (str(config), given),
        ("options", options),
    ):
        for name, table in tables.items():
            if name not in TABLES or not isinstance(table, Mapping):
                raise UsageError(f"{source}: unknown table or key {name!r}; the tables are {', '.join(TABLES)}")
            for rivals in (pair for table_name, *pair in _RIVALS if table_name == name):
                if any(key in table for key in rivals):
                    merged[name] = {key: value for key, value in merged[name].items() if key not in rivals}
            table = _renamed(table) if name == "run" else table
            merged[name] |= table
            sources |= {(name, key): source for key in table}
    try:
        return checked(Recipe, {**_with_tuples(merged), "preset": chosen})
    except Flaw as flaw:
        raise UsageError(_told(flaw, sources, spelled or {})) from None


def _renamed(run: Mapping[str, Any]) -> dict[str, Any]:
    """[run] with today's names: what earlier runs have in their config.toml, so that they can be resumed."""
    table = dict(run)
    if table.pop("tensorboard", False):
        table.setdefault("log", ["tensorboard"])
    if "precision" in table and "dtype" not in table:
        table["dtype"] = table.pop("precision")
    return table


def _of_architecture(*tables: Any) -> Tables:
    """What a published recipe of the architecture says, as far as [model] tells which one it is."""
    model: dict[str, Any] = {}
    for table in tables:
        model |= table if isinstance(table, Mapping) else {}
    arch, backbone = model.get("arch"), str(model.get("backbone") or "")
    if model.get("start") and isinstance(model["start"], str):
        arch, backbone = family_of(model["start"])
    kind = MODEL_TYPES.get(arch) if isinstance(arch, str) else None
    return {name: dict(table) for name, table in kind.recipe(backbone).items()} if kind else {}


def _told(flaw: Flaw, sources: Mapping[tuple[str, str], str], spelled: Mapping[tuple[str, str], str]) -> str:
    """What is wrong, with the place it was written in."""
    if not flaw.path:
        return flaw.text  # about several values, which it names
    table, text = str(flaw.path[0]), flaw.text
    if len(flaw.path) > 1:
        key = str(flaw.path[1])
    else:  # a check of a whole table, which names the key itself
        key, text = text.split(" ", 1)
    source = sources.get((table, key), "options")
    if source == "options" and (table, key) in spelled:
        return f"{spelled[table, key]} {text.removeprefix('= ')}"
    where = f"[{table}]" if source == "options" else f"{source}: [{table}]"
    return f"{where} {text}" if flaw.is_unknown else f"{where} {key} {text}"


def _with_tuples(value: Any) -> Any:
    """TOML's lists as tuples, so that tables can be compared."""
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
