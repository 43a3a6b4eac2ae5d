"""Hugging Face names of a Swin backbone, as the Hub stores them."""

from __future__ import annotations

from collections.abc import Mapping

from segcli.weights.keys.table import Table

OURS = "backbone.stages.*.blocks.*"


def table(encoder: str, network: str, norms: str, first: int, aliases: Mapping[str, str] | None = None) -> Table:
    """Names of a Swin whose modules lie below `network`, and the norm of output i at `norms`, numbered from `first`.

    encoder: the prefix of both.
    """
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
            **{f"{encoder}.{norms.format(first + i)}": f"backbone.norms.{i}" for i in range(4)},
        },
        joined={
            tuple(f"{block}.attention.self.{part}.{kind}" for part in ("query", "key", "value")): (
                f"{OURS}.attention.qkv.{kind}"
            )
            for kind in ("weight", "bias")
        },
        aliases=aliases or {},
        dropped=(r".*\.relative_position_index", r".*\.encoder\.(model\.|swin\.)?layernorm\.(weight|bias)"),
    )


def backbone_aliases(encoder: str) -> dict[str, str]:
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
