"""A new model's `config.json` and `preprocessor_config.json`, such that transformers builds the same network."""

from __future__ import annotations

from typing import Any

from segcli.config import ModelConfig
from segcli.config.detr import UNUSED
from segcli.types import InferenceSpec, InputSize, LabelSet


def raw_config(config: ModelConfig, labels: LabelSet) -> dict[str, Any]:
    """The `config.json` of a configuration; `parse_config` reads it back."""
    return config.raw() | label_names(config, labels)


def label_names(config: ModelConfig, labels: LabelSet) -> dict[str, Any]:
    """The classes as transformers writes them; an output that no class has is called "N/A"."""
    names = dict.fromkeys(range(config.outputs), UNUSED) | dict(zip(config.class_columns, labels.names, strict=True))
    return {
        "id2label": {str(index): name for index, name in names.items()},
        "label2id": {name: index for index, name in names.items()},
    }


def preprocessor(spec: InferenceSpec, config: ModelConfig) -> dict[str, Any]:
    """The `preprocessor_config.json` of a protocol."""
    return {
        "image_processor_type": config.image_processor,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_reduce_labels": False,
        "ignore_index": 255,
        "image_mean": [value / 255 for value in spec.mean],
        "image_std": [value / 255 for value in spec.std],
        "rescale_factor": 1 / 255,
        "resample": 2,
        "num_labels": len(spec.labels),
        **_size(spec.size),
    }


def _size(size: InputSize) -> dict[str, Any]:
    if size.fill == "mean":
        return {"size": {"shortest_edge": size.short, "longest_edge": size.long}, "size_divisor": size.divisor}
    split = size.frame == "windows"  # transformers' words for what EoMT does
    longest = None if split else size.short
    return {
        "size": {"shortest_edge": size.short, "longest_edge": longest},
        "do_split_image": split,
        "do_pad": not split,
    }
