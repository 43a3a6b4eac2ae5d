"""Convolution with batch normalisation, the brick of ResNet and EfficientNet-Lite."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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
        if not self.same:
            return self._convolve(x, self.conv.padding)
        border = self._border(x)
        if border.is_even:
            return self._convolve(x, border.even)
        return self._convolve(F.pad(x, (border.left, border.right, border.top, border.bottom)), (0, 0))

    def of_relu6(self, x: Tensor) -> Tensor:
        """`forward` of relu6(x), which may be written over x; where x needs a border, both are one pass."""
        border = self._border(x) if self.same else _Border(0, 0, 0, 0)
        if border.is_even or is_exporting():
            return self(F.relu6(x, inplace=True))
        return self._convolve(_Relu6InBorder.apply(x, border), (0, 0))

    def _border(self, x: Tensor) -> _Border:
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        if is_exporting():  # to inputs of whole multiples of the coarsest stride
            down = right = kernel - stride
        else:
            down, right = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[2:])
        return _Border(down // 2, down - down // 2, right // 2, right - right // 2)

    def _convolve(self, x: Tensor, padding: str | tuple[int, ...]) -> Tensor:
        conv, norm = self.conv, self.norm
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


class _Border(NamedTuple):
    """Lines of zeros around a map."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def is_even(self) -> bool:
        """Whether a convolution can add it by itself; else it takes a copy of the map."""
        return self.top == self.bottom and self.left == self.right

    @property
    def even(self) -> tuple[int, int]:
        return self.top, self.left


class _Relu6InBorder(torch.autograd.Function):
    """relu6(x) in a map with a border, without a copy of it that has none."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, border: _Border) -> Tensor:
        count, channels, height, width = x.shape
        shape = (count, channels, height + border.top + border.bottom, width + border.left + border.right)
        framed = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        for axis, (before, size) in enumerate(((border.top, height), (border.left, width)), 2):
            framed.narrow(axis, 0, before).zero_()
            framed.narrow(axis, before + size, framed.shape[axis] - before - size).zero_()
        torch.clamp(x, 0, 6, out=_inside(framed, x.shape, border))
        ctx.save_for_backward(framed)
        ctx.border, ctx.shape = border, x.shape
        return framed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (framed,) = ctx.saved_tensors
        gradient, y = (_inside(t, ctx.shape, ctx.border) for t in (gradient, framed))
        return torch.ops.aten.hardtanh_backward(gradient, y, 0, 6), None


def _inside(framed: Tensor, shape: tuple[int, ...], border: _Border) -> Tensor:
    """The map [B, C, h, w] within its border, as a view."""
    return framed.narrow(2, border.top, shape[2]).narrow(3, border.left, shape[3])
