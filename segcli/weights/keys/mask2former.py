"""Hugging Face names of Mask2Former, as the Hub stores them."""

from __future__ import annotations

from torch import Tensor

from segcli.config.mask2former import Mask2FormerConfig
from segcli.weights.keys.backbones import backbone_constants, backbone_table
from segcli.weights.keys.constants import class_weights
from segcli.weights.keys.table import Table, split_attention

ENCODER = "model.pixel_level_module.encoder"
PIXEL = "model.pixel_level_module.decoder"
QUERY = "model.transformer_module"

RENAMED = {
    f"{PIXEL}.level_embed": "pixel_decoder.level_embed",
    f"{PIXEL}.input_projections.*.0": "pixel_decoder.input_proj.*.conv",
    f"{PIXEL}.input_projections.*.1": "pixel_decoder.input_proj.*.norm",
    f"{PIXEL}.encoder.layers.*.self_attn": "pixel_decoder.layers.*.attention",
    f"{PIXEL}.encoder.layers.*.self_attn_layer_norm": "pixel_decoder.layers.*.norm1",
    f"{PIXEL}.encoder.layers.*.fc1": "pixel_decoder.layers.*.fc1",
    f"{PIXEL}.encoder.layers.*.fc2": "pixel_decoder.layers.*.fc2",
    f"{PIXEL}.encoder.layers.*.final_layer_norm": "pixel_decoder.layers.*.norm2",
    f"{PIXEL}.adapter_1.0": "pixel_decoder.lateral.conv",
    f"{PIXEL}.adapter_1.1": "pixel_decoder.lateral.norm",
    f"{PIXEL}.layer_1.0": "pixel_decoder.output.conv",
    f"{PIXEL}.layer_1.1": "pixel_decoder.output.norm",
    f"{PIXEL}.mask_projection": "pixel_decoder.mask_proj",
    f"{QUERY}.queries_features.weight": "query_decoder.query_features",
    f"{QUERY}.queries_embedder.weight": "query_decoder.query_positions",
    f"{QUERY}.level_embed.weight": "query_decoder.level_embed",
    f"{QUERY}.decoder.layers.*.cross_attn": "query_decoder.layers.*.cross",
    f"{QUERY}.decoder.layers.*.cross_attn_layer_norm": "query_decoder.layers.*.cross_norm",
    f"{QUERY}.decoder.layers.*.self_attn.out_proj": "query_decoder.layers.*.self_attention.out_proj",
    f"{QUERY}.decoder.layers.*.self_attn_layer_norm": "query_decoder.layers.*.self_norm",
    f"{QUERY}.decoder.layers.*.fc1": "query_decoder.layers.*.fc1",
    f"{QUERY}.decoder.layers.*.fc2": "query_decoder.layers.*.fc2",
    f"{QUERY}.decoder.layers.*.final_layer_norm": "query_decoder.layers.*.norm",
    f"{QUERY}.decoder.layernorm": "head.norm",
    f"{QUERY}.decoder.mask_predictor.mask_embedder.*.0": "head.mask_embed.layers.*",
    "class_predictor": "head.classifier",
}

# Cross-attention is stored fused, self-attention split; here both are fused.
JOINED = split_attention(f"{QUERY}.decoder.layers.*.self_attn", "query_decoder.layers.*.self_attention")


def tables(config: Mask2FormerConfig) -> list[Table]:
    """Every name of a file."""
    rows = Table(RENAMED, JOINED, dropped=(r"criterion\.empty_weight",))
    return [backbone_table(config.backbone, ENCODER), rows]


def constants(config: Mask2FormerConfig) -> dict[str, Tensor]:
    """What a file holds that is no weight here."""
    return class_weights(config.num_classes, config.no_object_weight) | backbone_constants(config.backbone, ENCODER)
