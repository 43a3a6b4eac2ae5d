"""timm's names of EfficientNet-Lite0, below transformers' prefix of a timm backbone.

The first stage has no expansion, so its 1×1 convolution is the projection: its rows come before the general ones.
"""

ENCODER = "model.pixel_level_module.encoder._backbone"

RENAMED = {
    f"{ENCODER}.conv_stem": "backbone.stem.conv",
    f"{ENCODER}.bn1": "backbone.stem.norm",
    f"{ENCODER}.blocks.0.*.conv_dw": "backbone.stages.0.*.depthwise.conv",
    f"{ENCODER}.blocks.0.*.bn1": "backbone.stages.0.*.depthwise.norm",
    f"{ENCODER}.blocks.0.*.conv_pw": "backbone.stages.0.*.project.conv",
    f"{ENCODER}.blocks.0.*.bn2": "backbone.stages.0.*.project.norm",
    f"{ENCODER}.blocks.*.*.conv_pw": "backbone.stages.*.*.expand.conv",
    f"{ENCODER}.blocks.*.*.bn1": "backbone.stages.*.*.expand.norm",
    f"{ENCODER}.blocks.*.*.conv_dw": "backbone.stages.*.*.depthwise.conv",
    f"{ENCODER}.blocks.*.*.bn2": "backbone.stages.*.*.depthwise.norm",
    f"{ENCODER}.blocks.*.*.conv_pwl": "backbone.stages.*.*.project.conv",
    f"{ENCODER}.blocks.*.*.bn3": "backbone.stages.*.*.project.norm",
}
JOINED: dict[tuple[str, ...], str] = {}
ALIASES: dict[str, str] = {}
