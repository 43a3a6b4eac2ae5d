"""Hugging Face names of DETR's encoder and decoder, which its descendants took over with the parts."""

from __future__ import annotations

from segcli.weights.keys.table import Table, split_attention

# transformers ≥ 5 keeps these names in memory; files have the second ones.
ALIASES = {
    "_attn.o_proj.": "_attn.out_proj.",
    ".mlp.fc1.": ".fc1.",
    ".mlp.fc2.": ".fc2.",
}


def encoder_table(theirs: str, ours: str) -> Table:
    """Of the encoder with these prefixes."""
    layer, own = f"{theirs}.layers.*", f"{ours}.layers.*"
    return Table(
        {
            f"{layer}.self_attn.out_proj": f"{own}.attention.out_proj",
            f"{layer}.self_attn_layer_norm": f"{own}.attention_norm",
            f"{layer}.fc1": f"{own}.fc1",
            f"{layer}.fc2": f"{own}.fc2",
            f"{layer}.final_layer_norm": f"{own}.norm",
        },
        split_attention(f"{layer}.self_attn", f"{own}.attention"),
    )


def decoder_table(theirs: str) -> Table:
    """Of the decoder with this prefix; the norm of its output belongs to the head here."""
    layer, own = f"{theirs}.layers.*", "query_decoder.layers.*"
    return Table(
        {
            f"{layer}.self_attn.out_proj": f"{own}.self_attention.out_proj",
            f"{layer}.self_attn_layer_norm": f"{own}.self_norm",
            f"{layer}.encoder_attn.out_proj": f"{own}.cross.out_proj",
            f"{layer}.encoder_attn_layer_norm": f"{own}.cross_norm",
            f"{layer}.fc1": f"{own}.fc1",
            f"{layer}.fc2": f"{own}.fc2",
            f"{layer}.final_layer_norm": f"{own}.norm",
            f"{theirs}.layernorm": "head.norm",
        },
        split_attention(f"{layer}.self_attn", f"{own}.self_attention")
        | split_attention(f"{layer}.encoder_attn", f"{own}.cross"),
        ALIASES,
    )
