"""Models to start training from: a checkpoint whose head and queries are adapted, or a new network around an
ImageNet backbone. What is random here comes from torch's global generator, which the caller seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from segcli.class_names import has_name, meaning_of
from segcli.config import ModelConfig, parse_config
from segcli.models.init import initialise
from segcli.models.segmenter import Segmenter
from segcli.types import InferenceSpec, LabelSet
from segcli.weights.architectures import build_model
from segcli.weights.checkpoint import LoadedModel, load_model
from segcli.weights.download import Progress
from segcli.weights.hf_config import preprocessor, raw_config
from segcli.weights.hub import find
from segcli.weights.plausible import refuse_implausible
from segcli.weights.pretrained import backbone_named, load_backbone, new_config
from segcli.weights.spec import TABLE, from_table, to_table


@dataclass(frozen=True)
class Beginning:
    """A model to train: in fp32 on the CPU, all parameters trainable."""

    loaded: LoadedModel
    notes: tuple[str, ...]  # a line about each part that is new, or is another's
    loses_tiles: bool = False  # whether the checkpoint predicts in tiles and this model is not to


def from_checkpoint(ref: str, spec: InferenceSpec, queries: int | None, progress: Progress | None = None) -> Beginning:
    """The checkpoint `ref` for the classes of `spec`, whose pixel statistics are replaced by the checkpoint's.

    The class layer is kept only if the classes are the same, in what they mean and in order; everything else is kept,
    but for the query embeddings if another number of queries is asked for. A single class that the data give no name
    (masks that only number objects) is the checkpoint's single class, and is called as it is there.
    """
    loaded = load_model(ref, "cpu", "fp32", progress=progress)
    old, model, config = loaded.spec, loaded.model, loaded.config
    notes: list[str] = []
    spec = replace(spec, labels=_named(spec.labels, old.labels, loaded.name, notes))
    if not _same(old.labels.names, spec.labels.names):
        notes.append(
            f"new class layer; number of classes: {len(spec.labels)} ({loaded.name} has {len(old.labels)} others)"
        )
        model.head.fresh_classes(len(spec.labels))
        config = config.with_classes(len(spec.labels))
    elif known := _known_metrics(loaded.facts):
        notes.append(f"{loaded.name} comes with {known} (its own thresholds, its own data): training must beat it")
    if queries is not None:
        config = config.with_queries(queries)
    if config.num_queries != loaded.config.num_queries:
        if queries is not None:  # else queries are classes
            before = loaded.config.num_queries
            notes.append(f"new query embeddings: {config.num_queries} queries instead of {before}")
        model.query_decoder.fresh_queries(config.num_queries)
    loses_tiles = bool(old.size.tile and not spec.size.tile)
    if loses_tiles:
        same = f"--tile {old.size.tile} --short-side {old.size.short}"
        notes.append(f"{loaded.name} predicts in tiles, this run trains on whole images; {same} keeps its own")
    model.requires_grad_(True)
    spec = replace(spec, mean=tuple(old.mean), std=tuple(old.std))
    raw = loaded.raw_config | raw_config(config, spec.labels)
    licence = {"licence of the starting model": loaded.facts["licence"]} if "licence" in loaded.facts else {}
    wrapped = _wrap(model, config, spec, raw, {"started from": loaded.name} | licence)
    return Beginning(wrapped, tuple(notes), loses_tiles)


def _same(names: list[str], others: list[str]) -> bool:
    """Whether they mean the same classes in this order. What names mean says so only where it tells all of them apart:
    "Ki67+" and "Ki67-" differ in a sign."""
    meanings = [meaning_of(name) for name in names]
    return names == others or (
        meanings == [meaning_of(name) for name in others] and "" not in meanings and len(set(meanings)) == len(names)
    )


def _named(data: LabelSet, known: LabelSet, model: str, notes: list[str]) -> LabelSet:
    """The data's classes; a single one without a name has that of the model's single one, which is noted."""
    if len(data) != 1 or len(known) != 1 or has_name(data[0].name) or not has_name(known[0].name):
        return data
    notes.append(f'the class goes on as "{known[0].name}", as {model} calls it')
    return LabelSet((replace(data[0], name=known[0].name),))


def _known_metrics(facts: Mapping[str, Any]) -> str:
    """What a checkpoint says that it reaches, in words: "PQ 35.1"; empty if it does not say."""
    metrics = facts.get("metrics")
    values = metrics.items() if isinstance(metrics, Mapping) else ()
    return ", ".join(f"{name} {value:.1f}" for name, value in values if isinstance(value, int | float))


def from_backbone(
    kind: type[ModelConfig],
    name: str,
    spec: InferenceSpec,
    queries: int | None,
    sizes: Mapping[str, int],
    progress: Progress | None = None,
) -> Beginning:
    """A new network around a backbone pretrained on ImageNet. kind: its architecture; sizes: see `new_config`."""
    backbone = backbone_named(name)
    config = new_config(kind, name, len(spec.labels), sizes).for_task(spec.tasks[0]).for_size(spec.size)
    if queries is not None:
        config = config.with_queries(queries)
    model = build_model(config)
    initialise(model)
    load_backbone(model, name, progress)
    spec = replace(spec, mean=backbone.mean, std=backbone.std)
    facts = {"started from": f"{name}, {backbone.data}", "licence of the starting model": backbone.licence}
    return Beginning(_wrap(model, config, spec, raw_config(config, spec.labels), facts), ())


def lasting(ref: str) -> str:
    """A reference to a model that is valid from any folder: for a local model, its absolute path."""
    files = find(ref)
    return str(files.folder.resolve()) if files is not None and files.source == "local" else ref


def described(loaded: LoadedModel) -> dict[str, Any]:
    """A model to train as plain JSON, without its weights."""
    return {
        "config": loaded.raw_config | {TABLE: to_table(loaded.spec, loaded.facts)},
        "columns": loaded.config.class_columns,  # config.json does not have their order
        "preprocessor": loaded.preprocessor,
    }


def from_description(description: dict[str, Any], tensors: Mapping[str, Tensor], where: str) -> LoadedModel:
    """The model that `described` describes, without its weights. tensors: what the file holds, which bounds what is
    built; where: names the file in errors.

    Raises CheckpointError for what this segcli cannot build.
    """
    raw = dict(description["config"])
    table = from_table(raw.pop(TABLE), where)
    config = parse_config(raw, where).with_columns(description["columns"])
    refuse_implausible(config, tensors, where, "description")
    return LoadedModel(
        model=build_model(config),
        config=config,
        spec=table.spec,
        name="",
        device=torch.device("cpu"),
        dtype=torch.float32,
        facts=table.facts,
        raw_config=raw,
        preprocessor=description["preprocessor"],
    )


def _wrap(
    model: Segmenter, config: ModelConfig, spec: InferenceSpec, raw: dict[str, Any], facts: dict[str, Any]
) -> LoadedModel:
    return LoadedModel(
        model=model,
        config=config,
        spec=spec,
        name="",
        device=torch.device("cpu"),
        dtype=torch.float32,
        facts=facts,
        raw_config=raw,
        preprocessor=preprocessor(spec, config),
    )
