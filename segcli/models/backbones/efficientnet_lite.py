"""EfficientNet-Lite as a four-level backbone: mobile convolutions with BatchNorm and ReLU6, TensorFlow's padding.

Block layout and names follow timm's `tf_efficientnet_lite0` to `…2` (TensorFlow trained
their weights, hence eps 1e-3).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.config.backbones.efficientnet_lite import EfficientNetLiteConfig
from segcli.models.backbones.convolution import ConvNorm
from segcli.models.parts import Backbone

STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))  # kernel, stride, expansion
LEVELS = (1, 2, 4, 6)  # the stages whose outputs have strides 4, 8, 16, 32
EPS = 1e-3


class MobileBlock(nn.Module):
    """Expand 1×1 (unless the expansion is 1), depthwise k×k, project 1×1 without activation; residual where it fits."""

    def __init__(self, in_dim: int, out_dim: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        mid = in_dim * expansion
        self.expand = ConvNorm(in_dim, mid, eps=EPS) if expansion > 1 else None
        self.depthwise = ConvNorm(mid, mid, kernel, stride, groups=mid, eps=EPS, same=True)
        self.project = ConvNorm(mid, out_dim, eps=EPS)
        self.residual = stride == 1 and in_dim == out_dim

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(x) if self.expand is None else self.depthwise.of_relu6(self.expand(x))
        y = self.project(F.relu6(y, inplace=True))
        return y.add_(x) if self.residual else y


class EfficientNetLite(Backbone):
    """Images [B, 3, H, W] -> four maps at strides 4, 8, 16, 32 (channels last); Lite0's have 24, 40, 112, 320 channels.

    repeats, widths: blocks and output channels of the seven stages.
    """

    def __init__(self, repeats: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 32, 3, 2, eps=EPS, same=True)
        stages, dim = [], 32
        for (kernel, stride, expansion), count, channels in zip(STAGES, repeats, widths, strict=True):
            blocks = []
            for i in range(count):
                blocks.append(MobileBlock(dim, channels, kernel, stride if i == 0 else 1, expansion))
                dim = channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.channels = [widths[level] for level in LEVELS]

    def forward(self, images: Tensor) -> list[Tensor]:
        """images [B, 3, H, W] -> pyramid, fine to coarse."""
        x = images.contiguous(memory_format=torch.channels_last)
        x = F.relu6(self.stem(x), inplace=True)
        pyramid = []
        for level, stage in enumerate(self.stages):
            x = stage(x)
            if level in LEVELS:
                pyramid.append(x)
        return pyramid


def build(config: EfficientNetLiteConfig) -> EfficientNetLite:
    """The untrained backbone of a configuration."""
    return EfficientNetLite(config.repeats, config.widths)
