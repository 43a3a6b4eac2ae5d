"""Hugging Face names of MaskFormer, as the Hub stores them."""

from __future__ import annotations

import torch
from torch import Tensor

from segcli.config import MaskFormerConfig, SwinConfig
from segcli.models.backbones.swin import relative_positions
from segcli.weights.keys import swin
from segcli.weights.keys.backbones import backbone_table
from segcli.weights.keys.constants import class_weights, swin_norm
from segcli.weights.keys.detr_parts import decoder_table, encoder_table
from segcli.weights.keys.table import Table

ENCODER = "model.pixel_level_module.encoder"
PIXEL = "model.pixel_level_module.decoder"
QUERY = "model.transformer_module"

PIXEL_DECODER = {
    f"{PIXEL}.fpn.stem.0": "pixel_decoder.stem.conv",
    f"{PIXEL}.fpn.stem.1": "pixel_decoder.stem.norm",
    f"{PIXEL}.fpn.layers.*.proj.0": "pixel_decoder.laterals.*.conv",
    f"{PIXEL}.fpn.layers.*.proj.1": "pixel_decoder.laterals.*.norm",
    f"{PIXEL}.fpn.layers.*.block.0": "pixel_decoder.outputs.*.conv",
    f"{PIXEL}.fpn.layers.*.block.1": "pixel_decoder.outputs.*.norm",
    f"{PIXEL}.mask_projection": "pixel_decoder.mask_proj",
}
QUERY_DECODER = {
    f"{QUERY}.queries_embedder.weight": "query_decoder.query_positions",
    f"{QUERY}.input_projection": "query_decoder.input_proj",
    "class_predictor": "head.classifier",
    "mask_embedder.*.0": "head.mask_embed.layers.*",
}
# Of the "6Enc" variants, which transformers does not have; named as its DETR names an encoder.
PIXEL_ENCODER = [
    Table({f"{PIXEL}.input_projection": "pixel_decoder.input_proj"}),
    encoder_table(f"{PIXEL}.encoder", "pixel_decoder.encoder"),
]
DECODER = [Table(PIXEL_DECODER | QUERY_DECODER), decoder_table(f"{QUERY}.decoder")]


def tables(config: MaskFormerConfig) -> list[Table]:
    """Every name of a file."""
    criterion = Table({}, dropped=(r"criterion\.empty_weight",))
    encoder = PIXEL_ENCODER if config.encoder_layers else []
    return [backbone_table(config.backbone, ENCODER, maskformer_swin), criterion, *DECODER, *encoder]


def maskformer_swin(encoder: str) -> Table:
    """transformers' own copy of Swin for MaskFormer."""
    return swin.table(encoder, f"{encoder}.model", "hidden_states_norms.{}", 0)


def constants(config: MaskFormerConfig) -> dict[str, Tensor]:
    """What a file holds that is no weight here."""
    return class_weights(config.num_classes, config.no_object_weight) | swin_constants(config)


def swin_constants(config: MaskFormerConfig) -> dict[str, Tensor]:
    """transformers' MaskFormer stores for every block which row of its table belongs to which pair of places."""
    backbone = config.backbone
    if not isinstance(backbone, SwinConfig):
        return {}
    side = backbone.window_size**2
    index = relative_positions(backbone.window_size, torch.device("cpu")).view(side, side)
    blocks = [(stage, block) for stage, depth in enumerate(backbone.depths) for block in range(depth)]
    name = f"{ENCODER}.model.encoder.layers.{{}}.blocks.{{}}.attention.self.relative_position_index"
    return swin_norm(backbone, f"{ENCODER}.model.layernorm") | {name.format(*at): index.clone() for at in blocks}
