"""From a configuration to its network and to the names of its tensors: modules that are found by the name it gives."""

from __future__ import annotations

import importlib
from functools import partial

from segcli.config import ModelConfig
from segcli.models.segmenter import Segmenter
from segcli.weights.keymap import KeyMap


def build_model(config: ModelConfig) -> Segmenter:
    """An untrained network."""
    built: Segmenter = importlib.import_module(f"segcli.models.{config.module}").build(config)
    return built


def key_map(config: ModelConfig) -> KeyMap:
    """Between the names of its tensors in Hugging Face files and here."""
    keys = importlib.import_module(f"segcli.weights.keys.{config.module}")
    defaults = partial(keys.defaults, config) if hasattr(keys, "defaults") else dict
    return KeyMap(keys.tables(config), partial(keys.constants, config), defaults)
