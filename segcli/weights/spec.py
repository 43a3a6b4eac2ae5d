"""The inference protocol of a checkpoint: labels, tasks, test size, merge rule.

It travels in one table, `segcli`, inside `config.json`, where a load and save by transformers leaves it alone. A
checkpoint without the table gets its protocol from `weights.toml` if it is listed there, else from what its Hugging
Face files say.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, cast

from segcli.config import ModelConfig
from segcli.errors import CheckpointError
from segcli.files.fields import MOST, Fields
from segcli.types import IMAGENET_MEAN, IMAGENET_STD, TASKS, InferenceSpec, InputSize, Label, LabelSet, MergeRule
from segcli.weights.manifest import table_of

TABLE = "segcli"
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
_MOST_PIXELS = 100_000  # a side
_LEAST_STD = 1e-9


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
    } | ({"levels": list(spec.levels)} if spec.levels else {})


def from_table(table: Any, where: str) -> SpecTable:
    """The protocol in a `segcli` table. Raises CheckpointError for anything unknown, missing or out of place."""
    entries = Fields(table, f"{where}: the 'segcli' table", CheckpointError)
    entries.only({"version", "tasks", "labels", "size", "rule", "mean", "std", "levels", "facts"})
    version = entries.whole("version")
    if version != 1:
        raise CheckpointError(f"{where}: the 'segcli' table is version {version}, this segcli reads 1; update segcli")
    named = entries.values("tasks")
    tasks = tuple(task for task in TASKS if task in named)
    spec = InferenceSpec(
        tasks=tasks,
        labels=LabelSet(tuple(_label(row) for row in entries.rows("labels"))),
        size=_size(entries.sub("size")),
        rule=_rule(entries.sub("rule")),
        mean=entries.numbers("mean", 3),
        std=entries.numbers("std", 3, least=_LEAST_STD),
        levels=None if entries.raw.get("levels") is None else _levels(entries),
    )
    if not tasks:
        raise CheckpointError(f"{where}: the 'segcli' table names no task; expected some of {', '.join(TASKS)}")
    return SpecTable(spec, _facts(entries) if "facts" in entries else {})


def _levels(entries: Fields) -> tuple[float, float]:
    low, high = entries.numbers("levels", 2, least=0, most=1e12)
    if low >= high:
        raise CheckpointError(f"{entries.where}: levels are {low:g} and {high:g}; expected the lower one first")
    return low, high


def _label(row: Fields) -> Label:
    colour = row.wholes("color", 3, most=255) if row.raw.get("color") is not None else None
    return Label(
        row.whole("id", least=-MOST), row.text("name"), row.flag("isthing"), cast("tuple[int, int, int] | None", colour)
    )


def _facts(entries: Fields) -> dict[str, Any]:
    """Those that are used for more than being shown are checked."""
    facts = entries.sub("facts")
    if "metrics" in facts:
        metrics = facts.sub("metrics")
        for name in metrics.raw:
            metrics.number(name)
    for name in ("licence", "licence of the starting model", "started from", "taught by", "status"):
        facts.text(name, None)
    facts.number("bf16_loss", None)
    return dict(facts.raw)


def _size(entries: Fields) -> InputSize:
    entries.only({field.name for field in fields(InputSize)})
    usual = InputSize()
    return InputSize(
        short=entries.whole("short", usual.short, least=1, most=_MOST_PIXELS),
        long=entries.whole("long", usual.long, least=1, most=_MOST_PIXELS),
        divisor=entries.whole("divisor", usual.divisor, least=1, most=1024),
        rounding=entries.one_of("rounding", ("nearest", "down", "even"), usual.rounding),
        frame=entries.one_of("frame", ("multiple", "square", "windows"), usual.frame),
        fill=entries.one_of("fill", ("mean", "black"), usual.fill),
        tile=None if entries.raw.get("tile") is None else _edge(entries, "tile"),
        tile_overlap=entries.number("tile_overlap", usual.tile_overlap, least=0, most=0.9),
        tile_for=None if entries.raw.get("tile_for") is None else _edge(entries, "tile_for"),
    )


def _rule(entries: Fields) -> MergeRule:
    entries.only({field.name for field in fields(MergeRule)})
    usual = MergeRule()

    def share(name: str) -> float:
        return entries.number(name, getattr(usual, name), least=0, most=1)

    return MergeRule(
        score=share("score"),
        overlap=share("overlap"),
        mask_min=None if _is_null(entries, "mask_min") else share("mask_min"),
        normalise=entries.one_of("normalise", ("sigmoid", "softmax"), usual.normalise),
        min_area=entries.whole("min_area", usual.min_area),
        part_min=share("part_min"),
        repeat_iou=None if entries.raw.get("repeat_iou") is None else share("repeat_iou"),
        instance_score=share("instance_score"),
        top_k=entries.whole("top_k", usual.top_k, least=1, most=1_000_000),
        combine=None if entries.raw.get("combine") is None else entries.one_of("combine", ("padded", "photo")),
        instances=entries.one_of("instances", ("pairs", "queries"), usual.instances),
    )


def _is_null(entries: Fields, name: str) -> bool:
    return name in entries and entries.raw[name] is None


def guess_spec(raw: dict[str, Any], preprocessor: dict[str, Any] | None, config: ModelConfig, where: str) -> SpecTable:
    """The protocol as far as Hugging Face files tell it.

    They say nothing about things and stuff. Where the class names are those of a data set known here, its table says
    it; elsewhere every class counts as a thing, so stuff is not merged. A size that would squash the image is taken as
    its short side, with the aspect ratio kept.
    """
    ids = config.class_columns
    unnamed = {str(i): f"LABEL_{i}" for i in ids}  # as transformers calls them, and does not write down
    names = Fields(unnamed if raw.get("id2label") is None else raw["id2label"], f"{where}: id2label", CheckpointError)
    called = [names.text(str(i)) for i in ids]  # numbered from 0
    known = table_of(called)
    labels = known or LabelSet(tuple(Label(i, name, isthing=True) for i, name in zip(ids, called, strict=True)))
    entries = Fields(preprocessor or {}, f"{where.rpartition(CONFIG)[0]}{PREPROCESSOR}", CheckpointError)
    scale = 1 / entries.number("rescale_factor", 1 / 255, least=1e-6, most=1e6)
    size = _input_size(entries, config.own_size)
    spec = InferenceSpec(
        tasks=("semantic",) if size.frame == "windows" else config.answers,
        labels=labels,
        size=size,
        rule=config.rule,
        mean=_pixels(entries, "image_mean", scale, IMAGENET_MEAN, least=-1e9),
        std=_pixels(entries, "image_std", scale, IMAGENET_STD, least=_LEAST_STD),
    )
    return SpecTable(spec, {} if known else {"things_unknown": True})


def _pixels(entries: Fields, name: str, scale: float, usual: tuple[float, ...], *, least: float) -> tuple[float, ...]:
    """A statistic of the pixels' three channels, on a scale to 255."""
    if not entries.raw.get(name):
        return usual
    return tuple(value * scale for value in entries.numbers(name, 3, least=least, most=1e9))


def _input_size(entries: Fields, usual: InputSize) -> InputSize:
    if isinstance(entries.raw.get("size"), dict):
        size = entries.sub("size")
        if "shortest_edge" in size:
            short = _edge(size, "shortest_edge")
            if usual.frame == "square":
                is_split = entries.raw.get("do_split_image") is not None and entries.flag("do_split_image")
                return replace(usual, short=short, long=short, frame="windows" if is_split else "square")
            long = _edge(size, "longest_edge") if size.raw.get("longest_edge") else short * 1333 // 800
            return replace(usual, short=short, long=long)
        if "height" in size and "width" in size:
            height, width = _edge(size, "height"), _edge(size, "width")
            short = min(height, width)
            return replace(usual, short=short, long=max(height, width, short * 1333 // 800))
        return usual
    if entries.raw.get("size") is None:
        return usual
    short = _edge(entries, "size")
    return replace(
        usual, short=short, long=_edge(entries, "max_size") if "max_size" in entries else short * 1333 // 800
    )


def _edge(entries: Fields, name: str) -> int:
    return entries.whole(name, least=1, most=_MOST_PIXELS)
