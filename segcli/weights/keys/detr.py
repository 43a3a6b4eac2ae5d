"""Hugging Face names of DETR, as the Hub stores them: of the main revisions (a ResNet of timm) and of `no_timm`."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from segcli.config.backbones import BackboneConfig
from segcli.config.backbones.resnet import ResNetConfig
from segcli.config.detr import DetrConfig
from segcli.weights.keys import timm_resnet
from segcli.weights.keys.backbones import backbone_table
from segcli.weights.keys.detr_parts import decoder_table, encoder_table
from segcli.weights.keys.table import Table

MASK_HEAD = {
    "bbox_attention.q_linear": "head.masks.attention.query",
    "bbox_attention.k_linear": "head.masks.attention.key",
    "mask_head.lay1": "head.masks.stem.conv",
    "mask_head.gn1": "head.masks.stem.norm",
    "mask_head.lay2": "head.masks.squeeze.conv",
    "mask_head.gn2": "head.masks.squeeze.norm",
    **{f"mask_head.adapter{i + 1}": f"head.masks.laterals.{i}" for i in range(3)},
    **{f"mask_head.lay{i + 3}": f"head.masks.outputs.{i}.conv" for i in range(3)},
    **{f"mask_head.gn{i + 3}": f"head.masks.outputs.{i}.norm" for i in range(3)},
    "mask_head.out_lay": "head.masks.mask_proj",
}
# transformers ≥ 5 keeps these names in memory; files have the second ones.
MASK_HEAD_ALIASES = {
    "bbox_attention.q_proj.": "bbox_attention.q_linear.",
    "bbox_attention.k_proj.": "bbox_attention.k_linear.",
    **{f"mask_head.conv{i}.conv.": f"mask_head.lay{i}." for i in (1, 2)},
    **{f"mask_head.conv{i}.norm.": f"mask_head.gn{i}." for i in (1, 2)},
    **{f"mask_head.fpn_stages.{i}.fpn_adapter.": f"mask_head.adapter{i + 1}." for i in range(3)},
    **{f"mask_head.fpn_stages.{i}.refine.conv.": f"mask_head.lay{i + 3}." for i in range(3)},
    **{f"mask_head.fpn_stages.{i}.refine.norm.": f"mask_head.gn{i + 3}." for i in range(3)},
    "mask_head.output_conv.": "mask_head.out_lay.",
}


def tables(config: DetrConfig) -> list[Table]:
    """Every name of a file."""
    prefix = "detr." if config.masks else ""
    model = f"{prefix}model"
    rows = {
        f"{model}.input_projection": "pixel_decoder.input_proj",
        f"{model}.query_position_embeddings.weight": "query_decoder.query_positions",
        f"{prefix}class_labels_classifier": "head.classifier",
        f"{prefix}bbox_predictor.layers.*": "head.box_embed.layers.*",
    }
    return [
        _backbone(config.backbone, f"{model}.backbone.conv_encoder.model"),
        Table(rows, aliases={"backbone.model.": "backbone.conv_encoder.model."}),
        encoder_table(f"{model}.encoder", "pixel_decoder.encoder"),
        decoder_table(f"{model}.decoder"),
        *([Table(MASK_HEAD, aliases=MASK_HEAD_ALIASES)] if config.masks else []),
    ]


def _backbone(config: BackboneConfig, prefix: str) -> Table:
    """The norms of a ResNet are constants: a counter of batches in a file is not read."""
    counters = (r".*\.backbone\..*num_batches_tracked",)
    if not isinstance(config, ResNetConfig):
        return backbone_table(config, prefix)
    if config.timm_names:
        rows = {f"{prefix}.{theirs}": f"backbone.{ours}" for theirs, ours in timm_resnet.RENAMED.items()}
        return Table(rows, dropped=counters)
    return replace(backbone_table(config, prefix), dropped=counters)


def constants(config: DetrConfig) -> dict[str, Tensor]:
    """Nothing beside the weights."""
    return {}
