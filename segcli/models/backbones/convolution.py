"""Convolution with batch normalisation, the brick of ResNet and EfficientNet-Lite."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.layers.depthwise import depthwise
from segcli.layers.trace import is_exporting


class ConvNorm(nn.Module):
    """Convolution without bias, then BatchNorm; in evaluation the norm is folded into the convolution as it runs.

    `same` pads as TensorFlow does: to ⌈size / stride⌉ outputs, the odd pixel on the right and at the bottom.
    `frozen`: the norm does not learn (DETR).
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        eps: float = 1e-5,
        same: bool = False,
        dilation: int = 1,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        self.same = same
        padding = 0 if same else kernel // 2 * dilation
        self.conv = nn.Conv2d(in_dim, out_dim, kernel, stride, padding, dilation, groups, bias=False)
        self.norm = FrozenNorm(out_dim, eps) if frozen else nn.BatchNorm2d(out_dim, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, h, w] -> [B, C', h / stride, w / stride]."""
        conv, norm = self.conv, self.norm
        padding = conv.padding
        if self.same:
            x, padding = _padded_same(x, conv.kernel_size[0], conv.stride[0])
        if norm.training and isinstance(norm, nn.BatchNorm2d):
            return norm(F.conv2d(x, conv.weight, None, conv.stride, padding, conv.dilation, conv.groups))
        # The fold is a pass over the weights, cheap beside one over the map, and leaves the stored tensors as they are.
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None  # BatchNorm2d tracks its statistics unless told otherwise
        assert variance is not None
        scale = norm.weight * (variance + norm.eps).rsqrt()
        bias = norm.bias - mean * scale
        weight = conv.weight * scale[:, None, None, None]
        if 1 < conv.groups == conv.in_channels == conv.out_channels and conv.dilation == (1, 1):
            return depthwise(x, weight, bias, conv.stride, padding)
        return F.conv2d(x, weight, bias, conv.stride, padding, conv.dilation, conv.groups)


class FrozenNorm(nn.Module):
    """A BatchNorm whose statistics, weight and bias stay as they were loaded."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight: Tensor
        self.bias: Tensor
        self.running_mean: Tensor
        self.running_var: Tensor
        for name, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            self.register_buffer(name, torch.full((dim,), float(value)))


def _padded_same(x: Tensor, kernel: int, stride: int) -> tuple[Tensor, tuple[int, int]]:
    """The map and the padding left to the convolution: all of it, unless the two sides differ, which takes a copy."""
    if is_exporting():  # to inputs of whole multiples of the coarsest stride
        pad_y = pad_x = kernel - stride
    else:
        pad_y, pad_x = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[2:])
    if pad_x % 2 or pad_y % 2:
        return F.pad(x, (pad_x // 2, pad_x - pad_x // 2, pad_y // 2, pad_y - pad_y // 2)), (0, 0)
    return x, (pad_y // 2, pad_x // 2)
