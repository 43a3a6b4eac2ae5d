"""Hugging Face names of the blocks of a plain ViT, in EoMT and in the DINOs; ours, without the part they lie in."""

from __future__ import annotations

from segcli.config.backbones.vit import ViTConfig
from segcli.weights.keys.table import Table

BLOCK = "blocks.*"


def block_table(config: ViTConfig, theirs: str, ours: str) -> Table:
    """Of blocks below the prefix `theirs`.*, whose modules lie in `ours` here (empty: at the root).

    Fused tensors and both families' words are read; what is written is what transformers writes.
    """
    block, own = f"{theirs}.*", f"{ours}.{BLOCK}" if ours else BLOCK
    rotary = config.positions == "rotary"
    parts = ("q_proj", "k_proj", "v_proj")
    renamed = {
        f"{block}.norm1": f"{own}.norm1",
        f"{block}.norm2": f"{own}.norm2",
        f"{block}.layer_scale1.lambda1": f"{own}.scale1",
        f"{block}.layer_scale2.lambda1": f"{own}.scale2",
        f"{block}.attention.{'o_proj' if rotary else 'out_proj'}": f"{own}.attention.proj",
        f"{block}.attention.{'out_proj' if rotary else 'o_proj'}": f"{own}.attention.proj",
    }
    kinds = ["weight"]
    if rotary:
        renamed |= {
            f"{block}.attention.q_proj.bias": f"{own}.attention.query_bias",
            f"{block}.attention.v_proj.bias": f"{own}.attention.value_bias",
        }
    else:
        kinds.append("bias")
    joined = {
        tuple(f"{block}.attention.{part}.{kind}" for part in parts): f"{own}.attention.qkv.{kind}" for kind in kinds
    }
    if config.gated:
        joined |= {
            (f"{block}.mlp.gate_proj.{kind}", f"{block}.mlp.up_proj.{kind}"): f"{own}.fc1.{kind}"
            for kind in ("weight", "bias")
        }
        renamed |= {
            f"{block}.mlp.down_proj": f"{own}.fc2",
            f"{block}.mlp.weights_in": f"{own}.fc1",  # as older files have it, gate and value in one
            f"{block}.mlp.weights_out": f"{own}.fc2",
        }
    else:
        first, second = ("up_proj", "down_proj") if rotary else ("fc1", "fc2")
        renamed |= {f"{block}.mlp.{first}": f"{own}.fc1", f"{block}.mlp.{second}": f"{own}.fc2"}
        other, another = ("fc1", "fc2") if rotary else ("up_proj", "down_proj")
        renamed |= {f"{block}.mlp.{other}": f"{own}.fc1", f"{block}.mlp.{another}": f"{own}.fc2"}
    return Table(renamed, joined)
