"""Gradients of EfficientNet-Lite0's depthwise convolutions: `layers/depthwise.py` beside PyTorch's own.

    python benchmarks/depthwise.py              # 3 images of 384 × 384, one thread; half a minute

Forward and backward in turn; prints medians in milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.inspection.bench import machine
from segcli.layers.depthwise import depthwise
from segcli.training.memory import keep_freed_memory

# channels, kernel, stride, padding, input side
LAYERS = [
    (96, 3, 2, 0, 193),
    (144, 3, 1, 1, 96),
    (144, 5, 2, 0, 99),
    (240, 5, 1, 2, 48),
    (480, 3, 1, 1, 24),
    (672, 5, 1, 2, 24),
    (1152, 5, 1, 2, 12),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    print(f"{'layer':>28} {'torch fp32':>11} {'segcli fp32':>12} {'torch bf16':>11} {'segcli bf16':>12}")
    for channels, kernel, stride, padding, side in LAYERS:
        times: dict[str, list[float]] = {}
        for _ in range(arguments.runs + 2):
            for dtype in (torch.float32, torch.bfloat16):
                x = torch.randn(3, channels, side, side, dtype=dtype).to(memory_format=torch.channels_last)
                weight = torch.randn(channels, 1, kernel, kernel, dtype=dtype)
                inputs = [t.requires_grad_() for t in (x, weight, torch.randn(channels, dtype=dtype))]
                own = lambda x, w, b: depthwise(x, w, b, (stride, stride), (padding, padding))  # noqa: B023, E731
                theirs = lambda x, w, b: F.conv2d(x, w, b, stride, padding, groups=len(w))  # noqa: B023, E731
                for who, run in (("torch", theirs), ("segcli", own)):
                    times.setdefault(f"{who} {dtype}", []).append(_seconds(run, inputs))
        medians = [f"{1000 * statistics.median(values[2:]):10.1f}" for values in times.values()]
        name = f"{channels} × {side}², {kernel}×{kernel} / {stride}"
        print(f"{name:>28} {medians[0]:>11} {medians[1]:>12} {medians[2]:>11} {medians[3]:>12}")


def _seconds(run: Callable[..., Tensor], inputs: list[Tensor]) -> float:
    start = time.perf_counter()
    y = run(*inputs)
    torch.autograd.grad(y, inputs, torch.ones_like(y))
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
