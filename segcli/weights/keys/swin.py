"""Hugging Face names of a Swin backbone, as the Hub stores them."""

from __future__ import annotations

import torch
from torch import Tensor

from segcli.config.backbones.swin import SwinConfig
from segcli.models.backbones.swin import relative_positions
from segcli.weights.keys.backbones import Flavour
from segcli.weights.keys.table import Table

OURS = "backbone.stages.*.blocks.*"


def table(encoder: str, flavour: Flavour) -> Table:
    """Names below the prefix `encoder`. In transformers' copy for MaskFormer the modules lie one level deeper."""
    copied = flavour == "maskformer"
    network = f"{encoder}.model" if copied else encoder
    norms = [f"{encoder}.hidden_states_norms.{i if copied else f'stage{i + 1}'}" for i in range(4)]
    block = f"{network}.encoder.layers.*.blocks.*"
    return Table(
        renamed={
            f"{network}.embeddings.patch_embeddings.projection": "backbone.patch_embed",
            f"{network}.embeddings.norm": "backbone.patch_norm",
            f"{block}.layernorm_before": f"{OURS}.norm1",
            f"{block}.attention.self.relative_position_bias_table": f"{OURS}.attention.bias_table",
            f"{block}.attention.output.dense": f"{OURS}.attention.proj",
            f"{block}.layernorm_after": f"{OURS}.norm2",
            f"{block}.intermediate.dense": f"{OURS}.fc1",
            f"{block}.output.dense": f"{OURS}.fc2",
            f"{network}.encoder.layers.*.downsample": "backbone.stages.*.downsample",
            **{norm: f"backbone.norms.{i}" for i, norm in enumerate(norms)},
        },
        joined={
            tuple(f"{block}.attention.self.{part}.{kind}" for part in ("query", "key", "value")): (
                f"{OURS}.attention.qkv.{kind}"
            )
            for kind in ("weight", "bias")
        },
        aliases={} if copied else _aliases(encoder),
        dropped=(r".*\.relative_position_index", r".*\.encoder\.(model\.|swin\.)?layernorm\.(weight|bias)"),
    )


def _aliases(encoder: str) -> dict[str, str]:
    """Names that transformers ≥ 5 keeps in memory, of its `SwinBackbone`; files have those of the table."""
    return {
        f"{encoder}.swin.": f"{encoder}.",
        ".attention.q_proj.": ".attention.self.query.",
        ".attention.k_proj.": ".attention.self.key.",
        ".attention.v_proj.": ".attention.self.value.",
        ".attention.o_proj.": ".attention.output.dense.",
        ".attention.relative_position_bias.": ".attention.self.",
        ".mlp.fc1.": ".intermediate.dense.",
        ".mlp.fc2.": ".output.dense.",
    }


def constants(config: SwinConfig, encoder: str, flavour: Flavour) -> dict[str, Tensor]:
    """The final norm, which no backbone reads, but transformers ≥ 5 misses if a file has none. Its copy for MaskFormer
    also stores for every block which row of its table belongs to which pair of places.
    """
    copied = flavour == "maskformer"
    dim = config.embed_dim * 2 ** (len(config.depths) - 1)
    norm = f"{encoder}.{'model' if copied else 'swin'}.layernorm"
    found = {f"{norm}.weight": torch.ones(dim), f"{norm}.bias": torch.zeros(dim)}
    if not copied:
        return found
    side = config.window_size**2
    index = relative_positions(config.window_size, torch.device("cpu")).view(side, side)
    blocks = [(stage, block) for stage, depth in enumerate(config.depths) for block in range(depth)]
    name = f"{encoder}.model.encoder.layers.{{}}.blocks.{{}}.attention.self.relative_position_index"
    return found | {name.format(*at): index.clone() for at in blocks}
