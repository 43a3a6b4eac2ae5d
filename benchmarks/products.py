"""A network's matrix products: PyTorch's own `F.linear` beside segcli's, which are convolutions on x86.

    python benchmarks/products.py
    ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/products.py   # as on a processor without AVX-512

Rows are layers of Mask2Former with Swin-T at 800×1088, and one of `lite0`. Prints GFLOP/s of a forward pass, and of
forward and backward together, medians of interleaved runs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.layers.linear import linear
from segcli.training.memory import keep_freed_memory

# rows, inputs, outputs
LAYERS = {
    "Swin, first stage, feed-forward": (54400, 96, 384),
    "Swin, third stage, feed-forward": (3400, 384, 1536),
    "pixel decoder, values": (17850, 256, 256),
    "pixel decoder, feed-forward": (4096, 256, 1024),
    "pixel decoder of lite0, feed-forward": (4096, 128, 512),
    "query decoder, feed-forward": (100, 256, 2048),
    "query decoder, projection": (100, 256, 256),
}
KINDS: dict[str, Callable[..., Tensor]] = {"torch": F.linear, "segcli": linear}


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def rates(shape: tuple[int, int, int], runs: int) -> dict[str, tuple[float, float]]:
    """GFLOP/s of each kind: forward, forward and backward."""
    rows, inputs, outputs = shape
    x, weight, bias = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    for tensor in (x, weight, bias):
        tensor.requires_grad_()
    gradient = torch.randn(rows, outputs)

    def forward(kind: str) -> None:
        with torch.inference_mode():
            KINDS[kind](x.detach(), weight.detach(), bias.detach())

    def both(kind: str) -> None:
        torch.autograd.grad(KINDS[kind](x, weight, bias), (x, weight, bias), gradient)

    work = 2e-9 * rows * inputs * outputs
    times: dict[tuple[str, int], list[float]] = {}
    for turn in range(runs + 2):
        for kind in KINDS:
            for passes, run in ((1, forward), (3, both)):
                taken = seconds(lambda kind=kind, run=run: run(kind))
                if turn > 1:  # the first two warm up
                    times.setdefault((kind, passes), []).append(taken)
    return {kind: tuple(n * work / statistics.median(times[kind, n]) for n in (1, 3)) for kind in KINDS}  # type: ignore[misc]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    print(f"{'GFLOP/s':38}{'forward: torch':>15}{'segcli':>9}{'':8}{'both: torch':>13}{'segcli':>9}")
    for name, shape in LAYERS.items():
        found = rates(shape, options.runs)
        (a, c), (b, d) = found["torch"], found["segcli"]
        print(f"{name:38}{a:15.0f}{b:9.0f}{b / a:7.2f}×{c:13.0f}{d:9.0f}{d / c:7.2f}×")


if __name__ == "__main__":
    main()
