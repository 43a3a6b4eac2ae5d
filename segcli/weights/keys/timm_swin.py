"""timm's names of a Swin Transformer; those of the classifier are not read.

timm joins patches at the beginning of a stage, the authors (and the code here) at the end of the one before.
"""

from __future__ import annotations

from torch import Tensor

RENAMED = {
    "patch_embed.proj": "patch_embed",
    "patch_embed.norm": "patch_norm",
    "layers.*.blocks.*.norm1": "stages.*.blocks.*.norm1",
    "layers.*.blocks.*.attn.qkv": "stages.*.blocks.*.attention.qkv",
    "layers.*.blocks.*.attn.proj": "stages.*.blocks.*.attention.proj",
    "layers.*.blocks.*.attn.relative_position_bias_table": "stages.*.blocks.*.attention.bias_table",
    "layers.*.blocks.*.norm2": "stages.*.blocks.*.norm2",
    "layers.*.blocks.*.mlp.fc1": "stages.*.blocks.*.fc1",
    "layers.*.blocks.*.mlp.fc2": "stages.*.blocks.*.fc2",
    **{f"layers.{stage + 1}.downsample": f"stages.{stage}.downsample" for stage in range(3)},
}
UNUSED = ("norm.", "head.")
# Computed from the sizes.
DERIVED = ("relative_position_index", "attn_mask")


def modern(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Files from before timm moved the joining of patches number it by the stage it ends: bring it to the later."""
    if "layers.0.downsample.norm.weight" not in state:
        return state
    return {
        f"layers.{int(name.split('.')[1]) + 1}.{rest}"
        if (rest := name.split(".", 2)[-1]).startswith("downsample")
        else name: t
        for name, t in state.items()
    }
