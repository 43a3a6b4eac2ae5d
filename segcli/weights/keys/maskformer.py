"""Hugging Face names of MaskFormer, as the Hub stores them."""

from __future__ import annotations

from torch import Tensor

from segcli.config.maskformer import MaskFormerConfig
from segcli.weights.keys.backbones import backbone_constants, backbone_table
from segcli.weights.keys.constants import class_weights
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
    return [backbone_table(config.backbone, ENCODER, "maskformer"), criterion, *DECODER, *encoder]


def constants(config: MaskFormerConfig) -> dict[str, Tensor]:
    """What a file holds that is no weight here."""
    weights = class_weights(config.num_classes, config.no_object_weight)
    return weights | backbone_constants(config.backbone, ENCODER, "maskformer")
