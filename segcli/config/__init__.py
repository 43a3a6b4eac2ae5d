"""Model configurations, read from a Hugging Face `config.json` and checked: what this code cannot build is an error.

One module an architecture, whose class enters itself in `MODEL_TYPES`. Nothing here imports torch.
"""

from segcli.config.discovery import import_modules
from segcli.config.model_config import MODEL_TYPES, ModelConfig, parse_config

__all__ = ["MODEL_TYPES", "ModelConfig", "parse_config"]

import_modules(__name__, __path__)
for _name in sorted(MODEL_TYPES, key=lambda name: MODEL_TYPES[name].arxiv, reverse=True):
    MODEL_TYPES[_name] = MODEL_TYPES.pop(_name)  # newest first
