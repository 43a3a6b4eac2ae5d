"""What an authors' checkpoint does not store: its task, the names of its classes, test size, merge rule."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from segcli.config import MODEL_TYPES, ModelConfig
from segcli.errors import UsageError
from segcli.files.fields import MOST, Fields
from segcli.files.json_file import read_json
from segcli.types import InferenceSpec, InputSize, Label, LabelSet, Task
from segcli.weights.manifest import label_table, label_tables

_TABLE = Path(__file__).with_name("protocols.toml")


@dataclass(frozen=True)
class PublishedProtocol:
    """A row of protocols.toml, where the fields are explained."""

    family: str
    tasks: tuple[Task, ...]
    size: InputSize
    rule: dict[str, Any]
    metrics: tuple[str, ...]
    measured: str
    files: dict[str, list[float]]
    labels: str | None = None
    outputs: int | None = None
    masks: bool | None = None
    dilated: bool | None = None
    backbones: tuple[str, ...] = ()
    own_sides: bool = False  # the checkpoint's own, not those of `size`
    licence: str = "CC BY-NC 4.0"  # both MaskFormers' MODEL_ZOO.md

    def fits(self, config: ModelConfig) -> bool:
        """Whether its checkpoints have this architecture and as many outputs."""
        outputs = self.outputs or len(label_table(self.labels or ""))
        found = (config.model_type, config.num_classes, getattr(config, "masks", None))
        return found == (self.family, outputs, self.masks)


@dataclass(frozen=True)
class Published:
    """The protocol of one checkpoint, and its configuration with the classes of the protocol.

    facts: licence and published metrics, dilated: see protocols.toml; both of a published file alone.
    """

    config: ModelConfig
    spec: InferenceSpec
    facts: dict[str, Any] = field(default_factory=dict)
    dilated: bool | None = None


@cache
def protocols() -> tuple[PublishedProtocol, ...]:
    """Every row of protocols.toml."""
    rows = tomllib.loads(_TABLE.read_text(encoding="utf-8"))["protocols"]
    return tuple(_protocol(row) for row in rows)


def _protocol(row: dict[str, Any]) -> PublishedProtocol:
    values: dict[str, Any] = {"rule": {}}
    values |= {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    sides = row.get("size", {})
    values["size"] = replace(MODEL_TYPES[row["family"]].size, **sides)
    return PublishedProtocol(**values, own_sides="short" not in sides)


def protocol_of(config: ModelConfig, digests: Sequence[str], task: Task | None, labels: str | None) -> Published:
    """Of a checkpoint with this configuration and these hashes, and what the user says of it.

    labels: a table of segcli's by name, or a JSON file with COCO's `categories`.
    Raises UsageError naming the option that has to be given where more than one protocol fits, or none.
    """
    row = _published(config, digests) or _like(config, task, labels)
    own = _read_labels(labels) if labels else None
    table = own or (label_table(row.labels) if row and row.labels else None)
    if table is None:
        what = f"those of {row.measured}" if row else f"which are those of no published {config.title}"
        wanted = f" for {task}" if task and row is None else ""
        raise UsageError(
            f"{config.num_classes} classes, {what}{wanted}: give their names with --labels, as COCO's categories in a "
            "JSON file"
        )
    fitting = config.fit_classes(table.ids)
    if fitting is None:
        raise UsageError(f"--labels {labels}: {len(table)} classes, but the checkpoint has {config.num_classes}")
    tasks = row.tasks if row else _tasks(config, task)
    if task is not None and task not in tasks:
        raise UsageError(f"--task {task}: this checkpoint was made for {' and '.join(tasks)}")
    if row is None:
        return Published(fitting, InferenceSpec(tasks, table, config.own_size, config.rule))
    sides = config.own_size
    size = replace(row.size, short=sides.short, long=sides.long) if row.own_sides else row.size
    spec = InferenceSpec(tasks, table, size, replace(config.rule, **row.rule))
    figures = next((row.files[digest] for digest in digests if digest in row.files), None)
    if figures is None:
        return Published(fitting, spec)
    metrics = dict(zip(row.metrics, figures, strict=True))
    return Published(fitting, spec, {"licence": row.licence, "metrics": metrics, "status": "published"}, row.dilated)


def _published(config: ModelConfig, digests: Sequence[str]) -> PublishedProtocol | None:
    """Of the published file with such a hash."""
    rows = (row for row in protocols() if row.fits(config) and not set(digests).isdisjoint(row.files))
    return next(rows, None)


def _like(config: ModelConfig, task: Task | None, labels: str | None) -> PublishedProtocol | None:
    """Of the published checkpoints with as many classes, for one that is none of them; None if there are none."""
    rows = [row for row in protocols() if row.fits(config) and labels in (None, row.labels)]
    rows = [row for row in rows if task in (None, row.tasks[0])]
    if len(kinds := {(row.labels, row.tasks) for row in rows}) > 1:
        tasks = [tasks[0] for _, tasks in kinds]
        raise UsageError(
            f"{config.title} with {config.num_classes} classes was published for {' and for '.join(sorted(tasks))}, "
            "and this file is none of those: say with --task which it was trained for"
        )
    name = config.backbone.name
    return next((row for row in rows if name in row.backbones), rows[0] if rows else None)


def _tasks(config: ModelConfig, task: Task | None) -> tuple[Task, ...]:
    """Of a checkpoint trained by somebody else on data of his own."""
    possible = config.answers
    if task is None and len(possible) > 1:
        raise UsageError(f"say with --task what it was trained for: {', '.join(possible)}")
    return possible if task in (None, "panoptic") or task not in possible else (task,)


def _read_labels(value: str) -> LabelSet:
    path = Path(value)
    if path.suffix != ".json":
        if value not in label_tables():
            raise UsageError(f"--labels {value}: neither a .json file nor one of {', '.join(label_tables())}")
        return label_table(value)
    document = read_json(path, UsageError)
    categories = document.get("categories") if isinstance(document, dict) else document
    rows = Fields({"categories": categories}, f"--labels {value}", UsageError)
    found = [
        Label(row.whole("id", least=-MOST), row.text("name"), row.flag("isthing", True))
        for row in rows.rows("categories")
    ]
    return LabelSet(tuple(found))
