"""ResNet-50 and -101 (arXiv 1512.03385) as a four-level backbone; the stride sits in the 3×3 convolution."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.config.backbones.resnet import ResNetConfig
from segcli.models.backbones.convolution import ConvNorm
from segcli.models.parts import Backbone


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 and a shortcut."""

    def __init__(self, in_dim: int, out_dim: int, stride: int, dilation: int = 1, frozen: bool = False) -> None:
        super().__init__()
        mid = out_dim // 4
        self.conv1 = ConvNorm(in_dim, mid, frozen=frozen)
        self.conv2 = ConvNorm(mid, mid, 3, stride, dilation=dilation, frozen=frozen)
        self.conv3 = ConvNorm(mid, out_dim, frozen=frozen)
        resized = stride > 1 or in_dim != out_dim
        self.shortcut = ConvNorm(in_dim, out_dim, 1, stride, frozen=frozen) if resized else None

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        x = self.conv2(self.conv1(x).relu_()).relu_()
        return self.conv3(x).add_(shortcut).relu_()


class ResNet(Backbone):
    """Images [B, 3, H, W] -> four maps at strides 4, 8, 16, 32 (channels last).

    dilated: the last map stays at stride 16, and the blocks after its first look twice as far (DC5).
    frozen: norms do not learn.
    """

    def __init__(
        self,
        depths: list[int],
        hidden_sizes: list[int],
        embedding_size: int = 64,
        dilated: bool = False,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        self.channels = list(hidden_sizes)
        self.stem = ConvNorm(3, embedding_size, 7, 2, frozen=frozen)
        dims = [embedding_size, *hidden_sizes]
        stages = []
        for i, depth in enumerate(depths):
            in_dim, out_dim = dims[i : i + 2]
            kept = i == 0 or (dilated and i == len(depths) - 1)
            first = Bottleneck(in_dim, out_dim, 1 if kept else 2, frozen=frozen)
            dilation = 2 if kept and i > 0 else 1
            rest = (Bottleneck(out_dim, out_dim, 1, dilation, frozen) for _ in range(depth - 1))
            stages.append(nn.Sequential(first, *rest))
        self.stages = nn.ModuleList(stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        """images [B, 3, H, W] -> pyramid, fine to coarse."""
        x = images.contiguous(memory_format=torch.channels_last)
        x = F.max_pool2d(self.stem(x).relu_(), 3, 2, 1)
        pyramid = []
        for stage in self.stages:
            x = stage(x)
            pyramid.append(x)
        return pyramid


def build(config: ResNetConfig) -> ResNet:
    """The untrained backbone of a configuration."""
    return ResNet(
        list(config.depths), list(config.hidden_sizes), config.embedding_size, config.dilated, config.frozen_norms
    )
