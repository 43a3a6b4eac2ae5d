"""What the tensors of an authors' checkpoint do not tell: its task, the names of its classes, test size, merge rule."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from segcli.config import ModelConfig
from segcli.errors import UsageError
from segcli.types import InferenceSpec, InputSize, Label, LabelSet, Task
from segcli.weights.manifest import label_table, label_tables
from segcli.weights.originals.shapes import backbone_name

_TABLE = Path(__file__).with_name("protocols.toml")
_LICENCE = "CC BY-NC 4.0"  # both repositories' MODEL_ZOO.md


@dataclass(frozen=True)
class Protocol:
    """A row of protocols.toml, where the fields are explained."""

    family: str
    tasks: tuple[Task, ...]
    size: InputSize
    rule: dict[str, Any]
    metrics: tuple[str, ...]
    measured: str
    files: dict[str, list[float]]
    labels: str | None = None
    classes: int | None = None
    backbones: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """How many classes its checkpoints have."""
        return self.classes or len(label_table(self.labels or ""))


@dataclass(frozen=True)
class Published:
    """The protocol of one checkpoint. facts: licence and published metrics, if it is one of the published files."""

    spec: InferenceSpec
    facts: dict[str, Any]


@cache
def protocols() -> tuple[Protocol, ...]:
    """Every row of protocols.toml."""
    rows = tomllib.loads(_TABLE.read_text(encoding="utf-8"))["protocols"]
    return tuple(_protocol(row) for row in rows)


def _protocol(row: dict[str, Any]) -> Protocol:
    values: dict[str, Any] = {"rule": {}}
    values |= {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    values["size"] = InputSize(**row["size"])
    return Protocol(**values)


def protocol_of(config: ModelConfig, digests: Sequence[str], task: Task | None, labels: str | None) -> Published:
    """Of a checkpoint with this configuration and these hashes, and what the user says of it.

    labels: a table of segcli's by name, or a JSON file with COCO's `categories`.
    Raises UsageError naming the option that has to be given where more than one protocol fits, or none.
    """
    own = _read_labels(labels) if labels else None
    if own is not None and len(own) != config.num_classes:
        raise UsageError(f"--labels {labels}: {len(own)} classes, but the checkpoint has {config.num_classes}")
    row = _published(config, digests) or _like(config, task, labels)
    if row is None:
        return Published(_unknown(config, task, own), {})
    if task is not None and task not in row.tasks:
        raise UsageError(f"--task {task}: this checkpoint was made for {' and '.join(row.tasks)}")
    if own is None and row.labels is None:
        raise UsageError(f"{config.num_classes} classes, those of {row.measured}: give their names with --labels FILE")
    names = own or label_table(row.labels or "")
    spec = InferenceSpec(row.tasks, names, row.size, replace(config.rule, **row.rule))
    figures = next((row.files[digest] for digest in digests if digest in row.files), None)
    if figures is None:
        return Published(spec, {})
    metrics = dict(zip(row.metrics, figures, strict=True))
    return Published(spec, {"licence": _LICENCE, "metrics": metrics, "status": "published"})


def _published(config: ModelConfig, digests: Sequence[str]) -> Protocol | None:
    """Of the published file with such a hash."""
    rows = (row for row in _fitting(config) if not set(digests).isdisjoint(row.files))
    return next(rows, None)


def _like(config: ModelConfig, task: Task | None, labels: str | None) -> Protocol | None:
    """Of the published checkpoints with as many classes, for one that is none of them; None if there are none."""
    rows = [row for row in _fitting(config) if labels in (None, row.labels) and task in (None, row.tasks[0])]
    if len(kinds := {(row.labels, row.tasks) for row in rows}) > 1:
        tasks = [tasks[0] for _, tasks in kinds]
        raise UsageError(
            f"{config.title} with {config.num_classes} classes was published for {' and for '.join(sorted(tasks))}, "
            "and this file is none of those: say with --task which it was trained for"
        )
    name = backbone_name(config.backbone)
    return next((row for row in rows if name in row.backbones), rows[0] if rows else None)


def _fitting(config: ModelConfig) -> list[Protocol]:
    return [row for row in protocols() if (row.family, row.num_classes) == (config.model_type, config.num_classes)]


def _unknown(config: ModelConfig, task: Task | None, labels: LabelSet | None) -> InferenceSpec:
    """Of a checkpoint trained by somebody else on data of his own."""
    if labels is None:
        raise UsageError(
            f"{config.num_classes} classes, which are those of no published {config.title}"
            f"{f' for {task}' if task else ''}: give their names with --labels, as COCO's categories in a JSON file"
        )
    if task is None:
        raise UsageError(f"say with --task what it was trained for: {', '.join(config.tasks)}")
    if task not in config.tasks:
        raise UsageError(f"--task {task}: {config.title} does {', '.join(config.tasks)}")
    tasks = config.tasks if task == "panoptic" else (task,)
    return InferenceSpec(tasks, labels, InputSize(), config.rule)


def _read_labels(value: str) -> LabelSet:
    path = Path(value)
    if path.suffix != ".json":
        if value not in label_tables():
            raise UsageError(f"--labels {value}: neither a .json file nor one of {', '.join(label_tables())}")
        return label_table(value)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        rows = document["categories"] if isinstance(document, dict) else document
        found = [Label(int(row["id"]), str(row["name"]), bool(row.get("isthing", True))) for row in rows]
    except OSError as error:
        raise UsageError(f"--labels {value}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"--labels {value}: holds no COCO categories, each with an id and a name ({error})") from error
    return LabelSet(tuple(found))
