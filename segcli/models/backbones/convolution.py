"""Convolution with batch normalisation, the brick of ResNet and EfficientNet-Lite."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from segcli.layers.half import learns_in_half
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
        is_depthwise = 1 < conv.groups == conv.in_channels == conv.out_channels
        is_plain = conv.kernel_size[0] == 3 and conv.stride[0] == 1  # quick in half precision too
        if is_depthwise and not is_plain and learns_in_half(x):
            y: Tensor = _Depthwise.apply(x, weight, bias, conv.stride, padding, conv.dilation)
            return y
        return F.conv2d(x, weight, bias, conv.stride, padding, conv.dilation, conv.groups)


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution in half precision forward and in fp32 backward (`learns_in_half`)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding, dilation
        return F.conv2d(x, weight, bias, stride, padding, dilation, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        count = len(weight)
        of_x, of_weight, of_bias = torch.ops.aten.convolution_backward(
            gradient.float(), x.float(), weight, [count], *ctx.geometry, False, [0, 0], count, [True] * 3
        )
        return of_x.to(x.dtype), of_weight, of_bias, None, None, None


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
