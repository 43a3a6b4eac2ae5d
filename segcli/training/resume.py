"""Which run is to be continued, and whether what was asked for agrees with it. Torch-free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segcli.errors import UsageError
from segcli.files.toml import read_toml
from segcli.training.recipe import Recipe, Tables, to_tables
from segcli.training.record.run_files import CONFIG
from segcli.training.resolve import resolve
from segcli.weights.hub import own_folder

# What may differ between a run and its continuation: it changes how fast the same numbers come, not the numbers.
_FREE = {
    ("data", "path"),  # the same images may lie elsewhere now; the fingerprint tells whether they are the same
    ("loss", "teacher"),  # so with its weights
    ("run", "workers"),
    ("run", "checkpoint_every"),
    ("run", "log"),
    ("validate", "patience"),
}


def resumed_recipe(out: Path, preset: str | None, config: Path | None, options: Tables) -> Recipe:
    """The recipe in a run's folder. What else was given must agree with it, but for what cannot change the result."""
    path = out / CONFIG
    if not path.is_file():
        raise UsageError(f"{out} has no {CONFIG}: there is no run to resume; leave out --resume")
    begun = resolve(None, path, {})
    if config is not None:
        resolve(preset, config, options)  # says what is wrong with the file by itself
    before = to_tables(begun)
    given: Tables = {}
    for tables in ([read_toml(config)] if config else []) + [options]:
        for name, table in tables.items():
            if name != "preset":
                given.setdefault(name, {}).update(table)
    changed = []
    for name, table in given.items():
        for key, value in table.items():
            old = before.get(name, {}).get(key)
            if key == "reference_batch" and "lr" in table:  # comes with --lr, which is compared
                continue
            if (name, key) not in _FREE and not _same(name, key, old, value):
                changed.append(f"{key} was {old}, now {value}")
    if preset not in (None, begun.preset):
        changed.append(f"preset was {begun.preset}, now {preset}")
    if changed:
        raise UsageError(
            f"--resume: the run in {out} was started with other settings: {'; '.join(changed)}. Leave them out, or "
            f"start a new run{from_last(out)}"
        )
    free = {name: {k: v for k, v in table.items() if (name, k) in _FREE} for name, table in given.items()}
    recipe = resolve(None, path, {name: table for name, table in free.items() if table})
    if recipe.data.path is not None and not Path(recipe.data.path).exists():
        raise UsageError(
            f"--resume: the data of the run in {out} is not in {recipe.data.path}; if it has moved, say where: "
            f"segcli train DATA --resume --out {out}"
        )
    teacher = Path(recipe.loss.teacher or "")
    if teacher.is_absolute() and not teacher.exists():
        raise UsageError(
            f"--resume: the teacher of the run in {out} is not in {teacher}; if it has moved, say where: segcli train "
            f"--resume --out {out} --teacher MODEL"
        )
    return recipe


def _same(name: str, key: str, old: Any, value: Any) -> bool:
    if (name, key) in (("schedule", "batch"), ("run", "dtype")) and value in (0, "auto"):
        return True
    if (name, key) == ("model", "start") and old == str(own_folder(value).resolve()):
        return True
    return old == (tuple(value) if isinstance(value, list) else value)


def from_last(out: Path) -> str:
    """How to take up what a run has learnt, if it has come that far."""
    return f" from it with --model {out / 'last'}" if (out / "last").is_dir() else ""
