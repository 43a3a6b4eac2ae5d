"""Known checkpoints, described before one is opened: `weights.toml` and the label tables beside this file.

The numbers a checkpoint was published with depend on its test size, its merge rule and its label order. The Hub's files
say none of them right (or at all), so they live here.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from segcli.config import MODEL_TYPES, parse_config
from segcli.errors import CheckpointError
from segcli.files.json_file import read_object
from segcli.types import InferenceSpec, InputSize, Label, LabelSet, MergeRule, Task

_HERE = Path(__file__).resolve().parent
_BUNDLED = _HERE.parent / "bundled"


@dataclass(frozen=True)
class ManifestEntry:
    """One row of weights.toml, where every field is explained."""

    name: str
    family: str
    tasks: tuple[Task, ...]
    size: InputSize
    rule: MergeRule
    metrics: Mapping[str, float]  # the headline first
    licence: str
    verified: bool
    backbone: str
    parameters: int
    labels: str | None = None  # name of the label table; None: as the checkpoint names its classes
    repo: str | None = None
    revision: str | None = None
    weights: str | None = None
    bundled: str | None = None
    megabytes: float | None = None
    pretrained: str | None = None
    queries: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    measured: str | None = None
    note: str | None = None

    @property
    def bundled_folder(self) -> Path | None:
        """The folder inside the package, for a model that ships with segcli."""
        return _BUNDLED / self.bundled if self.bundled else None

    @property
    def headline(self) -> str:
        """The published metric in words: "PQ 53.2"; "-" if there is none."""
        return next((f"{name} {value:.1f}" for name, value in self.metrics.items()), "-")

    @property
    def status(self) -> str:
        """Whether the headline was measured with segcli ("verified") or only by its authors ("published")."""
        return "verified" if self.verified else "published"

    def spec(self, named: LabelSet | None = None) -> InferenceSpec:
        """Everything outside the network that the published metrics depend on.

        named: the classes of the checkpoint's own files, for a row without a label table.
        """
        labels = label_table(self.labels) if self.labels else named or LabelSet(())
        pixels: dict[str, Any] = {key: value for key in ("mean", "std") if (value := getattr(self, key)) is not None}
        return InferenceSpec(tasks=self.tasks, labels=labels, size=self.size, rule=self.rule, **pixels)


@dataclass(frozen=True)
class Manifest:
    """The whole of weights.toml: the rows by name, the name each task uses when none is given, and "offline": the one
    that ships with segcli and stands in for those."""

    entries: Mapping[str, ManifestEntry]
    defaults: Mapping[str, str]


def read_manifest(path: Path) -> Manifest:
    """Parse a weights.toml. Raises ValueError naming the row that has an unknown key or lacks one."""
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    entries = {name: _entry(name, row) for name, row in document["models"].items()}
    return Manifest(MappingProxyType(entries), MappingProxyType(document["defaults"]))


def _entry(name: str, row: dict[str, Any]) -> ManifestEntry:
    try:
        values = dict(row)
        family = MODEL_TYPES.get(row.get("family", ""))  # without one the row is refused below
        values["size"] = replace(family.size if family else InputSize(), **row["size"])
        values["rule"] = replace(family.rule if family else MergeRule(), **row["rule"])
        values["metrics"] = MappingProxyType(row["metrics"])
        for key in ("tasks", "mean", "std"):
            if key in row:
                values[key] = tuple(row[key])
        entry = ManifestEntry(name=name, **values)
    except (KeyError, TypeError) as error:
        known = ", ".join(field.name for field in fields(ManifestEntry))
        raise ValueError(f"weights.toml, [models.{name}]: {error}; a row has the keys {known}") from error
    if (entry.repo is None) == (entry.bundled is None):
        raise ValueError(f"weights.toml, [models.{name}]: exactly one of repo and bundled says where the model is")
    return entry


@cache
def _manifest() -> Manifest:
    # In a wheel the file lies beside this module, in a checkout at the root of the repository.
    installed = _HERE / "weights.toml"
    return read_manifest(installed if installed.is_file() else _HERE.parents[1] / "weights.toml")


def manifest() -> Mapping[str, ManifestEntry]:
    """Every checkpoint known by name, in the order of weights.toml."""
    return _manifest().entries


def default_for(task: Task) -> str:
    """The name of the model a task uses when the user names none."""
    return _manifest().defaults[task]


def models_for(task: Task) -> str:
    """Which models do a task, in words for a message: those that ship with segcli, its default, and the first of every
    other family."""
    entries = manifest()
    default = entries[default_for(task)]
    others = {entry.family: entry.name for entry in reversed(list(entries.values())) if task in entry.tasks}
    others.pop(default.family, None)
    bundled = [entry.name for entry in entries.values() if entry.bundled and task in entry.tasks]
    names = [name for name in (default.name, *reversed(others.values())) if name not in bundled]
    ready = f"{' and '.join(bundled)}, which ship with segcli; by download " if len(bundled) > 1 else ""
    if len(bundled) == 1:
        ready = f"{bundled[0]}, which ships with segcli; by download "
    return f"models for {task}: {ready}{', '.join(names)} and others in `segcli models list`"


def offline_default() -> str | None:
    """The name of the model that stands in for a task's default where that cannot be had; it ships with segcli."""
    return _manifest().defaults.get("offline")


def lookup(name: str) -> ManifestEntry | None:
    """The row for a name in any of its spellings, upper or lower case, or None.

    `swin-tiny-coco-panoptic`, `mask2former-swin-tiny-coco-panoptic` and
    `facebook/mask2former-swin-tiny-coco-panoptic` are the same row.
    """
    return _spellings().get(name.casefold())


def family_of(ref: str) -> tuple[str | None, str]:
    """The architecture of a model and the name of its backbone, as far as is known before it is fetched: of a local
    folder, which wins, or of a row; (None, "") of others.
    """
    config = Path(ref) / "config.json"
    if config.is_file():
        try:
            found = parse_config(read_object(config, CheckpointError), str(config))
        except CheckpointError:
            return None, ""  # whoever loads it says what is wrong
        return found.model_type, found.backbone.name
    entry = lookup(ref)
    return (entry.family, entry.backbone) if entry else (None, "")


@cache
def _spellings() -> dict[str, ManifestEntry]:
    spellings: dict[str, ManifestEntry] = {}
    for name, entry in manifest().items():
        for spelling in (name, entry.repo, entry.repo and entry.repo.rpartition("/")[2]):
            if spelling:
                spellings[spelling.casefold()] = entry
    return spellings


@cache
def label_table(name: str) -> LabelSet:
    """The classes of a data set in the order of a model's logits; the file's readme explains its ids."""
    path = _HERE / "labels" / f"{name}.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    return LabelSet(
        tuple(
            Label(row["id"], row["name"], row["isthing"], tuple(row["color"]) if "color" in row else None)
            for row in table["categories"]
        )
    )


@cache
def label_tables() -> tuple[str, ...]:
    """The names of all label tables."""
    return tuple(sorted(path.stem for path in (_HERE / "labels").glob("*.json")))


def table_of(names: list[str]) -> LabelSet | None:
    """The label table whose classes have exactly these names in this order (upper or lower case), or None."""
    wanted = [name.casefold() for name in names]
    for known in label_tables():
        table = label_table(known)
        if [name.casefold() for name in table.names] == wanted:
            return table
    return None
