"""Names of DINOv2 (with registers or without) and DINOv3 as transformers saves them, and what it takes to bring them to
another grid and to patches of another size.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.config.backbones.vit import ViTConfig
from segcli.models.backbones.vit import resized_table
from segcli.weights.keys.table import Table
from segcli.weights.keys.vit import block_table

_WHOLE = ("dinov2.", "dinov2_with_registers.", "dinov3_vit.", "model.")  # prefixes that a file may put before all
_ALIASES = {
    "encoder.layer.": "layer.",
    ".attention.attention.query.": ".attention.q_proj.",
    ".attention.attention.key.": ".attention.k_proj.",
    ".attention.attention.value.": ".attention.v_proj.",
    ".attention.output.dense.": ".attention.out_proj.",
}


def tables(config: ViTConfig) -> list[Table]:
    """Every name of a file; what only the pre-training needed is left out."""
    rows = {
        "embeddings.cls_token": "class_token",
        "embeddings.register_tokens": "registers",
        "embeddings.patch_embeddings.projection": "patch_embed",
        "embeddings.patch_embeddings": "patch_embed",
        "embeddings.position_embeddings": "positions",
        "layernorm": "norm",
        "norm": "norm",
    }
    return [Table(rows, aliases=_ALIASES, dropped=(r"embeddings\.mask_token",)), block_table(config, "layer", "")]


def modern(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefix of the whole network, if the file has one."""
    for prefix in _WHOLE:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def fitted(ours: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a DINO for the grid and the patches of another network."""
    ours = dict(ours)
    ours.setdefault("registers", wanted["registers"].new_zeros(1, 0, wanted["registers"].shape[2]))
    if "positions" in ours and ours["positions"].dim() == 3:
        # The position of the class token is added to it once and for all; the sum is what enters the first block.
        table = ours["positions"][0].float()
        ours["class_token"] = ours["class_token"].float() + table[:1]
        side, target = (round(count**0.5) for count in (len(table) - 1, len(wanted["positions"])))
        ours["positions"] = resized_table(table[1:], side, target, target)
    size = wanted["patch_embed.weight"].shape[-1]
    ours["patch_embed.weight"] = resized_kernel(ours["patch_embed.weight"].float(), size)
    return ours


def resized_kernel(kernel: Tensor, size: int) -> Tensor:
    """A patch embedding [D, 3, s, s] for patches of another size, such that a patch resized to it gives nearly the same
    answer (FlexiViT, arXiv 2212.08013, §3.4): the pseudo-inverse of the resizing, not a resizing of the kernel.
    """
    old = kernel.shape[-1]
    if old == size:
        return kernel
    units = torch.eye(old * old).view(-1, 1, old, old)
    resizing = F.interpolate(units, size=(size, size), mode="bicubic", antialias=True).flatten(1).t()  # [size², old²]
    inverse = torch.linalg.pinv(resizing.t())  # [size², old²]
    return (kernel.flatten(2) @ inverse.t()).unflatten(2, (size, size))
