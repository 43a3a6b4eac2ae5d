"""Matrix products by the fastest routine in PyTorch's wheel; where the time of a network on a CPU goes.

`F.linear` and `@` in fp32 are MKL's on x86, whose AVX-512 code runs on Intel's processors alone. oneDNN, in the same
wheel, runs it wherever the processor has it, but of fp32 PyTorch gives it convolutions alone. Now a linear layer is a
1×1 convolution, and [N, I] is the same memory as a channels-last map [1, I, 1, N], so nothing is copied.

On an AMD EPYC (Zen 5) that is twice as fast, forward and backward (`benchmarks/products.py`). On an Intel Xeon, whose
products MKL makes well, it is up to 1.5 times as fast above some 4,000 rows and slower below, so MKL keeps those.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.layers.trace import is_exporting


def _is_intel() -> bool:
    """Whether the processor is Intel's: Windows names it in its environment, Linux in a file; macOS on x86 is."""
    try:
        told = Path("/proc/cpuinfo").read_bytes()[:4096].decode(errors="replace")
    except OSError:
        told = platform.processor()
    return "GenuineIntel" in told or platform.system() == "Darwin"


# Smaller products are not worth a convolution's preparations, and of smaller maps PyTorch has convolutions of its own.
FEWEST_ROWS = 4096 if _is_intel() else 64
LEAST_WORK = 15e6  # multiplications
LEAST_MAP = 20481  # numbers
# Of undilated 1×1 convolutions PyTorch makes MKL's products where there is but one thread; this dilates nothing.
_DILATION = [2, 2]
_X86 = platform.machine().lower() in ("x86_64", "amd64")


class Linear(nn.Linear):
    """`nn.Linear` by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., I] · weight [O, I] -> [..., O], with autocast and gradients as `F.linear` has them."""
    if bias is not None and _fuses(x, weight):
        fused: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return fused
    if not _convolves(x, weight):
        return F.linear(x, weight, bias)
    return _rows(F.conv2d(_map(x), weight[:, :, None, None], bias, dilation=_DILATION), x.shape[:-1])


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """gelu(linear(x, weight, bias)), which may be one pass where nothing is kept for gradients."""
    if _fuses(x, weight):
        fused: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], "none")
        return fused
    y = linear(x, weight, bias)
    return F.gelu(y) if torch.is_grad_enabled() or is_exporting() else torch.ops.aten.gelu_(y)


def linear_gradients(gradient: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """gradient [..., O] of linear(x, weight, bias) -> those of x, weight and bias, for backward passes by hand.

    All of one dtype.
    """
    if not _convolves(x, weight):
        rows = gradient.flatten(0, -2)
        return gradient @ weight, rows.t() @ x.flatten(0, -2), rows.sum(0)
    backward = torch.ops.aten.convolution_backward
    geometry = [1, 1], [0, 0], _DILATION, False, [0, 0], 1
    of_x, of_weight, of_bias = backward(
        _map(gradient), _map(x), weight[:, :, None, None], [weight.shape[0]], *geometry, [True] * 3
    )
    return _rows(of_x, x.shape[:-1]), of_weight.flatten(1), of_bias


def product(left: Tensor, right: Tensor) -> Tensor:
    """left [B, M, C] · right [B, C, P] -> [B, M, P], of as many images each. Quickest where `right` holds each column
    in one piece, as channels-last features do."""
    columns = right.transpose(1, 2)
    if left.dtype == torch.bfloat16 and left.device.type == "cpu" and not is_exporting():
        # Of a batched product oneDNN copies such columns, at seven times the cost of the product.
        parts = [a @ b for a, b in zip(left.unbind(), right.unbind(), strict=True)]
        return torch.stack(parts) if len(parts) > 1 else parts[0].unsqueeze(0)
    if not (_convolves(left[0], columns[0]) and _convolves(columns[0], left[0])):
        return left @ right
    if columns.is_contiguous() and left.shape[1] < left.shape[2]:  # oneDNN copies what it takes for the weight
        parts = [linear(b, a).t().contiguous() for a, b in zip(left.unbind(), columns.unbind(), strict=True)]
    elif columns.is_contiguous():
        parts = [linear(a, b) for a, b in zip(left.unbind(), columns.unbind(), strict=True)]
    else:
        maps = right.unsqueeze(2).split(1)  # [1, C, 1, P] each
        kernels = left[..., None, None].unbind()
        parts = [F.conv2d(b, a, dilation=_DILATION)[0, :, 0] for a, b in zip(kernels, maps, strict=True)]
    return torch.stack(parts) if len(parts) > 1 else parts[0].unsqueeze(0)


def _convolves(x: Tensor, weight: Tensor) -> bool:
    return (
        _X86
        and not is_exporting()
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and x.numel() >= max(LEAST_MAP, FEWEST_ROWS * x.shape[-1])
        and x.numel() * weight.shape[0] >= LEAST_WORK
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
    )


def _fuses(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN adds a bias and applies GELU while it makes the product. PyTorch hands it neither: it copies the
    bias to every row first, which in bf16 takes half as long as the product.
    """
    return (
        x.dtype == weight.dtype == torch.bfloat16
        and x.device.type == "cpu"
        and x.numel() > 0
        and not torch.is_grad_enabled()
        and not is_exporting()
        and _FUSED
    )


def _has_fused() -> bool:
    """The operators are there for PyTorch's compiler, on x86, and refuse bf16 on processors without AVX-512."""
    operators = torch.ops.mkldnn
    return _X86 and hasattr(operators, "_linear_pointwise") and bool(operators._is_mkldnn_bf16_supported())


_FUSED = _has_fused()


def _map(x: Tensor) -> Tensor:
    """[..., I] -> channels-last [1, I, 1, N]."""
    return x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)


def _rows(maps: Tensor, shape: Sequence[int]) -> Tensor:
    """The reverse, [*shape, O]. As in `F.linear`, no view of the map: a change in place would make a copy of a view's
    whole gradient."""
    rows = maps.permute(0, 2, 3, 1).contiguous()
    return torch.ops.aten._unsafe_view(rows, [*shape, maps.shape[1]])
