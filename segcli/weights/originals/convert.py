"""An authors' checkpoint as a model of segcli, which `save_model` writes as a Hugging Face folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segcli.errors import CheckpointError, UsageError
from segcli.types import Task
from segcli.weights import deltas
from segcli.weights.checkpoint import LoadedModel, build
from segcli.weights.hf_config import preprocessor, raw_config
from segcli.weights.keymap import KeyMap
from segcli.weights.keys import eomt
from segcli.weights.keys import original as keys
from segcli.weights.keys.table import Table
from segcli.weights.originals import shapes
from segcli.weights.originals.protocols import protocol_of
from segcli.weights.originals.reading import read_original
from segcli.weights.originals.shapes import Shapes


@dataclass(frozen=True)
class Family:
    """One of the authors' architectures.

    sign: a tensor that it has and those below it in the list have not. dilated: see `convert`; None: it never is.
    """

    sign: str
    config: Callable[[Shapes], Any]
    tables: Callable[[Any], list[Table]]
    dilated: Callable[[Any], Any] | None = None


FAMILIES = (
    Family(f"{keys.PREDICTOR}.query_feat.weight", shapes.mask2former, keys.mask2former),
    Family(f"{keys.PREDICTOR}.mask_embed.layers.0.weight", shapes.maskformer, keys.maskformer),
    Family("bbox_embed.layers.0.weight", shapes.detr, keys.detr, shapes.dilate),
    Family("network.q.weight", shapes.eomt, eomt.tables),
)


@dataclass(frozen=True)
class Converted:
    """A checkpoint in fp32 on the CPU, ready to be saved; notes: a line about each thing the user should know."""

    loaded: LoadedModel
    notes: tuple[str, ...]


def convert(path: Path, task: Task | None = None, labels: str | None = None, dilated: bool | None = None) -> Converted:
    """The authors' file as a model.

    task, labels: what its tensors do not tell, where they leave a choice; see `protocol_of`. dilated: whether the last
    stage of a DETR's ResNet is (DC5), for one that is none of the published files.
    Raises CheckpointError for a file that cannot be used, UsageError naming the option that must be given.
    """
    original = read_original(path)
    state = _complete({keys.modern(name): tensor for name, tensor in original.state.items()})
    family = next((family for family in FAMILIES if family.sign in state), None)
    if family is None:
        raise CheckpointError(
            f"{path}: the names of its tensors are not those of a Mask2Former, MaskFormer, DETR or EoMT"
        )
    published = protocol_of(family.config(Shapes(state, str(path))), original.digests, task, labels)
    config = published.config
    if family.dilated is not None and _is_dilated(path, published.dilated, dilated):
        config = family.dilated(config)
    if deltas.holds_differences(state):
        state = deltas.whole(state, config, str(path))
    model, stored = build(config, KeyMap(family.tables(config)), state, str(path), "own shapes")
    facts = published.facts | {"converted from": path.name}
    loaded = LoadedModel(
        model=model,
        config=config,
        spec=published.spec,
        name=path.stem,
        device=torch.device("cpu"),
        dtype=torch.float32,
        facts=facts,
        raw_config=raw_config(config, published.spec.labels),
        preprocessor=preprocessor(published.spec, config),
        stored_dtype=stored,
    )
    return Converted(loaded, _notes(loaded, original.named))


def _is_dilated(path: Path, published: bool | None, said: bool | None) -> bool:
    if published is None and said is None:
        raise UsageError(f"{path}: its tensors do not tell whether its ResNet is dilated: say with --dc5 or --no-dc5")
    if None not in (published, said) and published != said:
        raise UsageError(
            f"--{'' if said else 'no-'}dc5: {path} is a published file, which is {'' if published else 'not '}dilated"
        )
    return bool(published or said)


def _complete(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """With the counters of batch norms, which the frozen ones of detectron2 do without."""
    suffix = ".running_var"
    counters = [name.removesuffix(suffix) + ".num_batches_tracked" for name in state if name.endswith(suffix)]
    return {name: torch.tensor(0) for name in counters} | state


def _notes(loaded: LoadedModel, named: bool) -> tuple[str, ...]:
    config, spec = loaded.config, loaded.spec
    figures = ", ".join(f"{name} {value:.1f}" for name, value in _metrics(loaded.facts).items())
    notes = [
        f"{config.title} with {config.backbone.name}, {config.num_queries} queries and {len(spec.labels)} "
        f"classes ({spec.labels.names[0]}, …) for {', '.join(spec.tasks)}",
        f"published file: {figures}; licence {loaded.facts['licence']}"
        if figures
        else f"not one of the published files that are known by a hash; test size {spec.size.short} to "
        f"{spec.size.long}, merge score {spec.rule.score}, overlap {spec.rule.overlap}",
    ]
    if not named:
        notes.append("the file's name has no hash, so whether it is whole was not checked")
    if config.transformers_class is None:
        notes.append("segcli alone loads it: transformers has no such architecture")
    return tuple(notes)


def _metrics(facts: Mapping[str, Any]) -> Mapping[str, float]:
    metrics: Mapping[str, float] = facts.get("metrics", {})
    return metrics
