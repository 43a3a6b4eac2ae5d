"""Names of EoMT: transformers', of both architectures, and those of the authors' own files, which are read too."""

from __future__ import annotations

import torch
from torch import Tensor

from segcli.config.eomt import EomtConfig
from segcli.weights.keys.constants import class_weights
from segcli.weights.keys.table import Table
from segcli.weights.keys.vit import block_table

ENCODER = "network.encoder.backbone"  # of the authors
_HEAD = {
    "query.weight": "query_decoder.query_features",
    "class_predictor": "head.classifier",
    **{f"mask_head.fc{i + 1}": f"head.mask_embed.layers.{i}" for i in range(3)},
    "upscale_block.block.*.conv1": "pixel_decoder.blocks.*.up",
    "upscale_block.block.*.conv2": "pixel_decoder.blocks.*.conv",
    "upscale_block.block.*.layernorm2d": "pixel_decoder.blocks.*.norm",
    "attn_mask_probs": "query_decoder.mask_probabilities",
    "layernorm": "query_decoder.norm",
}
_AUTHORS = {
    f"{ENCODER}.cls_token": "backbone.class_token",
    f"{ENCODER}.reg_token": "backbone.registers",
    f"{ENCODER}.pos_embed": "backbone.positions",
    f"{ENCODER}.patch_embed.proj": "backbone.patch_embed",
    f"{ENCODER}.blocks.*.norm1": "backbone.blocks.*.norm1",
    f"{ENCODER}.blocks.*.norm2": "backbone.blocks.*.norm2",
    f"{ENCODER}.blocks.*.attn.qkv": "backbone.blocks.*.attention.qkv",
    f"{ENCODER}.blocks.*.attn.proj": "backbone.blocks.*.attention.proj",
    f"{ENCODER}.blocks.*.ls1.gamma": "backbone.blocks.*.scale1",
    f"{ENCODER}.blocks.*.ls2.gamma": "backbone.blocks.*.scale2",
    f"{ENCODER}.blocks.*.mlp.fc1": "backbone.blocks.*.fc1",
    f"{ENCODER}.blocks.*.mlp.fc2": "backbone.blocks.*.fc2",
    f"{ENCODER}.norm": "query_decoder.norm",
    "network.q.weight": "query_decoder.query_features",
    "network.class_head": "head.classifier",
    **{f"network.mask_head.{2 * i}": f"head.mask_embed.layers.{i}" for i in range(3)},
    "network.upscale.*.conv1": "pixel_decoder.blocks.*.up",
    "network.upscale.*.conv2": "pixel_decoder.blocks.*.conv",
    "network.upscale.*.norm": "pixel_decoder.blocks.*.norm",
    "network.attn_mask_probs": "query_decoder.mask_probabilities",
}
# The authors' DINOv3 keeps transformers' words below the encoder.
_AUTHORS_DINOV3 = {
    f"{ENCODER}.patch_embed.cls_token": "backbone.class_token",
    f"{ENCODER}.patch_embed.register_tokens": "backbone.registers",
    f"{ENCODER}.patch_embed.patch_embeddings": "backbone.patch_embed",
}


def tables(config: EomtConfig) -> list[Table]:
    """Every name of a file. Which part a block lies in depends on its number."""
    vit = config.vit
    rotary = vit.positions == "rotary"
    rows = {
        "embeddings.cls_token": "backbone.class_token",
        "embeddings.register_tokens": "backbone.registers",
        f"embeddings.patch_embeddings{'' if rotary else '.projection'}": "backbone.patch_embed",
    }
    if not rotary:
        rows["embeddings.position_embeddings.weight"] = "backbone.positions"
    first = vit.depth - config.joint_blocks
    moved = {f"backbone.blocks.{first + i}.": f"query_decoder.blocks.{i}." for i in range(config.joint_blocks)}
    return [
        Table(rows | _HEAD, dropped=(r"(network\.)?criterion\.empty_weight", r".*pixel_(mean|std)"), moved=moved),
        block_table(vit, "layers", "backbone"),
        Table(_AUTHORS, unpacked=(f"{ENCODER}.pos_embed",)),
        Table(_AUTHORS_DINOV3, dropped=(rf"{ENCODER}\.patch_embed\.mask_token",)),
        block_table(vit, f"{ENCODER}.blocks", "backbone"),
    ]


def constants(config: EomtConfig) -> dict[str, Tensor]:
    """What a file holds that is no weight here."""
    return class_weights(config.num_classes, config.no_object_weight)


def defaults(config: EomtConfig) -> dict[str, Tensor]:
    """Of tensors that a file may lack: an early converter left out how much of the annealing is done. All that was
    published has all of it behind it.
    """
    return {"query_decoder.mask_probabilities": torch.zeros(config.joint_blocks)}
