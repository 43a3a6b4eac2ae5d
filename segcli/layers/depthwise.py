"""Depthwise convolution whose gradients take no longer than they must on a CPU.

Of depthwise convolutions oneDNN differentiates by the weights quickly if their kernel is 3×3 and nothing is padded; a
5×5 one falls to a loop that takes ten times as long as the forward pass, and sums the bias by the same loop. Half
precision has its own holes (the input's gradient at a stride of 2: more than 30 times the forward pass). So the
backward pass is put together from what is quick: on an Intel Xeon the 5×5 ones of EfficientNet-Lite0 take 0.6 to 0.75
of the time, in bf16 a fifth (`benchmarks/depthwise.py`).
"""

from __future__ import annotations

import platform
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_X86 = platform.machine().lower() in ("x86_64", "amd64")
Pair = tuple[int, ...]  # rows, columns


def depthwise(x: Tensor, weight: Tensor, bias: Tensor, stride: Pair, padding: str | Pair) -> Tensor:
    """x [B, C, h, w], weight [C, 1, k, k], bias [C] -> [B, C, h', w'], with autocast as `F.conv2d` has it."""
    if _X86 and x.device.type == "cpu" and torch.is_grad_enabled() and torch.backends.mkldnn.enabled:
        assert not isinstance(padding, str)  # `nn.Conv2d` allows words, which no layer of ours uses
        y: Tensor = _Depthwise.apply(x, weight, bias, stride, padding)
        return y
    return F.conv2d(x, weight, bias, stride, padding, groups=len(weight))


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: Pair, padding: Pair) -> Tensor:
        y = F.conv2d(x, weight, bias, stride, padding, groups=len(weight))
        ctx.save_for_backward(x.to(y.dtype), weight.to(y.dtype))
        ctx.stride, ctx.padding, ctx.dtypes = stride, padding, (x.dtype, weight.dtype, bias.dtype)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding = ctx.stride, ctx.padding
        of_x, of_weight, of_bias = ctx.dtypes
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        rows = gradient.permute(0, 2, 3, 1).flatten(0, 2)
        return (
            _of_input(gradient, x, weight, stride, padding).to(of_x) if ctx.needs_input_grad[0] else None,
            _of_weight(gradient, x, weight, stride, padding).to(of_weight),
            rows.sum(0).to(of_bias),
            None,
            None,
        )


def _of_input(gradient: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    if max(stride) > 1:  # half precision has no quick code for it
        gradient, weight = gradient.float(), weight.float()
    x = torch.empty_like(x, dtype=weight.dtype)  # its shape is asked for, not its values
    return _backward(gradient, x, weight, stride, padding, [True, False, False])[0]


def _of_weight(gradient: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """Of 5×5 in four overlapping 3×3, those that begin at row and column 0 and 2: each is the sum over the map of
    products with the gradient, which is moved by 2 pixels of x for the later ones."""
    if weight.shape[2:] != (5, 5) or max(stride) > 2:
        return _backward(gradient, x, weight, stride, padding, [False, True, False])[1]
    if any(padding):
        x = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    down, right = 2 // stride[0], 2 // stride[1]
    count, channels, height, width = gradient.shape
    # The gradient lies in lines with `right` zeros behind each, which are those before the next one too: begun so much
    # earlier, the same memory holds it moved. No other copy is made, image by image.
    line = width + right
    memory = gradient.new_zeros(count, right + (height + 2 * down) * line, channels)
    lines = memory[:, right:].unflatten(1, (-1, line))
    lines[:, down : down + height, :width] = gradient.permute(0, 2, 3, 1)
    whole = weight.new_zeros(weight.shape, dtype=torch.float32)
    part = torch.empty_like(weight[:, :, :3, :3])
    for of_image, image in zip(memory.unbind(), x.split(1), strict=True):
        for i in (0, 1):
            for j in (0, 1):
                moved = of_image[right * (1 - j) + down * (1 - i) * line :][: (height + down) * line]
                moved = moved.view(1, height + down, line, channels).permute(0, 3, 1, 2)
                of_part = _backward(moved, image, part, stride, (0, 0), [False, True, False])[1]
                # Row and column 2 of the whole are in two of them, and counted with the first.
                whole[:, :, 3 * i : 3 + 2 * i, 3 * j : 3 + 2 * j] += of_part[:, :, i:, j:]
    return whole


def _backward(gradient: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair, wanted: list[bool]) -> Any:
    count = len(weight)
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, [count], stride, padding, [1, 1], False, [0, 0], count, wanted
    )
