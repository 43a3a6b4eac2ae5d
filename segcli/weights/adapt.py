"""Models to begin training with: a checkpoint whose head and queries are made to fit, or a new network around an
ImageNet backbone. What is random here comes from torch's global generator, which the caller seeds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from segcli.config import Mask2FormerConfig
from segcli.models.init import initialise
from segcli.models.mask2former import build_mask2former
from segcli.types import InferenceSpec
from segcli.weights.checkpoint import LoadedModel, load_model
from segcli.weights.download import Progress
from segcli.weights.hf_config import label_names, preprocessor, raw_config
from segcli.weights.pretrained import backbone_named, load_backbone, new_config


@dataclass(frozen=True)
class Beginning:
    """A model to train: in fp32 on the CPU, its parameters free to learn. notes: a line about each part made anew."""

    loaded: LoadedModel
    notes: tuple[str, ...]


def from_checkpoint(ref: str, spec: InferenceSpec, queries: int | None, progress: Progress | None = None) -> Beginning:
    """The checkpoint `ref` for the classes of `spec`, whose pixel statistics are replaced by the checkpoint's.

    The class layer is kept only if the classes are the same, in name and order; everything else is kept, but for the
    query embeddings if another number of queries is asked for.
    """
    loaded = load_model(ref, "cpu", "fp32", progress=progress)
    old, model, config = loaded.spec, loaded.model, loaded.config
    notes = []
    if old.labels.names != spec.labels.names:
        notes.append(
            f"class layer made anew for {len(spec.labels)} classes ({loaded.name} has {len(old.labels)} others)"
        )
        model.head.classifier = nn.Linear(config.hidden_dim, len(spec.labels) + 1)  # type: ignore[union-attr]
        config = replace(config, num_classes=len(spec.labels))
    if queries is not None and queries != config.num_queries:
        notes.append(f"query embeddings made anew: {queries} queries instead of {config.num_queries}")
        for name in ("query_features", "query_positions"):
            fresh = nn.Parameter(torch.empty(queries, config.hidden_dim))
            setattr(model.query_decoder, name, fresh)
            nn.init.normal_(fresh)
        config = replace(config, num_queries=queries)
    model.requires_grad_(True)
    spec = replace(spec, mean=tuple(old.mean), std=tuple(old.std))
    raw = loaded.raw_config | label_names(spec.labels) | {"num_queries": config.num_queries, "dtype": "float32"}
    licence = {"licence of the starting model": loaded.facts["licence"]} if "licence" in loaded.facts else {}
    return Beginning(_wrap(model, config, spec, raw, {"started from": loaded.name} | licence), tuple(notes))


def from_backbone(name: str, spec: InferenceSpec, sizes: dict[str, int], progress: Progress | None = None) -> Beginning:
    """A new Mask2Former around a backbone that has seen ImageNet. sizes: fields of Mask2FormerConfig to override."""
    backbone = backbone_named(name)
    config = new_config(name, len(spec.labels), **sizes)
    model = build_mask2former(config)
    initialise(model)
    load_backbone(model.backbone, name, progress)
    spec = replace(spec, mean=backbone.mean, std=backbone.std)
    facts = {"started from": f"{name}, ImageNet-1k", "licence of the starting model": backbone.licence}
    return Beginning(_wrap(model, config, spec, raw_config(config, spec.labels), facts), ())


def _wrap(
    model: nn.Module, config: Mask2FormerConfig, spec: InferenceSpec, raw: dict[str, Any], facts: dict[str, Any]
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
        preprocessor=preprocessor(spec),
    )
