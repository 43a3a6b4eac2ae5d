"""timm's names of a Swin Transformer; those of the classifier are not read.

timm joins patches at the beginning of a stage, the authors (and the code here) at the end of the one before.
"""

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
