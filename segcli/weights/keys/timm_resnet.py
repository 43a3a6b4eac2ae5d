"""timm's (and torchvision's) names of a ResNet with bottleneck blocks; those of the classifier are not read."""

RENAMED = {"conv1": "stem.conv", "bn1": "stem.norm"} | {
    f"layer{stage + 1}.*.{theirs}": f"stages.{stage}.*.{ours}"
    for stage in range(4)
    for theirs, ours in {
        **{f"conv{i}": f"conv{i}.conv" for i in (1, 2, 3)},
        **{f"bn{i}": f"conv{i}.norm" for i in (1, 2, 3)},
        "downsample.0": "shortcut.conv",
        "downsample.1": "shortcut.norm",
    }.items()
}
UNUSED = ("fc.",)
