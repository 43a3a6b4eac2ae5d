"""The inference protocol of a checkpoint: labels, tasks, test size, merge rule.

It travels in one table, `segcli`, inside `config.json`, where a load and save by transformers leaves it alone. A
checkpoint without the table gets its protocol from `weights.toml` if it is listed there, else from what its Hugging
Face files say.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

from segcli.config import ModelConfig
from segcli.errors import CheckpointError
from segcli.types import IMAGENET_MEAN, IMAGENET_STD, TASKS, InferenceSpec, InputSize, Label, LabelSet, MergeRule
from segcli.weights.manifest import table_of

TABLE = "segcli"
_Record = TypeVar("_Record", InputSize, MergeRule)


@dataclass(frozen=True)
class SpecTable:
    """The `segcli` table: the protocol, and facts about the checkpoint that do not steer it (licence, metric, …)."""

    spec: InferenceSpec
    facts: dict[str, Any]


def to_table(spec: InferenceSpec, facts: dict[str, Any]) -> dict[str, Any]:
    """The `segcli` table as plain JSON."""
    return {
        "version": 1,
        "tasks": list(spec.tasks),
        "labels": [
            {"id": label.id, "name": label.name, "isthing": label.isthing}
            | ({"color": list(label.color)} if label.color else {})
            for label in spec.labels
        ],
        "size": spec.size.to_table(),
        "rule": asdict(spec.rule),
        "mean": list(spec.mean),
        "std": list(spec.std),
        "facts": facts,
    }


def from_table(table: Any, where: str) -> SpecTable:
    """The protocol in a `segcli` table. Raises CheckpointError for anything unknown, missing or out of place."""
    known = {"version", "tasks", "labels", "size", "rule", "mean", "std", "facts"}
    if not isinstance(table, dict) or set(table) - known:
        extra = ", ".join(sorted(set(table) - known)) if isinstance(table, dict) else repr(table)
        raise CheckpointError(f"{where}: the 'segcli' table has unknown entries: {extra}")
    try:
        if table["version"] != 1:
            raise CheckpointError(
                f"{where}: the 'segcli' table is version {table['version']!r}, this segcli reads 1; update segcli"
            )
        labels = LabelSet(
            tuple(
                Label(int(row["id"]), str(row["name"]), bool(row["isthing"]), _color(row.get("color")))
                for row in table["labels"]
            )
        )
        tasks = tuple(task for task in TASKS if task in table["tasks"])
        spec = InferenceSpec(
            tasks=tasks,
            labels=labels,
            size=_record(InputSize, table["size"]),
            rule=_record(MergeRule, table["rule"]),
            mean=tuple(float(v) for v in table["mean"]),
            std=tuple(float(v) for v in table["std"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: the 'segcli' table is damaged: {error!r}") from error
    if not tasks:
        raise CheckpointError(f"{where}: the 'segcli' table names no task; expected some of {', '.join(TASKS)}")
    return SpecTable(spec, dict(table.get("facts", {})))


def _color(value: Any) -> tuple[int, int, int] | None:
    return None if value is None else (int(value[0]), int(value[1]), int(value[2]))


def _record(kind: type[_Record], values: dict[str, Any]) -> _Record:
    unknown = set(values) - {field.name for field in fields(kind)}
    if unknown:
        raise ValueError(f"unknown {', '.join(sorted(unknown))}")
    return kind(**values)


def guess_spec(raw: dict[str, Any], preprocessor: dict[str, Any] | None, config: ModelConfig, where: str) -> SpecTable:
    """The protocol as far as Hugging Face files tell it.

    They say nothing about things and stuff. Where the class names are those of a data set known here, its table says
    it; elsewhere every class counts as a thing, so stuff is not merged. A size that would squash the image is taken as
    its short side, with the aspect ratio kept.
    """
    id2label = raw["id2label"]
    try:
        ids = config.class_columns
        names = [str(id2label[str(i)]) for i in ids]
    except KeyError as error:
        raise CheckpointError(f"{where}: id2label has no entry {error}; it must number classes from 0") from error
    known = table_of(names)
    labels = known or LabelSet(tuple(Label(i, name, isthing=True) for i, name in zip(ids, names, strict=True)))
    preprocessor = preprocessor or {}
    scale = 1 / float(preprocessor.get("rescale_factor", 1 / 255))
    mean, std = preprocessor.get("image_mean"), preprocessor.get("image_std")
    spec = InferenceSpec(
        tasks=config.answers,
        labels=labels,
        size=_input_size(preprocessor, config.size),
        rule=config.rule,
        mean=tuple(float(v) * scale for v in mean) if mean else IMAGENET_MEAN,
        std=tuple(float(v) * scale for v in std) if std else IMAGENET_STD,
    )
    return SpecTable(spec, {} if known else {"things_unknown": True})


def _input_size(preprocessor: dict[str, Any], usual: InputSize) -> InputSize:
    size = preprocessor.get("size")
    if isinstance(size, int):
        return replace(usual, short=size, long=int(preprocessor.get("max_size", size * 1333 // 800)))
    if isinstance(size, dict) and "shortest_edge" in size:
        short = int(size["shortest_edge"])
        return replace(usual, short=short, long=int(size.get("longest_edge") or short * 1333 // 800))
    if isinstance(size, dict) and "height" in size and "width" in size:
        short = min(int(size["height"]), int(size["width"]))
        return replace(usual, short=short, long=max(int(size["height"]), int(size["width"]), short * 1333 // 800))
    return usual
