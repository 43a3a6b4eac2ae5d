"""Hugging Face names of a ResNet backbone."""

ENCODER = "model.pixel_level_module.encoder"
BLOCK = f"{ENCODER}.encoder.stages.*.layers.*"
OURS = "backbone.stages.*.*"

RENAMED = {
    f"{ENCODER}.embedder.embedder.convolution": "backbone.stem.conv",
    f"{ENCODER}.embedder.embedder.normalization": "backbone.stem.norm",
    f"{BLOCK}.shortcut.convolution": f"{OURS}.shortcut.conv",
    f"{BLOCK}.shortcut.normalization": f"{OURS}.shortcut.norm",
    **{f"{BLOCK}.layer.{i}.convolution": f"{OURS}.conv{i + 1}.conv" for i in range(3)},
    **{f"{BLOCK}.layer.{i}.normalization": f"{OURS}.conv{i + 1}.norm" for i in range(3)},
}
JOINED: dict[tuple[str, ...], str] = {}
ALIASES: dict[str, str] = {}
